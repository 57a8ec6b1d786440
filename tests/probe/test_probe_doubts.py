"""What a slip of the user, a gateway or a short outage may have caused as well is no verdict against the server."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flowaccount_connect.oauth.token_answer import Answer, Outcome
from tests.probe.odd_server import REDIRECT_URI, OddConsents, Oddities, odd_server
from tests.probe.runs import Clock, Run, Runs, probed, run
from tools.probe import experiments
from tools.probe.answers import Seen
from tools.probe.consent import Stuck
from tools.simulator import faults

RIGHT = {
    "invalid_client": {"status": 401, "error": "invalid_client", "outcome": "configuration_error", "as_expected": True},
    "invalid_grant": {"status": 400, "error": "invalid_grant", "outcome": "rejected", "as_expected": True},
    "replay": "refused",
    "replay_ends_consent": "no",
    "expires_in": {"code": 3_600, "refresh": 3_600},
    "pkce": "works",
    "wrong_verifier": "refused",
    "cancel": "access_denied",
}
"""What is true of a strict server."""


class Slips(OddConsents):
    """A user who does what is asked for, but for these consents, by their number from 1."""

    def __init__(self, slips: dict[int, str]) -> None:
        self.slips = slips
        self.asked = 0

    def ask(self, url: str, *, why: str, cancel: bool = False) -> str | None:
        self.asked += 1
        slip = self.slips.get(self.asked)
        if slip in ("late", "stuck"):
            if slip == "stuck":
                raise Stuck
            return None
        cancel = cancel if slip is None else slip == "cancels"
        landed = super().ask(url, why=why, cancel=cancel) or ""
        before, _, after = landed.partition("code=")
        return {
            "cut off": before + "code=" + after[:9],
            "somebody else's": f"{REDIRECT_URI}?code=abc&state=xyz",
            "nothing in it": landed.partition("&code=")[0],
            "server_error": f"{before}error=server_error",
        }.get(slip or "", landed)


def slipping(slips: dict[int, str], **oddities: Any) -> Run:
    """A run whose user slips."""
    with odd_server(Oddities(**oddities)) as server:
        found = run(server.target, Slips(slips), Clock(server.advance))
        assert "abc" not in server.tried
    return found


def wrong(found: Run) -> dict[str, Any]:
    """What it says of a strict server that is not true."""
    return {name: found.value(name) for name, true in RIGHT.items() if found.value(name) not in (true, None)}


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("slip", ["late", "stuck", "cancels", "logs in", "somebody else's", "cut off", "nothing in it"])
def test_one_slip_of_the_user_is_made_good(number: int, slip: str) -> None:
    found = slipping({number: slip})
    stranded = {"cancel": "stranded"} if (number, slip) == (4, "stuck") else {}
    assert {name: found.value(name) for name in RIGHT} == RIGHT | stranded
    assert (found.parameter("Pkce"), found.in_the_way) == ("enabled", set())


@pytest.mark.parametrize("slip", ["late", "cancels", "nothing in it"])
def test_slips_again_and_again_with_a_challenge_leave_it_open(slip: str) -> None:
    found = slipping({2: slip, 3: slip})
    assert (found.value("pkce"), found.value("wrong_verifier"), found.parameter("Pkce")) == (None, None, None)
    assert wrong(found) == {}


@pytest.mark.parametrize("slip", ["stuck", "cut off", "server_error"])
def test_what_comes_twice_with_a_challenge_and_never_without_is_the_servers_doing(slip: str) -> None:
    found = slipping({2: slip, 3: slip})
    assert (found.value("pkce"), found.parameter("Pkce"), found.value("replay")) == ("fails", "disabled", "refused")
    down = slipping({2: slip, 3: slip, 4: slip})
    assert (down.value("pkce"), down.parameter("Pkce")) == (None, None)


def test_a_challenge_is_demanded_only_if_logins_without_one_failed_twice_by_the_servers_doing() -> None:
    found = slipping({1: "late", 2: "late", 4: "server_error"})
    assert ({name: found.value(name) for name in RIGHT}, found.parameter("Pkce")) == (RIGHT, "enabled")


def test_a_server_that_never_worked_gets_no_verdict() -> None:
    found = probed(stumbles=dict.fromkeys(range(1, 50), (403, "Forbidden")))
    assert {found.value(name) for name in RIGHT} == {None}
    assert (found.in_the_way, found.parameter("Pkce"), found.parameter("ReplayPolicy")) == (set(), None, None)


def test_where_no_consent_brings_tokens_no_more_are_asked_for() -> None:
    found = slipping(dict.fromkeys(range(1, 20), "somebody else's"))
    assert found.report.consents == 3
    assert "`state`" in found.words("refresh_token")
    assert found.value("iss") is None


@pytest.mark.parametrize(
    "oddity",
    [
        lambda number: {"stumbles": {number: (403, "Forbidden")}},
        lambda number: {"stumbles": {number: (401, '{"error": "invalid_client"}')}},
        lambda number: {"stumbles": {number: (503, "{}")}},
        lambda number: {"stumbles": {number: (429, "")}},
        # An answer that is lost: the token may be spent, so nothing follows from what it gets afterwards.
        lambda number: {"loses": {number}},
    ],
)
def test_what_goes_wrong_once_is_never_a_verdict(oddity: Callable[[int], dict[str, Any]]) -> None:
    for number in range(1, 10):
        found = probed(**oddity(number))
        assert wrong(found) == {}, number
        assert (found.value("replay"), found.in_the_way) == ("refused", set()), number


@pytest.mark.parametrize("status", [503, 403])
def test_an_outage_at_the_start_is_not_what_refusals_look_like(status: int) -> None:
    for length in (2, 4, 5, 7):
        found = probed(stumbles=dict.fromkeys(range(1, length + 1), (status, "{}")))
        assert (wrong(found), found.in_the_way) == ({}, set())
        assert found.value("invalid_grant") == RIGHT["invalid_grant"]


def test_what_is_of_no_use_in_two_ways_is_not_what_refusals_look_like() -> None:
    """Before the first success other nonsense comes than at the end."""
    early, late = dict.fromkeys(range(1, 5), (403, "")), dict.fromkeys(range(12, 16), (503, ""))
    found = probed(stumbles=early | late)
    assert (found.value("invalid_grant"), found.value("invalid_client"), found.in_the_way) == (None, None, set())
    assert "outage" in found.words("invalid_grant")


THROTTLED = Seen(answer=Answer(Outcome.THROTTLED, status=429))
OTHER = Seen(answer=Answer(Outcome.CONFIGURATION_ERROR, status=403))


@pytest.mark.parametrize(
    ("let_in", "last", "limit"),
    [
        ([20, 20], THROTTLED, 20),
        ([100, 20, 20], THROTTLED, 20),  # A reserve of 100 was full.
        ([40, 21, 20], THROTTLED, 20),  # A minute of the server's clock ended meanwhile.
        ([2, 2], THROTTLED, 2),
        ([13, 0, 0, 0], THROTTLED, None),  # A limit by the day.
        ([20, 15, 10, 5], THROTTLED, None),
        ([20], OTHER, None),
        ([20, 150], None, None),
    ],
)
def test_a_limit_is_what_two_measurements_in_a_row_agree_on(
    monkeypatch: pytest.MonkeyPatch, let_in: list[int], last: Seen | None, limit: int | None
) -> None:
    answers = [(number, THROTTLED) for number in let_in[:-1]] + [(let_in[-1], last)]
    monkeypatch.setattr(experiments.Probe, "_let_in", lambda _self: answers.pop(0))
    with odd_server(Oddities()) as server:
        found = run(server.target, OddConsents(), Clock(), measure_rate=True)
    assert (found.value("rate_limit"), answers) == (limit, [])
    assert found.parameter("RefreshesPerMinute") == (str(limit * 3 // 4) if limit else None)
    assert str(let_in[-1]) in found.words("rate_limit")


OPTIONS: dict[str, dict[str, Any]] = {
    "status": {"status": 503, "body": "<html>down"},
    "error": {"code": "server_error"},
    "delay": {"seconds": 1},
    "drip": {"seconds": 0.02},
    "throttle": {"retry_after": 7},
}


@pytest.mark.parametrize("fault", sorted(faults._OPTIONS.keys() - {"wrong_business", "throttle"}))
@pytest.mark.parametrize("grant", ["authorization_code", "refresh_token"])
def test_a_fault_is_made_good(runs: Runs, fault: str, grant: str) -> None:
    options = OPTIONS.get(fault, {})
    runs.simulator.order(fault, grant_type=grant, **options)
    once = runs(patience=0.3)
    assert once.words("surprises").startswith("Yes, 1.")
    assert (once.value("invalid_grant")["outcome"], once.value("replay"), once.value("pkce")) == (
        *("rejected", "refused", "works"),
    )


def test_a_429_is_waited_out_and_a_server_that_goes_on_with_it_given_up(runs: Runs) -> None:
    runs.simulator.order("throttle", retry_after=7)
    run = runs()
    assert (7 <= run.slept - experiments.REPLAY_AFTER < 60, run.value("replay")) == (True, "refused")
    runs.simulator.order("throttle", times=faults.MAX_TIMES)
    assert "throttling" in runs().words("invalid_grant")


def test_the_pace_keeps_below_the_sandboxs_limit(runs: Runs) -> None:
    run = runs({"rate_limit": True, "requests_per_minute": 5}, pace=4)
    assert (run.value("surprises"), run.value("replay")) == ("none", "refused")
    assert not [one for one in runs.simulator.control("GET", "requests")["requests"] if one["status"] == 429]


def test_a_canary_that_is_answered_too_late_is_in_the_way(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "IN_TIME", 0.2)
    runs.simulator.order("delay", seconds=0.4)
    assert runs().in_the_way == set()
    runs.simulator.order("delay", seconds=0.4, times=2)
    assert runs().in_the_way == {"invalid_grant"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"client_secret": "another"}, "CLIENT_SECRET"),
        ({"token_endpoint": "http://127.0.0.1:9/token"}, "TOKEN_ENDPOINT"),
    ],
)
def test_what_would_be_in_vain_is_known_before_any_consent(runs: Runs, change: dict[str, Any], says: str) -> None:
    run = runs.of(replace(runs.target(), **change))
    assert run.report.consents == 0
    assert (says in run.words("replay"), run.in_the_way) == (True, set())
