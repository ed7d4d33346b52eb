"""numcodecs' modules, each imported when something is first decoded with it.

The package imports all of itself, which is a tenth of the time that a mount takes to be ready.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any


@cache
def numcodecs(name: str) -> Any:
    """The module of that name."""
    # The package first: threads that each import another module of it lock one another out, and
    # Python then gives one of them a module that is not complete.
    import_module("numcodecs")
    module: Any = import_module(f"numcodecs.{name}")
    if name == "blosc":
        # Chunks are decoded side by side already; Blosc's own threads would only compete.
        module.use_threads = False
    return module
