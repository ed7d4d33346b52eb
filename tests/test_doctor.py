"""`znfs doctor`: each thing that it finds, and that it says how to mend it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.servers.process import free_ports
from znfs.commands import doctor
from znfs.commands.doctor import Finding
from znfs.daemon import mounts
from znfs.errors import SourceError
from znfs.options import Options
from znfs.tree import open_tree

Patch = pytest.MonkeyPatch


def only(findings: Iterator[Finding]) -> Finding:
    (found,) = findings
    return found


def as_user(monkeypatch: Patch) -> None:
    """One who is neither root nor the owner of what the tests make."""
    user = os.geteuid() + 1000
    monkeypatch.setattr(os, "geteuid", lambda: user)


def test_no_device(monkeypatch: Patch) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    found = only(doctor.device())
    assert (found.level, "modprobe fuse" in found.mend) == ("fail", True)


def test_a_device_that_may_not_be_opened(monkeypatch: Patch) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert only(doctor.device()).mend == "chmod 666 /dev/fuse"


def no_library(name: str) -> None:
    raise OSError("Unable to find libfuse")


def no_module(name: str) -> None:
    raise ModuleNotFoundError(f"No module named {name!r}")


@pytest.mark.parametrize(
    ("binding", "failing", "what", "mend"),
    [
        ("mfusepy", no_library, "mfusepy cannot be loaded", "apt install fuse3"),
        ("fusepy", no_library, "fusepy cannot be loaded", "apt install libfuse2"),
        ("fusepy", no_module, "fusepy is not installed", "pip install fusepy"),
        ("pyfuse", no_module, "no binding 'pyfuse'", "unset ZNFS_FUSE_BINDING"),
    ],
)
def test_no_binding(
    monkeypatch: Patch, binding: str, failing: Callable[[str], None], what: str, mend: str
) -> None:
    monkeypatch.setenv("ZNFS_FUSE_BINDING", binding)
    monkeypatch.setattr("znfs.fuse.binding.importlib.import_module", failing)
    found = only(doctor.binding())
    assert (found.level, what in found.what, found.mend) == ("fail", True, mend)


def test_fusermount(monkeypatch: Patch, tmp_path: Path) -> None:
    helper = tmp_path / "fusermount3"
    monkeypatch.setenv("PATH", str(tmp_path))
    for uid, level in ((0, "warn"), (1000, "fail")):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert only(doctor.fusermount()).level == level
    helper.write_text("")
    helper.chmod(0o755)
    assert only(doctor.fusermount()).mend == f"chmod u+s {helper}"
    helper.chmod(0o4755)
    assert only(doctor.fusermount()).level == "ok"


def test_what_only_users_need(monkeypatch: Patch) -> None:
    texts = {
        "/etc/fuse.conf": "#user_allow_other\n",
        "/sys/module/apparmor/parameters/enabled": "Y\n",
    }
    monkeypatch.setattr(doctor, "_read", lambda path: texts.get(path, ""))
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert not [*doctor.allow_other(), *doctor.apparmor()]
    as_user(monkeypatch)
    assert only(doctor.allow_other()).mend == "user_allow_other in /etc/fuse.conf"
    assert "/etc/apparmor.d/local/fusermount3" in only(doctor.apparmor()).mend
    texts["/etc/fuse.conf"] = "user_allow_other\n"
    assert not list(doctor.allow_other())


def test_a_dead_mount(monkeypatch: Patch) -> None:
    mount = mounts.Mount("s3://b/v.zarr", "/srv/v", "0:99", "ro")
    monkeypatch.setattr(mounts, "mounts", lambda: [mount])
    monkeypatch.setattr(mounts, "is_dead", lambda path: path == "/srv/v")
    assert only(doctor.dead_mounts()).mend == "znfs umount /srv/v"


def test_a_mount_that_hangs(monkeypatch: Patch) -> None:
    mount = mounts.Mount("s3://b/v.zarr", "/srv/v", "0:99", "ro")
    monkeypatch.setattr(mounts, "mounts", lambda: [mount])
    monkeypatch.setattr(mounts, "_run", lambda command: None)
    found = only(doctor.dead_mounts())
    assert "/srv/v: its daemon does not answer" in found.what
    assert found.mend == "znfs umount --lazy /srv/v"


def test_crawlers(monkeypatch: Patch) -> None:
    text = 'PRUNEFS="nfs tmpfs"\n'
    monkeypatch.setattr(doctor, "_read", lambda path: text)
    found = only(doctor.crawlers())
    assert (found.level, "add fuse.znfs to PRUNEFS" in found.mend) == ("warn", True)
    text = 'PRUNEFS="nfs fuse.znfs"\n'
    found = only(doctor.crawlers())
    assert found.level == "ok"
    for crawler in ("updatedb", "tracker", "KDE", "macOS"):
        assert crawler in found.mend


def test_helpers(monkeypatch: Patch) -> None:
    monkeypatch.setattr(doctor, "_exists", lambda path: path == "/sbin/mount.znfs")
    found = only(doctor.helpers())
    assert (found.what, found.mend) == ("fstab: there is no /sbin/mount.fuse.znfs", "make install")


def test_configuration(monkeypatch: Patch, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[source."s3://b/"]\nstorage_option = {secret = "x"}\n')
    file.chmod(0o644)
    monkeypatch.setenv("ZNFS_CONFIG", str(file))
    assert only(doctor.configuration()).mend == f"chmod 600 {file}"
    file.chmod(0o600)
    assert only(doctor.configuration()).level == "ok"
    file.write_text("[nonsense]\n")
    assert only(doctor.configuration()).level == "fail"


def test_few_descriptors(monkeypatch: Patch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 4096))
    assert only(doctor.descriptors()).mend == "ulimit -n 4096"


def test_memory(monkeypatch: Patch) -> None:
    texts = {"/proc/meminfo": "MemTotal:       24000000 kB\nMemFree: 5 kB\n"}
    monkeypatch.setattr(doctor, "_read", lambda path: texts.get(path, ""))
    assert not list(doctor.memory(Options()))
    texts["/proc/self/cgroup"] = "4:memory:/job/step\n1:cpu,cpuset:/\n0::/system.slice/v.service\n"
    texts["/sys/fs/cgroup/memory/job/step/memory.limit_in_bytes"] = f"{1 << 63}\n"
    texts["/sys/fs/cgroup/system.slice/v.service/memory.max"] = "max\n"
    assert not list(doctor.memory(Options()))
    small = Options(cache_size=128 << 20)
    for path in (
        "/proc/meminfo", "/sys/fs/cgroup/system.slice/memory.max",
        "/sys/fs/cgroup/memory/job/memory.limit_in_bytes",
    ):  # fmt: skip
        before = texts.get(path, "")
        texts[path] = "MemTotal: 524288 kB\n" if path == "/proc/meminfo" else f"{512 << 20}\n"
        said = only(doctor.memory(Options())).what
        assert said == "512 MiB of memory may be taken, and --cache-size is 1.0 GiB"
        assert not list(doctor.memory(small))
        texts[path] = before


def test_disk_cache(monkeypatch: Patch, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    options = Options(disk_cache=str(folder), disk_cache_size=1)
    assert not list(doctor.disk_cache(options))  # it will be made
    folder.mkdir(mode=0o700)
    assert not list(doctor.disk_cache(options))
    more = Options(disk_cache=str(folder), disk_cache_size=1 << 60)
    assert only(doctor.disk_cache(more)).mend == "a smaller one"
    folder.chmod(0o755)
    assert "chmod 700" in only(doctor.disk_cache(options)).mend
    folder.chmod(0o700)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "cannot be read" in only(doctor.disk_cache(options)).what
    as_user(monkeypatch)
    assert "not yours" in only(doctor.disk_cache(options)).what
    (tmp_path / "file").write_text("")
    wrong = Options(disk_cache=str(tmp_path / "file/cache"))
    assert only(doctor.disk_cache(wrong)).mend == "another --disk-cache"


@contextmanager
def server(status: int, body: str = "", date: str | None = None) -> Iterator[str]:
    """Answers everything alike; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(status)
            self.send_header("Date", formatdate(usegmt=True) if date is None else date)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body.encode())

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_address[1]}"
        finally:
            http.shutdown()
            thread.join()


