"""What happened to a connection follows from two states of its item, and is told as its schema says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from flowaccount_connect.domain.connection import Attempt, Connection, Reason, Status
from flowaccount_connect.domain.events import Entry, Kind, entries, event
from flowaccount_connect.oauth.token_answer import Answer, Outcome
from flowaccount_connect.publishing.publisher import Publisher, read_record
from flowaccount_connect.runtime.observability import logger
from flowaccount_connect.storage.connections import from_item
from flowaccount_connect.storage.history import History
from tests.unit.fakes import CONNECTION, NOW, Clock, tokens
from tests.unit.streams import StreamingTable
from tests.unit.worlds import World

SCHEMAS = Path(__file__).parents[2] / "events" / "schemas"
DOCUMENT = Path(__file__).parents[2] / "docs" / "events.md"

REJECTED = Answer(Outcome.REJECTED, error="invalid_grant", status=400)
SILENCE = Answer(Outcome.IN_DOUBT, error="timeout")
THROTTLED = Answer(Outcome.THROTTLED, status=429)


@pytest.fixture
def world() -> World:
    clock = Clock()
    return World(clock=clock, table=StreamingTable(clock))


def stream(world: World) -> StreamingTable:
    assert isinstance(world.table, StreamingTable)
    return world.table


def told(world: World) -> list[Entry]:
    """What the whole stream tells."""
    publisher = Publisher(
        history=History(world.table, "table"), bus=world.events, bus_name="bus", log=logger, environment="sandbox"
    )
    return [entry for one in stream(world).of_interest() for entry in publisher.entries(read_record(one))]


def kinds(world: World) -> list[str]:
    return [entry.kind.value for entry in told(world)]


def refresh(world: World, answer: Answer, *, age: int = 22_000) -> None:
    """One refresh that is answered so, once it is due."""
    world.clock.now += age
    world.endpoint.answers = [answer]
    world.refresh()


def validator(type_: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{type_}.v1.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def valid(type_: str, detail: dict[str, Any]) -> None:
    """Raises unless a detail is as its schema says, and holds nothing that the schema does not know."""
    validator(type_).validate(detail)
    assert set(detail) <= set(json.loads((SCHEMAS / f"{type_}.v1.json").read_text("utf-8"))["properties"])


# What the protocol's own writes tell -------------------------------------------------------------------------------


def test_a_first_consent_connects_and_a_later_one_reconnects(world: World) -> None:
    world.connect()
    world.connect(grant_id="0198b5a0-2222-7abc-8def-0123456789ab")
    connected, reconnected = told(world)
    assert (connected.kind, connected.generation, connected.status) == (Kind.CONNECTED, 1, "active")
    assert (reconnected.kind, reconnected.generation, reconnected.attempt_id) == (Kind.RECONNECTED, 2, "consent")


def test_a_refresh_tells_its_attempt_and_generation_and_a_claim_is_not_even_looked_at(world: World) -> None:
    world.connect()
    refresh(world, tokens())
    assert len(stream(world).records) == 3, "consent, claim, commit"
    assert len(stream(world).of_interest()) == 2, "consent, commit"
    _, refreshed = told(world)
    assert (refreshed.kind, refreshed.generation, refreshed.attempt_id) == (Kind.REFRESHED, 2, "mine")
    assert refreshed.deadline == int(world.clock()) + 86_400


def test_a_refusal_tells_why_and_since_when(world: World) -> None:
    world.connect()
    refresh(world, REJECTED)
    assert told(world)[-1].kind is Kind.ATTEMPT_FAILED
    refresh(world, REJECTED, age=4_000)
    ended = told(world)[-1]
    assert (ended.kind, ended.reason, ended.since) == (
        Kind.REAUTHORIZATION_REQUIRED,
        Reason.REJECTED,
        int(world.clock()),
    )
    assert (ended.attempt_id, ended.status, ended.deadline) == ("mine", "reauthorization_required", None)


def test_doubt_is_told_once_a_failure_after_it_is_one_and_a_commit_recovers(world: World) -> None:
    world.connect()
    refresh(world, SILENCE)
    refresh(world, SILENCE, age=4_000)
    refresh(world, tokens(), age=4_000)
    assert kinds(world) == ["connected", "in_doubt", "attempt_failed", "refreshed", "recovered"]
    _, doubt, failed, _, recovered = told(world)
    assert (doubt.status, doubt.attempt_id, doubt.retries) == ("in_doubt", "mine", 1)
    assert (failed.retries, failed.attempt_id) == (2, "mine")
    assert (recovered.recovered_from, recovered.status) == ("in_doubt", "active")


def test_a_claim_over_a_dead_attempt_tells_of_the_dead_one(world: World) -> None:
    world.connect()
    world.clock.now += 22_000
    dead = world.hold("dead", started=-500, lease=-1)
    world.endpoint.answers = [tokens()]
    world.refresh()
    assert kinds(world) == ["connected", "in_doubt", "refreshed", "recovered"]
    assert (told(world)[1].attempt_id, told(world)[1].since) == (dead.id, dead.started_at)


def test_a_rate_limit_releases_and_is_no_failure(world: World) -> None:
    world.connect()
    refresh(world, THROTTLED)
    assert kinds(world) == ["connected", "attempt_released"]


def test_a_success_without_a_new_refresh_token_does_not_recover_from_doubt(world: World) -> None:
    world.connect()
    refresh(world, SILENCE)
    refresh(world, tokens(refresh=None), age=4_000)
    assert kinds(world) == ["connected", "in_doubt", "refreshed"]
    refresh(world, tokens())
    assert kinds(world)[-2:] == ["refreshed", "recovered"]


def test_at_risk_is_told_once_with_its_deadline_and_a_refresh_recovers(world: World) -> None:
    there = world.connect()
    world.change(at_risk=NOW)
    world.change(at_risk=NOW, lease_until=NOW)
    refresh(world, tokens())
    assert kinds(world) == ["connected", "at_risk", "refreshed", "recovered"]
    risk = told(world)[1]
    assert (risk.since, risk.deadline, risk.attempt_id) == (NOW, there.deadline, None)
    assert told(world)[-1].recovered_from == "at_risk"


def test_a_connection_at_risk_for_its_consent_is_told_of_again_for_its_deadline(world: World) -> None:
    world.connect()
    world.change(at_risk=NOW, consent_ends_at=NOW + 99)
    world.change(at_risk=NOW + 5)
    world.change(at_risk=NOW + 5, lease_until=NOW)
    assert [entry.since for entry in told(world) if entry.kind is Kind.AT_RISK] == [NOW, NOW + 5]


def test_an_older_mark_that_comes_back_is_told_of_no_more(world: World) -> None:
    """A commit writes the mark that its claim has seen. A newer one may have been written in between."""
    world.connect()
    world.change(at_risk=NOW, consent_ends_at=NOW + 99)
    world.change(at_risk=NOW + 5)
    world.change(at_risk=NOW)
    assert kinds(world) == ["connected", "at_risk", "at_risk"]


def test_what_is_at_risk_says_whether_its_token_or_its_consent_ends(world: World) -> None:
    def risk(**change: int | None) -> tuple[str | None, int | None]:
        world.change(at_risk=None, consent_ends_at=None, deadline=NOW + 9)
        world.change(**change)
        last = told(world)[-1]
        assert last.kind is Kind.AT_RISK
        return last.reason, last.consent_ends_at

    world.connect()
    assert risk(at_risk=NOW) == ("deadline", None)
    assert risk(at_risk=NOW, consent_ends_at=NOW + 99) == ("deadline", NOW + 99)
    assert risk(at_risk=NOW, consent_ends_at=NOW + 9) == ("consent_ends", NOW + 9)
    assert risk(at_risk=NOW, consent_ends_at=NOW + 99, generation=2) == ("consent_ends", NOW + 99)


def test_what_is_refused_alone_is_told_once(world: World) -> None:
    world.connect()
    world.change(retries=4, refused_alone=NOW)
    world.change(retries=5)
    world.change(retries=6, attempt_id="a", attempt_started_at=NOW, lease_until=NOW)
    assert kinds(world).count("refused_alone") == 1


def test_what_is_refused_alone_is_told_with_what_callers_see(world: World) -> None:
    world.connect()
    world.change(retries=3)
    refresh(world, Answer(Outcome.CONFIGURATION_ERROR, error="invalid_scope", status=400))
    alone, failed = told(world)[-2:]
    assert (alone.kind, alone.since, alone.status) == (Kind.REFUSED_ALONE, int(world.clock()), "refresh_failing")
    assert (failed.kind, failed.retries) == (Kind.ATTEMPT_FAILED, 4)


def test_what_leaves_the_stream_is_all_that_is_read_of_a_connection_but_its_tokens(world: World) -> None:
    world.connect()
    asked: set[str] = set()

    class Asked(dict[str, Any]):
        def get(self, name: str, default: Any = None) -> Any:
            asked.add(name)
            return super().get(name, default)

    from_item(Asked(pk={"S": "CONNECTION#N1"}))
    whole = {name: {"N": "1"} for name in asked | {"secret"}}
    record = stream(world).of_interest()[0]
    carried = read_record(record | {"dynamodb": record["dynamodb"] | {"NewImage": whole}}).new
    assert set(carried or {}) == asked - {"tokens", "data_key"}


def test_a_late_commit_recovers_what_needed_a_new_consent(world: World) -> None:
    there = world.connect()
    world.change(in_doubt=NOW, at_risk=NOW)
    world.end("rotation_lost")
    world.rotated_by_another()
    assert kinds(world)[-3:] == ["reauthorization_required", "refreshed", "recovered"]
    recovered = told(world)[-1]
    assert (recovered.recovered_from, recovered.generation) == ("reauthorization_required", there.generation + 1)


def test_a_disconnect_a_new_connect_and_a_tombstone_that_ends_silently(world: World) -> None:
    world.connect()
    world.change(tenant="shop-7")
    world.disconnect()
    disconnected = told(world)[-1]
    assert (disconnected.kind, disconnected.tenant) == (Kind.DISCONNECTED, "shop-7")
    world.connect(grant_id="0198b5a0-2222-7abc-8def-0123456789ab")
    world.disconnect()
    stream(world).delete("CONNECTION", CONNECTION)
    assert kinds(world) == ["connected", "disconnected", "connected", "disconnected"]


def test_a_connection_that_somebody_deletes_from_the_table_is_told(world: World) -> None:
    world.connect()
    stream(world).delete("CONNECTION", CONNECTION)
    assert kinds(world) == ["connected", "removed"]


def test_nothing_in_the_entries_is_a_token_sealed_or_not(world: World) -> None:
    world.connect()
    refresh(world, tokens())
    there = world.connection()
    assert there.sealed is not None
    shown = repr(told(world))
    for secret in ("access-2", "refresh-2", "ciphertext", there.sealed.ciphertext.hex()):
        assert secret not in shown


# The rule itself ---------------------------------------------------------------------------------------------------

TIMES = st.none() | st.integers(NOW - 10, NOW)
CONNECTIONS = st.none() | st.builds(
    Connection,
    id=st.just(CONNECTION),
    status=st.sampled_from(Status),
    environment=st.sampled_from(["sandbox", "production"]),
    grant_id=st.sampled_from(["g1", "g2"]),
    generation=st.integers(0, 3),
    connected_at=st.just(NOW),
    tenant=st.none() | st.just("shop-7"),
    deadline=st.sampled_from([NOW + 9]),
    retries=st.none() | st.integers(1, 3),
    in_doubt=TIMES,
    refused_at=TIMES,
    refused_alone=TIMES,
    consent_ends_at=st.none() | st.sampled_from([NOW + 9, NOW + 99]),
    at_risk=TIMES,
    committed_by=st.just("attempt"),
    attempt=st.none() | st.just(Attempt(id="a", started_at=NOW, lease_until=NOW + 180)),
    reason=st.sampled_from(Reason),
    ended_at=st.just(NOW),
)


@given(old=CONNECTIONS, new=CONNECTIONS)
def test_every_change_of_status_is_told_but_a_tombstones_end_and_every_event_is_as_its_schema_says(
    old: Connection | None, new: Connection | None
) -> None:
    found = entries("c1", NOW, old, new)
    assert found == entries("c1", NOW, old, new)
    assert len({entry.id for entry in found}) == len(found)
    if new is None and old is not None and old.status is Status.DISCONNECTED:
        assert not found
    elif (old.status if old else None) is not (new.status if new else None):
        assert found
    for entry in found:
        made = event(entry)
        if made is not None:
            valid(made.type, made.detail)


def test_what_did_not_change_tells_nothing() -> None:
    world = World()
    there = world.connect()
    assert entries("c1", NOW, there, there) == ()
    assert entries("c1", NOW, None, None) == ()


# The schemas -------------------------------------------------------------------------------------------------------


def test_there_is_a_schema_for_every_kind_of_event_and_no_other() -> None:
    silent = {
        "attempt_failed",
        "attempt_released",
        "import_started",
        "import_ended",
        "removed",
        "status_changed",
        "restored",
        "unreadable",
    }
    assert {path.name for path in SCHEMAS.iterdir()} == {f"connection.{k}.v1.json" for k in Kind if k not in silent}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda detail: detail.pop("id"),
        lambda detail: detail.update(version=2),
        lambda detail: detail.update(at="yesterday"),
        lambda detail: detail.update(connection_id="N1/../N2"),
        lambda detail: detail.update(reason="because"),
        lambda detail: detail.pop("tenant"),
    ],
)
def test_the_check_would_see_a_detail_that_is_not_as_its_schema_says(spoil: Callable[[dict[str, Any]], Any]) -> None:
    entry = Entry(
        id="c-reauthorization_required",
        kind=Kind.REAUTHORIZATION_REQUIRED,
        at=NOW,
        connection_id=CONNECTION,
        environment="sandbox",
        status="reauthorization_required",
        generation=1,
        reason="rejected",
        since=NOW,
    )
    made = event(entry)
    assert made is not None
    assert not list(validator(made.type).iter_errors(made.detail))
    spoil(made.detail)
    assert list(validator(made.type).iter_errors(made.detail))


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("tenant", ["shop-7", None])
def test_the_events_of_a_trouble_that_a_consent_ends_have_the_way_to_a_fresh_link_and_no_other(
    kind: Kind, tenant: str | None
) -> None:
    made = event(Entry(id="c", kind=kind, at=NOW, connection_id=CONNECTION, tenant=tenant))
    given = made.detail.get("reconnect") if made is not None else None
    helps = kind in ("at_risk", "refused_alone", "reauthorization_required")
    assert given == ({"tenant": tenant, "expected_connection": CONNECTION} if helps else None)


def test_the_documents_samples_are_as_their_schemas_say_and_there_is_one_for_each() -> None:
    blocks = DOCUMENT.read_text("utf-8").split("```json\n")[1:]
    found = [json.loads(block.partition("```")[0]) for block in blocks]
    samples = {one["detail-type"]: one["detail"] for one in found if one.get("source") == "flowaccount-connect"}
    for type_, detail in samples.items():
        valid(type_, detail)
    assert set(samples) == {path.name.removesuffix(".v1.json") for path in SCHEMAS.iterdir()}
