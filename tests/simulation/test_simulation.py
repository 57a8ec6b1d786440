"""The short simulation: our stack loses none where each of the others does, and the simulation would say if it did."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from flowaccount_connect.domain.schedule import Schedule
from tools.simulation import keeping, simulate
from tools.simulation.authorization_server import AuthorizationServer, Verdict
from tools.simulation.keeping import Keeping
from tools.simulation.trace import DAY, HOSTILE, HOUR, LIFETIME, START, Calendar, Period, Trace, Trouble

PEERS = {"Nango", "Vault plugin", "authproxy", "on demand"}


def small(*troubles: Period, days: int = 2, accepted: int | None = None) -> Trace:
    return Trace(
        name="small",
        seed=3,
        connections=300,
        days=days,
        refreshes_per_minute=4,
        accepted=accepted,
        troubles=troubles,
    )


def test_ours_loses_none_within_its_rate_and_each_of_the_others_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate, "FOLDER", tmp_path)
    monkeypatch.setattr(simulate, "shown", str)
    assert simulate.main(["--short", "--jobs", "2"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["passed"]
    rows = {(row["trace"], row["policy"]): row for row in report["results"]}
    assert len(rows) == 2 * (1 + len(PEERS))
    for trace in ("short", "short, calm"):
        ours = rows[trace, "ours"]
        assert (ours["lost"], ours["ended"]) == (0, 0)
        assert ours["peak"] <= ours["refreshes_per_minute"]
        # Every connection, several times a day, and nothing without need.
        assert 3 * 1_500 * 6 < ours["refreshed"] <= ours["sent"] < 8 * 1_500 * 9
    assert all(rows["short", peer]["lost"] > 100 for peer in PEERS)
    # Their best case, a world without troubles, is simulated as such.
    lost_in_calm = {peer for peer in PEERS if rows["short, calm", peer]["lost"]}
    assert lost_in_calm == {"Nango", "on demand"}
    assert (tmp_path / "report.svg").stat().st_size > 10_000


def test_the_same_seed_is_the_same_simulation_and_another_is_another() -> None:
    trace = small(Period(Trouble.OUTAGE, START + 30 * HOUR, START + 33 * HOUR))
    first, again = (Keeping(trace).run().figures() | {"seconds": 0} for _ in range(2))
    assert first == again
    other = Keeping(replace(trace, seed=4)).run().figures()
    assert other["sent"] != first["sent"]


def test_a_schedule_without_an_outage_budget_is_seen_to_lose() -> None:
    trace = small(Period(Trouble.OUTAGE, START + 30 * HOUR, START + 36 * HOUR), days=3)
    assert Keeping(trace).run().lost == 0
    late = Keeping(trace, Schedule(refresh_after=23 * HOUR)).run()
    assert late.lost > 30
    assert late.ended == late.lost or late.ended == 0


def test_of_more_than_can_be_saved_the_rest_is_saved() -> None:
    """At the whole capacity, after half an hour more than the budget: who is dead by then is lost, and few beside."""
    pause = Period(Trouble.PAUSED, START + 40 * HOUR, START + 58.5 * HOUR)
    simulation = Keeping(replace(small(pause, days=3), connections=4_180, refreshes_per_minute=12))
    dead: list[int] = []
    simulation.later(pause.end, lambda now: dead.append(int((simulation.server.left(now) <= 0).sum())), pause.end)
    record = simulation.run()
    assert dead[0] > 200
    assert dead[0] <= record.lost < 1.5 * dead[0]


@pytest.mark.parametrize("trouble", [Trouble.LIMITED, Trouble.LIMITED_SILENTLY, Trouble.CRASHES, Trouble.TABLE])
def test_no_single_trouble_costs_a_connection(trouble: Trouble) -> None:
    trace = small(Period(trouble, START + 20 * HOUR, START + 24 * HOUR, 0.3), accepted=5)
    record = Keeping(trace).run()
    assert (record.lost, record.ended) == (0, 0)
    assert record.peak <= 4


def test_the_troubles_of_others_cost_a_handful_in_each_brown_out_and_nothing_else() -> None:
    """Lost answers, false refusals, floods of visitors, and connections that are refused for ever, all together."""
    trace = replace(small(*HOSTILE, days=10), connections=500, refreshes_per_minute=2, alone=0.05)
    record = Keeping(trace).run()
    assert len(record.swallowed) == 3
    assert max(record.swallowed) <= simulate.handful(trace)
    assert record.lost == sum(record.swallowed)
    assert record.peak <= 2


@pytest.mark.parametrize(
    ("verdict", "alone"), [(Verdict.INVALID, 0.1), (Verdict.NO_ANSWER, 0.1), (Verdict.THROTTLED, 0.002)]
)
def test_whatever_some_are_answered_alone_costs_no_other_its_life_or_its_time(verdict: Verdict, alone: float) -> None:
    """A tenth is refused or has no answer for ever; one is throttled for ever."""
    trace = replace(small(days=5), connections=500, refreshes_per_minute=2, alone=alone)
    simulation = Keeping(trace)
    simulation.server.alone_by = verdict
    record = simulation.run()
    assert record.lost == 0
    # Tokens that were imported had twelve hours when they came.
    assert record.worst > 11 * HOUR


@pytest.mark.parametrize("lag", [0.0, 60.0])
def test_a_backlog_drains_at_the_whole_rate_however_old_the_queues_count_is(
    lag: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the real tick, queue and workers, after half a day in which nothing ran."""
    pause = Period(Trouble.PAUSED, START + 30 * HOUR, START + 42 * HOUR)
    simulation = Keeping(replace(small(pause, days=2), connections=2_000, refreshes_per_minute=12))
    monkeypatch.setattr(keeping, "_STALE", lag)
    monkeypatch.setattr(keeping, "_CRASHES", 0.0)
    sent: list[int] = []

    def count(_: None) -> None:
        sent.append(simulation.server.sent)
        simulation.later(simulation.clock.now + 60, count, None)

    simulation.later(pause.end + 300, count, None)
    simulation.later(pause.end + 3_600, lambda _: sent.append(-1), None)
    simulation.run()
    minutes = [b - a for a, b in itertools.pairwise(sent[: sent.index(-1)])]
    assert len(minutes) > 50
    assert set(minutes) <= {11, 12}


