"""The table: what was measured, against whom, and whether the aim was reached."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import system
from benchmarks.measure import Spread, Times

HEADER = ("row", "what", "znfs", "peer", "peer's", "ratio (least–most)", "aim", "")


@dataclass(frozen=True)
class Line:
    """One line: `ratio` is znfs over the peer, of what `own` and `peers` say.

    Of speeds more is better, and `at_least` is the aim; of times, counts and memory less, and
    `at_most` is.
    """

    row: int
    what: str
    own: str
    peer: str
    peers: str
    ratio: Spread
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        if self.at_least is not None:
            return self.ratio.median >= self.at_least
        if self.at_most is not None:
            return self.ratio.median <= self.at_most
        return None

    def cells(self) -> tuple[str, ...]:
        ratio = f"{self.ratio.median:.2f}"
        if self.ratio.least != self.ratio.most:
            ratio += f" ({self.ratio.least:.2f}–{self.ratio.most:.2f})"
        aim = ""
        if self.at_least is not None:
            aim = f"≥ {self.at_least:.2f}"
        elif self.at_most is not None:
            aim = f"≤ {self.at_most:.2f}"
        mark = {True: "reached", False: "**missed**", None: ""}[self.reached]
        return (
            str(self.row), self.what + (f" ({self.note})" if self.note else ""), self.own,
            self.peer, self.peers, ratio, aim, mark,
        )  # fmt: skip


def speed_line(
    row: int, what: str, times: Times, own: str, peer: str, nbytes: int,
    at_least: float | None = None, note: str = "",
) -> Line:  # fmt: skip
    """Bytes a second of two sides."""
    return Line(
        row, what, speed(nbytes, times.spread(own)), peer, speed(nbytes, times.spread(peer)),
        times.speedup(own, peer), at_least=at_least, note=note,
    )  # fmt: skip


def time_line(
    row: int, what: str, times: Times, own: str, peer: str,
    at_most: float | None = None, note: str = "",
) -> Line:  # fmt: skip
    """Seconds of two sides."""
    return Line(
        row, what, duration(times.spread(own).median), peer, duration(times.spread(peer).median),
        times.speedup(peer, own), at_most=at_most, note=note,
    )  # fmt: skip


def plain_line(
    row: int, what: str, own: float, unit: str, peer: str, peers: float,
    at_most: float | None = None, note: str = "",
) -> Line:  # fmt: skip
    """Two numbers that are counted rather than timed."""
    ratio = own / peers
    return Line(
        row, what, f"{own:g} {unit}", peer, f"{peers:g} {unit}", Spread(ratio, ratio, ratio),
        at_most=at_most, note=note,
    )  # fmt: skip


def speed(nbytes: int, seconds: Spread) -> str:
    return f"{nbytes / 1e6 / seconds.median:.0f} MB/s"


def duration(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def table(lines: Sequence[Line]) -> str:
    """As Markdown, aligned to be read as it is."""
    rows = [HEADER, *(line.cells() for line in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    text = [_row(HEADER, widths), "|" + "|".join("-" * (w + 2) for w in widths) + "|"]
    text += [_row(row, widths) for row in rows[1:]]
    return "\n".join(text)


def write(path: Path, lines: Sequence[Line], *, mode: str, remarks: Sequence[str]) -> None:
    now = datetime.datetime.now(datetime.UTC)
    made = f"{now:%Y-%m-%d %H:%M} UTC, {mode}"
    if commit := system.commit():
        made += f", commit {commit}"
    text = [
        "# Results", "",
        "Written by `python -m benchmarks`; what the rows are is in "
        "[README.md](README.md).", "",
        made, "", *(f"- {line}" for line in system.description()), "", table(lines), "",
    ]  # fmt: skip
    if remarks:
        text += ["Not measured:", "", *(f"- {remark}" for remark in remarks), ""]
    path.write_text("\n".join(text))


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "| " + " | ".join(padded) + " |"
