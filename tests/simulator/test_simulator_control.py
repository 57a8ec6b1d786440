"""The control API: the ledger tests account by, clock and settings, and that no web page can reach it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.simulator.driver import CALLBACK, TIMEOUT, Driver
from tools.simulator.settings import Settings


def fingerprint(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def test_the_ledger_accounts_for_every_token(sim: Driver) -> None:
    code = sim.code()
    first = sim.exchange(code)["refresh_token"]
    second = sim.refresh(first)["refresh_token"]
    sim.refresh(first)
    (code_entry,) = sim.ledger("code")
    spent, living = sim.ledger()
    assert code_entry["fingerprint"] == fingerprint(code)
    assert (code_entry["outcome"], code_entry["issued_by"], code_entry["delivered"]) == ("exchanged", None, True)
    assert spent["fingerprint"] == fingerprint(first)
    assert (spent["issued_by"], spent["outcome"], spent["presented"]) == (fingerprint(code), "rotated", 2)
    assert (spent["last_refusal"], spent["works"]) == ("spent", False)
    assert living["fingerprint"] == fingerprint(second)
    assert (living["issued_by"], living["outcome"], living["presented"]) == (fingerprint(first), "unused", 0)
    assert (living["spent_at"], living["delivered"], living["works"]) == (None, True, True)
    assert {entry["business"] for entry in (code_entry, spent, living)} == {"N1000001"}
    assert len({entry["consent"] for entry in (code_entry, spent, living)}) == 1


def test_works_follows_clock_and_policy(sim: Driver) -> None:
    first = sim.consent()
    sim.refresh(first)
    assert [entry["works"] for entry in sim.ledger()] == [False, True]
    sim.set(replay="forgiving")
    assert [entry["works"] for entry in sim.ledger()] == [True, True]
    sim.advance(86_400)
    assert [entry["works"] for entry in sim.ledger()] == [False, False]


def test_the_ledger_can_be_asked_for_one_business(sim: Driver) -> None:
    sim.consent("N1")
    sim.consent("N2")
    entries = sim.control("GET", "ledger?business=N2")["entries"]
    assert [entry["business"] for entry in entries] == ["N2"]


def test_the_requests_are_told_without_any_secret(sim: Driver) -> None:
    code = sim.code()
    body = sim.exchange(code)
    sim.company(body["access_token"])
    sim.refresh(body["refresh_token"])
    sim.refresh(body["refresh_token"])
    answer = sim.http.get(f"{sim.url}/_control/requests", timeout=TIMEOUT)
    records = answer.json()["requests"]
    assert [record["kind"] for record in records] == ["authorize", "consent", "token", "company", "token", "token"]
    assert [record["outcome"] for record in records[2:]] == ["issued", "served", "issued", "invalid_grant: spent"]
    assert [record["fingerprint"] for record in records[2:]] == [
        fingerprint(secret) for secret in (code, body["access_token"], body["refresh_token"], body["refresh_token"])
    ]
    assert [record["status"] for record in records[2:]] == [200] * 4
    assert all(record["delivered"] for record in records)
    ledger = sim.http.get(f"{sim.url}/_control/ledger", timeout=TIMEOUT)
    for secret in (code, body["access_token"], body["refresh_token"]):
        assert secret not in answer.text
        assert secret not in ledger.text
    after = sim.control("GET", f"requests?after={records[3]['number']}")["requests"]
    assert after == records[4:]


def test_consents_are_made_in_bulk_for_one_business_each(sim: Driver) -> None:
    made = sim.control("POST", "consents", {"business": "N2000000", "count": 3})["consents"]
    assert [consent["business"] for consent in made] == ["N2000000", "N2000001", "N2000002"]
    assert [entry["fingerprint"] for entry in sim.ledger()] == [consent["fingerprint"] for consent in made]
    answer = sim.refresh(made[2]["refresh_token"])
    assert answer["supportCode"] == "N2000002"
    assert sim.company(answer["access_token"]).json()["data"]["companyId"] == 2_000_002


def test_ten_thousand_consents_can_be_made_at_once(sim: Driver) -> None:
    assert len(sim.control("POST", "consents", {"business": "N1", "count": 10_000})["consents"]) == 10_000


def test_the_clock_is_real_time_plus_an_offset_that_grows(sim: Driver) -> None:
    before = sim.control("GET", "clock")["now"]
    sim.advance(100)
    assert 100 <= sim.control("GET", "clock")["now"] - before < 110
    assert "only goes forward" in sim.control("POST", "clock", {"advance": -1}, status=400)["error"]


def test_reset_puts_everything_back(sim: Driver) -> None:
    token = sim.consent()
    sim.advance(1_000)
    sim.order("reset")
    sim.set(environment="v1")
    sim.client("x", client_id="other")
    sim.control("POST", "reset")
    assert sim.control("GET", "settings") == Settings().as_dict()
    assert sim.control("GET", "clock")["offset"] == 0
    assert sim.control("GET", "faults") == sim.ledger() == sim.control("GET", "requests")["requests"] == []
    assert not sim.works(token)
    assert sim.token(client_id="other", client_secret="x").json() == {"error": "invalid_client"}


def test_settings_are_merged(sim: Driver) -> None:
    sim.set(replay="forgiving")
    assert sim.control("POST", "settings", {"racy": True})["replay"] == "forgiving"


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"replays": "strict"}, "There is no setting 'replays'"),
        ({"replay": "kind"}, '"strict", "forgiving", "newest_only", "family_revoking"'),
        ({"error_status": 500}, "200, 400, 401"),
        ({"error_status": "200"}, "200, 400, 401"),
        ({"racy": 1}, "false, true"),
        ({"code_lifetime": 0}, "a whole number from 1"),
        ({"code_lifetime": 1.5}, "a whole number from 1"),
        ({"code_lifetime": True}, "a whole number from 1"),
        ({"code_lifetime": None}, "a whole number from 1"),
        ({"race_window": "1"}, "a number from 0"),
        ({"refresh_absolute_lifetime": -1}, "or null"),
        ({"iss": 5}, "a string or null"),
        ({"iss": "issuer"}, "an http(s) URL or null"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_fix(sim: Driver, changes: dict[str, Any], fix: str) -> None:
    answer = sim.control("POST", "settings", {"racy": True} | changes, status=400)
    assert fix in answer["error"]
    assert sim.control("GET", "settings")["racy"] is False


@pytest.mark.parametrize(
    ("path", "body", "fix"),
    [
        ("clock", {}, "Send"),
        ("clock", {"advance": "1"}, "number of seconds"),
        ("clock", {"advance": 1, "now": 1}, "'now' is not known here"),
        ("clock", {"advance": 1e300}, "only goes forward"),
        ("clock", [], "a JSON object"),
        ("consents", {"business": "1"}, "N and digits"),
        ("consents", {"business": "N1", "count": 10_001}, "1 to 10,000"),
        ("consents", {"business": "N1", "cuont": 2}, "'cuont' is not known here"),
        ("clients", {"client_id": "new"}, "needs a client_secret"),
        ("clients", {"client_id": "new", "client_secret": "\ud800"}, "printable"),
        ("clients", {"client_id": 1}, "must be a string"),
        ("clients", {"client_id": "new", "client_secret": "x", "redirect_uris": ["/callback"]}, "absolute"),
        (
            "clients",
            {"client_id": "new", "client_secret": "x", "redirect_uris": [CALLBACK + "#x"]},
            "fragment",
        ),
        ("faults", {"path": "token"}, "a JSON list"),
    ],
)
def test_bad_input_is_refused_with_the_fix(sim: Driver, path: str, body: Any, fix: str) -> None:
    assert fix in sim.control("POST", path, body, status=400)["error"]


@pytest.mark.parametrize("body", ["", "{", "[" * 100_000, '{"advance": NaN}', '{"advance": 1e999}'])
def test_what_is_not_json_is_refused(sim: Driver, body: str) -> None:
    answer = sim.http.post(f"{sim.url}/_control/clock", data=body, timeout=TIMEOUT)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example:80"},
        {"Host": ""},
    ],
)
def test_web_pages_cannot_reach_the_controls(sim: Driver, headers: dict[str, str]) -> None:
    for method, path in (("GET", "ledger"), ("POST", "reset"), ("POST", "consents")):
        answer = sim.http.request(method, f"{sim.url}/_control/{path}", headers=headers, timeout=TIMEOUT)
        assert answer.status_code == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:80", "127.0.0.2:1", "[::1]:8080"])
def test_every_loopback_name_reaches_the_controls(sim: Driver, host: str) -> None:
    answer = sim.http.get(f"{sim.url}/_control/clock", headers={"Host": host}, timeout=TIMEOUT)
    assert answer.status_code == 200
