"""What a slip of the user, a gateway or a short outage may have caused as well is no verdict against the server."""

import signal
import threading
import time
from types import FrameType
from typing import Any

import pytest

from flowaccount_connect.oauth.token_answer import Answer, Outcome
from tests.probe.odd_server import OddConsents, Oddities, OddServer, odd_server
from tests.probe.runs import Clock, Run, Runs, run
from tools.probe import experiments
from tools.probe.consent import Stuck
from tools.probe.demonstration import PlayedConsents
from tools.probe.findings import Findings
from tools.probe.parameters import follow
from tools.probe.wire import Seen

REDIRECT = "http://127.0.0.1:9/callback"
RIGHT = {
    "invalid_client": {"status": 401, "error": "invalid_client", "outcome": "configuration_error", "as_expected": True},
    "invalid_grant": {"status": 400, "error": "invalid_grant", "outcome": "rejected", "as_expected": True},
    "rotation": "new_token",
    "replay": "refused",
    "replay_family": "alive",
    "replay_older": "refused",
    "pkce": "enforced",
    "redirect_uri": "compared",
    "burnt_code": "yes",
    "wrong_secret_spends": "no",
    "code_twice_kills": "no",
    "simultaneous": "one",
    "earlier_consent": "alive",
    "state": "same",
    "cancel": "access_denied",
}
"""What is true of a strict server."""


class Slips(OddConsents):
    """A user who does as told, but for these consents, by their number from 1."""

    def __init__(self, slips: dict[int, str]) -> None:
        self.slips = slips
        self.asked = 0

    def ask(self, url: str, *, why: str, cancel: bool = False) -> str | None:
        self.asked += 1
        slip = self.slips.get(self.asked)
        if slip == "late":
            return None
        if slip == "stuck":
            raise Stuck
        if slip == "the login's own address":
            return url
        cancel = cancel if slip is None else slip == "cancels"
        landed = super().ask(url, why=why, cancel=cancel) or ""
        before, _, after = landed.partition("code=")
        return {
            None: landed,
            "cancels": landed,
            "logs in": landed,
            "cut off": before + "code=" + after[:9],
            "somebody else's": f"{REDIRECT}?code=abc&state=xyz",
            "nothing in it": REDIRECT,
            "server_error": f"{before}error=server_error",
        }[slip]


def slipping(slips: dict[int, str], **oddities: Any) -> Run:
    """A run whose user slips."""
    with odd_server(Oddities(**oddities)) as server:
        found = run(server.target, Slips(slips), Clock(server.advance))
        assert "abc" not in server.tried
    return found


def probed(kind: type[OddServer] = OddServer, clock: type[Clock] = Clock, **options: Any) -> Run:
    """A run against a server of this kind. Options of a run are those that are no oddities."""
    odd = {name: options.pop(name) for name in list(options) if name in Oddities.__dataclass_fields__}
    with odd_server(Oddities(**odd), kind) as server:
        found = run(server.target, OddConsents(), clock(server.advance), **options)
        assert found.report.requests == server.token_requests + server.api_requests
    return found


def token_requests(**oddities: Any) -> int:
    """How many a run sends to such a server."""
    with odd_server(Oddities(**oddities)) as server:
        run(server.target, OddConsents(), Clock(server.advance))
        return server.token_requests


def wrong(found: Run) -> dict[str, Any]:
    """What it says of a strict server that is not true."""
    return {name: found.value(name) for name, true in RIGHT.items() if found.value(name) not in (true, None)}


# The user ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("slip", ["late", "stuck", "cancels", "the login's own address", "somebody else's"])
def test_one_slip_of_the_user_is_made_good(number: int, slip: str) -> None:
    found = slipping({number: slip})
    cancelling_is_stuck = (number, slip) == (3, "stuck")
    assert {name: found.value(name) for name in RIGHT} == RIGHT | (
        {"cancel": "stranded"} if cancelling_is_stuck else {}
    )
    assert found.parameter("Pkce") == "enabled"


