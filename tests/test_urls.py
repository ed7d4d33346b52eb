"""SOURCE taken apart, named, and kept free of secrets."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from urllib3.exceptions import LocationParseError

from znfs.config import load
from znfs.daemon.lifecycle import MountRequest
from znfs.errors import SourceError, UsageError
from znfs.options import Options
from znfs.redaction import redact
from znfs.stores import local_path, open_store
from znfs.stores.arguments import typed
from znfs.stores.httpclient import _cause
from znfs.stores.urls import node_name, parse, refuse_secrets
from znfs.tree import open_tree
from znfs.tree.provenance import _join

# source, scheme, host, path, zips, format, NAME
SOURCES: list[tuple[str, str, str, str, tuple[str, ...], str | None, str]] = [
    ("/data/x.zarr", "file", "", "/data/x.zarr", (), None, "x"),
    ("/data/x.zarr/", "file", "", "/data/x.zarr", (), None, "x"),
    ("/data//y/../x.n5", "file", "", "/data/x.n5", (), None, "x"),
    ("/data/a.zarr.zip", "file", "", "/data/a.zarr.zip", (), None, "a.zarr"),
    ("/", "file", "", "/", (), None, "root"),
    ("/data/.zarr", "file", "", "/data/.zarr", (), None, "root"),
    ("/data/X.ZARR", "file", "", "/data/X.ZARR", (), None, "X.ZARR"),
    ("/a|b/c", "file", "", "/a|b/c", (), None, "c"),
    ("/a::b/c", "file", "", "/a::b/c", (), None, "c"),
    ("file:///data/a%20b.zarr", "file", "", "/data/a%20b.zarr", (), None, "a%20b"),
    ("file:///data/a%20b.zarr|zarr3:", "file", "", "/data/a b.zarr", (), "zarr3", "a b"),
    ("s3://bucket", "s3", "bucket", "", (), None, "root"),
    ("s3://bucket/", "s3", "bucket", "", (), None, "root"),
    ("s3://bucket/a/b.zarr/", "s3", "bucket", "a/b.zarr", (), None, "b"),
    ("s3://bucket//a/b.zarr//", "s3", "bucket", "/a/b.zarr", (), None, "b"),
    ("s3+https://host/bucket//b.zarr", "s3", "bucket", "/b.zarr", (), None, "b"),
    ("https://host//b.zarr", "https", "host", "/b.zarr", (), None, "b"),
    ("S3a://bucket/b.zarr", "s3", "bucket", "b.zarr", (), None, "b"),
    ("s3://bucket/a%20b?c#d@e:f", "s3", "bucket", "a%20b?c#d@e:f", (), None, "a%20b?c#d@e:f"),
    ("gcs://bucket/b.n5", "gs", "bucket", "b.n5", (), None, "b"),
    ("az://container/b", "az", "container", "b", (), None, "b"),
    ("https://host:8080/a/b%20c.zarr/", "https", "host:8080", "a/b%20c.zarr", (), None, "b c"),
    ("https://host", "https", "host", "", (), None, "root"),
    ("memory://x/y.zarr", "memory", "", "x/y.zarr", (), None, "y"),
    ("github://org:repo@main/data/z.zarr", "github", "", "org:repo@main/data/z.zarr", (), None,
     "z"),
    ("zip://in/x.zarr::s3://bucket/a.zip", "s3", "bucket", "a.zip", ("in/x.zarr",), None, "x"),
    ("zip://::/d/a.zip", "file", "", "/d/a.zip", ("",), None, "a"),
    ("zip::https://h/a.zip", "https", "h", "a.zip", ("",), None, "a"),
    ("zip://x::zip://b.zip::/d/a.zip", "file", "", "/d/a.zip", ("b.zip", "x"), None, "x"),
    ("s3://b/a.zip|zip:x.zarr|zarr3:", "s3", "b", "a.zip", ("x.zarr",), "zarr3", "x"),
    ("s3://b/a.zip|zip:|zarr:", "s3", "b", "a.zip", ("",), None, "a"),
    ("/d/a.zip|zip:b.zip|zip:x%20y|n5:s0", "file", "", "/d/a.zip", ("b.zip", "x y/s0"), "n5",
     "s0"),
    ("s3://b/x|zarr2:deep/er", "s3", "b", "x/deep/er", (), "zarr2", "er"),
    ("https://h/x|zarr3:a b", "https", "h", "x/a%20b", (), "zarr3", "a b"),
    ("https://h/x|zarr3:\udcff", "https", "h", "x/%FF", (), "zarr3", "\ufffd"),
    ("s3+https://host/bucket/k%20y.zarr", "s3", "bucket", "k y.zarr", (), None, "k y"),
    ("s3+http://host:9000/bucket", "s3", "bucket", "", (), None, "bucket"),
    ("tar://in/x.zarr::s3://b/a.tar", "chain", "", "in/x.zarr", (), None, "x"),
    ("zip://q.n5::tar://a.zip::s3://b/a.tar", "chain", "", "a.zip", ("q.n5",), None, "q"),
    ("simplecache::s3://b/x.zarr", "chain", "", "x.zarr", (), None, "x"),
    ("http://[::1]:8000/x", "http", "[::1]:8000", "x", (), None, "x"),
    ("http://[fe80::1%25eth0]/x", "http", "[fe80::1%25eth0]", "x", (), None, "x"),
    ("s3+http://[::1]:9000/b/x", "s3", "b", "x", (), None, "x"),
    ("zip://::http://[::1]/a.zip", "http", "[::1]", "a.zip", ("",), None, "a"),
    ("zip://x::zip://b.zip::http://[::]/a", "http", "[::]", "a", ("b.zip", "x"), None, "x"),
    ("zip::http://[1::]:80/a|zip:b", "http", "[1::]:80", "a", ("", "b"), None, "b"),
    ("simplecache::http://[::1]/x", "chain", "", "x", (), None, "x"),
]


@pytest.mark.parametrize(
    ("source", "scheme", "host", "path", "zips", "format", "name"), SOURCES,
    ids=[s[0] for s in SOURCES],
)
def test_parse(
    source: str, scheme: str, host: str, path: str, zips: tuple[str, ...], format: str | None,
    name: str,
) -> None:
    found = parse(source)
    assert (found.scheme, found.host, found.path) == (scheme, host, path)
    assert (found.zips, found.format, found.name) == (zips, format, name)


def test_relative_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert parse("x.zarr").path == str(tmp_path / "x.zarr")
    assert parse("./a::b").path == str(tmp_path / "a::b")
    assert parse(".").name == os.path.basename(tmp_path)
    assert parse("~/x.zarr").path == "/home/me/x.zarr"
    assert parse("zip://x::a.zip").path == str(tmp_path / "a.zip")


def test_addresses_in_brackets(tmp_path: Path) -> None:
    assert parse("simplecache::http://[::1]:80/x").server == "::1"
    assert parse("s3+http://[::1]:9000/b/x").endpoint == "http://[::1]:9000"
    assert _join("zip://a::http://[::1]/x", "c/0") == "zip://a/c/0::http://[::1]/x"
    assert _join("http://[::1]/x", "c/0") == "http://[::1]/x/c/0"
    config = tmp_path / "config.toml"
    config.write_text('[source."http://[::1]:80"]\ndeadline = 3\n')
    for source in ("http://[::1]:80/x", "zip://x::http://[::1]:80/a", "http://[::1]:80/a|zip:"):
        found = load(source, {"config": str(config)}, {})
        assert found.deadline == 3, source


class _SixServer(ThreadingHTTPServer):
    address_family = socket.AF_INET6


def test_a_server_with_an_address_in_brackets(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"data")
    try:
        server = _SixServer(("::1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path))
    except OSError as error:
        pytest.skip(f"no IPv6: {error}")
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store, _ = open_store(f"http://[::1]:{server.server_port}", Options(deadline=5.0))
        blob = store.get("x")
        assert blob is not None
        assert bytes(blob.data) == b"data"
        assert [e.name for e in store.list("")] == ["x"]
        server.shutdown()


def test_endpoints() -> None:
    assert parse("s3+https://host:9000/b/k").endpoint == "https://host:9000"
    assert parse("s3+http://host/b").endpoint == "http://host"
    assert parse("s3://b/k").endpoint is None
    found = parse("abfss://con@acc.dfs.core.windows.net/k")
    assert (found.host, found.endpoint) == ("con", "acc.dfs.core.windows.net")


@pytest.mark.parametrize(
    "source",
    ["", "a\0b", "s3://", "https:///x", "s3+https://host", "s3+https://host/", "x|gzip:",
     "s3://b/x|zarr3:|zip:y", "s3://b|zarr3:|zarr2:", "https://h/x#frag", "foo bar::baz",
     "s3+https://h/b/k?x=1", "http://[zz]/x", "s3+http://[zz]/b/x"],
)
def test_refused(source: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(source)
    assert "\n" not in str(caught.value)


def test_node_name() -> None:
    names = ["a/b", "a/b.zarr", "b.n5", "b.zip", "b.zarr.zip", "", "a/b/", "b.tar"]
    assert [node_name(n) for n in names] == ["b", "b", "b", "b", "b.zarr", "root", "b", "b.tar"]


def test_source_info() -> None:
    _, info = open_store("/data/x.n5|n5:a", Options())
    assert (info.name, info.format, info.url) == ("a", "n5", "/data/x.n5|n5:a")


@pytest.mark.parametrize(
    ("source", "url"),
    [
        ("s3a://b/x.zarr/", "s3://b/x.zarr"), ("s3://b", "s3://b"), ("gcs://b/x", "gs://b/x"),
        ("s3+https://host:9/b/a%20%25", "s3+https://host:9/b/a%20%25"),
        ("az://c/x", "az://c/x"),
        ("abfs://c@account.dfs.core.windows.net/x", "abfss://c@account.dfs.core.windows.net/x"),
    ],
)  # fmt: skip
def test_a_store_is_called_by_a_url_that_opens_it(source: str, url: str) -> None:
    """Buckets of the same name on two servers are told apart."""
    location = parse(source)
    assert location.url == url
    again = parse(url)
    assert (again.scheme, again.host, again.path, again.endpoint) == (
        location.scheme, location.host, location.path, location.endpoint,
    )  # fmt: skip
    store, _ = open_store(source, Options(anon=True))
    assert store.url == url
    store.close()


@pytest.mark.parametrize(
    "endpoint",
    ["localhost:9000", "minio.example", "ftp://h", "http://", "http://h:port", "http://h:99999",
     "http://h h", "https://[::1", "http://h:0"],
)  # fmt: skip
@pytest.mark.parametrize("backend", ["auto", "fsspec"])
def test_what_is_no_endpoint(endpoint: str, backend: str) -> None:
    with pytest.raises(UsageError, match="write it like https://HOST:PORT"):
        open_store("s3://b/x", Options(endpoint_url=endpoint, backend=backend))


@pytest.mark.parametrize("source", ["s3://a b/x", "gs://a\nb/x", "az://\u00e4/x", "s3://a^b"])
def test_what_is_no_bucket(source: str) -> None:
    with pytest.raises(UsageError, match="is no name of a bucket"):
        open_store(source, Options(anon=True))


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("source", "clean"),
    [
        (f"https://me:{SECRET}@host/x", "https://host/x"),
        (f"zip://x::https://me:{SECRET}@host/a.zip", "zip://x::https://host/a.zip"),
        (f"s3+https://k:{SECRET}@host/b|zarr3:", "s3+https://host/b|zarr3:"),
        (f"sftp://me:{SECRET}@host/x", "sftp://host/x"),
        (f"https://{SECRET}@host/x", "https://host/x"),
        (f"https://host/x?X-Amz-Signature={SECRET}&a=1", "https://host/x?X-Amz-Signature=***&a=1"),
        (f"https://host/x?sv=1&sig={SECRET}", "https://host/x?sv=1&sig=***"),
        (f"https://host/x?access_token={SECRET}", "https://host/x?access_token=***"),
        (f"https://host/x?AWSAccessKeyId={SECRET}", "https://host/x?AWSAccessKeyId=***"),
        (f"https://me:it's{SECRET}@host/x", "https://host/x"),
        (f"https://host/x?apikey={SECRET}", "https://host/x?apikey=***"),
        (f"https://host/x?jwt={SECRET}&a=1", "https://host/x?jwt=***&a=1"),
        (f"https://host/x?%73ig={SECRET}", "https://host/x?%73ig=***"),
        (f"https://host/x?hmac={SECRET}&sessionid={SECRET}", "https://host/x?hmac=***&sessionid=***"),
    ],
)
def test_secrets_in_urls(source: str, clean: str) -> None:
    assert redact(source) == clean
    assert redact(f"asked for {source}") == f"asked for {clean}"
    with pytest.raises(UsageError, match="--config") as caught:
        refuse_secrets(source)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(parse(source))


@pytest.mark.parametrize(
    "source",
    ["/home/me@work/x.zarr", "s3://bucket/a@b:c", "https://host/a@b", "https://host/x?list=1",
     "abfss://con@acc.dfs.core.windows.net/k", "github://org:repo@sha/x", "https://host/x?page=2",
     "zip://x@y::s3://b/a.zip", "http://host:8080/a@b", "http://[::1]:80/a@b",
     "zip://a:b::https://h:1/x@y", "https://host/x?monkey=1"],
)
def test_no_secrets_in_urls(source: str) -> None:
    assert redact(source) == source
    refuse_secrets(source)


@pytest.mark.parametrize("scheme", ["s3", "https", "s3+https", "sftp", "zip://x::gs"])
def test_a_slash_in_a_password(scheme: str) -> None:
    """As keys of AWS have it: no part of it may pass for a bucket or a path."""
    source = f"{scheme}://me:{SECRET}/{SECRET}+x@host/b/x.zarr"
    assert SECRET not in redact(source)
    with pytest.raises(UsageError, match="--config") as caught:
        refuse_secrets(source)
    assert SECRET not in str(caught.value)
    with pytest.raises(UsageError, match="%2F") as caught:
        parse(source)
    assert SECRET not in str(caught.value)
    if scheme in ("s3", "https", "s3+https"):
        assert parse(source.replace(f"/{SECRET}", f"%2F{SECRET}")).user == f"me:{SECRET}/{SECRET}+x"


@pytest.mark.parametrize(
    "key",
    ["secret", "key", "token", "password", "secret_access_key", "access_key_id", "account_key",
     "aws_session_token", "sas_token", "connection_string", "Authorization", "headers", "cookie",
     "client_secret", "credential", "sse_customer_key_base64", "SAS", "api-key", "passphrase"],
)
def test_secret_options(key: str) -> None:
    with pytest.raises(UsageError, match="--config") as caught:
        refuse_secrets("s3://b", {key: SECRET})
    assert SECRET not in str(caught.value)
    assert key in str(caught.value)


def test_harmless_options() -> None:
    refuse_secrets("s3://b", {
        "anon": "true", "endpoint_url": "https://host:9000", "token": "anon", "timeout": "5s",
        "username": "me", "service_account_path": "/etc/key.json", "key_filename": "/etc/key",
        "region": "eu-x-1", "project": "x", "protocol": "http",
    })
    with pytest.raises(UsageError, match="--config"):
        refuse_secrets("s3://b", {"proxy_url": f"http://me:{SECRET}@proxy"})
    refuse_secrets("s3://b", {"client_kwargs": '{"region_name": "x"}'})
    with pytest.raises(UsageError, match="--config"):
        refuse_secrets("s3://b", {"client_kwargs": f'{{"aws_secret_access_key": "{SECRET}"}}'})
    with pytest.raises(UsageError, match="--config"):
        refuse_secrets("s3://b", None, f"https://me:{SECRET}@host")


def test_a_file_is_no_store(tmp_path: Any) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(SourceError, match="zip::"):
        open_store(str(tmp_path / "a.zip"), Options())


def test_what_holds_secrets_does_not_tell_them() -> None:
    options = Options(storage_option={"secret": SECRET}, endpoint_url=f"https://me:{SECRET}@host")
    assert SECRET not in repr(options)
    assert SECRET not in repr(MountRequest(f"https://me:{SECRET}@host/x", "/mnt", options))


def test_values_that_obstore_refuses_are_not_repeated() -> None:
    given = {"service_account_key": f'"{SECRET}"'}
    with pytest.raises(SourceError, match="service account") as caught:
        open_tree("gs://b/x", Options(storage_option=given))
    assert SECRET not in str(caught.value)


def test_what_urllib3_cannot_parse_is_not_repeated() -> None:
    assert SECRET not in _cause(LocationParseError(f"https://host:x/?sig={SECRET}"))


def test_local_paths() -> None:
    """What of this machine a source is read from, through whatever chain."""
    for source, path in {
        "/data/x.zarr": "/data/x.zarr", "zip://x::/data/a.zip": "/data/a.zip",
        "simplecache::file:///data/x": "/data/x", "zip::tar://a.zip::/data/a.tar": "/data/a.tar",
        "dir://x::file:///data": "/data", "reference://::/data/r.json": "/data/r.json",
        "simplecache::s3://b/x": None, "memory://x": None,
    }.items():
        assert local_path(source, Options()) == path
    fo = Options(storage_option={"fo": "/data/r.json"})
    assert local_path("reference://", fo) == "/data/r.json"


def test_file_systems_that_cannot_be_made() -> None:
    """An error, and no store that is down for the time being."""
    for source in ("dir://x", "simplecache://x", "zip://x"):
        with pytest.raises(SourceError, match=source):
            open_tree(source, Options())


@pytest.mark.parametrize(
    "source",
    ["zip://v.zarr::file://{}/a.zip", "zip::file://{}/v.zip", "dir://v.zarr::file://{}",
     "simplecache::file://{}/v.zarr", "blockcache::{}/v.zarr"],
)  # fmt: skip
def test_chains_of_local_files(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "v.zarr").mkdir()
    (tmp_path / "v.zarr/zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path)
    shutil.make_archive(str(tmp_path / "v"), "zip", tmp_path / "v.zarr")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # caches are kept there
    tree = open_tree(source.format(tmp_path), Options())
    assert tree.root_name == "v"
    assert "v.h5" in tree.resolve("").names()  # type: ignore[union-attr]
    tree.close()


def test_storage_options_have_types() -> None:
    given = {"use_ssl": "false", "port": "22", "password": "123", "token": "true", "x": "y"}
    assert typed(given) == {
        "use_ssl": False, "port": 22, "password": "123", "token": "true", "x": "y",
    }
