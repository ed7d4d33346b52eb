"""The machine: its page cache, the memory of a process, what it is and what runs on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = (
    "znfs", "numpy", "numcodecs", "isal", "mfusepy", "obstore", "zarr", "zarrs", "tensorstore",
    "h5py", "tifffile",
)  # fmt: skip


def drop_pages(*paths: Path) -> None:
    """Drop what the page cache holds of these files, and of every file below these folders."""
    for path in paths:
        if path.is_dir():
            for folder, _, names in os.walk(path):
                for name in names:
                    _drop(os.path.join(folder, name))
        else:
            _drop(path)


def _drop(path: str | Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def resident(pid: int) -> int:
    """Bytes of memory a process holds now."""
    return _status(pid, "VmRSS")


def peak_resident(pid: int) -> int:
    """Most bytes of memory a process has held since `reset_peak`."""
    return _status(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) << 10
    raise ProcessLookupError(f"{pid} has no {name}")


def description() -> list[str]:
    """What was measured on: lines for the report."""
    return [
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {_memory_gib():.0f} GiB of memory",
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"libfuse {_libfuse()}",
        ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name))),
    ]


def commit() -> str | None:
    """The commit that was measured, with a `+` if files were changed since."""
    try:
        here = Path(__file__).parent
        text = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],
            cwd=here, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return text.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)


def _libfuse() -> str:
    try:
        text = subprocess.run(["fusermount3", "--version"], capture_output=True, text=True)
    except OSError:
        return "unknown"
    return text.stdout.split()[-1]
