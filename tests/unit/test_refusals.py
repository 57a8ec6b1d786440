"""When a refusal is final: the second one, ten minutes later, of a connection whose endpoint is well; and what of one
that is refused alone."""

import pytest

from flowaccount_connect.domain.connection import Reason, Status, public_status
from flowaccount_connect.domain.schedule import Schedule
from flowaccount_connect.oauth.token_answer import Answer, Outcome
from flowaccount_connect.rotation.outcomes import Refresh, RefreshOutcome
from tests.unit.fakes import NOW, FakePermit, KnownHealth, tokens
from tests.unit.worlds import World

REFUSED = Answer(Outcome.REJECTED, error="invalid_grant", status=400)
SILENT = Answer(Outcome.IN_DOUBT)
DEADLINE = NOW + 86_400 - 22_000


@pytest.fixture
def world() -> World:
    made = World()
    made.connect()
    return made


def refresh(world: World, answer: Answer, *, at: int | None = None, well: bool = True) -> Refresh:
    """One attempt, when the connection is due or `at` (epoch)."""
    due = world.connection().refresh_at
    world.clock.now = at if at is not None else max(world.clock.now, due or 0)
    if at is not None:
        world.change(refresh_at=at)
    name = f"at {int(world.clock())}"
    return world.refresh(answer, attempt_id=lambda: name, health=KnownHealth(well=well))


def test_one_refusal_ends_nothing_and_is_shown(world: World) -> None:
    assert refresh(world, REFUSED).outcome is RefreshOutcome.REFUSED
    there = world.connection()
    assert (there.status, there.refused_at, there.refresh_at) == (Status.ACTIVE, NOW, NOW + 600)
    assert public_status(there) == "refresh_failing"
    assert world.opened() == ("access-1", "refresh-1")


@pytest.mark.parametrize(("in_doubt", "reason"), [(None, Reason.REJECTED), (NOW - 500, Reason.ROTATION_LOST)])
def test_the_second_refusal_is_final_and_says_whether_a_rotation_was_lost(
    world: World, in_doubt: int | None, reason: Reason
) -> None:
    world.change(in_doubt=in_doubt)
    refresh(world, REFUSED)
    ended = refresh(world, REFUSED)
    assert (ended.outcome, ended.reason) == (RefreshOutcome.REAUTHORIZATION_REQUIRED, reason)
    there = world.connection()
    assert (there.status, there.reason, there.refresh_at) == (Status.REAUTHORIZATION_REQUIRED, reason, None)


def test_two_refusals_within_ten_minutes_are_one(world: World) -> None:
    refresh(world, REFUSED)
    assert refresh(world, REFUSED, at=NOW + 599).outcome is RefreshOutcome.REFUSED
    assert world.connection().refused_at == NOW
    assert refresh(world, REFUSED, at=NOW + 600).outcome is RefreshOutcome.REAUTHORIZATION_REQUIRED


def test_past_its_deadline_one_refusal_is_final(world: World) -> None:
    assert refresh(world, REFUSED, at=DEADLINE - 1).outcome is RefreshOutcome.REFUSED
    assert refresh(world, REFUSED, at=DEADLINE).outcome is RefreshOutcome.REAUTHORIZATION_REQUIRED


def test_the_wait_after_a_refusal_never_ends_past_the_deadline(world: World) -> None:
    refresh(world, REFUSED, at=DEADLINE - 400)
    refresh_at = world.connection().refresh_at
    assert refresh_at is not None
    assert refresh_at < DEADLINE


def test_nobody_asks_on_demand_between_two_refusals(world: World) -> None:
    refresh(world, REFUSED)
    world.endpoint.posts.clear()
    on_demand = world.refresh(generation=1)
    assert (on_demand.outcome, world.endpoint.posts) == (RefreshOutcome.NOT_DUE, [])


@pytest.mark.parametrize("answer", [tokens(), tokens(refresh=None)], ids=["rotated", "kept"])
def test_a_success_forgets_the_refusal(world: World, answer: Answer) -> None:
    refresh(world, REFUSED)
    refresh(world, answer)
    there = world.connection()
    assert (there.refused_at, public_status(there)) == (None, "active")
    assert refresh(world, REFUSED).outcome is RefreshOutcome.REFUSED


def test_silence_between_two_refusals_changes_nothing(world: World) -> None:
    refresh(world, REFUSED)
    refresh(world, SILENT)
    assert world.connection().refused_at == NOW
    assert refresh(world, REFUSED).reason is Reason.ROTATION_LOST


