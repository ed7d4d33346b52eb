"""What a mount shows of itself: status, metrics, extended attributes."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ROOT, Mount, znfs
from tests.servers.process import free_ports
from znfs.commands import monitor
from znfs.tree import open_tree

VALUES = np.arange(6 * 40 * 50, dtype="uint16").reshape(6, 40, 50)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A group with a plain and a sharded array, and a file beside them."""
    root = tmp_path / "em.zarr"
    group = zarr.create_group(root, attributes={"a": 1})
    plain = group.create_array("plain", shape=VALUES.shape, chunks=(2, 16, 16), dtype="uint16")
    plain[...] = VALUES
    sharded = group.create_array(
        "sharded", shape=VALUES.shape, chunks=(1, 8, 8), shards=(2, 16, 16), dtype="uint16"
    )
    sharded[...] = VALUES
    (root / "README").write_text("about\n")
    return root


def attributes(path: Path) -> dict[str, str]:
    names = os.listxattr(path)
    assert all(name.startswith("user.znfs.") for name in names)
    return {n.removeprefix("user.znfs."): os.getxattr(path, n).decode() for n in names}


def test_extended_attributes(store: Path, mount: Mount) -> None:
    mounted = mount(store)
    plain = {"shape": "6,40,50", "chunks": "2,16,16", "dtype": "uint16", "axes": "z,y,x",
             "format": "zarr3"}  # fmt: skip
    url = str(store)
    for path in ("plain", "plain/plain.npy", "plain/plain.tif", "plain/tiff/plain_z3.tif"):
        found = attributes(mounted / path)
        assert found.items() >= plain.items(), path
        assert found["url"] == f"{url}/plain"
    assert len({attributes(mounted / "plain" / n)["etag"] for n in ("plain.npy", "plain.h5")}) == 1
    chunk = attributes(mounted / "plain/chunks/c/1/2/0")
    assert (chunk["url"], chunk["chunk"]) == (f"{url}/plain/c/1/2/0", "1,2,0")
    inner = attributes(mounted / "sharded/chunks/c/3/4/5")
    assert (inner["url"], inner["chunk"]) == (f"{url}/sharded/c/1/2/2", "3,4,5")
    assert inner["shards"] == "2,16,16"
    raw = attributes(mounted / "plain/c/1/2/0")
    assert raw["url"] == f"{url}/plain/c/1/2/0"
    assert raw["etag"] != chunk["etag"]
    assert attributes(mounted / "README")["url"] == f"{url}/README"
    group = attributes(mounted / "em.h5")
    assert (group["url"], "shape" in group) == (url, False)
    assert attributes(mounted)["url"] == url
    assert os.listxattr(mounted / ".znfs/status.json") == []


def test_extended_attributes_as_xattr_7_says(store: Path, mount: Mount) -> None:
    file = mount(store) / "plain/plain.npy"
    for name, number in {
        "user.znfs.none": errno.ENODATA, "user.other": errno.ENODATA,
        "security.selinux": errno.ENOTSUP, "system.posix_acl_access": errno.ENOTSUP,
    }.items():  # fmt: skip
        with pytest.raises(OSError) as caught:
            os.getxattr(file, name)
        assert caught.value.errno == number, name
    with pytest.raises(OSError) as caught:
        os.setxattr(file, "user.znfs.url", b"elsewhere")
    assert caught.value.errno == errno.EROFS
    with pytest.raises(FileNotFoundError):
        os.listxattr(file.parent / "none")


def test_what_is_no_utf8_and_holds_a_newline(tmp_path: Path, mount: Mount) -> None:
    root = tmp_path / "v\nz\udcff.zarr"
    zarr.create_group(root)
    (root / "x\udcff.txt").write_bytes(b"x")
    mounted = mount(root)
    url = os.getxattr(mounted / "x\udcff.txt", "user.znfs.url")
    assert url == os.fsencode(root / "x\udcff.txt")
    with pytest.raises(OSError) as caught:
        os.getxattr(mounted, b"user.znfs.\xff")
    assert caught.value.errno == errno.ENODATA
    about = families((mounted / ".znfs/metrics").read_text())["znfs_mount_info"].samples[0]
    assert about.labels["source"] == f"{tmp_path}/v\\nz\\udcff.zarr"
    assert json.loads((mounted / ".znfs/status.json").read_text())["source"] == str(root)


def families(text: str) -> dict[str, Any]:
    return {f.name: f for f in text_string_to_metric_families(text)}


