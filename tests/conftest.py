"""Fixtures of the end-to-end tests: real mounts, and programs that may not be installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

from tests.servers.process import NotAvailable
from znfs.daemon import mounts
from znfs.views.hdf5.collector import paused

# The same examples every time: a failure is then the fault of the change under test.
settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("suite")

ROOT = Path(__file__).parent.parent
OURS = f"znfs-test-{os.getpid()}-"
Mount = Callable[..., Path]
T = TypeVar("T")


def require(*programs: str) -> None:
    """Skip the test, naming the first of `programs` that is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def require_file(path: str, package: str) -> str:
    """Skip the test if a file of a Debian package is not there."""
    if not os.path.exists(path):
        pytest.skip(f"{path} is not there (Debian package {package})")
    return path


def require_fuse() -> None:
    """Skip the test where nothing can be mounted. CI fails: half of the suite would skip there."""
    refuse = pytest.fail if os.environ.get("CI") else pytest.skip
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        refuse("there is no /dev/fuse")
    if shutil.which("fusermount3") is None:
        refuse("fusermount3 is not installed (Debian package fuse3)")


@pytest.fixture(scope="session")
def fuse_device() -> None:
    """For tests that mount by themselves."""
    require_fuse()


@contextmanager
def running(make: Callable[[], AbstractContextManager[T]]) -> Iterator[T]:
    """The server that `make` makes; where it cannot be had, the test is skipped and says why."""
    try:
        server = make()
    except NotAvailable as why:
        pytest.skip(str(why))
    with server as started:
        yield started


def znfs(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the znfs command with no configuration of the user's."""
    return subprocess.run(
        [sys.executable, "-m", "znfs", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": "/nonexistent"},
        capture_output=True, text=True, timeout=120, check=check,
    )  # fmt: skip


class Mounts:
    """Mounts made through the command, all gone at the end whatever happens."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=OURS))
        self.paths: list[Path] = []

    def mount(self, source: object, *flags: object) -> Path:
        """Mount `source` with `flags` of `znfs mount`; the mountpoint."""
        path = self.folder / str(len(self.paths))
        path.mkdir()
        self.paths.append(path)
        done = znfs("mount", *flags, source, path, check=False)
        assert done.returncode == 0, done.stderr
        return path

    def close(self) -> None:
        for path in reversed(self.paths):
            while any(m.mountpoint == str(path) for m in mounts.mounts()):
                if znfs("umount", path, check=False).returncode != 0:
                    mounts.detach(str(path), lazy=True)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def mount() -> Iterator[Mount]:
    """`mount(source, *flags)`: a real mount that ends with the test."""
    require_fuse()
    made = Mounts()
    yield made.mount
    made.close()


@pytest.fixture(scope="module")
def mount_for_module() -> Iterator[Mount]:
    """As `mount`, for all tests of a module."""
    require_fuse()
    made = Mounts()
    yield made.mount
    made.close()


@pytest.fixture
def without_collections() -> Iterator[None]:
    """For who gives h5py a file object of this process. h5py holds its lock while it reads one; a
    collection in a thread that loads may free h5py's things, which takes that lock, and neither
    would ever go on. One may be under way when a read begins, so it is paused for the whole test.
    """
    with paused():
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_mount_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tests leave no mount behind."""
    ours = str(tmp_path_factory.getbasetemp()), str(Path(tempfile.gettempdir(), OURS))
    yield
    left = [m.mountpoint for m in mounts.mounts() if m.mountpoint.startswith(ours)]
    for path in left:
        mounts.detach(path, lazy=True)
    assert not left, f"mounts left behind: {left}"
