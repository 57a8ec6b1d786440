"""The console without a browser: what AWS may answer about the stack, and how it is started."""

from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from hypothesis import given, strategies

from flowaccount_connect_client import Connection, FlowAccountConnect
from flowaccount_connect_client.cli.main import main
from flowaccount_connect_client.console import app, serving, snapshot, stack, words
from flowaccount_connect_client.testing import FakeFlowAccountConnect
from tests.unit.accounts import Aws
from tests.unit.servers import unused_port

values = strategies.one_of(
    strategies.builds(lambda text: {"S": text}, strategies.text(max_size=30)),
    strategies.builds(lambda text: {"N": text}, strategies.text("0123456789.-e", max_size=30)),
    strategies.builds(lambda number: {"N": str(number)}, strategies.integers()),
    strategies.just({"NULL": True}),
    strategies.just({"M": {}}),
)
names = ("unwell_since", "cause", "paused_until", "slowed_at", "slowdown")


@given(item=strategies.dictionaries(strategies.sampled_from(names), values))
def test_whatever_lies_in_the_table_is_shown_or_ignored(item: dict[str, Any]) -> None:
    facts = stack.look(Aws(get_item={"Item": item})("dynamodb"), "table")
    assert facts.problem == ""
    with FakeFlowAccountConnect().running():
        pages = app.make(app.Console(FlowAccountConnect(patience=0), lambda: facts)).test_client()
        assert pages.get("/").status_code == 200


@given(strategies.integers())
def test_a_time_of_any_size_is_shown(value: int) -> None:
    assert words.moment(value)
    assert words.left(value, 0)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (ClientError({"Error": {"Code": "AccessDeniedException", "Message": "x"}}, "GetItem"), "dynamodb:GetItem"),
        (ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "GetItem"), "ResourceNotFoundException"),
        (ClientError({}, "GetItem"), "DynamoDB answers"),
        (ConnectTimeoutError(endpoint_url="https://x"), "ConnectTimeoutError"),
    ],
)
def test_what_aws_refuses_is_a_sentence(error: Exception, word: str) -> None:
    assert word in stack.look(Aws(get_item=error)("dynamodb"), "table").problem


def test_a_port_that_is_taken_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    server, _ = serving.server(None, 0)
    with server, FakeFlowAccountConnect().running():
        assert main(["console", "--port", str(server.port)]) == 2
    assert "--port chooses another" in capsys.readouterr().err


def test_the_address_is_random_and_on_loopback() -> None:
    addresses = []
    for _ in range(2):
        server, address = serving.server(None, unused_port())
        server.server_close()
        addresses.append(address)
        assert address.startswith("http://127.0.0.1:")
    first, second = (address.rstrip("/").rpartition("/")[2] for address in addresses)
    assert first != second
    assert len(first) >= 32


@pytest.mark.parametrize("status", ["active", "in_doubt", "refresh_failing"])
def test_what_is_at_risk_is_in_the_first_group_whatever_its_status(status: str) -> None:
    one = Connection("N1", status=status, generation=1)
    assert snapshot.group_of(one) != "other"
    assert snapshot.group_of(replace(one, at_risk_since=1)) == "at_risk"
    assert words.status(status) != status
