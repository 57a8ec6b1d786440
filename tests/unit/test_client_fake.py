"""The fake of the stack: an app tests its own code by it, without AWS."""

import os
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from flowaccount_connect_client import (
    ConnectionNotFound,
    FlowAccountAuth,
    FlowAccountConnect,
    Problem,
    ReauthorizationRequired,
    TemporarilyUnavailable,
)
from flowaccount_connect_client.testing import FakeFlowAccountConnect

CONNECTION = "N1234567"


@pytest.fixture
def fake() -> Iterator[FakeFlowAccountConnect]:
    with FakeFlowAccountConnect().running() as running:
        yield running


def authorization() -> str:
    """What a request of the app's to FlowAccount would carry."""
    url = "https://openapi.flowaccount.com/test/company/info"
    prepared = requests.Request("GET", url, auth=FlowAccountAuth(CONNECTION)).prepare()
    return str(prepared.headers["Authorization"])


def test_a_token_is_served_and_kept_as_by_the_stack(fake: FakeFlowAccountConnect) -> None:
    fake.add(CONNECTION)
    first = authorization()
    assert first == authorization()
    assert fake.requests == [("GET", f"/connections/{CONNECTION}/token")]
    assert fake.accepts(first, CONNECTION)
    fake.expire(CONNECTION)
    second = authorization()
    assert second != first
    assert fake.accepts(second, CONNECTION)
    token = FlowAccountConnect().access_token(CONNECTION)
    assert token.generation == 2
    assert FlowAccountConnect().report_rejected(token).generation == 3
    assert not fake.accepts(first, CONNECTION)


def test_what_can_go_wrong_goes_wrong_on_demand(fake: FakeFlowAccountConnect) -> None:
    fake.add(CONNECTION)
    api = FlowAccountConnect(patience=0)
    fake.fail(retry_after=9)
    with pytest.raises(TemporarilyUnavailable) as later:
        api.access_token(CONNECTION)
    assert later.value.retry_after == 9
    assert api.access_token(CONNECTION).status == "active"
    fake.endanger(CONNECTION, "in_doubt")
    assert api.access_token(CONNECTION).in_danger
    fake.require_consent(CONNECTION, "expired")
    with pytest.raises(ReauthorizationRequired) as ended:
        api.access_token(CONNECTION)
    assert ended.value.reason == "expired"
    with pytest.raises(ConnectionNotFound):
        api.access_token("N404")
    with pytest.raises(Problem) as denied:
        api._call("GET", "/connect-sessions")  # A route that the API does not have.
    assert denied.value.code == "not_signed"


def brought(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def test_a_whole_connect(fake: FakeFlowAccountConnect) -> None:
    api = FlowAccountConnect()
    link = api.connect_link("tenant-1", "https://app.example/back?x=1", state="s", external_browser=True)
    assert link.connect_url.endswith("&openExternalBrowser=1")
    back = brought(fake.visit(link.connect_url, business=CONNECTION))
    assert (back["x"], back["state"]) == ("1", "s")
    for _ in range(2):
        assert api.confirm(back["confirmation"], "tenant-1").support_code == CONNECTION
    assert [one.tenant for one in api.connections(tenant="tenant-1")] == ["tenant-1"]
    assert [one.kind for one in api.history(CONNECTION)] == ["connected"]
    assert api.access_token(CONNECTION).generation == 1
    api.disconnect(CONNECTION)
    with pytest.raises(ConnectionNotFound):
        api.access_token(CONNECTION)
    assert api.import_(CONNECTION, "a-refresh-token").status == "active"


@pytest.mark.parametrize(
    ("expected", "ending", "tenant", "code", "why"),
    [
        (None, "access_denied", "tenant-1", "connect_failed", "access_denied"),
        ("N7", None, "tenant-1", "connect_failed", "wrong_business"),
        (None, None, "tenant-2", "tenant_mismatch", "tenant_mismatch"),
    ],
)
def test_a_connect_that_fails(
    fake: FakeFlowAccountConnect, expected: str | None, ending: str | None, tenant: str, code: str, why: str
) -> None:
    api = FlowAccountConnect()
    link = api.connect_link("tenant-1", "https://app.example/back", expected_connection=expected)
    back = brought(fake.visit(link.connect_url, business=CONNECTION, ending=ending))
    with pytest.raises(Problem) as caught:
        api.confirm(back["confirmation"], tenant)
    assert (caught.value.code, caught.value.ending) == (code, why)
    assert list(api.connections()) == []


def test_it_leaves_the_environment_as_it_was() -> None:
    before = dict(os.environ)
    with FakeFlowAccountConnect().running() as fake:
        fake.add(CONNECTION)
        assert FlowAccountConnect().access_token(CONNECTION).value.startswith("fake-")
    assert dict(os.environ) == before
