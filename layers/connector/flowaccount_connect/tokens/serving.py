"""Serves a valid access token: from the table while it lives long enough, otherwise after a refresh."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowaccount_connect.domain.connection import REFRESH_FAILING, Connection, Sealed, Status, public_status, reconnect
from flowaccount_connect.domain.errors import ConnectionNotFound, KeyUnavailable
from flowaccount_connect.rotation.refresh_function import LONGEST_INVOCATION
from flowaccount_connect.storage.connections import ConnectionStore
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from flowaccount_connect.storage.sealing import CannotOpen, SealingUnavailable
from flowaccount_connect.tokens.demand import FORCED_EVERY, Demand, Turn
from flowaccount_connect.tokens.errors import (
    ReauthorizationRequired,
    RefreshedJustNow,
    SealedElsewhere,
    TokenUnavailable,
)

if TYPE_CHECKING:
    # A type alone, and its module has the ports of the whole rotation.
    from flowaccount_connect.rotation.ports import Sealer

LONGEST_MIN_TTL = 3_600
"""The greatest `min_ttl` that a caller may ask for, in seconds."""

DEFAULT_MIN_TTL = 300
"""The `min_ttl` of a caller that gives none, in seconds."""

FRESH = 60
"""Seconds. A token that is younger than this is not refreshed. It is served, unless its caller says it was rejected."""

_RESERVE = 8.0
"""The end of the invocation's time that is kept for opening the tokens, which may call KMS. Seconds."""

_TURN = 20
"""How long one caller's turn keeps others from invoking `refresh`, in seconds. A caller waits for less than this."""

_QUIET = 5
"""Seconds in which no caller invokes `refresh` again after one that changed nothing in the table."""

_TOKENS_KEPT = 1_024
"""The most access tokens in memory, one for each connection."""

