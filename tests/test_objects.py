"""When a client of obstore's, and with it its connections, is made anew."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from znfs.errors import StoreError
from znfs.stores.objects import ObjectStore


class Client:
    """A bucket of one object, or one that does not answer."""

    fails = False

    def head(self, path: str) -> dict[str, Any]:
        if self.fails:
            raise OSError("nobody there")
        return {"size": 1, "e_tag": '"1"', "last_modified": datetime(2020, 1, 1, tzinfo=UTC)}


def store_of(clients: list[Client], changed: list[bool] | None) -> ObjectStore:
    def connect() -> Any:
        clients.append(Client())
        return clients[-1]

    def no_other() -> Any:
        raise AssertionError("the key is a plain one")

    return ObjectStore(
        "s3://b", "", connect, no_other, None if changed is None else lambda: changed[0]
    )


@pytest.mark.parametrize(("changed", "made"), [([False], 1), ([True], 2), (None, 2)])
def test_a_refresh_keeps_connections_unless_credentials_may_have_changed(changed, made):
    clients: list[Client] = []
    store = store_of(clients, changed)
    assert store.stat("a")
    store.renew()
    assert store.stat("a")
    assert len(clients) == made


def test_a_refresh_makes_a_client_anew_that_failed():
    clients: list[Client] = []
    store = store_of(clients, [False])
    assert store.stat("a")
    clients[0].fails = True
    with pytest.raises(StoreError):
        store.stat("a")
    store.renew()
    assert store.stat("a")
    assert len(clients) == 2


def test_a_refresh_itself_asks_nobody():
    """Where credentials come from may take its time, or not answer."""
    changed: list[bool] = []  # to ask would be an IndexError
    store = store_of([], changed)
    assert store.stat("a")
    store.renew()
    changed.append(True)
    assert store.stat("a")
