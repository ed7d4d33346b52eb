"""Stores over servers that refuse, hang, break off and answer wrongly: never a wrong byte."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import tracemalloc
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import botocore.session
import pytest
from botocore.exceptions import BotoCoreError

from tests.conftest import running
from tests.servers.faultproxy import FaultProxy
from tests.servers.nginx import Nginx, served
from tests.servers.s3 import S3
from tests.waiting import eventually
from znfs.errors import (
    Denied,
    NotListable,
    SourceError,
    Stale,
    StoreError,
    Unanswered,
    UsageError,
    ZnfsError,
)
from znfs.options import Options
from znfs.stores import Store, aws, cloud, open_store

DATA = os.urandom(300_000)
DEADLINE = 2.0
GRACE = 2.0  # a busy machine's
SECRET = "V3rySecret"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with running(S3) as server, mock.patch.dict(os.environ, server.environment):
        client = server.client()
        client.create_bucket(Bucket="data")
        client.put_object(Bucket="data", Key="x/obj", Body=DATA)
        yield server


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, s3: S3) -> Iterator[Nginx]:
    www = tmp_path_factory.mktemp("www")
    (www / "x").mkdir()
    (www / "x/obj").write_bytes(DATA)
    with served(www, f"127.0.0.1:{s3.port}") as server:
        yield server


def opened(url: str, **options: Any) -> Store:
    return open_store(url, Options(**{"deadline": DEADLINE, **options}))[0]


def checked(caught: pytest.ExceptionInfo[ZnfsError]) -> str:
    """The message: one line, and short."""
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    assert SECRET not in text
    return text


# S3, by both libraries


@pytest.fixture(params=["auto", "fsspec"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_wrong_keys(s3: S3, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    store = opened("s3://data/x", endpoint_url=s3.url, backend=backend)
    for call in (lambda: store.get("obj"), lambda: store.get("none"), lambda: store.stat("obj")):
        with pytest.raises(Denied) as caught:
            call()
        assert "403" in checked(caught)
    with pytest.raises(NotListable):
        list(store.list(""))


def test_no_keys(s3: S3, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    store = opened("s3://data/x", endpoint_url=s3.url, backend=backend, deadline=20.0)  # to import
    with pytest.raises(Denied) as caught:
        store.get("obj")
    assert "--anon" in checked(caught) or "403" in checked(caught)


def test_anonymous(s3: S3, backend: str) -> None:
    client = s3.client()
    client.put_object(Bucket="data", Key="x/public", Body=DATA, ACL="public-read")
    store = opened("s3://data/x", endpoint_url=s3.url, backend=backend, anon=True)
    blob = store.get("public", 5, 50)
    assert blob is not None
    assert bytes(blob.data) == DATA[5:50]
    with pytest.raises(Denied):
        store.get("obj")
    with pytest.raises(NotListable):
        list(store.list(""))


def test_a_missing_key_without_list_permission_is_denied(s3: S3, backend: str) -> None:
    """S3 answers 403 then; what that means for a chunk is for --missing-403 to say."""
    store = opened("s3://data/x", endpoint_url=s3.url, backend=backend, anon=True)
    with pytest.raises(Denied):
        store.get("nothing")


def test_a_missing_bucket_is_never_absence(s3: S3, backend: str) -> None:
    store = opened("s3://no-such-bucket/x", endpoint_url=s3.url, backend=backend)
    with pytest.raises(StoreError) as caught:
        store.get("obj")
    assert "bucket" in checked(caught)
    with pytest.raises(StoreError):
        list(store.list(""))


def test_profile(s3: S3, backend: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text(
        f"[lab]\naws_access_key_id = {s3.key}\naws_secret_access_key = {s3.secret}\n"
    )
    (tmp_path / "config").write_text(f"[profile lab]\nendpoint_url = {s3.url}\nregion = eu-x-1\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert opened("s3://data/x", profile="lab", backend=backend).stat("obj")
    with pytest.raises((UsageError, Denied)) as caught:
        opened("s3://data/x", profile="nobody", backend=backend, endpoint_url=s3.url).get("obj")
    assert "nobody" in checked(caught) or "Profile" in checked(caught)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"SESSION_TOKEN": "t"},
        {"SECURITY_TOKEN": "old", "SESSION_TOKEN": "t"},
        {"SESSION_TOKEN": ""},
        {"SECRET_ACCESS_KEY": ""},
        {"ACCESS_KEY_ID": ""},
        {"PROFILE": "lab"},
        {"DEFAULT_PROFILE": "lab"},
        {"PROFILE": "nobody"},
        {"CREDENTIAL_EXPIRATION": "2001-01-01T00:00:00Z"},
        {"CREDENTIAL_EXPIRATION": "2101-01-01T00:00:00Z"},
    ],
)
def test_keys_in_the_environment_are_taken_as_botocore_takes_them(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text(
        "".join(
            f"[{name}]\naws_access_key_id = {name}\naws_secret_access_key = secret\n"
            for name in ("default", "lab")
        )
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name, value in ({"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"} | given).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    expected: object
    try:
        found = botocore.session.Session().get_credentials().get_frozen_credentials()
        expected = found.access_key, found.secret_key, found.token
    except (BotoCoreError, RuntimeError) as error:
        expected = type(error)
    for profile in (None, "lab"):
        try:
            own: object = aws.Credentials(profile, 5).find()
        except Denied as error:
            own = type(error.__cause__)
        except RuntimeError as error:
            own = type(error)
        assert own == (expected if profile is None else ("lab", "secret", None))


def test_botocore_is_not_imported_for_keys_in_the_environment() -> None:
    code = (
        "import sys; from znfs.stores.aws import Credentials, Settings\n"
        "print(Credentials(None, 5).find(), Settings(None).region(), 'botocore' in sys.modules)"
    )
    env = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "here"}
    said = subprocess.run([sys.executable, "-c", code], env=env, text=True, capture_output=True)
    assert said.stdout == "('key', 'secret', None) here False\n", said.stderr


@pytest.mark.parametrize("name", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
def test_a_damaged_file_of_aws(
    backend: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no section\n[[[")
    monkeypatch.setenv(name, str(tmp_path / "file"))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with pytest.raises(UsageError, match=r"^AWS: Unable to parse config file: .*/file$") as caught:
        opened("s3://data/x", backend=backend).get("obj")
    checked(caught)


def test_a_program_that_issues_no_credentials_costs_a_read_the_deadline(
    s3: S3, backend: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    asked = tmp_path / "asked"
    program = tmp_path / "issue"
    program.write_text(f"#!/bin/sh\necho $$ >> {asked}\nexec sleep 60\n")
    program.chmod(0o755)
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    store = opened("s3://data/x", endpoint_url=s3.url, backend=backend)
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        store.get("obj")
    assert time.monotonic() - began < DEADLINE + GRACE
    checked(caught)
    store.close()
    hung = asked.read_text().split()
    issued = {"Version": 1, "AccessKeyId": s3.key, "SecretAccessKey": s3.secret}
    program.write_text(f"#!/bin/sh\necho '{json.dumps(issued)}'\n")
    # One that hangs is in nobody's way.
    assert opened("s3://data/x", endpoint_url=s3.url, backend=backend).stat("obj")
    for pid in hung:
        os.kill(int(pid), signal.SIGKILL)


def test_endpoint_from_environment(
    s3: S3, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    assert opened("s3://data/x", backend=backend).stat("obj")


def test_endpoint_and_keys_in_options_and_url(s3: S3, backend: str) -> None:
    host = s3.url.removeprefix("http://")
    assert opened(f"s3+http://{host}/data/x|zarr3:", backend=backend).stat("obj")
    keys = {"key": s3.key, "secret": s3.secret, "endpoint_url": s3.url}
    assert opened("s3://data/x", storage_option=keys, backend=backend).stat("obj")
    ours = {"access_key_id": s3.key, "secret_access_key": s3.secret, "endpoint": s3.url}
    assert opened("s3://data/x", storage_option=ours, backend=backend).stat("obj")


def test_unknown_storage_option(s3: S3, backend: str) -> None:
    with pytest.raises(UsageError, match="--storage-option"):
        opened(
            "s3://data/x", storage_option={"colour": "red"}, endpoint_url=s3.url, backend=backend
        ).get("obj")
    with pytest.raises(UsageError, match="--storage-option"):
        opened("http://127.0.0.1/x", storage_option={"colour": "red"})


def test_requester_pays_is_sent(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with Odd() as odd:
        url = odd.url("")
        opened("s3://b/x", endpoint_url=url, backend=backend, requester_pays=True).get("obj")
        assert odd.seen[-1]["x-amz-request-payer"].lower() == "requester"
        opened("s3://b/x", endpoint_url=url, backend=backend, region="eu-x-9").get("obj")
        assert "eu-x-9" in odd.seen[-1]["authorization"]
        assert "x-amz-request-payer" not in odd.seen[-1]


def test_a_bucket_tells_its_region(monkeypatch: pytest.MonkeyPatch) -> None:
    with Odd() as odd:
        monkeypatch.setattr(cloud, "AMAZON", odd.url(""))
        options = Options(deadline=DEADLINE)
        assert cloud.bucket_region("elsewhere", options) == "eu-elsewhere-1"
        assert odd.seen[-1]["path"] == "/elsewhere"
        assert cloud.bucket_region("no-such-bucket", options) == "us-east-1"


def test_credentials_are_looked_up_rarely(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    real = aws.Credentials.find

    def find(self: aws.Credentials) -> tuple[str, str, str | None]:
        calls.append(self)
        return real(self)

    monkeypatch.setattr(aws.Credentials, "find", find)
    store = opened("s3://data/x", endpoint_url=s3.url)
    for _ in range(50):
        assert store.stat("obj")
    assert len(calls) == 1


def test_revoked_credentials_come_back(s3: S3, backend: str) -> None:
    store = opened("s3://data/x", endpoint_url=s3.url, backend=backend)
    assert store.stat("obj")
    s3.suspend_user()
    try:
        with pytest.raises(Denied):
            eventually(lambda: store.get("obj") is None, passing=StoreError)
    finally:
        s3.suspend_user(suspended=False)
    assert eventually(lambda: store.stat("obj"), passing=Denied)


def test_changed_credentials_are_picked_up(
    s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """New keys in ~/.aws/credentials are used without a remount."""
    monkeypatch.setattr("znfs.stores.objects._RENEWAL", 0.0)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    keys = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
    file.write_text(keys.format(s3.key, SECRET))
    store = opened("s3://data/x", endpoint_url=s3.url)
    for _ in range(2):
        with pytest.raises(Denied):
            store.get("obj")
    file.write_text(keys.format(s3.key, s3.secret))
    with pytest.raises(Denied):  # this refusal makes the store look
        store.get("obj")
    assert store.get("obj") is not None


def test_keys_that_obstore_cannot_express(s3: S3) -> None:
    """s3fs reads them; a listing that holds one still lists."""
    client = s3.client()
    for key in ("o//d", "o/./d", "o/a\nb", "o/plain"):
        client.put_object(Bucket="data", Key=f"odd/{key}", Body=key.encode())
    for root, key in (("odd", "o//d"), ("odd", "o/./d"), ("odd", "o/a\nb"), ("odd/o/", "/d")):
        store = opened(f"s3://data/{root}", endpoint_url=s3.url, deadline=30.0)
        blob = store.get(key)
        assert blob is not None, key
        assert store.stat(key) is not None
        listed = {e.name for e in store.list("o" if root == "odd" else "")}
        assert listed == {"", ".", "a\nb", "plain"}
        assert blob.version == store.stat(key).version  # type: ignore[union-attr]


def test_a_key_that_begins_with_a_slash_is_no_other(s3: S3, backend: str) -> None:
    client = s3.client()
    for key in ("/lead/x", "lead/x"):
        client.put_object(Bucket="data", Key=key, Body=key.encode())
    for url, key in (("s3://data//lead", "/lead/x"), ("s3://data/lead/", "lead/x")):
        store = opened(url, endpoint_url=s3.url, backend=backend, deadline=30.0)
        blob = store.get("x")
        assert blob is not None
        assert bytes(blob.data) == key.encode()
        assert [entry.name for entry in store.list("")] == ["x"]


def test_a_folder_marker_is_no_name(s3: S3, backend: str) -> None:
    client = s3.client()
    for key in ("marked/", "marked/sub/", "marked/x"):
        client.put_object(Bucket="data", Key=key, Body=b"")
    store = opened("s3://data", endpoint_url=s3.url, backend=backend)
    assert {(e.name, e.is_prefix) for e in store.list("marked")} == {("sub", True), ("x", False)}
    assert list(store.list("marked/sub")) == []


def test_a_long_listing_comes_in_pages(s3: S3, backend: str) -> None:
    client = s3.client()
    if "long" not in {b["Name"] for b in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket="long")
        for i in range(1100):
            client.put_object(Bucket="long", Key=f"k/{i:05}", Body=b"")
    store = opened("s3://long", endpoint_url=s3.url, backend=backend, deadline=10.0)
    assert sorted(e.name for e in store.list("k")) == [f"{i:05}" for i in range(1100)]


def test_s3_over_https_with_a_private_ca(
    nginx: Nginx, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = nginx.url("s3-https")
    with pytest.raises(StoreError) as caught:
        opened("s3://data/x", endpoint_url=url, backend=backend).get("obj")
    checked(caught)
    for variable in ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(variable, nginx.ca)
        store = opened("s3://data/x", endpoint_url=url, backend=backend, deadline=20.0)
        assert store.stat("obj"), variable
        monkeypatch.delenv(variable)
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    with pytest.raises(UsageError, match=r"/nowhere\.pem"):
        opened("s3://data/x", endpoint_url=url, backend=backend).get("obj")


def test_slow_down_is_retried(nginx: Nginx, backend: str) -> None:
    store = opened(
        "s3://data/x", endpoint_url=nginx.url("s3-slow-down"), backend=backend, deadline=20.0
    )
    for at in range(0, 20_000, 1000):
        blob = store.get("obj", at, at + 10)
        assert blob is not None
        assert bytes(blob.data) == DATA[at : at + 10]


# Broken lines, under every network store


@pytest.fixture(params=["s3", "s3fs", "http"])
def line(
    request: pytest.FixtureRequest, s3: S3, nginx: Nginx
) -> Iterator[tuple[FaultProxy, Store]]:
    port = nginx.ports["plain"] if request.param == "http" else s3.port
    with FaultProxy("127.0.0.1", port) as proxy:
        if request.param == "http":
            store = opened(f"{proxy.url}/x")
        else:
            backend = "fsspec" if request.param == "s3fs" else "auto"
            store = opened("s3://data/x", endpoint_url=proxy.url, backend=backend)
        blob = store.get("obj", 1, 5)
        assert blob is not None
        yield proxy, store
        store.close()


def assert_fails_in_time(store: Store, warm: bool = True) -> None:
    if not warm:  # loading a library and its tables is not the server's time
        with pytest.raises(StoreError):
            store.stat("obj")

    def check(call: Callable[[], object]) -> None:
        begun = time.monotonic()
        with pytest.raises(StoreError) as caught:
            call()
        assert time.monotonic() - begun < DEADLINE + GRACE
        checked(caught)

    check(lambda: store.get("obj"))
    with ThreadPoolExecutor() as pool:
        together = [
            lambda: store.get("obj"), lambda: store.get("obj", 5, 9), lambda: store.stat("obj"),
            lambda: list(store.list("")),
        ]  # fmt: skip
        list(pool.map(check, together))


def test_hang(line: tuple[FaultProxy, Store]) -> None:
    proxy, store = line
    proxy.hang_after = 0
    proxy.drop_all()
    assert_fails_in_time(store)
    proxy.heal()
    proxy.drop_all()
    assert bytes(eventually(lambda: store.get("obj"), passing=StoreError).data) == DATA


def test_hang_in_the_body(line: tuple[FaultProxy, Store]) -> None:
    proxy, store = line
    proxy.hang_after = 100_000
    proxy.drop_all()
    begun = time.monotonic()
    with pytest.raises(StoreError) as caught:
        store.get("obj")
    # obstore asks once more for the rest of a body that breaks off.
    assert time.monotonic() - begun < DEADLINE + GRACE
    checked(caught)


def test_refuse(line: tuple[FaultProxy, Store]) -> None:
    proxy, store = line
    proxy.refuse = True
    proxy.drop_all()
    assert_fails_in_time(store)
    proxy.heal()
    assert bytes(eventually(lambda: store.get("obj"), passing=StoreError).data) == DATA


@pytest.mark.parametrize("fault", ["reset_after", "close_after"])
def test_a_body_that_breaks_off(line: tuple[FaultProxy, Store], fault: str) -> None:
    proxy, store = line
    setattr(proxy, fault, 100_000)
    proxy.drop_all()
    begun = time.monotonic()
    try:
        blob = store.get("obj")
    except StoreError:
        assert time.monotonic() - begun < DEADLINE + GRACE
    else:
        assert blob is not None  # the rest was asked for in further requests
        assert bytes(blob.data) == DATA
    proxy.every = 2
    for at in range(0, 200_000, 10_000):
        try:
            blob = store.get("obj", at, at + 90_000)
        except StoreError:
            continue
        assert blob is not None
        assert bytes(blob.data) == DATA[at : at + 90_000]


def test_a_slow_line(line: tuple[FaultProxy, Store]) -> None:
    """Slower than the deadline allows: an error in time, though bytes keep coming."""
    proxy, store = line
    proxy.rate = 50_000
    begun = time.monotonic()
    with pytest.raises(StoreError):
        store.get("obj")
    assert time.monotonic() - begun < DEADLINE + GRACE
    proxy.rate = 3_000_000
    assert bytes(eventually(lambda: store.get("obj"), passing=StoreError).data) == DATA


@pytest.fixture(params=["s3", "s3fs", "http"])
def at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Store]:
    """The store that is at a server's address."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    if request.param == "http":
        return lambda url: opened(f"{url}/x")
    backend = "fsspec" if request.param == "s3fs" else "auto"
    return lambda url: opened("s3://data/x", endpoint_url=url, backend=backend)


