"""The real units and fstab, under a real systemd in namespaces of its own (`make systemd`)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.conftest import ROOT, require

HERE = Path(__file__).parent
SYSTEMD = Path("/lib/systemd/systemd")
VALUES = np.arange(1, 301, dtype="<u2").reshape(15, 20)
PREPARE = """
mkdir -p /srv/volume /srv/auto /srv/now /srv/unit /etc/znfs
cp /share/znfs /usr/local/bin/znfs
cp /share/helper /sbin/mount.fuse.znfs
cp /share/units/* /etc/systemd/system/
cat > /etc/znfs/volume.env <<X
SOURCE=/share/v.zarr
MOUNTPOINT=/srv/volume
X
cat > /etc/fstab <<X
/share/v.zarr /srv/auto fuse.znfs _netdev,noauto,x-systemd.automount,x-systemd.idle-timeout=9 0 0
/share/v.zarr /srv/now fuse.znfs _netdev,nofail,user,allow_other,ttl=9 0 0
X
mkdir -p /etc/systemd/system/remote-fs.target.wants /etc/systemd/system/znfs@volume.service.d
ln -s ../znfs@.service /etc/systemd/system/remote-fs.target.wants/znfs@volume.service
cat > /etc/systemd/system/znfs@volume.service.d/quick.conf <<X
[Service]
WatchdogSec=3
RestartSec=100ms
X
"""


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """What the container sees as /share."""
    store = tmp_path / "v.zarr"
    array = zarr.create_array(store, shape=VALUES.shape, chunks=(8, 20), dtype="u2")
    array[...] = VALUES
    (store / "c/1/0").write_bytes(b"nonsense")
    (tmp_path / "expected").write_bytes(VALUES[:8].tobytes())
    start = f"#!/bin/sh\nPYTHONPATH={ROOT} XDG_CONFIG_HOME=/nonexistent exec {sys.executable} "
    (tmp_path / "znfs").write_text(start + '-m znfs "$@"\n')
    (tmp_path / "helper").write_text(
        start + "-c 'import sys; from znfs.cli import mount_main; sys.exit(mount_main())' \"$@\"\n"
    )
    for name in ("znfs", "helper"):
        (tmp_path / name).chmod(0o755)
    (tmp_path / "prepare").write_text(PREPARE)
    (tmp_path / "checks").write_bytes((HERE / "checks").read_bytes())
    (tmp_path / "checks").chmod(0o755)
    units = tmp_path / "units"
    units.mkdir()
    for path in (ROOT / "systemd").iterdir():
        text = path.read_text().replace("@PREFIX@", "/usr/local")
        text = text.replace("s3://bucket/volume.zarr", "/share/v.zarr")
        text = text.replace(",config=/etc/znfs/volume.toml", "").replace("/srv/volume", "/srv/unit")
        (units / path.name.replace("srv-volume", "srv-unit")).write_text(text)
    # Mounts below the root are not part of the copy.
    kept = [p for p in sorted({str(ROOT), sys.prefix, sys.base_prefix}) if os.stat(p).st_dev
            != os.stat("/").st_dev]  # fmt: skip
    (tmp_path / "keep").write_text("\n".join(kept))
    return tmp_path


def own_group() -> Path:
    """A control group of version 2 for the container, or skip."""
    for root in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        if (root / "cgroup.procs").exists() and (root / "cgroup.controllers").exists():
            group = root / f"znfs-test-{os.getpid()}"
            try:
                group.mkdir()
            except OSError as why:
                pytest.skip(f"no control group: {why}")
            return group
    pytest.skip("no control groups of version 2")


def remove(group: Path) -> None:
    for path, _, _ in os.walk(group, topdown=False):
        os.rmdir(path)


@pytest.mark.skipif(not os.environ.get("ZNFS_SYSTEMD"), reason="`make systemd` runs it")
def test_under_systemd(share: Path) -> None:
    require("unshare", "bash", "findmnt")
    if os.geteuid() != 0 or not SYSTEMD.exists():
        pytest.skip("needs root and systemd")
    group = own_group()
    script = f'echo $$ > {group}/cgroup.procs && exec "$@"'
    try:
        done = subprocess.run(
            ["sh", "-c", script, "sh", "unshare", "--mount", "--pid", "--fork", "--ipc", "--uts",
             "--net", "--cgroup", "--kill-child", "--propagation", "private",
             "sh", HERE / "container", share],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
    finally:
        remove(group)
    said = (share / "said").read_text() if (share / "said").exists() else done.stderr
    print(said)
    assert done.returncode == 0, said
    steps = re.findall(r"^step (.*)$", (HERE / "checks").read_text(), re.MULTILINE)
    assert [line[3:] for line in said.splitlines() if line.startswith("ok ")] == steps
