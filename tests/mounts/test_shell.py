"""Shell tools on a mount: they copy, list and sum what the mount shows."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from demo.write import write_n5
from tests.conftest import Mount, require
from znfs.daemon import mounts

STATUS = "status.json"  # live: it has no size, and says something else each time
VALUES = np.arange(3 * 40 * 50, dtype="uint16").reshape(3, 40, 50)


def shell(*words: object) -> str:
    return subprocess.run(
        [str(word) for word in words], check=True, capture_output=True, text=True, timeout=60
    ).stdout


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A group with a Zarr array, a README and a sub-group; and empty folders."""
    root = tmp_path_factory.mktemp("shell") / "study.zarr"
    group = zarr.create_group(root)
    group.create_array("image", shape=VALUES.shape, chunks=(1, 16, 16), dtype="uint16")
    group["image"][...] = VALUES
    group.create_group("more").create_array("empty", shape=(0, 4), chunks=(1, 4), dtype="i4")
    (root / "README.txt").write_text("what was done\n")
    for folder in ("none", "more/none", "image/none"):
        (root / folder).mkdir()
    return root


@pytest.fixture(scope="module")
def mounted(store: Path, mount_for_module: Mount) -> Path:
    return mount_for_module(store)


@pytest.fixture(scope="module")
def files(mounted: Path) -> dict[str, bytes]:
    """Every listed file but the daemon's own, by its path below the mount."""
    return {
        str(Path(folder, name).relative_to(mounted)): Path(folder, name).read_bytes()
        for folder, _, names in os.walk(mounted)
        for name in names
        if name != STATUS
    }


def test_what_is_there(files: dict[str, bytes]) -> None:
    assert files["README.txt"] == b"what was done\n"
    expected = {"image/image.npy", "image/image.tif", "image/image.btf", "image/image.h5",
                "image/tiff/image_z0.tif", "image/chunks/c/2/2/3", "study.h5", "zarr.json",
                "more/empty/empty.npy"}  # fmt: skip
    assert expected <= set(files)


def test_find(mounted: Path, files: dict[str, bytes]) -> None:
    require("find")
    listing = shell("find", mounted, "-type", "f", "!", "-name", STATUS, "-printf", "%P %s\n")
    expected = sorted(f"{path} {len(data)}" for path, data in files.items())
    assert sorted(listing.splitlines()) == expected
    assert shell("find", mounted, "-name", "*.tif", "-size", "+9000c") != ""


def test_cp_recursive(mounted: Path, files: dict[str, bytes], tmp_path: Path) -> None:
    require("cp")
    shell("cp", "-r", "--preserve=timestamps", mounted, tmp_path / "copy")
    assert_same(tmp_path / "copy", files)


def test_tar(mounted: Path, files: dict[str, bytes], tmp_path: Path) -> None:
    require("tar")
    shell("tar", "-C", mounted, "-cf", tmp_path / "all.tar", ".")
    with tarfile.open(tmp_path / "all.tar") as archive:
        archive.extractall(tmp_path / "copy", filter="data")
    assert_same(tmp_path / "copy", files)


def test_rsync(mounted: Path, files: dict[str, bytes], tmp_path: Path) -> None:
    require("rsync")
    copy = tmp_path / "copy"
    shell("rsync", "-rt", f"{mounted}/", copy)
    assert_same(copy, files)
    # Sizes and times are stable: a second run, dry, finds nothing to do.
    assert shell("rsync", "-rtni", f"{mounted}/", copy) == ""


def test_sha256sum(mounted: Path, files: dict[str, bytes]) -> None:
    require("sha256sum")
    for line in shell("sha256sum", *(mounted / path for path in files)).splitlines():
        digest, path = line.split("  ", 1)
        data = files[str(Path(path).relative_to(mounted))]
        assert digest == hashlib.sha256(data).hexdigest()


def test_du(mounted: Path, files: dict[str, bytes]) -> None:
    require("du")
    apparent = int(shell("du", "-sb", mounted).split()[0])
    assert apparent >= sum(len(data) for data in files.values())
    blocks = sum(-(-len(data) // 512) for data in files.values())
    assert int(shell("du", "-s", "--block-size=512", mounted).split()[0]) == blocks


def test_cmp_and_dd(mounted: Path, tmp_path: Path) -> None:
    require("cmp", "dd")
    np.save(tmp_path / "image.npy", VALUES)
    shell("cmp", tmp_path / "image.npy", mounted / "image/image.npy")
    shell("dd", f"if={mounted}/image/image.npy", f"of={tmp_path}/part", "bs=777", "skip=3",
          "count=5", "status=none")  # fmt: skip
    whole = (tmp_path / "image.npy").read_bytes()
    assert (tmp_path / "part").read_bytes() == whole[3 * 777 : 8 * 777]


def test_times_and_sizes_survive_a_remount(store: Path, mount: Mount) -> None:
    def look(root: Path) -> dict[str, tuple[int, int, int, int]]:
        return {
            str(path.relative_to(root)): (s.st_size, s.st_mtime_ns, s.st_mode, s.st_nlink)
            for path in sorted(root.rglob("*"))
            if path.name != STATUS
            for s in [path.stat()]
        }

    assert look(mount(store)) == look(mount(store))


def test_readers_of_the_format_see_the_same_array(mounted: Path) -> None:
    group = zarr.open_group(mounted, mode="r")
    np.testing.assert_array_equal(group["image"][...], VALUES)


def resident(pid: int) -> int:
    """Bytes of memory a process has."""
    fields = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in fields.splitlines() if "VmHWM" in line)) * 1024


@pytest.mark.parametrize("format", ["zarr2", "n5"])
def test_a_million_chunk_names_stream(format: str, tmp_path: Path, mount: Mount) -> None:
    require("ls")
    root = tmp_path / "huge"
    if format == "zarr2":
        huge: dict[str, Any] = {
            "zarr_format": 2, "shape": [1000, 1000], "chunks": [1, 1], "dtype": "<u2", "order": "C",
            "compressor": None, "filters": None, "fill_value": 0,
        }  # fmt: skip
        root.mkdir()
        (root / ".zarray").write_text(json.dumps(huge))
        folder, first, last = "chunks", "0.0", "999.999"
    else:
        write_n5(root, "v", np.ones((2, 2), "u1"), (1, 2))
        document = root / "v/attributes.json"
        huge = json.loads(document.read_text())
        huge |= {"dimensions": [2, 1_000_000], "blockSize": [2, 1]}
        document.write_text(json.dumps(huge))
        folder, first, last = "v/chunks/0", "0", "999999"
    mounted = mount(root)
    os.listdir(mounted)
    pid = mounts.status(str(mounted))["pid"]
    before = resident(pid)
    names = shell("ls", "-U", mounted / folder).splitlines()
    assert len(names) == len(set(names)) == 1_000_000
    assert (names[0], names[-1]) == (first, last)
    assert resident(pid) - before < 30 << 20
    assert (mounted / folder / last).stat().st_size == 2


def assert_same(copy: Path, files: dict[str, bytes]) -> None:
    assert all((copy / folder).is_dir() for folder in ("none", "more/none", "image/none"))
    found = {
        str(path.relative_to(copy)): path
        for path in copy.rglob("*")
        if path.is_file() and path.name != STATUS
    }
    assert sorted(found) == sorted(files)
    for name, path in found.items():
        assert path.read_bytes() == files[name], name
