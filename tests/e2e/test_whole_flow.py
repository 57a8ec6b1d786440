"""Connect, store, rotate, serve: the product's main job, from the click to the company's name."""

import time
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import requests

from tests.e2e.conftest import Simulator
from tools.local import service
from tools.local.stack import Stack
from tools.local.visit import ChromiumVisitor, HttpVisitor, Visitor

BUSINESS = "N1000002"


def test_a_business_is_connected_rotated_and_served(
    up: Stack, simulator: Simulator, chromium: Any, set_item: Any
) -> None:
    owner: Visitor = ChromiumVisitor(chromium) if chromium else HttpVisitor()
    arrived = owner.connect(up.authorize_url, user="somchai", business=BUSINESS)
    assert arrived.page == "connected"
    assert arrived.status == 200

    item = service.connection_item(up, BUSINESS)
    assert item is not None
    first = int(item["generation"]["N"])
    assert item["status"]["S"] == "active"
    assert len(simulator.posts("authorization_code")) == 1

    now = int(time.time())
    six_hours = int(item["refresh_at"]["N"]) - int(item["requested_at"]["N"])
    assert 0.9 * 21_600 <= six_hours <= 21_600
    assert int(item["deadline"]["N"]) - int(item["requested_at"]["N"]) == 86_400

    set_item(BUSINESS, refresh_at=now - 1)
    assert service.invoke(up, "sweep", {})["dispatched"] >= 1
    rotated = service.until_generation(up, BUSINESS, first + 1, patience=60)
    assert len(simulator.posts("refresh_token")) == 1
    assert rotated["tokens"]["B"] != item["tokens"]["B"]
    assert "attempt_id" not in rotated

    newest = [e for e in ledger_of(simulator, BUSINESS) if e["kind"] == "refresh_token"][-1]
    assert newest["outcome"] == "unused"

    answer = service.call(up, "GET", f"/connections/{BUSINESS}/token")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    token = answer.json()
    assert set(token) == {
        "access_token",
        "token_type",
        "expires_in",
        "expires_at",
        "support_code",
        "environment",
        "generation",
        "status",
    }
    assert (token["support_code"], token["environment"], token["status"]) == (BUSINESS, "sandbox", "active")
    assert token["generation"] == first + 1
    company = requests.get(
        f"{up.simulator_url}/test/company/info",
        headers={"Authorization": f"Bearer {token['access_token']}"},
        timeout=30,
    ).json()
    assert company["status"] is True
    assert company["data"]["compnayName"] == "ร้านเบเกอรี่บ้านสวนริมคลอง"


def test_the_login_url_is_what_flowaccounts_page_says(up: Stack) -> None:
    answer = requests.get(up.authorize_url, allow_redirects=False, timeout=30)
    assert answer.status_code == 302
    location = answer.headers["Location"]
    assert "scope=flowaccount-api%20offline_access" in location
    asked = parse_qs(urlsplit(location).query, strict_parsing=True)
    state = asked.pop("state")[0]
    assert asked == {
        "response_type": ["code"],
        "scope": ["flowaccount-api offline_access"],
        "client_id": [up.client_id],
        "redirect_uri": [up.callback_url],
    }
    assert len(state) == 43
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-")
    for attribute in ("Path=/", "Secure", "HttpOnly", "SameSite=Lax", "Max-Age=12600"):
        assert attribute in cookie
    assert "Domain" not in cookie


def test_tokens_are_stored_as_ciphertext_only(up: Stack, connection: str) -> None:
    item = service.connection_item(up, connection)
    token = service.call(up, "GET", f"/connections/{connection}/token").json()["access_token"]
    assert token not in repr(item)


def test_an_app_gets_its_state_and_the_connection_back(up: Stack, simulator: Simulator, visitor: HttpVisitor) -> None:
    allowed = "https://shop.example.co.th/flowaccount?from=settings"
    url = f"{up.authorize_url}?return_url={quote(allowed, safe='')}&state=my%20own%20%26%20state"
    arrived = visitor.connect(url, user="somchai", business="N1000001")
    assert arrived.url.startswith(allowed + "&")
    returned = parse_qs(urlsplit(arrived.url).query)
    assert returned == {"from": ["settings"], "connection": ["N1000001"], "state": ["my own & state"]}
    assert arrived.status == 303


def ledger_of(simulator: Simulator, business: str) -> list[dict[str, Any]]:
    """What the simulator issued for a business, oldest first."""
    entries: list[dict[str, Any]] = simulator.get(f"ledger?business={business}")["entries"]
    return entries
