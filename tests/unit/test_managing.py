"""Managing connections through the function, with the events that API Gateway really sends."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.fakes import CONNECTION, GRANT, NOW
from tests.unit.handlers import Event, Functions, event, problem, with_query
from tests.unit.tables import Fault, client_error
from tests.unit.worlds import World

SECRETS = ("access-1", "refresh-1", "CANARY")


@pytest.fixture
def world() -> World:
    made = World()
    made.connect()
    made.table.calls.clear()
    return made


@pytest.fixture
def functions(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Functions]:
    made = Functions(world, monkeypatch, capsys)
    yield made
    logs = made.logs()
    assert [secret for secret in SECRETS if secret in logs] == []
    made.close()


def to(connection_id: str, of: Event) -> Event:
    """The event for another connection."""
    return of | {"pathParameters": {"id": connection_id}}


def body(answer: dict[str, Any]) -> dict[str, Any]:
    """The body of an answer in JSON that no cache keeps and that holds nothing secret."""
    assert answer["headers"]["Content-Type"] == "application/json"
    assert answer["headers"]["Cache-Control"] == "no-store"
    assert not [secret for secret in (*SECRETS, GRANT) if secret in answer["body"]]
    found: dict[str, Any] = json.loads(answer["body"])
    return found


# Show --------------------------------------------------------------------------------------------------------------


def test_show_tells_all_but_the_tokens_by_one_read(functions: Functions, world: World) -> None:
    answer = functions.call("connections", event("connection"))
    assert answer["statusCode"] == 200
    assert body(answer) == {
        "support_code": CONNECTION,
        "environment": "sandbox",
        "status": "active",
        "reference": None,
        "generation": 1,
        "connected_at": NOW - 22_000,
        "requested_at": NOW - 22_000,
        "access_expires_at": NOW - 22_000 + 86_400,
        "deadline": NOW - 22_000 + 86_400,
        "refresh_at": NOW - 22_000 + 21_600,
        "in_doubt_since": None,
        "at_risk_since": None,
        "reason": None,
        "since": None,
    }
    assert world.table.calls == ["get_item"]


def test_show_tells_doubt_and_risk_and_since_when(functions: Functions, world: World) -> None:
    world.change(in_doubt=NOW - 60, at_risk=NOW - 30)
    shown = body(functions.call("connections", event("connection")))
    assert (shown["status"], shown["in_doubt_since"], shown["at_risk_since"]) == ("in_doubt", NOW - 60, NOW - 30)


def test_show_tells_why_a_new_consent_is_needed(functions: Functions, world: World) -> None:
    world.end("rejected")
    shown = body(functions.call("connections", event("connection")))
    assert (shown["status"], shown["reason"], shown["since"]) == ("reauthorization_required", "rejected", NOW - 50)


def test_show_knows_only_what_is_connected(functions: Functions) -> None:
    assert problem(functions.call("connections", to("N404", event("connection")))) == (404, "connection_not_found")


@pytest.mark.parametrize("connection_id", ["", "N" * 65, "N 1", "../N1", "ก", "N1\n"])
def test_what_cannot_be_an_id_is_refused(functions: Functions, world: World, connection_id: str) -> None:
    answer = functions.call("connections", to(connection_id, event("connection")))
    assert problem(answer) == (400, "invalid_connection_id")
    assert world.table.calls == []


def test_show_takes_no_parameters(functions: Functions) -> None:
    assert problem(functions.call("connections", with_query(event("connection"), full=["1"]))) == (
        400,
        "unknown_parameter",
    )


def test_a_table_out_of_reach_is_a_matter_of_time(functions: Functions, world: World) -> None:
    world.table.faults["get_item"].append(Fault(client_error("InternalServerError")))
    answer = functions.call("connections", event("connection"))
    assert problem(answer) == (503, "store_unavailable")
    assert answer["headers"]["Retry-After"] == "5"


def test_a_route_that_nobody_made_is_not_found(functions: Functions) -> None:
    assert problem(functions.call("connections", event("connection") | {"httpMethod": "PATCH"})) == (
        404,
        "route_not_found",
    )


def test_the_unexpected_is_told_by_its_place_alone(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("CANARY in a message")

    monkeypatch.setattr(type(functions.module("connections")._managing), "show", broken)
    assert problem(functions.call("connections", event("connection"))) == (500, "internal_error")
    assert "RuntimeError" in functions.logs()
