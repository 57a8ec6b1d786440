"""The stream's reader: what it tells is told at least once, under the same ids, and counted exactly once."""

import base64
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowaccount_connect.publishing.publisher import Malformed, Publisher, UnpublishedQueue, read_message, read_record
from flowaccount_connect.runtime.observability import logger
from flowaccount_connect.storage.commits import Commit
from flowaccount_connect.storage.connections import grant_update
from flowaccount_connect.storage.counts import Counts
from flowaccount_connect.storage.event_items import event_put
from flowaccount_connect.storage.history import History
from tests.support.commits import rotated
from tests.unit.fakes import CONNECTION, FREE, NOW, Clock, FakeEvents, FakeSqs, tokens
from tests.unit.handlers import Event, Functions, event
from tests.unit.streams import StreamingTable
from tests.unit.tables import Fault, Table, client_error
from tests.unit.test_events import valid
from tests.unit.worlds import World

REJECTION, ROTATION, REFUSAL = event("publish")["Records"]


def publisher(table: Table, bus: FakeEvents, *, refreshed: bool = False) -> Publisher:
    return Publisher(
        history=History(table, "table", sleep=Clock().sleep),
        bus=bus,
        bus_name="connect",
        environment="sandbox",
        log=logger,
        publish_refreshed=refreshed,
    )


def plenty() -> float:
    return 60.0


# The publisher -----------------------------------------------------------------------------------------------------


def test_a_change_is_kept_counted_and_put_on_the_bus() -> None:
    table, bus = Table(), FakeEvents()
    told = publisher(table, bus).publish([read_record(REJECTION)], remaining=plenty)
    assert (told.events, told.failed) == (1, [])
    (entry,) = bus.put
    assert (entry["Source"], entry["EventBusName"]) == ("flowaccount-connect", "connect")
    assert entry["Time"] == NOW
    ((type_, detail),) = bus.details()
    valid(type_, detail)
    assert (type_, detail["reason"], detail["connection_id"]) == (
        "connection.reauthorization_required",
        "rejected",
        CONNECTION,
    )
    assert Counts(table, "table").get() == {"active": -1, "reauthorization_required": 1}
    assert [key[0] for key in table.items] == ["COUNT", f"HISTORY#{CONNECTION}"]


def test_a_refresh_is_kept_and_is_an_event_only_where_it_is_wanted() -> None:
    for refreshed, expected in ((False, []), (True, ["connection.refreshed"])):
        table, bus = Table(), FakeEvents()
        told = publisher(table, bus, refreshed=refreshed).publish([read_record(ROTATION)], remaining=plenty)
        assert [type_ for type_, _ in bus.details()] == expected
        assert told.failed == []
        assert table.calls == ["put_item"], "one write, and none at the count"


def test_an_event_item_is_told_like_a_change() -> None:
    table, bus = StreamingTable(Clock()), FakeEvents()
    table.put_item(
        **event_put(
            "table",
            "connection.import_refused",
            connection_id=CONNECTION,
            reason="rejected",
            tenant="shop-7",
            clock=Clock(),
        )
    )
    (record,) = table.of_interest()
    told = publisher(table, bus).publish([read_record(record), read_record(REFUSAL)], remaining=plenty)
    assert told.failed == []
    for type_, detail in bus.details():
        valid(type_, detail)
    assert [(type_, detail["tenant"], detail["reason"]) for type_, detail in bus.details()] == [
        ("connection.import_refused", "shop-7", "rejected"),
        ("connection.refused", "shop-9", "other_tenant"),
    ]
    table.delete("EVENT", record["dynamodb"]["Keys"]["pk"]["S"].removeprefix("EVENT#"))
    publisher(table, bus).publish([read_record(table.of_interest()[-1])], remaining=plenty)
    assert len(bus.put) == 2, "that the item was tidied up is no event"


