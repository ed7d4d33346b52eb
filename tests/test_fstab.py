"""mount(8), umount(8) and fstab(5), as a machine's start-up uses them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.conftest import ROOT, require, require_fuse
from znfs.daemon import mounts

VALUES = np.arange(300, dtype="u2").reshape(15, 20)
HELPERS = (Path("/sbin/mount.znfs"), Path("/sbin/mount.fuse.znfs"))


@pytest.fixture(scope="module")
def helpers() -> Iterator[None]:
    """The mount helpers where mount(8) looks; those of `make install`, else this checkout's."""
    require_fuse()
    require("mount")
    if os.geteuid() != 0:
        pytest.skip("needs root, as mount(8) does")
    made = [path for path in HELPERS if not path.exists()]
    for path in made:
        path.write_text(
            f"#!/bin/sh\nPYTHONPATH={ROOT} XDG_CONFIG_HOME=/nonexistent exec {sys.executable} -c "
            "'import sys; from znfs.cli import mount_main; sys.exit(mount_main())' \"$@\"\n"
        )
        path.chmod(0o755)
    yield
    for path in made:
        path.unlink()


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A store and a mount point, which is free again in the end."""
    store, mountpoint = tmp_path / "v.zarr", tmp_path / "a mount"
    zarr.create_array(store, shape=VALUES.shape, chunks=(4, 7), dtype="u2")[...] = VALUES
    mountpoint.mkdir()
    yield store, mountpoint
    while any(m.mountpoint == str(mountpoint) for m in mounts.mounts()):
        mounts.detach(str(mountpoint), lazy=True)


def run(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, words)], capture_output=True, text=True, timeout=60, check=check
    )


@pytest.mark.parametrize("type_", ["fuse.znfs", "znfs"])
def test_mount_and_umount(helpers: None, places: tuple[Path, Path], type_: str) -> None:
    store, mountpoint = places
    run("mount", "-t", type_, store, mountpoint, "-o", "noexec,cache_size=32MiB")
    np.testing.assert_array_equal(np.load(mountpoint / "v.npy"), VALUES)
    mount = mounts.find(str(mountpoint))
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(mount.options.split(","))
    pid = mounts.status(str(mountpoint))["pid"]
    assert run("findmnt", "-no", "FSTYPE", mountpoint).stdout.strip() == "fuse.znfs"
    run("umount", mountpoint)
    assert os.listdir(mountpoint) == []
    ended = run("timeout", "10", "tail", f"--pid={pid}", "-f", "/dev/null")
    assert ended.returncode == 0


def test_a_line_of_fstab(helpers: None, places: tuple[Path, Path], tmp_path: Path) -> None:
    store, mountpoint = places
    fstab = tmp_path / "fstab"
    escaped = str(mountpoint).replace(" ", r"\040")
    options = "_netdev,nofail,noauto,user,x-systemd.automount,allow_other,ttl=9"
    fstab.write_text(f"{store} {escaped} fuse.znfs {options} 0 0\n")
    run("mount", "-T", fstab, mountpoint)
    np.testing.assert_array_equal(np.load(mountpoint / "v.npy"), VALUES)
    remount = run("mount", "-T", fstab, "-o", "remount,ro", mountpoint, check=False)
    assert remount.returncode != 0
    assert "remount" in remount.stderr
    np.testing.assert_array_equal(np.load(mountpoint / "v.npy"), VALUES)
    run("umount", mountpoint)


def test_what_is_wrong_is_said(helpers: None, places: tuple[Path, Path]) -> None:
    store, mountpoint = places
    for source, options, status, why in (
        (store, "colour=red", 1, "colour"),
        (store.with_name("none.zarr"), "ro", 32, "none.zarr"),
    ):
        done = run("mount", "-t", "fuse.znfs", source, mountpoint, "-o", options, check=False)
        assert (done.returncode, why in done.stderr) == (status, True), done.stderr
    assert os.listdir(mountpoint) == []
