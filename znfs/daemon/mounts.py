"""The mounts of this machine: finding them, reading their status, taking them away."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from znfs.daemon import vitals
from znfs.errors import MountError

log = logging.getLogger(__name__)

FSTYPE = "fuse.znfs"
STATUS = ".znfs/status.json"
READ_AHEAD_KIB = 512
ANSWER_SECONDS = 10.0  # how long a daemon has to say anything at all
_MOUNTINFO = "/proc/self/mountinfo"
_MOST_LINKS = 40  # as in the kernel
_AT_ONCE = 64  # mounts that are asked

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Mount:
    """A line of the mount table. `device` is MAJOR:MINOR, as in /sys/class/bdi; `user` the number
    of who mounted it, if it is FUSE's."""

    source: str
    mountpoint: str
    device: str
    options: str
    fstype: str = FSTYPE
    user: int | None = None

    @property
    def user_name(self) -> str:
        try:
            return pwd.getpwuid(self.user or 0).pw_name
        except KeyError:
            return f"user {self.user}"

    @property
    def is_ours(self) -> bool:
        return self.user in (None, os.geteuid())


def mounts(table: str = _MOUNTINFO) -> list[Mount]:
    """Every znfs mount, in the order of the mount table (proc(5))."""
    return [mount for mount in _table(table) if mount.fstype == FSTYPE]


def _table(table: str = _MOUNTINFO) -> list[Mount]:
    """Every mount; of several at one place the topmost comes last."""
    found = []
    # Not splitlines(): of all that it takes for the end of a line, the kernel escapes \n alone.
    for line in filter(None, os.fsdecode(Path(table).read_bytes()).split("\n")):
        fields, _, rest = line.partition(" - ")
        _, _, device, _, mountpoint, options, *_ = fields.split(" ")
        fstype, source, *own = rest.split(" ")
        user = re.search(r"(?:^|,)user_id=(\d+)", own[-1] if own else "")
        mount = Mount(
            _unescape(source), _unescape(mountpoint), device, options, fstype,
            int(user[1]) if user else None,
        )  # fmt: skip
        found.append(mount)
    return found


def raise_read_ahead(mount: Mount) -> None:
    """Let the kernel ask for more at a time, which only root may set; without, all works slower.

    A request costs 70 us whatever its size, so a null file system gives 1.9 GB/s at the kernel's
    128 KiB, 2.7 at 256 and 3.2 at 512. HDF5's chunks of 512 KiB (64³ of 16 bits) are then read
    whole and nothing behind them, which saves a third of the CPU time. More would reach over the
    gap between HDF5 chunks (views/hdf5/structures.py).
    """
    try:
        Path(f"/sys/class/bdi/{mount.device}/read_ahead_kb").write_text(str(READ_AHEAD_KIB))
    except OSError as exc:
        log.debug("%s: read-ahead stays at the kernel's default: %s", mount.mountpoint, exc)


def find(mountpoint: str) -> Mount:
    """The znfs mount at that directory. Raises MountError if there is none, or something else is
    mounted over it."""
    there = _at(_place(mountpoint))
    if not any(mount.fstype == FSTYPE for mount in there):
        raise MountError(f"{mountpoint}: no znfs mount there")
    if there[-1].fstype != FSTYPE:
        raise MountError(f"{mountpoint}: a file system {there[-1].fstype} is mounted over it")
    return there[-1]


def topmost(mountpoint: str) -> Mount | None:
    """Whatever is mounted at that directory, over all else."""
    there = _at(_place(mountpoint))
    return there[-1] if there else None


def is_topmost(mount: Mount) -> bool:
    """Whether the mount is there, and nothing over it."""
    return [m.device for m in _at(mount.mountpoint)][-1:] == [mount.device]


def _at(place: str) -> list[Mount]:
    return [mount for mount in _table() if mount.mountpoint == place]


