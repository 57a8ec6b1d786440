"""What each operation asks of AWS and FlowAccount, counted at the wire, in warm processes of the deployed functions."""

import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from flowaccount_connect.notifying.webhooks import receiver
from tools.benchmarks.programs import Function
from tools.benchmarks.report import Row, Section
from tools.benchmarks.stack import BATCH, Stack, asked_with, callback_of, records, sample, token_of
from tools.benchmarks.wire import Count
from tools.local.errors import LocalError
from tools.local.metrics import embedded

EMPTY, NOTHING_DUE, MANY_DUE = "tick, without a connection", "tick, with nothing due", "tick, with many due"
ON_DEMAND, ALONE, IN_BATCH = "refresh on demand", "refresh, in a batch of one", f"refresh, in a batch of {BATCH}"
FIRST_TOKEN, TOKEN = "token, the first of a process", "token"
AUTHORIZE, CALLBACK = "authorize", "callback"
LINK, LINK_AUTHORIZE, LINK_CALLBACK = "the app makes a link", "authorize, by a link", "callback, by a link"
CONFIRM = "the app confirms"
EVENT, WEBHOOK = "notify, for an event", "notify, for a webhook"
CONNECTED, REFRESHED = "publish, for a new connection", "publish, for a refresh"


@dataclass(frozen=True, slots=True)
class Calls:
    """What one operation asks, the average of several."""

    requests: dict[str, float]
    """By service and operation."""
    read_units: float
    write_units: float
    """Of the table and its indexes."""
    cpu: float = 0.0
    """Milliseconds."""
    logged: float = 0.0
    """Bytes of log."""
    metrics: frozenset[tuple[str, str]] = frozenset()
    """The metrics that it writes, as function and name."""


class Counted(dict[str, Calls]):
    """What was counted, by operation."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self._stack = stack

    def ask(self, title: str, function: Function, events: list[Any], operations: int | None = None) -> list[Any]:
        """Answer these events, which are so many operations, and count; the answers."""
        self._stack.wire.counted()
        took, number = function.answer(events), operations or len(events)
        count: Count = self._stack.wire.counted()
        found = [metric for line in took.log.splitlines() for metric, _ in embedded(line)]
        self[title] = Calls(
            {name: asked / number for name, asked in sorted(count.requests.items())},
            count.read_units / number,
            count.write_units / number,
            took.cpu / number,
            len(took.log.encode()) / number,
            frozenset((dict(metric.dimensions)["service"], metric.name) for metric in found),
        )
        return took.answers


def count(stack: Stack, *, due: int = 300) -> Counted:
    """Count each operation on a stack with nothing due; then so many are, at least two batches. Raises `LocalError`."""
    made = Counted(stack)
    for number in (1, 5):
        made.ask(EMPTY, stack.kept("sweep"), [{}] * number)
    _connects(stack, made)
    _rotations(stack, made, due)
    _notifications(stack, made)
    return made


def _connects(stack: Stack, made: Counted) -> None:
    """Connecting at once, and by a link, which is what the template's default wants: each step by itself."""
    authorize, callback, connections = (stack.kept(name) for name in ("authorize", "callback", "connections"))
    # The first round warms the processes up.
    for number in (1, 5):
        begun = made.ask(AUTHORIZE, authorize, [sample("authorize")] * number)
        _all(303, made.ask(CALLBACK, callback, [callback_of(one) for one in begun]))
        links = made.ask(LINK, connections, [_wanted(tenant) for tenant in range(number)])
        begun = made.ask(LINK_AUTHORIZE, authorize, [_opened(json.loads(one["body"])["connect_url"]) for one in links])
        ended = made.ask(LINK_CALLBACK, callback, [callback_of(one) for one in begun])
        _all(303, ended)
        _all(200, made.ask(CONFIRM, connections, [_confirming(tenant, one) for tenant, one in enumerate(ended)]))


