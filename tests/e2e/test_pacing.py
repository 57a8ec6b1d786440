"""What the schedule does twice on the deployed stack happens once: warnings, dispatches, messages."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flowaccount_connect.scheduling.refresh_queue import RefreshQueue
from tests.e2e.conftest import Bus, Simulator, until
from tests.e2e.tampering import restart
from tools.local import service
from tools.local.stack import Stack

RATE = {"pk": {"S": "RATE"}, "sk": {"S": "token-endpoint"}}
HOUR = 3_600


def sweep_at_once(up: Stack, sweeps: int) -> list[dict[str, Any]]:
    """Ticks that overlap, each in a process of its own."""
    with ThreadPoolExecutor(sweeps) as pool:
        return list(pool.map(lambda _: service.invoke(up, "sweep", {}), range(sweeps)))


def send(up: Stack, connection: str, times: int) -> None:
    """The same message several times."""
    entries = [{"Id": str(i), "MessageBody": json.dumps({"connection_id": connection})} for i in range(times)]
    service.client(up, "sqs").send_message_batch(QueueUrl=up.queues["refresh"], Entries=entries)


def posts(simulator: Simulator, connection: str) -> list[dict[str, Any]]:
    """What was sent to refresh this connection; what else is due is none of these tests' business."""
    return [one for one in simulator.posts("refresh_token") if one["business"] == connection]


def rest(up: Stack) -> None:
    """Until no message is left of the refresh queue."""
    queue = RefreshQueue(service.client(up, "sqs"), up.queues["refresh"])
    # What else is due is spread over a minute.
    until(lambda: queue.waiting() == 0, patience=90)


def outcomes(up: Stack, connection: str, since: float) -> Counter[str]:
    """What became of each delivery of a connection's messages, by the log of `refresh`."""
    pages = service.client(up, "logs").get_paginator("filter_log_events")
    group = f"/aws/lambda/{up.functions['refresh']}"
    found = pages.paginate(logGroupName=group, startTime=int(since * 1000))
    lines = [event["message"] for page in found for event in page["events"]]
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return Counter(one["outcome"] for one in told if one.get("connection_id") == connection and "outcome" in one)


@pytest.fixture(autouse=True)
def _nobody_elses_messages(up: Stack) -> None:
    """What a test before left in the queue, hidden for minutes because it failed on purpose, is not waited for."""
    service.client(up, "sqs").purge_queue(QueueUrl=up.queues["refresh"])


@pytest.fixture
def paused(up: Stack, bus: Bus, connection: str) -> Iterator[None]:
    """A stack that FlowAccount has asked to wait for ten minutes after `connection` was made; it forgets that later."""
    table = service.client(up, "dynamodb")
    until_then = int((time.time() + 600) * 1_000_000)

    def forget() -> None:
        table.delete_item(TableName=up.table, Key=RATE)
        restart(up, "refresh")

    forget()
    table.put_item(TableName=up.table, Item={**RATE, "paused_until": {"N": str(until_then)}, "revision": {"N": "1"}})
    yield
    forget()


@pytest.mark.usefixtures("paused")
def test_a_connection_at_risk_is_told_once_however_often_it_is_swept(
    up: Stack, simulator: Simulator, bus: Bus, connection: str, set_item: Any
) -> None:
    until(lambda: bus.types(connection)[-1:] in (["connected"], ["reconnected"]))
    begun, before = int(time.time()), len(bus.of(connection))
    set_item(connection, refresh_at=begun - 1, deadline=begun + 11 * HOUR)
    ticks = sweep_at_once(up, 3) + sweep_at_once(up, 1) + sweep_at_once(up, 2)
    assert all(one["at_risk"] >= 1 and one["paused"] > 0 for one in ticks)
    until(lambda: len(bus.of(connection)) > before)
    item = service.connection_item(up, connection)
    assert item is not None
    marked = int(item["at_risk"]["N"])
    assert begun <= marked <= time.time()

    # The pause is over: it is refreshed, and then nothing is left to warn of.
    service.client(up, "dynamodb").delete_item(TableName=up.table, Key=RATE)
    sweep_at_once(up, 1)
    until(lambda: "recovered" in bus.types(connection))
    sweep_at_once(up, 2)
    assert bus.types(connection)[before:] == ["at_risk", "refreshed", "recovered"]
    assert "at_risk" not in (service.connection_item(up, connection) or {})
    (told,) = (detail for type_, detail in bus.of(connection) if type_ == "connection.at_risk")
    assert told["since"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(marked))
    assert len(posts(simulator, connection)) == 1
    rest(up)


def test_overlapping_sweeps_and_messages_again_and_again_are_one_post(
    up: Stack, simulator: Simulator, connection: str, set_item: Any
) -> None:
    begun = time.time()
    # So that what comes meanwhile meets the first attempt, and what comes later its result.
    simulator.fault("delay", seconds=2, when="before")
    # First in line, and not at risk.
    set_item(connection, refresh_at=int(begun) - 1, deadline=int(begun) + 13 * HOUR)
    dispatched = sum(one["dispatched"] for one in sweep_at_once(up, 4))
    send(up, connection, 10)
    until(lambda: len(posts(simulator, connection)) > 0)
    send(up, connection, 10)
    rest(up)
    send(up, connection, 10)
    rest(up)
    (post,) = posts(simulator, connection)
    assert post["outcome"] == "issued"
    assert dispatched >= 1
    told = outcomes(up, connection, begun)
    assert told["refreshed"] == 1
    assert told.keys() <= {"refreshed", "in_flight", "not_due"}
    assert told["not_due"] >= 1
