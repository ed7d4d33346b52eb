"""libfuse's callbacks over a tree."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import count
from typing import Any, Protocol

from znfs.errors import ChunkError, Denied, NotFound, Stale, StoreError, ZnfsError
from znfs.fuse.binding import Binding
from znfs.fuse.handles import OpenDir, OpenFile, Versions
from znfs.fuse.readahead import ReadAhead, is_own
from znfs.lastsaid import LastSaid
from znfs.node import File, Kind, Node
from znfs.tree.reader import current

log = logging.getLogger("znfs.fuse")

ERRNO: dict[type[BaseException], int] = {
    NotFound: errno.ENOENT,
    Denied: errno.EACCES,
    Stale: errno.ESTALE,
    StoreError: errno.EIO,
    ChunkError: errno.EIO,
}  # any other exception is EIO
QUIET = (NotFound, Stale)  # ordinary answers, no reason to log

MUTATING = (
    "mknod", "mkdir", "unlink", "rmdir", "symlink", "rename", "link", "chmod", "chown", "truncate",
    "ftruncate", "write", "create", "utimens", "setxattr", "removexattr", "fallocate",
    "copy_file_range",
)  # fmt: skip

MAX_BACKGROUND = 128  # read-ahead requests under way; the kernel's default of 12 stalls others
KERNEL_TTL = 1.0  # seconds that the kernel may trust names and attributes, if --ttl is not less

# Capabilities znfs has no use for: requests and replies are small or already in memory, and a
# listing has no attributes to send along.
_SPLICE = 1 << 7 | 1 << 8 | 1 << 9  # FUSE_CAP_SPLICE_WRITE, _MOVE, _READ
_READDIRPLUS = 1 << 13 | 1 << 14  # FUSE_CAP_READDIRPLUS, _AUTO
_ASYNC_READ = 1 << 0

_XATTR = b"user.znfs."

_view_at = ctypes.pythonapi.PyMemoryView_FromMemory
_view_at.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)
_view_at.restype = ctypes.py_object
_WRITABLE = 0x200  # PyBUF_WRITE
_MODES = {Kind.FILE: stat.S_IFREG, Kind.DIRECTORY: stat.S_IFDIR}
_NO_INODE = 0xFFFFFFFF  # in a listing: libfuse's FUSE_UNKNOWN_INO


class Resolver(Protocol):
    """What the file system needs of a tree."""

    def resolve(self, path: str) -> Node: ...

    def attributes(self, path: str) -> dict[str, str]: ...


@lru_cache(maxsize=4096)
def version_ns(version: str) -> int:
    """The nanoseconds of mtime: a hash of the version, so that a change always shows."""
    return int.from_bytes(blake2b(version.encode(), digest_size=8).digest()) % 10**9


def inode(path: str) -> int:
    """An inode number that is the same in every mount: a hash of the path; the root's is 1."""
    if not path:
        return 1
    return int.from_bytes(blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8).digest())


@dataclass(frozen=True)
class Times:
    """What getattr takes a time from, where no node is to give it."""

    version: str = ""
    mtime: float = 0.0


UNKNOWN = Times()  # a root directory whose store does not answer
LIVE = Times(mtime=time.time())