def _place(path: str) -> str:
    """os.path.realpath(path), which would wait for a daemon mounted there: lstat(2) asks it,
    readlink(2) does not. Raises MountError where the path leads through a mount that is dead, or
    hangs: what is below that its daemon would be asked for."""
    served = {mount.mountpoint for mount in mounts()}
    whole = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    rest, place, links = whole.split("/")[::-1], "/", 0
    while rest:
        name = rest.pop()
        if name in ("", os.curdir):
            continue
        if name == os.pardir:
            place = os.path.dirname(place)
            continue
        if place in served:
            _check_alive(place)
        place = os.path.join(place, name)
        try:
            target = os.readlink(place)
        except OSError:  # no link
            continue
        links += 1
        if links > _MOST_LINKS:
            break  # it goes round; whoever opens it is told so
        place = os.path.dirname(place)
        rest += target.split("/")[::-1]
        if os.path.isabs(target):
            place = "/"
    return place


def is_dead(mountpoint: str) -> bool:
    """Whether a mount is there whose daemon has gone. Raises MountError if its daemon is there, and
    does not answer."""
    from znfs import fuse  # here: commands that only look for mounts start sooner

    with contextlib.suppress(OSError):  # without the program: who hangs is waited for
        done = _run(["stat", "-f", "--", mountpoint])
        if done is None or done[0] < 0:  # or its waiting was broken off, as by Ctrl-C
            raise MountError(
                f"{mountpoint}: its daemon does not answer; 'znfs umount --lazy' takes it away"
            )
        if done[0] == 0:  # not asked again here: it may hang by now
            return False
    return fuse.is_dead(mountpoint)


