"""One suite that every store passes: what `znfs.stores.base.Store` promises, word for word."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.conftest import running
from tests.servers.nginx import Nginx, served
from tests.servers.s3 import S3
from znfs.errors import NotListable, Stale, StoreError
from znfs.options import Options
from znfs.stores import Store, open_store
from znfs.stores.base import Stat
from znfs.stores.ranges import check, content_length, content_range, empty, resolve

BIG = random.Random(1).randbytes(200_000)
CONTENT = {
    "zarr.json": b'{"zarr_format": 3}',
    "a/c/0/0": BIG,
    "a/c/0/1": b"x",
    "a/zarr.json": b"{}",
    "empty": b"",
    "deep/er/still": b"deep",
}
ODD_KEYS = (
    "a b", "p%20q", "p%q", "hash#x", "q?mark", "a+b", "a&b=c", "semi;colon", "co:lon", "ünï/ß",
    "br[ac]{ke}t", "quote'\"", "pipe|x", "til~de", "st*r", "back\\slash", "<x>", "日本",
)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with running(S3) as server, mock.patch.dict(os.environ, server.environment):
        yield server


@pytest.fixture(scope="module")
def www(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("www")


@pytest.fixture(scope="module")
def nginx(www: Path) -> Iterator[Nginx]:
    with served(www) as server:
        yield server


@dataclass
class Place:
    """Somewhere to write objects, and the URL at which a store reads them."""

    url: str
    write: Callable[[dict[str, bytes]], None]  # replaces all there is
    options: dict[str, Any]
    lists: bool = True

    def open(self, **more: Any) -> Store:
        return open_store(self.url, Options(**{"deadline": 10.0, **self.options, **more}))[0]


_clock = iter(range(1_700_000_000, 1_800_000_000, 10))


def folder_writer(folder: Path) -> Callable[[dict[str, bytes]], None]:
    """Every file with another mtime: nginx's ETag is the second and the size."""

    def write(content: dict[str, bytes]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for key, data in content.items():
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            now = next(_clock)
            os.utime(path, (now, now))

    return write


def zip_writer(put: Callable[[bytes], None]) -> Callable[[dict[str, bytes]], None]:
    """Half of the members deflated."""

    def write(content: dict[str, bytes]) -> None:
        import io

        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as file:
            for i, (key, data) in enumerate(content.items()):
                method = zipfile.ZIP_DEFLATED if i % 2 else zipfile.ZIP_STORED
                file.writestr(f"in/{key}", data, method)
            file.writestr("elsewhere", b"not below the path")
        put(out.getvalue())

    return write


def put_file(path: Path) -> Callable[[bytes], None]:
    def put(data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        now = next(_clock)
        os.utime(path, (now, now))

    return put


def s3_writer(client: Any, bucket: str, prefix: str) -> Callable[[dict[str, bytes]], None]:
    def write(content: dict[str, bytes]) -> None:
        there = client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        for found in there:
            client.delete_object(Bucket=bucket, Key=found["Key"])
        for key, data in content.items():
            client.put_object(Bucket=bucket, Key=f"{prefix}{key}", Body=data)

    return write


def s3_place(s3: S3, backend: str, prefix: str = "pre/fix/") -> Place:
    client, bucket = s3.client(), f"bucket-{os.urandom(4).hex()}"
    client.create_bucket(Bucket=bucket)
    return Place(
        f"s3://{bucket}/{prefix}".rstrip("/") if prefix != "/" else f"s3://{bucket}",
        s3_writer(client, bucket, prefix.lstrip("/")),
        {"endpoint_url": s3.url, "backend": backend},
    )


def memory_writer(root: str) -> Callable[[dict[str, bytes]], None]:
    def write(content: dict[str, bytes]) -> None:
        import fsspec

        fs = fsspec.filesystem("memory")
        if fs.exists(root):
            fs.rm(root, recursive=True)
        for key, data in content.items():
            fs.pipe_file(f"{root}/{key}", data)

    return write


def make_place(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    name = os.urandom(4).hex()
    if kind == "local":
        return Place(str(tmp_path / "x.zarr"), folder_writer(tmp_path / "x.zarr"), {})
    if kind == "memory":
        return Place(f"memory://{name}/x", memory_writer(f"/{name}/x"), {})
    if kind == "zip":
        path = tmp_path / "a.zip"
        return Place(f"zip://in::{path}", zip_writer(put_file(path)), {})
    if kind in ("s3", "s3fs", "s3-root"):
        backend = "fsspec" if kind == "s3fs" else "auto"
        prefix = "/" if kind == "s3-root" else "pre/fix/"
        return s3_place(request.getfixturevalue("s3"), backend, prefix)
    if kind == "zip-s3":
        place = s3_place(request.getfixturevalue("s3"), "auto")
        base = place.write
        place.write = zip_writer(lambda data: base({"a.zip": data}))
        place.url += "/a.zip|zip:in"
        return place
    nginx, www = request.getfixturevalue("nginx"), request.getfixturevalue("www")
    if kind == "zip-http":
        url = f"zip://in::{nginx.url('plain')}/{name}/a.zip"
        return Place(url, zip_writer(put_file(www / name / "a.zip")), {})
    temper = kind.removeprefix("http-")
    if temper == "https":
        request.getfixturevalue("monkeypatch").setenv("SSL_CERT_FILE", nginx.ca)
    options: dict[str, Any] = {}
    if temper == "auth":
        options["storage_option"] = {"username": nginx.user, "password": nginx.password}
    return Place(
        f"{nginx.url(temper)}/{name}/x.zarr", folder_writer(www / name / "x.zarr"), options,
        lists=temper != "no-listing",
    )


KINDS = (
    "local", "memory", "s3", "s3-root", "s3fs", "zip", "zip-s3", "zip-http",
    "http-plain", "http-no-listing", "http-no-range", "http-no-head", "http-no-etag", "http-auth",
    "http-https", "http-redirect", "http-flaky-503", "http-flaky-reset",
)


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    place = make_place(request.param, request, tmp_path)
    place.write(CONTENT)
    return place


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    store = place.open()
    yield store
    store.close()


def read(store: Store, key: str, start: int = 0, stop: int | None = None) -> bytes:
    blob = store.get(key, start, stop)
    assert blob is not None
    return bytes(blob.data)


def test_whole_objects(store: Store) -> None:
    for key, data in CONTENT.items():
        assert read(store, key) == data


RANGES = [
    (0, 0), (0, 1), (0, None), (5, 5), (7, 3), (1, 2), (1, None), (10, 20), (100_000, 100_007),
    (199_999, 200_000), (199_999, None), (199_990, 300_000), (0, 200_000), (0, 10**12),
    (200_000, None), (200_000, 200_001), (200_001, 10**9), (10**12, 10**12 + 1),
    (-1, None), (-16, None), (-199_999, None), (-200_000, None), (-300_000, None),
]


@pytest.mark.parametrize("key", ["a/c/0/0", "a/c/0/1", "empty", "zarr.json"])
def test_ranges(store: Store, key: str) -> None:
    data, found = CONTENT[key], store.stat(key)
    assert found is not None
    for start, stop in RANGES:
        blob = store.get(key, start, stop)
        assert blob is not None
        assert bytes(blob.data) == data[start:stop], (start, stop)
        assert blob.version == found.version, (start, stop)


def test_random_ranges_from_many_threads(store: Store) -> None:
    dice = random.Random(2)
    ranges = [sorted(dice.sample(range(200_000), 2)) for _ in range(150)]
    with ThreadPoolExecutor(16) as pool:
        for (lo, hi), got in zip(
            ranges, pool.map(lambda r: read(store, "a/c/0/0", *r), ranges), strict=True
        ):
            assert got == BIG[lo:hi]


def test_one_version_whoever_asks(place: Place, store: Store) -> None:
    again = place.open()
    for key in CONTENT:
        whole, found = store.get(key), again.stat(key)
        assert whole is not None
        assert found is not None
        assert whole.version == found.version
        assert whole.mtime == found.mtime
        assert found.size == len(CONTENT[key])
    again.close()


def test_mtime_is_in_seconds(store: Store, request: pytest.FixtureRequest) -> None:
    found = store.stat("zarr.json")
    assert found is not None
    assert 1.6e9 < found.mtime < 4e9


def test_versions_differ(store: Store) -> None:
    versions = {found.version for key in CONTENT if (found := store.stat(key))}
    assert len(versions) >= 3  # a zip file has one mtime, memory a coarse clock


ABSENT = ["nothing", "nothing/at/all", "a/c/0/2", "zarr.json/below", "a/c", "a", "deep"]


@pytest.mark.parametrize("key", ABSENT)
def test_absent_is_none(store: Store, key: str) -> None:
    assert store.get(key) is None
    assert store.get(key, 3, 9) is None
    assert store.get(key, -4) is None
    assert store.get(key, 4, 4) is None
    assert store.get(key, if_match='"x"') is None
    assert store.stat(key) is None


@pytest.mark.parametrize(
    "key", ["..", "../x.zarr/zarr.json", "a/../zarr.json", "./zarr.json", "a/..", "."]
)
def test_keys_do_not_leave_the_root(store: Store, key: str) -> None:
    assert store.get(key) is None
    assert store.stat(key) is None


def test_names_that_are_no_utf8(store: Store) -> None:
    assert store.get("a\udcff") is None
    assert store.stat("a\udcff") is None


def test_list(place: Place, store: Store) -> None:
    if not place.lists:
        for prefix in ("", "a", "nothing"):
            with pytest.raises(NotListable):
                list(store.list(prefix))
        return
    assert {(e.name, e.is_prefix) for e in store.list("")} == {
        ("a", True), ("deep", True), ("zarr.json", False), ("empty", False),
    }
    assert {(e.name, e.is_prefix) for e in store.list("a")} == {("c", True), ("zarr.json", False)}
    assert {(e.name, e.is_prefix) for e in store.list("a/c/0")} == {("0", False), ("1", False)}
    assert [(e.name, e.is_prefix) for e in store.list("deep")] == [("er", True)]
    assert list(store.list("nothing")) == []
    assert list(store.list("nothing/at/all")) == []
    assert list(store.list("zarr.json")) == []


def test_list_tells_sizes(place: Place, store: Store) -> None:
    if "://127.0.0.1" in place.url and "zip:" not in place.url:
        pytest.skip("web servers' pages round sizes")
    assert {e.name: e.size for e in store.list("a/c/0")} == {"0": 200_000, "1": 1}


def test_if_match(store: Store) -> None:
    found = store.stat("a/c/0/0")
    assert found is not None
    for start, stop in ((0, None), (5, 9), (-7, None), (200_000, 200_010), (3, 3)):
        blob = store.get("a/c/0/0", start, stop, if_match=found.version)
        assert blob is not None
        assert bytes(blob.data) == BIG[start:stop]
        for wrong in ('"nothing"', "1-2-3", 'W/"weak"', ""):
            with pytest.raises(Stale):
                store.get("a/c/0/0", start, stop, if_match=wrong)


def test_a_change_shows(place: Place, store: Store) -> None:
    """Same size, other bytes: other version, and the old one is not to be had."""
    before = store.get("a/c/0/0")
    assert before is not None
    other = BIG[::-1]
    place.write({**CONTENT, "a/c/0/0": other})
    with pytest.raises(Stale):
        store.get("a/c/0/0", 5, 9, if_match=before.version)
    after = store.get("a/c/0/0")
    assert after is not None
    assert bytes(after.data) == other
    assert after.version != before.version
    assert read(store, "a/c/0/0", 10, 20) == other[10:20]
    now = store.stat("a/c/0/0")
    assert now is not None
    assert now.version == after.version


def test_what_goes_and_comes(place: Place, store: Store) -> None:
    assert read(store, "zarr.json")
    place.write({"other": b"1"})
    deadline = threading.Event()
    # A remote zip file's directory is trusted for a second.
    for _ in range(40):
        if store.get("zarr.json") is None:
            break
        deadline.wait(0.05)
    assert store.get("zarr.json") is None
    assert read(store, "other") == b"1"
    place.write(CONTENT)
    for _ in range(40):
        if store.get("zarr.json") is not None:
            break
        deadline.wait(0.05)
    assert read(store, "zarr.json") == CONTENT["zarr.json"]


def test_an_empty_place(place: Place, store: Store) -> None:
    place.write({})
    assert store.get("zarr.json") is None
    assert store.stat("zarr.json") is None


def test_odd_keys(place: Place) -> None:
    content = {key: f"body of {key}".encode() for key in ODD_KEYS}
    place.write(content)
    store = place.open()
    for key, data in content.items():
        assert read(store, key) == data, key
        assert read(store, key, 2, 6) == data[2:6], key
    if place.lists:
        assert {e.name for e in store.list("")} == {key.partition("/")[0] for key in ODD_KEYS}
        assert [e.name for e in store.list("ünï")] == ["ß"]
    store.close()


def test_urls_hold_no_secret(place: Place, store: Store) -> None:
    assert "pass" not in store.url
    assert store.concurrency >= 2
    assert store.local == (place.url.startswith("/") or place.url.startswith("zip://in::/"))


def test_a_store_opens_without_its_place(place: Place) -> None:
    """No request before the first use: a mount at boot comes up before its store."""
    url = place.url.replace("127.0.0.1", "127.0.0.2").replace("/tmp", "/nowhere")
    store, info = open_store(url, Options(**{**place.options, "endpoint_url": "http://127.0.0.2"}))
    assert info.name in ("x", "in", "fix", "root")
    store.close()


def test_imports_stay_light() -> None:
    """`znfs --help` must not wait for storage libraries, nor a fork meet their threads."""
    code = (
        "import sys, znfs.stores; "
        "print([m for m in ('obstore', 'fsspec', 's3fs', 'botocore', 'urllib3', 'aiohttp') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "length"),
    [("0", 0), ("123", 123), ("", None), ("-1", None), ("1,2", None), ("\u0663", None),
     ("9" * 18, 10**18 - 1), ("9" * 19, None)],
)  # fmt: skip
def test_content_length(text: str, length: int | None) -> None:
    assert content_length(text) == length


@pytest.mark.parametrize(
    ("text", "told"),
    [("bytes 0-9/20", (0, 10, 20)), ("bytes 5-5/*", (5, 6, None)), ("bytes */20", None),
     ("bytes 0-9", None), ("lines 0-9/20", None), ("", None)],
)  # fmt: skip
def test_content_range(text: str, told: tuple[int, int, int | None] | None) -> None:
    assert content_range(text) == told


@pytest.mark.parametrize(
    ("start", "stop"),
    [*product((-9, -3, -1), (None,)), *product((0, 1, 4, 5, 6), (None, 0, 1, 4, 5, 9))],
)
def test_what_a_range_means_and_that_nothing_else_passes_for_it(
    start: int, stop: int | None
) -> None:
    data = b"01234"
    lo, hi = resolve(start, stop, 5)
    assert data[lo:hi] == data[start:stop]
    check("k", data[lo:hi], start, stop, lo, hi, 5)
    for other in ((data[lo:hi] + b"x", lo, hi), (data[lo:hi], lo, hi + 1), (b"", lo - 1, lo - 1)):
        with pytest.raises(StoreError, match="k: wrong answer"):
            check("k", other[0], start, stop, *other[1:], 5)
    if lo < hi:
        with pytest.raises(StoreError, match="refuses bytes"):
            empty("k", Stat(5, "v", 0.0), start, stop, None)
    else:
        blob = empty("k", Stat(5, "v", 0.0), start, stop, "v")
        assert blob is not None
        assert (blob.data, blob.version) == (b"", "v")
        with pytest.raises(Stale):
            empty("k", Stat(5, "v", 0.0), start, stop, "other")
