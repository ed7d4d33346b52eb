"""The one place where a SOURCE is parsed and named, and refused if it tells secrets.

A SOURCE is one of

- a path: `/data/x.zarr`, `x.zarr`, `~/x.zarr`;
- an fsspec URL: `s3://bucket/x.zarr`, `https://host/x.zarr`, `sftp://host/x.zarr`;
- a chain of them, innermost first: `zip://x.zarr::s3://bucket/a.zip`;
- references, of kerchunk or VirtualiZarr: `reference://::s3://bucket/refs.json`, with a path below
  them `reference://x/y::refs.json`, or as `reference://?fo=/data/refs.json`;
- a URL pipeline, outermost first: `s3://bucket/a.zip|zip:x.zarr|zarr3:`, where
  `s3+https://host/bucket/key` names an S3 server other than Amazon's.

What begins with `/`, `.` or `~` is a path, whatever else is in it save a pipeline's segments. In a
chain or a plain URL a `%` stands for itself, as in fsspec; in pipelines, `s3+https` and `http` URLs
percent-encoding applies, as in RFC 3986, and to user info everywhere.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote, urlsplit

from znfs.errors import UsageError
from znfs.redaction import AT_IS_NO_USER, is_secret, redact

ROOT_NAME = "root"
_STORE_SUFFIXES = (".zarr", ".n5", ".zip")

# Names that mean the same kind of store. What is not here goes to fsspec under its own name.
_SCHEMES = {
    "file": "file", "local": "file",
    "s3": "s3", "s3a": "s3",
    "gs": "gs", "gcs": "gs",
    "az": "az", "abfs": "az", "abfss": "az",
    "http": "http", "https": "https",
}
_S3_ENDPOINTS = {"s3+http": "http", "s3+https": "https"}
# Segments of a pipeline that name a format, and the format they force ("zarr" is any version).
_FORMAT_SEGMENTS = {"zarr3": "zarr3", "zarr2": "zarr2", "zarr": None, "n5": "n5"}

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://(.*)", re.DOTALL)
_LINK = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)(?:://(.*))?", re.DOTALL)
# Not the `::` of an IPv6 address in brackets.
_CHAIN = re.compile(r"::(?![0-9A-Fa-f:.]*(?:%[^\[\]/]*)?\])")
_PIPE = re.compile(r"\|(?=[A-Za-z][A-Za-z0-9+.\-]*:|$)")

_JSON_NAME = re.compile(r'"([^"]+)"\s*:')
_NO_SECRETS = frozenset({"", "anon", "none", "cloud", "google_default", "true", "false"})


@dataclass(frozen=True)
class Location:
    """A SOURCE taken apart: where its bytes are, and which zip files to enter from there.

    `scheme` is file, s3, gs, az, http, https or an fsspec protocol. `host` is a bucket, a container
    or host:port, "" for files. `path` has no `/` at its end; one at its beginning is part of a key
    (`s3://b//x`), and a file's is absolute; an http path stays percent-encoded. `text` is the URL
    as fsspec takes it. `zips` holds the path inside each zip file entered, the outermost first.
    `format` is a pipeline's, or None.
    """

    scheme: str
    host: str
    path: str
    text: str = field(repr=False)
    endpoint: str | None = None
    user: str = field(default="", repr=False)  # "user:password"
    query: str = field(default="", repr=False)
    zips: tuple[str, ...] = ()
    references: str | None = None  # the path below, where SOURCE is a document of references
    format: str | None = None

    @property
    def name(self) -> str:
        """NAME of the root, from the innermost path that is not empty."""
        path = unquote(self.path) if self.scheme in ("http", "https") else self.path
        if self.scheme == "s3" and self.endpoint:
            path = f"{self.host}/{path}"  # there the bucket is part of the URL's path
        inner = (path, *self.zips, self.references or "")
        return node_name(next((p for p in reversed(inner) if p.strip("/")), ""))

    @property
    def url(self) -> str:
        """A prefix in a bucket or container, and whose; as SOURCE it opens the same."""
        if self.endpoint is None:
            whole = f"{self.scheme}://{self.host}/{self.path}"
        elif self.scheme == "az":
            whole = f"abfss://{self.host}@{self.endpoint}/{self.path}"
        else:
            whole = f"{self.scheme}+{self.endpoint}/{self.host}/{quote_path(self.path)}"
        return whole.rstrip("/")

    @property
    def server(self) -> str | None:
        """The host that SOURCE names; None where it names none, but a bucket or a file."""
        if self.scheme == "chain":
            return parse(split_chain(self.text)[-1]).server
        if self.scheme == "s3":
            return urlsplit(self.endpoint or "").hostname
        if self.scheme in ("gs", "az") or self.scheme in AT_IS_NO_USER:
            return None
        return urlsplit(self.text).hostname

    @property
    def authority(self) -> tuple[str, str]:
        """Scheme, and host with its port, of the server that is told credentials."""
        if self.scheme == "chain":
            return parse(split_chain(self.text)[-1]).authority
        return self.scheme, self.host or _authority(self.text.partition("://")[2])[1]

    @property
    def file(self) -> str | None:
        """The file or folder of this machine that is read, through whatever chain; None if it is
        elsewhere."""
        if self.scheme == "chain":
            return parse(split_chain(self.text)[-1]).file
        return self.path if self.scheme == "file" else None


def node_name(path: str) -> str:
    """NAME of a node: its last segment without one of the stores' suffixes (docs/SEMANTICS.md,
    "Names")."""
    last = path.rstrip("/").rpartition("/")[2]
    for suffix in _STORE_SUFFIXES:
        if last.endswith(suffix):
            return last.removesuffix(suffix) or ROOT_NAME
    return last or ROOT_NAME


def split_chain(text: str) -> list[str]:
    """The links of a chain `A::B::C`."""
    return _CHAIN.split(text)


def parse(source: str) -> Location:
    """Take a SOURCE apart; no look at any store. Raises UsageError."""
    if not source or "\0" in source:
        raise UsageError("SOURCE is empty or holds a NUL")
    base, *segments = _PIPE.split(source)
    location = _parse_chain(base, quoted=bool(segments))
    for i, segment in enumerate(segments):
        location = _enter(location, segment, last=i == len(segments) - 1, source=source)
    return location


def _parse_chain(text: str, quoted: bool) -> Location:
    if text.lower().startswith("reference://"):
        return _parse_references(text, quoted)
    links = split_chain(text)
    if text.startswith(("/", ".", "~")) or len(links) == 1:
        return _parse_base(text, quoted)
    zips: list[str] = []
    while len(links) > 1:
        found = _LINK.fullmatch(links[0])
        if not found or found[1].lower() != "zip":
            break
        zips.insert(0, (found[2] or "").strip("/"))
        links.pop(0)
    if len(links) == 1:
        return replace(_parse_base(links[0], quoted), zips=tuple(zips))
    # Other links (tar, simplecache, reference, ...) are fsspec's own affair.
    for link in links[:-1]:
        if not _LINK.fullmatch(link):
            raise UsageError(
                f"{redact(text)!r}: {redact(link)!r} is no protocol; such a path starts with ./"
            )
    inner = next((p for p in (_LINK.fullmatch(x) for x in links[:-1]) if p and p[2]), None)
    path = inner[2].strip("/") if inner else _parse_base(links[-1], quoted).path
    return Location("chain", "", path, "::".join(links), zips=tuple(zips))


def _parse_references(text: str, quoted: bool) -> Location:
    """`reference://PATH::DOCUMENT`, or fsspec's parameter `fo` as `reference://PATH?fo=DOCUMENT`."""
    rest = text.partition("://")[2]
    path, found, document = rest.partition("?fo=" if "?fo=" in rest else "::")
    if not found or not document or document.lower().startswith("reference://"):
        raise UsageError(f"{redact(text)!r} names no references: reference://::DOCUMENT")
    return replace(_parse_chain(document, quoted), references=path.strip("/"))


