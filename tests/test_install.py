"""`make install`: what lies where, that it runs from there, and that nothing is left of it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, require, require_fuse, znfs
from znfs.daemon import mounts

LINKS = {"sbin/mount.znfs": "mount.znfs", "sbin/mount.fuse.znfs": "mount.znfs"}
# Below PREFIX.
FILES = (
    "share/man/man1/znfs.1",
    "share/man/man8/mount.znfs.8",
    "share/bash-completion/completions/znfs",
    "share/zsh/site-functions/_znfs",
    "lib/systemd/system/znfs@.service",
)


def make(target: str, place: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "-s", target, f"DESTDIR={place / 'stage'}", f"PREFIX={place / 'prefix'}"],
        cwd=ROOT, env={**os.environ, "PYTHON": sys.executable, **environ},
        capture_output=True, text=True, timeout=120, umask=0o077,
    )  # fmt: skip


def backend(folder: Path) -> str:
    """Where what builds the wheel is; skips the test where pip cannot get it."""
    if importlib.util.find_spec("hatchling"):
        return sysconfig.get_path("purelib")
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
    done = subprocess.run(
        [*words, "--retries=0", "--timeout=10", "hatchling"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"pip cannot get hatchling: {done.stderr.strip().splitlines()[-1]}")
    return str(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `stage` (DESTDIR), and `prefix`, to where a packager's tool brought it.

    Without the dependencies, which are those of this interpreter.
    """
    require("make")
    place = tmp_path_factory.mktemp("install")
    done = make(
        "install", place, PIP_NO_DEPS="1", PIP_NO_BUILD_ISOLATION="0",  # that is: no isolation
        PYTHONPATH=backend(place / "backend"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    staged = place / "stage" / str(place / "prefix").lstrip("/")
    subprocess.run(["cp", "-a", staged, place / "prefix"], check=True)
    (packages,) = (place / "prefix/lib/znfs/lib").glob("python3*/site-packages")
    (packages / "tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place


def run(*words: object) -> str:
    done = subprocess.run(
        [*map(str, words)], capture_output=True, text=True, timeout=60, cwd="/",
        env={**os.environ, "PYTHONPATH": "", "XDG_CONFIG_HOME": "/nonexistent"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(folder: Path) -> Iterator[Path]:
    return (p for p in folder.rglob("*") if p.is_symlink() or p.is_file())


def test_where_files_are(place: Path) -> None:
    stage, prefix = place / "stage", place / "prefix"
    for link, program in LINKS.items():
        assert os.readlink(stage / link) == str(prefix / "lib/znfs/bin" / program)
    assert os.readlink(prefix / "bin/znfs") == str(prefix / "lib/znfs/bin/znfs")
    installed = {str(p.relative_to(prefix)) for p in files(prefix)}
    others = {p for p in installed if not p.startswith("lib/znfs/")}
    assert others == {*FILES, "bin/znfs"}
    assert {p.relative_to(stage) for p in files(stage) if "prefix" not in p.parts} == {
        Path(link) for link in LINKS
    }
    for name in FILES:
        path = prefix / name
        assert path.stat().st_mode & 0o777 == 0o644
        assert "@PREFIX@" not in path.read_text()
    assert f"{prefix}/bin/znfs" in (prefix / "lib/systemd/system/znfs@.service").read_text()
    # PEP 561: without it, type checkers of programs that import znfs take all of it for Any.
    assert any(path.endswith("/site-packages/znfs/py.typed") for path in installed)


def test_all_users_can_run_it(place: Path) -> None:
    """Whatever root's umask is."""
    for path in (place / "prefix").rglob("*"):
        asked = 0o005 if path.is_dir() else 0o004
        assert path.stat().st_mode & asked == asked, path


def test_no_file_names_the_stage(place: Path) -> None:
    """It would name a folder that is gone once the package is made."""
    stage = str(place / "stage").encode()
    texts = [p for p in files(place / "prefix") if not p.is_symlink() and p.suffix != ".pyc"]
    assert [p.name for p in texts if stage in p.read_bytes()] == []


def test_programs_run(place: Path) -> None:
    prefix = place / "prefix"
    where = run(prefix / "lib/znfs/bin/python", "-c", "import znfs; print(znfs.__file__)")
    assert where.startswith(f"{prefix}/lib/znfs/lib/")
    assert run(prefix / "bin/znfs", "--version") == znfs("--version").stdout
    assert "usage: mount.znfs" in run(place / "stage/sbin/mount.znfs", "--help")


def test_other_pythons_libraries_are_not_taken(place: Path, tmp_path: Path) -> None:
    """A cluster's modules put them into the path."""
    import zarr

    zarr.create_array(tmp_path / "v.zarr", shape=(3,), dtype="u1")
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy/__init__.py").write_text("raise ImportError('of another Python')")
    for variable in ("PYTHONPATH", "PYTHONHOME"):
        done = subprocess.run(
            [place / "prefix/bin/znfs", "ls", tmp_path / "v.zarr"], text=True, timeout=60,
            env={**os.environ, variable: str(tmp_path)}, capture_output=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert "v.npy\n" in done.stdout


@pytest.mark.parametrize("helper", LINKS)
def test_helpers_mount(place: Path, tmp_path: Path, helper: str) -> None:
    """As mount(8) calls them."""
    require_fuse()
    import zarr

    zarr.create_array(tmp_path / "v.zarr", shape=(3,), dtype="u1")[...] = 5
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    run(place / "stage" / helper, tmp_path / "v.zarr", mountpoint, "-o", "ro,_netdev,nofail")
    try:
        assert (mountpoint / "chunks/c/0").read_bytes() == b"\5\5\5"
    finally:
        run(place / "prefix/bin/znfs", "umount", mountpoint)
    assert not any(m.mountpoint == str(mountpoint) for m in mounts.mounts())


def test_uninstall(place: Path) -> None:
    """The last test here: of what `make install` made, no file is left, and what is not its own
    stays."""
    own = place / "stage" / str(place / "prefix").lstrip("/") / "bin/mine"
    own.touch()
    done = make("uninstall", place)
    assert done.returncode == 0, done.stderr
    assert list(files(place / "stage")) == [own]