@pytest.mark.parametrize("source", ["s3://b/v.zarr", "{url}/v.zarr"])
def test_a_clock_that_is_wrong(source: str) -> None:
    for date, count in ((None, 0), ("Mon, 01 Jan 2001 00:00:00 GMT", 1), ("nonsense", 0)):
        with server(404, date=date) as url:
            found = list(doctor.clock(source.format(url=url), Options(endpoint_url=url)))
        assert [f.mend for f in found] == ["timedatectl set-ntp true"] * count, date


@pytest.mark.parametrize(
    ("code", "mend"),
    [("ExpiredToken", "renew them"), ("InvalidAccessKeyId", "other keys"),
     ("SignatureDoesNotMatch", "other keys"), ("RequestTimeTooSkewed", "set-ntp"),
     ("AccessDenied", "ask for the right")],
)  # fmt: skip
def test_a_store_that_refuses(code: str, mend: str, monkeypatch: Patch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with server(403, f"<Error><Code>{code}</Code></Error>") as url:
        found = only(doctor.reach("s3://b/v.zarr", Options(endpoint_url=url, deadline=5)))
    assert (found.level, mend in found.mend) == ("fail", True), found
    assert "secret" not in found.what


@pytest.mark.parametrize(
    ("source", "code", "options"),
    [("s3://b/v.zarr", "NoSuchBucket", {"endpoint_url": "{url}"}),
     ("s3://b/v.zarr", "NoSuchBucket", {"endpoint_url": "{url}", "backend": "fsspec"}),
     ("az://c/v.zarr", "ContainerNotFound",
      {"storage_option": {"account_name": "a", "endpoint": "{url}"}})],
)  # fmt: skip
def test_a_bucket_that_is_not_there(source: str, code: str, options: dict[str, Any]) -> None:
    """That is an error of the source's, and no store that is down for the time being."""
    with server(404, f"<Error><Code>{code}</Code></Error>") as url:
        given = json.loads(json.dumps(options).replace("{url}", url))
        with pytest.raises(SourceError, match=f"{source}: there is no such bucket"):
            open_tree(source, Options(anon=True, deadline=5, **given))
        found = only(doctor.reach(source, Options(anon=True, deadline=5, **given)))
    assert (found.level, "another name" in found.mend) == ("fail", True), found


def test_no_credentials(monkeypatch: Patch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with server(403) as url:
        found = only(doctor.reach("s3://b/v.zarr", Options(endpoint_url=url, deadline=5)))
    assert (found.level, "--anon" in found.mend) == ("fail", True), found


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_an_endpoint_that_does_not_answer(scheme: str, monkeypatch: Patch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    (port,) = free_ports(1)
    source = "s3://b/v.zarr" if scheme == "s3" else f"http://127.0.0.1:{port}/v.zarr"
    endpoint = f"http://127.0.0.1:{port}" if scheme == "s3" else None
    found = only(doctor.reach(source, Options(endpoint_url=endpoint, deadline=1)))
    assert (found.level, "is it up" in found.mend) == ("fail", True), found


def test_nothing_there(tmp_path: Path) -> None:
    assert "another path" in only(doctor.reach(str(tmp_path / "none"), Options())).mend


def test_all_of_it(monkeypatch: Patch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it prints, and its exit status."""
    checks: list[Callable[[], Iterator[Finding]]] = [doctor.helpers, doctor.descriptors]
    monkeypatch.setattr(doctor, "CHECKS", checks)
    monkeypatch.setattr(doctor, "_exists", lambda path: False)
    with pytest.raises(SourceError, match="1 of these"):
        doctor.show(str(tmp_path / "none"), Options())
    out = capsys.readouterr().out
    assert "make install" in out
    assert "another path" in out
    done = subprocess.run(
        [sys.executable, "-m", "znfs", "doctor", str(tmp_path / "none")], capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
