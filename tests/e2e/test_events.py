"""Events and histories on the deployed stack: what happens to a connection is on the bus and in its history."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from flowaccount_connect.history import Counts, History, Page
from local import service
from local.stack import Stack
from local.visit import HttpVisitor
from tests.e2e.conftest import Simulator
from tests.e2e.tampering import denied
from tests.unit.test_events import valid

BUSINESS = "N1000003"
PATIENCE = 40.0


@dataclass
class Bus:
    """What a rule of the integrator's has sent to a queue: everything that is on the bus."""

    up: Stack
    queue: str

    def __post_init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def of(self, connection_id: str) -> list[tuple[str, dict[str, Any]]]:
        """The events of one connection that have come so far: type and detail."""
        sqs = service.client(self.up, "sqs")
        while messages := sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                self.seen.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        found = [one for one in self.seen if one["detail"]["connection_id"] == connection_id]
        return [(one["detail-type"], one["detail"]) for one in found]

    def types(self, connection_id: str) -> list[str]:
        """The types of a connection's events, without their common beginning."""
        return [type_.removeprefix("connection.") for type_, _ in self.of(connection_id)]


@pytest.fixture
def bus(up: Stack) -> Iterator[Bus]:
    """A rule for everything on the bus, and the queue where it ends."""
    sqs, events = service.client(up, "sqs"), service.client(up, "events")
    name = "flowaccount-connect-all-events"
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = json.dumps({"source": ["flowaccount-connect"]})
    events.put_rule(Name="all", EventBusName=up.event_bus, EventPattern=pattern)
    events.put_targets(Rule="all", EventBusName=up.event_bus, Targets=[{"Id": "queue", "Arn": arn}])
    yield Bus(up, queue)
    events.remove_targets(Rule="all", EventBusName=up.event_bus, Ids=["queue"])
    events.delete_rule(Name="all", EventBusName=up.event_bus)
    sqs.delete_queue(QueueUrl=queue)


def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait for what comes by itself."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.2)


def history(up: Stack, connection_id: str = BUSINESS) -> Page:
    """A connection's history, newest first."""
    kept = History(service.client(up, "dynamodb"), up.table)
    return kept.page(connection_id, limit=50, now=int(time.time()))


def counts(up: Stack) -> dict[str, int]:
    return Counts(service.client(up, "dynamodb"), up.table).get()


def really(up: Stack) -> dict[str, int]:
    """How many connections there are, by looking."""
    found: dict[str, int] = {}
    for page in service.client(up, "dynamodb").get_paginator("scan").paginate(TableName=up.table):
        for item in page["Items"]:
            if item["sk"]["S"] == "CONNECTION":
                found[item["status"]["S"]] = found.get(item["status"]["S"], 0) + 1
    return found


def refresh(up: Stack, set_item: Any) -> str:
    """Refresh the connection as if six hours had passed."""
    set_item(BUSINESS, refresh_at=int(time.time()) - 1)
    return str(service.invoke(up, "refresh", {"connection_id": BUSINESS})["outcome"])


def test_a_connections_life_is_on_the_bus_in_its_history_and_in_the_count(
    up: Stack, simulator: Simulator, visitor: HttpVisitor, set_item: Any, bus: Bus
) -> None:
    def connect() -> None:
        assert visitor.connect(up.authorize_url, user="somchai", business=BUSINESS).page == "connected"

    there_before = service.connection_item(up, BUSINESS) is not None
    connect()
    connect()
    assert refresh(up, set_item) == "refreshed"
    simulator.fault("garbage", processed=False)
    assert refresh(up, set_item) == "in_doubt"
    set_item(BUSINESS, at_risk=int(time.time()))
    assert refresh(up, set_item) == "refreshed"
    simulator.withdraw(BUSINESS)
    assert refresh(up, set_item) == "reauthorization_required"
    connect()

    first = "reconnected" if there_before else "connected"
    expected = [first, "reconnected", "in_doubt", "at_risk", "recovered", "reauthorization_required", "reconnected"]
    until(lambda: len(bus.of(BUSINESS)) >= len(expected))
    assert bus.types(BUSINESS) == expected
    told = bus.of(BUSINESS)
    for type_, detail in told:
        valid(type_, detail)
    assert len({detail["id"] for _, detail in told}) == len(told)
    assert [detail["recovered_from"] for type_, detail in told if type_ == "connection.recovered"] == ["in_doubt"]
    assert [detail["reason"] for _, detail in told if "reason" in detail] == ["rejected"]
    generations = [detail["generation"] for _, detail in told]
    assert generations == sorted(generations)

    kept = [entry.kind.value for entry in history(up).entries][::-1]
    assert [kind for kind in kept if kind != "refreshed"][-len(expected) :] == expected
    assert kept.count("refreshed") >= 2, "each refresh is in the history, though it is no event"
    until(lambda: {k: v for k, v in counts(up).items() if v} == really(up))


def test_what_the_bus_does_not_take_waits_and_arrives_once_it_does(
    up: Stack, simulator: Simulator, visitor: HttpVisitor, bus: Bus
) -> None:
    sqs = service.client(up, "sqs")

    def waiting() -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = sqs.get_queue_attributes(QueueUrl=up.queues["unpublished"], AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    until(lambda: waiting() == 0)
    # Not six minutes: what waits is tried again every second.
    sqs.set_queue_attributes(QueueUrl=up.queues["unpublished"], Attributes={"VisibilityTimeout": "1"})
    try:
        with denied(up, "publish", "events:PutEvents"):
            assert visitor.connect(up.authorize_url, user="somchai", business=BUSINESS).page == "connected"
            until(lambda: waiting() == 1)
            message = history(up).entries[0]
            assert message.kind in ("connected", "reconnected"), "the history does not wait for the bus"
            assert bus.of(BUSINESS) == []
        until(lambda: waiting() == 0)
        until(lambda: len(bus.of(BUSINESS)) == 1)
        ((type_, detail),) = bus.of(BUSINESS)
        valid(type_, detail)
        assert detail["id"] == message.id
    finally:
        sqs.set_queue_attributes(QueueUrl=up.queues["unpublished"], Attributes={"VisibilityTimeout": "360"})
    assert len([entry for entry in history(up).entries if entry.id == message.id]) == 1
    until(lambda: {k: v for k, v in counts(up).items() if v} == really(up))
