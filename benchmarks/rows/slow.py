"""Row 11: a slow line, 8 Mbit/s and 80 ms: planes in order, then one far off.

znfs looks ahead meanwhile; the library reads what it is told to, and nothing else shares its line.
"""

from __future__ import annotations

from pathlib import Path

import tensorstore as ts

from benchmarks import mounts, readers, system
from benchmarks.bench import Bench
from benchmarks.data import STANDARD, Spec
from benchmarks.gateway import gateway
from benchmarks.measure import compare
from benchmarks.readers import Box
from benchmarks.report import time_line
from benchmarks.rows.remote import side
from tests.servers.faultproxy import FaultProxy

_RATE = 1e6  # bytes a second
_LATENCY = 0.08
_PAGES = [readers.planes(z, z + 1) for z in range(8)]
_FAR_OFF = [readers.planes(200, 201)]
_SPEC = Spec(STANDARD, "zstd")  # but for its chunks
_NAME = "planes-of-512"


def run(bench: Bench) -> None:
    store = bench.data.made(f"{_NAME}.zarr", lambda target: _write(target, bench))
    with gateway({_NAME: store}) as s3, FaultProxy("127.0.0.1", s3.line.port) as line:
        line.rate, line.latency = _RATE, _LATENCY
        place = readers.Remote("benchmark", _NAME, line.url)
        with mounts.znfs(place.url, "--endpoint-url", line.url, "--region", "us-east-1") as mount:
            tiff = readers.Tiff(mount.path, _SPEC)
            own, peer = readers.reader(tiff), readers.tensorstore(place)

            def forget() -> None:
                mount.refresh()
                system.drop_pages(*tiff.files)

            def turn_pages() -> None:
                forget()
                read = own.open()
                for box in _PAGES:
                    read(box)

            for what, boxes, prepare, at_most in (
                ("8 planes in order", _PAGES, forget, 1.3),
                ("then a plane far off", _FAR_OFF, turn_pages, 2.0),
            ):
                sides = [
                    side(own, boxes, bench, _SPEC, s3, {}, prepare),
                    side(peer, boxes, bench, _SPEC, s3, {}),
                ]
                times = compare(sides, bench.repeats)
                what = f"S3 at 1 MB/s and 80 ms, {what}, chunks of 1×512×512, {tiff.name}"
                bench.add(time_line(11, what, times, own.name, peer.name, at_most))


def _write(target: Path, bench: Bench) -> None:
    array = ts.open(
        {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": f"{target}/"},
            "metadata": {
                "shape": STANDARD.shape, "data_type": "uint16",
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 512, 512]}},
                "codecs": [
                    {"name": "bytes", "configuration": {"endian": "little"}}, {"name": "zstd"},
                ],
                "dimension_names": ["z", "y", "x"],
            },
        },
        create=True, open=False,
    ).result()  # fmt: skip
    everything: Box = readers.planes(0, STANDARD.shape[0])
    array[...].write(bench.data.expect(STANDARD, everything)).result()
