"""`znfs status`: the mounts of this machine and what their daemons say."""

from __future__ import annotations

import json
import sys
from typing import Any

from znfs import mounts
from znfs.errors import MountError
from znfs.tables import duration_text, print_table, size_text

COLUMNS = ("Mount point", "Source", "Up", "Cache", "Hits", "Errors", "State")


def show(mountpoint: str | None, *, as_json: bool) -> None:
    """Print the status of the mount at `mountpoint`, or of every mount. Raises MountError."""
    if mountpoint is not None:
        mount = mounts.find(mountpoint)
        found = [(mount, mounts.status(mount.mountpoint))]
    else:
        found = [(mount, _status(mount)) for mount in mounts.mounts()]
    if as_json:
        states = [{"mountpoint": m.mountpoint, "source": m.source} | s for m, s in found]
        json.dump(states if mountpoint is None else states[0], sys.stdout, indent=2)
        sys.stdout.write("\n")
    elif found:
        print_table(COLUMNS, [row(m, s) for m, s in found], right=("Hits", "Errors"))
    else:
        print("no znfs mount on this machine")


def _status(mount: mounts.Mount) -> dict[str, Any]:
    try:
        return mounts.status(mount.mountpoint)
    except MountError as exc:
        return {"error": str(exc)}


def row(mount: mounts.Mount, status: dict[str, Any]) -> tuple[str, ...]:
    """The mount's line in the table; one cell for each of COLUMNS."""
    if "error" in status:
        return (mount.mountpoint, mount.source, "", "", "", "", status["error"])
    cache = status.get("cache", {})
    asked = cache.get("hits", 0) + cache.get("misses", 0)
    return (
        mount.mountpoint,
        mount.source,
        duration_text(status.get("uptime", 0)),
        f"{size_text(cache.get('bytes', 0))} of {size_text(cache.get('limit', 0))}",
        f"{100 * cache.get('hits', 0) / asked:.0f} %" if asked else "",
        str(cache.get("errors", "")),
        "up",
    )
