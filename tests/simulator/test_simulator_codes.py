"""Codes: one exchange, 150 minutes, and burned by whatever goes wrong once the client is known."""

from __future__ import annotations

import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.simulator.driver import CALLBACK, CLIENT_ID, CLIENT_SECRET, DAY, TIMEOUT, Driver, form_of

REFUSED = {"error": "invalid_grant"}
VERIFIER = "v" * 50
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
PKCE = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}


def test_the_answer_is_flowaccounts(sim: Driver) -> None:
    answer = sim.token(grant_type="authorization_code", code=sim.code(), redirect_uri=CALLBACK)
    body = answer.json()
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert list(body) == ["access_token", "expires_in", "token_type", "supportCode", "refresh_token"]
    assert (body["expires_in"], body["token_type"], body["supportCode"]) == (DAY, "Bearer", "N1000001")
    assert len(body["access_token"]) == len(body["refresh_token"]) == 43


def test_a_code_works_once(sim: Driver) -> None:
    code = sim.code()
    assert "access_token" in sim.exchange(code)
    assert sim.exchange(code) == REFUSED


def test_of_simultaneous_exchanges_one_succeeds(sim: Driver) -> None:
    code = sim.code()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: sim.exchange(code), range(8)))
    assert sum("access_token" in answer for answer in answers) == 1


def test_a_code_lives_150_minutes_and_no_longer(sim: Driver) -> None:
    young, old = sim.code(), sim.code()
    sim.advance(150 * 60 - 30)
    assert "access_token" in sim.exchange(young)
    sim.advance(30)
    assert sim.exchange(old) == REFUSED
    assert [entry["outcome"] for entry in sim.ledger("code")] == ["exchanged", "burned: expired"]


def test_the_150_minutes_count_from_the_choice_of_the_business(sim: Driver) -> None:
    attempt = sim.log_in()
    sim.advance(3_000)
    code = sim.choose(attempt)["code"]
    sim.advance(150 * 60 - 30)
    assert "access_token" in sim.exchange(code)


OTHER = "http://127.0.0.1:9/other"
"""A redirect URI that is registered, but is not the one of the login."""


@pytest.mark.parametrize("uri", [CALLBACK + "/", CALLBACK.upper(), CALLBACK + "?", "", None, OTHER])
def test_a_wrong_redirect_uri_burns_the_code(sim: Driver, uri: str | None) -> None:
    sim.client(None, CALLBACK, OTHER)
    code = sim.code()
    assert sim.exchange(code, redirect_uri=uri) == REFUSED
    assert sim.exchange(code) == REFUSED
    assert sim.ledger("code")[0]["outcome"] == "burned: redirect_uri"


def test_a_wrong_verifier_burns_the_code(sim: Driver) -> None:
    code = sim.code(**PKCE)
    assert sim.exchange(code, code_verifier="w" * 50) == REFUSED
    assert sim.exchange(code, code_verifier=VERIFIER) == REFUSED
    assert sim.ledger("code")[0]["outcome"] == "burned: pkce"


def test_a_challenge_is_enforced(sim: Driver) -> None:
    assert sim.exchange(sim.code(**PKCE)) == REFUSED
    assert sim.exchange(sim.code(), code_verifier=VERIFIER) == REFUSED
    assert "access_token" in sim.exchange(sim.code(**PKCE), code_verifier=VERIFIER)


def test_pkce_can_be_ignored(sim: Driver) -> None:
    sim.set(pkce="ignored")
    assert "access_token" in sim.exchange(sim.code(**PKCE))
    assert "access_token" in sim.exchange(sim.code(code_challenge="nonsense"), code_verifier="nonsense")


def test_the_facade_can_drop_the_verifier(sim: Driver) -> None:
    sim.set(pkce="dropped")
    assert sim.exchange(sim.code(**PKCE), code_verifier=VERIFIER) == REFUSED
    assert "access_token" in sim.exchange(sim.code(), code_verifier=VERIFIER)


@pytest.mark.parametrize(
    ("who", "error"),
    [
        ({"client_secret": "wrong"}, "invalid_client"),
        ({"client_secret": None}, "invalid_client"),
        ({"client_id": "nobody"}, "invalid_client"),
        ({"client_id": None}, "invalid_client"),
        ({"client_id": "other", "client_secret": "x"}, "invalid_grant"),
    ],
)
def test_who_is_not_its_client_burns_no_code(sim: Driver, who: dict[str, str | None], error: str) -> None:
    sim.client("x", CALLBACK, client_id="other")
    code = sim.code()
    assert sim.exchange(code, **who) == {"error": error}
    assert "access_token" in sim.exchange(code)


