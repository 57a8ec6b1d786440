"""The rules of time: early enough for an outage, apart from each other, and never past the deadline."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowaccount_connect.domain.schedule import DUE_SHARDS, TICK, Schedule, random_fraction, shard_of

NOW = 1_800_000_000
FRACTIONS = st.floats(0, 1, exclude_max=True)
HOUR = 3_600


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    lifetime = draw(st.integers(10, 365 * 86_400))
    fraction = draw(FRACTIONS)
    return Schedule(draw(st.integers(1, lifetime - 1)), lifetime, lambda: fraction)


def test_a_refresh_token_dies_a_lifetime_after_its_request() -> None:
    assert Schedule().deadline(NOW) == NOW + 86_400


@given(schedules(), st.integers(0, 2**33))
def test_jitter_only_ever_refreshes_early_and_by_a_tenth_at_most(schedule: Schedule, requested_at: int) -> None:
    at = schedule.refresh_at(requested_at)
    assert requested_at + schedule.refresh_after * 0.9 <= at + 1
    assert at <= requested_at + schedule.refresh_after < schedule.deadline(requested_at)


def test_what_was_connected_together_does_not_fall_due_together() -> None:
    times = [Schedule().refresh_at(NOW) for _ in range(1_000)]
    assert min(times) < NOW + 5.5 * HOUR
    assert max(times) > NOW + 5.9 * HOUR
    assert max(Counter(t // 60 for t in times).values()) < 100


def test_an_outage_of_seventeen_hours_costs_nothing() -> None:
    schedule = Schedule()
    assert schedule.deadline(NOW) - schedule.refresh_at(NOW) >= 17 * HOUR


@given(schedules(), st.integers(0, 2**33), st.integers(-(2**20), 2**26), st.integers(0, 500), st.integers(0, 2**34))
def test_a_retry_is_later_than_now_and_before_the_deadline_while_that_is_ahead(
    schedule: Schedule, now: int, ahead: int, retries: int, not_before: int
) -> None:
    deadline = now + ahead
    at = schedule.retry_at(now, deadline, retries, not_before=not_before)
    assert at > now
    if deadline > now + 1:
        assert at < deadline
    # And in the end early enough for the tick that finds it.
    last_try = deadline - max(schedule.refresh_token_lifetime // 60, 1)
    if last_try <= now and ahead > 2 * TICK and not now < not_before < deadline:
        assert at + TICK <= now + max(ahead // 2, TICK + 1)


@given(schedules(), st.integers(0, 500))
def test_backoff_is_bounded_after_the_deadline_too(schedule: Schedule, retries: int) -> None:
    assert schedule.retry_at(NOW, NOW - 1, retries) <= NOW + 1 + max(schedule.refresh_after // 24, 1)


def test_backoff_grows_with_every_failure_until_it_levels_off() -> None:
    slow = Schedule(fraction=lambda: 0.999)
    waits = [slow.retry_at(NOW, NOW + 80_000, retries) - NOW for retries in range(12)]
    assert waits == sorted(waits)
    assert waits[0] <= 31
    assert waits[-1] == 900


def test_what_is_refused_alone_comes_no_more_often_than_what_is_accepted_but_has_its_last_tries() -> None:
    """Its deadline is the soonest, so that it would go before all others every quarter of an hour."""
    slow = Schedule(fraction=lambda: 0.999)
    waits = [slow.retry_at(NOW, NOW + 80_000, retries, alone=True) - NOW for retries in range(20)]
    assert waits == sorted(waits)
    assert 0.99 * slow.refresh_after < waits[-1] <= slow.refresh_after
    assert slow.retry_at(NOW, NOW + 5_000, 20, alone=True) == NOW + 5_000 - 1_440


def test_backoff_has_full_jitter() -> None:
    waits = [Schedule().retry_at(NOW, NOW + 80_000, 8) - NOW for _ in range(500)]
    assert min(waits) < 150
    assert max(waits) > 750


@pytest.mark.parametrize(
    ("left", "wait", "at"),
    [(80_000, 5_000, 5_000), (10_000, 20_000, 10_000 - 1_440), (1_000, 20_000, 500 - TICK), (300, 180, 180)],
    ids=["long before the deadline", "to the last try", "half of what is left", "the lease of a token in doubt"],
)
def test_a_retry_waits_for_what_it_must_and_keeps_the_last_try_before_the_deadline(
    left: int, wait: int, at: int
) -> None:
    assert Schedule().retry_at(NOW, NOW + left, 0, not_before=NOW + wait) == NOW + at


@given(schedules(), st.integers(0, 2**33), st.integers(-(2**20), 2**26), st.integers(0, 2**20))
def test_no_pause_of_the_stack_sleeps_past_a_deadline_that_is_ahead(
    schedule: Schedule, now: int, ahead: int, pause: int
) -> None:
    deadline = now + ahead
    at = schedule.resume_at(now, deadline, pause)
    assert at > now
    if deadline > now + 1:
        assert at < deadline
    if now + pause < deadline - schedule.refresh_token_lifetime // 60 - 1:
        assert at == max(now + pause, now + 1)


def test_after_a_pause_the_last_try_before_the_deadline_is_left() -> None:
    assert Schedule().resume_at(NOW, NOW + 80_000, 3_600) == NOW + 3_600
    assert Schedule().resume_at(NOW, NOW + 2_000, 3_600) == NOW + 2_000 - 1_440
    assert Schedule().resume_at(NOW, NOW + 1_000, 3_600) == NOW + 500 - TICK
    assert Schedule().resume_at(NOW, NOW + 1_000, 240) == NOW + 240
    assert Schedule().resume_at(NOW, NOW - 1_000, 3_600) == NOW + 3_600


@pytest.mark.parametrize("left", [86_000, 1_440, 1_439, 600, 300])
def test_however_often_it_fails_a_tick_finds_it_again_before_the_deadline(left: int) -> None:
    """The tick comes a minute after it fell due; while two are left, one more try is."""
    slow, now, deadline = Schedule(fraction=lambda: 0.999), NOW, NOW + left
    tries = 0
    while deadline - now > 2 * TICK:
        now = max(slow.retry_at(now, deadline, 20), slow.resume_at(now, deadline, 3_600)) + TICK
        assert now < deadline
        tries += 1
    assert tries >= (1 if left == 300 else 2)


def test_the_last_hour_of_a_day_is_urgent_and_what_is_past_it_is_not() -> None:
    left = (3_601, 3_600, 3_599, 1, 0, -1)
    assert [Schedule().urgent(NOW, NOW + seconds) for seconds in left] == [False, False, True, True, False, False]
    assert not Schedule(16, 80).urgent(NOW, NOW + 3)
    assert Schedule(16, 80).urgent(NOW, NOW + 2)


def test_a_connection_is_given_up_a_full_lifetime_after_its_deadline_and_not_before() -> None:
    schedule = Schedule()
    assert not schedule.given_up(NOW, NOW)
    assert not schedule.given_up(NOW + 86_399, NOW)
    assert schedule.given_up(NOW + 86_400, NOW)


def test_a_connection_keeps_its_shard_for_ever() -> None:
    # What is stored under a shard is looked for under that shard by every later version.
    assert shard_of("N1234567") == 7


@given(st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True))
def test_every_id_has_a_shard(connection_id: str) -> None:
    assert 0 <= shard_of(connection_id) < DUE_SHARDS


def test_connections_are_spread_over_all_shards() -> None:
    counts = Counter(shard_of(f"N{i}") for i in range(1_000_000, 1_008_000))
    assert counts.keys() == set(range(DUE_SHARDS))
    assert max(counts.values()) < 2 * min(counts.values())


@pytest.mark.parametrize("_", range(3))
def test_chance_is_never_certain(_: int) -> None:
    values = [random_fraction() for _ in range(200)]
    assert all(0 <= value < 1 for value in values)
    assert len(set(values)) == 200
