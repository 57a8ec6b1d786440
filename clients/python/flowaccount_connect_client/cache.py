"""Tokens are kept for the whole process. Threads that need the same one meet in one request: the first of them asks.

What the stack answers is for all who wait. Anything else that ends the request (an interrupt, a lack of memory, a time
limit of the thread that asks) concerns that thread alone: another of those who wait asks instead. Patience is nobody's
but the caller's: one request is made here, repetitions are the callers' own.
"""

import copy
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from flowaccount_connect_client.errors import FlowAccountConnectError
from flowaccount_connect_client.results import AccessToken

_TOKENS_KEPT = 10_000
"""Connections whose tokens a process remembers."""

_LONGEST_REQUEST = 90.0
"""Seconds after which nobody waits for a request of another thread any more."""


class _Flight:
    """One request that others wait for."""

    def __init__(self) -> None:
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

    def get(self, fetch: Callable[[], AccessToken], good: Callable[[AccessToken], bool]) -> AccessToken:
        """The token that is kept if it is `good`, else the one that `fetch` brings; raises what that raises."""
        while True:
            with self._lock:
                if self._token is not None and good(self._token):
                    return self._token
                flight, mine = self._flight, self._flight is None
                if flight is None:
                    flight = self._flight = _Flight()
            if mine:
                return self._fly(flight, fetch)
            if not flight.done.wait(_LONGEST_REQUEST):
                self._end(flight)
            if flight.error is not None:
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
_kept: OrderedDict[Hashable, Kept] = OrderedDict()


def of(key: Hashable) -> Kept:
    """What this process keeps under a key; the least recently used go first."""
    with _lock:
        kept = _kept.setdefault(key, Kept())
        _kept.move_to_end(key)
        while len(_kept) > _TOKENS_KEPT:
            _kept.popitem(last=False)
        return kept


def drop(key: Hashable) -> None:
    """Forget what is kept under a key."""
    with _lock:
        _kept.pop(key, None)


def forget() -> None:
    """Forget all tokens of this process. A child process begins so: what its parent asked for never arrives there."""
    global _lock  # noqa: PLW0603 - one for a process
    _lock = threading.Lock()
    _kept.clear()


if hasattr(os, "register_at_fork"):  # Windows has no fork.
    os.register_at_fork(after_in_child=forget)
