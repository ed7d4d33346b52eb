"""Zarr's strings and bytes of variable length as HDF5's: their sizes take reading no chunk."""

from __future__ import annotations

import os
import subprocess
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.dtype import VariableLengthBytes

from tests.hdf5.support import Seekable, materialise, resolve, tree
from znfs.arrays.array import Array
from znfs.node import File
from znfs.stores.local import LocalStore
from znfs.tree import Tree
from znfs.views import hdf5
from znfs.views.hdf5 import variable
from znfs.views.hdf5.heap import encode_collection

pytestmark = pytest.mark.filterwarnings("ignore")

_RNG = np.random.default_rng(11)
_WORDS = ["", "a", "é", "日本語" * 9, "x" * 300, "y" * 5000, "1234567", "12345678"]
_LAYOUTS = [
    hdf5.Layout(), hdf5.Layout(index="implicit"), hdf5.Layout(merge=2), hdf5.Layout(merge=1000)
]  # fmt: skip


def _words(*shape: int) -> np.ndarray[Any, Any]:
    likely = [0.2, 0.2, 0.2, 0.1, 0.1, 0.01, 0.1, 0.09]
    return _RNG.choice(np.array(_WORDS, object), shape, p=likely)


def _text(dataset: h5py.Dataset, place: Any = ()) -> Any:
    found = dataset.asstr()[place]
    return found.tolist() if isinstance(found, np.ndarray) else found


def _array(opened: Tree) -> Array:
    node = opened.resolve("").node  # type: ignore[union-attr]
    assert isinstance(node, Array)
    return node


def _check_ranges(file: File, whole: bytes) -> None:
    """Any range reads as in the file read in order; so do ranges where chunks begin."""
    starts = _RNG.integers(0, file.size, 60).tolist()
    for start in [*starts, file.size - 100]:
        assert file.read(start, 5000) == whole[start : start + 5000]
    for _ in range(5):
        start, stop = sorted(_RNG.integers(0, file.size, 2).tolist())
        assert file.read(start, stop - start) == whole[start:stop]


_ARRAYS: dict[str, dict[str, Any]] = {
    "2": {"zarr_format": 2},
    "2, no compressor": {"zarr_format": 2, "compressors": None},
    "2, blosc": {"zarr_format": 2, "compressors": "blosc"},
    "2, order F": {"zarr_format": 2, "order": "F"},
    "3": {},
    "3, blosc": {"compressors": [BloscCodec()]},
    "3, shards": {"shards": (60, 40), "compressors": [ZstdCodec()]},
    "3, no compressor": {"compressors": None},
}


@pytest.mark.parametrize("layout", _LAYOUTS, ids=str)
@pytest.mark.parametrize("kind", _ARRAYS)
def test_text(kind: str, layout: hdf5.Layout, tmp_path: Path) -> None:
    """Cut chunks, chunks that are not stored, all codecs, compared with zarr-python."""
    more = dict(_ARRAYS[kind])
    if more.get("compressors") == "blosc":
        from numcodecs import Blosc

        more["compressors"] = Blosc()
    written = zarr.create_array(
        tmp_path / "a.zarr", shape=(70, 61), chunks=(30, 20), dtype=str, fill_value="né", **more
    )
    written[:60] = _words(60, 61)
    expected = written[...].tolist()
    with tree(tmp_path / "a.zarr") as opened:
        file = hdf5.array_file(_array(opened), "a", layout)
        with h5py.File(Seekable(file)) as h5:
            assert tuple(h5py.check_string_dtype(h5["a"].dtype)) == ("utf-8", None)
            assert _text(h5["a"]) == expected
            assert _text(h5["a"], np.s_[45:66, ::7]) == written[45:66, ::7].tolist()
        copy = materialise(file, tmp_path / "copy.h5")
        _check_ranges(file, copy.read_bytes())
    if kind == "3":
        done = subprocess.run(["h5dump", copy], capture_output=True)
        assert done.returncode == 0, done.stderr
        repacked = tmp_path / "repacked.h5"
        subprocess.run(["h5repack", copy, repacked], check=True)
        subprocess.run(["h5diff", copy, repacked], check=True)
        with h5py.File(repacked) as h5:
            assert _text(h5["a"]) == expected


