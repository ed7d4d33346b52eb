"""The mounts of this machine: finding them, reading their status, taking them away."""

from __future__ import annotations

import json
import logging
import os
import re
import select
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from znfs.errors import MountError
from znfs.fuse import is_dead

log = logging.getLogger(__name__)

FSTYPE = "fuse.znfs"
STATUS = ".znfs/status.json"
READ_AHEAD_KIB = 512
_MOUNTINFO = "/proc/self/mountinfo"


@dataclass(frozen=True)
class Mount:
    """A line of the mount table. `device` is MAJOR:MINOR, as in /sys/class/bdi."""

    source: str
    mountpoint: str
    device: str
    options: str


def mounts(table: str = _MOUNTINFO) -> list[Mount]:
    """Every znfs mount, in the order of the mount table (proc(5))."""
    found = []
    # Not splitlines(): of all that it takes for the end of a line, the kernel escapes \n alone.
    for line in filter(None, os.fsdecode(Path(table).read_bytes()).split("\n")):
        fields, _, rest = line.partition(" - ")
        _, _, device, _, mountpoint, options, *_ = fields.split(" ")
        fstype, source, *_ = rest.split(" ")
        if fstype == FSTYPE:
            found.append(Mount(_unescape(source), _unescape(mountpoint), device, options))
    return found


def raise_read_ahead(mountpoint: str) -> None:
    """Let the kernel ask for more at a time, which only root may set; without, all works slower.

    A request costs 70 us whatever its size, so a null file system gives 1.9 GB/s at the kernel's
    128 KiB, 2.7 at 256 and 3.2 at 512. HDF5's chunks of 512 KiB (64³ of 16 bits) are then read
    whole and nothing behind them, which saves a third of the CPU time. More would reach over the
    gap between HDF5 chunks (views/hdf5/structures.py).
    """
    device = find(mountpoint).device
    try:
        Path(f"/sys/class/bdi/{device}/read_ahead_kb").write_text(str(READ_AHEAD_KIB))
    except OSError as exc:
        log.debug("%s: read-ahead stays at the kernel's default: %s", mountpoint, exc)


def find(mountpoint: str) -> Mount:
    """The topmost znfs mount at that directory. Raises MountError if there is none."""
    wanted = os.path.realpath(mountpoint)
    for mount in reversed(mounts()):
        if mount.mountpoint == wanted:
            return mount
    raise MountError(f"{mountpoint}: no znfs mount there")


def status(mountpoint: str) -> dict[str, Any]:
    """What the mount's daemon says of itself. Raises MountError."""
    try:
        with Path(mountpoint, STATUS).open("rb") as file:
            text = file.read()
            if os.fstat(file.fileno()).st_size:  # 0 of the daemon's file, which is live
                raise MountError(f"{mountpoint}: no status (the store has a .znfs of its own)")
        found = json.loads(text)
    except OSError as exc:
        if is_dead(mountpoint):
            raise MountError(
                f"{mountpoint}: its daemon has died; 'znfs umount' clears the mount"
            ) from exc
        raise MountError(f"{mountpoint}: no status ({exc.strerror})") from exc
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
    pid = before.get("pid")
    if type(pid) is not int or pid <= 0:  # to kill(2) a group of processes, or all there are
        raise MountError(f"{mountpoint}: its status names no daemon")
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


def unmount(mountpoint: str, *, lazy: bool = False, wait: float = 10.0) -> None:
    """Take the mount away and wait until its daemon has ended; also clears a dead mount.

    Raises MountError: nothing mounted there, files still open (unless `lazy`), no permission.
    """
    mount = find(mountpoint)
    pid = None
    if is_dead(mount.mountpoint):
        lazy = True
    elif not lazy:
        try:
            pid = status(mount.mountpoint).get("pid")
        except MountError:
            pid = None  # it can be unmounted none the less
    detach(mount.mountpoint, lazy=lazy)
    if isinstance(pid, int):
        _await_exit(pid, wait)


def detach(mountpoint: str, *, lazy: bool) -> None:
    """Unmount by fusermount, which users may, or umount. Raises MountError with its reason."""
    helper = shutil.which("fusermount3") or shutil.which("fusermount")
    if helper:
        command = [helper, "-u", *(["-z"] if lazy else []), "--", mountpoint]
    else:
        command = ["umount", *(["-l"] if lazy else []), "--", mountpoint]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="surrogateescape", check=False
        )
    except OSError as exc:
        raise MountError(f"{mountpoint}: cannot run {command[0]}: {exc.strerror}") from exc
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise MountError(f"{mountpoint}: cannot unmount: {said.removeprefix('fusermount3: ')}")


def clear_dead(mountpoint: str) -> bool:
    """Unmount what a dead daemon left at `mountpoint`; whether there was anything."""
    try:
        mount = find(mountpoint)
    except MountError:
        return False
    if not is_dead(mount.mountpoint):
        return False
    detach(mount.mountpoint, lazy=True)
    return True


def _await_exit(pid: int, wait: float) -> None:
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return  # it has ended, or is not ours to see
    try:
        select.select([fd], [], [], wait)
    finally:
        os.close(fd)


def _unescape(field: str) -> str:
    """A field of the mount table: octal escapes of space, tab, newline and backslash."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)
