"""`znfs mount` and what belongs to it: real daemons, mounts and signals."""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import znfs
from tests.servers.process import free_ports
from tests.waiting import eventually, stop
from znfs import api, cli
from znfs.daemon import mounts, vitals
from znfs.daemon.lifecycle import MountRequest, prepare
from znfs.errors import MountError, UsageError
from znfs.fuse import is_dead
from znfs.options import Options

pytestmark = pytest.mark.usefixtures("fuse_device")

ROOT = Path(__file__).parent.parent
VALUES = np.arange(20 * 30, dtype="uint16").reshape(20, 30)


def make_store(path: Path, values: np.ndarray[Any, Any] = VALUES) -> Path:
    array = zarr.create_array(path, shape=values.shape, chunks=(7, 8), dtype=values.dtype)
    array[:] = values
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "v.zarr")


@pytest.fixture
def mountpoint(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    path = tmp_path / getattr(request, "param", "mount")
    path.mkdir()
    yield path
    while any(m.mountpoint == str(path) for m in mounts.mounts()):
        mounts.detach(str(path), lazy=True)


def command(*args: object, **environ: str) -> tuple[list[str], dict[str, str]]:
    return (
        [sys.executable, "-m", "znfs", *map(str, args)],
        {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": "/nonexistent", **environ},
    )


def run(*args: object, **environ: str) -> subprocess.CompletedProcess[str]:
    words, env = command(*args, **environ)
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)


def helper(*args: object) -> subprocess.CompletedProcess[str]:
    """mount.znfs, as mount(8) calls it."""
    code = "import sys; from znfs.cli import mount_main; sys.exit(mount_main())"
    _, env = command()
    words = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)


def is_mounted(path: Path) -> bool:
    return any(m.mountpoint == str(path) for m in mounts.mounts())


def ended(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}") or " Z " in Path(f"/proc/{pid}/stat").read_text()


def check_values(path: Path) -> None:
    np.testing.assert_array_equal(np.load(path / "v.npy"), VALUES)


def test_mount_returns_when_it_answers(store: Path, mountpoint: Path) -> None:
    done = run("mount", store, mountpoint)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    check_values(mountpoint)
    pid = mounts.status(str(mountpoint))["pid"]
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.readlink(f"/proc/{pid}/fd/2") == "/dev/null"
    done = run("umount", mountpoint)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not is_mounted(mountpoint)
    assert ended(pid)


def test_relative_paths(store: Path, mountpoint: Path) -> None:
    words, env = command("mount", "v.zarr", "mount", "--disk-cache", "cache")
    subprocess.run(words, env=env, cwd=store.parent, check=True, timeout=60)
    check_values(mountpoint)
    folder = mounts.status(str(mountpoint))["disk_cache"]["folder"]
    assert folder == str(store.parent / "cache")
    assert os.path.isdir(folder)
    mounts.unmount(str(mountpoint))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_unmount(store: Path, mountpoint: Path, number: signal.Signals) -> None:
    run("mount", store, mountpoint)
    pid = mounts.status(str(mountpoint))["pid"]
    with open(mountpoint / "v.npy", "rb"):  # even while a file is open
        os.kill(pid, number)
        eventually(lambda: ended(pid))
    assert not is_mounted(mountpoint)
    assert os.listdir(mountpoint) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a tmpfs")
def test_a_daemon_leaves_what_is_mounted_over_its_mount(store: Path, mountpoint: Path) -> None:
    run("mount", store, mountpoint)
    pid = mounts.status(str(mountpoint))["pid"]
    subprocess.run(["mount", "-t", "tmpfs", "none", mountpoint], check=True)
    try:
        (mountpoint / "own").touch()
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: ended(pid))
        assert os.listdir(mountpoint) == ["own"]
    finally:
        subprocess.run(["umount", mountpoint], check=True)
    assert mounts.is_dead(str(mountpoint))  # what is below shows again, and is cleared
    assert run("umount", mountpoint).returncode == 0
    assert not is_mounted(mountpoint)


