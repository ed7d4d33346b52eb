"""A tree's status for Prometheus, by its client library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    ProcessCollector,
    generate_latest,
    start_http_server,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from znfs.tables import printable

Status = Mapping[str, Any]

# Name, help, and where the status has it.
_GAUGES = (
    ("uptime_seconds", "Time since the mount began", ("uptime",)),
    ("store_answering", "0 while the store is taken for dead", ("store", "answering")),
    ("cache_bytes", "Memory held by the block cache", ("cache", "bytes")),
    ("cache_limit_bytes", "Most the block cache may hold", ("cache", "limit")),
    ("cache_loading_bytes", "Memory reserved by loads under way", ("cache", "loading_bytes")),
    ("cache_entries", "Entries of the block cache", ("cache", "entries")),
    ("disk_cache_bytes", "Bytes in the disk tier", ("disk_cache", "bytes")),
    ("disk_cache_limit_bytes", "Most the disk tier may hold", ("disk_cache", "limit")),
    ("open_files", "Files open through the mount", ("fuse", "open_files")),
    ("requests_under_way", "Kernel requests under way", ("fuse", "busy")),
)
_COUNTERS = (
    ("store_bytes", "Bytes received from the store", ("store", "bytes")),
    ("cache_hits", "Look-ups the block cache answered", ("cache", "hits")),
    ("cache_misses", "Look-ups that had to load", ("cache", "misses")),
    ("cache_prefetched", "Blocks loaded ahead of a reader", ("cache", "prefetched")),
    ("cache_evictions", "Blocks driven out", ("cache", "evictions")),
    ("block_errors", "Loads of blocks that failed", ("cache", "errors")),
    ("disk_cache_hits", "Chunks the disk tier had", ("disk_cache", "hits")),
    ("disk_cache_misses", "Chunks it had not", ("disk_cache", "misses")),
    ("disk_cache_corrupt", "Entries whose checksum was wrong", ("disk_cache", "corrupt")),
    ("disk_cache_failures", "Reads and writes of the folder that failed",
     ("disk_cache", "failures")),
    ("read_bytes", "Bytes handed to the kernel", ("fuse", "bytes")),
    ("refreshes", "How often everything was forgotten", ("refreshed",)),
)  # fmt: skip
# Counters with a label: its name, and the mapping of its values.
_LABELLED = (
    ("store_requests", "Requests to the store", "kind", ("store", "requests")),
    ("store_errors", "Requests that failed", "error", ("store", "errors")),
    ("kernel_requests", "Requests of the kernel", "operation", ("fuse", "requests")),
)


def text(status: Callable[[], Status]) -> bytes:
    """The exposition of `status()` and of this process, in Prometheus' text format."""
    return generate_latest(_registry(status))


def serve(port: int, status: Callable[[], Status]) -> Callable[[], None]:
    """Answer Prometheus at http://127.0.0.1:`port`/metrics; the result stops it.

    Raises OSError if the port cannot be had.
    """
    server, thread = start_http_server(port, "127.0.0.1", _registry(status))

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


def _registry(status: Callable[[], Status]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Collector(status))
    ProcessCollector(registry=registry)
    return registry


class _Collector:
    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        about = {"version": status["version"], "source": printable(status["source"])}
        yield InfoMetricFamily("znfs_mount", "What is mounted", about)
        for name, meaning, path in _GAUGES:
            if (value := _at(status, path)) is not None:
                yield GaugeMetricFamily(f"znfs_{name}", meaning, float(value))
        for name, meaning, path in _COUNTERS:
            if (value := _at(status, path)) is not None:
                yield CounterMetricFamily(f"znfs_{name}", meaning, float(value))
        for name, meaning, label, path in _LABELLED:
            family = CounterMetricFamily(f"znfs_{name}", meaning, labels=[label])
            for key, count in (_at(status, path) or {}).items():
                family.add_metric([key], count)
            yield family
        yield _latency(status["store"])


def _latency(store: Status) -> Metric:
    bounds = [*map(str, store["latency"]["le"][:-1]), "+Inf"]
    counts = list(accumulate(store["latency"]["count"]))
    return HistogramMetricFamily(
        "znfs_store_request_seconds", "How long requests to the store took",
        buckets=list(zip(bounds, counts, strict=True)), sum_value=store["seconds"],
    )  # fmt: skip


def _at(status: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if status is None:
            return None
        status = status.get(key)
    return status
