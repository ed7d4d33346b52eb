"""The commands, for Python."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from znfs.errors import MountError

if TYPE_CHECKING:
    from znfs.options import Options
    from znfs.tree import Tree

_STOP_SECONDS = 10.0
_MOST_ADDRESS = 107  # bytes: unix(7), sun_path


def open_tree(source: str | Path, options: Options | None = None, **overrides: Any) -> Tree:
    """The tree of files of `source`, without FUSE: tree.open_tree, with what is configured.

    Keyword arguments are options (`anon=True`); they win over `ZNFS_…` variables and the
    configuration file, which are not read if `options` is given. Raises ZnfsError.
    """
    from znfs import config
    from znfs.tree import tree

    source = os.fspath(source)
    if options is None:
        options = config.load(source, overrides)
        overrides = {}
    return tree.open_tree(source, options, **overrides)


@contextmanager
def mount(
    source: str | Path, mountpoint: str | Path | None = None, **options: Any
) -> Iterator[Path]:
    """A mount while the block runs: yields its path, by default a temporary directory.

    Options are as for `open_tree`. They may hold secrets: they reach the daemon through its
    environment, which only its user can read. The daemon ends with the block, and if this process
    dies. Raises MountError with the reason why there is no mount, and UsageError for options that
    are not there or wrong, and for a secret in `source`, which would be seen in the process list.
    """
    from znfs import config
    from znfs.stores import refuse_secrets

    source = os.fspath(source)
    refuse_secrets(source)
    config.load(source, options)
    with tempfile.TemporaryDirectory(prefix="znfs-") as own:
        path = Path(mountpoint) if mountpoint is not None else Path(own, "mount")
        if mountpoint is None:
            path.mkdir()
        with _listening(own) as (ready, address):
            said = Path(own, "said")
            daemon = _start(source, path, options, address, said)
            try:
                _await(daemon, ready, said)
                yield path
            finally:
                _stop(daemon, path)


def status() -> list[dict[str, Any]]:
    """What the daemon of each znfs mount on this machine says of itself, and its `mountpoint`; of
    one that does not answer its `source` and the `error`."""
    from znfs.daemon import mounts

    return [
        {"source": mount.source} | said | {"mountpoint": mount.mountpoint}
        for mount, said in mounts.statuses()
    ]


@contextmanager
def _listening(folder: str) -> Iterator[tuple[socket.socket, str]]:
    """A socket in the folder, and its address for other processes: by way of the folder's
    descriptor where its path is too long for one, as $TMPDIR may be."""
    address = os.path.join(folder, "ready")
    with ExitStack() as stack:
        if len(os.fsencode(address)) > _MOST_ADDRESS:
            at = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, at)
            address = f"/proc/{os.getpid()}/fd/{at}/ready"
        ready = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        ready.bind(address)
        yield ready, address


def _start(
    source: str, path: Path, options: dict[str, Any], ready: str, said: Path
) -> subprocess.Popen[bytes]:
    from znfs import config

    here = os.pathsep.join(filter(None, sys.path))  # wherever this znfs was imported from
    environ = dict(os.environ, NOTIFY_SOCKET=ready, PYTHONPATH=here)
    environ.pop("WATCHDOG_USEC", None)
    for name, value in options.items():
        if value is not None:
            environ[config.variable(name)] = config.as_text(name, value)
    command = [sys.executable, "-m", "znfs", "mount", "--foreground", "--stop-on-eof"]
    with said.open("wb") as log:
        return subprocess.Popen(
            [*command, "--", source, str(path)],
            env=environ,
            stdin=subprocess.PIPE,  # its end is the daemon's sign to unmount
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,  # Ctrl-C in this process is not meant for it
        )


def _await(daemon: subprocess.Popen[bytes], ready: socket.socket, said: Path) -> None:
    """Until the daemon says that it is ready; MountError with its words if it ends instead."""
    ended = os.pidfd_open(daemon.pid)
    poll = select.poll()  # not select(2), which knows no descriptor past 1023
    for fd in (ready.fileno(), ended):
        poll.register(fd, select.POLLIN)
    try:
        while ready.fileno() in dict(poll.poll()):
            if b"READY=1" in ready.recv(4096):
                return
    finally:
        os.close(ended)
    words = said.read_text(errors="replace").strip().rpartition("\n")[2]
    raise MountError(words.removeprefix("znfs mount: ") or "the daemon died before it had mounted")


def _stop(daemon: subprocess.Popen[bytes], path: Path) -> None:
    from znfs.daemon import mounts

    assert daemon.stdin is not None
    daemon.stdin.close()
    try:
        daemon.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
    mounts.clear_dead(str(path))  # one that was killed, here or by others, leaves its mount