def test_a_place_where_a_mount_is_served_is_taken(store: Path, mountpoint: Path) -> None:
    run("mount", store, mountpoint)
    other = make_store(store.parent / "other.zarr", VALUES + 1)
    done = run("mount", other, mountpoint)
    assert done.returncode == 1
    assert f"{store} is mounted there; 'znfs umount {mountpoint}' takes it away" in done.stderr
    check_values(mountpoint)
    assert run("umount", mountpoint).returncode == 0
    assert not is_mounted(mountpoint)


def test_a_daemon_leaves_the_mount_that_followed_its_own(store: Path, mountpoint: Path) -> None:
    """Its own was taken away before it ended; the next one may have the same device number."""
    run("mount", store, mountpoint)
    pid = mounts.status(str(mountpoint))["pid"]
    stop(pid)
    try:
        mounts.detach(str(mountpoint), lazy=True)
        other = make_store(store.parent / "other.zarr", VALUES + 1)
        assert run("mount", other, mountpoint).returncode == 0
        os.kill(pid, signal.SIGTERM)
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: ended(pid))
    np.testing.assert_array_equal(np.load(mountpoint / "other.npy"), VALUES + 1)
    mounts.unmount(str(mountpoint))


def test_other_file_systems_are_left_alone(store: Path, mountpoint: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a tmpfs")
    run("mount", store, mountpoint)
    pid = mounts.status(str(mountpoint))["pid"]
    subprocess.run(["mount", "-t", "tmpfs", "none", mountpoint], check=True)
    try:
        for word in ("umount", "status", "refresh"):
            done = run(word, mountpoint)
            assert (done.returncode, done.stderr.count("\n")) == (1, 1)
            assert f"{mountpoint}: a file system tmpfs is mounted over it" in done.stderr
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: ended(pid))
    finally:
        subprocess.run(["umount", mountpoint], check=True)  # it is still there
    assert mounts.clear_dead(str(mountpoint))


def test_a_mount_that_was_aborted_is_taken_away(store: Path, mountpoint: Path) -> None:
    run("mount", store, mountpoint)
    pid = mounts.status(str(mountpoint))["pid"]
    number = mounts.find(str(mountpoint)).device.partition(":")[2]
    try:
        Path(f"/sys/fs/fuse/connections/{number}/abort").write_text("1")
    except OSError:
        pytest.skip("no fusectl is mounted")
    eventually(lambda: ended(pid))
    assert not is_mounted(mountpoint)


