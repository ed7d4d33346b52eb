"""N5 as Java's writers leave it, made by hand from the specification: no library here writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import tensorstore as ts

from tests.conformance.samples import CHUNKS, SHAPE, Sample, values
from tests.test_formats_n5 import COMPRESSIONS, block

_NAMES = {
    "lz4-java": "lz4, block stream of lz4-java",
    "lz4-java-unfinished": "lz4, block stream without its end",
    "lz4-bare": "lz4, bare block",
    "lz4-numcodecs": "lz4, as zarr 2 wrote it",
    "gzip-members": "gzip of several members",
}


def by_hand(root: Path) -> Iterator[Sample]:
    """Arrays of 2 x 6 elements in blocks of 2 x 4, the last cut at the edge."""
    data = (np.arange(12, dtype="i2").reshape(2, 6) - 5) * 999
    words = ("by hand", "by hand")
    for kind, feature in _NAMES.items():
        config, compress = COMPRESSIONS[kind]
        for version in ("1.5.0", "4.0.0"):
            # Before version 2 a compression had a name, and nothing more.
            compression: dict[str, Any] = {"compression": config}
            if version[0] == "1":
                compression = {"compressionType": config["type"]}
            path = f"hand.n5/{kind}-{version[0]}"
            _put(root / path, {"n5": version, **compression})
            _blocks(root / path, {(0, 0): data[:, :4], (1, 0): data[:, 4:]}, compress)
            yield Sample(path, "N5", f"{feature}, version {version}", *words, data)
    path = "hand.n5/missing"
    _put(root / path, {"compression": {"type": "raw"}})
    _blocks(root / path, {(1, 0): data[:, 4:]}, bytes)
    expected = data.copy()
    expected[:, :4] = 0
    yield Sample(path, "N5", "missing block", *words, expected)
    path = "hand.n5/negative"
    _put(root / path, {"compression": {"type": "raw"}})
    _blocks(root / path, {(0, 0): data[:, :4], (1, 0): data[:, 4:], (-1, 0): data[:, :4]}, bytes)
    yield Sample(path, "N5", "blocks at negative positions are left out", *words, data)
    path = "hand.n5/objects"
    _put(root / path, {"compression": {"type": "raw"}, "dataType": "string"})
    yield Sample(path, "N5", "strings (mode 1 of variable length)", "by hand", "–",
                 refused="strings")  # fmt: skip


def blosc(root: Path) -> Iterator[Sample]:
    """Every kind of Blosc, by tensorstore."""
    for cname in ("lz4", "lz4hc", "blosclz", "zstd", "zlib"):
        for shuffle in (0, 1, 2):
            path = f"blosc.n5/{cname}-{shuffle}"
            compression = {"type": "blosc", "cname": cname, "clevel": 5, "shuffle": shuffle}
            metadata = {"dimensions": SHAPE[::-1], "blockSize": CHUNKS[::-1], "dataType": "uint16",
                        "compression": compression}  # fmt: skip
            spec = {"driver": "n5", "kvstore": f"file://{root / path}/", "metadata": metadata}
            store = ts.open(spec, create=True).result()
            store.write(values().T).result()
            read = np.asarray(store.read().result()).T
            yield Sample(path, "N5", f"blosc {cname}, shuffle {shuffle}", "tensorstore",
                         "tensorstore", read)  # fmt: skip


def n5_zarr(root: Path) -> Iterator[Sample]:
    """Zarr v2 as n5-zarr writes it: big-endian, `filters` empty, nested keys or not."""
    data = values()
    for name, separator in (("flat", "."), ("nested", "/")):
        path = f"n5-zarr/{name}"
        (root / path).mkdir(parents=True)
        (root / path / ".zarray").write_text(json.dumps({
            "zarr_format": 2, "shape": SHAPE, "chunks": SHAPE, "dtype": ">u2", "fill_value": "0",
            "compressor": {"id": "zlib", "level": 6}, "filters": [], "order": "C",
            "dimension_separator": separator,
        }))  # fmt: skip
        key = root / path / separator.join("000")
        key.parent.mkdir(parents=True, exist_ok=True)
        key.write_bytes(numcodecs.Zlib(6).encode(data.astype(">u2").tobytes()))
        yield Sample(path, "Zarr v2", f"as n5-zarr writes, {name} keys", "by hand", "by hand", data)


def _blocks(folder: Path, blocks: dict[tuple[int, int], np.ndarray], compress: Any) -> None:
    for (x, y), data in blocks.items():
        (folder / str(x)).mkdir(exist_ok=True)
        (folder / str(x) / str(y)).write_bytes(block(data, compress))


def _put(folder: Path, more: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    document = {"dimensions": [6, 2], "blockSize": [4, 2], "dataType": "int16", **more}
    (folder / "attributes.json").write_text(json.dumps(document))
