"""Stored references: arrays in zarr 2.18.7's source package, encoded vectors in numcodecs 0.16.6's.

What is not read is listed here, with the reason that znfs gives.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr

from tests.reading import read_array, same
from tests.sources import source_folder
from znfs.codecs import CODECS, Decoder
from znfs.codecs.vlen import Packed
from znfs.errors import Unsupported
from znfs.meta import VARIABLE_BYTES, VARIABLE_TEXT, CodecSpec

VERSIONS = {"zarr": "2.18.7", "numcodecs": "0.16.6"}
ARRAYS = 173
VECTORS = 1079
# codec: how many vectors are refused, and words of the reason
REFUSED = {
    "blosc": (13, "snappy"),
    "categorize": (4, "cannot be applied to '|O'"),
    "json": (16, "Python objects"),
    "json2": (18, "Python objects"),
    "msgpack2": (11, "Python objects"),
    **({} if "pcodec" in CODECS else {"pcodec": (100, "needs a library")}),
    "pickle": (40, "runs code"),
    "vlen-array": (16, "variable length"),
    "zfpy": (32, "needs a library"),
}
# Lossy filters: the reference is what numcodecs decodes, not what was encoded.
LOSSY = {"astype", "categorize", "fixedscaleoffset", "quantize"}


@pytest.fixture(scope="module")
def sources() -> Iterator[dict[str, Future[Path]]]:
    """Both packages, fetched side by side: pip builds what each needs to tell its own name."""
    with ThreadPoolExecutor() as pool:
        yield {name: pool.submit(source_folder, name, at) for name, at in VERSIONS.items()}


def test_every_array_of_zarr(
    sources: dict[str, Future[Path]], tmp_path: Path, found: Callable[..., None]
) -> None:
    fixture = sources["zarr"].result() / "fixture"
    folders = sorted(path.parent for path in fixture.rglob(".zarray"))
    assert len(folders) == ARRAYS
    for k, folder in enumerate(folders):
        _, got = read_array(folder)
        copy = tmp_path / str(k)
        shutil.copytree(folder, copy)
        document = json.loads((copy / ".zarray").read_text())
        if document["dtype"][1] in "SU":
            document["fill_value"] = None  # written as 0, which zarr-python 3 does not read
            (copy / ".zarray").write_text(json.dumps(document))
        assert same(got, zarr.open_array(copy, mode="r")[...]), folder
    found("Zarr v2", "fixture/ of zarr 2.18.7's source (not mounted)", "zarr-python 2.18.7",
          "zarr-python 3", "equal", ARRAYS)  # fmt: skip


VARIABLE = {"vlen-utf8": VARIABLE_TEXT, "vlen-bytes": VARIABLE_BYTES}


def elements(block: np.ndarray, count: int) -> list[bytes]:
    """The elements of variable length of a block."""
    packed = Packed(block, count)
    raw = packed.words.tobytes()
    places = zip(packed.starts.tolist(), packed.lengths.tolist(), strict=False)
    return [raw[8 * start : 8 * start + length] for start, length in places]


def chain(array: np.ndarray, spec: CodecSpec) -> tuple[CodecSpec, ...]:
    layout = [CodecSpec("bytes", {"stored": array.dtype})]
    if array.flags.f_contiguous and array.ndim > 1:
        layout.insert(0, CodecSpec("transpose", {"order": list(range(array.ndim))[::-1]}))
    return (*layout, spec)


def test_every_vector_of_numcodecs(
    sources: dict[str, Future[Path]], found: Callable[..., None]
) -> None:
    fixture = sources["numcodecs"].result() / "fixture"
    files = sorted(fixture.rglob("encoded.*.dat"))
    assert len(files) == VECTORS
    refused: Counter[str] = Counter()
    equal: Counter[str] = Counter()
    for file in files:
        config = json.loads((file.parent / "config.json").read_text())
        codec = config.pop("id")
        array_file = file.parent.parent / f"array.{file.name.split('.')[1]}.npy"
        array = np.load(array_file, allow_pickle=True)  # the package's own, of objects in part
        if codec in VARIABLE:
            decoder = Decoder([CodecSpec(codec)], VARIABLE[codec], array.shape, b"", 1 << 20)
            got = elements(decoder.decode(file.read_bytes()), array.size)
            flat = [v if isinstance(v, bytes) else v.encode() for v in array.ravel("A")]
            assert got == flat, file
            equal[codec] += 1
            continue
        objects = array.dtype == object
        dtype = np.dtype("S1") if objects else array.dtype.newbyteorder("<")
        sample = np.zeros(array.shape, dtype) if objects else array
        try:
            specs = chain(sample, CodecSpec(codec, config))
            decoder = Decoder(specs, dtype, array.shape, bytes(dtype.itemsize))
        except Unsupported as error:
            refused[codec] += REFUSED[codec][1] in str(error)
            continue
        data = file.read_bytes()
        got = decoder.decode(data)
        expected = array
        if codec in LOSSY:
            flat = np.asarray(numcodecs.get_codec({"id": codec, **config}).decode(data))
            expected = flat.reshape(array.shape, order="F" if len(specs) == 3 else "C")
        assert same(got, expected), file
        equal[codec] += 1
    assert refused == {codec: count for codec, (count, _) in REFUSED.items()}
    form, writer = "Codecs (vectors of numcodecs, not mounted)", "numcodecs 0.16.6"
    for codec, count in equal.items():
        oracle = "numcodecs" if codec in LOSSY else "the array that was encoded"
        found(form, codec, writer, oracle, "equal", count)
    for codec, (count, why) in REFUSED.items():
        found(form, codec, writer, "–", f"refused: {why}", count)
