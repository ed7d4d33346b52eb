"""The commands `znfs` and `mount.znfs`.

Exit status: 0 done, 1 failed, 2 wrong usage; `mount.znfs` has mount(8)'s 1, 2 and 32. An error is
one line on standard error. Nothing is imported before it is needed: `znfs --help` is quick.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from znfs import __version__
from znfs.errors import UsageError, ZnfsError

if TYPE_CHECKING:
    from znfs.options import Options
    from znfs.tree import Tree

_READING = ("source", "cache", "views")
_PIPE_CLOSED = 141  # as a shell reports SIGPIPE
_ARGUMENT = "\0"  # before a word that is no option, whatever it begins with; none has a NUL itself

# mount(8): what fstab may say that is no concern of a file system's.
_IGNORED = frozenset({
    "async", "atime", "auto", "comment", "defaults", "dev", "diratime", "dirsync", "group",
    "iversion", "lazytime", "loud", "mand", "noatime", "noauto", "nodiratime", "nofail", "nogroup",
    "noiversion", "nolazytime", "nomand", "noowner", "norelatime", "nostrictatime", "nouser",
    "nousers", "owner", "relatime", "rw", "silent", "strictatime", "suid", "sync", "user", "users",
    "_netdev",
})  # fmt: skip
_ALWAYS = frozenset({"ro", "nosuid", "nodev"})  # so every mount is
# What the kernel is told; the last holds.
_KERNEL: dict[str, tuple[str, ...]] = {"noexec": ("noexec",), "exec": ()}
_MOUNT_USAGE, _MOUNT_SYSTEM, _MOUNT_FAILED = 1, 2, 32


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    usage_status = 2

    def error(self, message: str) -> NoReturn:
        from znfs.redaction import redact

        said = redact(message.replace(_ARGUMENT, ""))
        self.exit(self.usage_status, f"{self.prog}: {said} (see '{self.prog} --help')\n")


class _MountParser(Parser):
    usage_status = _MOUNT_USAGE


@dataclass(frozen=True)
class Command:
    """A command: what it is for, its arguments, and what it does."""

    help: str
    add_arguments: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], None]


def main(argv: Sequence[str] | None = None) -> int:
    """`znfs`: returns its exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words or words[0] not in COMMANDS:
        _overview().parse_args(words)  # help, the version, or what is wrong
    name, command = words[0], COMMANDS[words[0]]
    parser = command_parser(name)
    args = _intermixed(parser, words[1:])
    return _run(parser.prog, lambda: command.run(args), usage=2, failed=1, system=1)


def _intermixed(parser: Parser, words: list[str]) -> argparse.Namespace:
    """Options and arguments in any order: `ls SOURCE --anon PATH` is right, too. What follows `--`
    is no option, which argparse forgets where it takes them in any order."""
    if "--" in words:
        at = words.index("--")
        words = [*words[:at], *(_ARGUMENT + word for word in words[at + 1 :])]
    args = parser.parse_intermixed_args(words)
    for name, value in vars(args).items():
        if isinstance(value, str):
            setattr(args, name, value.removeprefix(_ARGUMENT))
    return args


def command_parser(name: str) -> Parser:
    """The arguments of one command."""
    command = COMMANDS[name]
    parser = Parser(prog=f"znfs {name}", description=_sentence(command.help))
    command.add_arguments(parser)
    return parser


def _overview() -> Parser:
    parser, _ = _bare()
    return parser


def full_parser() -> Parser:
    """Every command with its arguments, for the manual page and the shells' completion."""
    parser, commands = _bare()
    for name, command in COMMANDS.items():
        command.add_arguments(commands[name])
    return parser


def _bare() -> tuple[Parser, dict[str, Parser]]:
    parser = Parser(
        prog="znfs", description="Mount Zarr and N5 stores as files.",
        epilog="See 'znfs COMMAND --help' for the options of a command.",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"znfs {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    return parser, {
        name: commands.add_parser(name, help=command.help, description=_sentence(command.help))
        for name, command in COMMANDS.items()
    }


