"""What every reader is asked to read: a hierarchy, and an array of 10^9 chunks."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import zarr

Values = np.ndarray[Any, Any]

LONG_TEXT = "long é " * 20_000
ATTRIBUTES: dict[str, Any] = {
    "text": "é text", "long": LONG_TEXT, "int": 5, "float": 3.5, "ints": [1, 2, 3],
}  # fmt: skip
# Chunks of 70, of which the last one is not stored.
STRINGS = [["", "a", "é", "日本語" * 40, "x" * 3000, "12345678"][i % 6] for i in range(280)]
STRINGS += ["filled é"] * 20
MANY = 40  # datasets in one group: several symbol table nodes


def arrays() -> dict[str, tuple[Values, tuple[int, ...]]]:
    """Path of each dataset: its values and chunks."""
    rng = np.random.default_rng(5)
    out: dict[str, tuple[Values, tuple[int, ...]]] = {
        # 108 chunks: two levels of B-tree; the last chunks of each axis are cut
        "img": (rng.integers(0, 65536, (70, 50, 40)).astype("<u2"), (8, 16, 16)),
        "types/u1": (rng.integers(0, 256, (30, 20)).astype("u1"), (7, 7)),
        "types/i2": (rng.integers(-999, 999, (30, 20)).astype("<i2"), (30, 20)),
        "types/i4": (rng.integers(-9999, 9999, (30, 20)).astype("<i4"), (7, 64)),
        "types/f4": (rng.random((5, 6, 7, 8)).astype("<f4"), (2, 3, 4, 5)),
        "types/f8": (rng.random((200,)), (1,)),
    }
    for i in range(MANY):
        out[f"many/a{i:03}"] = (np.arange(i, i + 5, dtype="<i4"), (3,))
    return out


def write(folder: Path) -> Path:
    """The hierarchy as a Zarr v2 store in `folder`."""
    path = folder / "sample.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = zarr.create_group(path, zarr_format=2, attributes=ATTRIBUTES)
        for name, (values, chunks) in arrays().items():
            array = root.create_array(name, shape=values.shape, chunks=chunks, dtype=values.dtype)
            array[...] = values
            if name == "img":
                array.attrs.update(ATTRIBUTES)
    return path


def write_sparse(folder: Path) -> Path:
    """An array of 64000³ elements in 10^9 chunks, of which the first and the last are stored."""
    path = folder / "sparse.zarr"
    path.mkdir()
    document = {
        "zarr_format": 2, "shape": [64_000] * 3, "chunks": [64] * 3, "dtype": "<u2",
        "compressor": None, "filters": None, "fill_value": 0, "order": "C",
    }  # fmt: skip
    (path / ".zarray").write_text(json.dumps(document))
    (path / "0.0.0").write_bytes(np.full(64**3, 1, "<u2").tobytes())
    (path / "999.999.999").write_bytes(np.full(64**3, 2, "<u2").tobytes())
    return path


def write_many(folder: Path) -> Path:
    """More arrays in a group without consolidated metadata than are read to plan a file."""
    path = folder / "many.zarr"
    path.mkdir()
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    document = {
        "zarr_format": 2, "shape": [3, 4], "chunks": [3, 4], "dtype": "<i4", "compressor": None,
        "filters": None, "fill_value": 0, "order": "C",
    }  # fmt: skip
    for i in range(1100):
        (path / f"a{i}").mkdir()
        (path / f"a{i}" / ".zarray").write_text(json.dumps(document))
        (path / f"a{i}" / "0.0").write_bytes(np.full((3, 4), i, "<i4").tobytes())
    return path


def write_strings(folder: Path) -> Path:
    """Strings of variable length: `/words`."""
    path = folder / "strings.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = zarr.create_group(path, zarr_format=3)
        words = root.create_array(
            "words", shape=(len(STRINGS),), chunks=(70,), dtype=str, fill_value=STRINGS[-1]
        )
        words[:280] = np.array(STRINGS[:280], object)
    return path


def climate() -> Any:
    """A dataset after the CF conventions, on a grid that tools know as one."""
    import xarray as xr

    rng = np.random.default_rng(1)
    time = np.datetime64("2001-01-01", "ns") + np.arange(6) * np.timedelta64(6, "h")
    temperature = rng.random((6, 5, 8)).astype("f4")
    return xr.Dataset(
        {"temperature": (("time", "lat", "lon"), temperature, {"units": "K"})},
        coords={
            "time": time,
            "lat": ("lat", np.linspace(-90, 90, 5), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(8) * 45.0, {"units": "degrees_east"}),
        },
        attrs={"title": "é text"},
    )


def write_climate(folder: Path) -> Path:
    """The dataset as xarray writes it."""
    path = folder / "climate.zarr"
    encoding = {
        "time": {"units": "hours since 2001-01-01"}, "temperature": {"chunks": (2, 3, 8)}
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        climate().to_zarr(path, zarr_format=2, consolidated=True, encoding=encoding)
    return path


def digest(values: Values) -> str:
    """SHA-256 of the little-endian bytes in C order: what each reader's program prints."""
    little = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(little.tobytes()).hexdigest()


def digests() -> dict[str, str]:
    return {name: digest(values) for name, (values, _) in arrays().items()}