def test_the_client_comes_before_the_grant(sim: Driver) -> None:
    assert sim.token(grant_type="nonsense", client_secret="wrong").json() == {"error": "invalid_client"}
    assert sim.token(grant_type="nonsense").json() == {"error": "unsupported_grant_type"}


def test_an_unknown_code_and_a_refresh_token_are_no_codes(sim: Driver) -> None:
    token = sim.consent()
    assert sim.exchange("unknown") == REFUSED
    assert sim.exchange(token) == REFUSED
    assert sim.works(token)


def test_without_offline_access_there_is_no_refresh_token(sim: Driver) -> None:
    body = sim.exchange(sim.code(scope="flowaccount-api"))
    assert "access_token" in body
    assert "refresh_token" not in body
    assert not sim.ledger()


def test_only_a_form_body_with_each_parameter_once_is_read_and_nothing_else_spends(sim: Driver) -> None:
    token = sim.consent()
    fields = form_of(token)
    without = {key: fields[key] for key in ("grant_type", "refresh_token")}

    def error(**sent: Any) -> str:
        return str(sim.http.post(f"{sim.url}/test/token", **sent, timeout=TIMEOUT).json()["error"])

    assert error(json=fields) == "invalid_request"
    assert error(params=fields) == "invalid_request"
    assert error(files={name: (None, value) for name, value in fields.items()}) == "invalid_request"
    assert error(params={"grant_type": "refresh_token"}, data=fields | {"grant_type": ""})
    assert error(data=without, auth=(CLIENT_ID, CLIENT_SECRET)) == "invalid_client"
    # A repeated parameter.
    assert error(data=[*fields.items(), ("refresh_token", token)]) == "invalid_request"
    assert sim.works(token)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/test/token"),
        ("POST", "/v1/token"),
        ("POST", "/sandbox/token"),
        ("POST", "/production/token"),
        ("POST", "/token"),
        ("POST", "/test/token/"),
        ("POST", "/oauth/token"),
        ("GET", "/v1/company/info"),
    ],
)
def test_a_wrong_path_meets_the_gateway(sim: Driver, method: str, path: str) -> None:
    answer = sim.http.request(method, sim.url + path, data={"grant_type": "x"}, timeout=TIMEOUT)
    assert answer.status_code == 403
    assert answer.json() == {"message": "Forbidden"}


def test_the_environment_is_a_setting(sim: Driver) -> None:
    sim.set(environment="v1")
    token = sim.consent()
    assert sim.answer(token, "test").status_code == 403
    answer = sim.answer(token, "v1").json()
    assert sim.company(answer["access_token"], "v1").json()["status"] is True


@pytest.mark.parametrize("status", [200, 400, 401])
def test_errors_have_the_status_of_the_switch(sim: Driver, status: int) -> None:
    sim.set(error_status=status)
    for form in ({"client_secret": "wrong"}, {"grant_type": "refresh_token", "refresh_token": "x"}, {}):
        answer = sim.token(**form)
        assert answer.status_code == status
        assert list(answer.json()) == ["error"]


def test_invalid_grant_can_have_a_status_of_its_own(sim: Driver) -> None:
    sim.set(invalid_grant_status=400)
    assert sim.answer("x").status_code == 400
    assert sim.token(client_secret="wrong").status_code == 200


def test_the_answers_shape_follows_the_switches(sim: Driver) -> None:
    sim.set(
        expires_in="string",
        token_length=2_000,
        token_type="bearer",
        support_code="null",
        support_code_on_refresh="absent",
        scope_in_answer=True,
        access_token_lifetime=600,
    )
    first = sim.exchange(sim.code())
    assert (first["expires_in"], first["token_type"], first["supportCode"]) == ("600", "bearer", None)
    assert first["scope"] == "flowaccount-api offline_access"
    assert len(first["access_token"]) == 2_000
    assert "supportCode" not in sim.refresh(first["refresh_token"])
    sim.set(expires_in="absent", support_code="absent")
    assert not {"expires_in", "supportCode"} & sim.exchange(sim.code()).keys()
