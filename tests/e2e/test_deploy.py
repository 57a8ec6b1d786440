"""`make deploy` against the local stack's emulator: one command, no question, and then exactly what is left to do."""

import subprocess
from collections.abc import Iterator

import pytest

from tools.deploy import __main__ as deploy
from tools.deploy import secret
from tools.deploy.checks import Clients
from tools.local.errors import LocalError

NAME = "flowaccount-connect-made"
GIVEN = {"CLIENT_ID": "my-client", "STACK": NAME, "EMAIL": "operator@example.com"}


@pytest.fixture
def made(account: Clients, capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    """A stack that was deployed by one command, and what that printed; removed with all that it leaves."""
    deploy.run(GIVEN, ask=None)
    yield capsys.readouterr().out
    stacks = account("cloudformation")
    stacks.delete_stack(StackName=NAME)
    stacks.get_waiter("stack_delete_complete").wait(StackName=NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    account("dynamodb").update_table(TableName=f"{NAME}-connections", DeletionProtectionEnabled=False)
    account("dynamodb").delete_table(TableName=f"{NAME}-connections")
    account("secretsmanager").delete_secret(SecretId=f"{NAME}/client-secret", ForceDeleteWithoutRecovery=True)


def test_one_command_deploys_and_says_what_is_left_and_a_second_has_less_to_say(
    made: str, account: Clients, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _, left = made.partition("What is left to do:")
    assert f"stack {NAME}: will be made" in plan
    assert "ClientId = my-client" in plan
    steps = [line.strip() for line in left.splitlines() if line.strip()]
    assert steps[0].startswith("1. Register this redirect URI at FlowAccount")
    assert steps[0].endswith("/live/callback")
    assert f"make secret STACK={NAME}" in steps[1]
    assert steps[-1].split(". ")[1].startswith("Try it")
    table = account("dynamodb").describe_table(TableName=f"{NAME}-connections")["Table"]
    assert table["DeletionProtectionEnabled"] is True

    secret.put(account, NAME, "s3cret-of-a-test")
    # Answers are kept: the second time nothing has to be given. An update leaves the protection as it is.
    monkeypatch.setattr(deploy, "input", lambda _: pytest.fail("asked"), raising=False)
    deploy.run({}, ask=None)
    again = capsys.readouterr().out
    assert f"stack {NAME}: will be updated" in again
    assert "make secret" not in again
    table = account("dynamodb").describe_table(TableName=f"{NAME}-connections")["Table"]
    assert table["DeletionProtectionEnabled"] is True


def test_what_an_earlier_stack_left_behind_is_named_before_anything_is_made(account: Clients) -> None:
    name, database = f"{NAME}-once", account("dynamodb")
    attribute = {"AttributeName": "pk", "AttributeType": "S"}
    key = {"AttributeName": "pk", "KeyType": "HASH"}
    table = f"{name}-connections"
    database.create_table(
        TableName=table, AttributeDefinitions=[attribute], KeySchema=[key], BillingMode="PAY_PER_REQUEST"
    )
    try:
        with pytest.raises(LocalError, match=f"the table {table} of an earlier stack is there"):
            deploy.run(GIVEN | {"STACK": name}, ask=None)
        described = account("cloudformation").describe_stacks()["Stacks"]
        assert name not in [stack["StackName"] for stack in described]
    finally:
        database.delete_table(TableName=table)


def test_the_command_of_the_makefile_is_that_program() -> None:
    said = subprocess.run(["make", "-n", "deploy"], capture_output=True, text=True, check=True).stdout
    assert ".local/venv/bin/python -m tools.deploy" in said
