"""`flowaccount-connect doctor` on a stack that was deployed by one command: what is left to do, and then nothing."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowaccount_connect_client.cli.main import main
from tests.e2e import callers
from tests.e2e.conftest import EMAIL, Simulator
from tests.e2e.test_deploy import remove
from tools.deploy import __main__ as deploy
from tools.deploy import secret
from tools.deploy.checks import Clients
from tools.local import emulator
from tools.local.stack import Stack

NAME = "flowaccount-connect-fresh"
API_ID = "flowaccountconnectfresh"
CLIENT = {"client_id": "fresh-client", "client_secret": "secret-of-a-fresh-client"}

type Look = Callable[[str, str], tuple[int, dict[str, Any]]]


@pytest.fixture
def fresh(up: Stack, account: Clients, simulator: Simulator) -> Iterator[str]:
    """The URL of a stack that was deployed by `make deploy CLIENT_ID=…`, where nothing else was done yet."""
    simulator.post("clients", CLIENT)
    url = up.api_url.replace(up.api_id, API_ID)
    endpoints = f"AuthorizeEndpoint={up.simulator_url}/connect/authorize TokenEndpoint={up.simulator_url}/test/token"
    # The emulator gives the API the id in this tag.
    tags = f'version = 0.1\n[sandbox.deploy.parameters]\ntags = "ms-custom-id={API_ID}"\n'
    Path(os.environ["SAM_CONFIG_FILE"]).write_text(tags)
    given = {"CLIENT_ID": CLIENT["client_id"], "STACK": NAME, "EMAIL": EMAIL}
    deploy.run(given | {"PARAMETERS": f"RedirectUri={url}/callback {endpoints}"}, ask=None)
    yield url
    remove(account, NAME)


@pytest.fixture
def look(
    up: Stack, fresh: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Look:
    """Runs `doctor` with an access key; its exit code, and what it found."""
    (tmp_path / ".local").mkdir()
    monkeypatch.chdir(tmp_path)

    def run(access_key_id: str, secret_access_key: str) -> tuple[int, dict[str, Any]]:
        stack = {
            "stack_name": NAME,
            "api_url": fresh,
            "aws_endpoint_url": up.aws_endpoint_url,
            "region": up.region,
            "access_key_id": access_key_id,
            "secret_access_key": secret_access_key,
        }
        (tmp_path / ".local" / "stack.json").write_text(json.dumps(stack))
        capsys.readouterr()
        main(["--local", "doctor"])
        seen = capsys.readouterr().out
        code = main(["--local", "doctor", "--json"])
        found = json.loads(capsys.readouterr().out)
        assert CLIENT["client_secret"] not in seen
        print(seen)
        return code, found

    return run


def to_do(found: dict[str, Any]) -> list[str]:
    return [one["check"] for one in found["checks"] if one["state"] == "wrong"]


def test_a_fresh_stack_has_three_things_to_do_and_then_none(
    up: Stack, fresh: str, account: Clients, simulator: Simulator, look: Look
) -> None:
    account("lambda").invoke(FunctionName=f"{NAME}-sweep", Qualifier="live", Payload=b"{}")
    administrator = emulator.ADMINISTRATOR["aws_access_key_id"], emulator.ADMINISTRATOR["aws_secret_access_key"]
    code, found = look(*administrator)
    assert (code, to_do(found)) == (1, ["redirect URI", "client secret", "alarms"])
    by_name = {one["check"]: one for one in found["checks"]}
    assert by_name["redirect URI"]["fix"].endswith(f" {fresh}/callback")
    assert f"make secret STACK={NAME}" in by_name["client secret"]["fix"]
    assert EMAIL in by_name["alarms"]["text"]
    assert [one["check"] for one in found["checks"] if one["state"] == "unknown"] == ["client"]
    assert simulator.posts() == [], "without a client secret nothing is sent"

    secret.put(account, NAME, "another secret")
    code, found = look(*administrator)
    assert to_do(found) == ["redirect URI", "client", "alarms"]

    simulator.post("clients", CLIENT | {"redirect_uris": [f"{fresh}/callback"]})
    secret.put(account, NAME, CLIENT["client_secret"])
    topic = f"arn:aws:sns:{up.region}:{emulator.ACCOUNT}:{NAME}-mail"
    account("sns").confirm_subscription(TopicArn=topic, Token=EMAIL)
    code, found = look(*administrator)
    assert (code, [one for one in found["checks"] if one["state"] != "right"]) == (0, [])
    assert (found["to_do"], found["unknown"]) == (0, 0)


def test_who_may_look_at_nothing_hears_which_permissions_are_missing(up: Stack, look: Look) -> None:
    allowed = {"Effect": "Allow", "Action": "cloudformation:DescribeStacks", "Resource": "*"}
    with callers.user(up, json.dumps({"Version": "2012-10-17", "Statement": [allowed]})) as keys:
        code, found = look(*keys)
    assert (code, to_do(found)) == (2, [])
    fixes = " ".join(one["fix"] for one in found["checks"])
    # The emulator asks nobody for lambda:GetAccountSettings.
    for permission in (
        "execute-api:Invoke",
        "lambda:GetFunctionConfiguration",
        "lambda:InvokeFunction",
        "logs:FilterLogEvents",
        "sqs:GetQueueAttributes",
        "sns:ListSubscriptionsByTopic",
    ):
        assert permission in fixes