_PAUSES = (0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An access token and its facts. Its repr does not show the token. `expires_in` in seconds, `expires_at` in epoch
    seconds."""

    access_token: str
    expires_in: int
    expires_at: int
    support_code: str
    environment: str
    generation: int
    status: str

    def __repr__(self) -> str:
        return f"Served(support_code={self.support_code!r}, generation={self.generation})"


class AccessTokens:
    """Opens access tokens and keeps the newest of each connection in memory. The least recently used are dropped first.

    If the sealed set in the table differs from the one in memory, it is opened again.
    """

    def __init__(self, sealer: "Sealer", kept: int = _TOKENS_KEPT) -> None:
        self._sealer = sealer
        self._kept = kept
        self._opened: OrderedDict[str, tuple[str, Sealed, str]] = OrderedDict()

    def open(self, connection_id: str, grant_id: str, sealed: Sealed) -> str:
        """The access token of a sealed set. Raises `SealingUnavailable`, `CannotOpen`."""
        known = self._opened.get(connection_id)
        if known is None or known[:2] != (grant_id, sealed):
            token = self._sealer.open(sealed, owner=connection_id, grant_id=grant_id).access_token
            known = self._opened[connection_id] = (grant_id, sealed, token)
        self._opened.move_to_end(connection_id)
        while len(self._opened) > self._kept:
            self._opened.popitem(last=False)
        return known[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Serves access tokens."""

    store: ConnectionStore
    tokens: AccessTokens
    demand: Demand
    refresh: Callable[[str, int], int]
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    def token(
        self,
        connection_id: str,
        *,
        min_ttl: int = DEFAULT_MIN_TTL,
        rejected_generation: int | None = None,
        reconnect_url: str | None = None,
        remaining: Callable[[], float],
    ) -> Served:
        """The connection's access token, with at least `min_ttl` seconds left if a refresh can bring that.

        `rejected_generation` is the generation whose token FlowAccount refused. If it is still the stored one, the
        token is refreshed first. A living token is served even if its refresh fails; then its status is
        `refresh_failing`. `remaining` gives the seconds left of the invocation.

        Raises `ConnectionNotFound`. Raises `ReauthorizationRequired` if only a new consent helps. Raises
        `TokenUnavailable`, `RefreshedJustNow`, `KeyUnavailable` or `StoreUnavailable` if only time helps, and
        `SealedElsewhere` if the operator has to act.
        """
        connection = self._read(connection_id)
        now = int(self.clock())
        rejected = rejected_generation == connection.generation
        age = now - connection.requested_at
        # A commit by a clock that is far ahead is not fresh for ever.
        fresh = -FRESH < age < FRESH
        if rejected and connection.status is Status.ACTIVE and fresh:
            raise RefreshedJustNow(retry_after=max(FRESH - age, 1))
        left = connection.access_expires_at - now
        if not rejected and (left >= max(min_ttl, 1) or (left > 0 and fresh)):
            return self._serve(connection, reconnect_url)
        found, wait = self._refreshed(connection, rejected, remaining)
        return self._serve(found, reconnect_url, failed=found.generation == connection.generation, wait=wait)

    def _read(self, connection_id: str) -> Connection:
        connection = self.store.get(connection_id)
        if connection is None or connection.status is Status.DISCONNECTED:
            raise ConnectionNotFound
        return connection

    def _refreshed(
        self, seen: Connection, forced: bool, remaining: Callable[[], float]
    ) -> tuple[Connection, int | None]:
        """The connection after its refresh, or as it is when waiting no longer helps.

        In the second case the second value is the number of seconds after which another call can help, or `None` if
        nothing is known of it. One caller invokes `refresh`, and only while no attempt holds the connection. The other
        callers read the item at growing intervals.
        """
        connection, pauses = seen, iter(_PAUSES)
        turn: Turn | None = None
        try:
            while _awaited(connection, seen):
                now = int(self.clock())
                if not connection.leased(now):
                    if _held_back(connection, now):
                        break  # `refresh_at` of the item is the time of the next try.
                    mine = False
                    if _is_time_to_ask(remaining):
                        turn, mine = self.demand.take(seen.id, seen.generation, now=now, seconds=_TURN, forced=forced)
                    if mine and turn is not None and _is_time_to_ask(remaining):
                        wait = max(self.refresh(seen.id, seen.generation), _QUIET)
                        connection, now = self._read(seen.id), int(self.clock())
                        if not _awaited(connection, seen) or connection.leased(now):
                            continue
                        if remaining() > _RESERVE:
                            self.demand.answered(seen.id, turn, until=now + wait)
                        return connection, wait
                    if turn is None or turn.over(now):
                        if forced and turn is not None and now < turn.forced_at + FORCED_EVERY:
                            raise RefreshedJustNow(retry_after=max(turn.forced_at + FORCED_EVERY - now, 1))
                        return connection, max(turn.until - now, 0) if turn is not None else None
                if remaining() <= _RESERVE:
                    break
                self.sleep(min(next(pauses, _PAUSES[-1]), remaining() - _RESERVE))
                connection = self._read(seen.id)
        except StoreUnavailable:
            pass  # The connection that was read before can have a living token.
        return connection, None

    def _serve(
        self, connection: Connection, reconnect_url: str | None, *, failed: bool = False, wait: int | None = None
    ) -> Served:
        now = int(self.clock())
        left = connection.access_expires_at - now
        if left <= 0 or connection.sealed is None:
            if connection.status is Status.REAUTHORIZATION_REQUIRED:
                facts = {
                    "reason": connection.reason,
                    "since": connection.ended_at,
                    "reconnect": reconnect(connection.id, connection.tenant),
                }
                raise ReauthorizationRequired(
                    facts if reconnect_url is None else facts | {"reconnect_url": reconnect_url}
                )
            if wait is None and _held_back(connection, now):
                wait = (connection.refresh_at or 0) - now
            raise TokenUnavailable(retry_after=min(max(wait or 0, 2), 60))
        status = public_status(connection)
        try:
            access_token = self.tokens.open(connection.id, connection.grant_id, connection.sealed)
        except SealingUnavailable:
            raise KeyUnavailable from None
        except CannotOpen:
            raise SealedElsewhere from None
        return Served(
            access_token=access_token,
            expires_in=left,
            expires_at=connection.access_expires_at,
            support_code=connection.id,
            environment=connection.environment,
            generation=connection.generation,
            status=REFRESH_FAILING if status == Status.UNREADABLE or (failed and status == Status.ACTIVE) else status,
        )


def _awaited(connection: Connection, seen: Connection) -> bool:
    """Whether the refresh of the connection `seen` has not happened yet and still can."""
    return connection.status is Status.ACTIVE and connection.generation == seen.generation


def _is_time_to_ask(remaining: Callable[[], float]) -> bool:
    """Whether enough time remains to invoke `refresh` and wait for its end."""
    return remaining() >= LONGEST_INVOCATION + _RESERVE


def _held_back(connection: Connection, now: int) -> bool:
    """Whether a refresh has failed and its backoff has not ended yet."""
    return connection.retries is not None and connection.refresh_at is not None and connection.refresh_at > now
