"""Axes, pixel sizes and origins from groups' image metadata."""

from __future__ import annotations

from typing import Any

import pytest

from znfs.formats import axes
from znfs.formats.n5axes import imagej, n5_axes, numbered_level, zarr_axes
from znfs.formats.ome import level_axes, remarks
from znfs.meta import Axis

AXES = [
    {"name": "c", "type": "channel"},
    {"name": "y", "type": "space", "unit": "micrometer"},
    {"name": "x", "type": "space", "unit": "micrometer"},
]


def scale(*values: float) -> dict[str, Any]:
    return {"type": "scale", "scale": list(values)}


def shift(*values: float) -> dict[str, Any]:
    return {"type": "translation", "translation": list(values)}


def image(**more: Any) -> dict[str, Any]:
    datasets = [
        {"path": "0", "coordinateTransformations": [scale(1, 0.5, 0.25)]},
        {"path": "1", "coordinateTransformations": [scale(1, 1, 0.5), shift(0, 0.25, 0.125)]},
    ]
    return {"version": "0.4", "axes": AXES, "datasets": datasets, **more}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_axes_scales_and_origins(version: str):
    attributes: dict[str, Any] = {"multiscales": [image()]}
    if version == "0.5":
        attributes = {"ome": {"version": "0.5", **attributes}}
    levels = level_axes(attributes)
    assert levels["0"] == (
        Axis("c", None, 1.0, None, "channel"),
        Axis("y", "micrometer", 0.5, None, "space"),
        Axis("x", "micrometer", 0.25, None, "space"),
    )
    assert [(a.scale, a.translation) for a in levels["1"]] == [(1, 0), (1, 0.25), (0.5, 0.125)]
    assert remarks(attributes) == ()


def test_transforms_of_all_levels_are_applied_after_the_levels_own():
    both = image(coordinateTransformations=[scale(2, 10, 100), shift(1, 1, 1)])
    levels = level_axes({"multiscales": [both]})
    assert [(a.scale, a.translation) for a in levels["0"]] == [(2, 1), (5, 1), (25, 1)]
    assert [(a.scale, a.translation) for a in levels["1"]] == [(2, 1), (10, 3.5), (50, 13.5)]


def test_older_versions():
    named = {"version": "0.3", "axes": ["t", "y", "x"], "datasets": [{"path": "a/0"}]}
    assert level_axes({"multiscales": [named]})["a/0"] == (
        Axis("t", kind="time"), Axis("y", kind="space"), Axis("x", kind="space"),
    )  # fmt: skip
    for old in ({"version": "0.1"}, {"version": "0.2"}, {}):
        fixed = level_axes({"multiscales": [{**old, "datasets": [{"path": "0"}]}]})["0"]
        assert [a.name for a in fixed] == ["t", "c", "z", "y", "x"]
        assert [a.kind for a in fixed] == ["time", "channel", "space", "space", "space"]


def in_systems(step: dict[str, Any], *systems: str, **more: Any) -> dict[str, Any]:
    """An image of OME-Zarr 0.6 with one level."""
    dataset = {"path": "s0", "coordinateTransformations": [{"input": {"path": "s0"}, **step}]}
    named = [{"name": name, "axes": AXES} for name in systems]
    image = {"coordinateSystems": named, "datasets": [dataset], **more}
    return {"ome": {"version": "0.6", "multiscales": [image]}}


def test_coordinate_systems():
    both = {"type": "sequence", "transformations": [scale(1, 0.5, 0.25), shift(0, 3, 4)]}
    attributes = in_systems({**both, "output": {"name": "intrinsic"}}, "intrinsic")
    assert level_axes(attributes)["s0"] == (
        Axis("c", None, 1.0, 0.0, "channel"),
        Axis("y", "micrometer", 0.5, 3.0, "space"),
        Axis("x", "micrometer", 0.25, 4.0, "space"),
    )
    assert remarks(attributes) == ()


