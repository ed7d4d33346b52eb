"""The block cache: the one place of locks, shared by every view of a mount.

What it promises:

- Bounded: what it holds and what is being loaded stay together within `limit` bytes. A value
  larger than that is handed to those who wait for it and dropped.
- Single flight: a key is loaded once however many threads want it. The thread that asked first
  runs the load itself, never behind a queue; a load that is still queued (a prefetch) is taken
  over by the first thread that needs it. A load may call `get` itself (a chunk needs its shard's
  index): nested loads are not made to wait for room, so they cannot deadlock. All others get room
  in the order in which they came for it.
- An error is handed to those who waited for that load and is not kept.
- What a reader is about to ask for goes before what is loaded ahead. On a slow line, no more of
  either is begun in the background than it brings at once (`znfs.line`).
- Nobody waits longer than their operation has left (`znfs.deadline`), counted from the last answer
  to what they wait for; the load goes on.

Atomic under the lock: look-up with claim; publish with removal from the flights. Loads run
outside it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from math import inf
from typing import Any

from znfs import deadline
from znfs.cache.recency import Recency, cost
from znfs.errors import StoreError
from znfs.line import Line
from znfs.redaction import redact

log = logging.getLogger(__name__)

Value = Any
LoadMany = Callable[[Sequence[Hashable]], Iterable[tuple[Hashable, Value]]]

# On a slow line, what waits to be loaded ahead comes in about this time: who stops has paid for it.
_AHEAD_SECONDS = 4.0
_NOT_FAR = nullcontext()


class _Batch:
    """Loads that one call makes together. `flights` are those still without an answer."""

    __slots__ = (
        "ahead_of", "claimed", "flights", "load", "nbytes", "operation", "queued", "reserved",
        "urgent",
    )  # fmt: skip

    def __init__(self, load: LoadMany, nbytes: int) -> None:
        self.load = load
        self.nbytes = nbytes
        self.reserved = 0  # of these bytes, while it runs
        self.ahead_of: object = None  # the reader who has not come so far yet
        self.claimed = False
        self.queued = False
        self.urgent = False  # a load that has room waits for it
        self.operation = deadline.operation()  # of the thread that runs it, once claimed
        self.flights: dict[Hashable, _Flight] = {}


class _Flight:
    """One key's load. `done` is made by the first who waits for it: of most loads nobody does,
    and an event takes as long to make as all else here."""

    __slots__ = ("batch", "done", "error", "value")

    def __init__(self, batch: _Batch) -> None:
        self.batch = batch
        self.done: threading.Event | None = None
        self.value: Value = None
        self.error: BaseException | None = None


class BlockCache:
    """Values under hashable keys; every key holds its node's version. See Recency for what goes
    first."""

    def __init__(self, limit: int, workers: int = 4, *, line: Line | None = None) -> None:
        """`workers` loads run at most in the background; with a `line` to a distant store, their
        parts run side by side too, for they mostly wait for it."""
        self.limit = limit
        self.far = line is not None
        self._line = line
        self._values = Recency(limit)
        self._flights: dict[Hashable, _Flight] = {}
        self._loading = 0  # bytes reserved by loads that run
        self._queued = 0  # bytes of prefetches not begun
        self._landed = 0  # values that loads have brought
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._waiting: deque[_Batch] = deque()  # for room, the first to come first
        # Prefetches not begun, some taken over by a reader: wanted now, and ahead of all readers.
        self._prefetches: deque[_Batch] = deque()
        self._aheads: deque[_Batch] = deque()
        self._runners = 0  # threads that run them
        self._ahead_seconds = 0.0  # that a prefetch ahead takes, of late
        self._helpers = 0  # threads that run parts of loads
        self._held_back = False  # whether there would be more of either on a wider line
        self._nested = threading.local()
        self._generation = 0
        self.workers = workers
        self._closed = False
        self.on_evict: Callable[[Hashable, Value], None] | None = None
        self._evicted: list[tuple[Hashable, Value]] = []
        self._pool: ThreadPoolExecutor | None = None
        self._parts: ThreadPoolExecutor | None = None
        self.hits = self.misses = self.evictions = self.prefetched = self.errors = 0
        self.last_errors: deque[tuple[float, str]] = deque(maxlen=20)

    def get(self, key: Hashable, nbytes: int, load: Callable[[], Value]) -> Value:
        """The value of `key`, loaded by `load()` if need be; `nbytes` is what it will about take.

        Raises what `load` raises.
        """
        mine: _Batch | None = None
        done = None
        try:
            with self._lock:
                try:
                    value = self._values[key]
                    self.hits += 1
                    return value
                except KeyError:
                    pass
                flight = self._flights.get(key)
                if flight is None:
                    self.misses += 1
                    flight = self._enlist([(key, nbytes)], lambda keys: ((k, load()) for k in keys))
                if not flight.batch.claimed:
                    mine = flight.batch
                    self._claim(mine)
                else:
                    done = flight.done = flight.done or threading.Event()
                    if getattr(self._nested, "depth", 0):
                        flight.batch.urgent = True
                        self._room.notify_all()
            if mine is not None:
                self._run(mine)
        except BaseException as error:
            if mine is not None:  # an interrupt, before it ran: nobody else would
                self._end(mine, error)
            raise
        if done is not None and not deadline.wait_for(done, flight.batch.operation):
            raise StoreError("what another reader is loading did not come in time")
        try:
            if flight.error is not None:
                raise flight.error
            return flight.value
        finally:
            # An error keeps the frames that it went through. Were it kept by one of them, memory
            # that the load took would not come back before the next collection of garbage.
            del flight

    def prefetch(
        self, items: Iterable[tuple[Hashable, int]], load: LoadMany, *, ahead_of: object = None
    ) -> bool:
        """Have those of `items` (key, nbytes) that are missing loaded in the background, together.
        They are for a read that is under way, or for where the reader `ahead_of` may come next.

        `load(keys)` yields (key, value) as they come. What would take more than half the cache
        with all that is under way is left out, and what a slow line would bring late; the answer is
        then False. Never waits.
        """
        with self._lock:
            if self._closed or not self.workers:
                return False
            if (self._prefetches or self._aheads) and not self._runners:
                self._add_runner()  # there was no thread, or no room on the line, before
            if ahead_of is not None and self._is_late():
                return False
            missing, total, room = [], 0, True
            budget = self.limit // 2 - self._loading - self._queued
            for key, nbytes in items:
                if key in self._values or key in self._flights:
                    continue
                total += nbytes
                if total > budget:
                    room = False
                    break
                missing.append((key, nbytes))
            if not missing:
                return room
            batch = self._enlist(missing, load).batch
            batch.ahead_of = ahead_of
            (self._prefetches if ahead_of is None else self._aheads).append(batch)
            batch.queued, self._queued = True, self._queued + batch.nbytes
            self.prefetched += len(missing)
            self._add_runner()
        return room

    def recall(self, reader: object) -> None:
        """Load nothing more ahead of `reader`, who has gone elsewhere."""
        with self._lock:
            for batch in self._aheads:
                if batch.ahead_of is reader and not batch.claimed:
                    self._claim(batch)  # nobody waits for it: who does takes it over
                    for key, flight in batch.flights.items():
                        self._land(key, flight)

    def spread(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run `tasks`, parts of one load, and wait for them; side by side if the store is far.

        The first error is raised once all have ended.
        """
        if not tasks:
            return
        left = deque(tasks)
        ended, most = count(1), len(tasks)
        over = threading.Lock()  # held until all have ended
        helpers: list[Future[None]] = []
        errors: list[BaseException] = []
        is_held_back = False

        def run() -> None:
            nonlocal is_held_back
            while True:
                try:
                    task = left.popleft()
                except IndexError:
                    return
                try:
                    task()
                except BaseException as error:
                    errors.append(error)
                finally:
                    if next(ended) == most:
                        over.release()
                if self._held_back:
                    self._begin_held_back()
                if is_held_back:  # others may have been the first to see that there is room now
                    is_held_back = not self._begin_parts(run, len(left), helpers)

        over.acquire()
        if self.far:
            is_held_back = not self._begin_parts(run, most - 1, helpers)
        run()
        for helper in helpers:
            if helper.cancel():
                self._end_helper()
        # For tasks, not for helpers: a pool that had no thread for one keeps it, and may run it
        # yet. For all at once: each that woke this thread took 60 µs.
        over.acquire()
        try:
            if errors:
                raise errors[0]
        finally:
            errors.clear()  # as in `get`

    def _begin_parts(self, run: Callable[[], None], most: int, into: list[Future[None]]) -> bool:
        """Have up to `most` other threads call `run` for the load that this thread is about. False
        if there would be more of them with more room on the line."""

        def part() -> None:
            # The load has room already: what its parts load themselves must not wait for it to end.
            self._nested.depth = 1
            try:
                with self._on_line():
                    run()
            finally:
                self._nested.depth = 0
                self._end_helper()
                if self._held_back:
                    self._begin_held_back()

        carried = deadline.carried(part)
        with self._lock:
            if self._parts is None and self.workers and not self._closed:
                self._parts = ThreadPoolExecutor(self.workers, "znfs-part")
            pool = self._parts
        try:
            while pool is not None and len(into) < self.workers and most > 0:
                with self._lock:
                    if not self._has_room():
                        return False
                    self._helpers += 1
                into.append(pool.submit(carried))
                most -= 1
        except RuntimeError as error:  # no thread is to be had, or the cache was closed
            log.debug("parts of a load run one after another: %s", error)
            self._end_helper()
        return True

    def _end_helper(self) -> None:
        with self._lock:
            # Not below 0: one for whom there was no thread may run after all.
            self._helpers = max(0, self._helpers - 1)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def expects(self, key: Hashable) -> bool:
        """Whether the value of `key` is here, or being loaded."""
        return key in self._values or key in self._flights

    def peek(self, key: Hashable, *, passing: bool = False) -> tuple[Value] | None:
        """The value of `key` in a tuple if it is here, counted as a hit; else None. With `passing`,
        it is passed by as well."""
        with self._lock:
            try:
                value = self._values[key]
            except KeyError:
                return None
            self.hits += 1
            if passing:
                self._values.pass_by(key)
            return (value,)

    def pass_by(self, key: Hashable) -> None:
        """A reader has passed the value of `key` who will want all others before it again."""
        with self._lock:
            self._values.pass_by(key)

    def retire(self, key: Hashable) -> None:
        """Let the value of `key` go early: it was read through."""
        with self._lock:
            self._values.retire(key)

    def forget(self, key: Hashable) -> None:
        """Drop one value, if it is here."""
        with self._lock:
            self._values.pop(key, None)

    def clear(self) -> None:
        """Drop everything; what is being loaded is handed out but not kept."""
        with self._lock:
            self._forget_all()

    def status(self) -> dict[str, Any]:
        """Counters, for status.json."""
        with self._lock:
            return {
                "bytes": self._values.currsize,
                "limit": self.limit,
                "entries": len(self._values),
                "loading_bytes": self._loading,
                "hits": self.hits,
                "misses": self.misses,
                "prefetched": self.prefetched,
                "evictions": self.evictions,
                "errors": self.errors,
                "last_errors": [{"time": t, "error": e} for t, e in self.last_errors],
            }

    def close(self) -> None:
        """Drop everything, and stop prefetching; loads under way end in their own time."""
        with self._lock:
            self._closed = True
            # Now, for arrays and their bands hold each other, and so all of this, until the next
            # collection of garbage.
            self._forget_all()
            pools = [pool for pool in (self._pool, self._parts) if pool is not None]
            self._pool = self._parts = None
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)

    def _run_prefetches(self) -> None:
        """Run what is queued until nothing is. To submit each load by itself took a sixth of the
        interpreter's time in a walk over cheap chunks."""
        try:
            while batch := self._next_prefetch():
                began = time.monotonic()
                self._run(batch)
                if batch.ahead_of is not None:
                    self._ahead_seconds += (time.monotonic() - began - self._ahead_seconds) / 4
        except BaseException:
            with self._lock:
                self._runners -= 1
            raise

    def _next_prefetch(self) -> _Batch | None:
        """What to run next, claimed; None ends the runner, which is then no longer counted."""
        deadline.begin(inf)
        with self._lock:
            while (self._prefetches or self._aheads) and not self._closed:
                if self._is_crowded():
                    self._held_back = True
                    break
                batch = (self._prefetches or self._aheads).popleft()
                if not batch.claimed:  # by a reader who took it over
                    self._claim(batch)
                    return batch
            # Together with finding nothing, so that what is queued next gets another. Not below 0:
            # a runner for whom there was no thread at first is not counted, and may run after all.
            self._runners = max(0, self._runners - 1)
            return None

    def _run(self, batch: _Batch) -> None:
        """Load a claimed batch and hand out its values, or the error to those left without one."""
        nested = getattr(self._nested, "depth", 0)
        try:
            with self._lock:
                # What takes nothing never waits: nested loads may have gone beyond the limit, and
                # one of them may be waiting for just this.
                if not (nested or not batch.nbytes or self._wait_for_room(batch)):
                    raise StoreError("no room in the cache in time")
                self._reserve(batch, batch.nbytes)
                generation = self._generation
                self._shrink()
            self._nested.depth = nested + 1
            self._hand_on()
            with self._on_line():
                for key, value in batch.load(list(batch.flights)):
                    self._publish(batch, key, value, generation)
        except BaseException as error:
            self._end(batch, error)
            if not isinstance(error, Exception):
                raise  # KeyboardInterrupt and the like end the thread that runs the load
        else:
            self._end(batch, None)
        finally:
            self._nested.depth = nested
        if self._held_back:
            self._begin_held_back()

    def _end(self, batch: _Batch, error: BaseException | None) -> None:
        """Give back what the batch has reserved, and the error to those left without a value."""
        with self._lock:
            self._reserve(batch, 0)
            if batch in self._waiting:
                self._waiting.remove(batch)
            self._room.notify_all()
            for key, flight in batch.flights.items():
                if isinstance(error, Exception):
                    flight.error = error
                else:  # who is interrupted is the thread that runs the load, and no other
                    ended = "gave no answer" if error is None else "was interrupted"
                    flight.error = StoreError(f"{key}: the load {ended}")
                self._land(key, flight)
            batch.flights.clear()
            if isinstance(error, Exception):
                self._note(error)

    def _publish(self, batch: _Batch, key: Hashable, value: Value, generation: int) -> None:
        needs = cost(value)
        with self._lock:
            flight = batch.flights[key]
            self._reserve(batch, batch.reserved - batch.reserved // len(batch.flights))
            if generation == self._generation and needs <= self.limit - self._loading:
                self._shrink(needs)
                self._values[key] = value
            flight.value = value
            self._landed += 1
            self._room.notify_all()
            self._land(key, flight)
            del batch.flights[key]  # not before: should anything above fail, it gets the error
        self._hand_on()

    def _on_line(self) -> AbstractContextManager[object]:
        """While it is entered, this thread's requests tell what the line brings."""
        return _NOT_FAR if self._line is None else self._line.loads

    def _begin_held_back(self) -> None:
        """Have as many threads load what is queued as there is room for on the line by now."""
        with self._lock:
            self._held_back = False
            for _ in range(len(self._prefetches) + len(self._aheads)):
                self._add_runner()
                if self._held_back:
                    return

    def _hand_on(self) -> None:
        """Give what was evicted to `on_evict`, outside the lock."""
        while self._evicted and self.on_evict is not None:
            try:
                key, value = self._evicted.pop()
            except IndexError:  # another thread took it
                return
            self.on_evict(key, value)

    # The methods below are called with the lock held.

    def _forget_all(self) -> None:
        self._generation += 1
        self._values.clear()
        self._flights.clear()
        self._prefetches.clear()  # nobody waits for them: who does takes them over
        self._aheads.clear()
        self._queued = 0

    def _add_runner(self) -> None:
        """One more thread for what is queued, unless there are enough. If none can be had (a limit
        of processes, the interpreter shutting down), readers load what they need themselves."""
        if self._runners >= self.workers or not self._has_room():
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.workers, "znfs-load")
        try:
            self._pool.submit(self._run_prefetches)
        except RuntimeError as error:
            log.debug("nothing is loaded ahead: %s", error)
        else:
            self._runners += 1

    def _has_room(self) -> bool:
        """Whether one more thread may load in the background; if not, that is remembered. Those
        that were begun just now may have no request on the line yet."""
        if self._line is None:
            return True
        has = max(self._line.under_way, self._runners + self._helpers) < self._line.most()
        self._held_back = self._held_back or not has
        return has

    def _is_crowded(self) -> bool:
        """Whether more threads load in the background than the line has room for."""
        return self._line is not None and self._runners + self._helpers > self._line.most()

    def _is_late(self) -> bool:
        """Whether a slow line has enough to bring that nobody reads yet."""
        while self._aheads and self._aheads[0].claimed:
            self._aheads.popleft()
        if self._line is None or self._line.most() == inf:
            return False
        waits = len(self._aheads) * self._ahead_seconds
        return waits > _AHEAD_SECONDS * max(1, self._runners)

    def _reserve(self, batch: _Batch, nbytes: int) -> None:
        """The batch, which runs, has so many bytes from now on. Both at once, for interrupts."""
        batch.reserved, self._loading = nbytes, self._loading - batch.reserved + nbytes

    def _wait_for_room(self, batch: _Batch) -> bool:
        """Wait until `batch` is the first to come and fits; False if its time is over before, and
        no load has brought anything meanwhile. It then stays in the queue until it ends."""

        def may_go() -> bool:
            fits = not self._loading or self._loading + batch.nbytes <= self.limit
            return batch.urgent or (fits and self._waiting[0] is batch)

        self._waiting.append(batch)
        while not may_go():
            landed = self._landed
            if not self._room.wait(deadline.wait()) and not may_go():
                return False
            if self._landed > landed:
                deadline.progress()
        self._waiting.remove(batch)
        self._room.notify_all()
        return True

    def _land(self, key: Hashable, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.done is not None:
            flight.done.set()

    def _enlist(self, items: Sequence[tuple[Hashable, int]], load: LoadMany) -> _Flight:
        batch = _Batch(load, sum(nbytes for _, nbytes in items))
        for key, _ in items:
            batch.flights[key] = self._flights[key] = _Flight(batch)
        return batch.flights[items[0][0]]

    def _claim(self, batch: _Batch) -> None:
        """This thread will run the batch; who waits for it watches this thread's operation."""
        batch.claimed = True
        batch.operation = deadline.operation()
        if batch.queued:
            batch.queued = False
            self._queued -= batch.nbytes

    def _shrink(self, needs: int = 0) -> None:
        """Make room for the loads under way, and for a value that needs so many bytes."""
        while self._values and self._values.currsize + self._loading + needs > self.limit:
            evicted = self._values.popitem()
            self.evictions += 1
            if self.on_evict is not None:
                self._evicted.append(evicted)

    def _note(self, error: BaseException) -> None:
        self.errors += 1
        # Redacted, for what nobody foresaw may be a library's, and quote a URL.
        self.last_errors.append((time.time(), redact(f"{type(error).__name__}: {error}")))