def test_metrics(store: Path, mount: Mount) -> None:
    port, = free_ports(1)
    mounted = mount(store, "--metrics-port", port, "--disk-cache", store.parent / "cache")
    np.testing.assert_array_equal(np.load(mounted / "plain/plain.npy"), VALUES)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        heard = families(answer.read().decode())
    assert "metrics" not in os.listdir(mounted / ".znfs")
    found = families((mounted / ".znfs/metrics").read_text())
    assert found.keys() == heard.keys()
    status = json.loads((mounted / ".znfs/status.json").read_text())
    value = {name: family.samples[0].value for name, family in found.items() if family.samples}
    assert value["znfs_cache_limit_bytes"] == status["cache"]["limit"]
    assert value["znfs_disk_cache_misses"] == status["disk_cache"]["misses"]
    assert value["znfs_store_answering"] == 1
    assert value["process_resident_memory_bytes"] > 1 << 20
    requests = {s.labels["kind"]: s.value for s in found["znfs_store_requests"].samples
                if s.name.endswith("_total")}  # fmt: skip
    assert requests == status["store"]["requests"]
    buckets = found["znfs_store_request_seconds"].samples
    count = next(s.value for s in buckets if s.name.endswith("_count"))
    assert count == sum(requests.values())
    read = next(s for s in found["znfs_read_bytes"].samples if s.name.endswith("_total"))
    assert read.value >= VALUES.nbytes


def test_a_port_that_is_taken(store: Path, tmp_path: Path) -> None:
    import socket

    (tmp_path / "m").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = znfs("mount", "--metrics-port", port, store, tmp_path / "m", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"znfs mount: --metrics-port {port}: ")
    assert done.stderr.count("\n") == 1


def test_status_of_one_mount(store: Path, mount: Mount) -> None:
    mounted = mount(store)
    (mounted / "plain/plain.npy").read_bytes()
    victim = store / "plain/c/0/0/0"
    victim.write_bytes(b"nonsense")
    znfs("refresh", mounted)
    with pytest.raises(OSError):
        (mounted / "plain/plain.npy").read_bytes()
    said = znfs("status", mounted).stdout
    for words in ("Source", str(store), "Latency", "99% ≤", "Cache hits", "Versions", "libfuse",
                  "ChunkError: plain/c/0/0/0", "threads"):  # fmt: skip
        assert words in said, words
    status = json.loads(znfs("status", mounted, "--json").stdout)
    assert status["process"]["resident_bytes"] > 1 << 20
    assert status["fuse"]["requests"]["read"] > 0
    assert status["versions"]["python"]
    assert 0 <= status["cache"]["hit_rate"] <= 1
    assert status["disk_cache"] is None
    percentiles = status["store"]["latency"]["percentiles"]
    assert percentiles.keys() == {"0.5", "0.9", "0.99"}
    assert 0 < percentiles["0.5"] <= percentiles["0.99"]
    assert status["uptime"] > 0
    assert "ChunkError: plain/c/0/0/0" in status["cache"]["last_errors"][-1]["error"]
    assert str(mounted) in znfs("status").stdout


@pytest.mark.parametrize("terminal", [{"FORCE_COLOR": "1", "TERM": "xterm"}, {}])
def test_watch(store: Path, mount: Mount, terminal: dict[str, str]) -> None:
    """Also in a pipe, where it is no use that the last picture is shown in the end."""
    mounted = mount(store)
    watcher = subprocess.Popen(
        [sys.executable, "-m", "znfs", "status", "--watch", str(mounted)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **terminal},
        # What a shell began in the background, these tests perhaps, ignores it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        assert watcher.stdout is not None
        for line in watcher.stdout:
            if "requests/s" in line:
                break
        watcher.send_signal(signal.SIGINT)
        _, said = watcher.communicate(timeout=10)
        assert watcher.returncode == 130
        assert said == ""
    finally:
        watcher.kill()
        watcher.wait()


def test_percentiles() -> None:
    latency = {"le": [0.1, 1.0, "inf"], "count": [90, 9, 1]}
    found = [monitor.percentile(latency, p) for p in (0.5, 0.9, 0.99, 1.0)]
    assert found == [0.1, 0.1, 1.0, float("inf")]


def test_no_secret_in_attributes(tmp_path: Path) -> None:
    """The URL of a store may hold a password or a signature."""
    from tests.servers.nginx import served

    zarr.create_array(tmp_path / "v.zarr", shape=(4,), dtype="u1")[:] = 1
    with served(tmp_path) as nginx:
        url = nginx.url("plain").replace("://", "://me:hunter2@") + "/v.zarr?sig=hunter2"
        tree = open_tree(url)
        try:
            said = json.dumps([tree.attributes(p) for p in ("", "v.npy", "chunks/c/0")])
            assert "/v.zarr" in said
            assert "hunter2" not in said + json.dumps(tree.status())
        finally:
            tree.close()
