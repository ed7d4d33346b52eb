"""The stores that docs/SEMANTICS.md describes, and the web server that has them."""

from __future__ import annotations

import json
import struct
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import ml_dtypes
import numcodecs
import numpy as np
import z5py
import zarr
from zarr.codecs import BytesCodec, ZstdCodec
from zarr.dtype import VariableLengthBytes

from tests.images import write_image
from tests.test_rectilinear import document, rectilinear, stored, write


def write_cells(root: Path) -> None:
    group = zarr.create_group(root, attributes={"sample": "A1"})
    em = group.create_array(
        "em", shape=(4, 6, 8), chunks=(2, 3, 4), dtype="uint16", fill_value=7,
        serializer=BytesCodec(endian="big"), attributes={"lens": "60x"},
    )  # fmt: skip
    em[...] = np.arange(4 * 6 * 8, dtype="uint16").reshape(4, 6, 8)
    (root / "em/c/1/1/1").unlink()  # a chunk that is not stored
    names = group.create_array(
        "named", shape=(2, 5), chunks=(2, 2), shards=(2, 4), dtype="float32",
        dimension_names=("time", "depth"),
    )  # fmt: skip
    names[...] = np.arange(10).reshape(2, 5)
    flags = group.create_array("flags", shape=(3,), chunks=(3,), dtype="bool")
    flags[...] = [True, False, True]
    (root / "flags/flags.npy").write_text("mine\n")
    (root / "README").write_text("about these cells\n")


KINDS: dict[str, np.ndarray[Any, Any]] = {
    "bool": np.array([[True, False]]),
    "int64": np.array([[-1, 2]]),
    "float64": np.array([[0.1, 2.0]]),
    "complex": np.array([[1 + 2j, 3]], "c8"),
    "time": np.array([["1970-01-02", "1970-01-03"]], "M8[D]"),
    "text": np.array([["één", "twee"]]),
    "bytes": np.array([[b"ab", b"cd"]]),
    "struct": np.array([[(1, 0.5), (2, 1.5)]], [("a", "i4"), ("b", "f4")]),
}


def write_kinds(root: Path) -> None:
    """An array of each kind of elements, 1 × 2."""
    group = zarr.create_group(root, zarr_format=2)
    for name, values in KINDS.items():
        array = group.create_array(
            name, shape=values.shape, chunks=values.shape, dtype=values.dtype
        )  # fmt: skip
        array[...] = values
    small = np.array([[1.5, -2]], ml_dtypes.bfloat16)
    grid = {"name": "regular", "configuration": {"chunk_shape": small.shape}}
    codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
    described = document(grid, codecs, small.shape)
    described |= {"data_type": "bfloat16", "fill_value": 0}
    write(root / "bfloat16", {"c/0/0": small.tobytes()}, described)
    zarr.create_array(root / "words", shape=(2,), dtype=str)[...] = ["a", "bc"]
    parts = zarr.create_array(root / "parts", shape=(2,), dtype=VariableLengthBytes())
    parts[...] = np.array([b"\1", b"\2\3"], object)
    pickled = {"zarr_format": 2, "shape": [2], "chunks": [2], "dtype": "|O", "fill_value": None,
               "order": "C", "compressor": None, "filters": [{"id": "pickle"}]}  # fmt: skip
    (root / "pickled").mkdir()
    (root / "pickled/.zarray").write_text(json.dumps(pickled))


def write_others(root: Path) -> None:
    """Images, N5, chunks of many shapes, and every type: a folder with several stores."""
    write_hostile(root)
    named = zarr.create_array(
        root / "frames.zarr", shape=(4, 8, 8), dtype="u1", dimension_names=("q", "y", "x")
    )
    named[...] = 1
    ramp = np.arange(2 * 3 * 160 * 192, dtype="u2").reshape(2, 3, 160, 192)
    channels = [{"color": "FF0000", "label": "DAPI"}, {"color": "00FF00", "label": "GFP"}]
    write_image(
        root / "image.zarr", [ramp, ramp[..., ::2, ::2]], "czyx", (1, 1, 128, 128),
        omero={"channels": channels}, version="0.5",
    )  # fmt: skip
    rgb = [{"color": color} for color in ("FF0000", "00FF00", "0000FF")]
    write_image(
        root / "rgb.zarr", [np.full((3, 8, 8), 9, "u1")], "cyx", omero={"channels": rgb},
        version="0.5",
    )  # fmt: skip
    wide = np.zeros((8, 8), "i8")
    write_image(root / "wide.zarr", [wide], "yx", scales=[(-1, -1)], version="0.5")
    plane = 1024, 1024
    zarr.create_array(root / "long.zarr", shape=(5000, *plane), chunks=(1, *plane), dtype="u1")
    many = np.arange(8 * 64, dtype="u1").reshape(8, 8, 8)
    write_image(root / "many.zarr", [many], "cyx", version="0.5")
    deep = np.zeros((2, 4, 600, 600), "f2")
    write_image(
        root / "deep.zarr", [deep, deep[:, ::2, ::2, ::2], deep[..., ::4, ::4].astype("u1")],
        "czyx", (1, 1, 100, 100), version="0.5",
    )  # fmt: skip
    write_huge(root / "huge.zarr")
    write_turned(root / "turned.zarr")
    write_kinds(root / "kinds.zarr")
    container = z5py.File(str(root / "cells.n5"), mode="w", use_zarr_format=False)
    for level, step in enumerate((1, 2)):
        data = np.arange(64, dtype="u1").reshape(2, 4, 8)[:, ::step, ::step]
        container.create_dataset(f"em/s{level}", data=data, chunks=(1, 2, 4), compression="gzip")
    container["em"].attrs.update(
        {"scales": [[1, 1, 1], [2, 2, 1]],
         "pixelResolution": {"dimensions": [2.0, 3.0, 4.0], "unit": "nm"}}
    )  # fmt: skip
    grid = rectilinear([2, 1], [3, 2])
    data = np.arange(15, dtype="<u2").reshape(3, 5)
    write(root / "uneven.zarr", stored(((2, 1), (3, 2)), data), document(grid, shape=data.shape))
    (root / "uneven.zarr/.zarray").write_text("{}")