def mount_main(argv: Sequence[str] | None = None) -> int:
    """`mount.znfs`, as mount(8) calls it: returns its exit status."""
    parser = _MountParser(prog="mount.znfs", description="Mount a Zarr or N5 store (for mount(8)).")
    parser.add_argument("source")
    parser.add_argument("mountpoint")
    parser.add_argument("-o", action="append", default=[], metavar="OPTIONS", dest="items")
    parser.add_argument("-f", "--fake", action="store_true", help="do all but mount")
    parser.add_argument("-s", "--sloppy", action="store_true", help="ignore unknown options")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("-n", "--no-mtab", action="store_true")
    parser.add_argument("-N", "--namespace", metavar="NS")
    parser.add_argument("-t", "--types", metavar="TYPE")
    args = parser.parse_args(argv)
    return _run(
        "mount.znfs", lambda: _fstab_mount(args),
        usage=_MOUNT_USAGE, failed=_MOUNT_FAILED, system=_MOUNT_SYSTEM,
    )  # fmt: skip


def _run(
    name: str, action: Callable[[], None], *, usage: int, failed: int, system: int
) -> int:
    """Do it; say in one line what went wrong, if anything did. `usage`, `failed` and `system` are
    the statuses of an error by the user's words, ours, or the operating system's."""
    try:
        action()
        sys.stdout.flush()
    except UsageError as exc:
        return _fail(name, str(exc), usage)
    except ZnfsError as exc:
        return _fail(name, str(exc), failed)
    except BrokenPipeError:  # whoever read our output has seen enough
        _drop_output()
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        return 130
    except OSError as exc:
        why = str(exc) if exc.filename else f"{_nameless()}: {exc.strerror}"
        return _fail(name, why, system)
    except Exception as exc:
        if os.environ.get("ZNFS_LOG_LEVEL") == "debug":
            raise
        why = f"{type(exc).__name__}: {exc}".replace("\n", " ")
        return _fail(name, f"internal error, please report it: {why}", failed)
    return 0


def _fail(name: str, text: str, status: int) -> int:
    try:
        sys.stdout.flush()
    except OSError:  # a full disk, or a closed stream: maybe what it failed of
        _drop_output()
    from znfs.redaction import redact
    from znfs.tables import printable

    print(f"{name}: {printable(redact(' '.join(text.split())))}", file=sys.stderr)
    return status


def _nameless() -> str:
    """What an error of the system's that names no file is about."""
    try:
        os.getcwd()
    except OSError:  # relative paths mean nothing any more
        return "the current directory"
    return "cannot write"


def _drop_output() -> None:
    """What is still to be written to standard output cannot be."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


# Options


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of options: flags, and the items of `-o` below them."""
    from znfs.config import FIELDS, flag, pairs, split_items

    given: dict[str, Any] = dict(split_items(getattr(args, "items", [])))
    for name in (*FIELDS, "config"):
        if name in vars(args):
            value = getattr(args, name)
            if isinstance(value, list):  # one that may be repeated adds up
                value = given.get(name, {}) | pairs(value, flag(name))
            given[name] = value
    return given


def _options(source: str, given: dict[str, Any]) -> Options:
    """The options for `source`; secrets on the command line are refused. Raises MountError, too,
    where it is on a mount that is dead, or hangs."""
    from znfs.config import load, pairs
    from znfs.daemon import mounts
    from znfs.stores import local_path, refuse_secrets

    named = {n.replace("-", "_"): v for n, v in given.items()}
    extra = pairs(named.get("storage_option") or {}, "--storage-option")
    refuse_secrets(source, extra, named.get("endpoint_url"))
    options = load(source, named)
    if (path := local_path(source, options)) is not None:
        mounts.check_source(path)
    return options


@contextmanager
def _tree(args: argparse.Namespace) -> Iterator[Tree]:
    from znfs.daemon import logs
    from znfs.tree import open_tree

    options = _options(args.source, _given(args))
    logs.to_stderr(options.log_level)
    tree = open_tree(args.source, options)
    try:
        yield tree
    finally:
        tree.close()  # its copies, if fsspec made any, are not left behind


def _reading(parser: Parser) -> None:
    from znfs.config import add_flags

    parser.add_argument("source", metavar="SOURCE", help="path or URL of a store")
    add_flags(parser, _READING)


# Commands


def _mount_arguments(parser: Parser) -> None:
    from znfs.config import add_flags

    parser.add_argument("source", metavar="SOURCE", help="path or URL of a store")
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="an existing directory")
    parser.add_argument(
        "-o", action="append", default=[], metavar="NAME=VALUE,…", dest="items",
        help="options by name, as in fstab",
    )  # fmt: skip
    add_flags(parser, (*_READING, "mount"))
    parser.add_argument("--stop-on-eof", action="store_true", help=argparse.SUPPRESS)