def _rotations(stack: Stack, made: Counted, due: int) -> None:
    """The life of a connection: published, looked for, refreshed, read."""
    publish, sweep, refresh, token = (stack.kept(name) for name in ("publish", "sweep", "refresh", "token"))
    (first,) = stack.connect(1)
    for number in (1, 5):
        made.ask(CONNECTED, publish, [_change(new=True) for _ in range(number)])
        made.ask(NOTHING_DUE, sweep, [{}] * number)
    singly, many = stack.due(22), stack.due(due)
    # A process of its own: what the other one dispatched is not dispatched again.
    with stack.started(stack.functions["sweep"]) as another:
        made.ask(MANY_DUE, another, [{}])
    for one in (first, singly[0]):
        made.ask(ON_DEMAND, refresh, [{"connection_id": one, "generation": 1}])
    made.ask(ALONE, refresh, [records([one]) for one in singly[1:]])
    # The first batch warms up: each of its threads opens connections of its own. A busy machine may leave some
    # connections of a batch to the next tick; then the next batch is counted.
    for some in (many[:BATCH], many[BATCH : 2 * BATCH], stack.due(BATCH), stack.due(BATCH)):
        warm = IN_BATCH in made
        made.ask(IN_BATCH, refresh, [records(some)], BATCH)
        if warm and made[IN_BATCH].requests.get("token endpoint.POST") == 1:
            break
    for number in (1, 5):
        made.ask(REFRESHED, publish, [_change(new=False) for _ in range(number)])
    made.ask(FIRST_TOKEN, token, [token_of(first)])
    _all(200, made.ask(TOKEN, token, [token_of(first)] * 20))


def _notifications(stack: Stack, made: Counted) -> None:
    """An event for one receiver of webhooks, and the webhook. Only where one is configured."""
    notify = stack.kept("notify")
    detail = {"version": 1, "id": "event-1", "at": "2026-11-22T14:03:11Z", "connection_id": "N1"}
    event = {"source": "flowaccount-connect", "detail-type": "connection.connected", "detail": detail}
    said = {"type": "connection.connected", "timestamp": detail["at"], "data": detail}
    for number in (1, 5):
        made.ask(EVENT, notify, [_queued(event)] * number)
        made.ask(WEBHOOK, notify, [_queued({"to": receiver(f"{stack.wire.url}/webhook"), "event": said})] * number)


def _queued(body: object) -> dict[str, Any]:
    """A batch of the queue of `notify` with one message."""
    attributes = {"ApproximateReceiveCount": "1"}
    return {"Records": [{"messageId": "1", "receiptHandle": "1", "body": json.dumps(body), "attributes": attributes}]}


def _all(status: int, answers: list[Any]) -> None:
    wrong = [one["statusCode"] for one in answers if one["statusCode"] != status]
    if wrong:
        raise LocalError(f"an operation answered {wrong[0]} instead of {status}")


def _opened(connect_url: str) -> dict[str, Any]:
    """A browser opens a link."""
    return asked_with(sample("authorize"), parse_qs(urlsplit(connect_url).query))


def _wanted(tenant: int) -> dict[str, Any]:
    """The app asks for a link for one tenant of many: each gets so many a minute."""
    event = sample("connect-link")
    event["body"] = json.dumps(json.loads(event["body"]) | {"tenant": f"tenant-{tenant}"})
    return event


def _confirming(tenant: int, ended: dict[str, Any]) -> dict[str, Any]:
    """The app confirms what its user's browser brought back."""
    brought = parse_qs(urlsplit(ended["headers"]["Location"]).query)
    event = sample("connect-link-confirm")
    event["body"] = json.dumps({"confirmation": brought["confirmation"][0], "tenant": f"tenant-{tenant}"})
    return event


_numbers = itertools.count(1)


def _change(*, new: bool) -> dict[str, Any]:
    """A batch of the table's stream with one record, a refresh or a `new` connection; each has another number."""
    record, number = sample("publish")["Records"][1], str(next(_numbers))
    record["eventID"], record["dynamodb"]["SequenceNumber"] = number.zfill(32), number.zfill(29)
    record["dynamodb"]["ApproximateCreationDateTime"] = time.time()
    if new:
        del record["dynamodb"]["OldImage"]
    return {"Records": [record]}


def section(counted: Mapping[str, Calls]) -> Section:
    """As a table."""
    rows = []
    for name, calls in counted.items():
        asked = ", ".join(f"{number:.2g} {what.removeprefix('dynamodb.')}" for what, number in calls.requests.items())
        rows.append(Row((name, asked, f"{calls.read_units:.3g}", f"{calls.write_units:.3g}")))
    columns = ("operation, warm", "requests", "read units", "write units")
    return Section("Calls of an operation, counted at the wire", columns, rows)
