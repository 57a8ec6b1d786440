"""Messages to people on the deployed stack: one for a burst, to Slack and LINE, whose stand-ins take nothing wrong."""

import json
from collections.abc import Callable, Iterator

import pytest

from flowaccount_connect.notifying.notices import GATHER
from tests.e2e.conftest import EMAIL, Simulator, until
from tests.e2e.tampering import restart
from tools.local import service
from tools.local.stack import Stack
from tools.simulator.messengers import LINE_GROUP, LINE_PATH, LINE_TOKEN, SLACK_PATH


@pytest.fixture(autouse=True)
def messengers(up: Stack, simulator: Simulator) -> Iterator[None]:
    """The secrets of both, and a stack that has told nothing yet."""
    secrets = service.client(up, "secretsmanager")
    line = {"channel_access_token": LINE_TOKEN, "to": LINE_GROUP, "url": f"{simulator.url}{LINE_PATH}"}
    made = {"slack": f"{simulator.url}{SLACK_PATH}", "line": json.dumps(line)}
    for name, value in made.items():
        secrets.create_secret(Name=f"flowaccount-connect/{name}", SecretString=value)
    forget(up)
    restart(up, "notify")
    yield
    forget(up)
    for name in made:
        secrets.delete_secret(SecretId=f"flowaccount-connect/{name}", ForceDeleteWithoutRecovery=True)


def forget(up: Stack) -> None:
    """Forget what waits to be told, and what was told, of other tests' connections too."""
    for queue in ("notify", "undelivered"):
        service.client(up, "sqs").purge_queue(QueueUrl=up.queues[queue])
    database = service.client(up, "dynamodb")
    for page in database.get_paginator("scan").paginate(TableName=up.table, ConsistentRead=True):
        for item in page["Items"]:
            if item["pk"]["S"].startswith("NOTICE#"):
                database.delete_item(TableName=up.table, Key={"pk": item["pk"], "sk": item["sk"]})


def told(simulator: Simulator, to: str) -> list[str]:
    """What one of the two has accepted, without what other tests sent."""
    return [one["text"] for one in simulator.get("messages")["messages"] if one["to"] == to]


@pytest.fixture
def mailbox(up: Stack) -> Iterator[Callable[[], list[tuple[str, str]]]]:
    """What the operator's mailbox has got so far: subject and text of each mail."""
    sqs, sns = service.client(up, "sqs"), service.client(up, "sns")
    queue = sqs.create_queue(QueueName="flowaccount-connect-mailbox")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    statement = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = {"Version": "2012-10-17", "Statement": [statement | {"Resource": arn}]}
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps(policy)})
    topic = arn.replace(":sqs:", ":sns:").removesuffix("mailbox") + "mail"
    assert [one["Endpoint"] for one in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]] == [EMAIL]
    subscribed = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)["SubscriptionArn"]
    mails: list[tuple[str, str]] = []

    def came() -> list[tuple[str, str]]:
        for one in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            said = json.loads(one["Body"])
            mails.append((said["Subject"], said["Message"]))
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=one["ReceiptHandle"])
        return sorted(mails)

    yield came
    sns.unsubscribe(SubscriptionArn=subscribed)
    sqs.delete_queue(QueueUrl=queue)


def put(up: Stack, type_: str, connections: list[str], reason: str = "rejected") -> None:
    """Events on the bus."""
    entries = [
        {
            "EventBusName": up.event_bus,
            "Source": "flowaccount-connect",
            "DetailType": f"connection.{type_}",
            "Detail": json.dumps(
                {
                    "version": 1,
                    "id": f"{connection}-{type_}",
                    "at": "2026-11-22T14:03:11Z",
                    "connection_id": connection,
                    "tenant": "CANARY-TENANT",
                    "environment": "sandbox",
                    "status": "reauthorization_required",
                    "generation": 8,
                    "reason": reason,
                    "since": "2026-11-22T14:03:11Z",
                }
            ),
        }
        for connection in connections
    ]
    for at in range(0, len(entries), 10):
        service.client(up, "events").put_events(Entries=entries[at : at + 10])


def test_a_burst_and_an_alarm_are_one_message_each_on_slack_and_line_and_by_mail_though_line_fails_at_first(
    up: Stack, simulator: Simulator, mailbox: Callable[[], list[tuple[str, str]]]
) -> None:
    # LINE accepts the first push, and its answer is lost: the retry key keeps the second from being another message.
    simulator.post("faults", [{"path": "line", "fault": "lose_answer"}, {"path": "slack", "fault": "throttle"}])
    before = {to: len(told(simulator, to)) for to in ("slack", "line")}
    put(up, "reauthorization_required", [f"N77{number:02}" for number in range(37)])
    alarm = {
        "AlarmName": "flowaccount-connect-unwell",
        "NewStateValue": "ALARM",
        "StateChangeTime": "2026-11-22T14:03:11.000+0000",
        "AlarmDescription": "words",
    }
    topic = f"arn:aws:sns:{up.region}:000000000000:flowaccount-connect-alarms"
    service.client(up, "sns").publish(TopicArn=topic, Message=json.dumps(alarm))
    service.client(up, "sns").publish(TopicArn=topic, Message="a message of whoever shares the topic")

    def new(to: str) -> list[str]:
        return sorted(told(simulator, to)[before[to] :])

    until(lambda: len(new("slack")) == len(new("line")) == 2, patience=GATHER + 60)
    for to in ("slack", "line"):
        burst, unwell = new(to)
        assert burst.startswith("[flowaccount-connect] 37 connections need a new consent: N7700, N7701, N7702")
        assert "and 32 more" in burst
        assert burst.endswith("docs/runbook.md#reauthorizations-above-normal")
        assert unwell.startswith("[flowaccount-connect] Refreshes are paused: ")
        assert unwell.endswith("docs/runbook.md#unwell")
        assert "CANARY" not in burst
    until(lambda: len(mailbox()) == 2, patience=20)
    assert [text for _, text in mailbox()] == new("slack")
    assert [subject for subject, _ in mailbox()] == [
        "[flowaccount-connect] 37 connections need a new consent",
        "[flowaccount-connect] Refreshes are paused: the client id, client secret, endpoint or key is wrong",
    ]
    # Every try counts: LINE was asked again, and said 409.
    until(lambda: 409 in line_statuses(simulator), patience=20)
    # Within the hour the same is counted, not told.
    put(up, "reauthorization_required", ["N9999"])
    database = service.client(up, "dynamodb")
    key = {"pk": {"S": "NOTICE#reauthorization_required"}, "sk": {"S": "NOTICE"}}
    until(lambda: "N9999" in str(database.get_item(TableName=up.table, Key=key).get("Item")))
    assert len(new("slack")) == len(new("line")) == len(mailbox()) == 2
    assert service.client(up, "sqs").receive_message(QueueUrl=up.queues["undelivered"]).get("Messages") is None


def line_statuses(simulator: Simulator) -> list[int | None]:
    """What LINE has answered."""
    seen = simulator.get(f"requests?after={simulator.after}")["requests"]
    return [one["status"] for one in seen if one["kind"] == "line"]
