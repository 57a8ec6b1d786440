"""All that a figure is taken from: DynamoDB Local with the deployed table, the wire before it, and connections in it.

Connections are made by the deployed functions themselves, each by a consent of its own.
"""

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.config import Config

from tools import deployed
from tools.benchmarks.programs import TABLE, Function, Program, environment
from tools.benchmarks.wire import Wire, wire
from tools.local import dynamodb_local, processes
from tools.local.errors import LocalError
from tools.local.places import ROOT

BATCH = 50
"""Messages that one invocation of `refresh` gets at most (`BatchSize`)."""

HIGHEST_RATE = 60_000
"""The most requests a minute that the stack can be allowed."""


class Stack:
    """What is measured, ready to be started. `table` is boto3's client of the engine, which nothing counts.

    `rate` is how many refreshes a minute a process is started with. By default it is twenty times production's: the
    refreshes of a batch begin 41 milliseconds apart, several times the CPU that each takes. So none waits for the
    processor until its slot is over, also on a busy machine.
    """

    def __init__(self, served: Wire, table: Any, functions: Mapping[str, Program], running: ExitStack) -> None:
        self.wire, self.table, self.functions = served, table, functions
        self.rate = 1_500
        self._running = running
        # Connections are made as fast as can be: no figure is taken of these processes.
        self._authorize, self._callback = (self.kept(name, HIGHEST_RATE) for name in ("authorize", "callback"))

    def started(self, program: Program, handler: str = "handler", rate: int | None = None) -> Function:
        """A process of a program; whoever starts it ends it. Raises `LocalError`."""
        return Function(program, environment(program, self.wire, rate or self.rate), handler)

    def kept(self, name: str, rate: int | None = None) -> Function:
        """A process of one of our functions, which ends with the stack. Raises `LocalError`."""
        return self._running.enter_context(self.started(self.functions[name], rate=rate))

    def connect(self, count: int) -> list[str]:
        """The ids of so many new connections. Raises `LocalError`."""
        begun = self._authorize.answer([sample("authorize")] * count).answers
        ended = self._callback.answer([callback_of(one) for one in begun]).answers
        return [parse_qs(urlsplit(header(one, "location")).query)["connection"][0] for one in ended]

    def due(self, count: int) -> list[str]:
        """The ids of so many new connections, which are to be refreshed now. Raises `LocalError`."""
        made = self.connect(count)
        for number, connection_id in enumerate(made):
            self.table.update_item(
                TableName=TABLE,
                Key=key(connection_id),
                UpdateExpression="SET refresh_at = :at",
                ExpressionAttributeValues={":at": {"N": str(int(time.time()) - 1 - number % 60)}},
            )
        return made

    def theirs(self, program: Program, count: int) -> list[str]:
        """The ids of so many connections of the programs in `instead`. Raises `LocalError`."""
        made = [f"T{number}" for number in range(count)]
        tokens = {name: secrets.token_urlsafe(32) for name in ("access_token", "refresh_token")}
        with self.started(Program(program.path, "instead.acts"), "connect") as function:
            function.answer([{"id": one, "tokens": tokens} for one in made])
        return made


@contextmanager
def stack(functions: Mapping[str, Program]) -> Iterator[Stack]:
    """A stack with an empty table, ended afterwards. Raises `LocalError`."""
    process, url = dynamodb_local.start()
    try:
        table = boto3.client(
            "dynamodb",
            endpoint_url=url,
            region_name="ap-southeast-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106 - any do
            config=Config(proxies={}),
        )
        table.create_table(TableName=TABLE, **deployed.table())
        with wire(url) as served, ExitStack() as running:
            yield Stack(served, table, functions, running)
    finally:
        processes.stop(process)


def key(connection_id: str) -> dict[str, Any]:
    """Where a connection's item is."""
    return {"pk": {"S": f"CONNECTION#{connection_id}"}, "sk": {"S": "CONNECTION"}}


def sample(name: str) -> dict[str, Any]:
    """A sample event of the repository."""
    made: dict[str, Any] = json.loads((ROOT / "events" / f"{name}.json").read_text("utf-8"))
    return made


def token_of(connection_id: str) -> dict[str, Any]:
    """An event that asks for a connection's token."""
    made = sample("token")
    made["pathParameters"]["id"] = connection_id
    return made


def records(connection_ids: Sequence[str]) -> dict[str, Any]:
    """An event of the refresh queue."""
    bodies = [json.dumps({"connection_id": one}) for one in connection_ids]
    return {
        "Records": [
            {"messageId": str(i), "body": body, "eventSource": "aws:sqs", "attributes": {"SentTimestamp": "0"}}
            for i, body in enumerate(bodies)
        ]
    }


def header(answer: Mapping[str, Any], name: str) -> str:
    """A header of an answer to API Gateway. Raises `LocalError` if it has none."""
    one = {key.lower(): value for key, value in answer.get("headers", {}).items()}
    many = {key.lower(): values[0] for key, values in answer.get("multiValueHeaders", {}).items()}
    try:
        return str((many | one)[name])
    except KeyError:
        raise LocalError(f"an answer {answer['statusCode']} has no {name}") from None


def callback_of(redirect: Mapping[str, Any]) -> dict[str, Any]:
    """How the browser comes back from FlowAccount, where `authorize` sent it. Raises `LocalError` if it did not."""
    state = parse_qs(urlsplit(header(redirect, "location")).query)["state"]
    cookie = header(redirect, "set-cookie").partition(";")[0]
    made = asked_with(sample("callback"), {"state": state, "code": ["code"]})
    made["headers"]["Cookie"], made["multiValueHeaders"]["Cookie"] = cookie, [cookie]
    return made


def asked_with(event: dict[str, Any], query: Mapping[str, list[str]]) -> dict[str, Any]:
    """The event with these parameters of its query."""
    event["multiValueQueryStringParameters"] = dict(query)
    event["queryStringParameters"] = {name: values[-1] for name, values in query.items()}
    return event
