"""An upgrade and the way back, with refreshes in flight: old and new code meet on the same items, and nothing is lost.

Nobody runs 0.2, so the release before this one is this one under another version. The stack is put back to it and
brought up again, each by a real deployment in the middle of traffic. Every refresh token that FlowAccount issued
meanwhile is accounted for.
"""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flowaccount_connect import __version__
from tests.e2e.addresses import APP_RETURN_URL
from tests.e2e.conftest import EXPERIMENT, Simulator
from tests.e2e.links import confirmation_of
from tests.e2e.test_whole_flow import ledger_of
from tests.template.conftest import read
from tools.local import deployment, emulator, gaps, service
from tools.local.places import ROOT, STATE
from tools.local.stack import FUNCTIONS, Stack
from tools.local.visit import HttpVisitor

BEFORE = "0.2.99"
"""The version that the release before this one names itself."""
BUSINESSES = ("N1000001", "N1000002", "N1000003")
WAITING, RETURNING = "N1000004", "N1000006"


@dataclass
class Traffic:
    """Refreshes that take a second each, and services that read tokens, until it is stopped."""

    up: Stack
    set_item: Any
    outcomes: list[str] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)
    statuses: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._refresh, args=[business]) for business in BUSINESSES]
        self._threads.append(threading.Thread(target=self._read))

    def _refresh(self, business: str) -> None:
        while not self._stop.is_set():
            self.set_item(business, refresh_at=int(time.time()) - 1)
            outcome, version = refresh(self.up, business, "live")
            self.outcomes.append(outcome)
            self.versions.add(version)

    def _read(self) -> None:
        while not self._stop.is_set():
            for business in BUSINESSES:
                self.statuses.append(service.call(self.up, "GET", f"/connections/{business}/token").status_code)
            self._stop.wait(0.2)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let what is in flight end."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


def refresh(up: Stack, business: str, qualifier: str) -> tuple[str, str]:
    """Refresh by one version of the function; what became of it, and the version that did it."""
    answer = service.client(up, "lambda").invoke(
        FunctionName=f"{up.functions['refresh']}:{qualifier}", Payload=json.dumps({"connection_id": business}).encode()
    )
    told = json.loads(answer["Payload"].read())
    return str(told.get("outcome", told)), str(answer["ExecutedVersion"])


def version(up: Stack, function: str) -> str:
    """The version that a function's alias leads to."""
    alias = service.client(up, "lambda").get_alias(FunctionName=up.functions[function], Name="live")
    return str(alias["FunctionVersion"])


@pytest.fixture(scope="module")
def previous() -> Path:
    """The sources of the release before this one, built."""
    folder = STATE / "releases" / BEFORE
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("template.yaml", "samconfig.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, folder)
    for name in ("functions", "layers"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    package = folder / "layers" / "connector" / "flowaccount_connect" / "__init__.py"
    renamed = package.read_text().replace(f'__version__ = "{__version__}"', f'__version__ = "{BEFORE}"')
    assert BEFORE in renamed
    package.write_text(renamed)
    deployment.build(folder)
    return folder


@pytest.fixture
def traffic(up: Stack, simulator: Simulator, set_item: Any) -> Iterator[Traffic]:
    """Traffic on connected businesses; what it met is looked at in the end."""
    visitor = HttpVisitor()
    for business in BUSINESSES:
        assert visitor.connect(up.authorize_url, user="somchai", business=business).page == "connected"
    simulator.fault("delay", seconds=1, when="after", grant_type="refresh_token", times=10_000)
    traffic = Traffic(up, set_item)
    traffic.start()
    yield traffic
    traffic.stop()


@contextmanager
def deployed(up: Stack, root: Path) -> Iterator[None]:
    """These sources deployed over what is there, with the same parameters as far as they know them; then ours again."""
    port = int(up.aws_endpoint_url.rpartition(":")[2])
    stacks = emulator.client("cloudformation", port).describe_stacks(StackName=deployment.STACK_NAME)["Stacks"]
    parameters = {one["ParameterKey"]: one["ParameterValue"] for one in stacks[0]["Parameters"]}

    def deploy(sources: Path) -> None:
        known = read((sources / "template.yaml").read_text())["Parameters"]
        deployment.deploy(port, {name: value for name, value in parameters.items() if name in known}, sources)
        gaps.fill(port, up.table, EXPERIMENT)

    try:
        deploy(root)
        yield
    finally:
        deploy(ROOT)


@dataclass(frozen=True, slots=True)
class Begun:
    """What somebody began under one release and ends under another: a login, and a link that waits for its app."""

    up: Stack
    visitor: HttpVisitor
    back: str
    confirmation: str

    @classmethod
    def begin(cls, up: Stack) -> "Begun":
        visitor = HttpVisitor()
        back = visitor.consent(up.authorize_url, user="suda", business=RETURNING)
        body = {"tenant": "tenant-of-the-upgrade", "return_url": APP_RETURN_URL}
        made = service.call(up, "POST", "/connect-links", body=body).json()
        other = HttpVisitor()
        other.get(other.consent(made["connect_url"], user="suda", business=WAITING))
        return cls(up, visitor, back, confirmation_of(up, made["connect_url"]))

    def end(self) -> None:
        assert self.visitor.follow(self.back).page == "connected"
        wanted = {"confirmation": self.confirmation, "tenant": "tenant-of-the-upgrade"}
        answer = service.call(self.up, "POST", "/connect-links/confirm", body=wanted)
        assert answer.status_code == 200, answer.text
        for business in (RETURNING, WAITING):
            assert service.call(self.up, "GET", f"/connections/{business}/token").status_code == 200


def test_nothing_is_lost_on_the_way_back_and_on_the_way_forward(
    up: Stack, simulator: Simulator, previous: Path, traffic: Traffic, set_item: Any
) -> None:
    versions = [{function: version(up, function) for function in FUNCTIONS}]
    begun = Begun.begin(up)
    with deployed(up, previous):
        versions.append({function: version(up, function) for function in FUNCTIONS})
        begun.end()
        begun = Begun.begin(up)
    versions.append({function: version(up, function) for function in FUNCTIONS})
    begun.end()
    traffic.stop()

    for function in FUNCTIONS:
        assert len({at[function] for at in versions}) == 3, f"{function} was not exchanged"
    assert traffic.versions >= {at["refresh"] for at in versions}
    assert set(traffic.outcomes) <= {"refreshed", "in_flight", "not_due", "superseded"}, set(traffic.outcomes)
    assert set(traffic.statuses) == {200}

    # As a canary has it: both answer, now the one and now the other, on the same connections.
    simulator.clear_faults()
    for at in (versions[1], versions[2], versions[1], versions[2]):
        for business in BUSINESSES:
            set_item(business, refresh_at=int(time.time()) - 1)
            assert refresh(up, business, at["refresh"]) == ("refreshed", at["refresh"])

    accounted_for(simulator)
    for business in BUSINESSES:
        item = service.connection_item(up, business)
        assert item is not None
        assert not {"attempt_id", "in_doubt"} & item.keys()


def accounted_for(simulator: Simulator) -> None:
    """Each token that FlowAccount issued was spent once, but for the newest, which is stored; and none was refused."""
    assert {post["outcome"] for post in simulator.posts("refresh_token")} == {"issued"}
    for business in BUSINESSES:
        issued = [one for one in ledger_of(simulator, business) if one["kind"] == "refresh_token"]
        of_this_consent = [one["outcome"] for one in issued if one["consent"] == issued[-1]["consent"]]
        assert of_this_consent == ["rotated"] * (len(of_this_consent) - 1) + ["unused"], business
