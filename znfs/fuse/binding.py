"""The FUSE bindings: mfusepy over libfuse3, and fusepy over libfuse2."""

from __future__ import annotations

import ctypes
import importlib
import os
from dataclasses import dataclass
from typing import Any

from znfs.errors import MountError


class NoBinding(MountError):
    """A FUSE binding or its library is missing; `mend` is what installs it."""

    def __init__(self, why: str, mend: str) -> None:
        super().__init__(f"{why}; {mend}")
        self.why, self.mend = why, mend


@dataclass(frozen=True)
class Binding:
    """A FUSE binding's structures, and the library they describe."""

    name: str
    module: Any
    lib: ctypes.CDLL
    major: int

    def __str__(self) -> str:
        return f"{self.name} on libfuse {self.lib.fuse_version()}"


_BINDINGS = {  # name: module, libfuse's major version, Debian package of the library
    "mfusepy": ("mfusepy", 3, "fuse3"),
    "fusepy": ("fuse", 2, "libfuse2"),
}


def load_binding(name: str | None = None) -> Binding:
    """The FUSE binding `name`, by default $ZNFS_FUSE_BINDING or mfusepy. Raises NoBinding where
    something is not installed, MountError for another name.

    mfusepy takes libfuse2 where both are installed, unless it is told otherwise before it is
    imported; which library was loaded is checked.
    """
    name = name or os.environ.get("ZNFS_FUSE_BINDING") or "mfusepy"
    if name not in _BINDINGS:
        raise MountError(f"ZNFS_FUSE_BINDING: no binding {name!r}; {', '.join(_BINDINGS)}")
    module_name, major, package = _BINDINGS[name]
    if name == "mfusepy":
        os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        raise NoBinding(f"{name} is not installed", f"pip install {name}") from exc
    except (ImportError, OSError) as exc:
        raise NoBinding(f"{name} cannot be loaded ({exc})", f"apt install {package}") from exc
    lib = ctypes.CDLL(module._libfuse._name)
    loaded = lib.fuse_version() // (100 if lib.fuse_version() >= 100 else 10)
    if loaded != major:
        raise NoBinding(f"{name} loaded libfuse {loaded}, not {major}", f"apt install {package}")
    return Binding(name, module, lib, major)
