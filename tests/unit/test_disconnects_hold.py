"""After a disconnect nothing that was consented to before it comes to life, by whichever way it arrives."""

import pytest

from flowaccount_connect.connect.callback import Ended, Returned
from flowaccount_connect.connect.endings import Ending
from flowaccount_connect.domain.connection import Status
from flowaccount_connect.domain.ids import new_grant_id
from flowaccount_connect.oauth.token_answer import TokenSet
from flowaccount_connect.rotation.new_tokens import timed
from flowaccount_connect.rotation.pending_commits import PendingCommits, PendingOutcome
from flowaccount_connect.storage.connections import Refused
from flowaccount_connect.storage.imports import ImportStore
from flowaccount_connect.storage.sealing import TokenPair
from flowaccount_connect.storage.stored_tokens import StoredTokens
from tests.support.commits import commit_of
from tests.unit.fakes import CONNECTION, GRANT, NOW, tokens
from tests.unit.tables import Fault, client_error
from tests.unit.worlds import BROWSER, STATE, TENANT, World

DAY = 86_400


def disconnect(world: World) -> None:
    there = world.connection()
    world.store.disconnect(CONNECTION, there.grant_id, now=world.clock())


def came_back(world: World, secret: str = BROWSER) -> Ended:
    returned = Returned(state=STATE, code="code", error=None, issuer=None, secret=secret)
    return world.callback().finish(returned, remaining=world.clock.remaining(28))


@pytest.fixture
def world() -> World:
    made = World()
    made.connect()
    made.endpoint.answers = [tokens()]
    return made


def ended(world: World) -> bool:
    there = world.connection()
    return there.status is Status.DISCONNECTED and there.sealed is None and there.grant_id > GRANT


def test_a_callback_in_flight(world: World) -> None:
    world.begin()
    world.endpoint.on_post = lambda: disconnect(world)
    assert came_back(world).ending is Ending.ATTEMPT_EXPIRED  # Its user starts again; nothing says "connected".
    assert ended(world)


@pytest.mark.parametrize("again", [False, True], ids=["a disconnect", "a second one"])
def test_a_confirmation_that_waits(world: World, again: bool) -> None:
    if again:
        disconnect(world)
        world.clock.now += 100
    link, confirmation = world.link()
    came_back(world, f"{BROWSER}.{link}")
    world.clock.now += 5
    disconnect(world)
    with pytest.raises(Exception, match="connect_failed"):
        world.confirmation().confirm(confirmation, TENANT)
    assert ended(world)


def test_a_pending_commit_of_13_days_ago(world: World) -> None:
    world.begin()
    world.table.faults["transact_write_items"] = [Fault(client_error("InternalServerError"))] * 99
    came_back(world)
    world.table.faults.clear()
    world.clock.now += 60
    disconnect(world)
    (message,) = world.sqs.sent
    late = PendingCommits(world.table, "table").apply(message["MessageBody"], now=NOW + 13 * DAY)
    assert late == (PendingOutcome.TOO_LATE, CONNECTION)
    assert ended(world)


def test_the_consent_that_it_ends_although_its_clock_was_ahead(world: World) -> None:
    ahead = new_grant_id(lambda: NOW + 60)
    world.change(grant_id=ahead)
    disconnect(world)
    assert world.connection().grant_id == ahead


def test_an_id_that_no_clock_has_made_keeps_no_later_consent_out(world: World) -> None:
    world.change(grant_id="zzzz")
    disconnect(world)
    assert world.connection().grant_id < new_grant_id(lambda: NOW + 1)


def test_an_import(world: World) -> None:
    world.end("rejected")
    imports = ImportStore(world.table, "table", "sandbox", clock=world.clock)
    grant_id = "01a00000-0000-7000-8000-000000000000"
    key = world.sealer.data_key()
    sealed = world.sealer.seal(TokenPair("", "given"), key, owner=CONNECTION, grant_id=grant_id)
    imports.begin(CONNECTION, grant_id, sealed, deadline=NOW + DAY, now=NOW)
    imported = imports.get(CONNECTION)
    assert imported is not None
    imports.cancel(imported, world.connection(), now=NOW)
    with pytest.raises(Refused):
        imports.commit(commit_of(CONNECTION, grant_id, 0, "late", _stored(world)))
    assert ended(world)


def test_who_consents_afterwards_is_connected(world: World) -> None:
    disconnect(world)
    world.clock.now += 2
    world.begin()
    came_back(world)
    assert world.connection().status is Status.ACTIVE


def _stored(world: World) -> StoredTokens:
    there = world.connection()
    assert there.sealed is None
    key = world.sealer.data_key()
    sealed = world.sealer.seal(TokenPair("late", "late"), key, owner=CONNECTION, grant_id="g")
    return timed(sealed, TokenSet("late", "late", 3_600, CONNECTION), NOW + 5, world.schedule)


def test_who_connects_again_at_once_is_connected() -> None:
    world = World()
    world.connect()
    world.clock.now += 0.25
    disconnect(world)
    world.clock.now += 0.002
    world.endpoint.answers = [tokens()]
    world.begin()
    assert came_back(world).ending is Ending.CONNECTED
