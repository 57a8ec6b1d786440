"""The authorize endpoint and the pages: what comes back to the client, and what strands the user."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

from tests.simulator.driver import CALLBACK, CLIENT_ID, Driver, attempt_in, parameters_of
from tools.simulator.pages import CONTENT_SECURITY_POLICY


def test_the_callback_gets_code_scope_and_state(sim: Driver) -> None:
    parameters = sim.choose(sim.log_in(state="a b/ค&=+%"))
    assert parameters.keys() == {"code", "scope", "state"}
    assert parameters["scope"] == "flowaccount-api offline_access"
    assert parameters["state"] == "a b/ค&=+%"


def test_no_state_comes_back_if_none_was_sent(sim: Driver) -> None:
    assert sim.choose(sim.log_in(state=None)).keys() == {"code", "scope"}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_id": "somebody-else"}, "unauthorized_client"),
        ({"client_id": None}, "unauthorized_client"),
        ({"redirect_uri": None}, "invalid_redirect_uri"),
        ({"redirect_uri": CALLBACK + "/"}, "invalid_redirect_uri"),
        ({"redirect_uri": CALLBACK + "?x=1"}, "invalid_redirect_uri"),
        ({"redirect_uri": CALLBACK.replace("http", "HTTP")}, "invalid_redirect_uri"),
        ({"redirect_uri": CALLBACK.replace("callback", "%63allback")}, "invalid_redirect_uri"),
        ({"redirect_uri": "https://evil.example/"}, "invalid_redirect_uri"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"response_type": 'ก"<script>'}, "invalid_request"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": ""}, "invalid_scope"),
        ({"scope": "offline_access"}, "invalid_scope"),
        ({"scope": "flowaccount-api profile"}, "invalid_scope"),
        ({"scope": "flowaccount-api,offline_access"}, "invalid_scope"),
        ({"state": ["one", "two"]}, "invalid_request"),
        ({"scope": ["flowaccount-api", "offline_access"]}, "invalid_request"),
        ({"client_id": [CLIENT_ID, CLIENT_ID]}, "invalid_request"),
        ({"code_challenge": "short", "code_challenge_method": "S256"}, "invalid_request"),
        ({"code_challenge": "x" * 43, "code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "x" * 43}, "invalid_request"),
    ],
)
def test_a_wrong_request_strands_the_user(sim: Driver, changes: dict[str, str], error: str) -> None:
    answer = sim.authorize(**changes)
    assert answer.status_code == 400
    assert "Location" not in answer.headers
    assert f'data-error="{error}"' in answer.text
    assert "<script" not in answer.text


def test_only_get_starts_a_login(sim: Driver) -> None:
    assert sim.post("/connect/authorize", client_id=CLIENT_ID).status_code == 403


def test_a_redirect_uri_with_a_query_keeps_every_byte_of_it(sim: Driver) -> None:
    uri = "https://app.example/back?x=a%20b+c%2f&empty="
    sim.client(None, uri)
    answer = sim.post("/connect/consent", attempt=sim.log_in(redirect_uri=uri), business="N1000001")
    assert answer.headers["Location"].startswith(uri + "&code=")


def test_cancelling_returns_access_denied_from_both_pages(sim: Driver) -> None:
    for attempt in (attempt_in(sim.authorize(state="s")), sim.log_in(state="s")):
        answer = sim.post("/connect/consent", attempt=attempt, action="cancel")
        assert answer.status_code == 302
        assert parameters_of(answer.headers["Location"]) == {"error": "access_denied", "state": "s"}
        assert urlsplit(answer.headers["Location"]).fragment == "_=_"
    assert not sim.ledger("code")


def test_cancelling_can_strand_instead(sim: Driver) -> None:
    sim.set(cancel="stranded")
    answer = sim.post("/connect/consent", attempt=sim.log_in(), action="cancel")
    assert answer.status_code == 200
    assert 'data-page="cancelled"' in answer.text


def test_extra_parameters_come_by_switch(sim: Driver) -> None:
    sim.set(session_state=True, iss="https://issuer.example")
    parameters = sim.choose(sim.log_in())
    assert parameters["session_state"]
    assert parameters["iss"] == "https://issuer.example"


def test_a_business_can_be_chosen_only_after_logging_in(sim: Driver) -> None:
    attempt = attempt_in(sim.authorize())
    assert sim.post("/connect/consent", attempt=attempt, business="N1000001").status_code == 400
    assert not sim.ledger("code")


def test_only_a_business_of_the_user_can_be_chosen(sim: Driver) -> None:
    assert sim.post("/connect/consent", attempt=sim.log_in("anong"), business="N1000001").status_code == 400
    assert not sim.ledger("code")


def test_user_name_and_password_log_in_too(sim: Driver) -> None:
    attempt = attempt_in(sim.authorize())
    wrong = sim.post("/connect/login", attempt=attempt, username="suda", password="wrong")
    assert wrong.status_code == 400
    assert 'id="problem"' in wrong.text
    right = sim.post("/connect/login", attempt=attempt, username="suda", password="flowaccount-demo")
    assert right.status_code == 303
    page = sim.http.get(sim.url + right.headers["Location"], timeout=10)
    assert re.findall(r'data-business="(\w+)"', page.text) == ["N1000001", "N1000004", "N1000005", "N1000006"]


def test_a_login_left_open_for_an_hour_has_ended(sim: Driver) -> None:
    attempt = sim.log_in()
    sim.advance(3_600)
    answer = sim.post("/connect/consent", attempt=attempt, business="N1000001")
    assert answer.status_code == 400
    assert 'data-error="ended"' in answer.text


def test_going_back_and_choosing_again_gives_another_code(sim: Driver) -> None:
    attempt = sim.log_in()
    first, second = sim.choose(attempt), sim.choose(attempt, "N1000002")
    assert first["code"] != second["code"]
    assert sim.exchange(second["code"])["supportCode"] == "N1000002"
    assert sim.exchange(first["code"])["supportCode"] == "N1000001"


def test_what_was_typed_is_escaped(sim: Driver) -> None:
    attempt = attempt_in(sim.authorize())
    page = sim.post("/connect/login", attempt=attempt, username='"><script>alert(1)</script>', password="x")
    assert "<script" not in page.text
    assert "&lt;script&gt;" in page.text


def test_every_page_is_strict_and_lets_the_redirect_back_through(sim: Driver) -> None:
    for page in (sim.authorize(), sim.authorize(client_id="x")):
        assert page.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert page.headers["X-Frame-Options"] == "DENY"
        assert '<html lang="th">' in page.text
    assert "default-src 'none'" in CONTENT_SECURITY_POLICY
    assert "script-src" not in CONTENT_SECURITY_POLICY
    # Chromium would stop the redirect that follows the form; see test_simulator_browser.py.
    assert "form-action" not in CONTENT_SECURITY_POLICY
