"""The deployed local stack, its simulator, and users with and without a browser."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests

from flowaccount_connect.storage.connections import key_of
from tests.e2e import app_site
from tests.e2e.addresses import APP_RETURN_URL, RECEIVERS, RETURN_URL, TERMINAL_PORT
from tests.e2e.app_site import AppSite
from tools.deploy import sam
from tools.deploy.checks import Clients
from tools.local import deployment, emulator, service, stack
from tools.local.settings import Experiment, Settings
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor, browser

EMAIL = "operator@example.com"
EXPERIMENT = Experiment(public_rate_limit=1_000, schedule=False)
"""Tests are quicker than users. And a tick of the schedule would refresh what a test has just made due."""


@dataclass(frozen=True, slots=True)
class Simulator:
    """The simulator's control API."""

    url: str
    after: int = 0
    """The number of the last request that does not count."""

    def post(self, path: str, body: object = None) -> Any:
        """One POST to the control API."""
        answer = requests.post(f"{self.url}/_control/{path}", json={} if body is None else body, timeout=30)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def get(self, path: str) -> Any:
        """One GET of the control API."""
        answer = requests.get(f"{self.url}/_control/{path}", timeout=30)
        assert answer.ok, answer.text
        return answer.json()

    def posts(self, grant: str | None = None) -> list[dict[str, Any]]:
        """What reached the token endpoint since this control was made, oldest first."""
        seen: list[dict[str, Any]] = self.get(f"requests?after={self.after}")["requests"]
        return [one for one in seen if one["kind"] == "token" and grant in (None, one["grant"])]

    def fault(self, fault: str, **fields: object) -> None:
        """Order a fault for the next request to the token endpoint."""
        self.post("faults", [{"path": "token", "fault": fault, **fields}])

    def withdraw(self, business: str) -> None:
        """Let the user of a business take the consent back."""
        answer = requests.delete(f"{self.url}/_control/consents", json={"business": business}, timeout=30)
        assert answer.ok, answer.text

    def clear_faults(self) -> None:
        """Take all ordered faults back."""
        requests.delete(f"{self.url}/_control/faults", timeout=30)


@pytest.fixture(scope="session")
def app() -> Iterator[AppSite]:
    """The app's own site, to which the stack can send browsers back."""
    with app_site.served() as site:
        yield site


@pytest.fixture(scope="session")
def up(app: AppSite) -> Iterator[Stack]:
    """The stack, brought up by the real sam build and sam deploy, and ended in the end."""
    allowed = (
        RETURN_URL,
        APP_RETURN_URL,
        f"http://127.0.0.1:{TERMINAL_PORT}/flowaccount-connected",
        app.return_url,
        "https://app.example.com/accounting/done",
        "https://shop.example.co.th/flowaccount?from=settings",
    )
    try:
        yield stack.up(
            Settings(
                parameters={
                    "AllowedReturnUrls": ",".join(allowed),
                    "RefreshesPerMinute": "60000",
                    "PublishRefreshed": "enabled",
                    "AlarmEmail": EMAIL,
                    "WebhookUrl": ",".join(RECEIVERS),
                    "SlackSecretName": "flowaccount-connect/slack",
                    "LineSecretName": "flowaccount-connect/line",
                },
                experiment=EXPERIMENT,
            )
        )
    finally:
        stack.down()


@pytest.fixture
def simulator(up: Stack) -> Iterator[Simulator]:
    """The simulator as FlowAccount most likely is, whatever a test made of it before; without its rate limit."""
    assert up.simulator_url is not None
    control = Simulator(up.simulator_url)
    before = control.get("settings")
    control.post("settings", {"rate_limit": False})
    seen = control.get("requests")["requests"]
    yield replace(control, after=seen[-1]["number"] if seen else 0)
    control.clear_faults()
    control.post("settings", before)


