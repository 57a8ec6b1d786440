"""What is left to do once the stack is there: found out from the stack itself, in the order in which to do it."""

import json
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from tools.deploy.answers import Answers
from tools.deploy.checks import Clients, stack


def protect(clients: Clients, table: str) -> None:
    """Has DynamoDB refuse to delete the table from now on.

    The template does not: a first deployment that fails has to delete the table that it made.
    """
    database = clients("dynamodb")
    if not database.describe_table(TableName=table)["Table"].get("DeletionProtectionEnabled"):
        database.update_table(TableName=table, DeletionProtectionEnabled=True)


def outputs(clients: Clients, name: str) -> dict[str, str]:
    """The stack's outputs by name."""
    found = stack(clients, name) or {}
    return {one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", [])}


def left_to_do(clients: Clients, answers: Answers, out: dict[str, str]) -> Iterator[str]:
    """One step after the other; the last is to try it."""
    yield f"Register this redirect URI at FlowAccount, character by character: {out['CallbackUrl']}"
    if not _has_client_secret(clients("secretsmanager"), out["ClientSecretName"]):
        yield f"Put in the client secret; it is typed hidden: make secret STACK={answers.stack}"
    topics = [out[name] for name in ("AlarmTopicArn", "MailTopicArn") if name in out]
    subscribed = _subscribed(clients("sns"), topics)
    if subscribed is None:
        yield f"See that somebody is subscribed to the alarms, and has confirmed it: {', '.join(topics)}"
    for one in subscribed or ():
        if one["SubscriptionArn"] == "PendingConfirmation":
            yield f"Confirm the mail that {one['Endpoint']} got from AWS; no alarm arrives before."
    if subscribed == []:
        yield f"Subscribe somebody to the alarms: {out['AlarmTopicArn']}"
    if answers.parameters.get("DirectConnect") == "allowed":
        yield f"Try it, in a browser: {out['AuthorizeUrl']}"
    else:
        yield f"Try it: have your app, or the command flowaccount-connect, make a link at {out['ApiUrl']}"


def _subscribed(topics_of: Any, topics: list[str]) -> list[dict[str, str]] | None:
    """Who is subscribed to the topics; `None` where that may not be seen, as of a topic that is somebody else's."""
    try:
        answers = [topics_of.list_subscriptions_by_topic(TopicArn=topic) for topic in topics]
    except ClientError:
        return None
    return [one for answer in answers for one in answer["Subscriptions"]]


def _has_client_secret(secrets: Any, name: str) -> bool:
    """Whether the secret is complete. One that may not be read is taken for incomplete: the step is named once more."""
    try:
        held = json.loads(secrets.get_secret_value(SecretId=name)["SecretString"])
    except (ClientError, ValueError):
        return False
    return isinstance(held, dict) and bool(held.get("client_secret"))
