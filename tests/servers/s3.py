"""S3 by Ceph's RADOS Gateway: one monitor, one in-memory OSD, one gateway, no disk beyond a few MB.

    with S3() as s3:
        s3.client().create_bucket(Bucket="data")
        open_store("s3://data", Options(endpoint_url=s3.url))     # with s3.environment set
"""

from __future__ import annotations

import glob
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, Self

from tests.servers.process import find, free_ports, require, start, stop, wait_for_http

_CONF = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon2},v1:127.0.0.1:{mon1}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
run dir = {dir}/run
admin socket = {dir}/run/$name.asok
log file = {dir}/log/$name.log
crash dir = {dir}/run
keyring = {dir}/keyring
debug ms = 0
# secure mode would ask for keys
ms mon client mode = crc
[mon]
mon data = {dir}/mon
mon initial members = a
# every step of the start-up waits for a proposal
paxos propose interval = 0.05
paxos min wait = 0.01
mon data avail crit = 1
mon data avail warn = 2
[osd]
osd data = {dir}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
# Debian 13's own default is a relative path
osd class dir = {classes}
osd class load list = *
osd class default list = *
osd memory target = 939524096
osd crush update on start = false
[client]
# What changes a user tells every gateway, and would wait ten seconds for one that was killed.
client notify timeout = 1
rgw max notify retries = 0
rgw data = {dir}/rgw
# without tcp_nodelay an answer takes 40 ms
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw run sync thread = false
rgw enable usage log = false
rgw thread pool size = 64
rgw enable apis = s3, admin
rgw dns name = localhost
# clients sign for us-east-1 and the like
rgw relaxed region enforcement = true
"""


class S3:
    """A gateway with one user; `key` and `secret` are that user's."""

    key = "testkey"
    secret = "testsecret"

    def __init__(self) -> None:
        require("ceph-mon", "ceph-mon", "monmaptool")
        require("ceph-osd", "ceph-osd")
        require("radosgw", "radosgw", "radosgw-admin")
        require("ceph-common", "ceph")
        self.port, self._mon1, self._mon2 = free_ports(3)
        self.url = f"http://127.0.0.1:{self.port}"
        self._dir = Path()
        self._conf = ""
        self._processes: list[subprocess.Popen[bytes]] = []
        self._gateway: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What clients need in their environment; no file of the user's is read."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __enter__(self) -> Self:
        # Unix sockets are made there: the path must be short.
        self._dir = Path(tempfile.mkdtemp(prefix="znfs-s3-"))
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()  # there is nothing to keep, and it takes its time over an end in peace
        for process in reversed(self._processes):
            stop(process)
        shutil.rmtree(self._dir, ignore_errors=True)

    def client(self) -> Any:
        """boto3's client, signed in."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id=self.key,
            aws_secret_access_key=self.secret, region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}),
        )

    def kill(self) -> None:
        """End the gateway at once, as `kill -9` does."""
        if self._gateway is not None:
            self._gateway.kill()
            self._gateway.wait()

    def restart(self) -> None:
        """Start the gateway again on its old port."""
        self.kill()
        self._serve()

    def suspend(self) -> None:
        """Make the gateway hang: connections are taken, nothing is answered."""
        if self._gateway is not None:
            self._gateway.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._gateway is not None:
            self._gateway.send_signal(signal.SIGCONT)

    def add_user(self, name: str, key: str, secret: str) -> None:
        self._run("radosgw-admin", "user", "create", f"--uid={name}", f"--display-name={name}",
                  f"--access-key={key}", f"--secret-key={secret}")

    def suspend_user(self, name: str = "test", suspended: bool = True) -> None:
        """Revoke a user's credentials, or give them back."""
        verb = "suspend" if suspended else "enable"
        self._run("radosgw-admin", "user", verb, f"--uid={name}")

    def _start(self) -> None:
        for name in ("mon", "osd", "run", "log", "rgw"):
            (self._dir / name).mkdir()
        fsid = str(uuid.uuid4())
        conf = self._dir / "ceph.conf"
        conf.write_text(_CONF.format(
            fsid=fsid, dir=self._dir, port=self.port, mon1=self._mon1, mon2=self._mon2,
            classes=(glob.glob("/usr/lib*/*/rados-classes") or ["/usr/lib64/rados-classes"])[0],
        ))
        self._conf = str(conf)
        (self._dir / "keyring").touch()
        monmap = str(self._dir / "monmap")
        addresses = f"[v2:127.0.0.1:{self._mon2},v1:127.0.0.1:{self._mon1}]"
        self._run("monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a",
                  addresses, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self._daemon("ceph-mon", "-i", "a")
        osd_uuid = str(uuid.uuid4())
        osd = self._ceph("osd", "new", osd_uuid).strip()
        self._run("ceph-osd", "-i", osd, "--mkfs", "--osd-uuid", osd_uuid)
        self._ceph("osd", "crush", "add", f"osd.{osd}", "1.0", "root=default", "host=localhost")
        self._daemon("ceph-osd", "-i", osd)
        over = time.monotonic() + 20
        while "1 up" not in self._ceph("osd", "stat"):
            if time.monotonic() > over:
                raise RuntimeError("Ceph's OSD does not come up")
            time.sleep(0.05)
        self.add_user("test", self.key, self.secret)
        self._serve()

    def _serve(self) -> None:
        self._gateway = start(
            ["radosgw", "-c", self._conf, "-n", "client.rgw", "-f"], self._dir / "log/radosgw.out"
        )
        wait_for_http(self.url, self._gateway)

    def _daemon(self, *command: str) -> None:
        log = self._dir / "log" / f"{command[0]}.out"
        self._processes.append(start([*command, "-c", self._conf, "-f"], log))

    def _ceph(self, *command: str) -> str:
        return self._run("ceph", "--connect-timeout", "20", *command)

    def _run(self, program: str, *arguments: str) -> str:
        conf = () if program == "monmaptool" else ("-c", self._conf)
        done = subprocess.run(
            [find(program) or program, *conf, *arguments],
            capture_output=True, text=True, timeout=60,
            env={**os.environ, "CEPH_CONF": self._conf},
        )
        if done.returncode:
            raise RuntimeError(f"{program} {arguments[0]}: {done.stderr.strip()[-500:]}")
        return done.stdout
