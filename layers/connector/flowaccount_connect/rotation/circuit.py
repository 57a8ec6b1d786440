"""Stops the stack from hammering FlowAccount while its own configuration is refused, and starts again by itself.

A wrong client secret, path or environment is refused alike for every connection, so after a few refusals in a row
nobody asks any more; once a minute one refresh is let through, and when FlowAccount accepts it, all are. The state is
one item of the table, `pk=CIRCUIT, sk=token-endpoint`; if that cannot be read, the circuit counts as closed, and so it
does at a time that no worker can have written: a hand or a wrong clock must not stop a stack for good.

Powertools has a circuit breaker, too; its store imports boto3, which was half of this function's cold start.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flowaccount_connect.domain.connection import Reason
from flowaccount_connect.rotation.outcomes import Refresh, RefreshOutcome
from flowaccount_connect.storage.dynamodb import (
    AttributeValue,
    Client,
    ConditionRefused,
    StoreUnavailable,
    call,
    n,
    number,
    s,
    text,
)

REFUSALS = 3
"""How many refusals in a row, seen by one process, open the circuit."""

RECOVERY = 60
"""Seconds until one refresh is let through again, and for how long it is waited for before another one is."""

CACHED = 10
"""Seconds for which a process trusts what it last read of the circuit."""

_ACCEPTED = frozenset(
    {
        RefreshOutcome.REFRESHED,
        RefreshOutcome.KEPT,
        RefreshOutcome.PENDING,
        RefreshOutcome.LOST,
        RefreshOutcome.REAUTHORIZATION_REQUIRED,
        RefreshOutcome.IMPORT_REFUSED,
    }
)
"""Outcomes after which FlowAccount certainly knew the client."""

_KEY = {"pk": s("CIRCUIT"), "sk": s("token-endpoint")}


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a process knows of the circuit: since when it is open (epoch seconds), `None` if it is not."""

    opened_at: int | None
    until: float
    """Until when that is trusted."""


class Circuit:
    """The circuit before the token endpoint, common to all workers of a stack. `client` is a DynamoDB client.

    Safe for several threads.
    """

    def __init__(self, client: Client, table: str, *, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._table = table
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: _Seen | None = None
        self._refusals = 0

    def run(self, connection_id: str, refresh: Callable[[], Refresh]) -> Refresh:
        """Run `refresh` unless the circuit is open; then nothing is claimed and nothing is sent.

        Raises what `refresh` raises.
        """
        opened_at = self._opened_at()
        if opened_at is not None and not self._let_through(opened_at):
            return Refresh(outcome=RefreshOutcome.CIRCUIT_OPEN, connection_id=connection_id)
        told: Refresh | None = None
        try:
            told = refresh()
        finally:
            if told is not None and told.outcome is RefreshOutcome.CONFIGURATION_ERROR:
                self._refused(trying=opened_at is not None)
            elif told is not None and _accepted(told):
                self._accepted(opened_at)
            elif opened_at is not None:
                # It says nothing for the configuration: the next one may try.
                self._update(opened_at, "REMOVE probe_until")
        return told

    def _opened_at(self) -> int | None:
        """Since when the circuit is open, as this process knows it."""
        with self._lock:
            if self._seen is None or self._seen.until <= self._clock():
                # At most one circuit late, so an eventually consistent read at half the price does.
                try:
                    answer = call(self._client.get_item, TableName=self._table, Key=_KEY, ConsistentRead=False)
                except StoreUnavailable:
                    # Remembered, too: a batch must not wait for a table that hangs one thread after the other.
                    answer = {}
                item = answer.get("Item") or {}
                opened_at = number(item, "opened_at") if text(item, "state") == "OPEN" else None
                credible = opened_at is not None and opened_at <= self._clock() + RECOVERY
                self._saw(opened_at if credible else None)
            return self._seen.opened_at if self._seen is not None else None

    def _saw(self, opened_at: int | None) -> None:
        self._seen = _Seen(opened_at, self._clock() + CACHED)

    def _let_through(self, opened_at: int) -> bool:
        """Whether this refresh is the one that tries: of all workers, one in `RECOVERY` seconds."""
        now = int(self._clock())
        return now >= opened_at + RECOVERY and self._update(
            opened_at,
            "SET probe_until = :until",
            # A comparison with what is missing, or no number, does not hold.
            "AND NOT (probe_until > :now AND probe_until <= :farthest)",
            {":until": n(now + RECOVERY), ":now": n(now), ":farthest": n(now + 2 * RECOVERY)},
        )

    def _refused(self, *, trying: bool) -> None:
        with self._lock:
            self._refusals += 1
            if not trying and self._refusals < REFUSALS:
                return
            now = int(self._clock())
            if self._write(
                "SET #state = :open, opened_at = :at REMOVE probe_until", "", {":open": s("OPEN"), ":at": n(now)}
            ):
                self._refusals = 0
                self._saw(now)

    def _accepted(self, opened_at: int | None) -> None:
        with self._lock:
            self._refusals = 0
        if opened_at is not None and self._update(
            opened_at, "SET #state = :closed REMOVE opened_at, probe_until", "", {":closed": s("CLOSED")}
        ):
            with self._lock:
                self._saw(None)

    def _update(
        self, opened_at: int, update: str, condition: str = "", values: Mapping[str, AttributeValue] | None = None
    ) -> bool:
        """Change the item while it is open since `opened_at`; whether that was done."""
        seen = {":open": s("OPEN"), ":at": n(opened_at)}
        return self._write(update, f"#state = :open AND opened_at = :at {condition}", seen | dict(values or {}))

    def _write(self, update: str, condition: str, values: Mapping[str, AttributeValue]) -> bool:
        conditional = {"ConditionExpression": condition} if condition else {}
        try:
            call(
                self._client.update_item,
                TableName=self._table,
                Key=_KEY,
                UpdateExpression=update,
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues=values,
                **conditional,
            )
        except (ConditionRefused, StoreUnavailable):
            return False
        return True


def _accepted(refresh: Refresh) -> bool:
    return refresh.outcome in _ACCEPTED and refresh.reason not in (Reason.EXPIRED, Reason.IN_DOUBT)
