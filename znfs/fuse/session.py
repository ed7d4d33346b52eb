"""A mount, and the threads that serve it."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import select
import threading
from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Any

from znfs import deadline
from znfs.errors import MountError
from znfs.fuse.binding import Binding
from znfs.fuse.operations import KERNEL_TTL, MAX_BACKGROUND, Operations, errno_of

log = logging.getLogger("znfs.fuse")

MAX_THREADS = 128  # each may wait for a store; an idle one costs little
FIRST_THREADS = 4


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
        self._table = binding.module.fuse_operations()
        for name, prototype, *_ in self._table._fields_:
            if callback := operations.callbacks().get(name):
                if name == "init" and binding.major == 2:
                    continue
                setattr(self._table, name, prototype(self._guarded(name, callback)))
        self._fuse: int | None = None
        self._session: int | None = None
        self._channel: int | None = None
        self._device = -1  # of /dev/fuse
        self._mountpoint = b""

    def mount(self, mountpoint: str, options: list[str]) -> None:
        """Mount; `options` are those of `-o`. Raises MountError with what libfuse said."""
        lib, pointer = self._binding.lib, ctypes.c_void_p
        words = [b"znfs", b"-o", ",".join(options).encode("utf-8", "surrogateescape")]
        argv = (ctypes.c_char_p * (len(words) + 1))(*words, None)
        args = _Args(len(words), ctypes.cast(argv, pointer), 0)
        self._mountpoint = os.fsencode(mountpoint)
        self._operations.use(self._binding, mountpoint)
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
        if self._binding.major == 2:
            self._device = lib.fuse_chan_fd(pointer(self._channel))
        else:
            self._device = lib.fuse_session_fd(pointer(self._session))

    def start(self) -> None:
        """Begin to serve. Raises MountError if there is no thread to do it."""
        with self._mutex:
            for _ in range(FIRST_THREADS):
                self._add_thread()
        if not self._threads:
            raise MountError("no thread can be had to serve it")

    @property
    def connected(self) -> bool:
        """Whether the kernel would still ask: not once the mount was taken away."""
        poll = select.poll()
        poll.register(self._device, select.POLLERR)
        return not poll.poll(0)

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
                "read_ahead": self._operations.read_ahead,
            }  # fmt: skip

    def _add_thread(self) -> None:
        """One more thread, if it can be had (TasksMax of a service, pids.max of a container):
        without it the others serve on."""
        name = f"fuse-{self._threads + 1}"
        try:
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        except (RuntimeError, MemoryError) as exc:
            log.warning("%d threads serve the mount, no more can be had: %s", self._threads, exc)
            return
        self._threads += 1

    def _serve(self) -> None:
        # libfuse's loop for one thread is safe to run in many. Python's threads run it rather
        # than libfuse's own, whose number differs between versions and cannot be set in all.
        self._binding.lib.fuse_session_loop(ctypes.c_void_p(self._session))
        with self._mutex:
            first, self._over = not self._over, True
        if first:
            self._operations.close()
            self._ended()

    def _guarded(self, name: str, callback: Callable[..., int]) -> Callable[..., int]:
        mutex, seconds, begin = self._mutex, self._seconds, deadline.begin

        def call(*args: Any) -> int:
            # Whatever happens, libfuse must have an answer. What is raised from here is 0 to it: a
            # file that ends, which the kernel fills up with zeros.
            counted = False
            try:
                begin(seconds)
                with mutex:
                    self._busy += 1
                    counted = True
                    self._requests[name] += 1
                    is_short = self._busy >= self._threads
                    if is_short and self._threads < MAX_THREADS and not self._over:
                        self._add_thread()
                answer = callback(*args)
            except BaseException as exc:
                try:
                    answer = -errno_of(name, exc)
                except BaseException:  # there may be no memory for a message, either
                    answer = -errno.EIO
            with mutex:
                self._busy -= counted
                if name == "read":
                    self._bytes += max(0, answer)
            return answer

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
        # Attributes are asked for each time: see Operations._outdate.
        options += ["use_ino", "nonempty", "attr_timeout=0", f"entry_timeout={ttl}"]
        options += [f"negative_timeout={ttl}", f"max_background={MAX_BACKGROUND}"]
    return options


def is_dead(mountpoint: str) -> bool:
    """Whether a FUSE mount is there whose daemon has gone (ENOTCONN)."""
    try:
        os.statvfs(mountpoint)  # unlike stat, never answered from the kernel's memory
    except OSError as exc:
        return exc.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False
