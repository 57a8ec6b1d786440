"""Managing connections through the function, with the events that API Gateway really sends."""

import base64
import contextlib
import itertools
import json
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowaccount_connect.connections.listing import Listed, Listing
from flowaccount_connect.domain.connection import Status
from flowaccount_connect.domain.events import Entry, Kind
from flowaccount_connect.domain.schedule import DUE_SHARDS
from flowaccount_connect.storage.connections import key_of, listed_as
from flowaccount_connect.storage.cursor import InvalidNext
from flowaccount_connect.storage.history import History
from tests.unit.fakes import CONNECTION, GRANT, NOW
from tests.unit.handlers import SECRETS, TOKENS, Event, Functions, event, problem, with_query
from tests.unit.servers import Server, reply
from tests.unit.tables import Fault, client_error
from tests.unit.worlds import World


@pytest.fixture
def world() -> World:
    made = World()
    made.connect()
    made.table.calls.clear()
    return made


@pytest.fixture
def more(world: World) -> dict[str, str]:
    """Thirty connections of every status beside the first; status by id."""
    made = {CONNECTION: "active"}
    for number in range(30):
        connection_id, status = f"N2{number:03}", list(Listed)[number % 4]
        importing = status is Listed.IMPORTING
        world.table.model.put_item(
            TableName="table",
            Item={
                **key_of(connection_id, "IMPORT" if importing else "CONNECTION"),
                "status": {"S": "active" if importing else status},
                "listed_as": {"S": listed_as(connection_id, status)},
                "grant_id": {"S": GRANT},
                "generation": {"N": "1"},
                "tokens": {"B": b"access-1"},
            },
        )
        made[connection_id] = status
    return made


def ask(functions: Functions, **query: str | None) -> dict[str, Any]:
    """List, with this query."""
    asked = {name: [value] for name, value in query.items() if value is not None}
    answer: dict[str, Any] = functions.call("connections", with_query(event("connections"), **asked))
    return answer


def walk(functions: Functions, **query: str) -> list[dict[str, Any]]:
    """All pages of a list, one connection after the other."""
    found: list[dict[str, Any]] = []
    next_ = None
    for _ in range(100):
        page = body(ask(functions, next=next_, **query))
        found += page["connections"]
        next_ = page["next"]
        if next_ is None:
            return found
    raise AssertionError("pages without end")


def show(functions: Functions) -> dict[str, Any]:
    """The connection as it is shown."""
    answer = functions.call("connections", event("connection"))
    assert answer["statusCode"] == 200
    return body(answer)


def disconnect(functions: Functions) -> dict[str, Any]:
    """The answer to a disconnect."""
    answer: dict[str, Any] = functions.call("connections", event("disconnect"))
    return answer


def start_import(functions: Functions, **fields: object) -> dict[str, Any]:
    """The answer to the sample import, or to one with these fields."""
    more = {"body": json.dumps(fields)} if fields else {}
    answer: dict[str, Any] = functions.call("connections", event("import") | more)
    return answer


def to(connection_id: str, of: Event) -> Event:
    """The event for another connection."""
    return of | {"pathParameters": {"id": connection_id}}


def body(answer: dict[str, Any]) -> dict[str, Any]:
    """The body of an answer in JSON that no cache keeps and that holds nothing secret."""
    assert answer["headers"]["Content-Type"] == "application/json"
    assert answer["headers"]["Cache-Control"] == "no-store"
    assert not [secret for secret in (*SECRETS, GRANT) if secret in answer["body"]]
    found: dict[str, Any] = json.loads(answer["body"])
    return found


# List --------------------------------------------------------------------------------------------------------------


def test_a_list_shows_every_connection_once_in_an_order_that_stays(functions: Functions, more: dict[str, str]) -> None:
    whole = walk(functions)
    assert {one["support_code"]: one["status"] for one in whole} == more
    assert len(whole) == len(more)
    for limit in (1, 7, 30, 31, 100):
        assert walk(functions, limit=str(limit)) == whole


