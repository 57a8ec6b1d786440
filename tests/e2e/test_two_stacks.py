"""Production beside sandbox in one account: nothing is shared. And a stack that is deleted leaves the connections."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.e2e import callers
from tests.e2e.conftest import Simulator
from tools.local import deployment, emulator, service
from tools.local.stack import FUNCTIONS, Stack
from tools.local.visit import HttpVisitor

NAME, API_ID = "books-production", "booksproduction"
BUSINESS = "N1000001"


def port_of(up: Stack) -> int:
    return int(up.aws_endpoint_url.rpartition(":")[2])


def administrator(up: Stack, name: str) -> Any:
    """A client of the account's administrator."""
    return emulator.client(name, port_of(up))


@pytest.fixture(scope="module")
def parameters(up: Stack) -> dict[str, str]:
    """What the first stack was deployed with."""
    stacks = administrator(up, "cloudformation").describe_stacks(StackName=deployment.STACK_NAME)["Stacks"]
    return {one["ParameterKey"]: one["ParameterValue"] for one in stacks[0]["Parameters"]}


@pytest.fixture(scope="module")
def beside(up: Stack, parameters: dict[str, str]) -> Iterator[Stack]:
    """A second stack in the same account, for production, with a user of its own."""
    api_url = up.api_url.replace(up.api_id, API_ID)
    own = {"Environment": "production", "RedirectUri": f"{api_url}/callback"}
    deployment.deploy(port_of(up), parameters | own, name=NAME, api_id=API_ID)
    stack = replace(
        up,
        api_url=api_url,
        authorize_url=f"{api_url}/authorize",
        callback_url=f"{api_url}/callback",
        table=f"{NAME}-connections",
        functions={name: f"{NAME}-{name}" for name in FUNCTIONS},
        secret=f"{NAME}/client-secret",
        api_id=API_ID,
        key_id=f"alias/{NAME}",
        event_bus=NAME,
    )
    with callers.user(up, callers.calling(stack, "*")) as (key, secret):
        yield replace(stack, access_key_id=key, secret_access_key=secret)


@pytest.fixture
def both(up: Stack, beside: Stack, simulator: Simulator) -> Iterator[Stack]:
    """The second stack, with the same client at FlowAccount, and a business connected to each."""
    secret = administrator(up, "secretsmanager")
    known = secret.get_secret_value(SecretId=up.secret)["SecretString"]
    secret.put_secret_value(SecretId=beside.secret, SecretString=known)
    client = {"client_id": up.client_id, "client_secret": json.loads(known)["client_secret"]}
    simulator.post("clients", client | {"redirect_uris": [up.callback_url, beside.callback_url]})
    for stack in (up, beside):
        assert HttpVisitor().connect(stack.authorize_url, user="somchai", business=BUSINESS).page == "connected"
    yield beside
    simulator.post("clients", client | {"redirect_uris": [up.callback_url]})


def physical(up: Stack, name: str) -> set[tuple[str, str]]:
    """Type and physical id of everything that a stack is made of."""
    listed = administrator(up, "cloudformation").describe_stack_resources(StackName=name)["StackResources"]
    return {(one["ResourceType"], one["PhysicalResourceId"]) for one in listed}


def test_two_stacks_of_one_account_share_nothing(up: Stack, both: Stack) -> None:
    first, second = physical(up, deployment.STACK_NAME), physical(up, NAME)
    assert len(second) > 80
    # Each API has a stage `live` of its own, each document of settings a first version.
    of_their_own = {"AWS::ApiGateway::Stage", "AWS::AppConfig::HostedConfigurationVersion"}
    assert {kind for kind, _ in first & second} <= of_their_own
    path = f"/connections/{BUSINESS}/token"
    mine, theirs = service.call(up, "GET", path), service.call(both, "GET", path)
    assert [mine.json()["environment"], theirs.json()["environment"]] == ["sandbox", "production"]
    assert mine.json()["access_token"] != theirs.json()["access_token"]

    for stack, other in ((up, both), (both, up)):
        keys = (other.access_key_id, other.secret_access_key)
        refused = service.call(stack, "GET", path, credentials=keys)
        assert refused.status_code == 403
        assert "access_token" not in refused.text


def test_a_connection_moved_to_the_other_stack_does_not_open_there(up: Stack, both: Stack) -> None:
    item = service.connection_item(up, BUSINESS)
    assert item is not None
    database = administrator(up, "dynamodb")
    own = database.get_item(TableName=both.table, Key={name: item[name] for name in ("pk", "sk")})["Item"]
    database.put_item(TableName=both.table, Item=item)
    moved = service.call(both, "GET", f"/connections/{BUSINESS}/token")
    database.put_item(TableName=both.table, Item=own)
    assert moved.status_code == 503
    assert "access_token" not in moved.text
    assert service.call(both, "GET", f"/connections/{BUSINESS}/token").status_code == 200


def test_a_deleted_stack_leaves_the_customers_connections(up: Stack, both: Stack) -> None:
    stacks = administrator(up, "cloudformation")
    (key,) = [id_ for kind, id_ in physical(up, NAME) if kind == "AWS::KMS::Key"]
    stacks.delete_stack(StackName=NAME)
    stacks.get_waiter("stack_delete_complete").wait(StackName=NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    left = administrator(up, "lambda").list_functions()["Functions"]
    assert not [function for function in left if function["FunctionName"].startswith(NAME)]

    item = {"pk": {"S": f"CONNECTION#{BUSINESS}"}, "sk": {"S": "CONNECTION"}}
    kept = administrator(up, "dynamodb").get_item(TableName=both.table, Key=item)["Item"]
    assert kept["tokens"]["B"]
    assert administrator(up, "kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled"
    opened = administrator(up, "kms").decrypt(
        CiphertextBlob=kept["data_key"]["B"], EncryptionContext={"stack": NAME, "environment": "production"}
    )
    assert len(opened["Plaintext"]) == 32
    secret = administrator(up, "secretsmanager").get_secret_value(SecretId=both.secret)["SecretString"]
    assert json.loads(secret)["client_secret"]
    assert service.call(up, "GET", f"/connections/{BUSINESS}/token").status_code == 200
