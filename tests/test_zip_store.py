"""What only zip files have: methods, nesting, damage, replacement, few requests."""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from znfs.errors import Stale, StoreError
from znfs.options import Options
from znfs.stores import open_store
from znfs.stores.base import Blob, Entry, Stat
from znfs.stores.local import LocalStore
from znfs.stores.ranges import matching
from znfs.stores.zip import ZipStore

BIG = random.Random(3).randbytes(300_000)


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


class Remote:
    """One object, and the ranges that were asked of it."""

    url, concurrency, local = "remote://a.zip", 4, False

    def __init__(self, data: bytes) -> None:
        self.data, self.version = data, "1"
        self.asked: list[tuple[int, int | None]] = []

    def get(
        self, key: str, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        self.asked.append((start, stop))
        return matching(key, Blob(self.data[start:stop], self.version, 7.0), if_match)

    def stat(self, key: str) -> Stat | None:
        return Stat(len(self.data), self.version, 7.0)

    def list(self, prefix: str) -> Iterator[Entry]:
        return iter(())

    def close(self) -> None:
        pass


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_methods(method: int) -> None:
    store = ZipStore(Remote(packed({"x": BIG, "y/z": b"1" * 5000, "e": b""}, method)))
    for name, data in (("x", BIG), ("y/z", b"1" * 5000), ("e", b"")):
        for start, stop in ((0, None), (0, 7), (100, 4000), (-9, None), (299_990, 400_000)):
            blob = store.get(name, start, stop)
            assert blob is not None
            assert bytes(blob.data) == data[start:stop]
    assert store.get("y") is None


def test_stored_members_are_ranged_gets() -> None:
    base = Remote(packed({f"c/{i}": BIG for i in range(20)}))
    store = ZipStore(base, "c")
    assert store.stat("3")
    opening = len(base.asked)
    assert opening <= 2
    blob = store.get("3", -20)
    assert blob is not None
    assert bytes(blob.data) == BIG[-20:]
    assert len(base.asked) == opening + 2  # the local header, then the bytes
    store.get("3", 1000, 2000)
    assert len(base.asked) == opening + 3
    store.get("4", 0, 100)
    assert len(base.asked) == opening + 4  # a beginning comes with its header
    store.get("5")
    assert len(base.asked) == opening + 5
    assert all(stop is not None and stop - start < 301_000 for start, stop in base.asked)


def test_many_members_and_no_comments() -> None:
    """A central directory far larger than the tail that is read first."""
    names = [f"a/{i // 100}/{i % 100}" for i in range(5000)]
    store = ZipStore(Remote(packed({name: name.encode() for name in names})))
    assert {e.name for e in store.list("a")} == {str(i) for i in range(50)}
    assert all(e.is_prefix for e in store.list("a"))
    assert len(list(store.list("a/7"))) == 100
    blob = store.get("a/33/44")
    assert blob is not None
    assert bytes(blob.data) == b"a/33/44"


def test_names_around_a_prefix() -> None:
    """`a-b` and `a.b` sort before `a/b`, `a0` after: listings must not lose any."""
    names = ["a-b", "a.b", "a/b", "a/c/d", "a0", "a/c-d", "b"]
    store = ZipStore(Remote(packed(dict.fromkeys(names, b"1"))))
    assert {(e.name, e.is_prefix) for e in store.list("")} == {
        ("a-b", False), ("a.b", False), ("a", True), ("a0", False), ("b", False),
    }
    assert {e.name for e in store.list("a")} == {"b", "c", "c-d"}


def test_folders_that_are_members() -> None:
    store = ZipStore(Remote(packed({"a/": b"", "a/b/": b"", "a/x": b"1"})))
    assert [(e.name, e.is_prefix) for e in store.list("a")] == [("x", False)]
    assert {(e.name, e.is_prefix) for e in store.list("")} == {("a", True)}
    assert store.get("a") is None
    assert store.stat("a/b") is None


def test_local_headers_longer_than_the_directory_says() -> None:
    """Extra fields of the local header alone (zip64, timestamps) shift the data."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        with file.open("big", "w", force_zip64=True) as member:
            member.write(BIG)
        file.writestr("after", b"after")
    store = ZipStore(Remote(out.getvalue()))
    for start, stop in ((0, None), (0, 50), (70_000, 70_100), (-5, None)):
        again = ZipStore(Remote(out.getvalue()))
        for each in (store, again):
            blob = each.get("big", start, stop)
            assert blob is not None
            assert bytes(blob.data) == BIG[start:stop]


def test_something_before_the_zip_file() -> None:
    store = ZipStore(Remote(b"#!/bin/sh\n" * 50 + packed({"x": BIG})))
    blob = store.get("x", 9, 99)
    assert blob is not None
    assert bytes(blob.data) == BIG[9:99]


def test_zip_in_zip(tmp_path: Path) -> None:
    inner = packed({"deep/x.zarr/zarr.json": b"{}", "deep/x.zarr/c/0": BIG}, zipfile.ZIP_DEFLATED)
    (tmp_path / "o.zip").write_bytes(packed({"in/i.zip": inner}))
    store, info = open_store(f"{tmp_path}/o.zip|zip:in/i.zip|zip:deep/x.zarr|zarr3:", Options())
    blob = store.get("c/0", 5, 2000)
    assert blob is not None
    assert bytes(blob.data) == BIG[5:2000]
    assert (info.name, info.format) == ("x", "zarr3")
    assert {e.name for e in store.list("")} == {"zarr.json", "c"}


def test_damage() -> None:
    good = packed({"x": BIG})
    at = good.index(BIG[:50]) + 1000
    store = ZipStore(Remote(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]))
    with pytest.raises(StoreError, match="CRC"):
        store.get("x")
    bad = packed({"x": b"abc" * 5000}, zipfile.ZIP_DEFLATED)
    for where in range(31, 60, 3):
        store = ZipStore(Remote(bad[:where] + bytes([bad[where] ^ 0x55]) + bad[where + 1 :]))
        with pytest.raises(StoreError, match="x"):
            store.get("x", 3, 9)
    store = ZipStore(Remote(b"\0\0" + good[2:]))
    with pytest.raises(StoreError, match="header"):
        store.get("x")


def test_of_a_member_no_part_is_another_one_s() -> None:
    """What the directory says of its size is said twice."""
    good = packed({"x": b"1234", "y": b"5678"})
    entry = good.index(b"PK\x01\x02")
    store = ZipStore(Remote(good[: entry + 24] + b"\xff" + good[entry + 25 :]))
    assert good[entry + 24 : entry + 28] == b"\4\0\0\0"  # 4.3.12: uncompressed size
    with pytest.raises(StoreError, match="x: damaged"):
        store.get("x", 2, 9)


@pytest.mark.parametrize("data", [b"", b"PK", b"<html>" * 100, packed({"x": BIG})[:-30]])
def test_no_zip_file(data: bytes) -> None:
    store = ZipStore(Remote(data))
    for call in (lambda: store.get("x"), lambda: store.stat("x"), lambda: list(store.list(""))):
        with pytest.raises(StoreError, match="not a zip file") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_encrypted_and_unknown_methods() -> None:
    data = bytearray(packed({"x": b"12345"}))
    central = data.index(b"PK\x01\x02")
    encrypted = bytes(data[: central + 8]) + b"\x01" + bytes(data[central + 9 :])
    with pytest.raises(StoreError, match="encrypted"):
        ZipStore(Remote(encrypted)).get("x")
    strange = bytes(data[: central + 10]) + b"\x5d" + bytes(data[central + 11 :])
    with pytest.raises(StoreError, match="93"):
        ZipStore(Remote(strange)).get("x")


def test_replaced_between_index_and_read() -> None:
    base = Remote(packed({"x": BIG}))
    store = ZipStore(base)
    before = store.get("x")
    assert before is not None
    base.data, base.version = packed({"pad": b"1" * 99, "x": BIG[::-1]}), "2"
    with pytest.raises(Stale):
        store.get("x", 5, 9, if_match=before.version)
    after = store.get("x", 5, 9)
    assert after is not None
    assert bytes(after.data) == BIG[::-1][5:9]
    assert after.version != before.version
    base.version = "3"
    again = store.get("x", 5, 9)
    assert again is not None
    assert again.version not in (before.version, after.version)


class Restless(Remote):
    """A file that is replaced after each answer to `get`, or to `stat`."""

    local = True
    after = "get"

    def get(
        self, key: str, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        blob = super().get(key, start, stop, if_match=if_match)
        self.version += "+" if self.after == "get" else ""
        return blob

    def stat(self, key: str) -> Stat | None:
        found = super().stat(key)
        self.version += "+" if self.after == "stat" else ""
        return found


@pytest.mark.parametrize("after", ["get", "stat"])
def test_a_zip_file_that_is_replaced_all_the_time_is_an_error(after: str) -> None:
    base = Restless(packed({"x": BIG}))
    base.after = after
    store = ZipStore(base)
    for call in (lambda: store.get("x"), lambda: store.stat("x"), lambda: store.get("y")):
        with pytest.raises(StoreError, match="changes while it is read"):
            call()


def test_gone_between_index_and_read() -> None:
    base = Remote(packed({"x": BIG}))
    store = ZipStore(base)
    version = store.get("x", 0, 1).version
    base.get = base.stat = lambda *args, **more: None
    with pytest.raises(Stale):
        store.get("x", 5, 9, if_match=version)
    assert store.get("x", 5, 9) is None


@pytest.mark.parametrize("start", [0, 100_000])
def test_an_archive_that_is_shorter_than_it_says(start: int) -> None:
    base = Remote(packed({"x": BIG}))
    store = ZipStore(base)
    assert store.stat("x")
    base.data = base.data[:200_000]
    with pytest.raises(StoreError, match="cut short"):
        store.get("x", start, 250_000)
    assert bytes(store.get("x", start, 190_000).data) == BIG[start:190_000]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_of_a_large_member_only_what_is_asked_for_is_unpacked(
    method: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("znfs.stores.zip._CHECKED", 1000)
    monkeypatch.setattr("znfs.stores.zip._MOST_UNPACKED", 250_000)
    data = packed({"x": BIG}, method)
    # Its size by the directory, which is a lie.
    claimed = data.replace(struct.pack("<L", len(BIG)), struct.pack("<L", 2 * len(BIG)))
    for archive in (data, claimed):
        store = ZipStore(Remote(archive))
        assert bytes(store.get("x", 5, 240_000).data) == BIG[5:240_000]
        with pytest.raises(StoreError, match="too large"):
            store.get("x", 0, 260_000)
    monkeypatch.setattr("znfs.stores.zip._MOST_UNPACKED", 1 << 20)
    assert bytes(store.get("x", 5, len(BIG)).data) == BIG[5:]
    with pytest.raises(StoreError, match="cut short"):
        store.get("x", 5, len(BIG) + 1)
    with pytest.raises(StoreError, match="CRC-32 or length"):
        store.get("x")


def test_a_zip_file_that_comes_later(tmp_path: Path) -> None:
    store = ZipStore(LocalStore(str(tmp_path / "a.zip")))
    assert store.get("x") is None
    assert store.stat("x") is None
    assert list(store.list("")) == []
    (tmp_path / "a.zip").write_bytes(packed({"x": b"1"}))
    assert store.get("x") is not None
    os.unlink(tmp_path / "a.zip")
    assert store.get("x") is None


def test_renew_reads_the_directory_anew() -> None:
    """A server that tells nothing that changes with the file."""
    base = Remote(packed({"x": b"old", "y": b"1"}))
    store = ZipStore(base)
    assert store.get("x")
    base.data = packed({"x": b"new", "y": b"2"})
    with pytest.raises(StoreError, match="damaged"):
        store.get("x")
    base.renew = lambda: renewed.append(base)
    renewed: list[Remote] = []
    store.renew()
    assert renewed == [base]
    blob = store.get("x")
    assert blob is not None
    assert bytes(blob.data) == b"new"


class Sparse(Remote):
    """A file of 8 TiB, which ends with `data`."""

    size = 8 << 40

    def get(
        self, key: str, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        assert stop is not None
        begin = self.size - len(self.data)
        assert stop - start <= 2 << 20
        zeros = bytes(max(0, min(stop, begin) - start))
        data = self.data[max(0, start - begin) : max(0, stop - begin)]
        return Blob(zeros + data, self.version, 7.0)

    def stat(self, key: str) -> Stat | None:
        return Stat(self.size, self.version, 7.0)


def test_a_directory_beyond_all_memory_is_refused() -> None:
    claimed = 4 << 40
    end64 = struct.pack(
        "<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, claimed, Sparse.size - claimed - 98
    )
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, Sparse.size - 98, 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    for store in (ZipStore(Sparse(end64 + locator + end)), ZipStore(Remote(end64 + locator + end))):
        with pytest.raises(StoreError, match=r"remote://a.zip: not a zip file"):
            store.stat("x")
