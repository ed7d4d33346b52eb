"""Options as obstore and s3fs want them, for S3, Google Cloud Storage and Azure."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from znfs.errors import SourceError, UsageError
from znfs.options import Options
from znfs.redaction import redact
from znfs.stores.arguments import is_true, typed
from znfs.stores.aws import Credentials, Settings
from znfs.stores.base import Store
from znfs.stores.calls import Budget
from znfs.stores.certificates import ca_file, ca_pem
from znfs.stores.objects import ObjectStore
from znfs.stores.urls import Location

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Client

# fsspec's names of a storage option, and obstore's.
_FSSPEC_NAMES = {
    "key": "access_key_id",
    "secret": "secret_access_key",
    "token": "session_token",
    "anon": "skip_signature",
    "endpoint_url": "endpoint",
    "requester_pays": "request_payer",
    "region_name": "region",
}
# These are for obstore's HTTP client, all others for the kind of store.
_CLIENT_OPTIONS = frozenset(
    {
        "allow_http", "allow_invalid_certificates", "connect_timeout", "http1_only", "http2_only",
        "pool_idle_timeout", "pool_max_idle_per_host", "proxy_ca_certificate", "proxy_excludes",
        "proxy_url", "randomize_addresses", "read_timeout", "root_certificate", "timeout",
        "user_agent",
    }
)
AMAZON = "https://s3.amazonaws.com"
_URL = re.compile(r"[!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]+")  # the characters of RFC 3986
_BUCKET = re.compile(r"[0-9A-Za-z._:$-]+")  # of any of the clouds, and of Ceph's tenants


def client_settings(options: Options) -> dict[str, Any]:
    """obstore's `client_options` and `retry_config`."""
    budget = Budget.of(options.deadline)
    client: dict[str, Any] = {
        "timeout": timedelta(seconds=budget.attempt),
        "connect_timeout": timedelta(seconds=budget.connect),
        "user_agent": "znfs",
    }
    if pem := ca_pem():
        client["root_certificate"] = pem
    for key, value in options.storage_option.items():
        if key in _CLIENT_OPTIONS:
            client[key] = value
    retry = {
        "retry_timeout": timedelta(seconds=budget.retry),
        "backoff": {"max_backoff": timedelta(seconds=max(0.2, budget.retry / 4))},
    }
    return {"client_options": client, "retry_config": retry}


def store_settings(options: Options, kind: str) -> dict[str, Any]:
    """The storage options that are the store's own, by obstore's names."""
    names = _FSSPEC_NAMES if kind == "s3" else {"anon": "skip_signature"}
    return {
        names.get(key, key): value
        for key, value in options.storage_option.items()
        if key not in _CLIENT_OPTIONS and key != "profile"
    }


def profile_of(options: Options) -> str | None:
    return options.profile or options.storage_option.get("profile")


def endpoint_of(location: Location, options: Options) -> str | None:
    """The S3 endpoint: of the URL, the option, or AWS's environment and configuration.

    Raises UsageError for what is no URL of a server, of which obstore panics.
    """
    given = options.storage_option
    endpoint = (
        location.endpoint
        or options.endpoint_url
        or given.get("endpoint_url")
        or given.get("endpoint")
        or Settings(profile_of(options)).endpoint()
    )
    if endpoint and not _is_server(endpoint):
        raise UsageError(
            f"{redact(endpoint)!r} is no S3 endpoint; write it like https://HOST:PORT"
        )
    return endpoint


def _is_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0  # raises ValueError, too
    except ValueError:
        return False
    return named and parts.scheme in ("http", "https") and _URL.fullmatch(url) is not None


def open_s3(location: Location, options: Options, fallback: Callable[[], Store]) -> Store:
    """An S3 bucket through obstore; requests are path-style."""
    config: Any = store_settings(options, "s3")
    settings = client_settings(options)
    profile = profile_of(options)
    if endpoint := endpoint_of(location, options):
        config["endpoint"] = endpoint
        if endpoint.startswith("http://"):
            settings["client_options"]["allow_http"] = True
    region = options.region or config.get("region") or Settings(profile).region()
    if options.requester_pays:
        config["request_payer"] = True
    if location.user:
        config["access_key_id"], _, config["secret_access_key"] = location.user.partition(":")
    credentials: Any = None
    if options.anon or is_true(config.get("skip_signature")):
        config["skip_signature"] = True
    elif "access_key_id" not in config:
        # Half: after a refusal they are looked for once more, within the same read.
        credentials = Credentials(profile, options.deadline / 2)

    def connect() -> Client:
        from obstore.store import S3Store

        if region is None:
            config["region"] = "us-east-1" if endpoint else bucket_region(location.host, options)
        else:
            config["region"] = region
        return _made(
            lambda: S3Store(
                location.host, config=config, credential_provider=credentials, **settings
            )
        )

    changed = credentials.changed if credentials else lambda: False
    return _bucket(location, options, connect, fallback, changed)


