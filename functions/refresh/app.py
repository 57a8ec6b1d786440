"""The refresh queue, and direct invocations on demand: refreshes connections by the rotation protocol."""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from flowaccount_connect.domain.connection import Reason
from flowaccount_connect.domain.ids import is_connection_id
from flowaccount_connect.rotation.canary import LONGEST
from flowaccount_connect.rotation.outcomes import Refresh, RefreshOutcome
from flowaccount_connect.rotation.permits import Kind
from flowaccount_connect.rotation.protocol import Rotation
from flowaccount_connect.rotation.time_left import TimeLeft
from flowaccount_connect.runtime import bootstrap
from flowaccount_connect.runtime.observability import COUNT, fault, logger, metrics, observed
from flowaccount_connect.runtime.settings import CONNECTIONS
from flowaccount_connect.scheduling.rate import Permit
from flowaccount_connect.storage.dynamodb import StoreUnavailable

_rotation, _imports, _health, _rate, _canary = bootstrap.refresh()

_workers = ThreadPoolExecutor(CONNECTIONS)
"""The threads of a batch, started when they are needed, and kept. Half as many as a batch has messages (`BatchSize`):
if all answers take 15 seconds, 19 refreshes are under way at 75 a minute. Each thread costs memory and connections."""

_AHEAD = 0.2
"""How long before its slot a refresh of the queue begins, so that it is ready to send by then. Seconds."""

_ALARMING = frozenset(
    {
        RefreshOutcome.LOST,
        RefreshOutcome.CONFIGURATION_ERROR,
        RefreshOutcome.NOT_PREPARED,
        RefreshOutcome.PENDING,
    }
)

_UNWELL = frozenset({RefreshOutcome.CONFIGURATION_ERROR, RefreshOutcome.UNWELL, RefreshOutcome.NOT_PREPARED})
"""Nothing was sent, or what was sent was refused for all connections alike."""

_UNANSWERED = frozenset({RefreshOutcome.NOT_SENT, RefreshOutcome.IN_DOUBT, RefreshOutcome.THROTTLED})
"""FlowAccount is away, gives no usable answer, or asks the stack to slow down."""

_LOST = frozenset({Reason.ROTATION_LOST, Reason.WRONG_CONNECTION})
"""FlowAccount issued new tokens, and this connection has none of them."""


@observed
def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """A batch of the queue is answered with its partial failures, a direct invocation with what became of it."""

    def remaining() -> float:
        return float(context.get_remaining_time_in_millis()) / 1000

    if "Records" in event:
        return _batch(event["Records"], remaining)
    if event.get("canary") is True:
        return _look()
    return _on_demand(event, remaining)


@dataclass(slots=True)
class _Message:
    """A connection to refresh, and the messages of the queue that named it."""

    connection_id: str
    rotation: Rotation
    urgent: bool
    message_ids: list[str]

    @property
    def kind(self) -> Kind:
        """Whom its request is for."""
        if self.rotation is _imports:
            return Kind.IMPORT
        return Kind.URGENT if self.urgent else Kind.SCHEDULED


def _batch(records: list[Mapping[str, Any]], remaining: Callable[[], float]) -> dict[str, Any]:
    """Refresh what is due of a batch, each in its slot. A message that met an unreachable table is delivered again.

    What gets no slot stays due, and the next tick finds it again. So does what no time is left for.
    """
    # What is urgent has the first slots, so it gets the first threads, too.
    messages = sorted(_messages(records), key=lambda one: not one.urgent)
    try:
        permitted = list(zip(messages, _permits(messages), strict=True))
    except StoreUnavailable as error:
        logger.error("the rate cannot be kept", extra={"error": str(error)})
        return _failed([one for message in messages for one in message.message_ids])

    def run(message: _Message, permit: Permit | None) -> Refresh | None:
        try:
            refresh = _in_its_slot(message, permit, remaining)
            # At once: a batch that is killed shows what it had done.
            _log(refresh)
            return refresh
        except StoreUnavailable as error:
            extra: dict[str, object] = {"connection_id": message.connection_id, "error": str(error)}
            logger.error("the claim was not acknowledged", extra=extra)
        except Exception as error:
            logger.error("unexpected", extra={"connection_id": message.connection_id, **fault(error)})
        return None

    # One alone, as most are, needs no thread.
    each = _workers.map if len(permitted) > 1 else map
    done = list(each(lambda one: run(*one), permitted))
    failed: list[str] = []
    for refresh, (message, _) in zip(done, permitted, strict=True):
        if refresh is None:
            failed += message.message_ids
        else:
            # Counted here, since metrics are not safe for several threads.
            _count(refresh)
    return _failed(failed)


def _permits(messages: list[_Message]) -> list[Permit | None]:
    """Permits for a batch, with their slots in one write. Raises `StoreUnavailable`.

    While the endpoint is unwell, hardly any message is sent. Then only what is urgent takes a slot beforehand.
    """
    if not _health.unwell:
        return _rate.permits([message.kind for message in messages])
    urgent = [message for message in messages if message.urgent]
    slots = dict(zip(map(id, urgent), _rate.permits([message.kind for message in urgent]), strict=True))
    return [slots[id(one)] if id(one) in slots else _rate.permit(one.kind) for one in messages]


