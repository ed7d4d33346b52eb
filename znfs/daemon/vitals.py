"""What a daemon tells of its own process: memory, threads, descriptors, and what it runs on."""

from __future__ import annotations

import os
import platform
import threading
from pathlib import Path
from typing import Any

# Whose versions matter when something is wrong.
_LIBRARIES = ("numpy", "numcodecs", "obstore", "fsspec", "s3fs", "urllib3", "aiohttp")


def process() -> dict[str, Any]:
    """Bytes of memory in use, threads, open descriptors and the PID namespace (proc(5))."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "resident_bytes": pages * os.sysconf("SC_PAGE_SIZE"),
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "pid_namespace": pid_namespace(),
    }


def pid_namespace() -> int:
    """Of this process: in any other, its number is another process's, or nobody's."""
    return os.stat("/proc/self/ns/pid").st_ino


def versions(fuse: str) -> dict[str, str]:
    """Of Python, the kernel, `fuse` (what the binding says of itself) and the libraries."""
    from importlib import metadata

    found = {"python": platform.python_version(), "kernel": platform.release(), "fuse": fuse}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an optional one
    return found