def test_transformations_between_systems_do_not_place_the_levels():
    further = {"input": {"name": "own"}, "output": {"name": "world"}, **scale(1, 10, 10)}
    for output in ({"name": "own"}, "own"):  # the second in drafts of 0.6
        step = {**scale(1, 2, 2), "output": output}
        attributes = in_systems(step, "own", "world", coordinateTransformations=[further])
        assert [a.scale for a in level_axes(attributes)["s0"]] == [1, 2, 2]
        assert remarks(attributes) == (
            "coordinateSystems: levels lie in own, and are not shown in world",
        )
    unnamed = in_systems(scale(1, 2, 2), "world", "own")  # the last is the image's own
    assert "lie in own" in remarks(unnamed)[0]


def test_systems_and_transformations_that_make_no_sense():
    rotated = in_systems({"type": "rotation", "rotation": [[1]], "output": {"name": "a"}}, "a")
    assert [a.scale for a in level_axes(rotated)["s0"]] == [None] * 3
    assert "not understood" in remarks(rotated)[0]
    endless: dict[str, Any] = {"type": "sequence"}
    endless["transformations"] = [endless]
    assert level_axes(in_systems(endless, "a"))["s0"][1].scale is None
    odd = in_systems({"type": "identity", "output": {"name": "zz"}}, "a")
    odd["ome"]["multiscales"][0]["coordinateSystems"].append({"name": 3})
    assert [a.scale for a in level_axes(odd)["s0"]] == [1.0] * 3
    assert "one without a name or axes" in remarks(odd)[0]
    for steps in ({"type": "scale"}, "scale", 5, None, [5], [scale(1, 10**400, 1)]):
        odd["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"] = steps
        assert [a.scale for a in level_axes(odd)["s0"]] == [None] * 3
    assert level_axes(in_systems(scale(1, 2, 2))) == {}
    assert "without axes" in remarks(in_systems(scale(1, 2, 2)))[0]


def test_several_images_and_odd_paths():
    first, second = image(), image(datasets=[{"path": "0"}, {"path": "./low//1/"}])
    levels = level_axes({"multiscales": [first, second]})
    assert set(levels) == {"0", "1", "low/1"}
    assert levels["0"][1].scale == 0.5


def test_cosem():
    transform = {
        "axes": ["z", "y", "x"], "scale": [5.24, 4, 4], "translate": [0, 1, 2],
        "units": ["nm", "nm", "nm"],
    }  # fmt: skip
    group = {"multiscales": [{"name": "", "datasets": [{"path": "s0", "transform": transform}]}]}
    expected = (
        Axis("z", "nm", 5.24, 0.0, "space"),
        Axis("y", "nm", 4.0, 1.0, "space"),
        Axis("x", "nm", 4.0, 2.0, "space"),
    )
    assert level_axes(group)["s0"] == expected
    assert n5_axes({"transform": transform, "axes": ["a", "b", "c"]}, 3) == expected
    backwards = {k: v[::-1] for k, v in transform.items()}
    assert n5_axes({"transform": {**backwards, "order": "F"}}, 3) == expected


def test_n5_viewer():
    resolution = {"unit": "um", "dimensions": [1, 2, 6]}
    group = {"scales": [[1, 1, 1], [2, 2, 1]], "pixelResolution": resolution}
    for attributes in (group, {**group, "scales": ..., "downsamplingFactors": group["scales"]}):
        levels = level_axes({k: v for k, v in attributes.items() if v is not ...})
        assert [(a.name, a.scale, a.unit, a.translation) for a in levels["s1"]] == [
            ("", 6, "um", 0), ("", 4, "um", 1), ("", 2, "um", 0.5),
        ]  # fmt: skip
        assert {a.translation for a in levels["s0"]} == {0}
    assert level_axes({"scales": [[1, 1, 1]]}) == {}
    assert level_axes({}) == {}


def test_n5_arrays():
    assert n5_axes({}, 3) is None
    assert n5_axes({"pixelResolution": ["1", 2, 3]}, 3) is None
    named = n5_axes({"axes": ["x", "y", "c"], "units": ["nm", "nm", ""]}, 3)
    assert named == (
        Axis("c", kind="channel"),
        Axis("y", "nm", kind="space"),
        Axis("x", "nm", kind="space"),
    )
    found = n5_axes({"pixelResolution": [1, 2], "downsamplingFactors": [4, 8]}, 2)
    assert found is not None
    assert [(a.name, a.scale, a.translation) for a in found] == [("", 16, 7), ("", 4, 1.5)]


