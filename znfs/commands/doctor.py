"""`znfs doctor`: what on this machine would stop a mount or spoil it, and the mend."""

from __future__ import annotations

import contextlib
import email.utils
import os
import re
import resource
import shutil
import stat
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from znfs import config
from znfs.daemon import mounts
from znfs.errors import MountError, SourceError, UsageError, ZnfsError
from znfs.fuse import NoBinding, load_binding
from znfs.options import Options
from znfs.tables import print_table, size_text

_FEW_FILES = 1024
_BESIDE_THE_CACHE = 256 << 20  # bytes: what a daemon takes (docs/PERFORMANCE.md, "Memory")
_SKEW = 300.0  # seconds; S3 refuses signatures 15 minutes off
_TIMEOUT = 10.0  # seconds
_EXCLUDE = (
    "updatedb: PRUNEFS in /etc/updatedb.conf; GNOME's tracker: a file .nomedia or .trackerignore "
    "above it; KDE: balooctl6 config add excludeFolders; macOS clients: mdutil -i off"
)
# What a store says when it is asked, and what to do about it: the first that fits.
_MENDS = (
    ("no AWS credentials", "aws configure, --profile, the environment; a public one: --anon"),
    ("ExpiredToken|TokenRefreshRequired|expired", "renew them: aws sso login, or as you got them"),
    ("RequestTimeTooSkewed|RequestExpired", "timedatectl set-ntp true"),
    ("InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken", "other keys: --profile, environment"),
    ("no such bucket", "another name, --endpoint-url, --region"),
    ("cannot be resolved|dns error|Name or service", "another name; is DNS in reach?"),
    ("certificate", "the authority's file: AWS_CA_BUNDLE or SSL_CERT_FILE"),
    ("401|403|AccessDenied|permission", "ask for the right to read; a public one: --anon"),
    ("nothing there|no Zarr or N5|No such file", "another path: znfs ls of the folder above"),
    ("answer|refused|reset|connect|50[0-9]", "is it up, and let through by firewall and proxy?"),
)


@dataclass(frozen=True)
class Finding:
    """What a check found. `level` is ok, warn (something is lost) or fail (no mount)."""

    level: str
    what: str
    mend: str = ""


def show(source: str | None, options: Options | None) -> None:
    """Check, and print what was found. Raises SourceError if something would stop a mount."""
    findings = [f for check in CHECKS for f in check()]
    if source is None or options is None:
        with contextlib.suppress(UsageError):  # `configuration` has said so
            options = config.load("", {})
            findings += [*memory(options), *disk_cache(options)]
    else:
        findings += [*memory(options), *disk_cache(options)]
        findings += [*clock(source, options), *reach(source, options)]
    print_table(("", "", "Mend"), [(f.level, f.what, f.mend) for f in findings])
    sys.stdout.flush()
    if failed := sum(f.level == "fail" for f in findings):
        raise SourceError(f"{failed} of these would stop a mount")


def device() -> Iterator[Finding]:
    """/dev/fuse."""
    if not os.path.exists("/dev/fuse"):
        yield Finding(
            "fail", "there is no /dev/fuse",
            "modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN",
        )  # fmt: skip
    elif not os.access("/dev/fuse", os.R_OK | os.W_OK):
        yield Finding("fail", "/dev/fuse may not be opened", "chmod 666 /dev/fuse")
    else:
        yield Finding("ok", "/dev/fuse")


def binding() -> Iterator[Finding]:
    """The FUSE binding and its library."""
    try:
        yield Finding("ok", str(load_binding()))
    except NoBinding as exc:
        yield Finding("fail", exc.why, exc.mend)
    except MountError as exc:
        yield Finding("fail", str(exc), "unset ZNFS_FUSE_BINDING")


def fusermount() -> Iterator[Finding]:
    """The setuid helper by which users mount."""
    helper = shutil.which("fusermount3")
    if helper is None:
        level = "warn" if os.geteuid() == 0 else "fail"
        yield Finding(level, "fusermount3 is not in the PATH", "apt install fuse3")
    elif os.geteuid() and not os.stat(helper).st_mode & stat.S_ISUID:
        yield Finding("fail", f"{helper} is not setuid root", f"chmod u+s {helper}")
    else:
        yield Finding("ok", helper)


def allow_other() -> Iterator[Finding]:
    """Whether users may let others read their mounts."""
    text = _read("/etc/fuse.conf")
    if os.geteuid() and not re.search(r"^\s*user_allow_other\b", text, re.MULTILINE):
        yield Finding(
            "warn", "--allow-other is for root alone", "user_allow_other in /etc/fuse.conf"
        )


def apparmor() -> Iterator[Finding]:
    """Ubuntu's profile of fusermount3 names the places where users may mount."""
    enabled = _read("/sys/module/apparmor/parameters/enabled").startswith("Y")
    if os.geteuid() and enabled and os.path.exists("/etc/apparmor.d/fusermount3"):
        yield Finding(
            "warn", "AppArmor lets users mount in some places only (home, /mnt, /media, /tmp)",
            "elsewhere: a rule in /etc/apparmor.d/local/fusermount3",
        )  # fmt: skip


def dead_mounts() -> Iterator[Finding]:
    """Mounts whose daemon has died, or does not answer."""
    for _, finding in mounts.ask_all(_life):
        yield from finding