def test_the_server_takes_a_token_once_and_only_the_newest_and_only_in_time() -> None:
    server = AuthorizationServer(small())
    server.connect(0, START)
    assert server.refresh(0, 1, START + 10, 30)[0] is Verdict.TOKENS
    assert server.refresh(0, 1, START + 20, 30)[0] is Verdict.REFUSED
    assert server.refresh(0, 2, START + 10 + LIFETIME, 30)[0] is Verdict.REFUSED
    assert server.refresh(0, 2, START + 9 + LIFETIME, 30)[0] is Verdict.TOKENS
    assert (server.refreshed, server.sent, server.worst) == (2, 4, 1)
    assert list(server.left(START + 2 * DAY)) == [START + 9 + 2 * LIFETIME - START - 2 * DAY]


def test_the_server_limits_what_it_accepts_and_says_so_unless_it_is_silent() -> None:
    limited = Period(Trouble.LIMITED, START, START + HOUR, 0.5)
    silently = Period(Trouble.LIMITED_SILENTLY, START + HOUR, START + 2 * HOUR, 0.5)
    server = AuthorizationServer(small(limited, silently, accepted=4))
    server.connect(0, START)
    for begin, waits in ((START + 1, True), (START + HOUR + 1, False)):
        token = server.tokens[0]
        assert [server.refresh(0, token + i, begin + i, 30)[0] for i in range(2)] == [Verdict.TOKENS] * 2
        verdict, _, wait = server.refresh(0, token + 2, begin + 2, 30)
        assert (verdict, wait is not None) == (Verdict.THROTTLED, waits)


def test_the_peak_is_of_any_sixty_seconds() -> None:
    server = AuthorizationServer(small())
    server.connect(0, START)
    for second in (50, 55, 60, 65, 109, 200):
        server.refresh(0, 0, START + second, 30)
    assert server.peak == 5


def test_a_calendar_knows_what_is_on() -> None:
    first, within = Period(Trouble.SLOW, 10, 50), Period(Trouble.LIMITED, 20, 30)
    calendar = Calendar([within, first])
    assert [calendar.at(at) for at in (9, 10, 20, 29.9, 30, 49, 50, 12)] == [
        None,
        first,
        within,
        within,
        first,
        first,
        None,
        first,
    ]