def _parse_base(text: str, quoted: bool) -> Location:
    found = _URL.fullmatch(text)
    if text.startswith(("/", ".", "~")) or not found:
        path = os.path.expanduser(text) if text == "~" or text.startswith("~/") else text
        return _file(path)
    scheme, rest = found[1].lower(), found[2]
    plain = text.partition("?")[0]
    if "@" not in rest.partition("/")[0] and redact(plain) != plain:
        raise UsageError(f"{redact(text)!r}: a '/' in a password is written %2F")
    kind = _SCHEMES.get(scheme, scheme)
    if kind == "file":
        return _file(unquote(rest) if quoted else rest)
    if scheme in _S3_ENDPOINTS:
        user, host, path, query = _authority(rest)
        bucket, _, key = unquote(path).strip("/").partition("/")
        if not bucket or not host:
            raise UsageError(f"{redact(text)!r} names no bucket: s3+https://HOST/BUCKET/KEY")
        if query:
            raise UsageError(f"{redact(text)!r}: an S3 URL takes no '?'")
        _require(host, text)
        endpoint = f"{_S3_ENDPOINTS[scheme]}://{host}"
        return Location("s3", bucket, key, f"s3://{bucket}/{key}", endpoint, unquote(user))
    if kind in ("http", "https"):
        if "#" in rest:
            raise UsageError(f"{redact(text)!r}: a '#' in a URL is written %23")
        user, host, path, query = _authority(rest)
        _require(host, text)
        path = path.removeprefix("/").rstrip("/")
        return Location(kind, host, path, text, user=unquote(user), query=query)
    if kind in ("s3", "gs", "az"):
        host, _, path = rest.partition("/")
        host, _, account = host.partition("@") if kind == "az" else (host, "", "")
        user, _, host = host.rpartition("@")
        _require(host, text)
        path = unquote(path) if quoted else path
        return Location(kind, host, path.rstrip("/"), text, account or None, unquote(user))
    # An fsspec protocol; whether its first part is a host is for fsspec to know.
    user = _authority(rest)[0] if scheme not in AT_IS_NO_USER else ""
    path = rest.removeprefix(f"{user}@") if user else rest
    return Location(scheme, "", path.strip("/"), text, user=user)