def _life(mount: mounts.Mount) -> list[Finding]:
    try:
        if not mounts.is_dead(mount.mountpoint):
            return []
        said, mend = f"{mount.mountpoint}: its daemon has died", "znfs umount"
    except MountError as exc:
        said, mend = str(exc), "znfs umount --lazy"
    return [Finding("warn", said, f"{mend} {mount.mountpoint}")]


def crawlers() -> Iterator[Finding]:
    """updatedb reads every file system that its configuration does not exclude."""
    text = _read("/etc/updatedb.conf")
    found = re.search(r'^\s*PRUNEFS\s*=\s*"([^"]*)"', text, re.MULTILINE)
    if text and not (found and mounts.FSTYPE in found[1].split()):
        yield Finding(
            "warn", "updatedb will read every mount it can",
            f"add {mounts.FSTYPE} to PRUNEFS in /etc/updatedb.conf",
        )  # fmt: skip
    else:
        yield Finding("ok", "crawlers: what they probe for costs no request", _EXCLUDE)


def helpers() -> Iterator[Finding]:
    """What mount(8) needs for fstab."""
    if missing := [p for p in ("/sbin/mount.znfs", "/sbin/mount.fuse.znfs") if not _exists(p)]:
        yield Finding("warn", f"fstab: there is no {' nor '.join(missing)}", "make install")


def configuration() -> Iterator[Finding]:
    """The configuration file: readable, right, and private if it holds secrets."""
    try:
        path, data = config.read(os.environ.get("ZNFS_CONFIG"), os.environ)
        config.load("", {})
    except UsageError as exc:
        yield Finding("fail", str(exc), "correct the file")
        return
    if path and "storage_option" in str(data) and os.stat(path).st_mode & 0o077:
        yield Finding("warn", f"{path}: others may read it", f"chmod 600 {path}")
    elif path:
        yield Finding("ok", path)


def descriptors() -> Iterator[Finding]:
    """Each connection and each open local chunk takes a descriptor."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < _FEW_FILES:
        yield Finding("warn", f"only {soft} files may be open", "ulimit -n 4096")


def memory(options: Options) -> Iterator[Finding]:
    """Memory for the cache: whoever takes more than a group of processes may is killed, and what is
    left is a dead mount."""
    room = min(_memory_limits(), default=None)
    if room is not None and room < options.cache_size + _BESIDE_THE_CACHE:
        yield Finding(
            "warn", f"{size_text(room)} of memory may be taken, and --cache-size is "
            f"{size_text(options.cache_size)}", "a smaller one: up to 300 MiB come on top",
        )  # fmt: skip


def _memory_limits() -> Iterator[int]:
    """Bytes: of the machine, and of the control groups that this process is in (a container, a
    service, a batch job), of either version."""
    if found := re.search(r"^MemTotal: *(\d+) kB", _read("/proc/meminfo"), re.MULTILINE):
        yield int(found[1]) << 10
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, name = "/sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            root, name = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        folder = Path(path)
        for above in (folder, *folder.parents):
            limit = _read(f"{root}{above}/{name}").strip()
            if limit.isdigit():
                yield int(limit)


def disk_cache(options: Options) -> Iterator[Finding]:
    """The folder of the disk cache."""
    folder = options.disk_cache
    if folder is None:
        return
    try:
        found = os.stat(folder)
    except FileNotFoundError:
        return  # it will be made
    except OSError as exc:
        yield Finding("warn", f"{folder}: {exc.strerror}", "another --disk-cache")
        return
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        yield Finding("warn", f"{folder}: is not yours alone", f"chown and chmod 700 {folder}")
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("warn", f"{folder}: cannot be read and written", "another --disk-cache")
    elif shutil.disk_usage(folder).free < options.disk_cache_size:
        yield Finding("warn", f"{folder}: less is free than --disk-cache-size", "a smaller one")


def clock(source: str, options: Options) -> Iterator[Finding]:
    """This machine's clock against the server's: signatures hold for minutes only."""
    url = _server(source, options)
    if url is None:
        return
    began = time.time()
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            said = answer.headers.get("Date")
    except urllib.error.HTTPError as exc:
        said = exc.headers.get("Date")
    except (OSError, ValueError):
        return  # `reach` says more
    try:
        date = email.utils.parsedate_to_datetime(said).timestamp() if said else began
    except ValueError:
        return  # no date
    if abs(date - began) > _SKEW:
        yield Finding(
            "fail", f"the clock is {abs(date - began):.0f} s off the server's",
            "timedatectl set-ntp true",
        )  # fmt: skip


def _server(source: str, options: Options) -> str | None:
    """The web server that a source is read from, if it is one."""
    from znfs.stores import cloud
    from znfs.stores.urls import parse

    location = parse(source)
    if location.scheme in ("http", "https"):
        return f"{location.scheme}://{location.host}"
    if location.scheme == "s3":
        return cloud.endpoint_of(location, options) or cloud.AMAZON
    return None


def reach(source: str, options: Options) -> Iterator[Finding]:
    """Whether the source answers, and is something to show."""
    from znfs.tree import open_tree

    began = time.monotonic()
    try:
        tree = open_tree(source, options)
    except ZnfsError as exc:
        text = str(exc)
        mend = next((m for words, m in _MENDS if re.search(words, text, re.IGNORECASE)), "")
        yield Finding("fail", text, mend)
        return
    yield Finding("ok", f"{tree.url}: answered in {time.monotonic() - began:.2f} s")
    tree.close()


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    device, binding, fusermount, allow_other, apparmor, dead_mounts, crawlers, helpers,
    configuration, descriptors,
)  # fmt: skip


def _exists(path: str) -> bool:
    return Path(path).exists()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
