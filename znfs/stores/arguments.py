"""Storage options, which are text, as the arguments of Python libraries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from znfs.redaction import is_secret


def typed(options: Mapping[str, str] | None) -> dict[str, Any]:
    """Each value as JSON says (`false`, `22`, `{"a": 1}`), as text where it says nothing.

    A secret is text, whatever it looks like.
    """
    found: dict[str, Any] = {}
    for key, text in (options or {}).items():
        found[key] = text
        if isinstance(text, str) and not is_secret(key):
            try:
                found[key] = json.loads(text)
            except ValueError:
                continue
    return found


def is_true(value: object) -> bool:
    return str(value).lower() in ("1", "true", "yes", "on")
