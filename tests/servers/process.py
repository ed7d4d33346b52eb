"""Starting server processes that never outlive the tests, and waiting for them to answer."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class NotAvailable(Exception):
    """What the server needs is not on this machine. One that is and does not work is an error."""

    def __init__(self, why: str) -> None:
        super().__init__(f"not available: {why}")


def require(package: str, *programs: str) -> None:
    """That the programs are installed. Raises NotAvailable with the Debian package's name."""
    for program in programs:
        if find(program) is None:
            raise NotAvailable(f"{program} is not installed (Debian package {package})")


def find(program: str) -> str | None:
    """Where a program is; daemons are in sbin, which users do not have in PATH."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def start(command: Sequence[str], log: Path, **more: object) -> subprocess.Popen[bytes]:
    """A server in the foreground, killed by the kernel if this process dies first."""
    program = find(command[0]) or command[0]
    with log.open("ab") as out:
        return subprocess.Popen(
            [program, *command[1:]], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            preexec_fn=_die_with_parent, start_new_session=True,
            **more,  # type: ignore[call-overload]
        )


def stop(process: subprocess.Popen[bytes] | None) -> None:
    """End a server for certain, one that is stopped by SIGSTOP, too."""
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for_http(url: str, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    """Return when anything answers at `url`. Raises RuntimeError if the process ends first."""
    over = time.monotonic() + seconds
    while True:
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2)
            return
        except urllib.error.HTTPError:
            return
        except OSError as error:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args!r} ended at once") from error
            if time.monotonic() > over:
                raise RuntimeError(f"{url} does not answer: {error}") from error
            time.sleep(0.02)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
