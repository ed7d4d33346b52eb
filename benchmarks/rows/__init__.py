"""The rows of the table, by number. Each module's `run` adds its lines to the bench."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from benchmarks.bench import Bench

_MODULES = {
    1: "cold", 2: "warm", 3: "cached", 4: "first", 5: "remote", 6: "scroll", 7: "latency",
    8: "metadata", 9: "memory", 10: "hdf5", 11: "slow",
}  # fmt: skip
NUMBERS = tuple(_MODULES)


def load(number: int) -> Callable[[Bench], None]:
    """The function that measures a row."""
    run: Callable[[Bench], None] = importlib.import_module(f"{__name__}.{_MODULES[number]}").run
    return run
