"""What a store said last is there at once, and a new answer is waited for briefly."""

from __future__ import annotations

import threading
import time
from math import inf

import pytest

from tests.waiting import Clock, eventually
from znfs import deadline
from znfs.errors import StoreError
from znfs.lastsaid import LastSaid


def test_questions_are_brief_and_one_at_a_time():
    """They are waited for half a second, and end by themselves."""
    answer, asked = threading.Event(), []

    def ask() -> int:
        asked.append(deadline.left())
        answer.wait()
        return len(asked)

    last = LastSaid(ask, 0)
    deadline.begin(10)
    try:
        began = time.monotonic()
        assert last.get() == 0
        assert 0.4 < time.monotonic() - began < 5
        again = time.monotonic()
        assert last.get() == 0
        assert time.monotonic() - again < 0.4
        assert asked == [pytest.approx(10, abs=0.4)]
        answer.set()
        eventually(lambda: last._ended is None)
        assert last.get() == 2
    finally:
        answer.set()
        deadline.begin(inf)
    assert last.get() == 3
    assert asked[2] == inf


def test_a_store_that_does_not_answer_is_left_alone(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("znfs.lastsaid.time", clock)
    asked: list[float] = []

    def ask() -> str:
        asked.append(clock.now)
        if len(asked) == 2:
            raise StoreError("down")
        return f"answer {len(asked)}"

    last = LastSaid(ask, "none")
    assert last.get() == "answer 1"
    assert [last.get(), last.get()] == ["answer 1"] * 2
    assert len(asked) == 2
    clock.now += 10.1
    assert last.get() == "answer 3"
    last.pause()
    assert last.get() == "answer 3"


def test_what_is_asked_once_is_asked_anew_on_demand():
    asked: list[int] = []

    def ask() -> int:
        asked.append(len(asked))
        if len(asked) == 2:
            last.ask_anew()  # as a refresh that overtakes the answer
        return len(asked)

    last = LastSaid(ask, 0, once=True)
    assert [last.get(), last.get()] == [1, 1]
    last.ask_anew()
    assert last.get() == 1
    assert [last.get(), last.get()] == [3, 3]


def test_a_failure_that_is_overtaken_does_not_count_either():
    """Whoever refreshes a store that refuses has given it other credentials."""
    asked: list[int] = []

    def ask() -> int:
        asked.append(len(asked))
        if len(asked) == 1:
            last.ask_anew()
            raise StoreError("refused")
        return len(asked)

    last = LastSaid(ask, 0, once=True)
    assert [last.get(), last.get()] == [0, 2]
