"""HDF5's and other programs on the mount."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from tests.conftest import require
from tests.readers import samples
from tests.readers.conftest import Sample
from tests.readers.programs import run, version


def test_h5dump(sample: Sample, note: Callable[..., None], tmp_path: Path) -> None:
    require("h5dump")
    row = ("h5dump", version("h5dump", "--version"))
    raw = tmp_path / "raw"
    for name, (values, _) in samples.arrays().items():
        run("h5dump", "-d", f"/{name}", "-b", "LE", "-o", raw, sample.hierarchy)
        np.testing.assert_array_equal(np.fromfile(raw, values.dtype), values.ravel())
    note(*row, "datasets")
    out = run("h5dump", "-a", "/img/text", "-a", "/ints", sample.hierarchy)
    assert re.search(r'"\S+ text"', out)  # é is shown by escapes
    assert "1, 2, 3" in out
    note(*row, "attributes")
    corner = "63998,63998,63998"
    out = run("h5dump", "-d", "/sparse", "-s", corner, "-c", "2,2,2", sample.sparse)
    assert len(re.findall(r"\): 2, 2", out)) == 4
    note(*row, "10^9 chunks")
    out = run("h5dump", "-y", "-w", "5000", "-d", "/words", sample.strings).split("DATA {")[1]
    texts = re.findall(r'"([^"]*)"', out)
    assert len(texts) == len(samples.STRINGS)
    for text, expected in zip(texts, samples.STRINGS, strict=True):
        assert text == expected or not expected.isascii()  # é is shown by escapes
    note(*row, "strings")


def test_h5repack_and_h5diff(sample: Sample, note: Callable[..., None], tmp_path: Path) -> None:
    require("h5repack", "h5diff", "h5copy", "h5stat", "h5ls")
    copy = tmp_path / "copy.h5"
    run("h5repack", sample.hierarchy, copy)
    run("h5diff", sample.hierarchy, copy)
    with h5py.File(copy) as file:
        for name, digest in sample.digests.items():
            assert samples.digest(file[name][...]) == digest
        assert file["img"].attrs["long"] == samples.LONG_TEXT
    run("h5repack", sample.strings, tmp_path / "strings.h5")
    run("h5diff", sample.strings, tmp_path / "strings.h5")
    with h5py.File(tmp_path / "strings.h5") as file:
        assert file["words"].asstr()[...].tolist() == samples.STRINGS
    for program in ("h5repack", "h5diff"):
        note(program, version(program, "--version"), "strings")
        note(program, version(program, "--version"), "datasets")
        note(program, version(program, "--version"), "attributes")
    run("h5copy", "-i", sample.hierarchy, "-o", tmp_path / "one.h5", "-s", "/many", "-d", "/many")
    with h5py.File(tmp_path / "one.h5") as file:
        assert len(file["many"]) == samples.MANY
    note("h5copy", version("h5copy", "--version"), "datasets")
    listing = run("h5ls", "-r", sample.hierarchy)
    assert listing.count("Dataset") == len(sample.digests)
    note("h5ls", version("h5ls", "--version"), "datasets")
    assert f"# of unique datasets: {len(sample.digests)}" in run("h5stat", sample.hierarchy)
    note("h5stat", version("h5stat", "--version"), "datasets")


def test_fixed_slots(sample: Sample) -> None:
    require("h5dump", "h5ls", "h5stat")
    assert sample.slots.stat().st_size == 1 << 62
    assert run("h5ls", sample.slots).count("Dataset") == 1100
    assert "1099, 1099" in run("h5dump", "-d", "/a1099", sample.slots)
    assert "# of unique datasets: 1100" in run("h5stat", sample.slots)
    with h5py.File(sample.slots) as file:
        assert all((file[f"a{i}"][()] == i).all() for i in range(0, 1100, 100))


def test_ncdump(sample: Sample, note: Callable[..., None]) -> None:
    require("ncdump")
    row = ("ncdump", "netcdf-bin")
    out = run("ncdump", "-v", "types/i2", sample.hierarchy)
    numbers = out.split(" i2 =")[1].split(";")[0].replace(",", " ").split()
    np.testing.assert_array_equal(np.array(numbers, int), samples.arrays()["types/i2"][0].ravel())
    note(*row, "datasets")
    assert ':text = "é text"' in out
    assert ":ints = 1LL, 2LL, 3LL" in out
    note(*row, "attributes")
    assert "ushort sparse(" in run("ncdump", "-h", sample.sparse)
    texts = run("ncdump", "-l", "9999", "-v", "words", sample.strings).split(" words =")[1]
    found = re.findall(r'_|"[^"]*"', texts)  # an empty one is the type's fill value
    assert [text.strip('"_') for text in found] == samples.STRINGS
    note(*row, "strings")


def test_gdal(sample: Sample, note: Callable[..., None], tmp_path: Path) -> None:
    require("gdal_translate", "gdalinfo")
    row = ("GDAL", version("gdalinfo", "--version"))
    for name in ("types/u1", "types/i2", "types/i4"):
        raw = tmp_path / "raw.bin"
        run("gdal_translate", "-q", "-of", "ENVI", f'HDF5:"{sample.hierarchy}"://{name}', raw)
        values = samples.arrays()[name][0]
        np.testing.assert_array_equal(np.fromfile(raw, values.dtype), values.ravel())
    note(*row, "datasets", "yes (2-D)")


def test_octave(sample: Sample, note: Callable[..., None]) -> None:
    require("octave-cli")
    out = run(
        "octave-cli", "--quiet", "--eval",
        f"s = load('-hdf5', '{sample.hierarchy}'); x = s.types.i4;"
        "printf('%d ', size(x)); printf('%d ', double(x));",
    ).split()  # fmt: skip
    values = samples.arrays()["types/i4"][0]
    assert out[:2] == ["20", "30"]  # Octave's axes run the other way
    np.testing.assert_array_equal(np.array(out[2:], int), values.ravel())
    note("Octave load", version("octave-cli", "--version"), "datasets", "yes (2-D)")
