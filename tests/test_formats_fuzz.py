"""Hostile documents: whatever they hold, MetadataError or metadata that can be computed with."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from znfs.codecs import Decoder
from znfs.errors import ChunkError, MetadataError
from znfs.formats import FORMATS, ome
from znfs.formats.document import MAX_CHUNK_NBYTES, MAX_NDIM
from znfs.formats.n5axes import numbered_level
from znfs.meta import ArrayMeta, GroupMeta

BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
SHARD = {
    "name": "sharding_indexed",
    "configuration": {
        "chunk_shape": [2, 2], "codecs": [BYTES, {"name": "gzip", "configuration": {"level": 1}}],
        "index_codecs": [BYTES, {"name": "crc32c"}], "index_location": "end",
    },
}  # fmt: skip
ZARRAY = {
    "zarr_format": 2, "shape": [5, 4], "chunks": [4, 2], "dtype": "<f4", "fill_value": "NaN",
    "compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}, "order": "F",
    "filters": [{"id": "delta", "dtype": "<f4"}, {"id": "shuffle", "elementsize": 4},
                {"id": "fixedscaleoffset", "dtype": "<f4", "scale": 1, "offset": 2},
                {"id": "lzma", "format": 3, "filters": [{"id": 33, "preset": 1}]}],
    "dimension_separator": "/",
}  # fmt: skip
ZARR = {
    "zarr_format": 3, "node_type": "array", "shape": [8, 4], "data_type": "float32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 2]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0, "dimension_names": ["y", "x"], "attributes": {"a": 1},
    "codecs": [{"name": "transpose", "configuration": {"order": [1, 0]}}, SHARD],
    "storage_transformers": [],
}  # fmt: skip
N5 = {
    "dimensions": [6, 5], "blockSize": [4, 3], "dataType": "int16", "n5": "2.0.0",
    "compression": {"type": "gzip", "useZlib": False}, "axes": ["x", "y"], "units": ["nm", "nm"],
    "pixelResolution": {"unit": "nm", "dimensions": [4, 4]}, "downsamplingFactors": [2, 2],
    "transform": {"axes": ["y", "x"], "scale": [1, 2], "translate": [0, 0], "units": ["m", "m"]},
}  # fmt: skip
IMAGEJ = {
    **{key: value for key, value in N5.items() if key != "transform"}, "unit": "nm",
    "dimensions": [6, 5, 2], "blockSize": [4, 3, 1], "resolution": [1, 2], "offset": [0, 0],
    "numChannels": 1, "numSlices": 2, "numFrames": 1, "pixelUnit": "micron", "pixelWidth": 0.5,
    "pixelHeight": 0.5, "pixelDepth": 2, "xOrigin": 3, "yOrigin": 0, "frameInterval": 1.5,
}  # fmt: skip
CONSOLIDATED = {
    "zarr_consolidated_format": 1,
    "metadata": {".zgroup": {"zarr_format": 2}, "a/.zarray": ZARRAY, "a/.zattrs": {}},
}
GROUP = {
    "zarr_format": 3, "node_type": "group", "attributes": {},
    "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": {"a": ZARR}},
}  # fmt: skip
STRUCT = {**ZARRAY, "dtype": [["a", "<i2"], ["b", [["c", "|S3", [2]]]]], "fill_value": 0,
          "filters": None}  # fmt: skip
OME = {
    "multiscales": [{
        "version": "0.4", "name": "n", "coordinateTransformations": [
            {"type": "scale", "scale": [1, 2]}, {"type": "translation", "translation": [1, 2]}],
        "axes": [{"name": "y", "type": "space", "unit": "nm"}, {"name": "x"}],
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "identity"}]},
                     {"path": "1", "transform": N5["transform"]}],
    }],
    "scales": [[1, 1], [2, 2]],
    "omero": {"channels": [{"label": "a", "color": "FF0000", "window": {"start": 0, "end": 9}}]},
    "plate": {"wells": [{"path": "A/1"}]}, "well": {"images": [{"path": "0"}]},
    "labels": ["cells"], "series": ["0"],
    "multiScale": True, "painteraData": {}, "resolution": [4, 4], "offset": [1, 2], "unit": "nm",
}  # fmt: skip
STRINGS = {**ZARR, "data_type": "string", "fill_value": "é", "codecs": [
    {"name": "vlen-utf8"}, {"name": "gzip", "configuration": {"level": 1}}]}  # fmt: skip
OBJECTS = {**ZARRAY, "dtype": "|O", "fill_value": "", "filters": [{"id": "vlen-bytes"}]}
DOCUMENTS = {
    "zarray": (".zarray", ZARRAY), "struct": (".zarray", STRUCT),
    "zmetadata": (".zmetadata", CONSOLIDATED),
    "zgroup": (".zgroup", {"zarr_format": 2}), "array": ("zarr.json", ZARR),
    "group": ("zarr.json", GROUP), "n5": ("attributes.json", N5),
    "n5-ij": ("attributes.json", IMAGEJ),
    "strings": ("zarr.json", STRINGS), "objects": (".zarray", OBJECTS),
}  # fmt: skip

NUMBERS = st.one_of(
    st.integers(-3, 40), st.sampled_from([2**31, 2**32, 2**60, 2**63, -(2**63), 2**64, 10**400]),
    st.floats(), st.sampled_from([1.0, 2.5, 1e300]),
)  # fmt: skip
WORDS = st.sampled_from(
    ["", "/", ".", "..", "a/../b", "NaN", "0x", "0x7f", "-Infinity", "<f8", ">i2", "|O", "|V0",
     "|S9999999999", "<M8[7s]", "r16", "r7", "string", "bfloat16", "int4", "gzip", "bytes", "zstd",
     "pickle", "transpose", "sharding_indexed", "numcodecs.delta", "n5_block", "promote",
     "vlen-utf8", "vlen-bytes",
     "lzma", "group", "array", "F", "C", "start", "big", "x" * 300, "\0", "\ud800", "é"]
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, WORDS, st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(WORDS, st.sampled_from([*ZARR, *ZARRAY])), inner, max_size=4),
    ),
    max_leaves=8,
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in items:
        deeper = (*path, key)
        found.extend(places(child, deeper) if isinstance(child, (dict, list)) else [deeper])
    return found


@st.composite
def mutated(draw: Any, document: dict[str, Any]) -> dict[str, Any]:
    """The document with one to three of its parts replaced, removed, doubled or wrapped."""
    out = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        everywhere = places(out)
        if not everywhere:
            return out
        *above, last = draw(st.sampled_from(everywhere))
        parent = out
        for key in above:
            parent = parent[key]
        match draw(st.sampled_from(["value", "value", "value", "remove", "wrap", "repeat"])):
            case "value":
                parent[last] = draw(VALUES)
            case "remove":
                del parent[last]
            case "wrap":
                parent[last] = draw(st.sampled_from([[parent[last]], {"name": parent[last]}]))
            case "repeat":
                parent[last] = [parent[last]] * draw(st.sampled_from([2, 40]))
    return out


def check(docs: dict[str, bytes]) -> None:
    for form in FORMATS:
        known = {name: data for name, data in docs.items() if name in form.documents}
        if not known:
            continue
        try:
            node = form.parse(known)
        except MetadataError as error:
            named(error)
            continue
        if isinstance(node, ArrayMeta):
            usable(node)
        elif isinstance(node, GroupMeta):
            for path, below in (node.consolidated or {}).items():
                assert ".." not in path.split("/")
                check(dict(below))
            ome.level_axes(node.attributes)


def named(error: MetadataError) -> None:
    assert 0 < len(str(error)) < 1000


def usable(meta: ArrayMeta) -> None:
    assert meta.ndim == len(meta.chunks) == len(meta.axes) <= MAX_NDIM
    assert meta.chunk_nbytes <= MAX_CHUNK_NBYTES
    assert meta.is_variable or len(meta.fill) == meta.dtype.itemsize > 0
    assert len(set(meta.axis_names)) == meta.ndim
    assert all(g >= 0 for g in (*meta.grid, *meta.outer_grid))
    for shard in meta.shards:
        assert sorted(shard.order) == list(range(meta.ndim))
    if meta.chunk_nbytes < 1 << 20:
        decoder = Decoder(meta.codecs, meta.dtype, meta.chunks, meta.fill, meta.most_of_chunk)
        for data in (b"", b"\0" * 40, b"\x1f\x8b\x08\0\0\0"):
            with contextlib.suppress(ChunkError):
                block = decoder.decode(data)
                assert block.shape == meta.chunks or meta.is_variable


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_documents_themselves_are_read(name: str):
    document, value = DOCUMENTS[name]
    docs = {document: json.dumps(value).encode()}
    assert any(form.parse(docs) for form in FORMATS if document in form.documents)


@pytest.mark.parametrize("name", DOCUMENTS)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_mutated_documents(name: str, data: st.DataObject):
    document, value = DOCUMENTS[name]
    changed = data.draw(mutated(value))
    check({document: json.dumps(changed).encode("utf-8", "surrogatepass")})


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([n for f in FORMATS for n in f.documents]), st.binary(max_size=60))
def test_documents_of_noise(document: str, noise: bytes):
    check({document: noise})


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([n for f in FORMATS for n in f.documents]), VALUES)
def test_documents_of_any_json(document: str, value: Any):
    check({document: json.dumps(value).encode()})


def test_factors_of_more_axes_than_there_are_names():
    for key in ("scales", "downsamplingFactors"):
        attributes = {key: [[2] * 200, [2, 2]], "pixelResolution": [1] * 200}
        assert set(ome.level_axes(attributes)) <= {"s1"}


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(mutated(OME), st.dictionaries(st.sampled_from([*OME, "ome", "axes"]), VALUES)))
def test_image_metadata_never_raises(attributes: dict[str, Any]):
    for source in (attributes, {"ome": attributes}):
        for path, axes in ome.level_axes(source).items():
            assert path
            assert isinstance(axes, tuple)
        assert all(isinstance(text, str) and len(text) < 400 for text in ome.remarks(source))
        ome.channels(source)
        if first := ome.first_level(source, "s1"):
            numbered_level(first, attributes, 2)
        assert all(isinstance(path, str) for path in (*ome.children(source), *ome.perhaps(source)))
