"""Connections as the app manages them, on the deployed stack, under enforced policies."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flowaccount_connect.storage.connections import key_of
from tests.e2e.conftest import Simulator, change, until
from tools.local import service
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor

ELSEWHERE = "N1000005"
"""A business that these tests import and end."""


def call(up: Stack, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
    """Status and body of one call of the app's."""
    answer = service.call(up, method, path, body=body)
    return answer.status_code, answer.json() if answer.content else {}


def walk(up: Stack, query: str) -> list[dict[str, Any]]:
    """All pages of a list."""
    found: list[dict[str, Any]] = []
    next_ = ""
    for _ in range(50):
        status, page = call(up, "GET", f"/connections?{query}{next_}")
        assert status == 200, page
        found += page["connections"]
        if page["next"] is None:
            return found
        next_ = f"&next={page['next']}"
    raise AssertionError("pages without end")


@pytest.fixture
def given(up: Stack, simulator: Simulator) -> str:
    """A refresh token of a business, as an older integration would have one; the business is not connected."""
    call(up, "DELETE", f"/connections/{ELSEWHERE}")
    # As if the last refusal were long ago: a refused import cools down.
    service.client(up, "dynamodb").delete_item(TableName=up.table, Key=key_of(ELSEWHERE, "IMPORT"))
    (consent,) = simulator.post("consents", {"business": ELSEWHERE})["consents"]
    return str(consent["refresh_token"])


# Show and list -----------------------------------------------------------------------------------------------------


def test_a_connection_is_shown_without_its_tokens(up: Stack, simulator: Simulator, connection: str) -> None:
    answer = service.call(up, "GET", f"/connections/{connection}")
    assert answer.status_code == 200
    shown = answer.json()
    assert (shown["support_code"], shown["status"], shown["environment"]) == (connection, "active", "sandbox")
    assert shown["deadline"] > shown["refresh_at"] > shown["requested_at"]
    token = service.call(up, "GET", f"/connections/{connection}/token").json()["access_token"]
    assert token not in answer.text


def test_connections_are_listed_page_by_page(up: Stack, simulator: Simulator, visitor: HttpVisitor) -> None:
    for business in ("N1000001", "N1000002", "N1000003"):
        visitor.connect(up.authorize_url, user="somchai", business=business)
    whole = walk(up, "status=active&limit=100")
    assert {"N1000001", "N1000002", "N1000003"} <= {one["support_code"] for one in whole}
    assert walk(up, "status=active&limit=1") == whole
    everything = {one["support_code"] for one in walk(up, "limit=2")}
    assert {one["support_code"] for one in whole} <= everything
    first = call(up, "GET", "/connections?status=active&limit=1")[1]
    assert call(up, "GET", f"/connections?status=disconnected&next={first['next']}")[1]["code"] == "invalid_next"
    assert call(up, "GET", f"/connections?next=x{first['next']}")[1]["code"] == "invalid_next"


# Disconnect --------------------------------------------------------------------------------------------------------


def test_a_disconnected_connection_is_gone_at_once_and_stays_gone(
    up: Stack, simulator: Simulator, visitor: HttpVisitor
) -> None:
    visitor.connect(up.authorize_url, user="somchai", business="N1000003")
    assert service.call(up, "GET", "/connections/N1000003/token").status_code == 200
    before = service.connection_item(up, "N1000003")
    assert before is not None
    answer = service.call(up, "DELETE", "/connections/N1000003")
    assert (answer.status_code, answer.content) == (204, b"")
    item = service.connection_item(up, "N1000003")
    assert item is not None
    assert not {"tokens", "data_key", "refresh_at", "due_shard"} & item.keys()
    assert int(item["generation"]["N"]) == int(before["generation"]["N"]) + 1
    assert service.call(up, "GET", "/connections/N1000003/token").status_code == 404
    service.invoke(up, "refresh", {"connection_id": "N1000003"})
    assert service.connection_item(up, "N1000003") == item
    assert service.call(up, "DELETE", "/connections/N1000003").status_code == 204
    assert call(up, "GET", "/connections/N1000003")[1]["status"] == "disconnected"
    assert "N1000003" in {one["support_code"] for one in walk(up, "status=disconnected")}
    assert "N1000003" not in {one["support_code"] for one in walk(up, "status=active")}
    assert visitor.connect(up.authorize_url, user="somchai", business="N1000003").page == "connected"


