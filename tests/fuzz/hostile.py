"""Stores that something is wrong with: documents and chunks of real ones, changed at random."""

from __future__ import annotations

import copy
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
import zarr.codecs as zc

from demo.write import write_n5
from tests.test_formats_fuzz import CONSOLIDATED, GROUP, N5, OME, STRUCT, ZARR, ZARRAY, places

Files = dict[str, bytes]
# Far more than is there, next to nothing, and what is special to a format or a language.
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 40, 2**31 - 1, 2**31, 2**32, 2**60, 2**63 - 1, 2**63,
    2**64, 10**40, 0.5, 1e300, float("nan"), float("inf"), "", "/", ".", "..", "../..",
    "/etc/passwd", "a/../b", "NaN", "0x7f", "<f8", ">i2", "|O", "|V0", "|S9999999999", "<M8[7s]",
    "r16", "string", "bfloat16", "int4",
    "gzip", "bytes", "zstd", "blosc", "pickle", "transpose", "sharding_indexed", "lzma",
    "group", "array", "F", "C", "x" * 300, "\0", "é",
    "\ud800", "\udcff", "\ud800/.zarray", [], {}, [[]], [2**31] * 3, [0, 0], [1] * 40,
]  # fmt: skip


def store(rng: random.Random, root: Path) -> None:
    """Write a hostile store at `root`."""
    files = dict(rng.choice(_originals()))
    for _ in range(rng.choice([1, 1, 2, 4])):
        name = rng.choice(sorted(files))
        documents = _is_document(name) and rng.random() < 0.8
        files[name] = (document if documents else noise)(rng, files[name])
    if rng.random() < 0.1:
        del files[rng.choice(sorted(files))]
    if rng.random() < 0.15:
        root.mkdir(parents=True)
        _zip(rng, root / "a.zip", files)
        return
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _is_document(name: str) -> bool:
    return name.rpartition("/")[2] in {
        "zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata", "attributes.json",
    }  # fmt: skip


def document(rng: random.Random, data: bytes) -> bytes:
    """A document with one to three values replaced, taken away or wrapped."""
    try:
        value = json.loads(data)
    except ValueError:
        return noise(rng, data)
    for _ in range(rng.choice([1, 1, 2, 3])):
        everywhere = places(value) if isinstance(value, (dict, list)) else []
        if not everywhere:
            break
        *above, last = rng.choice(everywhere)
        parent = value
        for key in above:
            parent = parent[key]
        match rng.randrange(6):
            case 0:
                del parent[last]
            case 1:
                parent[last] = [parent[last]] * rng.choice([1, 2, 40])
            case 2 if isinstance(parent, dict):
                parent[rng.choice([v for v in VALUES if isinstance(v, str)])] = parent.pop(last)
            case _:
                parent[last] = copy.deepcopy(rng.choice(VALUES))
    return json.dumps(value).encode("utf-8", "surrogatepass")


def noise(rng: random.Random, data: bytes) -> bytes:
    """Bytes changed, cut, doubled, or numbers written over them."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 3, 9])):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0:
                del out[at:]
            case 1:
                out[at:at] = rng.randbytes(rng.choice([1, 8, 300]))
            case 2:
                number = rng.choice([0, 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1])
                out[at : at + 8] = number.to_bytes(8, rng.choice(["little", "big"]))
            case 3 if rng.random() < 0.2:
                out = bytearray(rng.choice([1 << 20, 5 << 20]))
            case 4:
                out[at:at] = out[:at]
            case _ if out:
                out[at % len(out)] ^= 1 << rng.randrange(8)
    return bytes(out)


def _zip(rng: random.Random, path: Path, files: Files) -> None:
    method = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(rng.choice([name] * 9 + ["../" + name, "/" + name]), data)
    if rng.random() < 0.5:
        path.write_bytes(noise(rng, path.read_bytes()))


def _originals() -> list[Files]:
    if not _KNOWN:
        _KNOWN.extend(make() for make in (_documents, _group, _surrogates, _structs, *_arrays()))
    return _KNOWN


_KNOWN: list[Files] = []


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _documents() -> Files:
    return {
        ".zmetadata": _json(CONSOLIDATED), ".zgroup": _json({"zarr_format": 2}),
        ".zattrs": _json(OME), "a/.zarray": _json(ZARRAY), "a/0/0": bytes(32),
    }  # fmt: skip


def _group() -> Files:
    image = {**GROUP, "attributes": {"ome": OME}}
    return {"zarr.json": _json(image), "a/zarr.json": _json(ZARR), "a/c/0/0": bytes(200)}


def _surrogates() -> Files:
    """Names that are no Unicode, one of which a file may have."""
    array = {**ZARR, "dimension_names": ["\udcff", "\ud800"]}
    image = {"ome": {**OME, "multiscales": [{**OME["multiscales"][0], "datasets": [
        {"path": "\ud800"}, {"path": "a"}]}]}}  # fmt: skip
    below = dict.fromkeys(["\ud800", "\udcff", "a"], array)
    known = {**GROUP["consolidated_metadata"], "metadata": below}
    group = {**GROUP, "attributes": image, "consolidated_metadata": known}
    return {"zarr.json": _json(group), "a/zarr.json": _json(array), "a/c/0/0": bytes(200)}


def _structs() -> Files:
    return {".zarray": _json(STRUCT), "0/0": bytes(999), "b/attributes.json": _json(N5)}


def _arrays() -> list[Callable[[], Files]]:
    """Arrays as libraries write them, one for each kind of codec."""
    data = np.arange(6 * 50 * 40, dtype="u2").reshape(6, 50, 40)

    def zarr_array(**more: Any) -> Callable[[], Files]:
        def make() -> Files:
            kept = zarr.storage.MemoryStore()
            group = zarr.create_group(kept, zarr_format=more["zarr_format"])
            array = group.create_array("a", data=data, chunks=(2, 25, 20), **_but(more))
            array.attrs["_ARRAY_DIMENSIONS"] = ["z", "y", "x"]
            return {k: v.to_bytes() for k, v in kept._store_dict.items()}

        return make

    def n5() -> Files:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            write_n5(Path(folder), "a", data, (2, 25, 20))
            return {
                str(p.relative_to(folder)): p.read_bytes()
                for p in Path(folder).rglob("*") if p.is_file()
            }  # fmt: skip

    shards = {"shards": (4, 50, 40), "zarr_format": 3}
    return [
        n5,
        *(zarr_array(zarr_format=2, compressors=codec) for codec in (
            None, numcodecs.Blosc("lz4"), numcodecs.Blosc("zstd", 3, 2), numcodecs.LZ4(),
            numcodecs.Zlib(1), numcodecs.BZ2(), numcodecs.LZMA(preset=0))),
        zarr_array(zarr_format=3, compressors=zc.GzipCodec()),
        zarr_array(**shards), zarr_array(**shards),
        zarr_array(**shards, compressors=zc.BloscCodec(cname="lz4")),
        zarr_array(zarr_format=3, chunks_of_shards=True),
    ]  # fmt: skip


def _but(more: dict[str, Any]) -> dict[str, Any]:
    found = {k: v for k, v in more.items() if k not in ("zarr_format", "chunks_of_shards")}
    if "chunks_of_shards" in more:
        found["compressors"] = None
        found["serializer"] = zc.ShardingCodec(chunk_shape=(1, 25, 10))
    return found