def test_nobody_listens(at: Callable[[str], Store]) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{s.getsockname()[1]}"
    assert_fails_in_time(at(url), warm=False)


def test_no_such_host(at: Callable[[str], Store]) -> None:
    assert_fails_in_time(at("http://no-such-host.invalid"), warm=False)


def test_the_gateway_dies_and_hangs(s3: S3, backend: str) -> None:
    store = opened("s3://data/x", endpoint_url=s3.url, backend=backend)
    assert store.get("obj", 0, 9)
    s3.kill()
    try:
        assert_fails_in_time(store)
    finally:
        s3.restart()
    assert bytes(eventually(lambda: store.get("obj"), passing=StoreError).data) == DATA
    s3.suspend()
    try:
        assert_fails_in_time(store)
    finally:
        s3.resume()
    assert bytes(eventually(lambda: store.get("obj"), passing=StoreError).data) == DATA


# Web servers of many tempers


def test_http_sends_elsewhere(nginx: Nginx) -> None:
    """Only a folder's redirect to its own name with a slash is no object: others may be to a page
    that asks who one is."""
    store = opened(nginx.url("elsewhere"))
    with pytest.raises(Denied):
        store.get("x/secret")
    with pytest.raises(Denied):
        store.stat("x/secret")
    for ask in (store.get, store.stat):
        with pytest.raises(StoreError) as caught:
            ask("x/private")
        assert "x/login/" in checked(caught)
    assert store.get("x/moved") is None
    assert store.get("x") is None
    assert store.stat("x") is None