def _run(command: list[str]) -> tuple[int, str] | None:
    """The program's exit status and what it said; None if it did not end in time. Raises OSError.

    What may wait for a daemon is left to a program: such waiting cannot be broken off, but by
    killing who waits, and not even so once the daemon has the request.
    """
    program = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="surrogateescape",
    )  # fmt: skip
    try:
        said, _ = program.communicate(timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        program.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.communicate(timeout=1.0)
        return None
    return program.returncode, said


def check_source(path: str) -> None:
    """Raises MountError if a local path is on a znfs mount whose daemon has died, or does not
    answer."""
    place = _place(path)
    if any(mount.mountpoint == place for mount in mounts()):
        _check_alive(place)


def _check_alive(mountpoint: str) -> None:
    if is_dead(mountpoint):
        raise MountError(f"{mountpoint}: its daemon has died; 'znfs umount' clears the mount")


def ask_all(question: Callable[[Mount], Answer]) -> list[tuple[Mount, Answer]]:
    """`question` of every znfs mount, side by side: all that hang take the time of one, and none
    once that is broken off (Ctrl-C)."""
    from concurrent.futures import ThreadPoolExecutor

    found = mounts()
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        return list(zip(found, pool.map(question, found), strict=True))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def statuses() -> list[tuple[Mount, dict[str, Any]]]:
    """What the daemon of each znfs mount says of itself; of one that does not answer, the
    `error`."""

    def say(mount: Mount) -> dict[str, Any]:
        try:
            return status(mount.mountpoint)
        except MountError as error:
            return {"error": str(error)}

    return ask_all(say)


def status(mountpoint: str) -> dict[str, Any]:
    """What the mount's daemon says of itself. Raises MountError."""
    _check_alive(mountpoint)
    return _told(mountpoint)


def _told(mountpoint: str) -> dict[str, Any]:
    """As `status`, of a daemon that answers."""
    try:
        with Path(mountpoint, STATUS).open("rb") as file:
            text = file.read()
            if os.fstat(file.fileno()).st_size:  # 0 of the daemon's file, which is live
                raise MountError(f"{mountpoint}: no status (the store has a .znfs of its own)")
        found = json.loads(text)
    except OSError as exc:
        mount = topmost(mountpoint) if isinstance(exc, PermissionError) else None
        more = f": ask as {mount.user_name}, who mounted it" if mount and not mount.is_ours else ""
        raise MountError(f"{mountpoint}: no status ({exc.strerror}){more}") from exc
    except ValueError as exc:
        raise MountError(f"{mountpoint}: {STATUS} is not a status of znfs") from exc
    if not isinstance(found, dict):
        raise MountError(f"{mountpoint}: {STATUS} is not a status of znfs")
    return found


def refresh(mountpoint: str, wait: float = 30.0) -> None:
    """Have the daemon forget metadata and blocks; returns once it has. Raises MountError.

    The daemon takes SIGUSR1 for this, which its user and root may send.
    """
    find(mountpoint)
    before = status(mountpoint)
    pid = _daemon(mountpoint, before)
    try:
        os.kill(pid, signal.SIGUSR1)
    except (OverflowError, ProcessLookupError) as exc:
        raise MountError(f"{mountpoint}: its daemon is not on this machine") from exc
    except PermissionError as exc:
        raise MountError(f"{mountpoint}: only its user and root may refresh it") from exc
    end = time.monotonic() + wait
    while status(mountpoint).get("refreshed") == before.get("refreshed"):
        if time.monotonic() > end:
            raise MountError(f"{mountpoint}: its daemon did not refresh within {wait:.0f} s")
        time.sleep(0.02)


def _daemon(mountpoint: str, found: dict[str, Any]) -> int:
    """The process of the daemon whose status that is. Raises MountError if there is none here."""
    pid, own = found.get("pid"), found.get("process")
    if type(pid) is not int or pid <= 0:  # to kill(2) a group of processes, or all there are
        raise MountError(f"{mountpoint}: its status names no daemon")
    if not isinstance(own, dict) or own.get("pid_namespace") != vitals.pid_namespace():
        raise MountError(
            f"{mountpoint}: its daemon is in another PID namespace, as of a container: "
            "run 'znfs refresh' there"
        )
    return pid


def unmount(mountpoint: str, *, lazy: bool = False, wait: float = 10.0) -> None:
    """Take the mount away and wait until its daemon has ended; also clears a dead mount.

    Raises MountError: nothing mounted there, files still open (unless `lazy`), no permission.
    """
    mount = find(mountpoint)
    pid = None
    if not lazy:
        try:
            lazy = is_dead(mount.mountpoint)
            pid = None if lazy else _daemon(mount.mountpoint, _told(mount.mountpoint))
        except MountError:
            pid = None  # it can be unmounted none the less
    detach(mount.mountpoint, lazy=lazy)
    if pid is not None:
        _await_exit(pid, wait)


def detach(mountpoint: str, *, lazy: bool) -> None:
    """Unmount by fusermount, which users may, or umount. Raises MountError with its reason."""
    helper = shutil.which("fusermount3") or shutil.which("fusermount")
    if helper:
        command = [helper, "-u", *(["-z"] if lazy else []), "--", mountpoint]
    else:
        command = ["umount", *(["-l"] if lazy else []), "--", mountpoint]
    try:
        done = _run(command)
    except OSError as exc:
        raise MountError(f"{mountpoint}: cannot run {command[0]}: {exc.strerror}") from exc
    if done is None:
        raise MountError(f"{mountpoint}: cannot unmount: its daemon does not answer; end it first")
    failed, said = done
    if failed:
        said = " ".join(said.split()).removeprefix(f"{command[0]}: ")
        more = "; --lazy unmounts it all the same" if "busy" in said and not lazy else ""
        mount = topmost(mountpoint)
        if os.geteuid() and mount and not mount.is_ours:  # the helper finds no such mount
            said = f"{mount.user_name} mounted it; only who did and root may"
        raise MountError(f"{mountpoint}: cannot unmount: {said}{more}")


def clear_dead(mountpoint: str) -> bool:
    """Unmount what a dead daemon left at `mountpoint`; whether there was anything. Raises
    MountError."""
    mount = topmost(mountpoint)
    if mount is None or mount.fstype != FSTYPE or not is_dead(mount.mountpoint):
        return False
    detach(mount.mountpoint, lazy=True)
    return True


def _await_exit(pid: int, wait: float) -> None:
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return  # it has ended, or is not ours to see
    poll = select.poll()  # not select(2), which knows no descriptor past 1023
    poll.register(fd, select.POLLIN)
    try:
        poll.poll(wait * 1000)
    finally:
        os.close(fd)


def _unescape(field: str) -> str:
    """A field of the mount table: octal escapes of space, tab, newline and backslash."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)