def test_sizes_of_more_or_fewer_axes_than_there_are():
    """n5-ij writes three of every image; n5-viewer's frames are a fourth axis."""
    attributes = {
        "pixelResolution": {"unit": "um", "dimensions": [0.5, 0.25, 2]},
        "downsamplingFactors": [2, 2, 1],
    }
    plane, volume, frames = (n5_axes(attributes, ndim) for ndim in (2, 3, 4))
    assert [a.scale for a in frames or ()] == [None, 2, 0.5, 1]
    assert frames is not None
    assert frames[1:] == volume
    assert volume is not None
    assert volume[1:] == plane


def test_paintera():
    """Of a level that is the mean of pixels the first lies in their middle, beyond the offset."""
    first = {"resolution": [2, 3, 4], "offset": [10, 0, -4], "unit": "nm"}
    level = numbered_level(first, {"downsamplingFactors": [2, 4, 1], "resolution": [9, 9, 9]}, 3)
    assert [(a.scale, a.translation, a.unit) for a in level or ()] == [
        (4, -4, "nm"), (12, 4.5, "nm"), (4, 11, "nm"),
    ]  # fmt: skip
    whole = numbered_level({"resolution": [2, 3, 4]}, {"unit": "um"}, 3)
    assert [(a.scale, a.translation, a.unit) for a in whole or ()] == [
        (4, None, "um"), (3, None, "um"), (2, None, "um"),
    ]  # fmt: skip
    mixed = numbered_level({"resolution": [2, 3], "units": ["nm", "um"]}, {"unit": "m"}, 2)
    assert [a.unit for a in mixed or ()] == ["um", "nm"]
    alone = n5_axes({**first, "downsamplingFactors": [2, 4, 1]}, 3)  # as n5-universe reads it
    assert [a.translation for a in alone or ()] == [-4, 0, 10]


IMAGEJ = {
    "title": "cells", "fps": 7.0, "frameInterval": 1.5, "pixelUnit": "micron", "pixelWidth": 0.5,
    "pixelHeight": 0.25, "pixelDepth": 2.0, "xOrigin": 10.0, "yOrigin": -4.0, "zOrigin": 0.0,
    "numChannels": 2, "numSlices": 5, "numFrames": 3, "ImagePlusType": 1,
}  # fmt: skip


def test_n5_ij():
    assert imagej(IMAGEJ, (3, 5, 2, 8, 9)) == (
        Axis("t", "second", 1.5, None, "time"),
        Axis("z", "micron", 2.0, 0.0, "space"),
        Axis("c", None, None, None, "channel"),
        Axis("y", "micron", 0.25, 1.0, "space"),
        Axis("x", "micron", 0.5, -5.0, "space"),
    )
    alone = {"numChannels": 1, "numSlices": 1, "numFrames": 1}
    for several, names in (
        ({}, "yx"), ({"numChannels": 6}, "cyx"), ({"numSlices": 6}, "zyx"),
        ({"numFrames": 6}, "tyx"),
    ):  # fmt: skip
        axes = imagej({**IMAGEJ, **alone, **several}, (6, 8, 9)[3 - len(names) :])
        assert "".join(a.name for a in axes or ()) == names
    frames = imagej({**IMAGEJ, **alone, "numFrames": 6, "frameInterval": 0.0}, (6, 8, 9))
    assert frames is not None
    assert frames[0].scale is None  # ImageJ's word for unknown


@pytest.mark.parametrize("shape", [(), (9,), (8, 9), (2, 5, 3, 8, 9), (3, 5, 2, 1, 8, 9)])
def test_n5_ij_of_another_shape(shape: tuple[int, ...]):
    assert imagej(IMAGEJ, shape) is None


