"""Tokens are kept for the whole process. Threads that need the same one meet in one request: the first of them asks.

What the stack answers is for all who wait. Anything else that ends the request (an interrupt, a lack of memory, a time
limit of the thread that asks) concerns that thread alone: another of those who wait asks instead. Patience is nobody's
but the caller's: one request is made here, repetitions are the callers' own.
"""

import copy
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from flowaccount_connect_client.errors import FlowAccountConnectError
from flowaccount_connect_client.results import AccessToken

_TOKENS_KEPT = 10_000
"""Connections whose tokens a process remembers."""

_LONGEST_REQUEST = 90.0
"""Seconds after which nobody waits for a request of another thread any more."""


class _Flight:
    """One request that others wait for. `asks` is what it asks for: its error is for those alone who ask the same."""

    def __init__(self, asks: Hashable) -> None:
        self.asks = asks
        self.done = threading.Event()
        self.token: AccessToken | None = None
        self.error: FlowAccountConnectError | None = None


class Kept:
    """The newest token of one connection, and the one request for the next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token: AccessToken | None = None
        self._flight: _Flight | None = None

    def living(self) -> AccessToken | None:
        """The token that is kept, if it can still be sent."""
        with self._lock:
            return self._token if self._token is not None and self._token.lives(time.time()) else None

    def get(
        self, fetch: Callable[[], AccessToken], good: Callable[[AccessToken], bool], asks: Hashable = None
    ) -> AccessToken:
        """The token that is kept if it is `good`, else the one that `fetch` brings; raises what that raises. `asks`
        says what `fetch` asks for."""
        while True:
            with self._lock:
                if self._token is not None and good(self._token):
                    return self._token
                flight, mine = self._flight, self._flight is None
                if flight is None:
                    flight = self._flight = _Flight(asks)
            if mine:
                return self._fly(flight, fetch)
            if not flight.done.wait(_LONGEST_REQUEST):
                self._end(flight)
            if flight.error is not None and flight.asks == asks:
                raise copy.copy(flight.error)
            if flight.token is not None and good(flight.token):
                return flight.token

    def _fly(self, flight: _Flight, fetch: Callable[[], AccessToken]) -> AccessToken:
        try:
            flight.token = found = fetch()
            with self._lock:
                kept = self._token
                if kept is None or found.generation >= kept.generation or not kept.lives(time.time()):
                    self._token = found
            return found
        except FlowAccountConnectError as error:
            flight.error = error
            raise
        finally:
            self._end(flight)

    def _end(self, flight: _Flight) -> None:
        with self._lock:
            if self._flight is flight:
                self._flight = None
        flight.done.set()


_lock = threading.Lock()
_Store = OrderedDict[Hashable, Kept]
_kept: _Store = OrderedDict()
_of_owners: "weakref.WeakKeyDictionary[Any, _Store]" = weakref.WeakKeyDictionary()


def _store(owner: Any) -> _Store:
    return _kept if owner is None else _of_owners.setdefault(owner, OrderedDict())


def of(key: Hashable, owner: Any = None) -> Kept:
    """What this process keeps under a key; the least recently used go first. With an `owner`, a session of the app's
    own, it is kept as long as that object lives."""
    with _lock:
        store = _store(owner)
        kept = store.setdefault(key, Kept())
        store.move_to_end(key)
        while len(store) > _TOKENS_KEPT:
            store.popitem(last=False)
        return kept


def drop(key: Hashable, owner: Any = None) -> None:
    """Forget what is kept under a key."""
    with _lock:
        _store(owner).pop(key, None)


def forget() -> None:
    """Forget all tokens of this process. A child process begins so: what its parent asked for never arrives there."""
    global _lock  # noqa: PLW0603 - one for a process
    _lock = threading.Lock()
    _kept.clear()
    _of_owners.clear()


if hasattr(os, "register_at_fork"):  # Windows has no fork.
    os.register_at_fork(after_in_child=forget)