@pytest.mark.parametrize("slip", ["cut off", "nothing in it", "server_error"])
def test_one_slip_with_a_challenge_is_made_good(slip: str) -> None:
    found = slipping({2: slip})
    assert {name: found.value(name) for name in RIGHT} == RIGHT


@pytest.mark.parametrize("slip", ["late", "cancels", "the login's own address", "nothing in it"])
def test_slips_again_and_again_with_a_challenge_leave_it_open(slip: str) -> None:
    found = slipping({2: slip, 3: slip})
    assert (found.value("pkce"), found.parameter("Pkce")) == (None, None)
    assert wrong(found) == {}


@pytest.mark.parametrize("slip", ["late", "cancels"])
def test_slips_without_a_challenge_do_not_make_one_required(slip: str) -> None:
    found = slipping({1: slip, 2: slip})
    assert found.value("pkce") == "enforced"
    assert "optional" in found.words("pkce")
    for last in (slip, "server_error"):
        for_good = slipping({1: slip, 2: slip, 4: last, 5: last})
        assert for_good.value("pkce") == "enforced"
        assert "not known" in for_good.words("pkce")


@pytest.mark.parametrize("slip", ["stuck", "cut off"])
def test_what_comes_twice_with_a_challenge_and_never_without_is_the_servers_doing(slip: str) -> None:
    found = slipping({2: slip, 3: slip})
    assert found.value("pkce") == {"stuck": "refused_at_login", "cut off": "dropped"}[slip]
    assert found.parameter("Pkce") == "disabled"
    assert found.value("replay") == "refused"


def test_a_login_that_is_down_for_a_while_is_no_verdict() -> None:
    down = slipping(dict.fromkeys((2, 3, 4), "server_error"))
    assert (down.value("pkce"), down.parameter("Pkce")) == (None, None)
    up_again = slipping({1: "server_error", 2: "server_error"})
    assert up_again.value("pkce") == "enforced"
    assert "optional" in up_again.words("pkce")


def test_a_cancel_that_nobody_made_in_time_is_open_and_one_that_is_stuck_is_told() -> None:
    late = slipping({3: "late", 4: "late"})
    assert late.value("cancel") is None
    assert "in time" in late.words("cancel")
    assert slipping({3: "stuck"}).value("cancel") == "stranded"
    assert slipping({3: "logs in"}).value("cancel") == "access_denied"


@pytest.mark.parametrize(("number", "value"), [(1, None), (2, "other")])
def test_a_state_is_lost_only_if_it_never_comes(number: int, value: str | None) -> None:
    found = slipping(
        dict.fromkeys(range(1, number + 1), "somebody else's") | dict.fromkeys(range(number + 1, 20), "late")
    )
    assert found.value("state") == value
    assert slipping({6: "somebody else's", 7: "somebody else's"}).value("state") == "same"


# Gateways and outages ------------------------------------------------------------------------------------------------

STUMBLES = [(403, '{"message": "Forbidden"}'), (404, ""), (401, '{"error": "invalid_client"}'), (503, "{}")]


@pytest.mark.parametrize(("status", "body"), STUMBLES)
def test_a_gateway_that_stumbles_once_is_never_a_verdict(status: int, body: str) -> None:
    for number in range(1, token_requests() + 1, 1 if status == 403 else 3):
        found = probed(stumbles={number: (status, body)})
        assert wrong(found) == {}, number
        assert found.value("replay") == "refused"


def test_an_answer_that_is_lost_is_never_a_verdict() -> None:
    """The token that was sent may be spent by then, so nothing follows from what it gets afterwards."""
    for number in range(1, token_requests() + 1):
        found = probed(loses={number})
        assert wrong(found) == {}, number
        assert found.value("replay") == "refused"