@pytest.mark.parametrize("value", [None, "5", [5], {}, True, 1e999, 10**400, 0, -1])
@pytest.mark.parametrize("key", IMAGEJ)
def test_n5_ij_that_makes_no_sense(key: str, value: Any):
    axes = imagej({**IMAGEJ, key: value}, (3, 5, 2, 8, 9))
    assert axes is None or "".join(a.name for a in axes) == "tzcyx"


def test_what_fiji_wrote_into_zarr():
    """Others than Fiji's programs write `resolution` in the order of Zarr's axes."""
    viewer = {"pixelResolution": {"unit": "um", "dimensions": [1, 2]}}
    assert zarr_axes(viewer, (4, 5)) == n5_axes(viewer, 2) != None  # noqa: E711
    assert zarr_axes(IMAGEJ, (3, 5, 2, 8, 9)) == imagej(IMAGEJ, (3, 5, 2, 8, 9))
    others = {"resolution": [40, 4], "offset": [0, 8], "units": ["nm"] * 2, "axes": ["y", "x"]}
    assert zarr_axes(others, (4, 5)) is None


@pytest.mark.parametrize(
    ("attributes", "words", "paths"),
    [
        ({"multiscales": {}}, "no list", set()),
        ({"multiscales": [5]}, "without a list of datasets", set()),
        ({"multiscales": [image(datasets=[5, {"path": ""}, {"path": "2"}])]}, "without a path",
         {"2"}),
        ({"multiscales": [image(axes="zyx")]}, "axes are no list", set()),
        ({"multiscales": [image(axes=[{"type": "space"}] * 3)]}, "without a name", set()),
        ({"multiscales": [image(axes=["y", "y", "x"])]}, "distinct", {"0", "1"}),
        ({"multiscales": [image(axes=AXES[:2])]}, "not understood", {"0", "1"}),
        ({"multiscales": [image(coordinateTransformations=5)]}, "no list", {"0", "1"}),
        ({"multiscales": [image(coordinateTransformations=[scale(1, "a", 2)])]},
         "not understood", {"0", "1"}),
        ({"multiscales": [image(coordinateTransformations=[{"type": "affine"}])]},
         "not understood", {"0", "1"}),
        ({"multiscales": [{"datasets": [{"path": "s0", "transform": {"axes": 5}}]}]}, "axes are",
         set()),
        ({"scales": [["a"], [1, 2]], "pixelResolution": [1, 2]}, "factors", {"s1"}),
        ({"multiScale": True, "resolution": "4 nm"}, "resolution: no list", set()),
        ({"multiScale": True, "resolution": [4], "offset": {}}, "offset: no list", set()),
    ],
)  # fmt: skip
def test_what_is_broken_is_remarked(attributes: dict[str, Any], words: str, paths: set[str]):
    assert any(words in text for text in remarks(attributes))
    assert set(level_axes(attributes)) == paths


def test_transforms_that_are_not_understood_give_no_scale():
    odd = image(coordinateTransformations=[{"type": "affine", "affine": [[1]]}])
    assert all(a.scale is None for a in level_axes({"multiscales": [odd]})["0"])


def test_default_names():
    assert axes.default_names(0) == ()
    assert axes.default_names(1) == ("x",)
    assert axes.default_names(4) == ("i", "z", "y", "x")
    for ndim in range(33):
        names = axes.default_names(ndim)
        assert len(names) == ndim
        assert axes.valid(names)
    assert axes.default_names(32)[22:27] == ("h", "ii", "jj", "kk", "ll")


def test_the_first_candidate_with_valid_names_wins():
    good, other = (Axis("a"), Axis("b")), (Axis("c"), Axis("d"))
    assert axes.choose(2, None, good, other) == good
    assert axes.choose(2, (Axis("a"),), other) == other
    assert axes.choose(2, (Axis("a"), Axis("a")), other) == other
    assert axes.choose(2, (Axis("a_b"), Axis("c"))) == (Axis("y"), Axis("x"))
    unnamed = (Axis("", "nm", 2.0), Axis("", "nm", 3.0))
    assert axes.choose(2, unnamed) == (Axis("y", "nm", 2.0), Axis("x", "nm", 3.0))
    assert axes.choose(3) == (Axis("z"), Axis("y"), Axis("x"))
