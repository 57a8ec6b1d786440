"""`make deploy` against the local stack's emulator: one command, no question, and then exactly what is left to do."""

import subprocess
from collections.abc import Callable, Iterator
from urllib.parse import parse_qsl, urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.template.conftest import read
from tools.deploy import __main__ as deploy
from tools.deploy import publish, secret
from tools.deploy.checks import Clients
from tools.local.errors import LocalError
from tools.local.places import ROOT
from tools.local.stack import Stack

NAME = "flowaccount-connect-made"
GIVEN = {"CLIENT_ID": "my-client", "STACK": NAME, "EMAIL": "operator@example.com"}


@pytest.fixture
def made(account: Clients, capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    """A stack that was deployed by one command, and what that printed; removed with all that it leaves."""
    deploy.run(GIVEN, ask=None)
    yield capsys.readouterr().out
    remove(account, NAME)


def remove(account: Clients, name: str) -> None:
    """Removes a stack with all that it leaves."""
    stacks, database = account("cloudformation"), account("dynamodb")
    stacks.delete_stack(StackName=name)
    stacks.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    database.update_table(TableName=f"{name}-connections", DeletionProtectionEnabled=False)
    database.delete_table(TableName=f"{name}-connections")
    account("secretsmanager").delete_secret(SecretId=f"{name}/client-secret", ForceDeleteWithoutRecovery=True)


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


def test_a_release_in_a_bucket_deploys_by_its_link(
    account: Clients, capsys: pytest.CaptureFixture[str], up: Stack
) -> None:
    """Template and code are taken from the bucket alone, as somebody does who follows the printed link."""
    bucket, storage = f"{NAME}-releases", account("s3")
    storage.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": up.region})
    publish.run({"BUCKET": bucket})
    printed = capsys.readouterr().out
    (link,) = [line.strip() for line in printed.splitlines() if "#/stacks/create/review?" in line]
    where, _, query = link.partition("#/stacks/create/review?")
    given = dict(parse_qsl(query))
    assert where == f"https://{up.region}.console.aws.amazon.com/cloudformation/home?region={up.region}"
    key = urlsplit(given["templateURL"]).path.lstrip("/")
    assert urlsplit(given["templateURL"]).netloc == f"{bucket}.s3.{up.region}.amazonaws.com"
    template = read(storage.get_object(Bucket=bucket, Key=key)["Body"].read().decode())
    code = {
        resource["Properties"][name]
        for resource in template["Resources"].values()
        for name in ("CodeUri", "ContentUri")
        if name in resource["Properties"]
    }
    assert len(code) > 2
    for uri in code:
        assert storage.head_object(Bucket=bucket, Key=uri.removeprefix(f"s3://{bucket}/"))["ContentLength"] > 0
    stacks, name = account("cloudformation"), f"{NAME}-linked"
    stacks.create_stack(
        StackName=name,
        TemplateURL=f"{up.aws_endpoint_url}/{bucket}/{key}",
        Parameters=[{"ParameterKey": "ClientId", "ParameterValue": "my-client"}],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        OnFailure="DO_NOTHING",
    )
    stacks.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    state = account("lambda").get_function(FunctionName=f"{name}-token:live")["Configuration"]["State"]
    assert state == "Active"
    remove(account, name)


def test_a_bucket_that_is_not_there_is_said_before_anything_is_built(account: Clients) -> None:
    with pytest.raises(LocalError, match=r"The bucket nobodys cannot be used \(NoSuchBucket\)"):
        publish.run({"BUCKET": "nobodys"})


def test_the_deployers_role_deploys_and_reads_nothing_secret(
    account: Clients, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as the emulator asks policies: it does not for what CloudFormation makes; see the template's test."""
    name = f"{NAME}-by-role"
    stacks = account("cloudformation")
    stacks.create_stack(
        StackName="deployer",
        TemplateBody=(ROOT / "tools" / "deploy" / "deployer.yaml").read_text(),
        Parameters=[{"ParameterKey": "Stack", "ParameterValue": name}],
        Capabilities=["CAPABILITY_IAM"],
    )
    stacks.get_waiter("stack_create_complete").wait(StackName="deployer", WaiterConfig={"Delay": 1})
    (output,) = stacks.describe_stacks(StackName="deployer")["Stacks"][0]["Outputs"]
    borrowed = account("sts").assume_role(RoleArn=output["OutputValue"], RoleSessionName="deploys")["Credentials"]
    with monkeypatch.context() as role:
        role.setenv("AWS_ACCESS_KEY_ID", borrowed["AccessKeyId"])
        role.setenv("AWS_SECRET_ACCESS_KEY", borrowed["SecretAccessKey"])
        role.setenv("AWS_SESSION_TOKEN", borrowed["SessionToken"])
        deploy.run({"CLIENT_ID": "my-client", "STACK": name}, ask=None)
        assert f"stack {name}: will be made" in capsys.readouterr().out
        refused: dict[str, Callable[[], object]] = {
            "GetSecretValue": lambda: account("secretsmanager").get_secret_value(SecretId=f"{name}/client-secret"),
            "Scan": lambda: account("dynamodb").scan(TableName=f"{name}-connections"),
            "Invoke": lambda: account("lambda").invoke(FunctionName=f"{name}-token:live"),
            "DescribeStacks": lambda: stacks_of(account, "flowaccount-connect"),
        }
        for operation, call in refused.items():
            with pytest.raises(ClientError, match=r"AccessDenied|not authorized") as error:
                call()
            assert error.value.operation_name == operation
    remove(account, name)
    stacks.delete_stack(StackName="deployer")


def stacks_of(account: Clients, name: str) -> object:
    """What CloudFormation says of a stack."""
    return account("cloudformation").describe_stacks(StackName=name)


def test_the_command_of_the_makefile_is_that_program() -> None:
    said = subprocess.run(["make", "-n", "deploy"], capture_output=True, text=True, check=True).stdout
    assert ".local/venv/bin/python -m tools.deploy" in said
