"""The disk tier: encoded chunks in a local folder, under one limit with the spill.

They are files, checksummed, for this mount, the next one, and other mounts of the same store on
this machine. The least recently used go first.

A full, broken or vanished folder never fails a read: it is logged once, shown in the status, and
gone around until it works again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import queue
import re
import secrets
import struct
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import google_crc32c

from znfs.cache.spill import Spill
from znfs.chunks import Chunks
from znfs.errors import UsageError
from znfs.meta import Index
from znfs.stores.base import Blob

log = logging.getLogger(__name__)

# An entry: magic, CRC-32C of what follows it, the key's digest, payload's length; the payload.
_HEAD = struct.Struct("<8sI20sQ")
_MAGIC = b"znfs\0\0\0\1"
_CRC_FROM = 12
# Bytes that wait to be written; past that, entries are not kept.
_MOST_WAITING = 32 << 20
_TOUCH_SECONDS = 60.0  # an entry's time of last use is kept no finer than this
_PAUSE_SECONDS = 30.0  # after a failed write
_LOOK_SECONDS = 5.0  # between two looks whether the folder is still there and may be written
_WORKS = "works"
# Why a folder cannot be made for now: these may pass, as whatever fails later may.
_PASSING = frozenset({errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE})
_STALE_TEMPORARY = 3600.0
_EPOCH = re.compile("[0-9a-f]{16}")  # what a power cut left empty, or as zeros, is none


class DiskTier:
    """Encoded chunks in `folder`, at most about `limit` bytes. Raises UsageError if the folder
    cannot be made, for a reason that will not pass, or belongs to somebody else (it would show
    them, or let them choose, data)."""

    def __init__(self, folder: str | Path, limit: int) -> None:
        self.folder = Path(folder).expanduser()
        self.limit = limit
        self.hits = self.misses = self.corrupt = self.written = self.failures = 0
        self.state = _WORKS
        self._failing = False  # the last write was one that failed
        self.last_errors: deque[tuple[float, str]] = deque(maxlen=20)
        self._lock = threading.Lock()
        try:
            self._make()
        except OSError as error:
            if error.errno not in _PASSING:
                why = error.strerror or str(error)
                raise UsageError(f"--disk-cache {self.folder}: {why}") from error
            self._failed("write", error)
            self._failing = True
        self.spill = Spill(self.folder, limit // 2)
        self._total = 0
        self._unscanned = 0  # bytes written since the folder was last measured
        self._waiting = 0
        self._paused_until = 0.0
        self._renewed: dict[str, str] = {}  # epochs begun by this process, by store
        self._unended: set[str] = set()  # stores whose last epoch is noted still
        self._queue: queue.SimpleQueue[tuple[bytes, bytes] | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_all, name="znfs-disk", daemon=True)
        self._writer.start()

    def _make(self) -> None:
        """Have the folder be there, for this user alone. Raises OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self.folder.stat()
        if found.st_uid != os.geteuid():
            raise PermissionError("belongs to another user")
        if found.st_mode & 0o077:
            self._attempt(lambda: self.folder.chmod(0o700))

    def of_store(self, store: str) -> StoreTier:
        """The tier for a store, as of now: `renew` begins another. `store` is what tells it from
        all others; it may hold secrets, and is hashed."""
        return StoreTier(self, f"{store}\0{self._epoch(store)}")

    def _epoch(self, store: str) -> str:
        """A word that is part of every key of a store, changed by `renew`. It is random, and so is
        the first: where it was lost, nobody can tell what was kept before a refresh."""
        if store in self._renewed:
            return self._renewed[store]
        try:
            epoch = self._epoch_file(store).read_text("ascii")
            if _EPOCH.fullmatch(epoch):
                return epoch
        except (OSError, UnicodeDecodeError) as error:
            log.debug("disk cache: %s", error)
        epoch = secrets.token_hex(8)
        try:
            self._begin(store, epoch)
        except OSError as error:
            log.warning("disk cache: %s; what it holds of the store is not used", error)
        return epoch

    def renew(self, store: str) -> None:
        """Never again use what is kept of a store: its chunks may have changed while
        its metadata did not. Holds for later mounts too."""
        epoch = self._renewed[store] = secrets.token_hex(8)
        try:
            self._begin(store, epoch)
        except OSError as error:
            # It cannot be noted, so the last one must go: a later mount would believe it. That
            # takes no room on a full disk; and what was of it may still be on its way there.
            log.warning("disk cache: %s; what it holds of the store is not used again", error)
            self._unended.add(store)
            self._end_epochs()
        self.spill.clear()

    def _begin(self, store: str, epoch: str) -> None:
        """Have later mounts find `epoch`, after a power cut too: the last one would be back, with
        all that was kept in it. Raises OSError."""
        file = self._epoch_file(store)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        handle, temporary = tempfile.mkstemp(".tmp", dir=file.parent)
        try:
            with os.fdopen(handle, "w") as out:
                out.write(epoch)
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, file)
        except BaseException:
            self._attempt(lambda: os.unlink(temporary))
            raise
        _sync(file.parent)

    def _end_epochs(self) -> None:
        """Have later mounts find none where a refresh could not be noted, after a power cut too:
        tried again while the disk is read-only. Not the refresh's own, for another mount may have
        begun one since."""
        for store in list(self._unended):
            file = self._epoch_file(store)
            try:
                file.unlink(missing_ok=True)
                _sync(file.parent)
            except OSError as error:
                log.debug("disk cache: %s", error)
            else:
                self._unended.discard(store)

    def _epoch_file(self, store: str) -> Path:
        return self.folder / "epochs" / _digest(store).hex()

    def get(self, key: str) -> bytes | None:
        """The payload kept under `key`; None if there is none, or a damaged one."""
        name = _digest(key)
        path = self._path(name)
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                data: bytes | None = file.read()
            if found.st_uid != os.geteuid():  # the folder was replaced by somebody's
                data = None
        except FileNotFoundError:
            data = None
        except OSError as error:
            self._failed("read", error)
            data = None
        payload = None if data is None else _payload(name, data)
        with self._lock:
            self.hits += payload is not None
            self.misses += payload is None
            self.corrupt += data is not None and payload is None
        if payload is None:
            if data is not None:
                log.warning("disk cache: %s is damaged and is thrown away", path)
                self._attempt(path.unlink)
        elif time.time() - found.st_mtime > _TOUCH_SECONDS:
            self._attempt(lambda: os.utime(path))
        return payload

    def put(self, key: str, payload: bytes | memoryview) -> None:
        """Keep `payload`, soon; or not at all if the disk cannot keep up."""
        with self._lock:
            busy = self._waiting + len(payload) > _MOST_WAITING
            if busy or len(payload) > self.limit // 8 or time.monotonic() < self._paused_until:
                return
            self._waiting += len(payload)
        try:
            self._queue.put((_digest(key), bytes(payload)))
        except MemoryError as error:
            self._failed("write", error)
            with self._lock:
                self._waiting -= len(payload)

    def status(self) -> dict[str, Any]:
        """Counters, for status.json."""
        with self._lock:
            return {
                "folder": str(self.folder), "limit": self.limit, "bytes": self._total,
                "hits": self.hits, "misses": self.misses, "written": self.written,
                "corrupt": self.corrupt, "failures": self.failures, "state": self.state,
                "last_errors": [{"time": t, "error": e} for t, e in self.last_errors],
                "spilled": self.spill.written, "spill_hits": self.spill.hits,
            }  # fmt: skip

    def close(self) -> None:
        """Write what waits, and stop."""
        self._queue.put(None)
        self._writer.join(10)
        self._end_epochs()
        self.spill.close()

    def _path(self, name: bytes) -> Path:
        text = name.hex()
        return self.folder / text[:2] / text[2:]

    def _write_all(self) -> None:
        if not self._failing:
            self._measure()
        looked = time.monotonic()
        while True:
            if time.monotonic() - looked > _LOOK_SECONDS:
                self._look_after()
                looked = time.monotonic()
            try:
                item = self._queue.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
            if item is None:
                return
            name, payload = item
            try:
                self._write(name, payload)
                if self._failing:
                    self._failing = False
                    self._look_after()
            except Exception as error:  # MemoryError, too: whoever waits is written next
                self._failed("write", error)
                self._failing = True
                with self._lock:
                    self._paused_until = time.monotonic() + _PAUSE_SECONDS
            finally:
                with self._lock:
                    self._waiting -= len(payload)
            # Other mounts fill the folder too, so it is measured again now and then.
            if self._total > self._budget or self._unscanned > self.limit // 16:
                self._measure()

    def _write(self, name: bytes, payload: bytes) -> None:
        path = self._path(name)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
        except FileNotFoundError:
            self._look_after()
            self._make()  # or why not
            path.parent.mkdir(mode=0o700, exist_ok=True)
        rest = struct.pack("<20sQ", name, len(payload)) + payload
        handle, temporary = tempfile.mkstemp(".tmp", dir=path.parent)  # made 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + struct.pack("<I", google_crc32c.value(rest)) + rest)
            os.replace(temporary, path)
        except BaseException:
            self._attempt(lambda: os.unlink(temporary))
            raise
        with self._lock:
            self.written += 1
            self._total += len(rest)
            self._unscanned += len(rest)

    @property
    def _budget(self) -> int:
        return self.limit - self.spill.size

    def _measure(self) -> None:
        """Add up the folder, and remove the least recently used if it is too much. One process
        does this at a time."""
        try:
            with (self.folder / "lock").open("a") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    with self._lock:
                        self._unscanned = 0
                    return
                entries = sorted(self._scan())
        except (OSError, MemoryError) as error:
            self._failed("look through", error)
            entries = []
        total = sum(size for _, size, _ in entries)
        if total > self._budget:
            aim = self._budget * 9 // 10
            for _, size, path in entries:
                if total <= aim:
                    break
                self._attempt(partial(os.unlink, path))
                total -= size
        with self._lock:
            self._total = total
            self._unscanned = 0

    def _scan(self) -> Iterator[tuple[float, int, str]]:
        """(time of last use, size, path) of every entry; forgotten temporary files are removed."""
        for folder in os.scandir(self.folder):
            if len(folder.name) != 2 or not folder.is_dir(follow_symlinks=False):
                continue
            for entry in os.scandir(folder):
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # renamed or removed by another process just now
                    continue
                if entry.name.endswith(".tmp"):
                    if time.time() - found.st_mtime > _STALE_TEMPORARY:
                        self._attempt(partial(os.unlink, entry.path))
                    continue
                yield found.st_mtime, found.st_size, entry.path

    def _look_after(self) -> None:
        """Make the folder anew if it was deleted, and notice when it cannot be used or works again.
        Whoever reads what it has would not notice."""
        state = _WORKS
        self._end_epochs()
        try:
            gone = not self.folder.exists()
            self._make()
            if gone:
                if not self._failing:
                    self._tell(f"{self.folder} was deleted, and is made anew")
                self._measure()
            if self._failing:
                state = self.state  # the next write shows
            elif not os.access(self.folder, os.R_OK | os.W_OK | os.X_OK):
                state = "cannot be written"
        except OSError as error:
            state = self.state if self._failing else error.strerror or str(error)
        if state != self.state:
            self.state = state
            self._tell(f"{self.folder}: {state}")

    def _failed(self, what: str, error: Exception) -> None:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        state = f"cannot {what}: {why}"
        with self._lock:
            self.failures += 1
            known, self.state = self.state, state
        if known != state:
            self._tell(f"{self.folder}: {state}")

    def _tell(self, what: str) -> None:
        self.last_errors.append((time.time(), f"disk cache: {what}"))
        log.warning("disk cache: %s", what)

    @staticmethod
    def _attempt(call: Any) -> None:
        """Housekeeping that may fail: another process may have been faster."""
        try:
            call()
        except OSError as error:
            log.debug("disk cache: %s", error)