def test_while_the_endpoint_is_unwell_no_refusal_is_final(world: World) -> None:
    refresh(world, REFUSED)
    assert refresh(world, REFUSED, well=False).outcome is RefreshOutcome.REFUSED
    assert refresh(world, REFUSED, at=DEADLINE + 10, well=False).outcome is RefreshOutcome.REFUSED
    assert world.connection().status is Status.ACTIVE
    assert refresh(world, REFUSED).outcome is RefreshOutcome.REAUTHORIZATION_REQUIRED


def test_a_shorter_life_than_a_day_leaves_less_time_between_two_refusals() -> None:
    assert Schedule().refusals_apart == 600
    assert Schedule(refresh_token_lifetime=30 * 86_400).refusals_apart == 600
    assert Schedule(refresh_token_lifetime=7_200).refusals_apart == 50


# Refused alone --------------------------------------------------------------------------------------------------------

ALONE = Answer(Outcome.CONFIGURATION_ERROR, error="invalid_request", status=400)


def test_what_is_refused_alone_is_announced_once_and_backed_off(world: World) -> None:
    for _ in range(3):
        assert refresh(world, ALONE).outcome is RefreshOutcome.CONFIGURATION_ERROR
        assert world.connection().refused_alone is None
    said = refresh(world, ALONE)
    since = world.connection().refused_alone
    assert since == said.refused_alone_since == int(world.clock.now)
    refresh(world, ALONE)
    there = world.connection()
    assert (there.refused_alone, public_status(there)) == (since, "refresh_failing")
    assert there.refresh_at is not None
    assert there.refresh_at > world.clock.now


def test_what_is_refused_alone_ends_when_its_time_is_over(world: World) -> None:
    world.change(retries=9)
    assert refresh(world, ALONE, at=DEADLINE + 86_399).outcome is RefreshOutcome.CONFIGURATION_ERROR
    ended = refresh(world, ALONE, at=DEADLINE + 86_400)
    assert (ended.outcome, ended.reason) == (RefreshOutcome.REAUTHORIZATION_REQUIRED, Reason.EXPIRED)


@pytest.mark.parametrize(
    ("answer", "well"),
    [(ALONE, False), (Answer(Outcome.CONFIGURATION_ERROR, error="invalid_client", status=401), True)],
    ids=["others are refused too", "the client itself is refused"],
)
def test_a_fault_of_the_stack_ends_nobody(world: World, answer: Answer, well: bool) -> None:
    world.change(retries=9)
    refresh(world, answer, at=DEADLINE + 20 * 86_400, well=well)
    there = world.connection()
    assert (there.status, there.refused_alone) == (Status.ACTIVE, None)


def test_a_success_forgets_that_it_was_refused_alone(world: World) -> None:
    world.change(retries=9)
    refresh(world, ALONE)
    refresh(world, tokens())
    assert world.connection().refused_alone is None


# Alone in other ways --------------------------------------------------------------------------------------------------


OTHERS_SUCCEED = KnownHealth(others_accepted=True)


def latest_retry(world: World, retries: int, health: KnownHealth) -> int:
    """In how many seconds a doubt after so many others is tried again, at the latest."""
    world.change(retries=retries, in_doubt=NOW - 9_000, refresh_at=NOW, deadline=NOW + 80_000)
    done = world.refresh(SILENT, health=health, schedule=Schedule(fraction=lambda: 1.0))
    assert done.outcome is RefreshOutcome.IN_DOUBT
    return (world.connection().refresh_at or 0) - NOW


def test_who_alone_has_no_answer_is_tried_as_seldom_as_who_is_refused_alone(world: World) -> None:
    """One in twenty, each tried four times an hour, would take the slots of all others: its deadline is sooner."""
    assert latest_retry(world, 9, OTHERS_SUCCEED) > 15_000
    assert latest_retry(world, 9, KnownHealth()) <= 901
    assert latest_retry(world, 2, OTHERS_SUCCEED) <= 901


@pytest.mark.parametrize(("asked", "pause"), [(None, 900), (30, 30)])
def test_who_alone_is_throttled_waits_alone(world: World, asked: int | None, pause: int) -> None:
    """Else one connection with a limit of its own would pause the stack again and again."""
    throttled = Answer(Outcome.THROTTLED, status=429, retry_after=asked)
    permit = FakePermit()
    done = world.refresh(throttled, health=OTHERS_SUCCEED, permit=permit)
    assert (done.outcome, done.retry_after) == (RefreshOutcome.THROTTLED, pause)
    assert world.connection().refresh_at == NOW + pause
    assert permit.throttles == []
