"""A mount from its first look at the source to its end.

The daemon forks before any store is opened: obstore and fsspec's loops do not survive a fork.
The command that started it waits for its word, and returns when the mount answers.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import re
import select
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

from znfs.daemon import logs, mounts, vitals
from znfs.errors import MountError, StoreError, UsageError, ZnfsError
from znfs.fuse import Operations, Session, is_dead, load_binding, mount_options
from znfs.options import Options
from znfs.redaction import redact
from znfs.tables import printable

log = logging.getLogger(__name__)

_ENDED = 0  # byte in the wake-up pipe: the mount has gone. Others are signal numbers.
_STOPPING = (signal.SIGTERM, signal.SIGINT)
_REFRESHING = (signal.SIGUSR1, signal.SIGHUP)
_LAST_REQUESTS = 2.0  # seconds that requests under way may still take when asked to stop
_READY, _FAILED, _USAGE = b"\0", b"\1", b"\2"  # how what a daemon says to who started it begins
_SWITCH_SECONDS = 0.001  # a cached read waits no longer than this for a thread that decodes


@dataclass(frozen=True)
class MountRequest:
    """What to mount where. `flags` are the kernel's own, such as noexec."""

    source: str = field(repr=False)
    mountpoint: str
    options: Options
    flags: tuple[str, ...] = ()
    stop_on_eof: bool = False  # end when standard input ends: for a parent that may die


def mount(request: MountRequest) -> None:
    """Mount, and return when the mount answers; in the foreground, when it has ended.

    Raises MountError, SourceError, NotFound, Denied or UsageError: why there is no mount.
    """
    prepare(request)
    if request.options.foreground:
        logs.to_stderr(request.options.log_level)
        if request.options.log_file is not None:
            logs.install(_log(request), request.options.log_level)
        serve(request, lambda: None)
        return
    _detach(request)


def _log(request: MountRequest) -> logging.Handler:
    """Where a daemon logs. Raises UsageError for a file that cannot be written."""
    about = {
        "source": redact(request.source), "mountpoint": os.path.realpath(request.mountpoint),
    }  # fmt: skip
    try:
        return logs.of_daemon(request.options.log_file, about)
    except OSError as exc:
        raise UsageError(f"--log-file {exc.filename}: {exc.strerror}") from exc


def prepare(request: MountRequest) -> None:
    """Check the mount point, and clear what a dead daemon left there. Raises MountError, also where
    another daemon serves: a second mount would hide its, until that shows again after an unmount.
    """
    mountpoint = request.mountpoint
    mounts.clear_dead(mountpoint)
    if (there := mounts.topmost(mountpoint)) is not None and there.fstype == mounts.FSTYPE:
        away = f"'znfs umount {mountpoint}' takes it away"
        raise MountError(f"{mountpoint}: {there.source} is mounted there; {away}")
    try:
        if not stat.S_ISDIR(os.stat(mountpoint).st_mode):
            raise MountError(f"{mountpoint}: not a directory")
    except OSError as exc:
        raise MountError(f"{mountpoint}: {_why_not_there(mountpoint, exc)}") from exc
    from znfs.stores import local_path

    source = local_path(request.source, request.options)
    if source is None:
        return
    source, mountpoint = os.path.realpath(source), os.path.realpath(mountpoint)
    if os.path.commonpath((source, mountpoint)) == source:
        raise MountError(f"{request.mountpoint}: a mount point inside its source is refused")
    if os.path.commonpath((source, mountpoint)) == mountpoint:
        raise MountError(f"{request.mountpoint}: a mount point above its source would hide it")


def _why_not_there(mountpoint: str, exc: OSError) -> str:
    over = mounts.topmost(mountpoint)
    if over is None:
        return "no such directory" if isinstance(exc, FileNotFoundError) else str(exc.strerror)
    what = f"{exc.strerror}: a mount ({over.fstype}) is there"
    if isinstance(exc, PermissionError):  # of FUSE, without allow_other: root may not either
        return f"{what}, of another user"
    if is_dead(mountpoint):
        return f"{what} whose daemon has died; 'umount -l' clears it"
    return what


