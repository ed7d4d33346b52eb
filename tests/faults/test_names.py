"""The store's name: it cannot be resolved, or nobody answers who is asked for it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zarr
from zarr.codecs import Crc32cCodec

from tests.conftest import ROOT, running
from tests.faults import rig
from tests.faults.conftest import Start
from tests.faults.rig import CHUNKS, GRID, RIGHT, SHAPE, VALUES, Mounted
from tests.servers.faultproxy import FaultProxy
from tests.servers.nameserver import NameServer
from tests.servers.nginx import served
from tests.waiting import eventually
from znfs.daemon import mounts

NAME = "localhost"  # the one name whose first part the gateway does not take for a bucket's
HUNG = "name server does not answer"


def private(files: Mapping[str, Path]) -> list[str]:
    """What runs a command in a mount namespace where `files` lie over those of /etc."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare, for files of its own in /etc")
    binds = "".join(f"mount --bind {path} /etc/{name} && " for name, path in files.items())
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{binds}exec "$@"', "sh"]


def reach(mounted: Mounted) -> None:
    """Read through the daemon's own namespace: nobody else sees its mount."""
    mounted.path = Path(f"/proc/{mounted.daemon.pid}/root{mounted.path}")


def test_not_resolved(line: FaultProxy, start: Start, tmp_path: Path) -> None:
    """Files alone say where `localhost` is."""
    hosts, switch = tmp_path / "hosts", tmp_path / "nsswitch.conf"
    hosts.write_text("127.0.0.1 localhost\n")
    switch.write_text("hosts: files\n")
    wrap = private({"hosts": hosts, "nsswitch.conf": switch})
    mounted = start(f"http://localhost:{line.port}", wrap=wrap)
    reach(mounted)

    def begin() -> None:
        hosts.write_text("127.0.0.1 elsewhere\n")
        line.drop_all()

    def end() -> None:
        hosts.write_text("127.0.0.1 localhost\n")

    rig.watch(mounted, "name cannot be resolved", begin, end, cold=["EIO"])
    mounted.daemon.send_signal(signal.SIGTERM)
    assert mounted.daemon.wait(10) == 0
    mounted.check_log()


@pytest.fixture
def names() -> Iterator[NameServer]:
    with running(NameServer) as server:
        yield server


@pytest.fixture
def wrap(names: NameServer, tmp_path: Path) -> list[str]:
    """A namespace whose only resolver is `names`, with the time-outs of resolv.conf(5)."""
    resolver, switch = tmp_path / "resolv.conf", tmp_path / "nsswitch.conf"
    resolver.write_text(f"nameserver {names.address}\n")
    switch.write_text("hosts: dns\n")
    return private({"resolv.conf": resolver, "nsswitch.conf": switch})


@pytest.fixture
def web(tmp_path: Path) -> Iterator[FaultProxy]:
    """The line to a web server that has the array."""
    array = zarr.create_array(
        tmp_path / "web/sums.zarr", shape=SHAPE, chunks=CHUNKS, dtype="u2",
        compressors=Crc32cCodec(),
    )  # fmt: skip
    array[...] = VALUES
    with (
        served(tmp_path / "web") as nginx,
        FaultProxy("127.0.0.1", nginx.ports["plain"]) as proxy,
    ):
        yield proxy


@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_name_server_silent_s3(
    backend: str, names: NameServer, wrap: list[str], line: FaultProxy, start: Start
) -> None:
    # s3fs would make the bucket part of the name: the gateway knows no such names. And aiohttp
    # knows names for ten seconds, for which nobody would be asked.
    config = {"s3": {"addressing_style": "path"}, "connector_args": {"use_dns_cache": False}}
    flags = ["--storage-option", f"config_kwargs={json.dumps(config)}"]
    mounted = start(
        f"http://{NAME}:{line.port}", "sums", "--backend", backend,
        *(flags if backend == "fsspec" else ()), wrap=wrap,
    )  # fmt: skip
    watch_silence(mounted, f"{HUNG} (S3, {backend})", names, line)


def test_name_server_silent_web(names: NameServer, wrap: list[str], web: FaultProxy) -> None:
    mounted = rig.start(f"http://{NAME}:{web.port}/sums.zarr", os.environ, wrap=wrap)
    try:
        watch_silence(mounted, f"{HUNG} (web server)", names, web)
    finally:
        rig.stop(mounted)


def refresh(mounted: Mounted) -> None:
    """As `znfs refresh`, for a mount in another namespace."""
    before = mounts.status(str(mounted.path))["refreshed"]
    mounted.daemon.send_signal(signal.SIGUSR1)
    eventually(lambda: mounts.status(str(mounted.path))["refreshed"] > before)


def watch_silence(mounted: Mounted, fault: str, names: NameServer, line: FaultProxy) -> None:
    """Reads while the name server says nothing, and a daemon that is told to end meanwhile."""
    reach(mounted)

    def begin() -> None:
        names.silent = True
        line.drop_all()

    def end() -> None:
        names.silent = False

    rig.watch(mounted, fault, begin, end, cold=["EIO"])
    assert names.unanswered, "nobody asked"
    eventually(lambda: mounted.read(GRID[0]).said == RIGHT)
    begin()
    refresh(mounted)
    known = names.unanswered
    with ThreadPoolExecutor() as pool:
        reads = [pool.submit(mounted.read, index) for index in GRID[:2]]
        eventually(lambda: names.unanswered > known)
        began = time.monotonic()
        mounted.daemon.send_signal(signal.SIGTERM)
        assert mounted.daemon.wait(10) == 0
        assert time.monotonic() - began < rig.DEADLINE + rig.MARGIN
        assert RIGHT not in {read.result().said for read in reads}
    mounted.check_log()


def test_a_command_does_not_wait_at_its_end(names: NameServer, wrap: list[str]) -> None:
    """asyncio looks names up in threads that Python would wait for."""
    names.silent = True
    began = time.monotonic()
    done = subprocess.run(
        [*wrap, sys.executable, "-m", "znfs", "ls", "s3://bucket/v.zarr", "--backend", "fsspec",
         "--endpoint-url", f"http://{NAME}", "--anon", "--deadline", str(rig.DEADLINE)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": "/nonexistent"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "no answer in time" in done.stderr
    assert names.unanswered
    assert time.monotonic() - began < rig.DEADLINE + rig.MARGIN
