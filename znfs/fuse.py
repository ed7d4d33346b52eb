"""The file system: libfuse's callbacks over a tree.

Nothing else in znfs imports the FUSE binding or errno. The binding (mfusepy over libfuse3; fusepy
over libfuse2 with `ZNFS_FUSE_BINDING=fusepy`) gives the C structures. The callbacks and the loop
are here: a read fills libfuse's own buffer, a listing streams, and as many threads as wait
for a store can wait without delaying the others.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import logging
import os
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import count, islice
from math import inf
from typing import Any, Protocol

from znfs import deadline
from znfs.errors import ChunkError, Denied, MountError, NotFound, Stale, StoreError, ZnfsError
from znfs.node import Dir, File, Node

log = logging.getLogger(__name__)

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

MAX_THREADS = 128  # each may wait for a store; an idle one costs little
FIRST_THREADS = 4
MAX_BACKGROUND = 128  # read-ahead requests under way; the kernel's default of 12 stalls others
SEEN = 1 << 16  # paths whose last version is remembered; forgetting one costs one look-up
DOWN_SECONDS = 10.0  # how long a store that did not answer is not asked for the root again
FAILED_SECONDS = 0.2  # how long a read that the store did not answer is not tried again
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


class Resolver(Protocol):
    """What the file system needs of a tree."""

    def resolve(self, path: str) -> Node: ...

    def attributes(self, path: str) -> dict[str, str]: ...


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
    """The FUSE binding `name`, by default $ZNFS_FUSE_BINDING or mfusepy. Raises MountError.

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
    except (ImportError, OSError) as exc:
        raise MountError(f"{name} cannot be loaded ({exc}); is {package} installed?") from exc
    lib = ctypes.CDLL(module._libfuse._name)
    loaded = lib.fuse_version() // (100 if lib.fuse_version() >= 100 else 10)
    if loaded != major:
        raise MountError(f"{name} loaded libfuse {loaded}, not {major}; is {package} installed?")
    return Binding(name, module, lib, major)


@lru_cache(maxsize=4096)
def version_ns(version: str) -> int:
    """The nanoseconds of mtime: a hash of the version, so that a change always shows."""
    return int.from_bytes(blake2b(version.encode(), digest_size=8).digest()) % 10**9


def inode(path: str) -> int:
    """An inode number that is the same in every mount: a hash of the path; the root's is 1."""
    if not path:
        return 1
    return int.from_bytes(blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8).digest())


class Seen:
    """The last version of a path, for the paths used last. Forgetting one is always safe."""

    def __init__(self, limit: int = SEEN) -> None:
        self._limit = limit
        self._versions: dict[str, str] = {}
        self._mutex = threading.Lock()

    def set(self, path: str, version: str) -> str | None:
        """Remember; returns what was remembered before."""
        with self._mutex:
            before = self._versions.pop(path, None)
            self._versions[path] = version
            if len(self._versions) > self._limit:
                del self._versions[next(iter(self._versions))]
        return before

    def get(self, path: str) -> str | None:
        return self._versions.get(path)

    def clear(self) -> None:
        with self._mutex:
            self._versions.clear()


@dataclass(frozen=True)
class Times:
    """What getattr takes a time from, where no node is to give it."""

    version: str = ""
    mtime: float = 0.0


UNKNOWN = Times()  # a root directory whose store does not answer
LIVE = Times(mtime=time.time())


_KINDS = {"files": stat.S_IFREG, "directories": stat.S_IFDIR}
_NO_INODE = 0xFFFFFFFF  # in a listing: libfuse's FUSE_UNKNOWN_INO


@dataclass(slots=True)
class OpenFile:
    """An open file: it shows one version only."""

    path: str
    file: File
    failure: tuple[float, int, int, StoreError] | None = None  # when, offset, size, and why

    def recall(self, offset: int) -> None:
        """Raise the error of a read a moment ago that covered `offset`: the kernel asks again at
        once for the pages that its look-ahead did not get, and would wait as long again."""
        if self.failure is not None:
            when, start, size, error = self.failure
            if start <= offset < start + size and time.monotonic() - when < FAILED_SECONDS:
                raise error.with_traceback(None)