@pytest.fixture
def visitor() -> HttpVisitor:
    """A user without a browser."""
    return HttpVisitor()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium; `None` where none can be had, which the tests say."""
    with browser() as launched:
        if launched is None:
            print("no Chromium is installed: the flow runs over plain HTTP instead")
        yield launched


@pytest.fixture
def connection(up: Stack, simulator: Simulator, visitor: HttpVisitor) -> str:
    """A business that has just been connected."""
    arrived = visitor.connect(up.authorize_url, user="somchai", business="N1000001")
    assert arrived.page == "connected", arrived.page
    return "N1000001"


def change(up: Stack, pk: str, sk: str, **values: int) -> None:
    """Set attributes of an item, as time or another process would."""
    service.client(up, "dynamodb").update_item(
        TableName=up.table,
        Key={"pk": {"S": pk}, "sk": {"S": sk}},
        UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values),
        ExpressionAttributeNames={f"#{name}": name for name in values},
        ExpressionAttributeValues={f":{name}": {"N": str(value)} for name, value in values.items()},
    )


@pytest.fixture
def set_item(up: Stack) -> Any:
    """Sets attributes of a connection's item."""
    return lambda connection_id, **values: change(up, f"CONNECTION#{connection_id}", "CONNECTION", **values)


def delete_connections(up: Stack, *businesses: str) -> None:
    """Let these businesses be nobody's: not connected, and never disconnected."""
    for business in businesses:
        service.client(up, "dynamodb").delete_item(TableName=up.table, Key=key_of(business))


def disconnect(up: Stack, business: str) -> None:
    """Disconnect a business, and wait until it can be connected again."""
    service.call(up, "DELETE", f"/connections/{business}")
    time.sleep(2)  # A disconnect ends all consents of its second, and of the one that follows.


@pytest.fixture
def account(up: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clients:
    """The emulator's account, as the environment names it to boto3 and sam. Answers are kept in a file of the test."""
    for name, value in {
        "AWS_ENDPOINT_URL": up.aws_endpoint_url,
        "AWS_DEFAULT_REGION": up.region,
        "AWS_REGION": up.region,
        "AWS_ACCESS_KEY_ID": emulator.ADMINISTRATOR["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": emulator.ADMINISTRATOR["aws_secret_access_key"],
        "SAM_CONFIG_FILE": str(tmp_path / "samconfig.toml"),
        "SAM_CLI_POLL_DELAY": "0.3",
    }.items():
        monkeypatch.setenv(name, value)
    # What this stack was built of; another build would only take its time.
    assert deployment.is_built()
    monkeypatch.setattr(sam, "build", lambda _: None)
    # With a session of its own for each client: the environment's credentials change during a test.
    session: Any = boto3.session.Session
    return lambda service: session().client(service)


@dataclass
class Bus:
    """What a rule of the integrator's has sent to a queue: everything that is on the bus."""

    up: Stack
    queue: str

    def __post_init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def of(self, connection_id: str) -> list[tuple[str, dict[str, Any]]]:
        """The events of one connection that have come so far: type and detail."""
        sqs = service.client(self.up, "sqs")
        while messages := sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                self.seen.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        found = [one for one in self.seen if one["detail"]["connection_id"] == connection_id]
        return [(one["detail-type"], one["detail"]) for one in found]

    def types(self, connection_id: str) -> list[str]:
        """The types of a connection's events, without their common beginning."""
        return [type_.removeprefix("connection.") for type_, _ in self.of(connection_id)]


@pytest.fixture
def bus(up: Stack) -> Iterator[Bus]:
    """A rule for everything on the bus, and the queue where it ends."""
    sqs, events = service.client(up, "sqs"), service.client(up, "events")
    name = "flowaccount-connect-all-events"
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = json.dumps({"source": ["flowaccount-connect"]})
    events.put_rule(Name="all", EventBusName=up.event_bus, EventPattern=pattern)
    events.put_targets(Rule="all", EventBusName=up.event_bus, Targets=[{"Id": "queue", "Arn": arn}])
    yield Bus(up, queue)
    events.remove_targets(Rule="all", EventBusName=up.event_bus, Ids=["queue"])
    events.delete_rule(Name="all", EventBusName=up.event_bus)
    sqs.delete_queue(QueueUrl=queue)


def until(condition: Callable[[], bool], patience: float = 40.0) -> None:
    """Wait for what comes by itself."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.2)