def serve(request: MountRequest, ready: Callable[[], None]) -> None:
    """Open the source, mount it, call `ready`, and serve until unmounted or told to stop."""
    from znfs.cache import memory
    from znfs.tree import Tree

    memory.bound_heap()
    sys.setswitchinterval(_SWITCH_SECONDS)
    options = request.options
    tree = Tree(request.source, options)
    try:
        try:
            tree.probe()
            down = False
        except StoreError as exc:  # it may come up later; the mount recovers by itself
            log.warning("%s: %s; mounted all the same, and tried again when read", tree.url, exc)
            down = True
        _serve(request, tree, ready, down)
    finally:
        tree.close()


def _serve(request: MountRequest, tree: Any, ready: Callable[[], None], down: bool) -> None:
    options = request.options
    mountpoint = os.path.realpath(request.mountpoint)
    binding = load_binding()
    operations = Operations(
        tree, uid=options.uid, gid=options.gid, umask=options.umask, ttl=options.ttl,
        down=down,
    )  # fmt: skip
    wake, wakes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    session = Session(
        operations, binding, ended=lambda: _write(wakes, bytes([_ENDED])), seconds=tree.patience
    )
    for number in (*_STOPPING, *_REFRESHING):
        signal.signal(number, lambda *_: None)  # the number arrives through the wake-up pipe
    signal.set_wakeup_fd(wakes)
    flags = mount_options(
        tree.url, binding, allow_other=options.allow_other, ttl=options.ttl
    )  # fmt: skip
    tree.report("fuse", session.status)
    tree.report("process", vitals.process)
    tree.report("versions", cache(lambda: vitals.versions(str(binding))))
    close_metrics = _serve_metrics(options.metrics_port, tree)
    session.mount(mountpoint, [*flags, *request.flags])
    own = mounts.find(mountpoint)
    try:
        log.info("%s: mounted at %s by %s", tree.url, mountpoint, binding)
        try:
            session.start()
            os.statvfs(mountpoint)  # answered by the daemon's threads: the mount works
        except (MountError, OSError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else exc
            raise MountError(f"{mountpoint}: the mount does not answer: {why}") from exc
        mounts.raise_read_ahead(own)
        ready()
        about = printable(f"{tree.url} at {mountpoint}")  # one line, or it could say other things
        notify(f"READY=1\nMAINPID={os.getpid()}\nSTATUS={about}")
        _import_rest()
        inputs = [wake, *([0] if request.stop_on_eof else [])]
        _wait(inputs, tree, operations)
    finally:
        notify("STOPPING=1")
        _take_away(own, session)
        close_metrics()
    log.info("%s: unmounted from %s", tree.url, mountpoint)


def _take_away(own: mounts.Mount, session: Session) -> None:
    """Unmount, unless others have, or have mounted something over it: that is theirs.

    The number of a device that was unmounted is given to the next mount, so where the kernel has
    let go of ours, what has its number is another's, and stays; unless it is dead, as ours would be
    if an administrator aborted it.
    """
    if not mounts.is_topmost(own):
        return
    if session.connected or mounts.is_dead(own.mountpoint):
        mounts.detach(own.mountpoint, lazy=True)
        _drain(session)


def _import_rest() -> None:
    """Import what the first look into a folder and the first chunk need, before they do: 150 ms of
    which neither the mount nor, most often, its first reader then sees anything."""
    for name in ("znfs.views.table", "numcodecs"):
        with contextlib.suppress(ImportError):  # who reads is told
            import_module(name)
    gc.freeze()  # what is imported stays: looking through it stopped all threads for 10 ms


def _serve_metrics(port: int | None, tree: Any) -> Callable[[], None]:
    """Answer Prometheus, if asked to; what stops it. Raises MountError."""
    if port is None:
        return lambda: None
    from znfs.tree import metrics

    try:
        return metrics.serve(port, tree.status)
    except (OSError, OverflowError) as exc:
        raise MountError(f"--metrics-port {port}: {exc}") from exc


def _wait(inputs: list[int], tree: Any, operations: Operations) -> None:
    """Serve until the mount has gone or a signal says stop; refresh when a signal says so."""
    beat = _watchdog_seconds()
    while True:
        readable, _, _ = select.select(inputs, [], [], beat)
        notify("WATCHDOG=1")
        if 0 in readable and not os.read(0, 4096):
            return
        if inputs[0] not in readable:
            continue
        happened = set(os.read(inputs[0], 4096))
        if _ENDED in happened or happened & set(_STOPPING):
            return
        if happened & set(_REFRESHING):
            notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            tree.refresh(also=operations.forget_pages)
            notify("READY=1")


def _drain(session: Session) -> None:
    """Let requests under way be answered."""
    end = time.monotonic() + _LAST_REQUESTS
    while session.busy and time.monotonic() < end:
        time.sleep(0.01)


def _detach(request: MountRequest) -> None:
    """Serve in a child process; return when it says that the mount answers."""
    incoming, outgoing = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        os.close(incoming)
        _child(request, outgoing)
    os.close(outgoing)
    with os.fdopen(incoming, "rb") as pipe:
        try:
            said = pipe.read()
        except KeyboardInterrupt:  # the child may have left the terminal by now
            os.kill(child, signal.SIGTERM)
            raise
    if said == _READY:
        return
    _, status = os.waitpid(child, 0)
    reason = said[1:].decode(errors="replace")
    if not reason:
        code = os.waitstatus_to_exitcode(status)
        reason = f"{request.mountpoint}: the daemon ended before it had mounted ({code})"
    raise (UsageError if said[:1] == _USAGE else MountError)(reason)


def _child(request: MountRequest, outgoing: int) -> None:
    """The daemon's life. Does not return."""
    _close_inherited(outgoing)
    logs.to_stderr(request.options.log_level)
    handler: logging.Handler = logging.NullHandler()

    def ready() -> None:
        # Not before it is mounted: autofs, and so x-systemd.automount, lets nobody past who comes
        # to the mount point meanwhile but the process group that it asked for the mount.
        os.setsid()
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        logs.install(handler, request.options.log_level)
        _write(outgoing, _READY)
        os.close(outgoing)

    code = 0
    try:
        handler = _log(request)
        serve(request, ready)
    except ZnfsError as exc:
        code = 1
        _say(outgoing, str(exc), _USAGE if isinstance(exc, UsageError) else _FAILED)
    except BaseException as exc:
        code = 1
        log.debug("%s: %s", type(exc).__name__, exc, exc_info=exc)
        _say(outgoing, f"{request.mountpoint}: {type(exc).__name__}: {exc}")
    finally:
        leave(code)


def leave(code: int) -> None:
    """End the process at once: threads that wait for a store or the kernel hold nothing up."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _close_inherited(kept: int) -> None:
    """Close all but the standard streams and `kept`: who reads a pipe that somebody's shell had
    open would wait for the daemon's end."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd != kept:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(fd)


def _say(outgoing: int, text: str, kind: bytes = _FAILED) -> None:
    try:
        os.write(outgoing, kind + text.encode("utf-8", "backslashreplace"))
    except OSError:
        log.error("%s", text)  # after `ready`: nobody waits any more


def _write(fd: int, data: bytes) -> None:
    os.write(fd, data)


def notify(message: str) -> None:
    """Tell the service manager, if one asked to be told (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if message == "WATCHDOG=1" and _watchdog_seconds() is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        try:
            out.sendto(message.encode(), re.sub("^@", "\0", address))
        except OSError as exc:
            log.debug("%s: %s", address, exc)


def _watchdog_seconds() -> float | None:
    """Half the service manager's patience, or None if it does not watch this process."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if not usec.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2e6