def _file(path: str) -> Location:
    path = os.path.abspath(path or "/")
    return Location("file", "", path, path)


def _require(host: str, text: str) -> None:
    if not host:
        raise UsageError(f"{redact(text)!r} names no host or bucket")
    try:
        urlsplit(f"//{host}")
    except ValueError as error:  # brackets around what is no address
        raise UsageError(f"{redact(text)!r}: {error}") from None


def _authority(rest: str) -> tuple[str, str, str, str]:
    """User info, host:port, path and query of what follows `scheme://`."""
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    user, _, host = authority.rpartition("@")
    return user, host, slash + path, query


def _enter(location: Location, segment: str, last: bool, source: str) -> Location:
    """One more segment of a pipeline: a zip file to enter, or the format of what is there."""
    scheme, _, path = segment.partition(":")
    scheme, path = scheme.lower(), unquote(path).strip("/")
    if scheme == "zip" and location.references is None:
        return replace(location, zips=(*location.zips, path))
    if scheme not in _FORMAT_SEGMENTS:
        known = ", ".join(f"{s}:" for s in ("zip", *_FORMAT_SEGMENTS))
        raise UsageError(
            f"{redact(source)!r}: no pipeline segment {scheme + ':'!r}; there are {known}"
        )
    if not last:
        raise UsageError(f"{redact(source)!r}: {scheme}: must be the last segment")
    return replace(_below(location, path), format=_FORMAT_SEGMENTS[scheme])


def _below(location: Location, path: str) -> Location:
    if not path:
        return location
    if location.references is not None:
        return replace(location, references=f"{location.references}/{path}".strip("/"))
    if location.zips:
        *outer, inner = location.zips
        return replace(location, zips=(*outer, f"{inner}/{path}".strip("/")))
    if location.scheme == "chain":
        raise UsageError(f"{redact(location.text)!r}: write the path {path!r} into the chain")
    if location.scheme in ("http", "https"):
        path = quote_path(path)
    slash = "" if location.path.endswith("/") or not location.path else "/"
    text = f"{location.text.rstrip('/')}/{path}"
    return replace(location, path=f"{location.path}{slash}{path}", text=text)


def quote_path(path: str) -> str:
    """A path as URLs spell it (RFC 3986, 3.3); bytes that are no UTF-8 stay themselves. `+`, which
    may stand for itself, is a space to S3."""
    return quote(path, safe="/!$&'()*,;=:@~", errors="surrogateescape")


# Where clouds tell a machine of itself, credentials among it, if not at link-local addresses.
_METADATA = frozenset(
    {"metadata.google.internal", "fd00:ec2::254", "100.100.100.200", "192.0.0.192"}
)


def is_here(host: str | None) -> bool:
    """Whether the name of a host says this machine, or one that answers to it alone, as the clouds'
    metadata services do. What a name server says is not looked at."""
    if not host:
        return False
    # As IDNA folds it: full-width letters and dots are others to us, and not to the resolver.
    name = unicodedata.normalize("NFKC", host).replace("\u3002", ".").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(name))  # 127.1, 0x7f000001
        except (OSError, ValueError):
            return name == "localhost" or name.endswith(".localhost") or name in _METADATA
    mapped = getattr(address, "ipv4_mapped", None) or address
    return (
        mapped.is_loopback or mapped.is_link_local or mapped.is_unspecified
        or str(mapped) in _METADATA
    )  # fmt: skip


def refuse_secrets(
    source: str, storage_option: Mapping[str, str] | None = None, endpoint_url: str | None = None
) -> None:
    """For what comes from a command line, which every user of the machine can read.

    Raises UsageError, which names --config as the place for secrets and repeats none.
    """
    for url in filter(None, (source, endpoint_url)):
        if redact(url) != url:
            raise UsageError(
                f"{redact(url)!r}: a command line is no place for user info or a signature; "
                "put them into the environment or a file for --config"
            )
    for key, value in (storage_option or {}).items():
        text = str(value)
        inner = _JSON_NAME.findall(text)  # of arguments for another library: client_kwargs
        if (
            (is_secret(key) and text.lower() not in _NO_SECRETS)
            or any(map(is_secret, inner))
            or redact(text) != text
        ):
            raise UsageError(
                f"--storage-option {key}: a command line is no place for a secret; "
                "put it into the environment or a file for --config"
            )