def test_the_empty_partitions_of_a_small_stack_are_asked_at_the_same_time(
    functions: Functions, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, numbers, together = world.table.query, itertools.count(), threading.Barrier(DUE_SHARDS)

    def waiting(**given: Any) -> Any:
        # The first one is found empty.
        if 2 <= next(numbers) <= DUE_SHARDS + 1:
            together.wait(10)
        return query(**given)

    monkeypatch.setattr(world.table, "query", waiting)
    assert ask(functions)["statusCode"] == 200
    assert next(numbers) == DUE_SHARDS * len(Listed)


def test_a_connection_that_changes_its_status_while_a_page_is_read_spoils_no_page(
    functions: Functions, world: World, more: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found twice, and DynamoDB takes each key of a read once."""
    query, moved = world.table.query, [name for name in more if more[name] == "active"]

    def moving(**given: Any) -> Any:
        answer = query(**given)
        for item in answer["Items"][:1]:
            name = item["pk"]["S"].removeprefix("CONNECTION#")
            if name in moved:
                moved.clear()
                world.table.model.update_item(
                    TableName="table",
                    Key=key_of(name),
                    UpdateExpression="SET listed_as = :listed",
                    ExpressionAttributeValues={":listed": {"S": listed_as(name, Status.REAUTHORIZATION_REQUIRED)}},
                )
        return answer

    monkeypatch.setattr(world.table, "query", moving)
    assert ask(functions, limit="100")["statusCode"] == 200
    assert moved == []


def test_a_list_of_one_status_shows_that_status(functions: Functions, more: dict[str, str]) -> None:
    for status in Listed:
        shown = {one["support_code"] for one in walk(functions, status=status, limit="3")}
        assert shown == {connection_id for connection_id, its in more.items() if its == status}


def test_a_list_of_one_tenant_shows_that_tenants_connections_and_has_an_end(
    functions: Functions, world: World, more: dict[str, str]
) -> None:
    theirs = [name for name in more if name != CONNECTION][::3]
    for name in theirs:
        for pk, sk in list(world.table.items):
            if pk == f"CONNECTION#{name}":
                world.table.model.update_item(
                    TableName="table",
                    Key=key_of(name, sk),
                    UpdateExpression="SET #tenant = :tenant",
                    ExpressionAttributeNames={"#tenant": "tenant"},
                    ExpressionAttributeValues={":tenant": {"S": "tenant-9"}},
                )
    for limit in ("1", "4", "100"):
        assert sorted(one["support_code"] for one in walk(functions, tenant="tenant-9", limit=limit)) == sorted(theirs)
    active = [name for name in theirs if more[name] == "active"]
    shown = walk(functions, tenant="tenant-9", status="active")
    assert sorted(one["support_code"] for one in shown) == sorted(active)
    assert walk(functions, tenant="nobody") == []


def test_an_item_that_nobody_understands_is_shown_as_such_and_hides_no_other(
    functions: Functions, world: World, more: dict[str, str]
) -> None:
    world.change(reason="CANARY of another program", status="CANARY")
    shown = {one["support_code"]: one["status"] for one in walk(functions)}
    assert shown == more | {CONNECTION: "unreadable"}
    assert (show(functions)["status"], show(functions)["reason"]) == ("unreadable", None)


def test_the_last_page_says_that_it_is(functions: Functions, more: dict[str, str]) -> None:
    assert body(ask(functions, limit=str(len(more))))["next"] is None
    assert body(ask(functions, limit=str(len(more) - 1)))["next"] is not None


def test_a_list_shows_a_connection_as_show_does_and_reads_no_ciphertext(functions: Functions, world: World) -> None:
    world.change(in_doubt=NOW - 60)
    (one,) = body(ask(functions, status="active"))["connections"]
    assert one == show(functions)
    assert one["status"] == "in_doubt"
    assert set(world.table.calls) == {"query", "batch_get_item"}


def test_an_empty_list_is_a_list(functions: Functions, world: World) -> None:
    world.table.clear()
    assert body(ask(functions)) == {"connections": [], "next": None}


def test_what_changed_its_status_after_the_index_was_read_is_left_out(functions: Functions, world: World) -> None:
    def dies(operation: str) -> None:
        if operation == "batch_get_item":
            world.change(status="reauthorization_required", listed_as=listed_as(CONNECTION, "reauthorization_required"))

    world.table.on_call = dies
    assert body(ask(functions, status="active"))["connections"] == []


def test_what_the_table_hands_out_in_parts_is_asked_for_again(
    functions: Functions, world: World, more: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, asked = world.table.batch_get_item, []

    def in_parts(RequestItems: Any) -> Any:  # noqa: N803
        keys = RequestItems["table"]["Keys"]
        asked.append(len(keys))
        answer = whole(RequestItems={"table": RequestItems["table"] | {"Keys": keys[:20]}})
        return answer | {"UnprocessedKeys": {"table": {"Keys": keys[20:]}} if keys[20:] else {}}

    def nothing(RequestItems: Any) -> Any:  # noqa: N803
        return {"Responses": {}, "UnprocessedKeys": RequestItems}

    monkeypatch.setattr(world.table, "batch_get_item", in_parts)
    assert len(walk(functions)) == len(more)
    assert asked == [31, 11]
    monkeypatch.setattr(world.table, "batch_get_item", nothing)
    assert problem(ask(functions)) == (503, "store_unavailable")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("limit", value) for value in ("0", "101", "-1", "ten", "1.5", "٣", "1" * 50)),
        *(("status", value) for value in ("dead", "in_doubt", "active#1", "ACTIVE", "x" * 2_000)),
        *(("tenant", value) for value in ("x" * 129, "a\nb", "\u202e")),
    ],
)
def test_a_query_that_a_list_cannot_have_is_refused(functions: Functions, name: str, value: str) -> None:
    assert problem(ask(functions, **{name: value})) == (400, f"invalid_{name}")


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "value",
    [
        "x",
        "=",
        "====",
        "ก",
        "a" * 2_000,
        cursor("active"),
        cursor("active#0"),
        cursor("active#0#"),
        cursor("active#8#N1"),
        cursor("active#-1#N1"),
        cursor("active#00#N1"),
        cursor("attempt#0#N1"),
        cursor("disconnected#0#N1"),
        cursor("active#0#N1") + "AA",
        cursor("active#0#N1") + "!",
    ],
)
def test_a_next_that_no_page_gave_is_refused_and_reads_nothing(functions: Functions, world: World, value: str) -> None:
    assert problem(ask(functions, status="active", next=value)) == (400, "invalid_next")
    assert world.table.calls == []


@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda made: base64.urlsafe_b64encode(made).decode()))
def test_any_next_is_taken_or_refused(text: str) -> None:
    world = World()
    with contextlib.suppress(InvalidNext):
        Listing(world.table, "table").page(None, limit=5, next_=text)


# Show --------------------------------------------------------------------------------------------------------------


def test_show_tells_all_but_the_tokens_by_one_read(functions: Functions, world: World) -> None:
    assert show(functions) == {
        "support_code": CONNECTION,
        "environment": "sandbox",
        "status": "active",
        "tenant": None,
        "generation": 1,
        "connected_at": NOW - 22_000,
        "requested_at": NOW - 22_000,
        "access_expires_at": NOW - 22_000 + 86_400,
        "deadline": NOW - 22_000 + 86_400,
        "refresh_at": NOW - 22_000 + 21_600,
        "consent_ends_at": None,
        "in_doubt_since": None,
        "at_risk_since": None,
        "reason": None,
        "since": None,
    }
    assert world.table.calls == ["batch_get_item"]


def test_show_tells_doubt_and_risk_and_since_when(functions: Functions, world: World) -> None:
    world.change(in_doubt=NOW - 60, at_risk=NOW - 30)
    shown = show(functions)
    assert (shown["status"], shown["in_doubt_since"], shown["at_risk_since"]) == ("in_doubt", NOW - 60, NOW - 30)


def test_show_tells_why_a_new_consent_is_needed(functions: Functions, world: World) -> None:
    world.end("rejected")
    shown = show(functions)
    assert (shown["status"], shown["reason"], shown["since"]) == ("reauthorization_required", "rejected", NOW - 50)


def test_show_knows_only_what_is_connected(functions: Functions) -> None:
    assert problem(functions.call("connections", to("N404", event("connection")))) == (404, "connection_not_found")


def test_a_route_that_nobody_made_is_not_found(functions: Functions) -> None:
    assert problem(functions.call("connections", event("connection") | {"httpMethod": "PATCH"})) == (
        404,
        "route_not_found",
    )


# Disconnect --------------------------------------------------------------------------------------------------------

GONE = {"tokens", "data_key", "requested_at", "access_expires_at", "deadline", "due_shard", "refresh_at", "tenant"}


def test_a_disconnect_leaves_a_tombstone_and_no_tokens(functions: Functions, world: World) -> None:
    world.change(
        tenant="tenant-7", in_doubt=NOW, at_risk=NOW, retries=2, refused_at=NOW, refused_alone=NOW, consent_ends_at=NOW
    )
    world.hold()
    answer = disconnect(functions)
    assert (answer["statusCode"], answer["body"]) == (204, "")
    item = world.table.item("CONNECTION", CONNECTION)
    ended, door = item.pop("ended_at"), item.pop("grant_id")
    assert door > GRANT
    assert item == {
        "pk": f"CONNECTION#{CONNECTION}",
        "sk": "CONNECTION",
        "status": "disconnected",
        "listed_as": listed_as(CONNECTION, "disconnected"),
        "generation": 2,
        "connected_at": NOW - 22_000,
        "environment": "sandbox",
        "ttl": ended + 30 * 86_400,
    }
    assert not GONE & item.keys()


def test_a_repeated_disconnect_shuts_out_what_was_consented_to_since_the_last_one(
    functions: Functions, world: World
) -> None:
    doors = []
    for _ in range(2):
        assert disconnect(functions)["statusCode"] == 204
        doors.append(world.connection().grant_id)
        # A door is of a millisecond.
        time.sleep(0.002)
    assert doors == sorted(set(doors))
    assert show(functions)["status"] == "disconnected"


def test_a_disconnect_whose_success_an_sdk_retry_hid_is_done(functions: Functions, world: World) -> None:
    def done(operation: str) -> None:
        if operation == "update_item":
            world.store.__class__(world.table.quiet(), "table").disconnect(CONNECTION, GRANT, now=NOW)

    world.table.on_call = done
    assert disconnect(functions)["statusCode"] == 204


def test_what_nobody_connected_cannot_be_ended(functions: Functions, world: World) -> None:
    world.table.clear()
    assert problem(disconnect(functions)) == (404, "connection_not_found")
    assert world.table.items == {}


def test_a_disconnect_does_not_end_a_consent_that_came_in_between(functions: Functions, world: World) -> None:
    def reconnects(operation: str) -> None:
        if operation == "update_item":
            world.connect(grant_id="ffff")

    world.table.on_call = reconnects
    assert problem(disconnect(functions)) == (409, "connected_meanwhile")
    assert world.connection().status == "active"
    assert world.opened() == ("access-1", "refresh-1")


def test_a_disconnected_connection_serves_no_token_that_lives(functions: Functions, world: World) -> None:
    disconnect(functions)
    assert problem(functions.call("token", event("token"))) == (404, "connection_not_found")


def test_a_disconnect_that_the_table_did_not_acknowledge_may_have_happened(functions: Functions, world: World) -> None:
    world.table.faults["update_item"].append(Fault(client_error("InternalServerError"), written=True))
    assert problem(disconnect(functions)) == (503, "store_unavailable")
    assert disconnect(functions)["statusCode"] == 204


# Import ------------------------------------------------------------------------------------------------------------

GIVEN = "refresh-CANARY-1"


@pytest.fixture
def flowaccount(functions: Functions, world: World, server: Server) -> Server:
    """FlowAccount, which `refresh` is really asked to reach; nothing is connected yet."""
    world.table.clear()

    def refreshes() -> None:
        functions.call("refresh", json.loads(world.lambdas.invoked[-1]["Payload"]))

    world.lambdas.act = refreshes
    return server


def test_an_import_is_proved_and_shown(functions: Functions, world: World, flowaccount: Server) -> None:
    answer = start_import(functions)
    assert (answer["statusCode"], body(answer)["status"]) == (200, "active")
    assert body(answer) == show(functions)
    assert world.opened() == ("access-CANARY-2", "refresh-CANARY-2")
    assert json.loads(world.lambdas.invoked[0]["Payload"]) == {"connection_id": CONNECTION, "import": True}
    assert world.kms.decrypts == 2, "one by refresh, one by this test"


@pytest.mark.parametrize("length", [4_097, 8_000, 32_768])
def test_a_long_token_is_imported(functions: Functions, world: World, flowaccount: Server, length: int) -> None:
    flowaccount.say(reply(200, json.dumps(TOKENS | {"refresh_token": "y" * length}).encode()))
    answer = start_import(functions, refresh_token="x" * length)
    assert (answer["statusCode"], body(answer)["status"]) == (200, "active")
    assert world.opened()[1] == "y" * length


def test_an_import_that_takes_its_time_is_accepted_and_shown(
    functions: Functions, world: World, flowaccount: Server
) -> None:
    world.lambdas.act = lambda: None
    answer = start_import(functions)
    assert (answer["statusCode"], body(answer)["status"]) == (202, "importing")
    assert body(answer) == show(functions)
    assert [one["support_code"] for one in body(ask(functions, status="importing"))["connections"]] == [CONNECTION]
    assert problem(functions.call("token", event("token"))) == (404, "connection_not_found")
    assert problem(start_import(functions)) == (409, "import_under_way")


def test_an_import_waits_as_if_half_its_life_were_left(functions: Functions, world: World, flowaccount: Server) -> None:
    """How old its token is, nobody says."""
    world.lambdas.act = lambda: None
    start_import(functions)
    item = world.table.items[f"CONNECTION#{CONNECTION}", "IMPORT"]
    assert item["deadline"] - item["refresh_at"] == 43_200


def test_the_schedule_goes_on_with_an_import(functions: Functions, world: World, flowaccount: Server) -> None:
    world.lambdas.act = lambda: None
    start_import(functions)
    functions.call("sweep", event("sweep"))
    (sent,) = world.sqs.sent
    assert json.loads(sent["MessageBody"]) == {"connection_id": CONNECTION, "import": True}
    done = functions.call("refresh", {"Records": [{"messageId": "1", "body": sent["MessageBody"]}]})
    assert done == {"batchItemFailures": []}
    assert show(functions)["status"] == "active"


def test_a_refused_import_changes_nothing_and_cools_down_before_the_next_one(
    functions: Functions, world: World, flowaccount: Server
) -> None:
    flowaccount.say(reply(400, b'{"error": "invalid_grant"}'))
    for _ in range(2):
        answer = start_import(functions)
        assert problem(answer) == (409, "import_refused")
        assert json.loads(answer["body"])["reason"] == "rejected"
        assert problem(functions.call("connections", event("connection"))) == (404, "connection_not_found")
        assert body(ask(functions))["connections"] == []
    assert answer["headers"]["Retry-After"] == "600"
    assert len(flowaccount.asked) == 1


def test_an_import_gives_its_tenant_the_connection_and_takes_none_from_another(
    functions: Functions, world: World, flowaccount: Server
) -> None:
    def imported(tenant: object) -> dict[str, Any]:
        return start_import(functions, refresh_token="refresh-1", tenant=tenant)

    assert problem(imported("a\nb")) == (400, "invalid_tenant")
    first = imported("tenant-7")
    assert (first["statusCode"], body(first)["tenant"]) == (200, "tenant-7")
    world.end("rejected")
    assert problem(imported("tenant-8")) == (409, "other_tenant")
    assert imported("tenant-7")["statusCode"] == 200


def test_an_active_connection_is_not_imported_over(functions: Functions, world: World, flowaccount: Server) -> None:
    world.connect()
    before = world.table.items
    assert problem(start_import(functions)) == (409, "already_connected")
    assert (world.table.items, world.lambdas.invoked) == (before, [])


def test_an_import_that_a_user_overtook_says_that_it_is_connected(
    functions: Functions, world: World, flowaccount: Server
) -> None:
    def connects() -> None:
        world.connect(grant_id="ffff")
        functions.call("refresh", json.loads(world.lambdas.invoked[-1]["Payload"]))

    world.lambdas.act = connects
    assert problem(start_import(functions)) == (409, "already_connected")
    assert world.opened() == ("access-1", "refresh-1")


def test_a_disconnect_ends_an_import_under_way(functions: Functions, world: World, flowaccount: Server) -> None:
    world.lambdas.act = lambda: None
    start_import(functions)
    assert disconnect(functions)["statusCode"] == 204
    assert show(functions)["status"] == "disconnected"
    assert body(ask(functions, status="importing"))["connections"] == []
    functions.call("refresh", json.loads(world.lambdas.invoked[-1]["Payload"]))
    assert show(functions)["status"] == "disconnected"


@pytest.mark.parametrize("token", ["", " ", "a b", "tök", "a\n", "x" * 32_769, 7, ["a"], True])
def test_what_cannot_be_a_refresh_token_is_refused_and_not_echoed(
    functions: Functions, world: World, token: object
) -> None:
    world.table.clear()
    answer = start_import(functions, refresh_token=token)
    assert problem(answer) == (400, "invalid_refresh_token")
    assert "tök" not in answer["body"]
    assert world.table.items == {}


@pytest.mark.parametrize("text", ["", "{}", '{"refresh_token": "a", "b": 1}'])
def test_a_malformed_import_is_refused(functions: Functions, world: World, text: str) -> None:
    assert problem(functions.call("connections", event("import") | {"body": text})) == (400, "invalid_body")


def test_without_kms_nothing_is_stored(functions: Functions, world: World, flowaccount: Server) -> None:
    world.kms.error = client_error("KMSInternalException")
    assert problem(start_import(functions)) == (503, "key_unavailable")
    assert world.table.items == {}


# History -----------------------------------------------------------------------------------------------------------


def test_a_history_is_told_newest_first_page_by_page(functions: Functions, world: World) -> None:
    now = int(time.time())
    for number in range(5):
        entry = Entry(
            id=f"{number}", kind=Kind.REFRESHED, at=now - 50 + number, connection_id=CONNECTION, generation=number + 1
        )
        History(world.table.quiet(), "table").write([entry], f"{number}", None)
    found: list[dict[str, Any]] = []
    query: dict[str, list[str]] = {"limit": ["2"]}
    while True:
        page = body(functions.call("connections", with_query(event("history"), **query)))
        found += page["entries"]
        if page["next"] is None:
            break
        query["next"] = [page["next"]]
    assert [entry["generation"] for entry in found] == [5, 4, 3, 2, 1]
    assert found[0] == {
        "id": "4",
        "kind": "refreshed",
        "at": now - 46,
        "status": None,
        "generation": 5,
        "attempt_id": None,
        "tenant": None,
        "reason": None,
        "since": None,
        "deadline": None,
        "consent_ends_at": None,
        "retries": None,
        "recovered_from": None,
    }


def test_nothing_is_told_of_what_nobody_heard_of(functions: Functions) -> None:
    assert body(functions.call("connections", to("N404", event("history")))) == {"entries": [], "next": None}


@pytest.mark.parametrize("value", ["x", "====", "ก", cursor("active#0#N1"), cursor("CONNECTION")])
def test_a_next_of_no_history_is_refused(functions: Functions, value: str) -> None:
    answer = functions.call("connections", with_query(event("history"), next=[value]))
    assert problem(answer) == (400, "invalid_next")
