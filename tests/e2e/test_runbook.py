"""The runbook on the local stack: each command works, or docs/emulator.md says that it does not."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tools.local import emulator
from tools.local.deployment import STACK_NAME
from tools.local.stack import Stack

DOCS = Path(__file__).parents[2] / "docs"
COMMANDS = set(re.findall(r"\baws ([a-z0-9]+ [a-z-]+)", (DOCS / "runbook.md").read_text()))
Aws = Callable[[str], Any]


def mapping(aws: Aws) -> str:
    """The id of what feeds `publish` from its queue."""
    found = aws("lambda").list_event_source_mappings(FunctionName=f"{STACK_NAME}-publish:live")["EventSourceMappings"]
    return next(str(one["UUID"]) for one in found if ":sqs:" in one["EventSourceArn"])


def queue(aws: Aws) -> str:
    """The URL of a queue that is empty."""
    return str(aws("sqs").get_queue_url(QueueName=f"{STACK_NAME}-dead-letters")["QueueUrl"])


def moved(aws: Aws) -> None:
    """The messages of an empty queue are driven back to where they came from."""
    asked = {"QueueUrl": queue(aws), "AttributeNames": ["QueueArn"]}
    arn = aws("sqs").get_queue_attributes(**asked)["Attributes"]["QueueArn"]
    aws("sqs").start_message_move_task(SourceArn=arn, MaxNumberOfMessagesPerSecond=10)


def key(aws: Aws) -> str:
    """The id of the stack's key, which most calls of KMS want instead of its alias."""
    return str(aws("kms").describe_key(KeyId=KEY)["KeyMetadata"]["KeyId"])


def query(aws: Aws) -> str:
    """The id of a query that was started."""
    group, now = f"/aws/lambda/{STACK_NAME}-sweep", int(time.time())
    words = {"startTime": now - 60, "endTime": now, "queryString": "limit 1"}
    return str(aws("logs").start_query(logGroupName=group, **words)["queryId"])


def schedule(aws: Aws) -> str:
    """The name of the stack's schedule."""
    asked = {"StackName": STACK_NAME, "LogicalResourceId": "SweepFunctionTick"}
    return str(aws("cloudformation").describe_stack_resource(**asked)["StackResourceDetail"]["PhysicalResourceId"])


def concurrency(aws: Aws) -> None:
    """A function is held, and goes on."""
    aws("lambda").put_function_concurrency(FunctionName=f"{STACK_NAME}-refresh", ReservedConcurrentExecutions=0)
    aws("lambda").delete_function_concurrency(FunctionName=f"{STACK_NAME}-refresh")


def updated(aws: Aws) -> None:
    """The schedule is given what it has, by the members that the runbook names."""
    there = aws("scheduler").get_schedule(Name=schedule(aws))
    named = ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target", "State")
    assert aws("scheduler").update_schedule(**{name: there[name] for name in named})["ScheduleArn"]


def restored(aws: Aws, up: Stack) -> None:
    """A table is restored, and deleted again."""
    name = f"{up.table}-restored"
    table = {"SourceTableName": up.table, "TargetTableName": name}
    aws("dynamodb").restore_table_to_point_in_time(**table, UseLatestRestorableTime=True)
    aws("dynamodb").delete_table(TableName=name)


KEY, SWEEP = f"alias/{STACK_NAME}", f"{STACK_NAME}-sweep"
CALLS: dict[str, Callable[[Aws, Stack], object]] = {
    "cloudformation describe-stack-resource": lambda aws, _: schedule(aws),
    "cloudformation describe-stacks": lambda aws, _: aws("cloudformation").describe_stacks(StackName=STACK_NAME),
    "cloudtrail lookup-events": lambda aws, _: aws("cloudtrail").lookup_events(MaxResults=1),
    "dynamodb describe-table": lambda aws, up: aws("dynamodb").describe_table(TableName=up.table),
    "dynamodb update-table": lambda aws, up: aws("dynamodb").update_table(
        TableName=up.table, DeletionProtectionEnabled=True
    ),
    "dynamodb list-backups": lambda aws, _: aws("dynamodb").list_backups(BackupType="SYSTEM"),
    "dynamodb restore-table-to-point-in-time": restored,
    "kms describe-key": lambda aws, _: aws("kms").describe_key(KeyId=KEY),
    "kms enable-key": lambda aws, _: aws("kms").enable_key(
        KeyId=aws("kms").describe_key(KeyId=KEY)["KeyMetadata"]["KeyId"]
    ),
    "lambda get-account-settings": lambda aws, _: aws("lambda").get_account_settings(),
    "lambda invoke": lambda aws, _: aws("lambda").invoke(FunctionName=f"{SWEEP}:live", Payload=b"{}"),
    "lambda put-function-concurrency": lambda aws, _: concurrency(aws),
    "lambda delete-function-concurrency": lambda aws, _: concurrency(aws),
    "lambda list-event-source-mappings": lambda aws, _: mapping(aws),
    "lambda update-event-source-mapping": lambda aws, _: aws("lambda").update_event_source_mapping(
        UUID=mapping(aws), Enabled=True
    ),
    "logs start-query": lambda aws, _: query(aws),
    "logs get-query-results": lambda aws, _: aws("logs").get_query_results(queryId=query(aws)),
    "logs tail": lambda aws, _: aws("logs").filter_log_events(logGroupName=f"/aws/lambda/{SWEEP}"),
    "scheduler get-schedule": lambda aws, _: aws("scheduler").get_schedule(Name=schedule(aws)),
    "scheduler update-schedule": lambda aws, _: updated(aws),
    "secretsmanager describe-secret": lambda aws, up: aws("secretsmanager").describe_secret(SecretId=up.secret),
    "sqs get-queue-url": lambda aws, _: queue(aws),
    "sqs get-queue-attributes": lambda aws, _: aws("sqs").get_queue_attributes(
        QueueUrl=queue(aws), AttributeNames=["All"]
    ),
    "sqs start-message-move-task": lambda aws, _: moved(aws),
    "sqs receive-message": lambda aws, _: aws("sqs").receive_message(QueueUrl=queue(aws), VisibilityTimeout=0),
}
"""What each command asks. Those that destroy something are not here."""

DESTROYS = {
    *("dynamodb delete-table", "kms cancel-key-deletion", "lambda delete-event-source-mapping", "sqs delete-message"),
}


def test_every_command_of_the_runbook_is_tried_here() -> None:
    assert set(CALLS) | DESTROYS == COMMANDS


def unknown() -> set[str]:
    """The commands that, as the page on the emulator says, do not work there."""
    section = (DOCS / "emulator.md").read_text().partition("## The runbook on one machine")[2].partition("\n## ")[0]
    return set(re.findall(r"`aws ([a-z0-9]+ [a-z-]+)`", section))


@pytest.mark.parametrize("command", CALLS)
def test_a_command_works_here_or_the_page_on_the_emulator_says_that_it_does_not(up: Stack, command: str) -> None:
    def ask() -> None:
        port = int(up.aws_endpoint_url.rpartition(":")[2])
        CALLS[command](lambda name: emulator.client(name, port), up)

    if command in unknown():
        with pytest.raises(ClientError):
            ask()
    else:
        ask()
