"""The business API and the rate limit in front of it and of the token endpoint."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

from tests.simulator.driver import DAY, TIMEOUT, Driver


def test_the_company_is_the_chosen_one_in_flowaccounts_spelling(sim: Driver) -> None:
    answer = sim.company(sim.exchange(sim.code())["access_token"])
    assert answer.status_code == 200
    assert answer.json() == {
        "status": True,
        "message": "Success",
        "code": 0,
        "data": {"companyId": 1001, "compnayName": "บริษัท กาแฟดอยหลวง จำกัด"},
    }


def test_a_refresh_does_not_revoke_earlier_access_tokens(sim: Driver) -> None:
    first = sim.exchange(sim.code())
    sim.refresh(first["refresh_token"])
    sim.advance(DAY - 60)
    assert sim.company(first["access_token"]).status_code == 200
    sim.advance(60)
    assert sim.company(first["access_token"]).status_code == 401


@pytest.mark.parametrize(
    "authorization", ["Bearer ", "Bearer unknown", "Bearer Bearer", "Bearer {refresh_token}", "Basic {access_token}"]
)
def test_nothing_but_an_access_token_opens_anything(sim: Driver, authorization: str) -> None:
    headers = {"Authorization": authorization.format(**sim.exchange(sim.code()))}
    answer = sim.http.get(f"{sim.url}/test/company/info", headers=headers, timeout=TIMEOUT)
    assert (answer.status_code, answer.json()) == (401, {"message": "Unauthorized"})


def test_a_bad_token_can_be_told_with_status_false(sim: Driver) -> None:
    sim.set(unauthorized="status_false")
    answer = sim.company("unknown")
    assert answer.status_code == 200
    assert answer.json()["status"] is False


@pytest.mark.parametrize(("environment", "allowed"), [("test", 20), ("v1", 100)])
def test_the_limit_is_the_environments_in_any_60_seconds(sim: Driver, environment: str, allowed: int) -> None:
    sim.set(environment=environment, rate_limit=True)
    # From the middle of a minute, so that a limit by the minute of the clock would let go too early.
    now = sim.control("GET", "clock")["now"]
    sim.advance((now // 60 + 1) * 60 + 30 - now)
    statuses = [sim.answer("x", environment).status_code for _ in range(allowed + 1)]
    assert statuses == [200] * allowed + [429]
    sim.advance(45)
    assert sim.answer("x", environment).status_code == 429
    sim.advance(15)
    assert sim.answer("x", environment).status_code == 200


def test_a_refused_request_spends_nothing_and_is_not_counted(sim: Driver) -> None:
    token = sim.consent()
    sim.set(rate_limit=True, requests_per_minute=1)
    sim.refresh("x")
    for _ in range(3):
        sim.advance(15)
        answer = sim.answer(token)
        assert (answer.status_code, answer.json()) == (429, {"message": "Too Many Requests"})
        assert "Retry-After" not in answer.headers
    sim.advance(15)
    assert sim.works(token)


def test_the_business_api_and_the_token_endpoint_share_the_limit(sim: Driver) -> None:
    access_token = sim.refresh(sim.consent())["access_token"]
    sim.set(rate_limit=True, requests_per_minute=2)
    assert [sim.company(access_token).status_code, sim.token().status_code] == [200, 200]
    assert [sim.company(access_token).status_code, sim.token().status_code] == [429, 429]
    assert [one["outcome"] for one in sim.control("GET", "requests")["requests"][-2:]] == ["throttled"] * 2


def test_the_token_endpoint_may_not_count(sim: Driver) -> None:
    access_token = sim.refresh(sim.consent())["access_token"]
    sim.set(rate_limit=True, requests_per_minute=1, rate_limit_counts_token=False)
    assert [sim.token().status_code for _ in range(3)] == [200] * 3
    assert [sim.company(access_token).status_code for _ in range(2)] == [200, 429]


def test_the_limit_is_per_client(sim: Driver) -> None:
    sim.client("x", client_id="other")
    sim.set(rate_limit=True, requests_per_minute=1)
    assert [sim.token().status_code for _ in range(2)] == [200, 429]
    assert sim.token(client_id="other", client_secret="x").status_code == 200


def test_retry_after_comes_in_seconds_or_as_a_date(sim: Driver) -> None:
    sim.set(rate_limit=True, requests_per_minute=1, retry_after="seconds")
    sim.token()
    sim.advance(20)
    assert 38 <= int(sim.token().headers["Retry-After"]) <= 40
    sim.set(retry_after="date")
    date = parsedate_to_datetime(sim.token().headers["Retry-After"])
    assert 35 <= (date - datetime.now(UTC)).total_seconds() <= 41
