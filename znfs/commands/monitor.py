"""`znfs status`: the mounts of this machine and what their daemons say."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from znfs.daemon import mounts
from znfs.tables import console, duration_text, make_table, print_table, size_text

if TYPE_CHECKING:
    from rich.console import RenderableType

COLUMNS = ("Mount point", "Source", "Up", "Requests", "Cache", "Hits", "Errors", "State")
RIGHT = ("Requests", "Hits", "Errors")
PERCENTILES = (0.5, 0.9, 0.99)
_SHOWN_ERRORS = 5

Found = Sequence[tuple[mounts.Mount, dict[str, Any]]]


def show(mountpoint: str | None, *, as_json: bool) -> None:
    """Print the status of the mount at `mountpoint`, or of every mount. Raises MountError."""
    found = _find(mountpoint)
    if as_json:
        states = [{"mountpoint": m.mountpoint, "source": m.source} | derived(s) for m, s in found]
        json.dump(states if mountpoint is None else states[0], sys.stdout, indent=2)
        sys.stdout.write("\n")
    elif mountpoint is not None:
        (_, status), = found
        print_table(("", ""), details(mountpoint, status))
    elif found:
        print_table(COLUMNS, [row(m, s) for m, s in found], right=RIGHT)
    else:
        print("no znfs mount on this machine")


def derived(status: dict[str, Any]) -> dict[str, Any]:
    """`status`, with what follows from its counters: hit rates (0 to 1) and percentiles of the
    latency (upper bounds in seconds); null where nothing was counted, or past the last bound."""
    full = dict(status)
    for part in ("cache", "disk_cache"):
        if counters := full.get(part):
            full[part] = counters | {"hit_rate": _share(counters)}
    if latency := full.get("store", {}).get("latency"):
        found = {f"{part:g}": percentile(latency, part) for part in PERCENTILES}
        counted = sum(latency["count"])
        percentiles = {
            part: bound if counted and bound != float("inf") else None
            for part, bound in found.items()
        }
        full["store"] = full["store"] | {"latency": latency | {"percentiles": percentiles}}
    return full


def watch(mountpoint: str | None, interval: float = 1.0) -> None:
    """Show it again and again until interrupted: in place on a terminal, else one below the other.
    Raises MountError."""
    from rich.live import Live

    before = _find(mountpoint)
    first, out = _picture(mountpoint, before, before), console()
    draw: Callable[[RenderableType], None]
    with ExitStack() as stack:
        if out.is_terminal:
            live = stack.enter_context(Live(first, console=out, auto_refresh=False))
            draw = partial(live.update, refresh=True)
        else:  # where rich shows the last picture alone
            draw = out.print
            draw(first)
        while True:
            sys.stdout.flush()
            time.sleep(interval)
            found = _find(mountpoint)
            draw(_picture(mountpoint, found, before))
            before = found


def _picture(mountpoint: str | None, found: Found, before: Found) -> RenderableType:
    if mountpoint is None:
        return make_table(COLUMNS, [row(m, s) for m, s in found], right=RIGHT)
    (_, status), = found
    (_, earlier), = before
    return make_table(("", ""), [*details(mountpoint, status), *rates(status, earlier)])


def _find(mountpoint: str | None) -> Found:
    if mountpoint is not None:
        mount = mounts.find(mountpoint)
        return [(mount, mounts.status(mount.mountpoint))]
    return mounts.statuses()


def row(mount: mounts.Mount, status: dict[str, Any]) -> tuple[str, ...]:
    """The mount's line in the table; one cell for each of COLUMNS."""
    if "error" in status:
        return (mount.mountpoint, mount.source, "", "", "", "", "", status["error"])
    cache, store = status.get("cache", {}), status.get("store", {})
    return (
        mount.mountpoint,
        mount.source,
        duration_text(status.get("uptime", 0)),
        str(sum(store.get("requests", {}).values())),
        _filled(cache),
        _rate(cache),
        str(cache.get("errors", "")),
        "up" if store.get("answering", True) else "store does not answer",
    )