class OpenDir:
    """An open directory: where its listing stands, so that the next part continues it.

    `kind` is the kind of all its entries (stat's S_IFREG or S_IFDIR), or 0 if they differ.
    """

    def __init__(self, path: str, node: Dir) -> None:
        self.path = path
        self.kind = _KINDS.get(getattr(node, "holds", ""), 0)
        self._node = node
        self._mutex = threading.Lock()
        self._next = -1  # offset of the entry that `_entries` yields next
        self._entries: Iterator[bytes] = iter(())
        self._held: bytes | None = None  # an entry that did not fit into the last reply

    def fill(self, offset: int, add: Callable[[bytes, int], int]) -> None:
        """Call `add(name, offset of the next entry)` from `offset` on until it returns true."""
        with self._mutex:
            if offset != self._next:
                self._entries, self._held = self._from(offset), None
            self._next = -1  # should a name fail to come, the next call starts afresh
            at = offset
            if self._held is not None:
                at += 1
                add(self._held, at)  # the buffer is empty: it fits
                self._held = None
            for name in self._entries:
                if add(name, at + 1):
                    self._held = name
                    break
                at += 1
            self._next = at

    def _from(self, offset: int) -> Iterator[bytes]:
        yield from islice((b".", b".."), min(offset, 2), None)
        for name in self._node.names(max(offset - 2, 0)):
            yield name.encode("utf-8", "surrogateescape")


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
        self._shown = Seen()  # versions whose attributes the kernel has been told
        self._opened = Seen()  # versions whose pages the kernel may hold
        self._files: dict[int, OpenFile] = {}
        self._dirs: dict[int, OpenDir] = {}
        self._numbers = count(1)
        self._about: dict[int, Any] = {0: None}  # what a listing says of entries of each kind
        # When to ask for the root (monotonic seconds): later, if the store was down just now.
        self._ask_root = time.monotonic() + DOWN_SECONDS if down else 0.0

    def callbacks(self) -> dict[str, Callable[..., int]]:
        """Every callback by libfuse's name for it."""
        reading: dict[str, Callable[..., int]] = {
            "init": self.init, "getattr": self.getattr, "fgetattr": self.getattr,
            "open": self.open, "read": self.read, "release": self.release,
            "opendir": self.opendir, "readdir": self.readdir, "releasedir": self.releasedir,
            "statfs": self.statfs, "access": self.access,
            "getxattr": self.getxattr, "listxattr": self.listxattr,
        }  # fmt: skip
        return reading | dict.fromkeys(MUTATING, self.refuse)

    def use(self, binding: Binding) -> None:
        """Make the structures that callbacks hand to libfuse."""
        for kind in _KINDS.values():
            about = binding.module.c_stat()
            about.st_mode, about.st_ino = kind, _NO_INODE
            self._about[kind] = ctypes.pointer(about)

    def forget_pages(self) -> None:
        """Have the next open of every file drop its pages (after a refresh)."""
        self._opened.clear()

    def init(self, conn: Any, config: Any = None) -> int:
        if config:
            settings = config.contents
            settings.use_ino = 1
            settings.nullpath_ok = 1
            settings.entry_timeout = settings.attr_timeout = self._ttl
            settings.negative_timeout = self._ttl
        if hasattr(conn, "contents"):  # fusepy gives a bare pointer, and options do the same
            offer = conn.contents
            offer.max_background = MAX_BACKGROUND
            offer.congestion_threshold = MAX_BACKGROUND * 3 // 4
            offer.want = (offer.want | _ASYNC_READ & offer.capable) & ~(_SPLICE | _READDIRPLUS)
        return 0

    def getattr(self, raw: bytes | None, out: Any, info: Any = None) -> int:
        path = _text(raw) if raw is not None else self._path(info.contents.fh)
        node: Node | Times
        try:
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
            self._shown.set(path, node.version)
        else:
            st.st_mode = self._dir_mode
        seconds, nanoseconds = int(node.mtime), version_ns(node.version)
        for stamp in (st.st_mtimespec, st.st_ctimespec, st.st_atimespec):
            stamp.tv_sec = seconds
            stamp.tv_nsec = nanoseconds
        return 0

    def _root(self) -> Node | Times:
        """The root is a directory even while its store is down or gone: `.znfs` must stay in
        reach."""
        if time.monotonic() > self._ask_root:
            try:
                return self._tree.resolve("")
            except NotFound as exc:
                log.debug("root: %s", exc)
            except StoreError as exc:
                log.debug("root: %s", exc)
                self._ask_root = time.monotonic() + DOWN_SECONDS
        return UNKNOWN

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
        if node.live:
            fi.direct_io = 1
        else:
            if self._shown.get(path) != node.version:
                return -errno.ESTALE
            fi.keep_cache = self._opened.set(path, node.version) == node.version
        fi.fh = number = next(self._numbers)
        self._files[number] = OpenFile(path, node)
        return 0

    def read(self, raw: bytes | None, out: Any, size: int, offset: int, info: Any) -> int:
        opened = self._files[info.contents.fh]
        file = opened.file if opened.file.live else self._current(opened)
        opened.recall(offset)
        view: memoryview = _view_at(ctypes.addressof(out.contents), size, _WRITABLE)
        try:
            return file.read_into(offset, view)
        except StoreError as exc:
            opened.failure = time.monotonic(), offset, size, exc
            raise

    def _current(self, opened: OpenFile) -> File:
        """The file at the path, of the version that was opened. After a refresh it is another
        object, over blocks that are loaded anew."""
        try:
            node = self._tree.resolve(opened.path)
        except NotFound as exc:
            raise Stale(f"{opened.path}: is no longer there") from exc
        if node.version != opened.file.version or not isinstance(node, File):
            raise Stale(f"{opened.path}: has changed since it was opened")
        return node

    def release(self, raw: bytes | None, info: Any) -> int:
        self._files.pop(info.contents.fh, None)
        return 0

    def opendir(self, raw: bytes, info: Any) -> int:
        path = _text(raw)
        node = self._tree.resolve(path)
        if isinstance(node, File):
            return -errno.ENOTDIR
        info.contents.fh = number = next(self._numbers)
        self._dirs[number] = OpenDir(path, node)
        return 0

    def readdir(
        self, raw: bytes | None, buffer: Any, filler: Any, offset: int, info: Any, *flags: int
    ) -> int:
        more = (0,) * len(flags)  # libfuse3's filler takes flags, libfuse2's does not
        opened = self._dirs[info.contents.fh]
        about = self._about[opened.kind]

        def add(name: bytes, following: int) -> int:
            what = about if following > 2 else None  # not of `.` and `..`
            full: int = filler(buffer, name, what, following, *more)
            return full

        opened.fill(offset, add)
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
        value = self._tree.attributes(_text(raw)).get(name.removeprefix(_XATTR).decode())
        return -errno.ENODATA if value is None else _fill(out, size, value.encode())

    def listxattr(self, raw: bytes, out: Any, size: int) -> int:
        names = (_XATTR + name.encode() + b"\0" for name in self._tree.attributes(_text(raw)))
        return _fill(out, size, b"".join(names))

    @property
    def open_files(self) -> int:
        return len(self._files)

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


