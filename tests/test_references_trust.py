"""What a document of references may not do: read this machine's files, ask its servers, learn
secrets meant for another one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.memory_store import MemoryStore
from znfs import stores
from znfs.errors import Denied, StoreError
from znfs.options import Options
from znfs.stores import open_store
from znfs.stores.base import Store
from znfs.stores.references import ReferenceStore
from znfs.stores.urls import parse


class Document(MemoryStore):
    """A document, said to be from `url`."""

    def __init__(self, url: str, target: str) -> None:
        super().__init__({"": json.dumps({"a": [target]}).encode()})
        self.url = url
        self.local = url.startswith("/")


def opened(url: str, target: str) -> list[str]:
    """What a document at `url` has opened for `target`."""
    asked: list[str] = []

    def open_target(url: str) -> Store:
        asked.append(url)
        return MemoryStore(dict.fromkeys(("", "x", "b/x", "etc/hostname"), b"data"))

    assert ReferenceStore(Document(url, target), "", open_target, parse(url).server).get("a")
    return asked


REMOTE = "https://data.example/refs.json"


@pytest.mark.parametrize(
    "target",
    [
        "/etc/passwd", "file:///etc/passwd", "local:///etc/passwd", "../x", "x", "FILE:///etc/x",
        "zip://x::/home/me/a.zip", "simplecache::file:///etc/passwd", "memory://x", "dask://x",
        "reference://::/home/me/x.json", "ssh://host/etc/passwd", "git://x", "s3+http://host/b/x",
        "s3://b/x::file:///etc/passwd", "tar://x::/a.tar", "dir://x", "python://x", "data:x",
        "http://127.0.0.1/x", "http://127.1:8080/x", "http://localhost/x", "http://a.localhost./x",
        "http://[::1]/x", "http://[::ffff:127.0.0.1]/x", "http://0.0.0.0/x", "http://2130706433/x",
        "http://169.254.169.254/latest/meta-data", "http://[fe80::1%25eth0]/x",
        "http://0x7f.1/x", "http://\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54/x",
        "ftp://127\u30020\uff0e0.1/x", "http://[fd00:ec2::254]/x", "http://metadata.google.internal/x",
    ],
)  # fmt: skip
def test_what_a_remote_document_may_not_name(target: str) -> None:
    with pytest.raises(Denied, match="may not name"):
        opened(REMOTE, target)


@pytest.mark.parametrize(
    ("document", "server"),
    [
        ("s3://localhost/refs.json", None), ("gs://localhost/refs.json", None),
        ("az://c@localhost/refs.json", None),
        ("s3+http://a.example:9/localhost/refs.json", "a.example"),
        ("https://u:p@b.example:8443/localhost", "b.example"), ("/localhost/refs.json", None),
        ("simplecache::https://c.example/refs.json", "c.example"),
        ("s3+http://localhost:9000/b/refs.json", "localhost"),
        ("ftp://me@localhost/refs.json", "localhost"), ("sftp://d.example/refs.json", "d.example"),
    ],
)  # fmt: skip
def test_the_host_that_a_document_is_from(document: str, server: str | None) -> None:
    """A bucket is none, whatever it is called."""
    assert parse(document).server == server
    if server == "localhost":
        assert opened(document, "http://127.0.0.1/x") == ["http://127.0.0.1"]
    elif not document.startswith("/"):
        with pytest.raises(Denied, match="this one's servers"):
            opened(document, "http://169.254.169.254/x")


@pytest.mark.parametrize("target", ["http://[bad/x", "https://[1"])
def test_what_is_no_url(target: str) -> None:
    with pytest.raises(StoreError, match="no URL"):
        opened(REMOTE, target)


def test_what_a_document_may_name() -> None:
    assert opened(REMOTE, "s3://b/x") == ["s3://b"]
    assert opened(REMOTE, "https://other.example/x") == ["https://other.example"]
    assert opened(REMOTE, "http://192.168.0.9/x") == ["http://192.168.0.9"]
    assert opened("http://127.0.0.1:8000/refs.json", "http://localhost/x") == ["http://localhost"]
    assert opened("/data/refs.json", "http://localhost/x") == ["http://localhost"]
    assert opened("/data/refs.json", "../etc/hostname") == ["/"]
    for target in ("zip://x::/home/me/a.zip", "memory://x"):
        with pytest.raises(Denied, match="may not name"):
            opened("/data/refs.json", target)


def test_a_target_keeps_its_name() -> None:
    """`%2F` is no `/`, `%2B` may be no `+`, and not every `%` is UTF-8."""
    paths = ["/a%2Fb", "/c%2B/d", "/%FF", "/e%20f", "/g+h", "/i%7C|zip:x", "/j%2F"]
    with web({path.replace("|", "%7C"): path.encode() for path in paths}, []) as url:
        for path in (*paths, "/k|zip:x"):
            store = ReferenceStore(
                Document("/refs.json", url + path), "", lambda url: open_store(url, Options())[0]
            )
            if path in paths:
                blob = store.get("a")
                assert blob is not None, path
                assert bytes(blob.data) == path.encode()
            else:
                with pytest.raises(StoreError):
                    store.get("a")
    assert opened(REMOTE, "http://h/x%2Fy") == ["http://h/x%2Fy"]
    assert opened(REMOTE, "http://[2001:db8::1]/b/x") == ["http://[2001:db8::1]"]
    for target in ("s3://bucket//x", "http://h//x"):
        with pytest.raises(StoreError, match="not there"):  # x is
            opened(REMOTE, target)


@contextmanager
def web(objects: dict[str, bytes], seen: list[str | None]) -> Iterator[str]:
    """A web server that notes what it is told of who asks."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            data = objects.get(self.path)
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data or b"")

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_token_is_told_to_its_own_server_only(tmp_path: Path) -> None:
    ours: list[str | None] = []
    theirs: list[str | None] = []
    objects = {"/x": b"data"}
    options = Options(storage_option={"token": "word"})
    with web(objects, ours) as own, web({"/x": b"other"}, theirs) as other:
        refs = {"a": [f"{own}/x"], "b": [f"{other}/x"]}
        objects["/refs.json"] = json.dumps(refs).encode()
        store, _ = open_store(f"reference://::{own}/refs.json", options)
        (tmp_path / "refs.json").write_text(json.dumps(refs))
        local, _ = open_store(f"reference://::{tmp_path}/refs.json", options)
        for reader in (store, local):
            for key, data in (("a", b"data"), ("b", b"other")):
                blob = reader.get(key)
                assert blob is not None
                assert bytes(blob.data) == data
        assert "Bearer word" in ours
        assert theirs
        assert set(theirs) == {None}
        store.close()
        local.close()


