"""A connect takes room in the rate before it consumes anything, and only if it could consume something."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from flowaccount_connect.connect.callback import PATIENCE, Ended, Returned
from flowaccount_connect.connect.endings import Ending
from flowaccount_connect.oauth.token_answer import Answer, Outcome
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from tests.unit.fakes import NOW, FakePermit, tokens
from tests.unit.tables import Fault, client_error
from tests.unit.worlds import BROWSER, STATE, World


@pytest.fixture
def world() -> World:
    made = World()
    made.endpoint.answers = [tokens()]
    return made


def come_back(
    world: World,
    rate: FakePermit,
    link: str | None = None,
    *,
    state: str = STATE,
    secret: str = BROWSER,
    error: str | None = None,
    per_tenant: int = 99,
) -> Ended:
    callback = replace(world.callback(), permits=lambda: rate, exchanges_per_minute=per_tenant)
    cookie = secret if link is None else f"{secret}.{link}"
    returned = Returned(state=state, code=None if error else "c", error=error, issuer=None, secret=cookie)
    return callback.finish(returned, remaining=world.clock.remaining(28))


def test_an_exchange_takes_room_once_and_waits_a_few_seconds_for_it(world: World) -> None:
    world.begin()
    rate = FakePermit()
    steps: list[str] = []
    world.table.on_call = steps.append
    world.endpoint.on_post = lambda: steps.append("POST")
    assert come_back(world, rate).ending is Ending.CONNECTED
    assert rate.used == [(PATIENCE, False)]
    assert steps == ["get_item", "update_item", "POST", "transact_write_items"]


def test_without_room_nothing_is_consumed_and_a_reload_works(world: World) -> None:
    link, confirmation = world.link()
    before = {key: dict(item) for key, item in world.table.items.items() if key[1] != "MINUTE"}
    ended = come_back(world, FakePermit(room=0), link)
    assert (ended.ending, ended.untouched, ended.retry_after) == (Ending.BUSY, True, 41)
    assert (ended.attempt, ended.confirmation) == (None, None)
    assert {key: dict(item) for key, item in world.table.items.items() if key[1] != "MINUTE"} == before
    assert world.endpoint.posts == []
    again = come_back(world, FakePermit(), link)
    assert (again.ending, again.confirmation) == (Ending.TO_BE_CONFIRMED, confirmation)
    assert len(world.endpoint.posts) == 1


def test_one_tenants_links_send_so_many_codes_a_minute_and_another_tenants_send_their_own(world: World) -> None:
    rate = FakePermit()

    def connect(tenant: str, name: str) -> Ended:
        link = world.links.create(tenant=tenant, return_url="https://app.example.com/done", expires_at=NOW + 3_600)
        world.open(link, state=name, secret=name)
        world.endpoint.answers = [tokens()]
        return come_back(world, rate, link, state=name, secret=name, per_tenant=2)

    endings = [connect("greedy", str(number)) for number in range(4)]
    assert [ended.ending for ended in endings] == [Ending.TO_BE_CONFIRMED] * 2 + [Ending.BUSY] * 2
    assert {ended.retry_after for ended in endings[2:]} == {60 - NOW % 60}
    assert len(rate.used) == 2
    assert connect("modest", "another").ending is Ending.TO_BE_CONFIRMED
    world.clock.now += 60
    assert connect("greedy", "late").ending is Ending.TO_BE_CONFIRMED


@pytest.mark.parametrize(
    ("before", "secret", "ending"),
    [
        (lambda _: None, "another browser", Ending.ATTEMPT_UNKNOWN),
        (lambda world: world.clock.sleep(3_600), BROWSER, Ending.ATTEMPT_EXPIRED),
        (lambda world: come_back(world, FakePermit()), BROWSER, Ending.CONNECTED),
    ],
)
def test_who_can_consume_nothing_takes_no_room(
    world: World, before: Callable[[World], object], secret: str, ending: Ending
) -> None:
    world.begin()
    before(world)
    rate = FakePermit()
    assert come_back(world, rate, secret=secret).ending is ending
    assert come_back(world, rate, state="made up").ending is Ending.ATTEMPT_UNKNOWN
    assert rate.used == []


def test_a_link_that_was_used_takes_no_room(world: World) -> None:
    link, _ = world.link()
    world.open(link, state="second", secret="second")
    come_back(world, FakePermit(), link)
    rate = FakePermit()
    assert come_back(world, rate, link, state="second", secret="second").ending is Ending.ATTEMPT_USED
    assert rate.used == []


def test_a_cancel_takes_no_room(world: World) -> None:
    world.begin()
    rate = FakePermit(room=0)
    assert come_back(world, rate, error="access_denied").ending is Ending.ACCESS_DENIED
    assert rate.used == []


def test_a_429_to_an_exchange_is_reported_to_the_rate(world: World) -> None:
    world.begin()
    world.endpoint.answers = [Answer(Outcome.THROTTLED, retry_after=7)]
    rate = FakePermit()
    assert come_back(world, rate).ending is Ending.TEMPORARILY_UNAVAILABLE
    assert rate.throttles == [(NOW, 7)]


@pytest.mark.parametrize("calls_before", [0, 1, 2])
def test_while_the_table_stays_away_nothing_is_consumed(world: World, calls_before: int) -> None:
    link, _ = world.link()
    calls = iter([None] * calls_before + [Fault(client_error("InternalServerError"))])

    def fault(operation: str) -> None:
        found = next(calls, None)
        if found is not None:
            world.table.faults[operation] = [found]

    world.table.on_call = fault
    with pytest.raises(StoreUnavailable):
        come_back(world, FakePermit(), link)
    world.table.on_call = lambda _: None
    assert "consumed_by" not in world.attempt()
    assert come_back(world, FakePermit(), link).ending is Ending.TO_BE_CONFIRMED