class Session:
    """A mount and the threads that serve it, `seconds` at most for each request of the kernel's.
    `ended` is called once when the mount has gone."""

    def __init__(
        self, operations: Operations, binding: Binding, ended: Callable[[], None],
        seconds: float = inf,
    ) -> None:  # fmt: skip
        self._binding = binding
        self._operations = operations
        self._ended = ended
        self._seconds = seconds
        self._mutex = threading.Lock()
        self._threads = 0
        self._busy = 0
        self._requests: Counter[str] = Counter()
        self._bytes = 0
        self._over = False
        operations.use(binding)
        self._table = binding.module.fuse_operations()
        for name, prototype, *_ in self._table._fields_:
            if callback := operations.callbacks().get(name):
                if name == "init" and binding.major == 2:
                    continue
                setattr(self._table, name, prototype(self._guarded(name, callback)))
        self._fuse: int | None = None
        self._session: int | None = None
        self._channel: int | None = None
        self._mountpoint = b""

    def mount(self, mountpoint: str, options: list[str]) -> None:
        """Mount; `options` are those of `-o`. Raises MountError with what libfuse said."""
        lib, pointer = self._binding.lib, ctypes.c_void_p
        words = [b"znfs", b"-o", ",".join(options).encode("utf-8", "surrogateescape")]
        argv = (ctypes.c_char_p * (len(words) + 1))(*words, None)
        args = _Args(len(words), ctypes.cast(argv, pointer), 0)
        self._mountpoint = os.fsencode(mountpoint)
        table, size = ctypes.byref(self._table), ctypes.c_size_t(ctypes.sizeof(self._table))
        lib.fuse_get_session.restype = pointer
        mounted = False
        with _Stderr() as said:
            if self._binding.major == 2:
                attach = _symbol(lib, "fuse_mount", "FUSE_2.6", pointer)
                new = _symbol(lib, "fuse_new", "FUSE_2.6", pointer)
                self._channel = attach(self._mountpoint, ctypes.byref(args))
                if self._channel:
                    mounted = True
                    channel = pointer(self._channel)
                    self._fuse = new(channel, ctypes.byref(args), table, size, None)
            else:
                attach = _symbol(lib, "fuse_mount", "FUSE_3.0", ctypes.c_int)
                new = _symbol(lib, "fuse_new", "FUSE_3.1", pointer)
                self._fuse = new(ctypes.byref(args), table, size, None)
                if self._fuse:
                    mounted = attach(pointer(self._fuse), self._mountpoint) == 0
        if mounted and not self._fuse:
            lib.fuse_unmount(self._mountpoint, pointer(self._channel))
        if not (mounted and self._fuse):
            why = " ".join(said.text.split()) or "libfuse gave no reason"
            raise MountError(f"{mountpoint}: cannot mount: {why}")
        self._session = lib.fuse_get_session(pointer(self._fuse))

    def start(self) -> None:
        """Begin to serve."""
        with self._mutex:
            for _ in range(FIRST_THREADS):
                self._add_thread()

    @property
    def busy(self) -> int:
        """How many requests are under way."""
        return self._busy

    def status(self) -> dict[str, Any]:
        """Counters, for status.json."""
        with self._mutex:
            return {
                "requests": dict(self._requests), "bytes": self._bytes, "busy": self._busy,
                "threads": self._threads, "open_files": self._operations.open_files,
            }  # fmt: skip

    def _add_thread(self) -> None:
        self._threads += 1
        threading.Thread(target=self._serve, name=f"fuse-{self._threads}", daemon=True).start()

    def _serve(self) -> None:
        # libfuse's loop for one thread is safe to run in many. Python's threads run it rather
        # than libfuse's own, whose number differs between versions and cannot be set in all.
        self._binding.lib.fuse_session_loop(ctypes.c_void_p(self._session))
        with self._mutex:
            first, self._over = not self._over, True
        if first:
            self._ended()

    def _guarded(self, name: str, callback: Callable[..., int]) -> Callable[..., int]:
        mutex, seconds, begin = self._mutex, self._seconds, deadline.begin

        def call(*args: Any) -> int:
            begin(seconds)
            with mutex:
                self._busy += 1
                self._requests[name] += 1
                if self._busy >= self._threads and self._threads < MAX_THREADS and not self._over:
                    self._add_thread()
            answer = 0
            try:
                answer = callback(*args)
                return answer
            except BaseException as exc:  # whatever it is, libfuse must have an answer
                return -errno_of(name, exc)
            finally:
                with mutex:
                    self._busy -= 1
                    if name == "read":
                        self._bytes += max(0, answer)

        return call