def _mount(args: argparse.Namespace) -> None:
    given, flags = _kernel_flags(_given(args))
    _mount_with(args.source, args.mountpoint, given, flags, stop_on_eof=args.stop_on_eof)


def _mount_with(
    source: str, mountpoint: str, given: dict[str, Any], flags: tuple[str, ...], *,
    stop_on_eof: bool = False,
) -> None:  # fmt: skip
    options = _options(source, given)
    from znfs.daemon import lifecycle

    lifecycle.mount(lifecycle.MountRequest(source, mountpoint, options, flags, stop_on_eof))
    if options.foreground:
        lifecycle.leave(0)


def _kernel_flags(given: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Znfs's own options, and those of mount(8) that the kernel is told. Raises UsageError."""
    own: dict[str, Any] = {}
    flags: tuple[str, ...] = ()
    for name, value in given.items():
        if name == "remount":
            raise UsageError("remount: a mount's options are fixed; unmount it and mount it anew")
        if name in _KERNEL:
            flags = _KERNEL[name]
        elif not (name in _IGNORED or name in _ALWAYS or name.startswith(("x-", "X-"))):
            own[name] = value
    return own, flags


def _fstab_mount(args: argparse.Namespace) -> None:
    from znfs.config import FIELDS

    given, flags = _kernel_flags(_given(args))
    if args.sloppy:
        given = {n: v for n, v in given.items() if n.replace("-", "_") in (*FIELDS, "config")}
    if args.fake:
        _options(args.source, given)
        return
    _mount_with(args.source, args.mountpoint, given, flags)


def _umount(args: argparse.Namespace) -> None:
    from znfs.daemon.mounts import unmount

    unmount(args.mountpoint, lazy=args.lazy)


def _umount_arguments(parser: Parser) -> None:
    _mountpoint(parser)
    parser.add_argument("-l", "--lazy", action="store_true", help="even if files are open")


def _status(args: argparse.Namespace) -> None:
    from znfs.commands import monitor

    if args.watch:
        monitor.watch(args.mountpoint)
    monitor.show(args.mountpoint, as_json=args.json)


def _status_arguments(parser: Parser) -> None:
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", nargs="?")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("-w", "--watch", action="store_true", help="again every second")
    _json(form)


def _info(args: argparse.Namespace) -> None:
    with _tree(args) as tree:
        from znfs.commands import info

        info.show(tree, as_json=args.json)


def _info_arguments(parser: Parser) -> None:
    _reading(parser)
    _json(parser)


def _ls(args: argparse.Namespace) -> None:
    from znfs.commands.browse import list_directory

    with _tree(args) as tree:
        list_directory(tree, args.path, long=args.long)


def _ls_arguments(parser: Parser) -> None:
    _reading(parser)
    parser.add_argument("path", metavar="PATH", nargs="?", default="")
    parser.add_argument("-l", "--long", action="store_true", help="with sizes and times")


def _cat(args: argparse.Namespace) -> None:
    from znfs.commands.browse import copy_file

    with _tree(args) as tree:
        copy_file(tree, args.path)


def _cat_arguments(parser: Parser) -> None:
    _reading(parser)
    parser.add_argument("path", metavar="PATH")


def _refresh(args: argparse.Namespace) -> None:
    from znfs.daemon.mounts import refresh

    refresh(args.mountpoint)


def _mountpoint(parser: Parser) -> None:
    parser.add_argument("mountpoint", metavar="MOUNTPOINT")


def _doctor(args: argparse.Namespace) -> None:
    from znfs.commands import doctor

    options = _options(args.source, _given(args)) if args.source else None
    doctor.show(args.source, options)


def _doctor_arguments(parser: Parser) -> None:
    from znfs.config import add_flags

    parser.add_argument("source", metavar="SOURCE", nargs="?", help="path or URL of a store")
    add_flags(parser, _READING)


def _json(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")


COMMANDS = {
    "mount": Command("mount a store; returns when the mount answers", _mount_arguments, _mount),
    "umount": Command("unmount; also clears a dead mount", _umount_arguments, _umount),
    "status": Command("show the mounts of this machine", _status_arguments, _status),
    "info": Command("show what a store holds, and how it will appear", _info_arguments, _info),
    "ls": Command("list a directory of the tree, without a mount", _ls_arguments, _ls),
    "cat": Command("write a file of the tree to standard output", _cat_arguments, _cat),
    "refresh": Command("have a mount forget what it has cached", _mountpoint, _refresh),
    "doctor": Command("find what would stop a mount, and the mend", _doctor_arguments, _doctor),
}
