"""Two stores in one daemon: references to chunks in both, of which one fails."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import rig
from tests.faults.rig import CHUNKS, GRID, RIGHT, SHAPE, Mounted, block
from tests.faults.test_line import FAULTS, Fault
from tests.servers.faultproxy import FaultProxy
from tests.servers.nginx import Nginx, served
from tests.servers.statusproxy import StatusProxy

OF_ONE, OF_OTHER = GRID[::2], GRID[1::2]
# 404 of a chunk that references name is EIO: only what the document lacks is absent. A flipped bit
# needs a codec that notices it.
# All of them for the report; the suite has little time.
SOME = ("connections refused", "connections taken, nothing answered", "403", "503")
LEFT_OUT = ("a flipped bit, checksummed codec", "404 of chunks alone", "404 of everything")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    folder = tmp_path_factory.mktemp("chunks")
    for index in GRID:
        (folder / "-".join(map(str, index))).write_bytes(block(index))
    with served(folder) as nginx:
        yield nginx


@pytest.fixture
def lines(server: Nginx) -> Iterator[tuple[StatusProxy, FaultProxy]]:
    with StatusProxy("127.0.0.1", server.ports["plain"]) as status:  # noqa: SIM117
        with FaultProxy("127.0.0.1", status.port) as line:
            yield status, line


def document(folder: Path, one: str, other: str) -> Path:
    """References to the chunks, in turn at `one` and at `other`."""
    meta = {
        "zarr_format": 2, "shape": SHAPE, "chunks": CHUNKS, "dtype": "<u2", "fill_value": 0,
        "order": "C", "compressor": None, "filters": None,
    }  # fmt: skip
    refs = {".zarray": json.dumps(meta), ".zattrs": "{}"}
    for index in GRID:
        base = one if index in OF_ONE else other
        refs[".".join(map(str, index))] = [f"{base}/{'-'.join(map(str, index))}"]
    path = folder / "refs.json"
    path.write_text(json.dumps({"version": 1, "refs": refs}))
    return path


class Referred(Mounted):
    """Chunks have the keys of Zarr v2 here."""

    def chunk(self, index: object) -> Path:
        return self.path / "chunks" / ".".join(map(str, index))  # type: ignore[call-overload]


def chosen() -> list[Fault]:
    if os.environ.get("ZNFS_FAULTS_REPORT"):
        return [fault for fault in FAULTS if fault.name not in LEFT_OUT]
    return [fault for fault in FAULTS if fault.name in SOME]


@pytest.mark.parametrize("fault", chosen(), ids=lambda fault: fault.name.replace(" ", "-"))
def test_one_fails_the_other_reads(
    fault: Fault, server: Nginx, lines: tuple[StatusProxy, FaultProxy], tmp_path: Path
) -> None:
    status, line = lines
    refs = document(tmp_path, line.url, server.url("plain"))
    mounted = rig.start(f"reference://::{refs}", os.environ)
    mounted.__class__ = Referred
    try:
        assert mounted.read(OF_ONE[0]).said == RIGHT
        for name, value in fault.line.items():
            setattr(line, name, value)
        if fault.answer:
            status.fail(**fault.answer)
        line.drop_all()
        # One after another: what the first does must not be the second's misfortune.
        failed = [mounted.read(index) for index in OF_ONE[1:4]]
        assert {mounted.read(index).said for index in OF_OTHER[1:4]} == {RIGHT}
        assert {o.said for o in failed} <= {*fault.cold, "EIO"}
        others = mounted.read_all([*OF_ONE[4:], *OF_OTHER[4:]])
        assert {o.said for o in others[len(OF_ONE[4:]) :]} == {RIGHT}
        assert "wrong" not in {o.said for o in others}
        assert max(o.seconds for o in (*failed, *others)) < rig.DEADLINE + rig.MARGIN
        line.heal()
        status.heal()
        line.drop_all()
        mounted.recovery()
        row = rig.report(f"of two stores one: {fault.name}", others, [], mounted.lines(), 0.0)
        row.cold = row.cold + f" (right: all {len(OF_OTHER)} of the other)"
        mounted.close()
    finally:
        rig.stop(mounted)