def _symbol(lib: ctypes.CDLL, name: str, version: str, result: Any) -> Any:
    """The function `name` of that symbol version: plain look-up may find an older one."""
    find = ctypes.CDLL(None).dlvsym
    find.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)
    find.restype = ctypes.c_void_p
    address = find(lib._handle, name.encode(), version.encode())
    if not address:
        raise MountError(f"{lib._name} has no {name} of version {version}")
    return ctypes.CFUNCTYPE(result)(address)


class _Args(ctypes.Structure):
    """libfuse's struct fuse_args."""

    _fields_ = (("argc", ctypes.c_int), ("argv", ctypes.c_void_p), ("allocated", ctypes.c_int))


class _Stderr:
    """What C code and fusermount write to standard error meanwhile, in `text`."""

    text = ""

    def __enter__(self) -> _Stderr:
        self._kept = os.dup(2)
        self._file = os.memfd_create("stderr")
        os.dup2(self._file, 2)
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.dup2(self._kept, 2)
        os.close(self._kept)
        self.text = os.pread(self._file, 4096, 0).decode(errors="replace")
        os.close(self._file)


def mount_options(fsname: str, binding: Binding, *, allow_other: bool, ttl: float) -> list[str]:
    """The options of `-o` for libfuse. `fsname` is what the mount table shows as the source."""
    escaped = fsname.replace("\\", "\\\\").replace(",", "\\,")
    options = ["ro", "nosuid", "nodev", "default_permissions", "subtype=znfs", f"fsname={escaped}"]
    if allow_other:
        options.append("allow_other")
    if binding.major == 2:
        ttl = min(ttl, KERNEL_TTL)
        options += ["use_ino", "nonempty", f"attr_timeout={ttl}", f"entry_timeout={ttl}"]
        options += [f"negative_timeout={ttl}", f"max_background={MAX_BACKGROUND}"]
    return options


def is_dead(mountpoint: str) -> bool:
    """Whether a FUSE mount is there whose daemon has gone (ENOTCONN)."""
    try:
        os.statvfs(mountpoint)  # unlike stat, never answered from the kernel's memory
    except OSError as exc:
        return exc.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False
