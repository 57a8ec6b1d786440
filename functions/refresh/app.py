"""The refresh queue, and direct invocations on demand: refreshes connections by the rotation protocol."""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from flowaccount_connect import wiring
from flowaccount_connect.dynamodb import StoreUnavailable
from flowaccount_connect.identifiers import is_connection_id
from flowaccount_connect.observability import COUNT, MILLISECONDS, fault, logger, metrics, observed
from flowaccount_connect.rotation import Refresh, RefreshOutcome

_rotation, _circuit, _endpoint = wiring.refresh()

_ALARMING = frozenset(
    {
        RefreshOutcome.LOST,
        RefreshOutcome.CONFIGURATION_ERROR,
        RefreshOutcome.NOT_PREPARED,
        RefreshOutcome.SALVAGED,
    }
)


@observed
def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """A batch of the queue is answered with its partial failures, a direct invocation with what became of it."""

    def remaining() -> float:
        return float(context.get_remaining_time_in_millis()) / 1000

    try:
        if "Records" in event:
            return _batch(event["Records"], remaining)
        return _on_demand(event, remaining)
    finally:
        _endpoint.close()


def _batch(records: list[Mapping[str, Any]], remaining: Callable[[], float]) -> dict[str, Any]:
    """Refresh what is due of a batch, at the same time; what met an unreachable table is delivered again."""

    def run(record: Mapping[str, Any]) -> Refresh | str | None:
        try:
            connection_id = json.loads(record["body"])["connection_id"]
        except (ValueError, KeyError, TypeError, RecursionError):
            connection_id = None
        if not is_connection_id(connection_id):
            # It would be no better the next time; the dead-letter queue is for what may be driven back.
            logger.error("not a message of the refresh queue", extra={"message_id": record.get("messageId")})
            return None
        try:
            refresh = _refresh(connection_id, None, remaining)
            # At once: a batch that is killed shows what it had done.
            _log(refresh)
            return refresh
        except StoreUnavailable as error:
            logger.error("the claim was not acknowledged", extra={"connection_id": connection_id, "error": str(error)})
        except Exception as error:
            logger.error("unexpected", extra={"connection_id": connection_id, **fault(error)})
        return str(record.get("messageId"))

    with ThreadPoolExecutor(max(len(records), 1)) as pool:
        done = list(pool.map(run, records))
    # Counted here, since metrics are not safe for several threads.
    for refresh in done:
        if isinstance(refresh, Refresh):
            _count(refresh)
    return {"batchItemFailures": [{"itemIdentifier": one} for one in done if isinstance(one, str)]}


def _on_demand(event: Mapping[str, Any], remaining: Callable[[], float]) -> dict[str, Any]:
    """`{"connection_id": …}` refreshes what is due; with `generation`, what is still of that generation."""
    connection_id, generation = event.get("connection_id"), event.get("generation")
    if not isinstance(connection_id, str) or not is_connection_id(connection_id):
        return {"error": "invalid_connection_id", "detail": "connection_id must be a supportCode."}
    if generation is not None and (not isinstance(generation, int) or isinstance(generation, bool)):
        return {"error": "invalid_generation", "detail": "generation must be a whole number, or absent."}
    try:
        refresh = _refresh(connection_id, generation, remaining)
    except StoreUnavailable as error:
        logger.error("the claim was not acknowledged", extra={"connection_id": connection_id, "error": str(error)})
        return {
            "error": "store_unavailable",
            "detail": "The table cannot be written at the moment. Try again.",
        }
    except Exception as error:
        logger.error("unexpected", extra={"connection_id": connection_id, **fault(error)})
        return {"error": "internal_error", "detail": "This is a fault of the stack; its log tells where."}
    _log(refresh)
    _count(refresh)
    return {
        "outcome": refresh.outcome.value,
        "connection_id": connection_id,
        "generation": refresh.generation,
    }


def _refresh(connection_id: str, generation: int | None, remaining: Callable[[], float]) -> Refresh:
    return _circuit.run(
        connection_id, lambda: _rotation.refresh(connection_id, generation=generation, remaining=remaining)
    )


def _log(refresh: Refresh) -> None:
    """One structured line for each refresh."""
    facts = {name: value for name, value in asdict(refresh).items() if value is not None}
    if refresh.outcome in _ALARMING or refresh.reason is not None:
        logger.error("refresh", extra=facts)
    else:
        logger.info("refresh", extra=facts)


def _count(refresh: Refresh) -> None:
    """The metrics of one refresh."""
    name = "".join(word.capitalize() for word in refresh.outcome.value.split("_"))
    metrics.add_metric(f"Refresh{name}", COUNT, 1)
    if refresh.outcome in (RefreshOutcome.CONFIGURATION_ERROR, RefreshOutcome.CIRCUIT_OPEN):
        # The one to alarm on: it goes on for as long as the configuration is refused, and ends with it.
        metrics.add_metric("ConfigurationRefused", COUNT, 1)
    if refresh.exchange_ms is not None:
        metrics.add_metric("ExchangeLatency", MILLISECONDS, refresh.exchange_ms)