def test_http_denied(nginx: Nginx) -> None:
    for temper, code in (("denied", "403"), ("auth", "401")):
        store = opened(f"{nginx.url(temper)}/x")
        for call in (lambda s=store: s.get("obj"), lambda s=store: s.stat("obj")):
            with pytest.raises(Denied) as caught:
                call()
            assert code in checked(caught)
        with pytest.raises(NotListable):
            list(store.list(""))


def test_http_password_in_the_url(nginx: Nginx) -> None:
    """For Python's use; a command line refuses it before."""
    url = nginx.url("auth").replace("://", f"://{nginx.user}:{nginx.password}@")
    store, info = open_store(f"{url}/x", Options())
    assert store.stat("obj")
    assert nginx.password not in store.url + info.url + repr(info)
    with pytest.raises(Denied) as caught:
        opened(f"{url.replace('pass@', SECRET + '@')}/x").get("obj")
    checked(caught)


def test_http_refused() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # refuses connections
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/x"
        with pytest.raises(StoreError, match="Connection refused") as caught:
            opened(url, deadline=0.5).get("obj")
    checked(caught)


def test_http_unavailable(nginx: Nginx) -> None:
    assert_fails_in_time(opened(f"{nginx.url('unavailable')}/x"))


def test_http_retry_after(nginx: Nginx) -> None:
    store = opened(f"{nginx.url('retry-after')}/x", deadline=30.0)
    for at in range(0, 8000, 1000):
        blob = store.get("obj", at, at + 5)
        assert blob is not None
        assert bytes(blob.data) == DATA[at : at + 5]