def test_the_end_of_a_tombstone_leaves_no_trace() -> None:
    # An entry would keep the business's id for 90 days more than the disconnect does.
    life, table, bus = Life(), Table(), FakeEvents()
    for what in ("consent", "disconnect", "remove"):
        life.happen(CONNECTION, what)
    *before, end = map(read_record, life.table.of_interest())
    publisher(table, bus).publish(before, remaining=plenty)
    assert Counts(table, "table").get() == {"active": 0}
    kept, calls = table.items, len(table.calls)
    assert publisher(table, bus).publish([end], remaining=plenty).failed == []
    assert (table.items, len(table.calls), len(bus.put)) == (kept, calls, 2)


def test_an_import_is_counted_from_its_beginning_to_its_end_and_is_no_event() -> None:
    table, bus, clock = StreamingTable(Clock()), FakeEvents(), Clock()
    key = {"pk": {"S": f"CONNECTION#{CONNECTION}"}, "sk": {"S": "IMPORT"}}
    fields = {"grant_id": {"S": "g"}, "generation": {"N": "0"}, "environment": {"S": "sandbox"}}
    for status in ("active", "reauthorization_required"):
        clock.now += 1
        table.put_item(TableName="table", Item=key | fields | {"status": {"S": status}, "reason": {"S": "rejected"}})
    teller, kept = publisher(table, bus), History(table, "table")
    for record, importing in zip(table.of_interest(), (1, 0), strict=True):
        for _ in range(2):
            assert teller.publish([read_record(record)], remaining=plenty).failed == []
        assert Counts(table, "table").get() == {"importing": importing}
    assert bus.put == []
    page = kept.page(CONNECTION, limit=9, now=NOW)
    assert [entry.kind for entry in page.entries] == ["import_ended", "import_started"]


def test_no_two_event_items_share_an_id() -> None:
    made = [event_put("t", "connection.refused", connection_id="N1", reason="r", clock=Clock()) for _ in range(9)]
    assert len({put["Item"]["pk"]["S"] for put in made}) == 9  # type: ignore[index]


def test_what_the_bus_refuses_alone_fails_alone() -> None:
    bus = FakeEvents(refused=frozenset({0}))
    told = publisher(Table(), bus).publish([read_record(REJECTION), read_record(REFUSAL)], remaining=plenty)
    assert [change.id for change in told.failed] == [REJECTION["eventID"]]
    assert told.events == len(bus.put) == 1


def test_what_is_not_kept_is_not_published_either_and_fails_once() -> None:
    table, bus = Table(), FakeEvents()
    table.faults["transact_write_items"] = [Fault(client_error("InternalServerError"))]
    table.faults["put_item"] = [Fault(client_error("InternalServerError"))]
    told = publisher(table, bus, refreshed=True).publish(
        [read_record(one) for one in (REJECTION, ROTATION)], remaining=plenty
    )
    assert [change.id for change in told.failed] == [REJECTION["eventID"], ROTATION["eventID"]]
    assert bus.put == []


def test_a_status_that_nobody_knows_stops_nobody() -> None:
    strange = json.loads(json.dumps(REJECTION))
    strange["dynamodb"]["NewImage"]["status"] = {"S": "strange"}
    bus = FakeEvents()
    told = publisher(Table(), bus).publish([read_record(strange), read_record(REFUSAL)], remaining=plenty)
    assert told.failed == []
    assert len(bus.put) == 1


def test_without_time_nothing_is_begun() -> None:
    table, bus = Table(), FakeEvents()
    told = publisher(table, bus).publish([read_record(REJECTION)], remaining=lambda: 14.0)
    assert (table.calls, bus.calls, len(told.failed)) == ([], 0, 1)


def test_more_than_the_bus_takes_at_once_goes_in_several_calls() -> None:
    bus = FakeEvents()
    changes = [read_record(REFUSAL | {"eventID": f"{i:032x}"}) for i in range(25)]
    assert publisher(Table(), bus).publish(changes, remaining=plenty).events == 25
    assert bus.calls == 3


# The queue ---------------------------------------------------------------------------------------------------------