class Operations:
    """The callbacks, free of threads and of mounting. Each returns 0, a size, or -errno."""

    def __init__(
        self, tree: Resolver, *, uid: int | None = None, gid: int | None = None,
        umask: int = 0o222, ttl: float = KERNEL_TTL, down: bool = False,
    ) -> None:  # fmt: skip
        self._tree = tree
        self._uid = os.getuid() if uid is None else uid
        self._gid = os.getgid() if gid is None else gid
        self._file_mode = stat.S_IFREG | (0o444 & ~umask)
        self._dir_mode = stat.S_IFDIR | (0o555 & ~umask)
        self._ttl = min(ttl, KERNEL_TTL)
        self._shown = Versions()  # versions whose attributes the kernel has been told
        self._opened = Versions()  # versions whose pages the kernel may hold
        # By path, the handle opened last of those that have the kernel drop pages: it does so some
        # time after the answer, and until then what it holds may be old.
        self._dropping: dict[str, int] = {}
        self._mutex = threading.Lock()
        self._outdated: set[int] = set()  # handles of files that the kernel knows to have changed
        self._settings: Any = None
        self._read_ahead = ReadAhead()
        self._files: dict[int, OpenFile] = {}
        self._dirs: dict[int, OpenDir] = {}
        self._numbers = count(1)
        self._about: dict[Kind, Any] = {}  # what a listing says of entries of each kind
        self._root_seen: LastSaid[Node | Times | Exception] = LastSaid(self._look_at_root, UNKNOWN)
        if down:
            self._root_seen.pause()

    def callbacks(self) -> dict[str, Callable[..., int]]:
        """Every callback by libfuse's name for it."""
        reading: dict[str, Callable[..., int]] = {
            "init": self.init, "getattr": self.getattr, "fgetattr": self.getattr,
            "open": self.open, "read": self.read, "flush": self.flush, "release": self.release,
            "opendir": self.opendir, "readdir": self.readdir, "releasedir": self.releasedir,
            "statfs": self.statfs, "access": self.access,
            "getxattr": self.getxattr, "listxattr": self.listxattr,
        }  # fmt: skip
        return reading | dict.fromkeys(MUTATING, self.refuse)

    def use(self, binding: Binding, mountpoint: str) -> None:
        """Make the structures that callbacks hand to libfuse, for a mount that will be there."""
        self._read_ahead.use(binding, mountpoint)
        for kind, mode in _MODES.items():
            about = binding.module.c_stat()
            about.st_mode, about.st_ino = mode, _NO_INODE
            self._about[kind] = ctypes.pointer(about)

    def close(self) -> None:
        """The mount has gone."""
        self._read_ahead.close()

    def forget_pages(self) -> None:
        """Have the next open of every file drop its pages (after a refresh)."""
        self._opened.clear()

    def init(self, conn: Any, config: Any = None) -> int:
        if config:
            settings = self._settings = config.contents  # libfuse's own: it looks there each time
            settings.use_ino = 1
            settings.nullpath_ok = 1
            settings.entry_timeout = settings.attr_timeout = self._ttl
            settings.negative_timeout = self._ttl
        if hasattr(conn, "contents"):  # fusepy gives a bare pointer, and options do the same
            offer = conn.contents
            offer.max_background = MAX_BACKGROUND
            offer.congestion_threshold = MAX_BACKGROUND * 3 // 4
            offer.want = (offer.want | _ASYNC_READ & offer.capable) & ~(_SPLICE | _READDIRPLUS)
            self._read_ahead.agree(offer.proto_minor)
        return 0

    def getattr(self, raw: bytes | None, out: Any, info: Any = None) -> int:
        """Of an open file as of the version that it shows: ESTALE once that has changed. The kernel
        asks so before it says that a file has ended, and, once it may no longer trust what it
        knows, before it reads from its own pages."""
        opened = self._files.get(info.contents.fh) if info else None
        path = _text(raw) if raw is not None else self._path(info.contents.fh)
        node: Node | Times
        try:
            if opened is not None and not opened.file.live:
                node = current(self._tree.resolve, path, opened.version)
            else:
                node = self._tree.resolve(path) if path else self._root()
        except NotFound:
            return -errno.ESTALE if info else -errno.ENOENT
        st = out.contents
        st.st_ino = inode(path)
        st.st_nlink = 1
        st.st_uid = self._uid
        st.st_gid = self._gid
        st.st_blksize = 4096
        if isinstance(node, File) and node.live:
            # As in /proc: no size, and a time that stands, lest tar and rsync see it change.
            st.st_mode = self._file_mode
            node = LIVE
        elif isinstance(node, File):
            st.st_mode = self._file_mode
            st.st_size = node.size
            st.st_blocks = -(-node.size // 512)
            if self._shown.set(path, node.version) != node.version:
                self._outdate(path, node.version)
        else:
            st.st_mode = self._dir_mode
        seconds, nanoseconds = int(node.mtime), version_ns(node.version)
        for stamp in (st.st_mtimespec, st.st_ctimespec, st.st_atimespec):
            stamp.tv_sec = seconds
            stamp.tv_nsec = nanoseconds
        return 0

    def _outdate(self, path: str, version: str) -> None:
        """The kernel is about to be told of another version of a file, at its size. It keeps that
        for the path, so while older descriptors are open it may trust none of it: it then asks
        about the descriptor (`getattr`), and does not say that an old one ends where the new one
        does. HDF5's library takes what is beyond a file's end for zeros.
        """
        with self._mutex:
            self._outdated.update(
                number
                for number, opened in list(self._files.items())
                if opened.path == path and opened.version != version
            )
            self._set_trust()

    def _set_trust(self) -> None:
        """Have the kernel trust attributes for so long; libfuse2 was told once for all."""
        if self._settings is not None:
            self._settings.attr_timeout = 0.0 if self._outdated else self._ttl

    def _root(self) -> Node | Times:
        """The root is a directory even while its store is down or gone, and as it was last seen
        while its store refuses or says nothing: `.znfs` must stay in reach, or nobody could tell
        the daemon to read other credentials."""
        seen = self._root_seen.get()
        if isinstance(seen, Exception):
            raise seen.with_traceback(None)  # else it grows with every raise
        return seen

    def _look_at_root(self) -> Node | Times | Exception:
        try:
            return self._tree.resolve("")
        except NotFound as exc:
            log.debug("root: %s", exc)
            return UNKNOWN
        except ZnfsError:
            raise
        except Exception as exc:
            return exc

    def open(self, raw: bytes, info: Any) -> int:
        """ESTALE until getattr has shown the present version: Linux then looks it up and retries.

        Pages of the path are kept only if they are of the version that is now opened.
        """
        fi = info.contents
        if fi.flags & (os.O_ACCMODE | os.O_TRUNC) != os.O_RDONLY:
            return -errno.EROFS
        path = _text(raw)
        node = self._tree.resolve(path)
        if not isinstance(node, File):
            return -errno.EISDIR
        version = node.version
        fi.fh = number = next(self._numbers)
        opened = OpenFile(path, node, version, is_own(fi.flags))
        # Before looking at what was shown: if that changes now, `_outdate` finds it.
        self._files[number] = opened
        if node.live:
            fi.direct_io = 1
        else:
            if self._shown.get(path) != version:
                self._drop(number)
                return -errno.ESTALE
            kept = self._opened.set(path, version) == version and path not in self._dropping
            if not kept:
                opened.drops = True
                self._dropping[path] = number
            fi.keep_cache = kept
        fi.noflush = opened.own or not node.has_gaps
        return 0

    def read(self, raw: bytes | None, out: Any, size: int, offset: int, info: Any) -> int:
        number = info.contents.fh
        opened = self._files[number]
        self._has_dropped(number, opened)
        file = opened.file
        if not file.live:
            file = current(self._tree.resolve, opened.path, opened.version)
        opened.recall(offset)
        view: memoryview = _view_at(ctypes.addressof(out.contents), size, _WRITABLE)
        try:
            got = file.read_into(offset, view)
        except StoreError as exc:
            opened.failure = time.monotonic(), offset, size, exc
            raise
        if file.has_gaps and not opened.own and (ranges := opened.unasked(file, offset)):
            self._read_ahead.ask(number, opened.path, ranges)
        return got

    def flush(self, raw: bytes | None, info: Any) -> int:
        """A descriptor of an open file is closed. Not asked for again where it says that it is not
        there."""
        self._read_ahead.drop(info.contents.fh)
        return 0 if self._read_ahead.able else -errno.ENOSYS

    def release(self, raw: bytes | None, info: Any) -> int:
        number = info.contents.fh
        self._read_ahead.drop(number)
        if (opened := self._drop(number)) is not None:
            self._has_dropped(number, opened)
        return 0

    def _drop(self, number: int) -> OpenFile | None:
        with self._mutex:
            if number in self._outdated:
                self._outdated.discard(number)
                self._set_trust()
            return self._files.pop(number, None)

    def _has_dropped(self, number: int, opened: OpenFile) -> None:
        """The kernel is done with opening the file: the pages that it was to drop are gone."""
        if opened.drops:
            opened.drops = False
            if self._dropping.get(opened.path) == number:
                self._dropping.pop(opened.path, None)

    def opendir(self, raw: bytes, info: Any) -> int:
        """The store is not asked for the root before that is listed: `df` opens it."""
        path, entries = _text(raw), self._root_entries
        if path:
            node = self._tree.resolve(path)
            if isinstance(node, File):
                return -errno.ENOTDIR
            entries = node.entries
        info.contents.fh = number = next(self._numbers)
        self._dirs[number] = OpenDir(path, entries)
        return 0

    def _root_entries(self, start: int = 0) -> Iterator[tuple[str, Kind]]:
        try:
            node = self._tree.resolve("")
        except NotFound as exc:  # in the midst of a listing ENOENT is its end, to the C library
            raise Stale(f"the store is gone: {exc}") from exc
        assert not isinstance(node, File)
        return node.entries(start)

    def readdir(
        self, raw: bytes | None, buffer: Any, filler: Any, offset: int, info: Any, *flags: int
    ) -> int:
        more = (0,) * len(flags)  # libfuse3's filler takes flags, libfuse2's does not
        about = self._about

        def add(name: bytes, kind: Kind, following: int) -> int:
            full: int = filler(buffer, name, about.get(kind), following, *more)
            return full

        self._dirs[info.contents.fh].fill(offset, add)
        return 0

    def releasedir(self, raw: bytes | None, info: Any) -> int:
        self._dirs.pop(info.contents.fh, None)
        return 0

    def statfs(self, raw: bytes, out: Any) -> int:
        """Sizes are unknown without asking the store, so none are told; names have 255 bytes."""
        out.contents.f_bsize = out.contents.f_frsize = 4096
        out.contents.f_namemax = 255
        return 0

    def access(self, raw: bytes, mode: int) -> int:
        return -errno.EROFS if mode & os.W_OK else 0

    def getxattr(self, raw: bytes, name: bytes, out: Any, size: int) -> int:
        """`user.znfs.…` tells where a file comes from. Other kinds are unsupported, which `ls -l`
        takes to heart and asks for them no more."""
        if not name.startswith(b"user."):
            return -errno.ENOTSUP
        if not name.startswith(_XATTR):
            return -errno.ENODATA
        value = self._tree.attributes(_text(raw)).get(_text(name.removeprefix(_XATTR)))
        if value is None:
            return -errno.ENODATA
        return _fill(out, size, value.encode("utf-8", "surrogateescape"))

    def listxattr(self, raw: bytes, out: Any, size: int) -> int:
        names = (_XATTR + name.encode() + b"\0" for name in self._tree.attributes(_text(raw)))
        return _fill(out, size, b"".join(names))

    @property
    def open_files(self) -> int:
        """How many files readers have open."""
        return sum(not opened.own for opened in list(self._files.values()))

    @property
    def read_ahead(self) -> int:
        """How many ranges of files the kernel was asked to read ahead."""
        return self._read_ahead.asked

    def refuse(self, *args: Any) -> int:
        return -errno.EROFS

    def _path(self, number: int) -> str:
        opened = self._files.get(number) or self._dirs[number]
        return opened.path


def _fill(out: Any, size: int, data: bytes) -> int:
    """The answer of xattr(7) calls: the size alone if no room is offered."""
    if size == 0:
        return len(data)
    if len(data) > size:
        return -errno.ERANGE
    ctypes.memmove(out, data, len(data))
    return len(data)


def _text(raw: bytes) -> str:
    return "" if raw == b"/" else raw.decode("utf-8", "surrogateescape")


def errno_of(operation: str, exc: BaseException) -> int:
    """The errno for `exc`, which is logged: with its traceback if znfs did not foresee it."""
    number = next((ERRNO[t] for t in type(exc).__mro__ if t in ERRNO), errno.EIO)
    if isinstance(exc, QUIET):
        log.debug("%s: %s", operation, exc)
    elif isinstance(exc, ZnfsError):
        log.error("%s: %s", operation, exc)
    else:
        log.error("%s: %s: %s", operation, type(exc).__name__, exc, exc_info=exc)
    return number