@pytest.fixture
def stoppable(store: Path, mountpoint: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The process of a mount that is to be stopped: the kernel believes nothing of it for longer,
    and commands wait for it for half a second."""
    monkeypatch.setattr(mounts, "ANSWER_SECONDS", 0.5)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nonexistent")
    run("mount", store, mountpoint, "--ttl", "0")
    pid: int = mounts.status(str(mountpoint))["pid"]
    return pid


def test_nobody_waits_for_a_daemon_that_hangs(
    stoppable: int, store: Path, mountpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = store.parent / "link"
    link.symlink_to(mountpoint)
    stop(stoppable)
    try:
        for words in (
            ["status", mountpoint], ["status", link, "--json"], ["refresh", f"{link}/"],
            ["info", mountpoint], ["ls", mountpoint / "chunks"], ["cat", mountpoint, "v.npy"],
            ["doctor", mountpoint], ["mount", store, mountpoint], ["mount", mountpoint, "/mnt"],
        ):  # fmt: skip
            assert cli.main([str(word) for word in words]) == 1
            said = capsys.readouterr().err
            assert said.count("\n") == 1
            assert "does not answer; 'znfs umount --lazy' takes it away" in said
            assert str(mountpoint) in said or str(link) in said
        assert cli.main(["status"]) == 0
        assert "its daemon does not answer" in capsys.readouterr().out
        # Who looks at all mounts of the machine, as another test may, keeps it busy meanwhile.
        eventually(lambda: cli.main(["umount", str(mountpoint)]) == 0)
        assert not is_mounted(mountpoint)
    finally:
        os.kill(stoppable, signal.SIGCONT)
    eventually(lambda: ended(stoppable))


def test_all_that_hang_take_the_time_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [mounts.Mount("x.zarr", f"/srv/{i}", f"0:{i}", "ro") for i in range(20)]
    monkeypatch.setattr(mounts, "mounts", lambda: found)
    together = threading.Barrier(len(found), timeout=30)  # nobody passes before all are there

    def ask(mount: mounts.Mount) -> str:
        together.wait()
        return mount.mountpoint

    assert mounts.ask_all(ask) == [(mount, mount.mountpoint) for mount in found]


def test_nobody_waits_for_answers_once_it_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [mounts.Mount("x.zarr", f"/srv/{i}", f"0:{i}", "ro") for i in range(2)]
    monkeypatch.setattr(mounts, "mounts", lambda: found)
    hangs, over = threading.Event(), threading.Event()
    answers: list[mounts.Mount] = []

    def ask(mount: mounts.Mount) -> None:
        if mount is found[1]:
            hangs.set()
            over.wait(30)
            answers.append(mount)
        hangs.wait()
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            mounts.ask_all(ask)
        assert not answers
    finally:
        over.set()


def test_what_asks_a_mount_and_is_ended_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the program that waits for a daemon; who then asks by itself waits for ever."""
    monkeypatch.setattr(mounts, "_run", lambda _: (-signal.SIGINT, ""))
    with pytest.raises(MountError, match="does not answer"):
        mounts.is_dead("/srv")


def test_below_a_mount_that_hangs_or_is_dead(
    stoppable: int, store: Path, mountpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    below = mountpoint / "chunks"
    link = store.parent / "link"
    link.symlink_to(below)

    def all_say(why: str) -> None:
        for words in (
            ["mount", store, below], ["umount", below], ["status", below], ["refresh", below],
            ["ls", below], ["mount", below, "/mnt"], ["mount", store, link / "c"],
            ["umount", f"{link}/../x"], ["ls", link], ["ls", link / "c"],
        ):  # fmt: skip
            assert cli.main([str(word) for word in words]) == 1
            assert capsys.readouterr().err.endswith(f": {mountpoint}: {why}\n")

    stop(stoppable)
    try:
        all_say("its daemon does not answer; 'znfs umount --lazy' takes it away")
    finally:
        os.kill(stoppable, signal.SIGKILL)
    eventually(lambda: is_dead(str(mountpoint)))
    all_say("its daemon has died; 'znfs umount' clears the mount")


def test_another_user_s_mount_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mount = mounts.Mount("x.zarr", str(tmp_path), "0:99", "ro", user=NOBODY)
    name = pwd.getpwuid(NOBODY).pw_name
    monkeypatch.setattr(mounts, "_table", lambda *_: [mount])
    monkeypatch.setattr(mounts, "_check_alive", lambda _: None)
    monkeypatch.setattr(mounts, "is_dead", lambda _: True)
    monkeypatch.setattr(mounts, "_run", lambda _: (1, "entry for it not found in /etc/mtab"))
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    for words in (["umount", tmp_path], ["mount", "x.zarr", tmp_path]):
        assert cli.main([str(word) for word in words]) == 1
        assert f"{name} mounted it; only who did and root may\n" in capsys.readouterr().err
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Path, "open", denied)
    for words in (["status", tmp_path], ["refresh", tmp_path]):
        assert cli.main([str(word) for word in words]) == 1
        said = capsys.readouterr().err
        assert said.endswith(f"no status (Permission denied): ask as {name}, who mounted it\n")


def test_fusermount_ends_the_daemon(store: Path, mountpoint: Path) -> None:
    words, env = command("mount", "--foreground", store, mountpoint)
    with subprocess.Popen(words, env=env, stderr=subprocess.PIPE) as daemon:
        try:
            eventually(lambda: is_mounted(mountpoint))
            check_values(mountpoint)
            subprocess.run(["fusermount3", "-u", mountpoint], check=True)
            assert daemon.wait(10) == 0
            assert daemon.stderr is not None
            assert daemon.stderr.read() == b""
        finally:
            daemon.kill()


def test_busy_mount_stays(store: Path, mountpoint: Path) -> None:
    run("mount", store, mountpoint)
    with open(mountpoint / "v.npy", "rb") as f:
        done = run("umount", mountpoint)
        assert done.returncode == 1
        assert done.stderr.endswith("busy; --lazy unmounts it all the same\n")
        assert f.read(6) == b"\x93NUMPY"
    assert run("umount", mountpoint).returncode == 0


def refusals(tmp: Path) -> dict[str, tuple[list[Any], str]]:
    store, mountpoint = tmp / "v.zarr", tmp / "mount"
    (tmp / "file").write_text("")
    (tmp / "empty").mkdir()
    return {
        "no mount point": ([store, tmp / "none"], "none: no such directory"),
        "a file": ([store, tmp / "file"], "file: not a directory"),
        "inside": ([tmp, store], "inside its source is refused"),
        "the same": ([store, store], "inside its source is refused"),
        "above": ([store, tmp], "above its source"),
        "inside a chain": ([f"simplecache::file://{tmp}", mountpoint], "inside its source"),
        "above a zip": ([f"zip::{tmp}/a.zip", tmp], "above its source"),
        "no source": ([tmp / "none.zarr", mountpoint], "none.zarr"),
        "nothing in it": ([tmp / "empty/x.zarr", mountpoint], "x.zarr"),
    }


def test_why_there_is_no_mount(store: Path, mountpoint: Path, tmp_path: Path) -> None:
    for case, (args, why) in refusals(tmp_path).items():
        for more in ([], ["--foreground"]):
            done = run("mount", *args, *more)
            assert done.returncode == 1, case
            assert done.stderr.startswith("znfs mount: ")
            assert why in done.stderr
            assert done.stderr.count("\n") == 1
    assert not is_mounted(mountpoint)


def test_mount_points_that_cannot_be_looked_into(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount what is dead and to become someone else")
    place = tmp_path / "place"
    place.mkdir()
    device = os.open("/dev/fuse", os.O_RDWR)
    data = f"fd={device},rootmode=40000,user_id={NOBODY},group_id={NOBODY}".encode()
    mount = ctypes.CDLL(None, use_errno=True).mount
    if mount(b"x", os.fsencode(place), b"fuse.other", 0, data):
        pytest.skip(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    request = MountRequest(str(store), str(place), Options())
    try:
        with pytest.raises(MountError, match=r"denied: a mount \(fuse.other\) .* another user$"):
            prepare(request)
        os.close(device)
        subprocess.run(["umount", place], check=True)
        device = os.open("/dev/fuse", os.O_RDWR)
        data = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
        assert mount(b"x", os.fsencode(place), b"fuse.other", 0, data) == 0
        os.close(device)
        with pytest.raises(MountError, match=r"whose daemon has died; 'umount -l' clears it$"):
            prepare(request)
    finally:
        subprocess.run(["umount", "-l", place], check=True)
    monkeypatch.setattr(os, "stat", denied)
    with pytest.raises(MountError, match=r"place: Permission denied$"):
        prepare(request)


def denied(path: object, *mode: object, **how: object) -> os.stat_result:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def wrong_options(tmp: Path) -> dict[str, list[Any]]:
    (tmp / "file").write_text("")
    return {
        "--disk-cache": ["--disk-cache", tmp / "file/cache"],
        "--log-file": ["--log-file", tmp / "none/log"],
        "--manifest": ["--manifest", tmp / "none"],
    }


def test_options_that_only_the_daemon_finds_wrong(
    store: Path, mountpoint: Path, tmp_path: Path
) -> None:
    for name, words in wrong_options(tmp_path).items():
        for more in ([], ["--foreground"]):
            done = run("mount", store, mountpoint, *words, *more)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), name
            assert done.stderr.startswith(f"znfs mount: {name} {tmp_path}")
        done = helper(store, mountpoint, "-o", f"{words[0].removeprefix('--')}={words[1]}")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), name
    assert not is_mounted(mountpoint)


def test_nobody_waits_for_what_the_daemon_inherited(store: Path, mountpoint: Path) -> None:
    reader, writer = os.pipe()
    words, env = command("mount", store, mountpoint)
    done = subprocess.run(
        words, env=env, stdout=writer, stderr=writer, pass_fds=[writer], timeout=60, check=False
    )
    os.close(writer)
    assert done.returncode == 0
    assert select.select([reader], [], [], 20)[0], "the daemon holds the pipe"
    assert os.read(reader, 100) == b""
    os.close(reader)
    pid = mounts.status(str(mountpoint))["pid"]
    mounts.unmount(str(mountpoint))
    assert ended(pid)


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_mounts_with_closed_streams(store: Path, mountpoint: Path, streams: str) -> None:
    words, env = command("mount", store, mountpoint)
    script = f'exec "$@" {streams}'
    done = subprocess.run(["sh", "-c", script, "sh", *words], env=env, timeout=60, check=False)
    assert done.returncode == 0
    check_values(mountpoint)
    pid = mounts.status(str(mountpoint))["pid"]
    assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    mounts.unmount(str(mountpoint))


FAILING = """
import sys
from znfs.daemon import lifecycle
from znfs.cli import main

def fails():
    raise RuntimeError

setattr(lifecycle, sys.argv.pop(1), lambda *args: fails())
sys.exit(main())
"""


@pytest.mark.parametrize("what", ["_write", "_import_rest"])  # who waits for its word has gone
def test_a_daemon_that_fails_leaves_no_mount(store: Path, mountpoint: Path, what: str) -> None:
    words, env = command("mount", store, mountpoint)
    subprocess.run(
        [sys.executable, "-c", FAILING, what, *words[3:]], env=env, capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip
    eventually(lambda: not is_mounted(mountpoint))
    assert os.listdir(mountpoint) == []


def test_dead_mount_is_cleared(store: Path, mountpoint: Path) -> None:
    run("mount", store, mountpoint)
    pid = mounts.status(str(mountpoint))["pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: ended(pid))
    eventually(lambda: is_dead(str(mountpoint)))
    done = run("status", mountpoint)
    assert done.returncode == 1
    assert "has died" in done.stderr
    assert "has died" in run("status").stdout
    assert run("mount", store, mountpoint).returncode == 0
    check_values(mountpoint)

    os.kill(mounts.status(str(mountpoint))["pid"], signal.SIGKILL)
    eventually(lambda: run("umount", mountpoint).returncode == 0)
    assert os.listdir(mountpoint) == []
    done = run("umount", mountpoint)
    assert done.returncode == 1
    assert "no znfs mount" in done.stderr


def test_refresh(store: Path, mountpoint: Path) -> None:
    run("mount", store, mountpoint, "--ttl", "3600")
    check_values(mountpoint)
    other = make_store(store.parent / "other.zarr", VALUES[::-1])
    for chunk in sorted(other.glob("c/**/*")):  # the chunks alone; the metadata stays
        if chunk.is_file():
            (store / chunk.relative_to(other)).write_bytes(chunk.read_bytes())
    check_values(mountpoint)
    done = run("refresh", mountpoint)
    assert (done.returncode, done.stderr) == (0, "")
    np.testing.assert_array_equal(np.load(mountpoint / "v.npy"), VALUES[::-1])
    mounts.unmount(str(mountpoint))


def test_a_store_is_not_taken_for_its_daemon(store: Path, mountpoint: Path) -> None:
    own = store / ".znfs/status.json"
    own.parent.mkdir()
    with subprocess.Popen(["sleep", "60"]) as victim:
        try:
            own.write_text(f'{{"pid": {victim.pid}, "refreshed": 0, "source": "elsewhere"}}')
            run("mount", store, mountpoint, "--ttl", "0")
            for word in ("refresh", "status"):
                done = run(word, mountpoint)
                assert (done.returncode, done.stdout) == (1, "")
                assert "the store has a .znfs of its own" in done.stderr
            assert "elsewhere" not in run("status").stdout
            own.write_bytes(b"")  # of size 0, as the daemon's
            done = run("refresh", mountpoint)
            assert "status.json is not a status of znfs" in done.stderr
            done = run("umount", mountpoint)
            assert (done.returncode, done.stderr) == (0, "")
            assert victim.poll() is None
        finally:
            victim.kill()


@pytest.mark.parametrize("pid", [-1, 0, True, "1", None, 1 << 70])
def test_no_process_that_is_no_daemon_is_signalled(
    pid: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(pid: int, number: int) -> None:
        assert pid > 1 << 31, "signalled"
        raise OverflowError("as os.kill of such a number")

    own = {"pid_namespace": vitals.pid_namespace()}
    monkeypatch.setattr(mounts, "find", lambda mountpoint: None)
    monkeypatch.setattr(mounts, "status", lambda mountpoint: {"pid": pid, "process": own})
    monkeypatch.setattr(mounts.os, "kill", kill)
    with pytest.raises(MountError):
        mounts.refresh("/mnt")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a PID namespace, which root can make")
def test_a_daemon_of_another_pid_namespace(
    store: Path, mountpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a container that shares its mounts. Its number is 1 there, and here init's."""
    words, env = command("mount", store, mountpoint, "--foreground")
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--propagation", "unchanged"]
    with subprocess.Popen([*unshare, *words], env=env) as container:
        try:
            eventually(lambda: is_mounted(mountpoint))
            assert mounts.status(str(mountpoint))["pid"] == 1
            with monkeypatch.context() as patch:
                patch.setattr(mounts.os, "kill", lambda pid, number: pytest.fail("signalled"))
                with pytest.raises(MountError, match="another PID namespace"):
                    mounts.refresh(str(mountpoint))
            check_values(mountpoint)
            done = run("umount", mountpoint)
            assert (done.returncode, done.stderr) == (0, "")
            assert container.wait(10) == 0
        finally:
            container.kill()


def test_store_down_at_mount_time(tmp_path: Path, mountpoint: Path) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # refuses connections
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/v.zarr"
        done = run("mount", url, mountpoint, "--deadline", "1")
    assert done.returncode == 0
    assert "mounted all the same" in done.stderr
    assert mounts.status(str(mountpoint))["source"] == url
    with pytest.raises(OSError):
        os.listdir(mountpoint)
    port = url.split(":")[2].split("/")[0]
    make_store(tmp_path / "served/v.zarr")
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", port, "--bind", "127.0.0.1"],
        cwd=tmp_path / "served", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(lambda: os.access(mountpoint / "v.npy", os.R_OK))
        check_values(mountpoint)
    finally:
        server.kill()
        server.wait()
        mounts.unmount(str(mountpoint), lazy=True)


def notifications(tmp_path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(20)
    return listener


@pytest.mark.parametrize("foreground", [True, False])
def test_service_manager(store: Path, mountpoint: Path, tmp_path: Path, foreground: bool) -> None:
    with notifications(tmp_path) as listener:
        words, env = command(
            "mount", store, mountpoint, *(["--foreground"] if foreground else []),
            NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000",
        )  # fmt: skip
        env.pop("WATCHDOG_PID", None)
        daemon = subprocess.Popen(words, env=env)
        try:
            ready = dict(line.split("=", 1) for line in listener.recv(4096).decode().splitlines())
            assert ready["READY"] == "1"
            pid = int(ready["MAINPID"])
            assert (pid == daemon.pid) is foreground
            check_values(mountpoint)
            for _ in range(3):
                assert listener.recv(4096) == b"WATCHDOG=1"
            os.kill(pid, signal.SIGHUP)
            heard: list[bytes] = []
            while b"READY=1" not in heard and len(heard) < 200:  # between beats of the watchdog
                heard.append(listener.recv(4096))
            assert heard[-2].startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            os.kill(pid, signal.SIGTERM)
            while listener.recv(4096) != b"STOPPING=1":
                pass
            assert daemon.wait(10) == 0
            eventually(lambda: not is_mounted(mountpoint))
        finally:
            daemon.kill()
            daemon.wait()


@pytest.mark.parametrize("mountpoint", ["m\nSTOPPING=1\udcff"], indirect=True)
def test_paths_that_are_no_utf8_and_hold_a_newline(tmp_path: Path, mountpoint: Path) -> None:
    store = make_store(tmp_path / "v\udcff.zarr")
    with notifications(tmp_path) as listener:
        words, env = command("mount", store, mountpoint, NOTIFY_SOCKET=str(tmp_path / "notify"))
        done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        ready = listener.recv(4096).decode().splitlines()
    assert [line.partition("=")[0] for line in ready] == ["READY", "MAINPID", "STATUS"]
    assert ready[2].endswith("/m\\nSTOPPING=1\\udcff")
    np.testing.assert_array_equal(np.load(mountpoint / "v\udcff.npy"), VALUES)
    with open(mountpoint / "v\udcff.npy", "rb"), pytest.raises(MountError, match="busy"):
        mounts.unmount(str(mountpoint))
    mounts.unmount(str(mountpoint))
    done = run("mount", tmp_path / "none\udcff", mountpoint)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "none\\udcff: no such file" in done.stderr
    with znfs.mount(str(store), mountpoint):
        assert is_mounted(mountpoint)


def test_ends_with_its_parent(store: Path, mountpoint: Path, tmp_path: Path) -> None:
    code = textwrap.dedent("""
        import sys, time, znfs
        with znfs.mount(sys.argv[1], sys.argv[2]):
            print("mounted", flush=True)
            time.sleep(60)
    """)
    _, env = command()
    parent = subprocess.Popen(
        [sys.executable, "-c", code, store, mountpoint],
        env={**env, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"mounted\n"
        pid = mounts.status(str(mountpoint))["pid"]
        parent.kill()
        eventually(lambda: not is_mounted(mountpoint) and ended(pid))
    finally:
        parent.kill()
        parent.communicate()


def test_python(store: Path) -> None:
    with znfs.mount(store.as_posix(), cache_size="64MiB", views=("npy", "chunks")) as path:
        check_values(path)
        assert sorted(os.listdir(path)) == [".znfs", "chunks", "v.npy", "zarr.json"]
        found = [s for s in znfs.status() if s["mountpoint"] == str(path)]
        assert found[0]["cache"]["limit"] == 64 << 20
    assert not path.exists()
    assert not is_mounted(path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_python_clears_the_mount_of_a_daemon_that_cannot(
    store: Path, mountpoint: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr(api, "_STOP_SECONDS", 0.1)
    with znfs.mount(str(store), mountpoint):
        os.kill(mounts.status(str(mountpoint))["pid"], number)
    assert not is_mounted(mountpoint)
    assert os.listdir(mountpoint) == []


def test_python_with_many_files_open_and_a_long_tmpdir(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 100)  # an address of a socket has 107 bytes
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("no more than 1024 files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]  # select(2) knows 1024
    try:
        with znfs.mount(store) as path:
            check_values(path)
            mounts.unmount(str(path))
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_python_says_why(tmp_path: Path) -> None:
    with pytest.raises(MountError, match=r"none\.zarr"), znfs.mount(f"{tmp_path}/none.zarr"):
        pass


def test_python_refuses_options(store: Path, mountpoint: Path) -> None:
    for options in ({"colour": "red"}, {"ttl": "soon"}, {"region": ["a"]}):
        why = next(iter(options))
        with pytest.raises(UsageError, match=why), znfs.mount(store, mountpoint, **options):
            pass
    assert not is_mounted(mountpoint)


def test_python_starts_no_process_with_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_start", lambda *args: pytest.fail("it would be seen"))
    source = "https://me:hunter2@host/x.zarr"
    with pytest.raises(UsageError, match="user info") as caught, znfs.mount(source):
        pass
    assert "hunter2" not in str(caught.value)


def test_secrets_stay_out_of_sight(store: Path, mountpoint: Path) -> None:
    with znfs.mount(str(store), mountpoint, storage_option={"secret": "hunter2"}):
        pid = mounts.status(str(mountpoint))["pid"]
        assert "hunter2" not in Path(f"/proc/{pid}/cmdline").read_text()
        assert "hunter2" not in (mountpoint / ".znfs/status.json").read_text()
        assert "hunter2" not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("times", [10, pytest.param(500, marks=pytest.mark.soak)])
def test_many_times(store: Path, mountpoint: Path, tmp_path: Path, times: int) -> None:
    """No process, mount, thread, file, descriptor or port is left behind."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (port,) = free_ports(1)
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(times):
        done = run("mount", "--metrics-port", port, store, mountpoint, TMPDIR=str(temporary))
        assert (done.returncode, done.stderr) == (0, "")
        check_values(mountpoint)
        pid = mounts.status(str(mountpoint))["pid"]
        mounts.unmount(str(mountpoint))
        assert ended(pid)
        assert not is_mounted(mountpoint)
        assert os.listdir(temporary) == []
        assert os.listdir(mountpoint) == []
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline")
                if str(mountpoint).encode() in _bytes(p)]  # fmt: skip


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended just now
        return b""


# mount.znfs


def test_fstab_helper(store: Path, mountpoint: Path) -> None:
    options = "rw,user,noexec,nosuid,_netdev,nofail,x-systemd.automount,cache_size=32MiB,ttl=9"
    done = helper(store, mountpoint, "-o", options, "-v")
    assert (done.returncode, done.stderr) == (0, "")
    check_values(mountpoint)
    mount = mounts.find(str(mountpoint))
    assert {"ro", "noexec", "nosuid", "nodev"} <= set(mount.options.split(","))
    assert mounts.status(str(mountpoint))["cache"]["limit"] == 32 << 20
    subprocess.run(["umount", mountpoint], check=True)


def test_fstab_helper_refuses(store: Path, mountpoint: Path) -> None:
    cases = {
        (store, mountpoint, "-o", "colour=red"): (1, "colour"),
        (store, mountpoint, "-o", "remount"): (1, "remount"),
        (store, mountpoint, "-o", "ttl=soon"): (1, "--ttl"),
        (store,): (1, "mountpoint"),
        (store, mountpoint / "none"): (32, "no such directory"),
        (store / "none", mountpoint): (32, "none"),
    }
    for args, (status, why) in cases.items():
        done = helper(*args)
        assert done.returncode == status, args
        assert why in done.stderr
        assert done.stderr.count("\n") == 1
    assert helper(store, mountpoint, "-f").returncode == 0
    assert helper(store, mountpoint, "-s", "-f", "-o", "colour=red").returncode == 0
    assert not is_mounted(mountpoint)


NOBODY = 65534


def python_for_nobody(env: dict[str, str]) -> str:
    """A Python that another user may run, and that finds what this one does."""
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            words = [python, "-c", "import znfs.tree.tree, mfusepy"]
            subprocess.run(words, env=env, user=NOBODY, group=NOBODY, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    pytest.skip("no Python here that another user may run")


def test_mount_as_user(store: Path, tmp_path: Path, mountpoint: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become someone else")
    if os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
        pytest.skip("/dev/fuse is for root only")
    for path in (tmp_path, *tmp_path.parents):
        if path == tmp_path or path.name.startswith("pytest"):
            os.chmod(path, 0o755)
    os.chown(mountpoint, NOBODY, NOBODY)
    words, env = command("mount", store, mountpoint, HOME="/nonexistent")
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    words[0] = python = python_for_nobody(env)

    def as_nobody(words: list[str]) -> str:
        done = subprocess.run(
            words, env=env, user=NOBODY, group=NOBODY, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    as_nobody(words)
    look = f"import os; s = os.stat({str(mountpoint / 'v.npy')!r}); print(s.st_uid, s.st_gid)"
    assert as_nobody([python, "-c", look]) == f"{NOBODY} {NOBODY}\n"
    with pytest.raises(PermissionError):
        os.listdir(mountpoint)  # not even root, without --allow-other
    as_nobody([python, "-m", "znfs", "umount", str(mountpoint)])
    assert not is_mounted(mountpoint)
