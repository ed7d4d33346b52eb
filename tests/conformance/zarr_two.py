"""Run by a Python that has zarr 2: writes stores below the folder argv[1], and what they hold.

Prints a JSON list of [path, feature]; what zarr 2 itself reads is saved beside, as PATH.npy.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numcodecs as nc
import numpy as np
import zarr

SHAPE, CHUNKS = (5, 9, 11), (2, 4, 6)
TYPES = [
    f"{order}{kind}" for order in "<>"
    for kind in ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "U5", "M8[us]",
                 "m8[10ms]")
] + ["|b1", "|i1", "|u1", "|S7", "|V5", "<f16"]  # fmt: skip
STRUCT = np.dtype([("a", ">i2"), ("b", "<f8"), ("c", "u1", (2, 3)), ("d", "S3")])
VARIABLE: dict[str, dict[str, Any]] = {
    "data type |O, vlen-utf8 (HDF5)": {"dtype": object, "object_codec": nc.VLenUTF8()},
    "data type |O, vlen-utf8, order F (HDF5)": {
        "dtype": object, "object_codec": nc.VLenUTF8(), "order": "F", "compressor": nc.GZip(3)},
    "data type |O, vlen-bytes (HDF5)": {
        "dtype": object, "object_codec": nc.VLenBytes(), "fill_value": None},
}  # fmt: skip
FEATURES: dict[str, dict[str, Any]] = {
    "order F": {"order": "F"},
    "order F, chain of filters": {
        "order": "F", "filters": [nc.Delta("<u2"), nc.Shuffle(2), nc.CRC32()]},
    "dimension_separator '/'": {"dimension_separator": "/"},
    "no compressor": {"compressor": None},
    "no fill value": {"fill_value": None},
    "fill value NaN": {"dtype": "f4", "fill_value": np.nan},
    "fill value Infinity": {"dtype": "f8", "fill_value": np.inf},
    "fill value of a datetime NaT": {"dtype": "M8[s]", "fill_value": np.datetime64("NaT")},
    "fill value of a struct": {"dtype": STRUCT, "fill_value": np.zeros((), STRUCT)[()]},
    "fill value of bytes": {"dtype": "S4", "fill_value": b"\xff\0z"},
    "filter fixedscaleoffset": {"dtype": "f8", "filters": [
        nc.FixedScaleOffset(offset=-500, scale=10, dtype="<f8", astype="<i4")]},
    "filter quantize": {"dtype": "f8", "filters": [nc.Quantize(2, "<f8")]},
    "filter bitround": {"dtype": "f4", "filters": [nc.BitRound(9)]},
    "filter packbits": {"dtype": "bool", "filters": [nc.PackBits()]},
    "filter astype": {"dtype": "f8", "filters": [nc.AsType("<f4", "<f8")]},
    "filter categorize": {"dtype": "U3", "filters": [nc.Categorize(["", "0"], "<U3")]},
    "filter fletcher32": {"filters": [nc.Fletcher32()]},
    "filter adler32": {"filters": [nc.Adler32()]},
    "filter jenkins_lookup3": {"filters": [nc.JenkinsLookup3()]},
    "filter base64": {"filters": [nc.Base64()]},
    "lzma": {"compressor": nc.LZMA(preset=1)},
    "lzma, raw with filters": {"compressor": nc.LZMA(format=3, filters=[
        {"id": 3, "dist": 2}, {"id": 33, "preset": 1}])},
    "zlib": {"compressor": nc.Zlib(3)}, "gzip": {"compressor": nc.GZip(3)},
    "bz2": {"compressor": nc.BZ2()}, "lz4": {"compressor": nc.LZ4()},
    "zstd": {"compressor": nc.Zstd(3)},
    **{f"blosc {name}, {shuffle}": {"compressor": nc.Blosc(name, 5, shuffle)}
       for name, shuffle in [("lz4", 1), ("lz4hc", 0), ("zstd", 2), ("zlib", 1), ("blosclz", -1)]},
}  # fmt: skip


def data(dtype: np.dtype[Any]) -> Any:
    rng = np.random.default_rng(3)
    count = int(np.prod(SHAPE))
    if dtype.kind == "O":
        texts = rng.integers(0, 10**4, SHAPE).astype(str).astype(object)
        return texts * rng.integers(0, 9, SHAPE)
    if dtype.kind in "SU":
        return rng.integers(0, 10**4, SHAPE).astype(str).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, SHAPE).astype(dtype)
    if dtype.kind in "fc":
        return (rng.standard_normal(SHAPE) * 100).astype(dtype)
    return np.frombuffer(rng.bytes(count * dtype.itemsize), dtype).reshape(SHAPE)


def main(root: Path) -> None:
    made = []
    cases = [(f"data type {d}", {"dtype": d}) for d in TYPES]
    cases += [("data type struct with a sub-array", {"dtype": STRUCT})]
    cases += [*VARIABLE.items(), *FEATURES.items()]
    for number, (feature, more) in enumerate(cases):
        name = f"a{number}"
        more = {"shape": SHAPE, "chunks": CHUNKS, "dtype": "<u2", **more}
        if np.dtype(more["dtype"]).kind == "V":
            more.setdefault("fill_value", None)  # zarr 2 makes no void of its default, 0
        array = zarr.open(str(root / name), mode="w", write_empty_chunks=True, **more)
        # The first row of chunks is missing, where zarr 2 does not read noise for that.
        first = 0 if array.fill_value is None else 2
        values = data(array.dtype)
        if "vlen-bytes" in feature:
            values = values.astype("S").astype(object)
        array[first:] = values[first:]
        made.append((name, feature))
    group = zarr.open_group(str(root / "group"), mode="w")
    group.create_dataset("below", data=np.arange(20.0), chunks=(7,))
    zarr.consolidate_metadata(str(root / "group"))
    made.append(("group/below", ".zmetadata"))
    zarr.array(np.array(7.5), store=str(root / "scalar"))
    zarr.zeros((0, 3), chunks=(2, 2), store=str(root / "empty"))
    made += [("scalar", "no dimensions"), ("empty", "an extent of 0")]
    for name, feature in made:
        read = np.asarray(zarr.open(str(root / name), mode="r")[...])
        if read.dtype == object:  # to be saved without pickle
            read = read.astype("S" if "vlen-bytes" in feature else "U")
        np.save(root / f"{name.replace('/', '-')}.npy", read, allow_pickle=False)
    print(json.dumps(made))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
