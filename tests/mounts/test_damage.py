"""Damaged chunks and documents: an error for what they concern, and everything else reads."""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from demo.write import write_n5
from tests.conftest import Mount, znfs
from znfs.daemon import mounts

VALUES = np.arange(1, 4 * 64 * 64 + 1, dtype="u2").reshape(4, 64, 64)
CHUNKS = (1, 64, 64)  # two pages: the kernel reads no less than a page, whole or not at all
BAD = 2  # the chunk that is damaged

Damage = Callable[[bytes], bytes]
DAMAGES: dict[str, Damage] = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "random": lambda data: np.random.default_rng(0).bytes(len(data)),
    "one byte flipped": lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
}


def zarr_array(root: Path, chunk: str, **more: Any) -> Path:
    array = zarr.create_array(root, shape=VALUES.shape, chunks=CHUNKS, dtype="u2", **more)
    array[...] = VALUES
    return root / chunk


def make(kind: str, root: Path) -> Path:
    """A store whose chunk number BAD is the file returned."""
    if kind == "n5":
        write_n5(root, "a", VALUES, CHUNKS)
        return root / f"a/0/0/{BAD}"
    zarr.create_group(root)
    if kind == "zarr2":
        return zarr_array(root / "a", f"{BAD}.0.0", zarr_format=2, compressors=None)
    return zarr_array(root / "a", f"c/{BAD}/0/0", compressors=[
        zarr.codecs.GzipCodec(), zarr.codecs.Crc32cCodec()])  # fmt: skip


def fails(path: Path) -> None:
    with pytest.raises(OSError, match="error") as caught:
        path.read_bytes()
    assert caught.value.errno == errno.EIO


# Without a checksum a flipped byte of uncompressed data cannot be seen.
CASES = [
    (kind, name)
    for kind in ("zarr2", "zarr3", "n5")
    for name in DAMAGES
    if (kind, name) not in (("zarr2", "random"), ("zarr2", "one byte flipped"))
]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_damaged_chunk_is_eio_for_itself_alone(
    kind: str, name: str, tmp_path: Path, mount: Mount
) -> None:
    bad = make(kind, tmp_path / "g")
    whole = bad.read_bytes()
    bad.write_bytes(DAMAGES[name](whole))
    mounted = mount(tmp_path / "g")
    array = mounted / "a"
    key = {"zarr2": "{}.0.0", "zarr3": "c/{}/0/0", "n5": "0/0/{}"}[kind]
    for z in range(4):
        plane = sorted((array / "tiff").iterdir())[z]
        chunk = array / "chunks" / key.format(z)
        if z == BAD:
            fails(chunk)
            fails(plane)
        else:
            assert chunk.read_bytes() == VALUES[z].tobytes()
            assert plane.read_bytes().endswith(VALUES[z].tobytes())
    with (array / "a.npy").open("rb") as file:
        start = os.fstat(file.fileno()).st_size - VALUES.nbytes
        size = VALUES[0].nbytes
        assert os.pread(file.fileno(), size, start) == VALUES[0].tobytes()
        with pytest.raises(OSError, match="error") as caught:
            os.pread(file.fileno(), size, start + BAD * size)
        assert caught.value.errno == errno.EIO
        half = size // 2
        assert os.pread(file.fileno(), half, start + 3 * size + half) == VALUES[3, 32:].tobytes()
    assert bad.read_bytes() == (array / bad.relative_to(tmp_path / "g/a")).read_bytes()
    assert mounts.status(str(mounted))["cache"]["errors"] > 0


def test_chunk_of_the_wrong_length(tmp_path: Path, mount: Mount) -> None:
    for number, factor in enumerate((0.5, 2)):
        root = tmp_path / f"{number}.zarr"
        bad = zarr_array(root, f"c/{BAD}/0/0", compressors=None)
        bad.write_bytes(bytes(int(VALUES[0].nbytes * factor)))
        mounted = mount(root)
        fails(mounted / f"chunks/c/{BAD}/0/0")
        assert (mounted / "chunks/c/1/0/0").read_bytes() == VALUES[1].tobytes()


def test_n5_block_header_that_lies(tmp_path: Path, mount: Mount) -> None:
    root = tmp_path / "g.n5"
    bad = make("n5", root)
    body = bad.read_bytes()[16:]
    mounted = mount(root)
    for header in (
        struct.pack(">HH3I", 0, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1),
        struct.pack(">HH3I", 0, 9, 64, 64, 1),
        struct.pack(">HH3I", 7, 3, 64, 64, 1),
        struct.pack(">HH3I", 0, 3, 65, 64, 1),
    ):
        bad.write_bytes(header + body)
        znfs("refresh", mounted)
        fails(mounted / f"a/chunks/0/0/{BAD}")
        assert (mounted / "a/chunks/0/0/1").read_bytes() == VALUES[1].tobytes()


