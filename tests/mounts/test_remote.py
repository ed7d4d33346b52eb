"""Mounts of stores on S3 (with keys, anonymous, wrong keys, unlistable) and on web servers."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import z5py
import zarr

from demo.volume import halve
from demo.write import write_n5, write_ome_zarr
from tests.conftest import Mount, running, znfs
from tests.servers.nginx import Nginx, served
from tests.servers.s3 import S3

INNER, SHARD = (1, 4, 16, 16), (1, 8, 32, 48)
VALUES = np.random.default_rng(9).integers(1, 60000, (2, 11, 32, 48), dtype="u2")
VALUES[1] = 0  # its chunks are not stored


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("www")
    write_ome_zarr(root / "cells.zarr", [VALUES, halve(VALUES)], INNER, SHARD)
    write_n5(root / "cells.n5", "volume", VALUES, INNER)
    for missing in [*root.glob("cells.zarr/*/c/1/**/0"), *root.glob("cells.n5/volume/*/*/*/1")]:
        if missing.is_file():
            missing.unlink()
    return root


@pytest.fixture(scope="module")
def s3(local: Path) -> Iterator[S3]:
    """The gateway, with the stores in buckets of several tempers."""
    with running(S3) as server:
        client = server.client()
        for bucket in ("private", "public", "unlistable"):
            client.create_bucket(Bucket=bucket)
            for path in local.rglob("*"):
                if path.is_file():
                    client.upload_file(str(path), bucket, str(path.relative_to(local)))
            actions = {"public": ["s3:GetObject", "s3:ListBucket"],
                       "unlistable": ["s3:GetObject"]}.get(bucket)  # fmt: skip
            if actions:
                client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, actions))
        yield server


def policy(bucket: str, actions: list[str]) -> str:
    """What anybody may do."""
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    statement = {"Effect": "Allow", "Principal": "*", "Action": actions, "Resource": resources}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture(scope="module")
def nginx(local: Path) -> Iterator[Nginx]:
    with served(local) as server:
        yield server


@pytest.fixture
def keys(s3: S3, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.environment


def check(image: Path, *, keys: bool = True) -> None:
    """Every view of the mounted OME-Zarr image, and with `keys` the store's own keys."""
    array = image / "0"
    np.testing.assert_array_equal(np.load(array / "0.npy"), VALUES)
    found = tifffile.imread(array / "0.tif")
    np.testing.assert_array_equal(found, VALUES.swapaxes(0, 1))
    np.testing.assert_array_equal(tifffile.imread(array / "tiff/0_c0_z07.tif"), VALUES[0, 7])
    with h5py.File(image / "cells.h5") as file:
        np.testing.assert_array_equal(file["0"][...], VALUES)
        np.testing.assert_array_equal(file["1"][...], halve(VALUES))
    chunk = (array / "chunks/c/0/1/0/2").read_bytes()
    assert chunk == VALUES[0:1, 4:8, 0:16, 32:48].tobytes()
    if keys:  # a reader of the format, pointed at the mount
        np.testing.assert_array_equal(zarr.open_array(array, mode="r")[...], VALUES)


def check_n5(container: Path) -> None:
    np.testing.assert_array_equal(np.load(container / "volume/volume.npy"), VALUES)
    with z5py.File(str(container), "r") as file:
        np.testing.assert_array_equal(file["volume"][:], VALUES)


@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_s3_with_keys(s3: S3, keys: Any, mount: Mount, backend: str) -> None:
    flags = ("--endpoint-url", s3.url, "--backend", backend)
    check(mount("s3://private/cells.zarr", *flags))
    check_n5(mount("s3://private/cells.n5", *flags))


def test_a_bucket_of_stores(s3: S3, keys: Any, mount: Mount) -> None:
    mounted = mount("s3://private", "--endpoint-url", s3.url)
    assert {"cells.zarr", "cells.n5"} <= set(os.listdir(mounted))
    check(mounted / "cells.zarr")
    check_n5(mounted / "cells.n5")


@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_folder_markers(s3: S3, keys: Any, mount: Mount, backend: str) -> None:
    """Consoles of S3 make a folder as an empty object whose key ends in a slash."""
    client = s3.client()
    client.create_bucket(Bucket=f"markers-{backend}")
    client.put_object(Bucket=f"markers-{backend}", Key="c.n5/attributes.json", Body=b"{}")
    for key in ("new/", "c.n5/new/", "c.n5/new/deep/"):
        client.put_object(Bucket=f"markers-{backend}", Key=key)
    flags = ("--endpoint-url", s3.url, "--backend", backend)
    mounted = mount(f"s3://markers-{backend}", *flags)
    done = subprocess.run(["find", mounted, "-type", "d", "-printf", "%P\\n"], check=True,
                          capture_output=True, text=True)  # fmt: skip
    folders = {"", ".znfs", "new", "c.n5", "c.n5/new", "c.n5/new/deep"}
    assert set(done.stdout.splitlines()) == folders


@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_s3_anonymously(s3: S3, mount: Mount, backend: str) -> None:
    flags = ("--anon", "--endpoint-url", s3.url, "--backend", backend)
    check(mount("s3://public/cells.zarr", *flags))


def test_s3_with_wrong_keys(
    s3: S3, keys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    place = tmp_path / "m"
    place.mkdir()
    for source in ("s3://private/cells.zarr", "s3://private"):
        done = znfs("mount", source, place, "--endpoint-url", s3.url, check=False)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert "wrong" not in done.stderr.replace("wrong key", "")
        assert "Traceback" not in done.stderr
        assert not place.is_mount()


def test_s3_without_right_to_read(s3: S3, tmp_path: Path) -> None:
    place = tmp_path / "m"
    place.mkdir()
    flags = ("--anon", "--endpoint-url", s3.url)
    done = znfs("mount", "s3://private/cells.zarr", place, *flags, check=False)
    assert done.returncode == 1
    assert "s3://private/cells.zarr" in done.stderr
    assert not place.is_mount()


def test_a_bucket_that_may_not_be_listed(s3: S3, mount: Mount) -> None:
    """What is missing is answered 403 there."""
    flags = ("--anon", "--endpoint-url", s3.url)
    image = mount("s3://unlistable/cells.zarr", *flags)
    assert {"0", "1", "zarr.json"} <= set(os.listdir(image))  # known from OME-Zarr's metadata
    plane = tifffile.imread(image / "1/tiff/1_c0_z03.tif")
    np.testing.assert_array_equal(plane, halve(VALUES)[0, 3])
    with pytest.raises(OSError, match=r"Permission|error"):
        (image / "1/chunks/c/1/0/0/0").read_bytes()
    check(mount("s3://unlistable/cells.zarr", "--missing-403", *flags), keys=False)


@pytest.mark.parametrize("temper", ["plain", "no-listing", "no-head", "no-range"])
def test_a_web_server(nginx: Nginx, mount: Mount, temper: str) -> None:
    check(mount(f"{nginx.url(temper)}/cells.zarr"))
    check_n5_dataset(mount(f"{nginx.url(temper)}/cells.n5/volume"))


def check_n5_dataset(dataset: Path) -> None:
    np.testing.assert_array_equal(np.load(dataset / "volume.npy"), VALUES)


def test_a_web_server_of_a_private_ca(
    nginx: Nginx, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", nginx.ca)
    check(mount(f"{nginx.url('https')}/cells.zarr"))
