"""Stops the stack from hammering FlowAccount while its own configuration is refused, and starts again by itself.

A wrong client secret, path or environment is refused alike for every connection, so after a few refusals in a row
nobody asks any more; once a minute one refresh is let through, and when FlowAccount accepts it, all are. The state is
one item of the table (Powertools' circuit breaker keeps it); if that cannot be read, the circuit counts as closed.
"""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.circuit_breaker import CircuitBreakerConfig, circuit_breaker
from aws_lambda_powertools.utilities.circuit_breaker.persistence import CircuitBreakerDynamoDBPersistence

from flowaccount_connect.connection import Reason
from flowaccount_connect.rotation import Refresh, RefreshOutcome

REFUSALS = 3
"""How many refusals in a row, seen by one process, open the circuit."""

RECOVERY = 60
"""Seconds until one refresh is let through again."""

CACHED = 10
"""Seconds for which a process trusts what it last read of the circuit."""

_ACCEPTED = frozenset(
    {
        RefreshOutcome.REFRESHED,
        RefreshOutcome.KEPT,
        RefreshOutcome.SALVAGED,
        RefreshOutcome.LOST,
        RefreshOutcome.REAUTHORIZATION_REQUIRED,
    }
)
"""Outcomes after which FlowAccount certainly knew the client."""


class _Unaccepted(Exception):
    """Carries a refresh past the breaker that says nothing for the configuration."""

    def __init__(self, refresh: Refresh) -> None:
        super().__init__(refresh.outcome.value)
        self.refresh = refresh


class _ConfigurationRefused(_Unaccepted):
    """FlowAccount refused the client, the path or the scope: the one thing that counts against the circuit."""


class _Persistence(CircuitBreakerDynamoDBPersistence):
    """Keeps the circuit in the stack's table, and out of the way where that cannot be written."""

    def try_acquire_half_open(self, name: str, owner: str, opened_at: int) -> bool:
        """Whether this process may try first; not while the table does not take its word."""
        try:
            return super().try_acquire_half_open(name, owner, opened_at)
        except Exception:
            return False


class Circuit:
    """The circuit before the token endpoint, common to all workers of a stack. `client` is a DynamoDB client."""

    def __init__(self, client: Any, table: str) -> None:
        persistence = _Persistence(
            table_name=table,
            key_attr="pk",
            static_pk_value="CIRCUIT",
            sort_key_attr="sk",
            expiry_attr="ttl",
            boto3_client=client,
        )
        guard = circuit_breaker(
            name="token-endpoint",
            persistence_store=persistence,
            on_circuit_open=_open,
            config=CircuitBreakerConfig(
                failure_threshold=REFUSALS,
                recovery_timeout=RECOVERY,
                success_threshold=1,
                handled_exceptions=_ConfigurationRefused,
                local_cache_max_age=CACHED,
            ),
        )
        self._guarded: Callable[[str, Callable[[], Refresh]], Refresh] = guard(_judged)

    def run(self, connection_id: str, refresh: Callable[[], Refresh]) -> Refresh:
        """Run `refresh` unless the circuit is open; then nothing is claimed and nothing is sent.

        Raises what `refresh` raises.
        """
        try:
            return self._guarded(connection_id, refresh)
        except _Unaccepted as unaccepted:
            return unaccepted.refresh


def _judged(_connection_id: str, run: Callable[[], Refresh]) -> Refresh:
    refresh = run()
    if refresh.outcome is RefreshOutcome.CONFIGURATION_ERROR:
        raise _ConfigurationRefused(refresh)
    if refresh.outcome not in _ACCEPTED or refresh.reason in (Reason.EXPIRED, Reason.IN_DOUBT):
        raise _Unaccepted(refresh)
    return refresh


def _open(connection_id: str, _run: Callable[[], Refresh], **_circuit: object) -> Refresh:
    return Refresh(outcome=RefreshOutcome.CIRCUIT_OPEN, connection_id=connection_id)
