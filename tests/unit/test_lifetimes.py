"""Lifetimes as announced: shorter ones count at once, longer ones where a setting says so, and a consent ends."""

import pytest

from flowaccount_connect.domain.connection import Connection
from flowaccount_connect.domain.schedule import Schedule
from flowaccount_connect.oauth.token_answer import Answer, Outcome, TokenSet
from flowaccount_connect.rotation.outcomes import RefreshOutcome
from flowaccount_connect.runtime import settings
from tests.unit.fakes import CONNECTION, NOW
from tests.unit.worlds import World

DAY = 86_400


def announced(*, refresh: int | None = None, consent: int | None = None) -> Answer:
    found = TokenSet("access-2", "refresh-2", 3_600, CONNECTION, refresh, consent)
    return Answer(Outcome.TOKENS, found, status=200)


def refreshed(world: World, schedule: Schedule, answer: Answer) -> Connection:
    """The connection after one refresh, at once."""
    world.change(refresh_at=int(world.clock()))
    assert world.refresh(answer, schedule=schedule).outcome is RefreshOutcome.REFRESHED
    return world.connection()


@pytest.fixture
def world() -> World:
    made = World()
    made.connect()
    return made


def exact(**rules: int | bool | None) -> Schedule:
    return Schedule(fraction=lambda: 0.0, **rules)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "longer", "deadline", "refresh_at"),
    [
        (None, False, DAY, 21_600),
        (7_200, False, 7_200, 1_800),
        (600, False, 600, 150),
        (599, False, DAY, 21_600),
        (1, True, DAY, 21_600),
        (30 * DAY, False, DAY, 21_600),
        (30 * DAY, True, 30 * DAY, 21_600),
    ],
    ids=["none", "shorter", "just enough", "too short", "a second", "longer, not believed", "longer, believed"],
)
def test_a_lifetime_as_announced(
    world: World, seconds: int | None, longer: bool, deadline: int, refresh_at: int
) -> None:
    there = refreshed(world, exact(believe_longer=longer), announced(refresh=seconds))
    assert (there.deadline - NOW, there.refresh_at) == (deadline, NOW + refresh_at)


def test_a_consent_as_announced_bounds_the_deadline_and_no_later_answer_prolongs_it(world: World) -> None:
    there = refreshed(world, exact(), announced(consent=5_000))
    assert (there.consent_ends_at, there.deadline) == (NOW + 5_000, NOW + 5_000)
    world.clock.now += 1_000
    there = refreshed(world, exact(), announced(consent=5_000))
    assert (there.consent_ends_at, there.deadline) == (NOW + 5_000, NOW + 5_000)
    there = refreshed(world, exact(), announced())
    assert there.consent_ends_at == NOW + 5_000
    there = refreshed(world, exact(), announced(consent=100))
    assert there.consent_ends_at == NOW + 1_100


def test_a_refresh_begins_no_consent_anew(world: World) -> None:
    assert refreshed(world, exact(consent_lifetime=30 * DAY), announced()).consent_ends_at is None
    assert exact(consent_lifetime=30 * DAY).consent_ends_at(NOW, None, renewed=True) == NOW + 30 * DAY
    assert exact(consent_lifetime=30 * DAY).consent_ends_at(NOW, 5, renewed=True) == NOW + 5


def test_before_its_consent_ends_a_connection_is_at_risk_since_one_moment(world: World) -> None:
    world.change(consent_ends_at=NOW + 3 * DAY + 1)
    assert refreshed(world, exact(), announced()).at_risk is None
    world.clock.now += 1
    assert refreshed(world, exact(), announced()).at_risk == NOW + 1
    world.clock.now += 21_600
    assert refreshed(world, exact(), announced()).at_risk == NOW + 1
    assert refreshed(world, exact(consent_warning=60), announced()).at_risk is None


VARIABLES = {
    "TOKEN_ENDPOINT": "https://token.example/token",
    "CLIENT_ID": "client",
    "CLIENT_SECRET_NAME": "secret",
    "KEY_ID": "key",
    "SALVAGE_QUEUE_URL": "https://sqs.example/1/salvage",
}


def test_by_default_nothing_longer_is_believed_and_no_consent_ends() -> None:
    schedule = settings.tokens(VARIABLES).schedule
    assert (schedule.believe_longer, schedule.consent_lifetime, schedule.consent_warning) == (False, None, 3 * DAY)


def test_the_settings_say_otherwise() -> None:
    more = {"REFRESH_TOKEN_LIFETIME_LONGER": "believed", "CONSENT_LIFETIME": "2592000", "CONSENT_WARNING": "60"}
    schedule = settings.tokens(VARIABLES | more).schedule
    assert (schedule.believe_longer, schedule.consent_lifetime, schedule.consent_warning) == (True, 30 * DAY, 60)