def test_a_refresh_in_flight_revives_nothing(
    up: Stack, simulator: Simulator, visitor: HttpVisitor, set_item: Any
) -> None:
    visitor.connect(up.authorize_url, user="somchai", business="N1000003")
    set_item("N1000003", refresh_at=1)
    # The answer waits until the disconnect is done.
    simulator.fault("delay", seconds=4, when="after")
    with ThreadPoolExecutor(1) as pool:
        refresh = pool.submit(service.invoke, up, "refresh", {"connection_id": "N1000003"})
        until(lambda: "attempt_id" in (service.connection_item(up, "N1000003") or {}))
        assert service.call(up, "DELETE", "/connections/N1000003").status_code == 204
        tombstone = service.connection_item(up, "N1000003")
        assert refresh.result()["outcome"] == "not_active"
    assert service.connection_item(up, "N1000003") == tombstone


# Import ------------------------------------------------------------------------------------------------------------


def test_an_import_is_proved_at_once(up: Stack, simulator: Simulator, given: str) -> None:
    status, shown = call(up, "POST", f"/connections/{ELSEWHERE}", {"refresh_token": given})
    assert (status, shown["status"], shown["support_code"]) == (200, "active", ELSEWHERE)
    assert len(simulator.posts("refresh_token")) == 1
    assert call(up, "GET", f"/connections/{ELSEWHERE}/token")[1]["generation"] == shown["generation"]
    assert call(up, "POST", f"/connections/{ELSEWHERE}", {"refresh_token": given})[1]["code"] == "already_connected"
    assert len(simulator.posts("refresh_token")) == 1


def test_a_refused_import_changes_nothing(up: Stack, simulator: Simulator, given: str) -> None:
    before = service.connection_item(up, ELSEWHERE)
    status, problem = call(up, "POST", f"/connections/{ELSEWHERE}", {"refresh_token": "never-issued"})
    assert (status, problem["code"], problem["reason"]) == (409, "import_refused", "rejected")
    assert service.connection_item(up, ELSEWHERE) == before
    assert call(up, "POST", "/connections/N404404", {"refresh_token": "never-issued"})[0] == 409
    assert call(up, "GET", "/connections/N404404")[0] == 404


def test_another_business_token_is_stored_nowhere(up: Stack, simulator: Simulator, given: str) -> None:
    before = service.connection_item(up, ELSEWHERE)
    status, problem = call(up, "POST", "/connections/N404405", {"refresh_token": given})
    assert (status, problem["code"], problem["reason"]) == (409, "import_refused", "wrong_connection")
    assert call(up, "GET", "/connections/N404405")[0] == 404
    assert service.connection_item(up, ELSEWHERE) == before


def test_an_import_whose_answer_is_lost_goes_on_by_the_schedule(up: Stack, simulator: Simulator, given: str) -> None:
    simulator.fault("status", status=503, body="{}", processed=False)
    status, shown = call(up, "POST", f"/connections/{ELSEWHERE}", {"refresh_token": given})
    assert (status, shown["status"]) == (202, "importing")
    assert shown["in_doubt_since"] is not None
    assert call(up, "GET", f"/connections/{ELSEWHERE}")[1] == shown
    assert ELSEWHERE in {one["support_code"] for one in walk(up, "status=importing")}
    change(up, f"CONNECTION#{ELSEWHERE}", "IMPORT", refresh_at=1)
    assert service.invoke(up, "refresh", {"connection_id": ELSEWHERE, "import": True})["outcome"] == "refreshed"
    assert call(up, "GET", f"/connections/{ELSEWHERE}")[1]["status"] == "active"