@pytest.mark.parametrize("fmt", [2, 3])
@pytest.mark.parametrize("layout", _LAYOUTS, ids=str)
def test_bytes(fmt: int, layout: hdf5.Layout, tmp_path: Path) -> None:
    values = np.array([b"", b"\0", b"a\0b", bytes(range(256)), b"x" * 9, b"12345678"], object)
    written = zarr.create_array(
        tmp_path / "a.zarr", shape=(8,), chunks=(3,), dtype=VariableLengthBytes(),
        zarr_format=fmt, fill_value=b"\xff\0",
    )  # fmt: skip
    written[:6] = values
    with tree(tmp_path / "a.zarr") as opened:
        file = hdf5.array_file(_array(opened), "a", layout)
        with h5py.File(Seekable(file)) as h5:
            assert [item.tobytes() for item in h5["a"][...]] == [*values, b"\xff\0", b"\xff\0"]
        copy = materialise(file, tmp_path / "copy.h5")
        _check_ranges(file, copy.read_bytes())
    done = subprocess.run(["h5dump", copy], capture_output=True)
    assert done.returncode == 0, done.stderr


def test_a_fill_value_that_does_not_fit(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "g.zarr")
    for name, length in (("fits", 16_384), ("not", 16_385)):
        group.create_array(name, shape=(64,), chunks=(16,), dtype=str, fill_value="x" * length)
    with (
        tree(tmp_path / "g.zarr") as opened,
        h5py.File(Seekable(resolve(opened, "g.h5"))) as h5,
    ):
        remarks = {d.path: "\n".join(d.remarks) for d in opened.describe()}
        assert list(h5) == ["fits"]
        assert _text(h5["fits"]) == ["x" * 16_384] * 64
    assert "a fill value of 16385 bytes" in remarks["not"]
    assert "not is left out" in remarks[""]


@pytest.mark.parametrize("fmt", [2, 3])
def test_scalars_empty_arrays_and_chunks_beyond_the_shape(fmt: int, tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "g.zarr", zarr_format=fmt)
    group.create_array("scalar", shape=(), dtype=str)[...] = "é" * 300_000
    group.create_array("unset", shape=(), dtype=str, fill_value="unset")
    group.create_array("empty", shape=(0, 3), chunks=(2, 2), dtype=str)
    wide = group.create_array("wide", shape=(3, 2), chunks=(50, 40), dtype=str, fill_value="pad")
    wide[...] = [["a", "bé"], ["", "d"], ["e", "f"]]
    with (
        tree(tmp_path / "g.zarr") as opened,
        h5py.File(Seekable(resolve(opened, "g.h5"))) as h5,
    ):
        assert h5["scalar"].asstr()[()] == "é" * 300_000
        assert h5["unset"].asstr()[()] == "unset"
        assert h5["empty"].shape == (0, 3)
        assert h5["wide"].chunks == (3, 2)
        assert _text(h5["wide"]) == wide[...].tolist()


def test_other_views_are_left_out_and_said_so(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(3, 4), dtype=str, chunks=(2, 2))[...] = "x"
    with tree(tmp_path / "a.zarr") as opened:
        views = set(opened.resolve("").names())  # type: ignore[union-attr]
        assert views == {"a.h5", ".znfs", "zarr.json"}
        (described,) = opened.describe()
        told = "\n".join(described.remarks)
        assert opened.resolve("c/0/0").size > 0  # type: ignore[union-attr]
    assert "no chunks, a.npy: its elements are of variable length" in told
    assert "TIFF has no sample format for string" in told
    assert "take more than 262144 bytes together cannot be read" in told
    assert "--string-bytes 256" in told


