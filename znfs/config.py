"""Options from where they are given: a flag wins over the environment over the file.

Everything derives from the fields of `Options`: flags, `-o` names, `ZNFS_<OPTION>` variables and
keys of the configuration file. Secrets come from the environment or the file.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, fields
from datetime import date, time
from pathlib import Path
from typing import Any

from znfs.errors import UsageError
from znfs.options import Options, parse_views
from znfs.stores import urls

FIELDS: dict[str, Field[Any]] = {f.name: f for f in fields(Options)}
GROUPS = {
    "source": "the source", "cache": "cache", "views": "what is shown", "mount": "the mount",
}  # fmt: skip
_ALIASES = {"anon": ("--no-sign-request",), "foreground": ("-f",)}  # as in mount-s3
_SIDES = {"1": True, "true": True, "yes": True, "on": True,
          "0": False, "false": False, "no": False, "off": False, "": False}  # fmt: skip


def add_flags(parser: argparse.ArgumentParser, groups: Iterable[str]) -> None:
    """Give `parser` the flags of those groups, and --config."""
    for group in groups:
        section = parser.add_argument_group(GROUPS[group])
        for field in FIELDS.values():
            about = field.metadata
            if about["group"] != group:
                continue
            more: dict[str, Any] = {"help": about["help"], "default": argparse.SUPPRESS}
            if _is_switch(field):
                more["action"] = "store_true"
            else:
                more["metavar"] = about.get("metavar")
                if about.get("repeat"):
                    more["action"] = "append"
                if about.get("choices"):
                    more["metavar"] = "{" + ",".join(about["choices"]) + "}"
                if isinstance(field.default, int | float | str) and field.default is not None:
                    more["help"] += f" ({_spelt(field)})"
            flags = flag(field.name), *_ALIASES.get(field.name, ())
            section.add_argument(*flags, dest=field.name, **more)
        if group == "source":
            section.add_argument(
                "--config", metavar="FILE", default=argparse.SUPPRESS,
                help="configuration file ($XDG_CONFIG_HOME/znfs/config.toml); secrets go here",
            )  # fmt: skip


def split_items(texts: Iterable[str]) -> dict[str, Any]:
    r"""The items of `-o a=b,c`: True for those without a value, a mapping of what may be repeated.

    A comma in a value is written `\,`. Raises UsageError.
    """
    items: dict[str, Any] = {}
    for text in texts:
        for item in re.split(r"(?<!\\),", text):
            name, equals, value = item.replace("\\,", ",").partition("=")
            name = name.strip()
            field = FIELDS.get(name.replace("-", "_"))
            if field is not None and field.metadata.get("repeat"):
                found = pairs(value if equals else True, f"-o {name}")
                items[field.name] = items.get(field.name, {}) | found
            elif name:
                name = field.name if field is not None else name  # one option, however it is spelt
                items.pop(name, None)  # what is given last stands last
                items[name] = value if equals else True
    return items


def load(
    source: str,
    given: Mapping[str, Any],
    environ: Mapping[str, str] | None = None,
) -> Options:
    """The Options for `source`. `given` (flags, `-o`) wins over the environment over the file.

    Raises UsageError, which names the option and where it was given.
    """
    environ = os.environ if environ is None else environ
    given = dict(given)
    named = given.pop("config", None) or environ.get("ZNFS_CONFIG")
    values: dict[str, Any] = {}
    variables = {n: environ[variable(n)] for n in FIELDS if variable(n) in environ}
    for spell, layer in (
        *_file_layers(source, named, environ),
        (variable, variables),
        (flag, given),
    ):
        for name, raw in layer.items():
            field = FIELDS.get(name.replace("-", "_"))
            if field is None:
                raise UsageError(f"{spell(name)}: no such option")
            if raw is None:  # a keyword argument that says: what else is told
                continue
            value = _parsed(field, raw, spell(name))
            if field.metadata.get("repeat"):
                value = {**values.get(field.name, {}), **value}
            values[field.name] = value
    return Options(**values)


def _file_layers(
    source: str, named: str | None, environ: Mapping[str, str]
) -> list[tuple[Callable[[str], str], Mapping[str, Any]]]:
    """What the configuration file says: [defaults], then the section of the longest prefix.

    With each table comes how to name one of its keys in a message.
    """
    path, data = read(named, environ)
    if unknown := [key for key in data if key not in ("defaults", "source")]:
        raise UsageError(f"{path}: no section [{unknown[0]}]; there are [defaults] and [source.…]")
    tables = {"[defaults]": data.get("defaults", {})}
    sections = data.get("source", {})
    if not isinstance(sections, dict):
        raise UsageError(f"{path}: source is not a table; a section is [source.\"PREFIX\"]")
    if wrong := [key for key, table in sections.items() if not isinstance(table, dict)]:
        raise UsageError(
            f"{path}: [source] {wrong[0]} is not a table; a section is [source.\"PREFIX\"]"
        )
    links = [link for part in source.split("|") for link in urls.split_chain(part)]
    parts = [source, *links, *_local(source)]
    if matching := [p for p in sections if any(_is_below(part, p) for part in parts)]:
        longest = max(matching, key=len)
        tables[f'[source."{longest}"]'] = sections[longest]
    layers: list[tuple[Callable[[str], str], Mapping[str, Any]]] = []
    for title, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {title} is not a table")
        layers.append((f"{path}: {title} {{}}".format, table))
    return layers


def _local(source: str) -> list[str]:
    """The file that is read, if it is one of this machine."""
    try:
        path = urls.parse(source).file
    except UsageError:  # none is named, or by an option; what cannot be parsed is told later
        return []
    return [] if path is None else [path]


def _is_below(source: str, prefix: str) -> bool:
    """Whether a section of that prefix is about `source`. The name of a host or bucket is not cut:
    what is told to `https://a.org` is not for `https://a.org.example.net`."""
    head, separator, rest = prefix.rpartition("://")
    names = 2 if head.lower().endswith(("s3+http", "s3+https")) else 1  # with the bucket's
    whole = not separator or not rest or rest.count("/") >= names
    return source.startswith(prefix) and (whole or source[len(prefix) :][:1] in ("", "/", "?"))


def read(named: str | None, environ: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """The configuration file and where it is: the one named, else the first there is, else none.

    Raises UsageError.
    """
    if named:
        paths = [Path(named)]
    else:
        home = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config"
        shared = environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
        paths = [Path(d) / "znfs/config.toml" for d in (home, *shared.split(":"))]
    for path in paths:
        try:
            return str(path), tomllib.loads(path.read_text())
        except (FileNotFoundError, NotADirectoryError):  # HOME=/dev/null of a service
            if named:
                raise UsageError(f"--config {named}: no such file") from None
        except OSError as exc:
            raise UsageError(f"{path}: {exc.strerror}") from exc
        except ValueError as exc:  # of TOML, or of UTF-8
            raise UsageError(f"{path}: {exc}") from exc
    return "", {}


def _parsed(field: Field[Any], raw: Any, where: str) -> Any:
    """The value of an option from text (or what TOML made of it). Raises UsageError."""
    about = field.metadata
    if about.get("repeat"):
        return pairs(raw, where)
    if isinstance(raw, list | tuple) and about.get("parse") is not parse_views:
        raise UsageError(f"{where}: takes one value, not a list")
    if isinstance(raw, Mapping):
        raise UsageError(f"{where}: takes a value, not a table")
    if _is_switch(field):
        if isinstance(raw, bool):
            return raw
        side = _SIDES.get(str(raw).lower())
        if side is None:
            raise UsageError(f"{where}: {raw!r} is neither true nor false")
        return side
    if isinstance(raw, bool):
        raise UsageError(f"{where} needs a value, not {str(raw).lower()}")
    if isinstance(raw, date | time):
        raise UsageError(f"{where}: {raw} is a date; text is written in quotes")
    if (choices := about.get("choices")) and raw not in choices:
        raise UsageError(f"{where}: {raw!r} is none of {', '.join(choices)}")
    text = as_text(field.name, raw)
    try:
        return about.get("parse", str)(text)
    except UsageError as exc:
        raise UsageError(f"{where}: {exc}") from exc


def as_text(name: str, value: Any) -> str:
    """An option's value as text that its parser reads, of whatever type it was given."""
    if isinstance(value, Mapping):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    spell = FIELDS[name].metadata.get("spell") if name in FIELDS else None
    return str(spell(value) if spell and type(value) is int else value)