def _messages(records: list[Mapping[str, Any]]) -> list[_Message]:
    """The messages of a batch; several for one connection are one."""
    found: dict[tuple[str, bool], _Message] = {}
    for record in records:
        try:
            body = json.loads(record["body"])
            connection_id, rotation, urgent = body["connection_id"], _rotation_of(body), body.get("urgent") is True
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            connection_id, rotation, urgent = None, _rotation, False
        if not is_connection_id(connection_id):
            # A repetition cannot help. The dead-letter queue is for messages that can be sent again.
            logger.error("not a message of the refresh queue", extra={"message_id": record.get("messageId")})
            continue
        key = (connection_id, rotation is _imports)
        message = found.setdefault(key, _Message(connection_id, rotation, urgent, []))
        message.urgent |= urgent
        message.message_ids.append(str(record.get("messageId")))
    return list(found.values())


def _in_its_slot(message: _Message, permit: Permit | None, remaining: Callable[[], float]) -> Refresh:
    """Wait for the slot before anything is claimed, so that waiting keeps nobody else from the connection."""
    if permit is None:
        return Refresh(outcome=RefreshOutcome.PACED, connection_id=message.connection_id)
    permit.wait(_AHEAD)
    # While the endpoint is unwell, a canary may go first. Without time for both the batch would be killed, and all of
    # it delivered again.
    first = LONGEST if _health.unwell and not message.urgent else 0.0
    if TimeLeft(lambda: remaining() - first).for_exchange() is None:
        return Refresh(outcome=RefreshOutcome.NO_TIME, connection_id=message.connection_id)
    return _refresh(message.rotation, message.connection_id, None, permit, remaining, urgent=message.urgent)


def _failed(message_ids: list[str]) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": one} for one in message_ids]}


def _on_demand(event: Mapping[str, Any], remaining: Callable[[], float]) -> dict[str, Any]:
    """`{"connection_id": …}` refreshes what is due; with `generation`, what is still of that generation; with
    `"import": true`, the import of that connection."""
    connection_id, generation = event.get("connection_id"), event.get("generation")
    if not is_connection_id(connection_id):
        return {"error": "invalid_connection_id", "detail": "connection_id must be a supportCode."}
    if generation is not None and (not isinstance(generation, int) or isinstance(generation, bool)):
        return {"error": "invalid_generation", "detail": "generation must be a whole number, or absent."}
    rotation = _rotation_of(event)
    permit = _rate.permit(Kind.IMPORT if rotation is _imports else Kind.CALLER)
    try:
        refresh = _refresh(rotation, connection_id, generation, permit, remaining)
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
    wait = {} if refresh.retry_after is None else {"retry_after": refresh.retry_after}
    return {
        "outcome": refresh.outcome.value,
        "connection_id": connection_id,
        "generation": refresh.generation,
    } | wait


def _look() -> dict[str, Any]:
    """`{"canary": true}` sends a refresh with a made-up token, and answers what that shows: whether the client secret
    can be used, and whether FlowAccount knows the client. No connection is touched."""
    heard = asdict(_canary.look())
    logger.info("canary", extra=heard)
    return heard


def _rotation_of(message: Mapping[str, Any]) -> Rotation:
    """An import is told apart by `"import": true`; to the protocol it is a connection like any other."""
    return _imports if message.get("import") is True else _rotation


def _refresh(
    rotation: Rotation,
    connection_id: str,
    generation: int | None,
    permit: Permit,
    remaining: Callable[[], float],
    *,
    urgent: bool = False,
) -> Refresh:
    def run() -> Refresh:
        return rotation.refresh(connection_id, generation=generation, permit=permit, remaining=remaining)

    return _health.run(connection_id, run, urgent=urgent)


def _log(refresh: Refresh) -> None:
    """One structured line for each refresh."""
    facts = {name: value for name, value in asdict(refresh).items() if value is not None}
    if refresh.outcome in _ALARMING or refresh.reason is not None:
        logger.error("refresh", extra=facts)
    else:
        logger.info("refresh", extra=facts)


def _count(refresh: Refresh) -> None:
    """Count a refresh in the metrics that the alarms watch; it counts in none while all is well.

    The line of log says which case it was.
    """
    ended = refresh.outcome is RefreshOutcome.REAUTHORIZATION_REQUIRED
    if refresh.outcome is RefreshOutcome.LOST or (ended and refresh.reason in _LOST):
        metrics.add_metric("TokensLost", COUNT, 1)
    # If others succeed, the refusal concerns this connection alone. A small stack may have no others.
    alone = refresh.refused_alone_since is not None and _health.succeeded_since(refresh.refused_alone_since)
    if refresh.outcome in _UNWELL and not alone:
        metrics.add_metric("Unwell", COUNT, 1)
    if refresh.outcome in _UNANSWERED:
        metrics.add_metric("Unanswered", COUNT, 1)
    if ended:
        metrics.add_metric("Reauthorizations", COUNT, 1)