@pytest.mark.parametrize(
    ("document", "target", "told"),
    [
        ("ftp://good.example/refs.json", "ftp://good.example/x", True),
        ("ftp://me@good.example/refs.json", "ftp://good.example/x", True),
        ("ftp://good.example/refs.json", "ftp://evil.example/x", False),
        ("ftp://good.example/refs.json", "ftp://good.example:2121/x", False),
        ("sftp://good.example/refs.json", "ftp://good.example/x", False),
        ("hf://datasets/me/refs.json", "pelican://evil.example/x", False),
        ("https://good.example/refs.json", "https://evil.example/x", False),
        ("https://good.example/refs.json", "s3://bucket/x", False),
        ("s3://bucket/refs.json", "https://evil.example/x", False),
        ("s3://bucket/refs.json", "s3://other/x", True),
        ("s3://bucket/refs.json", "gs://other/x", False),
        ("/data/refs.json", "s3://bucket/x", True),
        ("/data/refs.json", "https://good.example/x", False),
        ("simplecache::ftp://good.example/refs.json", "ftp://good.example/x", True),
    ],
)
def test_whom_storage_options_are_told(document: str, target: str, told: bool) -> None:
    options = Options(storage_option={"password": "word"})
    found = stores._for_target(parse(document), target, options)
    assert (found.storage_option == {"password": "word"}) is told


def test_stores_of_two_users_are_not_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a disk cache tells them by."""
    (tmp_path / "config").write_text(
        "[profile one]\nendpoint_url = https://one.example\n"
        "[profile two]\nendpoint_url = https://two.example\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    def identity(source: str, **options: Any) -> str:
        store, info = open_store(source, Options(**options))
        store.close()
        return info.identity

    found = [
        identity("http://alice:pw@h.example/x"), identity("http://bob:pw@h.example/x"),
        identity("http://h.example/x"), identity("s3://b/x", profile="one"),
        identity("s3://b/x", profile="two"), identity("s3+https://one.example/b/x"),
        identity("s3://b/x"),
        identity("http://h.example/x?key=one"), identity("http://h.example/x?key=two"),
        identity("zip::http://h.example/x?key=one"), identity("zip::http://h.example/x?key=two"),
    ]  # fmt: skip
    assert len(set(found)) == len(found)
    monkeypatch.setenv("AWS_PROFILE", "one")
    assert identity("s3://b/x") == found[3]
    assert identity("http://alice:new@h.example/x") == found[0]  # of one user, still