def test_a_change_comes_back_from_the_queue_as_it_went_in_and_without_its_tokens() -> None:
    sqs = FakeSqs()
    changes = [read_record(one) for one in (REJECTION, ROTATION, REFUSAL)]
    assert UnpublishedQueue(sqs, "url", logger).send(changes) == []
    bodies = [message["MessageBody"] for message in sqs.sent]
    assert [read_message(body) for body in bodies] == changes
    for secret in sealed(REJECTION) | sealed(ROTATION):
        assert secret not in "".join(bodies)
    assert "data_key" not in "".join(bodies)


def test_the_queue_tells_what_it_did_not_take() -> None:
    changes = [read_record(REFUSAL | {"eventID": f"{i:032x}"}) for i in range(12)]
    assert UnpublishedQueue(FakeSqs(refused=frozenset({1})), "url", logger).send(changes) == [changes[1], changes[11]]

    class Away(FakeSqs):
        def send_message_batch(self, **_: Any) -> Any:
            raise client_error("RequestTimeout")

    assert UnpublishedQueue(Away(), "url", logger).send(changes) == changes


@pytest.mark.parametrize(
    "body",
    [
        "",
        "x",
        "null",
        "{}",
        "[" * 100_000,
        '{"id":"","sequence":"1","at":1,"old":null,"new":null}',
        '{"id":"a","sequence":"x","at":1,"old":null,"new":null}',
        '{"id":"a","sequence":"1","at":1e999,"old":null,"new":null}',
        '{"id":"a","sequence":"1","at":1,"old":null,"new":7}',
    ],
)
def test_what_is_no_message_of_ours_is_malformed(body: str) -> None:
    with pytest.raises(Malformed):
        read_message(body)


def test_what_is_no_record_of_the_stream_is_malformed() -> None:
    for spoilt in ({}, {"eventID": "x", "dynamodb": None}, {"eventID": "x", "dynamodb": {"SequenceNumber": "1"}}):
        with pytest.raises(Malformed):
            read_record(spoilt)


# Any history, delivered anyhow -------------------------------------------------------------------------------------


@dataclass
class Life:
    """What happens to a few connections, and every record that the stream has of it."""

    clock: Clock = field(default_factory=Clock)
    consents: int = 0

    def __post_init__(self) -> None:
        self.world = World(clock=self.clock, table=StreamingTable(self.clock))

    @property
    def table(self) -> StreamingTable:
        assert isinstance(self.world.table, StreamingTable)
        return self.world.table

    def happen(self, name: str, what: str) -> None:
        """One thing, where it can happen."""
        self.clock.now += 1
        there = self.table.items.get((f"CONNECTION#{name}", "CONNECTION"))
        if what == "consent":
            self.consents += 1
            update = grant_update(
                "table",
                Commit(
                    connection_id=name,
                    grant_id=f"{self.consents:04}",
                    attempt_id=f"c{self.consents}",
                    environment="sandbox",
                    tokens=rotated("t", NOW),
                ),
                now=NOW,
            )
            self.table.update_item(**update)
        elif there is not None and what == "remove":
            self.table.delete("CONNECTION", name)
        elif there is not None:
            now = int(self.clock())
            things: dict[str, dict[str, Any]] = {
                "refresh": {"status": "active", "generation": int(there["generation"]) + 1, "in_doubt": None},
                "doubt": {"in_doubt": now, "retries": 1},
                "fail": {"retries": int(there.get("retries") or 0) + 1},
                "risk": {"at_risk": now},
                "die": {"status": "reauthorization_required", "reason": "rejected", "ended_at": now},
                "disconnect": {"status": "disconnected", "generation": int(there["generation"]) + 1},
            }
            whole = {k: v for k, v in (there | things[what]).items() if k not in ("pk", "sk")}
            numbers = {"generation", "retries", "in_doubt", "at_risk", "ended_at", "connected_at", "requested_at"}
            numbers |= {"access_expires_at", "deadline", "refresh_at"}
            self.table.put(
                "CONNECTION", name, **{k: int(v) if k in numbers and v is not None else v for k, v in whole.items()}
            )

    def statuses(self) -> dict[str, int]:
        """How many connections there really are; a tombstone is none."""
        there = Counter(item["status"] for key, item in self.table.items.items() if key[1] == "CONNECTION")
        return {status: count for status, count in there.items() if status != "disconnected"}


