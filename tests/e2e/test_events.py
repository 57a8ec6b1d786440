"""Events and histories on the deployed stack: what happens to a connection is on the bus and in its history."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from flowaccount_connect.storage.counts import Counts
from flowaccount_connect.storage.history import History, Page
from tests.e2e.conftest import Bus, Simulator, until
from tests.e2e.tampering import denied
from tests.unit.test_events import valid
from tools.local import service
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor

BUSINESS = "N1000003"


def history(up: Stack, connection_id: str = BUSINESS) -> Page:
    """A connection's history, newest first."""
    kept = History(service.client(up, "dynamodb"), up.table)
    return kept.page(connection_id, limit=50, now=int(time.time()))


def counts(up: Stack) -> dict[str, int]:
    return Counts(service.client(up, "dynamodb"), up.table).get()


def really(up: Stack) -> dict[str, int]:
    """How many connections there are, by looking; a tombstone is none."""
    found: dict[str, int] = {}
    for page in service.client(up, "dynamodb").get_paginator("scan").paginate(TableName=up.table):
        for item in page["Items"]:
            if item["sk"]["S"] == "CONNECTION" and item["status"]["S"] != "disconnected":
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

    before = service.connection_item(up, BUSINESS)
    there_before = before is not None and before["status"]["S"] != "disconnected"
    connect()
    connect()
    assert refresh(up, set_item) == "refreshed"
    simulator.fault("garbage", processed=False)
    assert refresh(up, set_item) == "in_doubt"
    set_item(BUSINESS, at_risk=int(time.time()))
    assert refresh(up, set_item) == "refreshed"
    simulator.withdraw(BUSINESS)
    assert refresh(up, set_item) == "refused"
    set_item(BUSINESS, refused_at=int(time.time()) - 601)
    assert refresh(up, set_item) == "reauthorization_required"
    connect()

    first = "reconnected" if there_before else "connected"
    expected = [first, "reconnected", "refreshed", "in_doubt", "at_risk", "refreshed", "recovered"]
    expected += ["reauthorization_required", "reconnected"]
    until(lambda: len(bus.of(BUSINESS)) >= len(expected))
    assert bus.types(BUSINESS) == expected
    told = bus.of(BUSINESS)
    for type_, detail in told:
        valid(type_, detail)
    assert len({detail["id"] for _, detail in told}) == len(told)
    assert [detail["recovered_from"] for type_, detail in told if type_ == "connection.recovered"] == ["in_doubt"]
    assert [detail["reason"] for _, detail in told if "reason" in detail] == ["deadline", "rejected"]
    generations = [detail["generation"] for _, detail in told]
    assert generations == sorted(generations)

    # The history has one entry more: the first refusal is no event.
    kept = history(up).entries[: len(expected) + 1][::-1]
    assert [entry.kind.value for entry in kept] == [*expected[:-2], "attempt_failed", *expected[-2:]]
    shared = [entry.id for entry in kept if entry.kind.value != "attempt_failed"]
    assert shared == [detail["id"] for _, detail in told]
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


@pytest.fixture
def mailbox(up: Stack) -> Iterator[str]:
    """A queue that gets what the operator's mailbox gets."""
    sqs, sns = service.client(up, "sqs"), service.client(up, "sns")
    queue = sqs.create_queue(QueueName="flowaccount-connect-mailbox")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    statement = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = {"Version": "2012-10-17", "Statement": [statement | {"Resource": arn}]}
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps(policy)})
    topic = arn.replace(":sqs:", ":sns:").removesuffix("mailbox") + "alarms"
    raw = {"RawMessageDelivery": "true"}
    subscribed = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=raw)["SubscriptionArn"]
    yield queue
    sns.unsubscribe(SubscriptionArn=subscribed)
    sqs.delete_queue(QueueUrl=queue)


def test_the_operator_is_told_in_a_sentence(up: Stack, mailbox: str) -> None:
    detail = {"connection_id": "N77", "environment": "sandbox", "deadline": "2026-11-23T01:02:03Z"}
    detail |= {"since": "2026-11-22T01:02:03Z"}
    reasons = {"refreshed": None, "at_risk": "deadline", "reauthorization_required": "rotation_lost"}
    service.client(up, "events").put_events(
        Entries=[
            {"EventBusName": up.event_bus, "Source": "flowaccount-connect", "DetailType": f"connection.{type_}",
             "Detail": json.dumps(detail | {"reason": reason})}
            for type_, reason in reasons.items()
        ]
    )  # fmt: skip
    sqs, mails = service.client(up, "sqs"), list[str]()

    def came() -> bool:
        received = sqs.receive_message(QueueUrl=mailbox, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        mails.extend(message["Body"] for message in received.get("Messages", []))
        return len(mails) >= 2

    until(came)
    risk, dead = sorted(mails, key=lambda mail: "needs a new consent" in mail)
    assert "N77 (sandbox) is at risk. The reason is deadline. Its refresh token dies at 2026-11-23T01:02:03Z" in risk
    assert (
        "N77 (sandbox) needs a new consent of its user since 2026-11-22T01:02:03Z. The reason is rotation_lost" in dead
    )
    assert len(mails) == 2
