"""What goes wrong at night: a refused configuration, a changed secret, a table that cannot be written."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.e2e.conftest import Simulator, until
from tests.e2e.tampering import denied, restart
from tools.local import service
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor

BUSINESSES = ("N1000001", "N1000002", "N1000003")


@pytest.fixture
def connections(up: Stack, simulator: Simulator, visitor: HttpVisitor) -> tuple[str, ...]:
    """Three businesses that have just been connected."""
    for business in BUSINESSES:
        assert visitor.connect(up.authorize_url, user="somchai", business=business).page == "connected"
    return BUSINESSES


def make_due(set_item: Any, *connections: str) -> None:
    """As if six hours had passed."""
    for connection in connections:
        set_item(connection, refresh_at=int(time.time()) - 1)


def refresh(up: Stack, connection: str) -> dict[str, Any]:
    """Refresh one connection that is due."""
    answer: dict[str, Any] = service.invoke(up, "refresh", {"connection_id": connection})
    return answer


HEALTH = {"pk": {"S": "HEALTH"}, "sk": {"S": "token-endpoint"}}


@pytest.fixture
def well(up: Stack) -> Iterator[None]:
    """An endpoint that is well, before and after, whatever becomes of the test."""

    def forget() -> None:
        service.client(up, "dynamodb").delete_item(TableName=up.table, Key=HEALTH)
        restart(up, "refresh")

    forget()
    yield
    forget()


@pytest.mark.usefixtures("well")
def test_a_refused_configuration_stops_the_stack_and_mends_by_itself(
    up: Stack, simulator: Simulator, connections: tuple[str, ...], set_item: Any
) -> None:
    simulator.fault("error", code="invalid_client", status=200, times=1000)
    # One connection alone never stops the others.
    for _ in range(8):
        make_due(set_item, connections[0])
        assert refresh(up, connections[0])["outcome"] == "configuration_error"
    # As five different ones leave it.
    unwell(up, since=int(time.time()), next_test=0)
    for connection in connections:
        make_due(set_item, connection)
        assert refresh(up, connection)["outcome"] == "unwell"
    # Beside the eight: one canary, and none of the connections' tokens.
    assert len(simulator.posts("refresh_token")) == 8 + 1
    item = service.connection_item(up, connections[0])
    assert item is not None
    assert item["status"]["S"] == "active"
    assert "in_doubt" not in item

    simulator.clear_faults()
    assert refresh(up, connections[1])["outcome"] == "unwell"
    unwell(up, since=int(time.time()) - 61, next_test=0)
    make_due(set_item, *connections)
    assert [refresh(up, connection)["outcome"] for connection in connections] == ["refreshed"] * 3


def test_a_changed_client_secret_costs_nothing_under_load(
    up: Stack, simulator: Simulator, connections: tuple[str, ...], set_item: Any
) -> None:
    make_due(set_item, *connections)
    assert refresh(up, connections[0])["outcome"] == "refreshed"
    secrets = service.client(up, "secretsmanager")
    before = json.loads(secrets.get_secret_value(SecretId=up.secret)["SecretString"])["client_secret"]
    after = "another-secret-of-the-same-client"
    try:
        secrets.put_secret_value(SecretId=up.secret, SecretString=json.dumps({"client_secret": after}))
        simulator.post(
            "clients", {"client_id": up.client_id, "client_secret": after, "redirect_uris": [up.callback_url]}
        )
        for _ in range(3):
            make_due(set_item, *connections)
            with ThreadPoolExecutor(3) as pool:
                outcomes = [one["outcome"] for one in pool.map(lambda name: refresh(up, name), connections)]
            assert outcomes == ["refreshed"] * 3
    finally:
        secrets.put_secret_value(SecretId=up.secret, SecretString=json.dumps({"client_secret": before}))
        simulator.post(
            "clients", {"client_id": up.client_id, "client_secret": before, "redirect_uris": [up.callback_url]}
        )


def test_tokens_that_the_table_does_not_take_wait_and_are_applied(
    up: Stack, simulator: Simulator, connection: str, set_item: Any
) -> None:
    # So that its worker has the client secret of today, and one POST is enough.
    make_due(set_item, connection)
    assert refresh(up, connection)["outcome"] == "refreshed"
    simulator = replace(simulator, after=simulator.posts()[-1]["number"])
    item = service.connection_item(up, connection)
    assert item is not None
    generation = int(item["generation"]["N"])
    make_due(set_item, connection)
    simulator.fault("delay", seconds=4, when="after")
    with ThreadPoolExecutor(1) as pool:
        refreshing = pool.submit(refresh, up, connection)
        until(lambda: bool(simulator.posts("refresh_token")))
        with denied(up, "refresh", "dynamodb:UpdateItem"):
            assert refreshing.result()["outcome"] == "pending"
    applied = service.until_generation(up, connection, generation + 1, patience=60)
    assert "attempt_id" not in applied
    served = service.call(up, "GET", f"/connections/{connection}/token")
    assert served.json()["generation"] == generation + 1
    make_due(set_item, connection)
    assert refresh(up, connection)["outcome"] == "refreshed"


def test_an_attempt_whose_worker_was_killed_is_taken_for_doubt_and_replayed(
    up: Stack, simulator: Simulator, connection: str, set_item: Any
) -> None:
    make_due(set_item, connection)
    simulator.fault("delay", seconds=8, when="before")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(service.invoke, up, "refresh", {"connection_id": connection})
        until(lambda: "attempt_id" in (service.connection_item(up, connection) or {}))
        restart(up, "refresh")
    assert refresh(up, connection)["outcome"] == "in_flight"
    simulator.clear_faults()
    set_item(connection, lease_until=int(time.time()) - 1)
    outcome = refresh(up, connection)["outcome"]
    # Whether the killed worker's request arrived is up to the moment; either way the verdict is FlowAccount's.
    if outcome == "refused":
        set_item(connection, refused_at=int(time.time()) - 601, refresh_at=int(time.time()) - 1)
        outcome = refresh(up, connection)["outcome"]
    assert outcome in ("refreshed", "reauthorization_required")
    item = service.connection_item(up, connection)
    assert item is not None
    assert item.get("reason", {}).get("S") == (None if outcome == "refreshed" else "rotation_lost")


def unwell(up: Stack, *, since: int, next_test: int) -> None:
    """Let the endpoint be unwell since then, and `refresh` know it."""
    state = {"unwell_since": {"N": str(since)}, "next_test": {"N": str(next_test)}, "cause": {"S": "configuration"}}
    service.client(up, "dynamodb").put_item(TableName=up.table, Item=HEALTH | state)
    restart(up, "refresh")
