"""References and zip files, local and remote, against what h5py and zarr-python read.

The remote ones are on S3 (a gateway) and on a web server; one mount each.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from tests.conftest import Mount, running, znfs
from tests.fuzz.hostile import noise
from tests.servers.nginx import Nginx, served
from tests.servers.s3 import S3
from znfs.errors import Denied, SourceError, StoreError, UsageError, ZnfsError
from znfs.options import Options
from znfs.stores import open_store

ARRAYS = ("t", "u", "g/x")
URLS = {"local": "{}", "s3": "s3://data/{}", "web": "{}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A NetCDF-like HDF5 file, and the same arrays in a zip file of Zarr."""
    root = tmp_path_factory.mktemp("archives")
    rng = np.random.default_rng(0)
    with h5py.File(root / "source.nc", "w") as f:
        data = rng.normal(size=(20, 30)).astype("f4")
        f.create_dataset("t", data=data, chunks=(8, 16), compression="gzip", shuffle=True)
        f.create_dataset("u", data=rng.integers(0, 1000, (20, 30)).astype(">i2"))
        f.create_group("g").create_dataset("x", data=np.arange(12.0))
    with h5py.File(root / "source.nc") as f, zarr.storage.ZipStore(root / "a.zip", mode="w") as z:
        group = zarr.create_group(z, zarr_format=3)
        for name in ARRAYS:
            group.create_array(name, data=f[name][:])
    return root


def references(source: Path, url: str) -> dict[str, Any]:
    """Kerchunk's references to the file `source`, which readers find at `url`."""
    hdf = pytest.importorskip("kerchunk.hdf")
    with source.open("rb") as file:
        return hdf.SingleHdf5ToZarr(file, url, inline_threshold=50).translate()


def parquet(found: dict[str, Any], folder: Path) -> None:
    frames = pytest.importorskip("kerchunk.df")
    frames.refs_to_dataframe(found["refs"], str(folder), record_size=4)


@pytest.fixture(scope="module")
def local(folder: Path) -> Path:
    """References to the file in this folder."""
    found = references(folder / "source.nc", str(folder / "source.nc"))
    (folder / "local.json").write_text(json.dumps(found))
    parquet(found, folder / "local.parq")
    # VirtualiZarr and others: version 1 with a template, and version 0 without any.
    templates = {"version": 1, "templates": {"f": f"file://{folder}"}, "refs": {
        k: [v[0].replace(str(folder), "{{f}}"), *v[1:]] if isinstance(v, list) else v
        for k, v in found["refs"].items()}}  # fmt: skip
    (folder / "template.json").write_text(json.dumps(templates))
    (folder / "bare.json").write_text(json.dumps({
        k: ["source.nc", *v[1:]] if isinstance(v, list) else v for k, v in found["refs"].items()
    }))  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def s3(folder: Path) -> Iterator[S3]:
    """A bucket with the file, references to it there, and the zip file."""
    with running(S3) as server:
        client = server.client()
        client.create_bucket(Bucket="data")
        found = references(folder / "source.nc", "s3://data/source.nc")
        below = folder / "s3"
        below.mkdir()
        (below / "s3.json").write_text(json.dumps(found))
        parquet(found, below / "s3.parq")
        for name in ("source.nc", "a.zip"):
            shutil.copy(folder / name, below)
        for path in below.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), "data", str(path.relative_to(below)))
        yield server


def check(mounted: Path, source: Path) -> None:
    """That every array's view holds what h5py reads, and so does the HDF5 view of all."""
    with h5py.File(source) as f, h5py.File(next(mounted.glob("*.h5"))) as all_of_it:
        for name in ARRAYS:
            view = np.load(mounted / name / f"{name.rpartition('/')[2]}.npy")
            np.testing.assert_array_equal(view, f[name][:])
            np.testing.assert_array_equal(all_of_it[name][:], f[name][:])


@pytest.mark.parametrize(
    ("document", "feature"),
    [
        ("local.json", "JSON references, version 1"),
        ("template.json", "JSON references, templates"),
        ("bare.json", "JSON references, version 0, relative paths"),
        ("local.parq", "Parquet references"),
    ],
)
def test_local_references(
    document: str, feature: str, local: Path, mount: Mount, found: Callable[..., None]
) -> None:
    mounted = mount(f"reference://::{local / document}")
    check(mounted, local / "source.nc")
    raw = (mounted / "t/0.1").read_bytes()
    with h5py.File(local / "source.nc") as f:
        assert raw == f["t"].id.read_direct_chunk((0, 16))[1]
    found("References and archives", f"{feature}, local", "kerchunk", "h5py", "equal", 3)


def test_local_zip(folder: Path, mount: Mount, found: Callable[..., None]) -> None:
    check(mount(f"zip::{folder / 'a.zip'}"), folder / "source.nc")
    found("References and archives", "Zarr v3 in zip, local", "zarr-python 3", "h5py", "equal", 3)


@pytest.mark.parametrize(
    ("source", "feature", "writer"),
    [
        ("reference://::s3://data/s3.json", "JSON references, S3", "kerchunk"),
        ("reference://::s3://data/s3.parq", "Parquet references, S3", "kerchunk"),
        ("zip::s3://data/a.zip", "Zarr v3 in zip, S3", "zarr-python 3"),
    ],
)
def test_on_s3(
    source: str, feature: str, writer: str, s3: S3, folder: Path, mount: Mount,
    monkeypatch: pytest.MonkeyPatch, found: Callable[..., None],
) -> None:  # fmt: skip
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    mounted = mount(source, "--endpoint-url", s3.url)
    check(mounted, folder / "source.nc")
    found("References and archives", feature, writer, "h5py", "equal", 3)


