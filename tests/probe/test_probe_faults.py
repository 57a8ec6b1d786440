"""Nothing that a server does to its answers stops the probe: what made no sense is told in words."""

from dataclasses import replace
from typing import Any

import pytest

from tests.probe.runs import Run, Runs
from tools.probe.experiments import LIFETIMES
from tools.simulator import faults
from tools.simulator.faults import MAX_TIMES

OPTIONS: dict[str, dict[str, Any]] = {
    "status": {"status": 503, "body": "<html>down"},
    "error": {"code": "server_error"},
    "delay": {"seconds": 1},
    "drip": {"seconds": 0.02},
    "throttle": {"retry_after": 7},
}
PATIENCE = 0.3
TOLD = {
    "lose_request": "no answer in time",
    "lose_answer": "no answer in time",
    "reset": "no answer in time",
    "delay": "no answer in time",
    "truncate": "broken off",
    "drip": "broken off or not ended in time",
    "status": "HTTP 503, application/json, 10 bytes that are no JSON object",
    "garbage": "HTTP 200, text/html",
    "error": 'JSON {error: "server_error"}',
    "huge": "bytes",
}
HARMLESS = {"wrong_business", "throttle"}
"""What is no surprise: a finding of its own, and a pause."""


def surprises(run: Run) -> str:
    """What made no sense, in words."""
    found = run.value("surprises")
    return "" if found == "none" else "\n".join(found)


def test_every_fault_of_the_simulator_is_tried() -> None:
    assert set(faults._OPTIONS) == set(TOLD) | HARMLESS


@pytest.mark.parametrize("fault", sorted(TOLD))
def test_a_fault_of_the_first_request_is_told_and_everything_is_found_out_all_the_same(runs: Runs, fault: str) -> None:
    runs.simulator.order(fault, **OPTIONS.get(fault, {}))
    run = runs(patience=PATIENCE)
    assert TOLD[fault] in surprises(run)
    assert run.value("invalid_grant")["outcome"] == "rejected"
    assert (run.value("replay"), run.value("pkce")) == ("refused", "enforced")


@pytest.mark.parametrize("fault", sorted(set(TOLD) - {"delay", "drip"}))
@pytest.mark.parametrize("grant", ["authorization_code", "refresh_token"])
def test_a_fault_that_lasts_leaves_questions_open_and_asks_for_few_consents(runs: Runs, fault: str, grant: str) -> None:
    runs.simulator.order(fault, times=MAX_TIMES, grant_type=grant, **OPTIONS.get(fault, {}))
    run = runs(patience=PATIENCE)
    assert TOLD[fault] in surprises(run)
    assert run.value("replay") is None
    assert run.parameter("ReplayPolicy") is None
    assert run.report.consents <= 14
    assert len(run.words("replay")) > 20
    if grant == "authorization_code":
        assert run.value("refresh_token") is None
        assert run.report.consents <= 5


def test_a_server_that_hangs_for_good_is_given_up(runs: Runs) -> None:
    runs.simulator.order("delay", times=MAX_TIMES, seconds=1)
    run = runs(patience=0.05)
    assert run.value("invalid_grant") is None
    assert "No answer" in run.words("invalid_grant")
    assert run.report.consents <= 5


def test_a_429_is_waited_out_and_tells_of_its_retry_after(runs: Runs) -> None:
    runs.simulator.order("throttle", retry_after=7)
    run = runs()
    assert run.slept >= 7
    assert (run.value("retry_after"), run.value("replay")) == ("seconds", "refused")


@pytest.mark.parametrize(("header", "kind"), [("soon", "unreadable"), (None, "none")])
def test_a_429_that_does_not_say_how_long_is_waited_out_for_a_minute(runs: Runs, header: str | None, kind: str) -> None:
    runs.simulator.order("throttle", **({"retry_after": header} if header else {}))
    run = runs()
    assert run.slept >= 60
    assert run.value("retry_after") == kind


def test_a_server_that_goes_on_throttling_is_given_up(runs: Runs) -> None:
    runs.simulator.order("throttle", times=MAX_TIMES)
    run = runs()
    assert "throttling" in run.words("invalid_grant")
    assert run.value("retry_after") == "none"


def test_the_pace_keeps_below_the_sandboxs_limit(runs: Runs) -> None:
    run = runs({"rate_limit": True, "requests_per_minute": 20}, pace=15)
    assert run.value("retry_after") is None
    assert run.value("surprises") == "none"
    assert run.slept > 30


def test_lifetimes_that_end_in_nothing_are_not_measured_for_another_day_and_a_half(runs: Runs) -> None:
    found = runs(measure_lifetimes=True)
    assert found.value("refresh_token_lifetime") == 86_400
    runs.simulator.order("reset", grant_type="refresh_token", times=MAX_TIMES)
    found.probe.perform(LIFETIMES)
    assert found.probe.asked == found.report.consents + 2


def test_another_business_on_refresh_is_in_the_way(runs: Runs) -> None:
    runs.simulator.order("wrong_business", grant_type="refresh_token", times=MAX_TIMES)
    run = runs()
    assert run.value("support_code_on_refresh") == "other"
    assert any("another business" in sentence for sentence in run.report.obstacles)


@pytest.mark.parametrize("fault", ["lose_answer", "garbage", "status", "reset", "truncate"])
def test_a_business_api_that_does_not_answer_leaves_only_its_questions_open(runs: Runs, fault: str) -> None:
    runs.simulator.order(fault, path="company", times=MAX_TIMES, **OPTIONS.get(fault, {}))
    run = runs(patience=PATIENCE)
    assert (run.value("unauthorized"), run.value("older_access_token")) == (None, None)
    assert run.value("replay") == "refused"


def test_a_login_that_leads_nowhere_is_told(runs: Runs) -> None:
    runs.simulator.order("status", path="authorize", times=MAX_TIMES, status=500)
    run = runs()
    assert run.value("refresh_token") is None
    assert "ended on a page of the server" in run.words("refresh_token")
    assert run.report.consents <= 5


def test_a_wrong_path_is_no_refusal(runs: Runs) -> None:
    runs.simulator.set(environment="v1")
    run = runs.of(runs.target({"environment": "test"}))
    assert (run.value("invalid_grant"), run.value("pkce")) == (None, None)
    assert "HTTP 403" in run.words("invalid_grant")
    assert "HTTP 403" in run.words("refresh_token")
    assert run.report.obstacles == []


def test_a_wrong_client_ends_it_before_any_consent(runs: Runs) -> None:
    run = runs.of(replace(runs.target(), client_secret="another secret"))
    assert run.report.consents == 0
    assert "CLIENT_SECRET" in run.words("invalid_grant")
    assert "CLIENT_SECRET" in run.words("replay")


def test_nobody_listening_ends_it_before_any_consent(runs: Runs) -> None:
    run = runs.of(replace(runs.target(), token_endpoint="http://127.0.0.1:9/test/token"))
    assert run.report.consents == 0
    assert "TOKEN_ENDPOINT" in run.words("replay")
