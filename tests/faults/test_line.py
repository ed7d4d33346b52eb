"""Faults of the line to the store, and errors that the store answers."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.faults import rig
from tests.faults.conftest import Start
from tests.faults.rig import FILL, RIGHT
from tests.servers.faultproxy import FaultProxy
from tests.servers.statusproxy import StatusProxy
from znfs.daemon import mounts


@dataclass(frozen=True)
class Fault:
    """A fault of the line: settings of FaultProxy; of the server: arguments of StatusProxy.fail."""

    name: str
    line: dict[str, Any] = field(default_factory=dict)
    answer: dict[str, Any] = field(default_factory=dict)
    cold: tuple[str, ...] = ("EIO",)
    warm: tuple[str, ...] = (RIGHT,)
    array: str = "sums"
    refresh: bool = False
    deadline: float = rig.DEADLINE


# A chunk has 4100 bytes, a metadata document 600, the head of an answer 300.
FAULTS = (
    Fault("connections refused", {"refuse": True}),
    Fault("connections taken, nothing answered", {"hang_after": 0}),
    Fault("answers stop in the body", {"hang_after": 2000}),
    Fault("every answer 0.4 s late", {"latency": 0.4}, cold=("EIO", RIGHT)),
    Fault("300 bytes a second", {"rate": 300.0}),
    Fault("200 kB a second", {"rate": 200_000.0}, cold=(RIGHT,)),
    Fault("reset in the body", {"reset_after": 450}),
    Fault("reset in the body of every third", {"reset_after": 2000, "every": 3}, cold=(RIGHT,),
          deadline=10.0),  # a chunk may be the third one several times, while cores are busy
    Fault("body cut short", {"close_after": 450}),
    Fault("a flipped bit, checksummed codec", {"corrupt_after": 2000}, cold=("EIO", RIGHT)),
    Fault("403", answer={"status": 403}, cold=("EACCES",)),
    Fault("404 of chunks alone", answer={"status": 404, "only": "/c/"}, cold=(FILL,), refresh=True),
    Fault("404 of everything", answer={"status": 404}, cold=("ENOENT", "ESTALE"),
          warm=("ENOENT", "ESTALE")),
    Fault("429", answer={"status": 429}),
    Fault("500", answer={"status": 500}),
    Fault("503", answer={"status": 503}),
    Fault("503 with Retry-After", answer={"status": 503, "retry_after": 1}),
    Fault("503 of every third", answer={"status": 503, "every": 3}, cold=(RIGHT,),
          deadline=10.0),
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_faults(fault: Fault, line: FaultProxy, status_proxy: StatusProxy, start: Start) -> None:
    mounted = start(line.url, fault.array, "--deadline", fault.deadline)

    def begin() -> None:
        for name, value in fault.line.items():
            setattr(line, name, value)
        if fault.line:
            line.drop_all()
        if fault.answer:
            status_proxy.fail(**fault.answer)

    def end() -> None:
        line.heal()
        status_proxy.heal()
        if fault.line:
            line.drop_all()

    rig.watch(
        mounted, fault.name, begin, end, cold=fault.cold, warm=fault.warm, refresh=fault.refresh,
        deadline=fault.deadline,
    )  # fmt: skip
    mounted.close()


def test_a_flipped_bit_that_nothing_can_notice(line: FaultProxy, start: Start) -> None:
    """Neither the transport nor a codec has a checksum: the damage is one bit, and no more."""
    mounted = start(line.url, "bare")
    assert mounted.read(rig.GRID[0]).said == RIGHT
    line.corrupt_after = 2000
    line.drop_all()
    try:
        found = mounted.read_all(rig.GRID[1:])
        flipped = 0
        for index in rig.GRID[1:]:
            data = mounted.chunk(index).read_bytes()
            pairs = zip(data, rig.block(index), strict=True)
            flipped += sum((a ^ b).bit_count() for a, b in pairs)
    finally:
        line.heal()
        line.drop_all()
    assert {o.said for o in found} <= {RIGHT, "wrong"}
    assert flipped == sum(o.said == "wrong" for o in found)
    mounts.refresh(str(mounted.path))
    assert {o.said for o in mounted.read_all(rig.GRID)} == {RIGHT}
    row = rig.report("a flipped bit, no checksum anywhere", found, [], mounted.lines(), None)
    row.cold = f"{flipped} of {len(found)} with one bit wrong, as stored or sent"
    row.recovers = "by `znfs refresh`"
    mounted.close()


def test_a_mount_answers_for_itself_while_its_store_says_nothing(
    line: FaultProxy, start: Start
) -> None:
    mounted = start(line.url, "sums", "--deadline", 20)
    os.listdir(mounted.path)
    time.sleep(max(rig.TTL, 1) + 0.1)  # nothing is known any more, nor by the kernel
    line.hang_after = 0
    line.drop_all()
    try:
        began = time.monotonic()
        assert mounts.status(str(mounted.path))["pid"] == mounted.daemon.pid
        mounts.unmount(str(mounted.path))
        assert time.monotonic() - began < 8
        assert mounted.daemon.wait(10) == 0
    finally:
        line.heal()
        line.drop_all()
