"""What OME-Zarr metadata promises, in stores that cannot list."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.memory_store import MemoryStore
from znfs.arrays.array import Array, Group
from znfs.cache import BlockCache
from znfs.errors import NotListable
from znfs.formats import ome
from znfs.hierarchy import Hierarchy
from znfs.meta import Channel
from znfs.options import Options
from znfs.tree.directories import NodeDir, Shown

KEYS = (
    "ome", "multiscales", "omero", "channels", "color", "window", "start", "end", "label", "labels",
    "axes", "name", "datasets", "path", "coordinateTransformations", "type", "scale", "version",
    "plate", "wells", "well", "images", "series", "bioformats2raw.layout", "scales",
    "pixelResolution", "dimensions", "transform", "units", "coordinateSystems", "sequence", "input",
    "output", "transformations", "scene", "multiScale", "resolution", "offset", "painteraData",
)  # fmt: skip


class Unlistable(MemoryStore):
    def list(self, prefix):
        raise NotListable(prefix)


def group(store, path, attributes, v3=False):
    prefix = path + "/" if path else ""
    if v3:
        document = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": attributes}}
        store.put(prefix + "zarr.json", json.dumps(document).encode())
        return
    store.put(prefix + ".zgroup", b'{"zarr_format": 2}')
    store.put(prefix + ".zattrs", json.dumps(attributes).encode())


def array(store, path, shape=(8, 8)):
    document = {
        "zarr_format": 2, "shape": shape, "chunks": shape, "dtype": "<u2", "fill_value": 0,
        "order": "C", "filters": None, "compressor": None,
    }  # fmt: skip
    store.put(path + "/.zarray", json.dumps(document).encode())
    store.put(path + "/0.0", np.arange(64, dtype="<u2").tobytes())


def image(omero=None):
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    steps = [{"type": "scale", "scale": [0.5, 0.5]}]
    levels = [{"path": "0", "coordinateTransformations": steps}]
    found = {"multiscales": [{"version": "0.4", "axes": axes, "datasets": levels}]}
    return found if omero is None else {**found, "omero": omero}


def hierarchy(store):
    return Hierarchy(store, BlockCache(1 << 20, 2), root_name="root", ttl=60)


@pytest.mark.parametrize("v3", [False, True])
def test_plates_show_rows_wells_and_fields(v3):
    store = Unlistable()
    wells = [{"path": p} for p in ("A/1", "A/2", "B/1")]
    group(store, "", {"plate": {"wells": wells, "rows": [], "columns": []}}, v3)
    group(store, "A/2", {"well": {"images": [{"path": "0"}, {"path": "1"}]}}, v3)
    group(store, "A/2/0", image(), v3)
    array(store, "A/2/0/0")
    tree = hierarchy(store)
    assert tree.children("") == ["A", "B"]
    assert tree.children("A") == ["1", "2"]
    assert tree.children("A/2") == ["0", "1"]
    assert tree.children("A/2/0") == ["0"]  # no labels: asked for, and not there
    found = tree.node("A/2/0/0")
    assert isinstance(found, Array)
    assert found.meta.axes[0].unit == "micrometer"


def test_labels_of_an_image_are_found():
    store = Unlistable()
    group(store, "", image())
    array(store, "0")
    group(store, "labels", {"labels": ["cells", "nuclei"]})
    group(store, "labels/cells", image())
    array(store, "labels/cells/0")
    tree = hierarchy(store)
    assert tree.children("") == ["0", "labels"]
    assert tree.children("labels") == ["cells", "nuclei"]
    assert isinstance(tree.node("labels/cells/0"), Array)


def test_paintera_s_levels_are_looked_for_until_one_is_missing():
    store = Unlistable()
    group(store, "", {"painteraData": {"type": "raw"}})
    group(store, "data", {"multiScale": True, "resolution": [2, 3], "offset": [4, 4]})
    array(store, "data/s0")
    array(store, "data/s1")
    store.put("data/s1/.zattrs", b'{"downsamplingFactors": [2, 2]}')
    tree = hierarchy(store)
    assert tree.children("") == ["data"]
    assert tree.children("data") == ["s0", "s1"]
    node = tree.node("data/s1")
    assert isinstance(node, Array)
    assert [(a.scale, a.translation) for a in node.meta.axes] == [(6, 5.5), (4, 5)]
    assert "data.ome.tif" in NodeDir(Shown(tree, Options()), tree.node("data")).names()


def test_what_multiscales_say_goes_before_paintera_s_own():
    """Its newest version writes both, and not the same origins."""
    store = Unlistable()
    found = image()
    found["multiscales"][0]["datasets"][0]["path"] = "s1"
    group(store, "", {**found, "multiScale": True, "resolution": [2, 3], "offset": [4, 4]})
    array(store, "s0")
    array(store, "s1")
    tree = hierarchy(store)
    found = [[(a.scale, a.translation) for a in tree.node(p).meta.axes] for p in ("s0", "s1")]
    assert found == [[(3, 4), (2, 4)], [(0.5, None)] * 2]


def test_a_level_whose_path_no_file_can_have():
    store = Unlistable()
    levels = image()
    levels["multiscales"][0]["datasets"].append({"path": "\ud800"})
    group(store, "", levels)
    array(store, "0")
    tree = hierarchy(store)
    assert tree.node("").names() == ["0"]
    assert tree.node("\ud800") is None
    directory = NodeDir(Shown(tree, Options()), tree.node(""))
    assert "\ud800" not in list(directory.names())
    assert "'\\ud800' cannot be listed" in directory.views_and_remarks()[1]


@pytest.mark.parametrize("v3", [False, True])
def test_series_of_bioformats2raw_are_found(v3):
    store = Unlistable()
    group(store, "", {}, v3)
    group(store, "in", {"bioformats2raw.layout": 3}, v3)
    group(store, "in/OME", {"series": ["0", "1"]}, v3)
    for series in ("0", "1"):
        group(store, f"in/{series}", image(), v3)
        array(store, f"in/{series}/0")
    tree = hierarchy(store)
    assert isinstance(tree.node("in"), Group)
    assert tree.children("in") == ["0", "1", "OME"]
    assert tree.children("in/1") == ["0"]
    assert tree.children("in/OME") == []


def test_images_of_a_scene_are_found():
    store = Unlistable()
    step = {"type": "identity", "input": {"path": "tile_0", "name": "intrinsic"},
            "output": {"name": "world"}}  # fmt: skip
    scene = {"coordinateSystems": [], "coordinateTransformations": [step, 3, {"input": "x"}]}
    group(store, "", {"version": "0.6", "scene": scene}, v3=True)
    group(store, "tile_0", {"version": "0.6", **image()}, v3=True)
    array(store, "tile_0/0")
    tree = hierarchy(store)
    assert tree.children("") == ["tile_0"]
    assert isinstance(tree.node("tile_0/0"), Array)
    (said,) = ome.remarks(tree.node("").meta.attributes)
    assert said.startswith("scene:")


def test_paths_that_leave_the_store_promise_nothing():
    attributes = {"series": ["0"], "labels": ["../../x", "", 3, "a"], "well": {"images": 7}}
    assert ome.children(attributes) == ("a", "../0")
    store = Unlistable()
    group(store, "", attributes)
    assert hierarchy(store).children("") == ["a"]


def test_an_array_has_the_channels_of_its_image():
    store = MemoryStore()
    channels = [
        {"label": "DAPI", "color": "0000FF", "window": {"start": 10, "end": 900, "min": 0}},
        {"label": 7, "color": "green", "window": {"start": 5, "end": 5}},
        "x",
    ]
    group(store, "", image({"channels": channels}))
    array(store, "0")
    tree = hierarchy(store)
    first = tree.node("0")
    assert first.meta.channels == (
        Channel("DAPI", (0, 0, 255), (10.0, 900.0)), Channel(), Channel()
    )  # fmt: skip
    said = ome.remarks(tree.node("").meta.attributes)
    assert [text.split(":")[0] for text in said] == ["omero"] * 3
    group(store, "", image({"channels": channels[:1]}))
    tree.refresh()
    assert tree.node("0").version != first.version


def test_broken_omero_is_left_out():
    assert ome.channels({"omero": {"channels": {}}}) == ()
    assert ome.channels({"omero": [1]}) == ()
    assert ome.channels({}) == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=2), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON.filter(lambda value: isinstance(value, dict)))
@settings(max_examples=300)
def test_no_attributes_make_it_raise(attributes):
    for ask in (ome.level_axes, ome.levels, ome.channels, ome.children, ome.perhaps, ome.remarks):
        ask(attributes)
    assert set(ome.levels(attributes)) <= set(ome.level_axes(attributes))