class StoreTier:
    """The disk tier as one store uses it."""

    def __init__(self, tier: DiskTier, prefix: str) -> None:
        self._tier = tier
        self._prefix = prefix
        self.spill = tier.spill

    def over(self, chunks: Chunks, identity: str) -> Chunks:
        """`chunks` with the tier before them. `identity` names the array and its version."""
        return _Kept(chunks, self._tier, f"{self._prefix}\0{identity}")


class _Kept:
    """Chunks of which whole ones are kept in the disk tier."""

    def __init__(self, chunks: Chunks, tier: DiskTier, identity: str) -> None:
        self._chunks = chunks
        self._tier = tier
        self._identity = identity

    def key(self, index: Index) -> str:
        return self._chunks.key(index)

    def get(
        self, index: Index, start: int = 0, stop: int | None = None, *, if_match: str | None = None
    ) -> Blob | None:
        if start or stop is not None or if_match is not None:
            return self._chunks.get(index, start, stop, if_match=if_match)
        kept = self._tier.get(self._entry(index))
        if kept is not None:
            return Blob(kept, "", 0.0)
        return self._keep(index, self._chunks.get(index))

    def get_many(self, indexes: Sequence[Index]) -> Iterator[tuple[Index, Blob | None]]:
        missing = []
        for index in indexes:
            kept = self._tier.get(self._entry(index))
            if kept is None:
                missing.append(index)
            else:
                yield index, Blob(kept, "", 0.0)
        for index, blob in self._chunks.get_many(missing):
            yield index, self._keep(index, blob)

    def _keep(self, index: Index, blob: Blob | None) -> Blob | None:
        if blob is not None:
            self._tier.put(self._entry(index), blob.data)
        return blob

    def _entry(self, index: Index) -> str:
        return f"{self._identity}\0{index}"


def _sync(folder: Path) -> None:
    """Have what was renamed or removed in it stay so. Raises OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=20).digest()


def _payload(name: bytes, data: bytes) -> bytes | None:
    """The payload of an entry, or None if a bit of it is not as it was written."""
    if len(data) < _HEAD.size:
        return None
    magic, crc, owner, length = _HEAD.unpack_from(data)
    if magic != _MAGIC or owner != name or length != len(data) - _HEAD.size:
        return None
    return data[_HEAD.size :] if google_crc32c.value(data[_CRC_FROM:]) == crc else None