def batches(draw: st.DrawFn, records: list[Event]) -> Iterator[list[Event]]:
    """All records, some of them more than once, in any order, in batches of any size."""
    again = draw(st.lists(st.sampled_from(records), max_size=len(records)))
    waiting = draw(st.permutations(records + again))
    while waiting:
        size = draw(st.integers(1, len(waiting)))
        yield waiting[:size]
        waiting = waiting[size:]


THINGS = ["consent", "refresh", "doubt", "fail", "risk", "die", "disconnect", "remove"]


@given(data=st.data())
def test_counts_and_ids_are_right_however_the_stream_is_delivered(data: st.DataObject) -> None:
    life = Life()
    for name, what in data.draw(
        st.lists(st.tuples(st.sampled_from(["N1", "N2"]), st.sampled_from(THINGS)), min_size=1, max_size=14)
    ):
        life.happen(name, what)
    records = life.table.of_interest()
    if not records:
        return
    once, bus_once = Table(), FakeEvents()
    publisher(once, bus_once, refreshed=True).publish([read_record(one) for one in records], remaining=plenty)

    anyhow, bus, faults = Table(), FakeEvents(), data.draw(st.lists(st.booleans(), max_size=6))
    anyhow.faults["transact_write_items"] = [Fault(client_error("RequestTimeout"), written=one) for one in faults]
    anyhow.faults["put_item"] = [Fault(client_error("RequestTimeout"), written=one) for one in faults]
    teller, queue = publisher(anyhow, bus, refreshed=True), FakeSqs()
    for batch in data.draw(st.composite(lambda draw: list(batches(draw, records)))()):
        told = teller.publish([read_record(one) for one in batch], remaining=plenty)
        UnpublishedQueue(queue, "url", logger).send(told.failed)
    while queue.sent:
        waiting, queue.sent = queue.sent, []
        told = teller.publish([read_message(one["MessageBody"]) for one in waiting], remaining=plenty)
        UnpublishedQueue(queue, "url", logger).send(told.failed)

    counts = Counts(anyhow, "table").get()
    assert {status: count for status, count in counts.items() if count} == life.statuses()
    assert {detail["id"]: detail for _, detail in bus.details()} == {d["id"]: d for _, d in bus_once.details()}
    assert anyhow.items == once.items


# The function ------------------------------------------------------------------------------------------------------


def sealed(record: Event) -> set[str]:
    """The ciphertexts of a record, as they came and as they are."""
    found = {v["B"] for image in ("OldImage", "NewImage") for v in record["dynamodb"][image].values() if "B" in v}
    assert found
    return found | {base64.b64decode(one).decode() for one in found}


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def functions(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Functions]:
    made = Functions(world, monkeypatch, capsys)
    yield made
    made.close()
    for secret in sealed(REJECTION) | sealed(ROTATION) | {"CANARY"}:
        assert secret not in made.logs()


def test_the_function_tells_a_batch_of_the_stream(functions: Functions, world: World) -> None:
    assert functions.call("publish", event("publish"), seconds=60) == {"batchItemFailures": []}
    assert [type_ for type_, _ in world.events.details()] == [
        "connection.reauthorization_required",
        "connection.refused",
    ]
    assert world.sqs.sent == []


def test_a_refresh_that_is_kept_and_no_event_writes_no_line_of_log(functions: Functions, world: World) -> None:
    assert functions.call("publish", {"Records": [ROTATION]}, seconds=60) == {"batchItemFailures": []}
    assert world.table.calls == ["put_item"]
    assert functions.logs() == ""


def test_with_refreshes_the_function_tells_them_too(functions: Functions, world: World) -> None:
    functions.set(PUBLISH_REFRESHED="enabled")
    functions.call("publish", event("publish"), seconds=60)
    assert "connection.refreshed" in [type_ for type_, _ in world.events.details()]