def bucket_region(bucket: str, options: Options) -> str:
    """Where Amazon says a bucket is; it tells anyone, in answers of any status."""
    from znfs.stores.httpclient import HttpClient

    client = HttpClient(AMAZON, {}, Budget.of(options.deadline))
    try:
        answer = client.fetch(f"s3://{bucket}", f"{AMAZON}/{bucket}", "HEAD")
    finally:
        client.close()
    return answer.headers.get("x-amz-bucket-region", "us-east-1")


def open_gs(location: Location, options: Options, fallback: Callable[[], Store]) -> Store:
    """A bucket of Google Cloud Storage through obstore, which reads Google's own files."""
    config: Any = store_settings(options, "gs")
    settings = client_settings(options)
    if options.anon:
        config["skip_signature"] = True
    if options.requester_pays:
        raise UsageError("--requester-pays: for S3 only")

    def connect() -> Client:
        from obstore.store import GCSStore

        return _made(lambda: GCSStore(location.host, config=config, **settings))

    return _bucket(location, options, connect, fallback)


def open_az(location: Location, options: Options, fallback: Callable[[], Store]) -> Store:
    """An Azure container through obstore: `az://CONTAINER/…`, `abfss://CONTAINER@ACCOUNT.…/…`."""
    config: Any = store_settings(options, "az")
    settings = client_settings(options)
    if location.endpoint:
        config.setdefault("account_name", location.endpoint.partition(".")[0])
    if options.anon:
        config["skip_signature"] = True
    if str(config.get("endpoint", "")).startswith("http://"):
        settings["client_options"]["allow_http"] = True

    def connect() -> Client:
        from obstore.store import AzureStore

        return _made(lambda: AzureStore(location.host, config=config, **settings))

    return _bucket(location, options, connect, fallback, suffixes=False)


def _bucket(
    location: Location,
    options: Options,
    connect: Callable[[], Client],
    fallback: Callable[[], Store],
    changed: Callable[[], bool] | None = None,
    suffixes: bool = True,
) -> Store:
    if not _BUCKET.fullmatch(location.host):
        raise UsageError(f"{location.host!r} is no name of a bucket or container")
    patience = Budget.of(options.deadline).total
    return ObjectStore(
        location.url, location.path, connect, fallback, changed, patience, suffixes
    )


def _made(make: Callable[[], Client]) -> Client:
    """A client of obstore's, or why its options do not make one."""
    from obstore.exceptions import BaseError, UnknownConfigurationKeyError

    try:
        return make()
    except UnknownConfigurationKeyError as error:
        raise UsageError(f"--storage-option: {str(error).partition(chr(10))[0]}") from error
    except (BaseError, ValueError, TypeError) as error:
        # What is in quotes is an option's value, and may be of one that holds a secret.
        line = re.sub('"[^"]*"', '"…"', str(error).partition("\n")[0])
        raise SourceError(f"cannot be opened: {redact(line)}") from None


def s3fs_settings(location: Location, options: Options) -> dict[str, Any]:
    """The arguments of s3fs's file system for the same options."""
    budget = Budget.of(options.deadline)
    back = {ours: theirs for theirs, ours in _FSSPEC_NAMES.items()}
    arguments = {back.get(k, k): v for k, v in typed(options.storage_option).items()}
    arguments["anon"] = options.anon or is_true(arguments.get("anon"))
    arguments["requester_pays"] = (
        options.requester_pays or is_true(arguments.get("requester_pays"))
    )
    if endpoint := endpoint_of(location, options):
        arguments["endpoint_url"] = endpoint
    profile = profile_of(options)
    if profile:
        arguments["profile"] = profile
    if location.user:
        arguments["key"], _, arguments["secret"] = location.user.partition(":")
    client = dict(arguments.pop("client_kwargs", {}))
    if region := options.region or arguments.pop("region_name", None) or Settings(profile).region():
        client["region_name"] = region
    if ca_pem():
        client["verify"] = ca_file()
    config = {
        "connect_timeout": budget.connect,
        "read_timeout": budget.attempt,
        "retries": {"max_attempts": 2, "mode": "standard"},
        "max_pool_connections": 64,
        **arguments.pop("config_kwargs", {}),
    }
    return {**arguments, "client_kwargs": client, "config_kwargs": config}