@pytest.mark.parametrize("status", [503, 403])
def test_an_outage_of_the_first_requests_is_not_what_refusals_look_like(status: int) -> None:
    for number in range(3, token_requests() + 1, 3):
        found = probed(stumbles=dict.fromkeys((1, 2, number), (status, "{}")))
        assert wrong(found) == {}, number
        assert found.report.obstacles == []
    for_long = probed(stumbles=dict.fromkeys(range(1, 7), (status, "{}")))
    assert wrong(for_long) == {}
    assert for_long.value("invalid_grant") == RIGHT["invalid_grant"]


def test_what_is_of_no_use_in_two_ways_is_not_what_refusals_look_like() -> None:
    """Before the first success (the 5th request) another nonsense came than after it."""
    found = probed(stumbles={1: (403, ""), 2: (403, ""), 6: (503, ""), 7: (503, ""), 20: (503, "")})
    assert found.value("invalid_grant") is None
    assert "not look the same twice" in found.words("invalid_grant")
    assert wrong(found) == {}
    assert found.probe._alike == {}


def test_a_business_api_that_stumbles_once_is_no_dead_token() -> None:
    for number in range(1, 8):
        found = probed(api_stumbles={number: 401})
        assert (found.value("older_access_token"), found.value("replay_access_token")) == ("works", "alive"), number


def test_an_earlier_consent_is_ended_by_the_newer_one_only_if_that_lives() -> None:
    """The 8th request uses the earlier consent's token, the 9th the newer one's."""
    refused = 400, '{"error": "invalid_grant"}'
    assert probed(stumbles={8: refused}).value("earlier_consent") == "ended"
    assert probed(stumbles={8: refused, 9: refused}).value("earlier_consent") is None


def test_a_403_of_the_business_api_is_no_dead_token() -> None:
    found = probed(api_stumbles=dict.fromkeys(range(4, 40), 403))
    assert (found.value("unauthorized"), found.value("older_access_token")) == ("HTTP 401", None)


def test_a_stumble_costs_no_more_than_the_consent_it_met() -> None:
    """Each of the later steps, stumbling alone, goes on with the consent that is left."""
    last = token_requests()
    for number in range(last - 11, last - 1):
        assert probed(stumbles={number: (503, "")}).report.consents == 6


def test_an_api_that_never_takes_a_token_does_not_tell_what_a_reuse_kills() -> None:
    assert probed(answers_api=False).value("replay_access_token") is None
    assert probed(access_dies_on_refresh=True).value("replay_access_token") == "alive"


