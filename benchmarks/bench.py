"""What the rows share: the data, how often to repeat, and where to say what goes on."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.data import QUICK, STANDARD, Data, Volume

if TYPE_CHECKING:
    from benchmarks.report import Line


class Skipped(Exception):
    """A part of a row that cannot be measured here, and why."""


@dataclass
class Bench:
    """A run of the benchmark."""

    data: Data
    quick: bool
    lines: list[Line] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def volume(self) -> Volume:
        return QUICK if self.quick else STANDARD

    @property
    def repeats(self) -> int:
        return 3 if self.quick else 5

    def add(self, line: Line) -> None:
        self.lines.append(line)
        say("  ".join(line.cells()))

    def skip(self, why: str) -> None:
        self.remarks.append(why)
        say(f"not measured: {why}")


_BEGAN = time.monotonic()


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"[{time.monotonic() - _BEGAN:5.0f} s] {text}", file=sys.stderr, flush=True)