def test_a_chunk_that_does_not_fit(tmp_path: Path) -> None:
    """An error that names the chunk, for its reads only; there is more room for who asks for it."""
    written = zarr.create_array(tmp_path / "a.zarr", shape=(40,), chunks=(1,), dtype=str)
    written[...] = "fits"
    written[7] = "x" * (64 << 10)
    written[8] = "y" * ((64 << 10) + 1)
    with (
        tree(tmp_path / "a.zarr") as opened,
        h5py.File(Seekable(resolve(opened, "a.h5"))) as h5,
    ):
        assert _text(h5["a"], np.s_[:8]) == written[:8].tolist()
        assert _text(h5["a"], np.s_[9:]) == ["fits"] * 31
        with pytest.raises(Exception, match=r"c/8: .*more than the 65544 bytes.*string-bytes"):
            h5["a"][8]
    with (
        tree(tmp_path / "a.zarr", string_bytes=70_000) as opened,
        h5py.File(Seekable(resolve(opened, "a.h5"))) as h5,
    ):
        assert _text(h5["a"]) == written[...].tolist()


def test_chunks_that_lie(tmp_path: Path) -> None:
    """What zarr-python would read, too, or refuse; the other chunks read, and these once mended."""
    path = tmp_path / "a.zarr"
    written = zarr.create_array(
        path, shape=(12,), chunks=(2,), dtype=str, zarr_format=2, compressors=None
    )
    written[...] = [f"n{i}" for i in range(12)]
    good = (path / "0").read_bytes()
    damaged = {
        "1": (b"\3" + good[1:], "3 elements where 2 belong"),
        "2": (good[:4] + b"\xff" * 4 + good[8:], "truncated"),
        "3": (good.replace(b"n0", b"\xff\xfe"), "utf-8"),
        "4": (good.replace(b"n0", b"a\0"), "NUL"),
    }
    for key, (data, _) in damaged.items():
        (path / key).write_bytes(data)
    with tree(path) as opened, h5py.File(Seekable(resolve(opened, "a.h5"))) as h5:
        assert _text(h5["a"], np.s_[:2]) == ["n0", "n1"]
        assert _text(h5["a"], np.s_[10:]) == ["n10", "n11"]
        for key, (_, words) in damaged.items():
            at = 2 * int(key)
            with pytest.raises(Exception, match=rf"^{key}: .*{words}"):
                h5["a"][at]
        (path / "1").write_bytes(good)
        assert _text(h5["a"], np.s_[2:4]) == ["n0", "n1"]


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each chunk was asked for."""
    counts: Counter[str] = Counter()
    get = LocalStore.get

    def counted(self: LocalStore, key: str, *arguments: Any, **more: Any) -> Any:
        if os.path.basename(key).isdigit():
            counts[key] += 1
        return get(self, key, *arguments, **more)

    monkeypatch.setattr(LocalStore, "get", counted)
    return counts


@pytest.mark.parametrize("layout", [_LAYOUTS[0], _LAYOUTS[2]], ids=str)
def test_each_chunk_is_asked_for_once(
    layout: hdf5.Layout, tmp_path: Path, fetched: Counter[str]
) -> None:
    """None for the size; then one each, in order, though the cache holds but a part of them."""
    written = zarr.create_array(
        tmp_path / "a.zarr", shape=(20_000,), chunks=(1000,), dtype=str, zarr_format=2
    )
    written[...] = np.array([f"value {i:040}" for i in range(20_000)], object)
    with tree(tmp_path / "a.zarr", cache_size=400 << 10) as opened:
        file = hdf5.array_file(_array(opened), "a", layout)
        assert file.size > 20 * 256_000
        assert not fetched
        materialise(file, tmp_path / "copy.h5")
    assert fetched == {str(i): 1 for i in range(20)}


def _annotated(path: Path, fmt: int) -> dict[str, Any]:
    """A store laid out as AnnData's (encoding 0.1.0 and 0.2.0 of the on-disk format)."""
    rng = np.random.default_rng(5)
    cells = np.array([f"cell-é{i}" for i in range(500)], object)
    genes = np.array([f"GENE{i}" for i in range(40)], object)
    types = np.array(["B cell", "T cell", "", "日本語"], object)
    expected: dict[str, Any] = {
        "X": rng.random((500, 40), "f4"),
        "obs/_index": cells,
        "obs/cell_type/categories": types,
        "obs/cell_type/codes": rng.integers(-1, 4, 500).astype("i1"),
        "var/_index": genes,
        "uns/title": np.array("a title", object),
    }
    root = zarr.create_group(path, zarr_format=fmt)
    root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    for name in ("obs", "var"):
        table = {"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"}
        root.create_group(name, attributes={**table, "column-order": []})
    root.create_group("obs/cell_type", attributes={"encoding-type": "categorical"})
    for name, values in expected.items():
        dtype = str if values.dtype == object else values.dtype
        chunks = tuple(max(1, n // 2) for n in values.shape)
        attributes = {"encoding-type": "string-array", "encoding-version": "0.2.0"}
        array = root.create_array(
            name, shape=values.shape, chunks=chunks, dtype=dtype, attributes=attributes
        )
        array[...] = values if values.shape else values.item()
    return expected


@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.parametrize("fmt", [2, 3])
def test_a_store_like_anndatas(fmt: int, consolidated: bool, tmp_path: Path) -> None:
    expected = _annotated(tmp_path / "x.zarr", fmt)
    if consolidated:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(tmp_path / "x.zarr")
    with (
        tree(tmp_path / "x.zarr") as opened,
        h5py.File(Seekable(resolve(opened, "x.h5"))) as h5,
    ):
        for name, values in expected.items():
            if values.dtype == object:
                assert _text(h5[name]) == values.tolist(), name
            else:
                np.testing.assert_array_equal(h5[name][...], values)
        assert h5["obs"].attrs["_index"] == "_index"
        names = h5["obs/_index"].asstr()[...]
        codes = h5["obs/cell_type/codes"][...]
        kinds = h5["obs/cell_type/categories"].asstr()[...]
        assert names[codes == 3].tolist() == expected["obs/_index"][codes == 3].tolist()
        assert kinds[3] == "日本語"


def test_a_thousand_million_chunks(tmp_path: Path) -> None:
    """The far corner reads without the rest, and little is read for it."""
    path = tmp_path / "a.zarr"
    edge = 1000
    written = zarr.create_array(
        path, shape=(2 * edge,) * 3, chunks=(2,) * 3, dtype=str, fill_value="none"
    )
    written[-1, -1, -1] = "corner"
    with tree(path) as opened:
        file = Seekable(resolve(opened, "a.h5"))
        assert file.file.size > 10**9 * (64 << 10)
        with h5py.File(file) as h5:
            assert h5["a"].asstr()[-1, -1, -1] == "corner"
            assert h5["a"].asstr()[-1, -1, -2] == "none"
            assert h5["a"].asstr()[edge, 5, 7] == "none"
        assert sum(n for _, n in file.reads) < 128 << 10


def test_a_chunk_that_is_rewritten_while_its_long_elements_are_read(tmp_path: Path) -> None:
    """That is for a refresh; until then it reads as one of them, or both, but it does end."""
    written = zarr.create_array(tmp_path / "a.zarr", shape=(1,), chunks=(1,), dtype=str)
    written[:] = ["x" * (3 << 20)]
    with tree(tmp_path / "a.zarr", string_bytes=8 << 20) as opened:
        file, array = resolve(opened, "a.h5"), _array(opened)
        file.read(0, file.size)
        written[:] = ["y" * (6 << 20)]
        array.cache.forget(array.key((0,)))
        again = file.read(0, file.size)
        assert len(again) == file.size
        assert again.count(b"y") == 6 << 20


def test_long_elements_are_laid_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small the pieces are in which they are read."""
    written = zarr.create_array(tmp_path / "a.zarr", shape=(3,), chunks=(3,), dtype=str)
    words = ["x" * (3 << 20), "", "é" * (1 << 20)]
    written[:] = words
    made: Counter[int] = Counter()

    def encode(lengths: Any, text: Any, size: int) -> Any:
        made[size] += 1
        return encode_collection(lengths, text, size)

    monkeypatch.setattr(variable, "encode_collection", encode)
    with tree(tmp_path / "a.zarr", string_bytes=2 << 20) as opened:
        file = resolve(opened, "a.h5")
        assert isinstance(file, File)
        in_pieces = b"".join(file.read(at, 100_000) for at in range(0, file.size, 100_000))
        assert in_pieces == file.read(0, file.size)
        with h5py.File(Seekable(file)) as h5:
            assert _text(h5["a"]) == words
    assert [times for size, times in made.items() if size > 1 << 20] == [1, 1]