def write_huge(root: Path) -> None:
    """An image of 64 GiB that has no chunk."""
    group = zarr.create_group(root)
    side = 128 * 2048 + 128  # a column of tiles more than 2^22 tiles are
    group.create_array("0", shape=(side, side), chunks=(128, 128), dtype="u1")
    axes = [{"name": name, "type": "space"} for name in "yx"]
    step = {"type": "scale", "scale": [1, 1]}
    levels = [{"path": "0", "coordinateTransformations": [step]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}


def write_turned(root: Path) -> None:
    """An image of OME-Zarr 0.6 that lies in `own`, and turned in `world`; so does its level `1`."""
    group = zarr.create_group(root)
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    turn = {"type": "rotation", "rotation": [[0, 1], [-1, 0]]}
    levels = []
    for path, step in (("0", {"type": "scale", "scale": [2, 2]}), ("1", turn)):
        group.create_array(path, shape=(8, 8), chunks=(8, 8), dtype="u1")
        step = {**step, "input": {"path": path}, "output": {"name": "own"}}
        levels.append({"path": path, "coordinateTransformations": [step]})
    between = {**turn, "input": {"name": "own"}, "output": {"name": "world"}}
    group.attrs["ome"] = {"version": "0.6", "multiscales": [{
        "coordinateSystems": [{"name": name, "axes": axes} for name in ("own", "world")],
        "datasets": levels, "coordinateTransformations": [between],
    }]}  # fmt: skip


def write_hostile(root: Path) -> None:
    """What breaks rules: a bomb, texts that are too long or none, links that go round, ..."""
    bomb = np.zeros((4, 4), "u1")
    zarr.create_array(root / "bomb.zarr", shape=bomb.shape, chunks=bomb.shape, dtype=bomb.dtype,
                      compressors=ZstdCodec())[...] = 1  # fmt: skip
    (root / "bomb.zarr/c/0/0").write_bytes(numcodecs.Zstd().encode(bytes(10_000_000)))
    zarr.create_array(root / "novel.zarr", shape=(1,), dtype=str)[...] = ["a" * (2 << 20)]
    latin = zarr.create_array(root / "latin.zarr", shape=(1,), dtype=str, compressors=None)
    latin[...] = ["e"]
    (root / "latin.zarr/c/0").write_bytes(struct.pack("<IIB", 1, 1, 0xE9))
    digits = {"zarr_format": 2, "shape": [2], "chunks": [2], "dtype": "|O", "fill_value": 0,
              "order": "C", "compressor": None, "filters": [{"id": "vlen-utf8"}]}  # fmt: skip
    (root / "digits.zarr").mkdir()
    (root / "digits.zarr/.zarray").write_text(json.dumps(digits))
    text = zarr.create_array(root / "nul.zarr", shape=(1,), dtype="<U4", zarr_format=2)
    text[...] = np.array(["a\0b"], "<U4")
    links = root / "links"
    links.mkdir()
    (links / "cells.zarr").symlink_to("../../cells.zarr")
    (links / "round").symlink_to("..")
    write_cells(root / "bad.zarr")
    (root / "bad.zarr/em/zarr.json").write_text('{"zarr_format": 3\n')


class Web:
    """A web server over a folder. It notes what it is asked for in the folder's `asked`.

    `private/PATH` is PATH for who says `Bearer letmein`, 401 for others; `closed/PATH` answers 403
    for what is not there, as S3 does where nobody may list. Where the folder has a file `down`, all
    is 503, and nothing is answered as long as it has a file `silent`.
    """

    def __init__(self, folder: Path) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=folder))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(SimpleHTTPRequestHandler):
    def send_head(self) -> Any:
        folder = Path(self.directory)
        with (folder / "asked").open("a") as asked:
            print(self.path, file=asked)
        while (folder / "silent").exists():
            time.sleep(0.05)
        tried, _, path = self.path.lstrip("/").partition("/")
        status = 503 if (folder / "down").exists() else 0
        if tried == "private" and self.headers.get("Authorization") != "Bearer letmein":
            status = 401
        if tried == "closed" and not (folder / path).exists():
            status = 403
        if status:
            self.send_error(status)
            return None
        if tried in ("private", "closed"):
            self.path = f"/{path}"
        return super().send_head()

    def log_message(self, *words: object) -> None:
        pass