def pairs(raw: Any, where: str) -> dict[str, str]:
    """KEY=VALUE of flags (many), of `-o` or a variable (a line each, or JSON), or a table."""
    if isinstance(raw, Mapping):
        return {
            str(k): v if isinstance(v, str) else json.dumps(v, default=str) for k, v in raw.items()
        }
    if isinstance(raw, str):
        if raw.lstrip().startswith("{"):
            try:
                return pairs(json.loads(raw), where)
            except ValueError as exc:
                raise UsageError(f"{where}: not JSON: {exc}") from exc
        raw = raw.splitlines()
    if not isinstance(raw, list):
        raise UsageError(f"{where}: takes a table of options, or KEY=VALUE")
    found = {}
    for item in raw:
        key, equals, value = str(item).partition("=")
        if not equals or not key:  # the words themselves may be a secret
            raise UsageError(f"{where}: what is given is not KEY=VALUE")
        found[key] = value
    return found


def _is_switch(field: Field[Any]) -> bool:
    return isinstance(field.default, bool)


def variable(name: str) -> str:
    """The environment's name of an option."""
    return "ZNFS_" + name.upper()


def flag(name: str) -> str:
    """The command line's name of an option."""
    return "--" + name.replace("_", "-")


def _spelt(field: Field[Any]) -> str:
    """A default as people write it."""
    value: Any = field.default
    if not isinstance(value, str):
        return str(field.metadata.get("spell", "{:g}".format)(value))
    return value