def test_a_repaired_chunk_reads_again(tmp_path: Path, mount: Mount) -> None:
    bad = make("zarr3", tmp_path / "g")
    whole = bad.read_bytes()
    bad.write_bytes(whole[:10])
    mounted = mount(tmp_path / "g")
    with (mounted / "a/a.npy").open("rb") as file:
        start = os.fstat(file.fileno()).st_size - VALUES.nbytes + BAD * VALUES[0].nbytes
        with pytest.raises(OSError, match="error"):
            os.pread(file.fileno(), 128, start)
        bad.write_bytes(whole)
        assert os.pread(file.fileno(), 128, start) == VALUES[BAD].tobytes()[:128]


V3: dict[str, Any] = {
    "zarr_format": 3, "node_type": "array", "shape": [4], "data_type": "uint16",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0,
    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
}  # fmt: skip
V2: dict[str, Any] = {
    "zarr_format": 2, "shape": [4], "chunks": [2], "dtype": "<u2", "order": "C",
    "compressor": None, "filters": None, "fill_value": 0,
}  # fmt: skip
N5: dict[str, Any] = {
    "dimensions": [4], "blockSize": [2], "dataType": "uint16", "compression": {"type": "raw"},
}  # fmt: skip
BAD_DOCUMENTS: dict[str, tuple[str, str | dict[str, Any]]] = {
    "not JSON": ("zarr.json", "{'zarr_format': 3"),
    "a list": ("zarr.json", "[1, 2]"),
    "deep": ("zarr.json", "[" * 100_000),
    "bytes": (".zarray", "\ufeff\x00\x01"),
    "negative shape": ("zarr.json", V3 | {"shape": [-4]}),
    "shape of floats": ("zarr.json", V3 | {"shape": [4.5]}),
    "shape no list": (".zarray", V2 | {"shape": "4"}),
    "chunks of zero": (".zarray", V2 | {"chunks": [0]}),
    "other number of axes": (".zarray", V2 | {"chunks": [2, 2]}),
    "million axes": (".zarray", V2 | {"shape": [1] * 10**6, "chunks": [1] * 10**6}),
    "chunks of 2^60": (".zarray", V2 | {"shape": [2**60], "chunks": [2**60]}),
    "unknown type": ("zarr.json", V3 | {"data_type": "uint17"}),
    "code": (".zarray", V2 | {"dtype": "|O", "filters": [{"id": "pickle"}]}),
    "unknown codec": ("zarr.json", V3 | {"codecs": [{"name": "not-a-codec"}]}),
    "no codecs": ("zarr.json", V3 | {"codecs": []}),
    "must be understood": ("zarr.json", V3 | {"new": {"must_understand": True}}),
    "n5 without a type": ("attributes.json", N5 | {"dataType": None}),
    "n5 negative": ("attributes.json", N5 | {"blockSize": [-2]}),
}


def test_bad_documents_hide_only_their_node(tmp_path: Path, mount: Mount) -> None:
    root = tmp_path / "all"
    for name, (file, document) in BAD_DOCUMENTS.items():
        (root / name).mkdir(parents=True)
        text = document if isinstance(document, str) else json.dumps(document)
        (root / name / file).write_text(text)
    zarr.create_array(root / "good", data=VALUES)
    (root / "empty array").mkdir()
    (root / "empty array" / ".zarray").write_text(json.dumps(V2 | {"shape": [0]}))
    huge = V2 | {"shape": [2**60], "chunks": [2**20], "dtype": "|u1"}
    (root / "huge").mkdir()
    (root / "huge" / ".zarray").write_text(json.dumps(huge))
    mounted = mount(root)

    for name, (file, document) in BAD_DOCUMENTS.items():
        views = {f"{name}.npy", "chunks", f"{name}.h5"}
        assert not views & set(os.listdir(mounted / name)), name
        if len(str(document)) < 10_000:  # its document reads raw
            assert (mounted / name / file).read_bytes() == (root / name / file).read_bytes()
    np.testing.assert_array_equal(np.load(mounted / "good/good.npy"), VALUES)
    assert np.load(mounted / "empty array/empty array.npy").shape == (0,)
    assert (mounted / "huge/huge.npy").stat().st_size == 2**60 + 128
    with (mounted / "huge/huge.npy").open("rb") as file_:
        assert os.pread(file_.fileno(), 10, 2**59) == bytes(10)

    told = {node["path"]: node for node in json.loads(znfs("info", root, "--json").stdout)["nodes"]}
    for name in BAD_DOCUMENTS:
        assert told[name]["remarks"], name