class Superseding(OddServer):
    """A reuse is taken and brings a token of its own; whoever then uses the one it superseded ends the consent."""

    def refresh(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """The refresh grant."""
        token = form["refresh_token"]
        consent = self.owners.get(token)
        if consent is None or not consent.alive:
            return 400, {"error": "invalid_grant"}
        if token in consent.rotated and consent.rotated[token][1] != consent.newest:
            consent.alive = False
            return 400, {"error": "invalid_grant"}
        if token in consent.rotated and consent.newest is not None:
            consent.rotated[consent.newest] = self.now, ""
        answer = self.issue(consent)
        consent.newest = answer["refresh_token"]
        consent.rotated[token] = self.now, consent.newest
        return 200, answer


def test_what_the_probe_itself_ends_afterwards_is_no_work_of_the_reuse() -> None:
    found = probed(Superseding)
    assert (found.value("replay_lines"), found.value("replay_family")) == ("newest", "alive")
    assert found.parameter("ReplayPolicy") == "allowed"


@pytest.mark.parametrize("pace", [3, 4, 7, 15])
def test_at_once_is_without_a_pause_for_the_pace(pace: int) -> None:
    found = probed(grace=20, pace=pace)
    assert (found.value("replay"), found.value("replay_late")) == ("same_token", "refused")
    assert found.value("simultaneous") == "both"


def test_a_pace_that_allows_nothing_at_once_leaves_that_open() -> None:
    found = probed(pace=1)
    assert (found.value("replay"), found.value("simultaneous")) == (None, None)
    assert "PACE is 1" in found.words("replay")


def test_a_429_between_a_rotation_and_the_reuse_is_no_end_of_a_grace() -> None:
    last = token_requests(grace=30)
    met: list[dict[str, Any]] = [{"stumbles": {number: (429, "{}")}} for number in range(last // 2, last + 1)]
    met += [{"api_stumbles": {number: 429}} for number in range(1, 8)]
    for stumble in met:
        found = probed(grace=30, **stumble)
        assert (found.value("replay"), found.value("replay_late")) == ("same_token", "refused"), stumble
        assert found.value("simultaneous") == "both", stumble


def test_two_that_are_refused_at_once_may_have_spent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    no = Seen(answer=Answer(Outcome.REJECTED, error="invalid_grant", status=400))
    monkeypatch.setattr(experiments, "_side_by_side", lambda _: [no, no])
    assert probed().value("simultaneous") == "neither"


def test_who_interrupts_two_at_once_does_not_wait_for_their_answers() -> None:
    answered, began = threading.Event(), time.monotonic()
    daemons: list[bool] = []

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def hangs(_number: int) -> Seen:
        daemons.append(threading.current_thread().daemon)
        answered.wait(20)
        raise AssertionError

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            experiments._side_by_side(hangs)
    finally:
        signal.signal(signal.SIGALRM, before)
        answered.set()
    assert time.monotonic() - began < 10
    # The end of the process waits for no daemon.
    assert daemons == [True, True]


# Limits --------------------------------------------------------------------------------------------------------------


class Limited(OddServer):
    """20 requests in every minute of the clock; 429 for others."""

    limit, minute, status, body = 20, 60, 429, "{}"

    def __init__(self, oddities: Oddities) -> None:
        super().__init__(oddities)
        self.counts: dict[int, int] = {}

    def admits(self) -> bool:
        """Whether the next request is let in."""
        window = int(self.now // self.minute)
        self.counts[window] = self.counts.get(window, 0) + 1
        return self.counts[window] <= self.limit

    def stumble(self) -> tuple[int, str] | None:
        """The limit, for every request."""
        return None if self.admits() else (self.status, self.body)


class Bucket(Limited):
    """A reserve of 100 that fills up by 20 a minute."""

    level, last = 100.0, 0.0

    def admits(self) -> bool:
        """Whether the reserve has one left."""
        if self.last:
            self.level = min(100, self.level + (self.now - self.last) / 3)
        self.last = self.now
        admitted = self.level >= 1
        self.level -= admitted
        return admitted


class ByNginx(Limited):
    """The same, told with another status."""

    status = 503


class ByGateway(Limited):
    """The same, told with yet another one."""

    status = 403


class ByAnError(Limited):
    """The same, told with an error code that could refuse a token, too."""

    status, body = 400, '{"error": "invalid_request"}'


class Tired(Limited):
    """Takes more at first than it does later."""

    def admits(self) -> bool:
        """Whether the next request is let in."""
        self.limit = 20 if self.token_requests < 35 else 4
        return super().admits()


class Daily(Limited):
    """So many in two hours."""

    limit, minute = 33, 7_200


class EndOfAMinute(Clock):
    """Whose measurement begins ten seconds before a minute of the clock ends, each request taking half a second."""

    def __call__(self) -> float:
        if "measures" in vars(self):
            self.sleep(0.25, "")
        return super().__call__()

    def sleep(self, seconds: float, why: str) -> None:
        super().sleep(seconds, why)
        if why == "for an empty minute before the measurement":
            super().sleep((50 - super().__call__()) % 60, "")
            self.measures = True


@pytest.mark.parametrize(
    ("kind", "clock", "limit", "follows"),
    [
        (Limited, Clock, 20, "15"),
        (Bucket, Clock, 20, "15"),
        (Limited, EndOfAMinute, 20, "15"),
        (ByNginx, Clock, None, None),
        (ByGateway, Clock, None, None),
        (ByAnError, Clock, None, None),
        (Tired, Clock, None, None),
        (Daily, Clock, None, None),
    ],
)
def test_a_limit_is_what_a_second_measurement_finds_too(
    kind: type[OddServer], clock: type[Clock], limit: int | None, follows: str | None
) -> None:
    found = probed(kind, clock, measure_rate=True, pace=15)
    assert found.value("rate_limit") == limit
    assert found.parameter("RefreshesPerMinute") == follows
    if kind in (ByNginx, ByGateway, ByAnError):
        assert "20 were let in, and then came" in found.words("rate_limit")


@pytest.mark.parametrize(("limit", "follows"), [(1, None), (2, "1"), (20, "15"), (100, "75")])
def test_a_pace_follows_that_leaves_something_to_others(limit: int, follows: str | None) -> None:
    findings = Findings()
    findings.note("rate_limit", limit, "Measured.")
    with odd_server(Oddities()) as server:
        parameters = {one.name: one.value for one in follow(findings, server.target)}
    assert parameters["RefreshesPerMinute"] == follows


# Time ----------------------------------------------------------------------------------------------------------------


class Asleep(Clock):
    """A machine that is asleep for some hours after so many."""

    after, hours = 22, 7

    def sleep(self, seconds: float, why: str) -> None:
        super().sleep(seconds, why)
        if why == "until the next look" and self.slept > self.after * 3_600 and "woke" not in vars(self):
            self.woke = True
            super().sleep(self.hours * 3_600, "asleep")


class AsleepLate(Asleep):
    """It falls asleep after the first token was used."""

    after, hours = 24, 30


class AsleepEarly(Asleep):
    """It falls asleep in its second hour."""

    after = 1


def living(seconds: float, clock: type[Clock] = Clock, **options: Any) -> Run:
    """A run that measures a server whose refresh tokens live so long."""
    return probed(clock=clock, token_lives=seconds, measure_lifetimes=True, **options)


def test_a_machine_that_was_asleep_tells_no_lifetime() -> None:
    assert living(86_400).value("refresh_token_lifetime") == 86_400
    found = living(86_400, Asleep)
    assert found.value("refresh_token_lifetime") is None
    assert "asleep" in found.words("refresh_token_lifetime")
    late = living(86_400, AsleepLate)
    assert (late.value("refresh_token_lifetime"), late.value("absolute_lifetime")) == (None, None)


def test_a_machine_that_was_asleep_tells_no_lifetime_of_an_access_token(runs: Runs) -> None:
    runs.simulator.set(access_token_lifetime=7_000, expires_in="absent")
    found = run(runs.target(), PlayedConsents(), AsleepEarly(runs.simulator.advance), measure_lifetimes=True)
    assert (found.value("access_token_lives"), found.parameter("AccessTokenLifetime")) == (None, None)
    assert "hours" in found.words("access_token_lives")


def test_a_lifetime_shorter_than_planned_with_is_in_the_way_and_its_bound_is_told() -> None:
    found = living(3_600)
    assert found.value("refresh_token_lifetime") == "shorter"
    assert "23 hours" in found.words("refresh_token_lifetime")
    assert any("less than 23 hours" in sentence for sentence in found.report.obstacles)


def test_a_consent_that_no_refresh_extends_is_in_the_way(runs: Runs) -> None:
    found = runs({"refresh_absolute_lifetime": 86_400}, measure_lifetimes=True)
    assert found.value("absolute_lifetime") == "under_36_hours"
    assert any("does not extend a consent" in sentence for sentence in found.report.obstacles)
    extended = living(86_400)
    assert extended.value("absolute_lifetime") is None
    assert extended.words("absolute_lifetime").startswith("Not within a day and a half")
    assert extended.report.obstacles == []


def test_two_consents_of_which_one_ends_the_other_are_not_left_alone() -> None:
    found = living(1e9, ends_earlier_consents=True)
    assert found.value("refresh_token_lifetime") is None
    assert "ended the first" in found.words("refresh_token_lifetime")