def test_while_the_bus_is_away_changes_wait_in_the_queue_and_the_stream_goes_on(
    functions: Functions, world: World
) -> None:
    world.events.error = client_error("AccessDeniedException")
    assert functions.call("publish", event("publish"), seconds=60) == {"batchItemFailures": []}
    waiting = [read_message(message["MessageBody"]) for message in world.sqs.sent]
    assert waiting == [read_record(REJECTION), read_record(REFUSAL)]


def test_what_neither_the_bus_nor_the_queue_takes_stays_in_the_stream(functions: Functions, world: World) -> None:
    world.events.error = client_error("AccessDeniedException")
    world.sqs.refused = frozenset({0})
    left = REJECTION["dynamodb"]["SequenceNumber"]
    answer = functions.call("publish", event("publish"), seconds=60)
    assert answer == {"batchItemFailures": [{"itemIdentifier": left}]}


def test_the_queue_brings_back_what_waits_and_the_ids_are_the_same(functions: Functions, world: World) -> None:
    functions.call("publish", {"Records": [REJECTION]}, seconds=60)
    again = functions.call("publish", event("publish-unpublished"), seconds=60)
    assert again == {"batchItemFailures": []}
    (_, first), (_, second) = world.events.details()
    assert first == second
    assert Counts(world.table, "table").get() == {"active": -1, "reauthorization_required": 1}


def test_what_still_fails_stays_in_the_queue_and_is_not_sent_there_again(functions: Functions, world: World) -> None:
    world.events.error = client_error("AccessDeniedException")
    (message,) = event("publish-unpublished")["Records"]
    malformed = message | {"messageId": "malformed", "body": "no JSON"}
    answer = functions.call("publish", {"Records": [malformed, message]}, seconds=60)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "malformed"}, {"itemIdentifier": message["messageId"]}]}
    assert world.sqs.sent == []


def test_no_token_reaches_an_event_a_history_or_the_queue(functions: Functions, world: World) -> None:
    functions.set(PUBLISH_REFRESHED="enabled")
    functions.call("publish", event("publish"), seconds=60)
    world.events.error = client_error("AccessDeniedException")
    functions.call("publish", event("publish"), seconds=60)
    places = json.dumps([world.events.details(), world.sqs.sent]) + repr(world.table.items)
    for secret in sealed(REJECTION) | sealed(ROTATION):
        assert secret not in places


def test_a_whole_life_is_told_by_the_real_protocol(functions: Functions, world: World) -> None:
    clock = Clock()
    streaming = World(clock=clock, table=StreamingTable(clock))
    streaming.connect()
    clock.now += 22_000
    streaming.endpoint.answers = [tokens()]
    streaming.rotation().refresh(CONNECTION, permit=FREE, remaining=clock.remaining(45))
    assert isinstance(streaming.table, StreamingTable)
    functions.set(PUBLISH_REFRESHED="enabled")
    functions.call("publish", {"Records": streaming.table.of_interest()}, seconds=60)
    assert [type_ for type_, _ in world.events.details()] == ["connection.connected", "connection.refreshed"]
    assert Counts(world.table, "table").get() == {"active": 1}


@pytest.mark.parametrize(
    "change",
    [{"connection_id": {"S": "not a name"}}, {"reason": {"N": "7"}}, {"at": {"S": "now"}}, {"type": {"S": "x"}}],
)
def test_an_event_item_that_is_not_understood_is_told_to_nobody_and_fails_nothing(change: dict[str, Any]) -> None:
    record = json.loads(json.dumps(REFUSAL))
    record["dynamodb"]["NewImage"] |= change
    bus = FakeEvents()
    told = publisher(Table(), bus).publish([read_record(record), read_record(REJECTION)], remaining=plenty)
    assert (told.events, told.failed) == (1, [])


def test_an_attribute_without_end_leaves_the_stream_as_none() -> None:
    """One item must not make a batch of messages too long for all of them."""
    record = json.loads(json.dumps(REJECTION))
    record["dynamodb"]["NewImage"]["tenant"] = {"S": "x" * 300_000}
    carried = read_record(record).new
    assert carried is not None
    assert carried["tenant"] == {"NULL": True}