@pytest.fixture(scope="module")
def nginx(folder: Path) -> Iterator[Nginx]:
    with served(folder) as server:
        yield server


def test_on_the_web(
    nginx: Nginx, folder: Path, mount: Mount, found: Callable[..., None]
) -> None:
    base = nginx.url("no-listing")
    refs = references(folder / "source.nc", f"{base}/source.nc")
    (folder / "web.json").write_text(json.dumps(refs))
    check(mount(f"reference://::{base}/web.json"), folder / "source.nc")
    assert znfs("ls", f"reference://g::{base}/web.json").stdout.split()
    check(mount(f"zip::{base}/a.zip"), folder / "source.nc")
    for feature, writer in (("JSON references", "kerchunk"), ("Zarr v3 in zip", "zarr-python 3")):
        found("References and archives", f"{feature}, web", writer, "h5py", "equal", 3)


def test_every_way_to_name_references(local: Path) -> None:
    document = local / "local.json"
    for source, options in (
        (f"reference://::{document}", Options()),
        (f"reference://::file://{document}", Options()),
        (f"reference://?fo={document}", Options()),
        ("reference://", Options(storage_option={"fo": str(document)})),
    ):
        store, info = open_store(source, options)
        assert info.name == "local.json"
        assert {e.name for e in store.list("")} >= {".zgroup", "t", "u", "g"}
        assert store.get("t/9.9") is None
    store, info = open_store(f"reference://g/x::{document}", Options())
    assert info.name == "x"
    assert store.stat(".zarray")
    for bad in ("reference://", "reference://x", "reference://::"):
        with pytest.raises(UsageError, match="names no references"):
            open_store(bad, Options())


def write(path: Path, document: Any) -> str:
    path.write_text(json.dumps(document))
    return f"reference://::{path}"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "not a JSON object"),
        ({"version": 2, "refs": {}}, "version 2"),
        ({"version": 1, "refs": []}, "no references"),
        ({"version": 1, "gen": [{"key": "{{i}}"}], "refs": {}}, "runs code"),
        ({"version": 1, "templates": {"f": "{{1}}"}, "refs": {}}, "is a function"),
        ({"version": 1, "refs": {"a": ["{{nope}}"]}}, "unknown template"),
        ({"a": ["x", -1, 5]}, "no reference"),
        ({"a": ["x", 1]}, "no reference"),
        ({"a": [7, 1, 1]}, "no reference"),
        ({"a": "base64:!"}, "a: "),
        ({"a": "base64:é"}, "a: "),
    ],
)
def test_documents_that_are_refused(document: Any, words: str, tmp_path: Path) -> None:
    store, _ = open_store(write(tmp_path / "r.json", document), Options())
    with pytest.raises(SourceError, match=words):
        store.get("a")


def test_what_a_reference_lacks_is_an_error_never_fill(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(range(100)))
    at = str(tmp_path / "data")
    store, _ = open_store(
        write(tmp_path / "r.json", {
            "whole": [at], "part": [at, 10, 5], "beyond": [at, 98, 5], "huge": [at, 0, 1 << 60],
            "gone": [at + "x", 0, 5], "inline": "text", "coded": "base64:AAEC", "../out": "x",
        }),
        Options(),
    )  # fmt: skip
    for key, data in (
        ("whole", bytes(range(100))), ("part", bytes(range(10, 15))), ("inline", b"text"),
        ("coded", b"\0\1\2"),
    ):  # fmt: skip
        blob, stat = store.get(key), store.stat(key)
        assert blob is not None
        assert stat is not None
        assert (bytes(blob.data), blob.version) == (data, stat.version)
        assert stat.size == len(data)
        tail = store.get(key, -2)
        assert tail is not None
        assert bytes(tail.data) == data[-2:]
    for key in ("beyond", "gone", "huge"):
        with pytest.raises(StoreError, match="refers to"):
            store.get(key)
    assert store.get("../out") is None
    assert store.get("absent") is None
    before = store.stat("part")
    (tmp_path / "data").write_bytes(bytes(range(1, 101)))
    os.utime(tmp_path / "data", (1, 1))
    after = store.stat("part")
    assert before is not None
    assert after is not None
    assert before.version != after.version


def test_a_remote_document_names_no_local_file(nginx: Nginx, folder: Path) -> None:
    write(folder / "files.json", {"a": ["/etc/hostname"], "b": ["file:///etc/hosts"]})
    store, _ = open_store(f"reference://::{nginx.url('plain')}/files.json", Options())
    for key in "ab":
        with pytest.raises(Denied, match="may not name files"):
            store.get(key)


def test_a_damaged_record_of_parquet_is_an_error(local: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(local / "local.parq", tmp_path / "r.parq")
    record = copy / "u/refs.0.parq"
    whole = record.read_bytes()
    rng = random.Random(0)
    damaged = [b"PAR1 noise", b"", b"PAR1" * 3, whole[:-1], whole[: len(whole) // 2]]
    damaged += [whole[:-300] + noise(rng, whole[-300:]) for _ in range(100)]
    for data in damaged:
        record.write_bytes(data)
        store, _ = open_store(f"reference://::{copy}", Options())
        assert store.get("t/0.0") is not None
        with contextlib.suppress(ZnfsError):  # what is damaged may be of no consequence
            store.get("u/0.0")
    record.write_bytes(damaged[0])
    store, _ = open_store(f"reference://::{copy}", Options())
    with pytest.raises(SourceError, match="no Parquet"):
        store.get("u/0.0")