def test_http_folders_are_no_objects(nginx: Nginx) -> None:
    for temper in ("plain", "no-listing"):
        store = opened(nginx.url(temper))
        for key in ("x", ""):
            assert store.get(key) is None
            assert store.stat(key) is None
        assert store.stat("x/obj")


def test_http_ca(nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{nginx.url('https')}/x"
    with pytest.raises(StoreError, match="certificate"):
        opened(url).get("obj")
    for variable in ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(variable, nginx.ca)
        assert opened(url).stat("obj"), variable
        monkeypatch.delenv(variable)


def test_s3_ca(nginx: Nginx, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = nginx.url("s3-https")
    with pytest.raises(StoreError) as caught:
        opened(
            "s3://data/x", endpoint_url=url, backend=backend, anon=True, deadline=8.0
        ).get("obj")  # s3fs tries again before it tells
    assert "certificate" in checked(caught)
    monkeypatch.setenv("AWS_CA_BUNDLE", nginx.ca)
    assert opened("s3://data/x", endpoint_url=url, backend=backend).stat("obj")


@pytest.mark.parametrize("kind", ["s3", "http"])
def test_a_server_without_tls(nginx: Nginx, kind: str) -> None:
    url = nginx.url("plain").replace("http:", "https:")
    options = {"endpoint_url": url, "anon": True} if kind == "s3" else {}
    store = opened("s3://data/x" if kind == "s3" else f"{url}/x", **options)
    with pytest.raises(StoreError, match="does not speak TLS"):
        store.get("obj")


def test_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Odd() as odd:
        proxy = odd.url("").rstrip("/")
        for name, value in (
            ("http_proxy", proxy), ("http_proxy", proxy.removeprefix("http://")),
            ("ALL_PROXY", proxy), ("all_proxy", proxy.removeprefix("http://")),
        ):  # fmt: skip
            monkeypatch.setenv(name, value)
            odd.seen.clear()
            opened("http://nowhere.invalid/x").stat("obj")
            assert [seen["path"] for seen in odd.seen] == ["http://nowhere.invalid/x/obj"]
            monkeypatch.delenv(name)
    for value in (f"socks5://me:{SECRET}@127.0.0.1:1", "http://", "http://[x", "ftp://127.0.0.1"):
        monkeypatch.setenv("http_proxy", value)
        with pytest.raises(UsageError, match="no proxy that can be used") as refused:
            opened("http://nowhere.invalid/x").get("obj")
        checked(refused)
    monkeypatch.setenv("http_proxy", f"me:{SECRET}@127.0.0.1:1")
    with pytest.raises(StoreError, match="the proxy: Connection refused") as caught:
        opened("http://nowhere.invalid/x").get("obj")
    checked(caught)


class Odd:
    """A web server that answers each path in its own wrong or unusual way."""

    BODY = b"0123456789"
    LONG = BODY * 100_000
    PAGE = (  # of a listing by S3, which is not the last one
        b"<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>k</Key><Size>1</Size>"
        b"<LastModified>2015-10-21T07:28:00.000Z</LastModified></Contents>%s</ListBucketResult>"
    )
    PACKED = gzip.compress(LONG * 5)

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        odd = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                odd.seen.append({k.lower(): v for k, v in self.headers.items()})
                odd.seen[-1]["path"] = self.path
                name = self.path.partition("?")[0].rpartition("/")[2]
                status, headers, body = odd.answer(name, self.headers.get("Range"))
                if self.command == "HEAD" and name in ("empty-head", "never"):
                    status, body = 200, b""
                self.send_response(status)
                for header, value in headers.items():
                    self.send_header(header, value)
                if headers.get("Transfer-Encoding") != "chunked":
                    self.send_header("Content-Length", headers.get("X-Length", str(len(body))))
                self.end_headers()
                if self.command == "HEAD":
                    return
                if "X-Endless" in headers:
                    with contextlib.suppress(OSError):  # the client has enough
                        while True:
                            self.wfile.write(b"%x\r\n%s\r\n" % (len(odd.LONG), odd.LONG))
                    self.close_connection = True
                    return
                if headers.get("Transfer-Encoding") == "chunked":
                    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
                self.wfile.write(body)
                if "X-Length" in headers:
                    self.close_connection = True

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def answer(self, name: str, wanted: str | None) -> tuple[int, dict[str, str], bytes]:
        body, tag = self.BODY, {"ETag": '"a"'}
        part = {**tag, "Content-Range": "bytes 2-4/10"}
        packed = {**tag, "Content-Encoding": "gzip"}
        endless = {"Transfer-Encoding": "chunked", "X-Endless": "1"}
        parts = self.parts(wanted)
        is_suffix = (wanted or "").startswith("bytes=-")
        answers: dict[str, tuple[int, dict[str, str], bytes]] = {
            "plain": (206, part, body[2:5]) if wanted == "bytes=2-4" else (200, tag, body),
            "no-tag": (200, {}, body),
            "very-old": (200, {"Last-Modified": f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT"}, body),
            "old": (200, {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, body),
            "chunked": (200, {**tag, "Transfer-Encoding": "chunked"}, body),
            "ignores-range": (200, tag, body),
            "long-chunked": (200, {"Transfer-Encoding": "chunked"}, self.LONG * 5),
            "endless": (200, endless, b""),
            "endless-part": (206, {**part, **endless}, b""),
            "endless-packed": (200, {**packed, **endless}, b""),
            "odd-length": (200, {**tag, "X-Length": "\u00b2"}, body),
            "long-length": (200, {**tag, "X-Length": "9" * 5000}, body),
            "long-range": (206, {**tag, "Content-Range": f"bytes 2-4/{'9' * 5000}"}, body[2:5]),
            "other-range": (206, {**tag, "Content-Range": "bytes 0-4/10"}, body[:5]),
            "short-part": (206, part, body[2:4]),
            "long-part": (206, part, body[2:7]),
            "no-content-range": (206, tag, body[2:5]),
            "size-unknown": (206, {**tag, "Content-Range": "bytes 2-4/*"}, body[2:5]),
            "short-of-unknown": (206, {**tag, "Content-Range": "bytes 2-3/*"}, body[2:4]),
            "weak": (206, {**part, "ETag": 'W/"a"'}, body[2:5]),
            "cut": (200, {**tag, "X-Length": "20"}, body),
            "empty-head": (200, tag, body),
            "empty": (200, tag, b""),
            "never": (416, {}, b""),
            "no-bytes": (416 if wanted else 200, tag, b""),
            "elsewhere": (301, {"x-amz-bucket-region": "eu-elsewhere-1"}, b""),
            "gone": (410, {}, b""),
            "method": (405, {}, b""),
            "teapot": (418, {}, b"<html>\nno</html>"),
            "too-many": (429, {"Retry-After": "3600"}, b""),
            "packed": (200, packed, gzip.compress(body)),
            "badly-packed": (200, packed, gzip.compress(body)[:-3]),
            "brotli": (200, {**tag, "Content-Encoding": "br"}, b"\x0b\x02"),
            "packed-long": (200, packed, self.PACKED),
            "packed-part": (206, {**packed, "Content-Range": "bytes 2-4/30"}, b"abc"),
            "refuses-range": (416, {"Content-Range": "bytes */10"}, b"") if wanted else
                             (200, tag, body),
            "suffix-416": (416, {}, b"") if is_suffix else parts,
            "suffix-400": (400, {}, b"") if is_suffix else parts,
            "suffix-200": (200, {**tag, "Accept-Ranges": "bytes"}, body) if is_suffix else parts,
            "no-coding": (200, {**tag, "Content-Encoding": ""}, body),
            "charset": (200, {**tag, "Content-Encoding": "UTF-8, aws-chunked"}, body),
            "two-lengths": (200, {"Transfer-Encoding": "chunked", "Content-Length": "3"}, body),
            "part-as-whole": (200, part, body[2:5]),
            "stops": (200, {}, self.PAGE % b""),
            "stays": (200, {}, self.PAGE % b"<NextContinuationToken>x</NextContinuationToken>"),
            "choices": (300, {}, b""),
            "loop": (302, {"Location": "loop"}, b""),
            "no-url": (302, {"Location": "http://[::1"}, b""),
            "other-scheme": (302, {"Location": "file:///etc/passwd"}, b""),
            "folder": (302, {"Location": "/folder/"}, b""),
            "home": (302, {"Location": self.url("/plain")}, b""),
        }
        return answers.get(name, (404, {}, b""))

    def parts(self, wanted: str | None) -> tuple[int, dict[str, str], bytes]:
        """As a server answers that knows ranges, but none that are counted from the end."""
        tag = {"ETag": '"a"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
        if found is None:
            return 200, tag, self.BODY
        lo, hi = int(found[1]), min(int(found[2] or 9), 9)
        return 206, {**tag, "Content-Range": f"bytes {lo}-{hi}/10"}, self.BODY[lo : hi + 1]

    def __enter__(self) -> Odd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def odd() -> Iterator[Odd]:
    with Odd() as server:
        yield server


def test_who_a_proxy_is_told(odd: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    """User info in a proxy's URL, as curl and others take it."""
    monkeypatch.setenv("http_proxy", odd.url("").replace("//", "//me:p%40w%E2%82%AC@"))
    monkeypatch.setenv("no_proxy", "")
    store = opened("http://elsewhere.example/x")
    assert bytes(store.get("plain").data) == Odd.BODY
    assert odd.seen[-1]["proxy-authorization"] == "Basic " + b64encode("me:p@w€".encode()).decode()
    assert odd.seen[-1]["path"] == "http://elsewhere.example/x/plain"


def test_no_server_elsewhere_sends_to_this_machines(
    odd: Odd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy stands in for a server elsewhere."""
    assert bytes(opened(odd.url("/x")).get("home").data) == Odd.BODY
    monkeypatch.setenv("http_proxy", odd.url(""))
    monkeypatch.setenv("no_proxy", "")
    odd.seen.clear()
    with pytest.raises(Denied, match="this machine's own"):
        opened("http://elsewhere.example/x").get("home")
    assert [seen["path"] for seen in odd.seen] == ["http://elsewhere.example/x/home"]


@pytest.mark.parametrize(
    "key",
    ["plain", "no-tag", "old", "very-old", "chunked", "ignores-range", "size-unknown", "weak",
     "packed", "empty-head", "no-coding", "charset", "two-lengths"],
)
def test_odd_answers_that_are_right(odd: Odd, key: str) -> None:
    store = opened(odd.url(""))
    blob = store.get(key, 2, 5)
    assert blob is not None
    assert bytes(blob.data) == b"234"
    again = store.get(key, 2, 5, if_match=blob.version)
    assert again == blob
    with pytest.raises(Stale):
        store.get(key, 2, 5, if_match='"b"')


@pytest.mark.parametrize(
    "key",
    ["plain", "no-tag", "old", "very-old", "chunked", "ignores-range", "packed", "empty-head",
     "no-coding", "charset", "two-lengths"],
)
def test_odd_answers_stat(odd: Odd, key: str) -> None:
    store = opened(odd.url(""))
    found, whole = store.stat(key), store.get(key)
    assert found is not None
    assert whole is not None
    assert found.size == 10
    assert found.version == whole.version
    assert bytes(whole.data) == odd.BODY


@pytest.mark.parametrize(
    "key",
    ["other-range", "short-part", "long-part", "no-content-range", "short-of-unknown",
     "method", "teapot", "too-many", "badly-packed", "brotli", "packed-part", "refuses-range",
     "loop", "long-range", "no-url", "other-scheme", "part-as-whole"],
)
def test_odd_answers_that_are_wrong(odd: Odd, key: str) -> None:
    store = opened(odd.url(""))
    begun = time.monotonic()
    with pytest.raises(StoreError) as caught:
        store.get(key, 2, 5)
    assert time.monotonic() - begun < DEADLINE + GRACE
    assert key in checked(caught)
    assert not isinstance(caught.value, Unanswered)  # the server is there


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x"),
        (b"", b"HTTP/1.1 302 Found\r\nLocation: /more\r\nContent-Length: 0\r\n\r\n"),
    ],
    ids=["headers", "continue", "body", "redirects"],
)
def test_a_server_that_trickles(first: bytes, again: bytes) -> None:
    """Each byte is in time; their sum is not."""

    class Trickle(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):  # the client has enough
                self.request.recv(4096)
                self.request.sendall(first)
                for _ in range(100):
                    time.sleep(0.1)
                    self.request.sendall(again)
                    if b" 302 " in again:
                        self.request.recv(4096)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Trickle) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = opened(f"http://127.0.0.1:{server.server_address[1]}", deadline=1.0)
        begun = time.monotonic()
        with pytest.raises(StoreError, match="in time"):
            store.get("x")
        assert time.monotonic() - begun < 1.0 + GRACE
        server.shutdown()


def test_a_body_shorter_than_promised(odd: Odd) -> None:
    store = opened(odd.url(""))
    with pytest.raises(StoreError, match="broke"):
        store.get("cut")
    with pytest.raises(StoreError):
        store.get("cut", 5, 15)


@pytest.mark.parametrize(
    ("key", "start", "stop"),
    [("endless", 0, None), ("endless", -3, None), ("endless", 3_000_000, 3_000_003),
     ("endless-part", 2, 5), ("endless-packed", 0, None)],
)
def test_a_body_without_end_is_no_more_kept_than_so_far(
    odd: Odd, key: str, start: int, stop: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("znfs.stores.httpclient.MOST_WHOLE", 2_000_000)
    store = opened(odd.url(""), deadline=60.0)
    with pytest.raises(StoreError, match="too much") as caught:
        store.get(key, start, stop)
    assert key in checked(caught)


def test_of_a_long_body_no_more_is_kept_than_asked_for(
    odd: Odd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though all of it has to be read: its size, not told before, is part of its version."""
    monkeypatch.setattr("znfs.stores.httpclient.MOST_WHOLE", 2_000_000)
    store = opened(odd.url(""))
    blob = store.get("long-chunked", 2, 5)
    assert blob is not None
    assert bytes(blob.data) == b"234"
    assert blob.version == "-5000000"
    assert store.get("long-chunked", 1_000_001, 1_000_003, if_match=blob.version)
    found = store.stat("long-chunked")
    assert found is not None
    assert (found.size, found.version) == (5_000_000, "-5000000")


def test_of_a_packed_body_no_more_is_unpacked_than_so_far(
    odd: Odd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And of what is unpacked no more is kept than asked for."""
    store = opened(odd.url(""))
    tracemalloc.start()
    blob = store.get("packed-long", 2_000_002, 2_000_005)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert blob is not None
    assert bytes(blob.data) == b"234"
    assert most < 8_000_000
    whole = store.get("packed-long")
    assert whole is not None
    assert bytes(whole.data) == odd.LONG * 5
    monkeypatch.setattr("znfs.stores.http._DECODED_PAST", 3_000_000)
    with pytest.raises(StoreError, match="too much, more than 3000005 bytes"):
        store.get("packed-long", 2, 5)
    assert store.get("packed-long", 2_000_000, 2_000_005)


def test_a_head_that_tells_nothing_of_the_size(odd: Odd) -> None:
    store = opened(odd.url(""))
    for key, size in (("empty", 0), ("empty-head", 10), ("empty", 0)):
        found = store.stat(key)
        assert found is not None
        assert (found.size, found.version) == (size, '"a"')
    blob = store.get("empty", 0, 5)
    assert blob is not None
    assert not blob.data
    for call in (store.get, store.stat):
        with pytest.raises(StoreError, match="416"):
            call("never")


@pytest.mark.parametrize("key", ["odd-length", "long-length"])
def test_a_length_that_is_no_number(odd: Odd, key: str) -> None:
    """The body then ends with the connection."""
    store = opened(odd.url(""))
    blob = store.get(key, 2, 5)
    assert blob is not None
    assert bytes(blob.data) == b"234"


def test_odd_answers_that_are_absence(odd: Odd) -> None:
    store = opened(odd.url(""))
    for key in ("gone", "nothing", "folder"):
        assert store.get(key, 2, 5) is None
        assert store.stat(key) is None


def test_names_are_spelt_as_s3_reads_them(odd: Odd) -> None:
    """To S3, a `+` in the path of a URL is a space: it showed `a b`, or nothing, for `a+b`."""
    store = opened(odd.url("/x+y"))
    store.get("a+b/c d")
    assert odd.seen[-1]["path"] == "/x+y/a%2Bb/c%20d"  # of the URL as it was given


@pytest.mark.parametrize("key", ["suffix-416", "suffix-400", "suffix-200"])
def test_servers_that_know_no_ranges_from_the_end(odd: Odd, key: str) -> None:
    """http-server, RangeHTTPServer and Azure: they are asked for one once only."""
    store = opened(odd.url(""))
    assert bytes(store.get(key, -3).data) == b"789"
    odd.seen.clear()
    blob = store.get(key, -4, if_match='"a"')
    assert bytes(blob.data) == b"6789"
    assert [seen.get("range") for seen in odd.seen] == [None, "bytes=6-9"]
    assert bytes(store.get(key, -20).data) == odd.BODY
    with pytest.raises(Stale):
        store.get(key, -3, if_match='"b"')
    assert store.get("nothing", -3) is None


def test_an_empty_object_does_not_tell_of_ranges_from_the_end(odd: Odd) -> None:
    store = opened(odd.url(""))
    assert bytes(store.get("no-bytes", -3).data) == b""
    odd.seen.clear()
    store.get("plain", -3)
    assert [seen.get("range") for seen in odd.seen] == ["bytes=-3"]


def test_a_root_without_a_listing_is_asked_for_once(odd: Odd) -> None:
    """Not with each folder below it: that is a third of what walking such a store costs."""
    store = opened(odd.url("/x"))
    odd.seen.clear()
    for path in ("a", "b", "c"):
        with pytest.raises(NotListable):
            list(store.list(path))
    assert [seen["path"] for seen in odd.seen] == ["/x/a/", "/x/", "/x/b/", "/x/c/"]


def test_a_query_goes_with_every_request(odd: Odd) -> None:
    store = opened(odd.url(f"/q?sig={SECRET}"))
    assert store.get("plain")
    assert odd.seen[-1]["path"] == f"/q/plain?sig={SECRET}"
    assert SECRET not in store.url
    with pytest.raises(StoreError) as caught:
        store.get("teapot")
    checked(caught)


def test_s3_servers_that_ignore_ranges(
    odd: Odd, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened("s3://b", endpoint_url=odd.url(""), backend=backend, anon=True)
    blob = store.get("ignores-range", 2, 5)
    assert blob is not None
    assert bytes(blob.data) == b"234"
    for key in (
        "other-range", "short-part", "long-part", "size-unknown", "teapot", "refuses-range",
    ):  # fmt: skip
        with pytest.raises(StoreError) as caught:
            store.get(key, 2, 5)
        checked(caught)
    with pytest.raises(StoreError) as caught:
        store.get("cut")
    checked(caught)


def test_s3_servers_whose_answers_lack_what_amazon_s_have(odd: Odd) -> None:
    """The library that is asked then raises KeyError, which is no error of a store."""
    store = opened("s3://b", endpoint_url=odd.url(""), backend="fsspec", anon=True)
    for key in ("chunked", "no-tag"):
        blob = store.get(key, 2, 5)
        assert blob is not None
        assert bytes(blob.data) == b"234"
        assert store.get(key, 2, 5, if_match=blob.version) == blob
    found = store.stat("no-tag")
    assert found is not None
    assert (found.size, found.version) == (10, "-10")
    with pytest.raises(StoreError, match="does not tell its size"):
        store.stat("chunked")
    for bucket in ("stops", "stays"):
        listed = opened(f"s3://{bucket}", endpoint_url=odd.url(""), backend="fsspec", anon=True)
        with pytest.raises(StoreError, match="does not go on"):
            list(listed.list(""))
    with pytest.raises(StoreError, match="choices: the answer is none of S3's"):
        store.get("choices")


def test_gs_and_az_speak_http(odd: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server of theirs is at hand: that options reach obstore, and answers come back."""
    az = opened(
        "az://con/dir", anon=True,
        storage_option={"account_name": "acc", "endpoint": odd.url("")},
    )
    with pytest.raises(ZnfsError) as caught:
        az.get("teapot")
    checked(caught)
    assert az.get("nothing") is None
    assert odd.seen[-1]["path"].endswith("/con/dir/nothing")
    assert bytes(az.get("suffix-400", -3).data) == b"789"  # obstore asks Azure for no suffix
    assert az.get("nothing", -3) is None


# Other fsspec file systems


def test_unknown_protocols() -> None:
    with pytest.raises(UsageError, match="nosuch"):
        opened("nosuch://host/x")
    with pytest.raises(UsageError, match="nosuch"):
        opened("nosuch://a::memory://b")
    with pytest.raises(SourceError):
        opened("dropbox://x")


def test_one_thread_for_one_call_of_a_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened("memory://plug")
    assert store.stat("none") is None  # it is open now
    begun: list[str] = []
    start = threading.Thread.start
    monkeypatch.setattr(
        threading.Thread, "start", lambda self: (begun.append(self.name), start(self))[1]
    )
    assert store.stat("none") is None
    assert begun == ["znfs-store"]


def test_failures_of_a_plugin_are_no_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe_file("/plug/x", b"12345")
    store = opened("memory://plug")
    kind = type(fs)

    def fail_with(error: Exception) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr(kind, "cat_file", fail)

    for error, expected in (
        (OSError("the line is cut"), StoreError), (RuntimeError("bug\nsecond line"), StoreError),
        (PermissionError("no"), Denied), (TimeoutError(), StoreError), (KeyError("x"), StoreError),
    ):
        fail_with(error)
        with pytest.raises(expected) as caught:
            store.get("x")
        checked(caught)
    wrapped = FileNotFoundError("x")
    wrapped.__cause__ = ConnectionResetError("reset")
    fail_with(wrapped)
    with pytest.raises(StoreError):
        store.get("x")
    monkeypatch.setattr(kind, "cat_file", lambda *_, **__: b"12")
    with pytest.raises(StoreError):
        store.get("x")
    hang = threading.Event()
    monkeypatch.setattr(kind, "cat_file", lambda *_, **__: hang.wait(20))
    begun = time.monotonic()
    with pytest.raises(StoreError, match="in time"):
        store.get("x")
    assert time.monotonic() - begun < DEADLINE + GRACE
    hang.set()
