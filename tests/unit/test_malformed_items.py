"""Reading an item never raises, whatever a hand or another program wrote: it is that connection's own trouble."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowaccount_connect.connections.managing import shown
from flowaccount_connect.domain.connection import Status, public_status
from flowaccount_connect.domain.events import entries, event
from flowaccount_connect.rotation.outcomes import RefreshOutcome
from flowaccount_connect.storage import attempts
from flowaccount_connect.storage.connections import from_item
from flowaccount_connect.storage.links import link_from_item
from tests.unit.fakes import CONNECTION, NOW
from tests.unit.worlds import World

NAMES = (
    *("status", "environment", "grant_id", "generation", "connected_at", "tenant", "tokens", "data_key"),
    *("requested_at", "access_expires_at", "deadline", "refresh_at", "consent_ends_at", "retries", "in_doubt"),
    *("refused_at", "refused_alone", "at_risk", "committed_by", "attempt_id", "attempt_started_at", "lease_until"),
    *("reason", "ended_at", "result", "consumed_by", "confirm_until", "expires_at", "key", "binding", "redirect_uri"),
    *("return_url", "connection_id", "expected_connection", "challenge_method", "link"),
)
VALUES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.text(max_size=8).map(lambda text: {"S": text}),
    st.sampled_from(("active", "disconnected", "reauthorization_required", "rejected")).map(lambda text: {"S": text}),
    st.integers(-(10**38), 10**38).map(lambda number: {"N": str(number)}),
    st.sampled_from(("1.5", "1E+30", "-0", "", "NaN")).map(lambda text: {"N": text}),
    st.binary(max_size=8).map(lambda content: {"B": content}),
    st.sampled_from([{"BOOL": True}, {"NULL": True}, {"L": []}, {"M": {}}, {"SS": ["a"]}]),
)
ITEMS = st.dictionaries(st.sampled_from(NAMES), VALUES)


def keyed(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    return item | {"pk": {"S": f"{kind}#N1"}, "sk": {"S": kind}}


@given(ITEMS)
def test_a_connection_or_an_import_that_nobody_understands_can_be_read_shown_and_told(item: dict[str, Any]) -> None:
    for kind in ("CONNECTION", "IMPORT"):
        found = from_item(keyed(kind, item))
        assert shown(found)["status"] == public_status(found)
        for entry in (*entries("c1", NOW, None, found), *entries("c2", NOW, found, None)):
            event(entry)


@example({"binding": {"S": "\u0e01"}})
@given(ITEMS)
def test_a_link_and_an_attempt_that_nobody_understands_can_be_read(item: dict[str, Any]) -> None:
    assert link_from_item(keyed("LINK", item)).is_over(NOW) in (True, False)
    assert attempts._from_item(keyed("ATTEMPT", item)).is_bound_to("no") is False


def whole() -> World:
    world = World()
    world.connect()
    return world


def test_what_is_not_understood_is_shown_as_unreadable_and_the_rest_as_it_is() -> None:
    for name, value in (
        *(("status", "strange"), ("reason", "because"), ("generation", "seven")),
        *(("deadline", b"soon"), ("retries", -1), ("at_risk", 10**12), ("grant_id", None), ("tenant", 7)),
        ("tenant", "ก" * 513),
    ):
        world = whole()
        world.change(**{name: value})
        there = world.connection()
        assert (there.status, public_status(there)) == (Status.UNREADABLE, "unreadable"), name
        assert there.sealed is not None
        assert there.access_expires_at == NOW - 22_000 + 86_400


def test_of_what_is_not_understood_no_token_is_spent() -> None:
    for name, value in (("generation", "seven"), ("requested_at", "now"), ("grant_id", None)):
        world = whole()
        world.change(**{name: value})
        for _ in range(2):
            done = world.refresh()
            assert (done.outcome, world.endpoint.posts) == (RefreshOutcome.UNREADABLE, []), name
            world.clock.now += 200


@pytest.mark.parametrize(
    "change",
    [
        {"generation": "seven"},
        {"status": "strange"},
        {"retries": -1},
        {"requested_at": "now"},
        {"refresh_at": -7},
        {"attempt_id": "a", "attempt_started_at": NOW, "lease_until": b"soon"},
        {"attempt_id": "a", "attempt_started_at": NOW},
        {"attempt_id": "a", "lease_until": NOW},
        {"attempt_id": "", "attempt_started_at": NOW, "lease_until": NOW},
        {"attempt_id": "a", "attempt_started_at": NOW, "lease_until": 200_000_000_000},
        {"status": "reauthorization_required"},
    ],
    ids=str,
)
def test_what_cannot_be_refreshed_takes_no_more_turns_than_a_connection(change: dict[str, str | int | bytes]) -> None:
    """Else two hundred malformed items, whose deadlines come nearer, take all that a tick can send."""
    world = whole()
    world.change(**change)
    before = world.table.item("CONNECTION", CONNECTION)
    done = world.refresh()
    assert done.outcome in (RefreshOutcome.UNREADABLE, RefreshOutcome.NOT_ACTIVE)
    after = world.table.item("CONNECTION", CONNECTION)
    assert after["refresh_at"] == NOW + 21_600
    claim = {"attempt_id", "attempt_started_at", "lease_until", "refresh_at"}
    assert {name: value for name, value in after.items() if name not in claim} == {
        name: value for name, value in before.items() if name not in claim
    }


def test_what_may_be_repaired_before_its_deadline_has_a_try_left_then() -> None:
    world = whole()
    world.change(generation="seven", deadline=NOW + 7_200)
    world.refresh()
    assert NOW < int(world.table.item("CONNECTION", CONNECTION)["refresh_at"]) < NOW + 7_200
