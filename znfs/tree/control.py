"""`.znfs/`: the daemon's own files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from znfs.arrays.extents import Literal
from znfs.node import File, Kind


class ControlDir:
    """The directory. `status` gives what its files tell (Tree.status)."""

    version = "znfs"
    mtime = 0.0

    def __init__(self, status: Callable[[], dict[str, Any]]) -> None:
        self._status = status

    def names(self, start: int = 0) -> Iterator[str]:
        yield from ["status.json"][start:]

    def entries(self, start: int = 0) -> Iterator[tuple[str, Kind]]:
        return ((name, Kind.FILE) for name in self.names(start))

    def lookup(self, name: str) -> File | None:
        if name == "status.json":
            text = json.dumps(self._status(), indent=1).encode() + b"\n"
        elif name == "metrics":
            from znfs.tree import metrics

            text = metrics.text(self._status)
        else:
            return None
        file = File([Literal(text)], str(time.time_ns()), time.time())
        file.live = True
        return file