def details(mountpoint: str, status: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What one daemon says of itself, a line each: what, and how much."""
    cache, store = status.get("cache", {}), status.get("store", {})
    fuse, process = status.get("fuse", {}), status.get("process", {})
    rows = [
        ("Mount point", mountpoint),
        ("Source", str(status.get("source", ""))),
        ("Up", duration_text(status.get("uptime", 0))),
        ("Store", "answers" if store.get("answering", True) else "does not answer"),
        ("Requests", _counts(store.get("requests", {}))),
        ("Received", f"{size_text(store.get('bytes', 0))} in {store.get('seconds', 0):.3g} s"),
        ("Latency", _latency_text(store.get("latency"))),
        ("Failed requests", _counts(store.get("errors", {})) or "none"),
        ("Kernel requests", _counts(fuse.get("requests", {}))),
        ("Read", f"{size_text(fuse.get('bytes', 0))}, {fuse.get('open_files', 0)} files open"),
        ("Cache", f"{_filled(cache)}, {cache.get('evictions', 0)} evicted, "
                  f"{cache.get('prefetched', 0)} ahead"),
        ("Cache hits", _rate(cache)),
    ]  # fmt: skip
    if disk := status.get("disk_cache"):
        rows += [
            ("Disk cache", f"{_filled(disk)} in {disk['folder']}"),
            ("Disk cache hits", _rate(disk)),
            ("Disk cache state", disk["state"]),
            ("Disk cache damage", f"{disk['corrupt']} entries, {disk['failures']} failures"),
        ]  # fmt: skip
    if process:
        rows.append((
            "Process",
            f"{status.get('pid')}: {size_text(process['resident_bytes'])}, "
            f"{process['threads']} threads, {process['descriptors']} descriptors",
        ))  # fmt: skip
    versions = {"znfs": status.get("version", "")} | dict(status.get("versions", {}))
    rows.append(("Versions", ", ".join(f"{k} {v}" for k, v in versions.items())))
    rows.append(("Block errors", str(cache.get("errors", 0))))
    rows += [("", text) for text in _last_errors(cache, store, disk or {})]
    return [(what, text) for what, text in rows if text]


def rates(status: Mapping[str, Any], before: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What passed between two looks, a second."""
    seconds = max(1e-3, status.get("uptime", 0) - before.get("uptime", 0))
    read, received = (
        (status.get(part, {}).get("bytes", 0) - before.get(part, {}).get("bytes", 0)) / seconds
        for part in ("fuse", "store")
    )
    asked, earlier = (
        sum(s.get("store", {}).get("requests", {}).values()) for s in (status, before)
    )
    return [
        ("Now", f"{size_text(read)}/s read, {size_text(received)}/s received, "
                f"{(asked - earlier) / seconds:.0f} requests/s"),
    ]  # fmt: skip


def percentile(latency: Mapping[str, Sequence[Any]], part: float) -> float:
    """The upper bound (seconds) below which `part` of the requests were; inf past the last."""
    counts = latency["count"]
    wanted = part * sum(counts)
    for bound, count in zip(latency["le"], counts, strict=True):
        wanted -= count
        if wanted <= 0:
            return float(bound)
    return float("inf")


def _latency_text(latency: Mapping[str, Sequence[Any]] | None) -> str:
    if not latency or not sum(latency["count"]):
        return ""
    return ", ".join(
        f"{part:.0%} {_bound_text(percentile(latency, part), latency['le'][-2])}"
        for part in PERCENTILES
    )


def _bound_text(bound: float, last: float) -> str:
    return f"> {last:g} s" if bound == float("inf") else f"≤ {bound:g} s"


def _filled(cache: Mapping[str, Any]) -> str:
    return f"{size_text(cache.get('bytes', 0))} of {size_text(cache.get('limit', 0))}"


def _share(cache: Mapping[str, Any]) -> float | None:
    asked: int = cache.get("hits", 0) + cache.get("misses", 0)
    return cache.get("hits", 0) / asked if asked else None


def _rate(cache: Mapping[str, Any]) -> str:
    share = _share(cache)
    return "" if share is None else f"{share:.0%}".replace("%", " %")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _last_errors(*parts: Mapping[str, Any]) -> Iterable[str]:
    """The last errors of the cache and the store, once each, the newest last."""
    found: dict[str, float] = {}
    for part in parts:
        for last in part.get("last_errors", ()):
            found[last["error"]] = max(last["time"], found.get(last["error"], 0.0))
    newest = sorted(found.items(), key=lambda item: item[1])[-_SHOWN_ERRORS:]
    for error, when in newest:
        yield f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(when))}  {error}"
