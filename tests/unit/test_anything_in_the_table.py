"""Whatever lies in the table: no route answers 500, no function fails, and nobody else notices.

An item of each kind is taken as the product writes it. A hand, or another program, changes some of its attributes: to
another type, to a value out of all bounds, or to nothing. Then everything that reads it is called.
"""

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowaccount_connect.domain.ids import fingerprint
from flowaccount_connect.storage.connections import due_shard, listed_as
from flowaccount_connect.storage.links import CONFIRM_WITHIN
from tests.unit.fakes import CONNECTION, GRANT, Clock
from tests.unit.handlers import Event, Functions, browser_of, event, state_of, with_query
from tests.unit.worlds import TENANT, World

STRANGE = "N7777777"
LINK = "the-link-of-the-app"
CALLBACK = event("callback")
KINDS = ("CONNECTION", "IMPORT", "HISTORY", "LINK", "ATTEMPT", "TENANT", "DEMAND", "COUNT", "RATE", "HEALTH", "EVENT")
KEYS = {"due_shard": "S", "refresh_at": "N", "listed_as": "S"}
"""Attributes that are keys of an index: DynamoDB itself refuses another type of them."""

VALUES: st.SearchStrategy[dict[str, Any] | None] = st.one_of(
    st.none(),
    st.text(max_size=8).map(lambda text: {"S": text}),
    st.sampled_from(
        ("active", "disconnected", "reauthorization_required", "importing", "connected", "to_be_confirmed", "zzzz")
    ).map(lambda text: {"S": text}),
    st.integers(600, 70_000).map(lambda length: {"S": "ก" * length}),
    st.integers(-(10**37), 10**37).map(lambda number: {"N": str(number)}),
    st.integers(-(10**5), 10**5).map(lambda seconds: {"N": str(int(time.time()) + seconds)}),
    st.sampled_from(("1.5", "1E+125", "-1E+125", "-0", "99999999999999999999999999999999999999")).map(
        lambda text: {"N": text}
    ),
    st.binary(max_size=8).map(lambda content: {"B": content}),
    st.sampled_from([{"BOOL": True}, {"NULL": True}, {"L": []}, {"M": {}}, {"SS": ["a"]}, {"NS": ["1"]}]),
)


def as_written(kind: str) -> dict[str, Any]:
    """An item as the product writes it."""
    now = int(time.time())

    def texts(**values: str) -> dict[str, Any]:
        return {name: {"S": value} for name, value in values.items()}

    def numbers(**values: int) -> dict[str, Any]:
        return {name: {"N": str(value)} for name, value in values.items()}

    tokens = {"tokens": {"B": b"sealed"}, "data_key": {"B": b"wrapped"}}
    times = numbers(requested_at=now - 50, access_expires_at=now + 900, deadline=now + 900, refresh_at=now - 5)
    attempt = texts(attempt_id="a") | numbers(attempt_started_at=now - 300, lease_until=now - 100)
    trouble = numbers(retries=1, in_doubt=now - 9, refused_at=now - 9, refused_alone=now - 9, at_risk=now - 9)
    whole = tokens | times | attempt | trouble
    named = texts(environment="sandbox", tenant=TENANT)
    if kind in ("CONNECTION", "IMPORT"):
        listed = listed_as(STRANGE, "active" if kind == "CONNECTION" else "importing")
        indexed = texts(listed_as=listed, due_shard=due_shard(STRANGE), status="active", grant_id=GRANT)
        more = numbers(generation=2, connected_at=now - 99, consent_ends_at=now + 999, ended_at=now - 9)
        return whole | named | indexed | more | texts(reason="rejected", committed_by="c", **key(kind, STRANGE))
    made: dict[str, dict[str, Any]] = {
        "HISTORY": texts(id="1-refreshed", kind="refreshed", status="active", attempt_id="a", reason="rejected")
        | numbers(at=now - 9, generation=2, since=now, deadline=now, retries=1, ttl=now + 99)
        | named,
        "LINK": texts(key="k", return_url="https://app.example.com/done", app_state="s", consumed_by="x")
        | texts(result="to_be_confirmed", connection_id=STRANGE, grant_id=GRANT, expected_connection=STRANGE)
        | numbers(expires_at=now + 900, confirm_until=now + CONFIRM_WITHIN)
        | named
        | tokens
        | times,
        "ATTEMPT": texts(binding=fingerprint(browser_of(CALLBACK)), redirect_uri="https://api.example/live/callback")
        | texts(
            return_url="https://app.example.com/done", app_state="s", consumed_by="x", result=f"connected:{STRANGE}"
        )
        | numbers(expires_at=now + 900)
        | named,
        "TENANT": numbers(links=1, exchanges=1, ttl=now + 99),
        "DEMAND": texts(turn_id="t", answered="yes")
        | numbers(turn_until=now + 9, generation=2, forced_at=now, ttl=now),
        "COUNT": numbers(active=1, reauthorization_required=2),
        "RATE": texts(tag="t")
        | numbers(next_slot=now * 10**6, caller=0, connect=0, import_=0, paused_until=0, pause=1, slowdown=1_000)
        | numbers(slowed_at=0),
        "HEALTH": texts(tag="t", cause="doubt", failures=f"doubt:{now}:N1")
        | numbers(unwell_since=now - 9, tests=1, next_test=now + 9),
        "EVENT": texts(type="connection.refused", connection_id=STRANGE, reason="other_tenant", tenant=TENANT)
        | numbers(at=now - 9, ttl=now + 99),
    }
    return made[kind] | texts(**key(kind, STRANGE))


def key(kind: str, name: str) -> dict[str, str]:
    """The primary key of an item."""
    now = int(time.time())
    return {
        "CONNECTION": {"pk": f"CONNECTION#{name}", "sk": "CONNECTION"},
        "IMPORT": {"pk": f"CONNECTION#{name}", "sk": "IMPORT"},
        "HISTORY": {"pk": f"HISTORY#{name}", "sk": f"{now - 9:012d}#{7:040d}#0"},
        "LINK": {"pk": f"LINK#{fingerprint(LINK)}", "sk": "LINK"},
        "ATTEMPT": {"pk": f"ATTEMPT#{fingerprint(state_of(CALLBACK))}", "sk": "ATTEMPT"},
        "TENANT": {"pk": f"TENANT#{fingerprint(TENANT)}#{now // 60}", "sk": "MINUTE"},
        "DEMAND": {"pk": f"DEMAND#{name}", "sk": "DEMAND"},
        "COUNT": {"pk": "COUNT", "sk": "connections"},
        "RATE": {"pk": "RATE", "sk": "token-endpoint"},
        "HEALTH": {"pk": "HEALTH", "sk": "token-endpoint"},
        "EVENT": {"pk": "EVENT#1", "sk": "EVENT"},
    }[kind]


@st.composite
def spoilt(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """An item of a kind, some of whose attributes are not as the product writes them."""
    item = as_written(kind)
    names = sorted(set(item) - {"pk", "sk"})
    for name, value in draw(st.dictionaries(st.sampled_from(names), VALUES, max_size=6)).items():
        fits = value is None or name not in KEYS or (KEYS[name] in value and value[KEYS[name]] != "")
        if value is None:
            del item[name]
        elif fits:
            item[name] = value
    return item


@pytest.fixture
def world() -> World:
    return World(clock=Clock(now=time.time()))


@pytest.fixture
def functions(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Functions]:
    made = Functions(world, monkeypatch, capsys)
    yield made
    made.close()


def ask(functions: Functions, function: str, sample: str, connection_id: str = STRANGE, **change: Any) -> Any:
    """A request to a route, with little time, so that nobody waits; never answered by a fault of the stack."""
    asked: Event = event(sample) | {"pathParameters": {"id": connection_id}} | change
    answer = functions.call(function, asked, seconds=8.2)
    assert answer["statusCode"] in range(200, 600), sample
    assert "internal_error" not in answer["body"], (sample, functions.logs()[-2_000:])
    assert answer["statusCode"] != 500, sample
    return answer


def listed(functions: Functions) -> dict[str, Any]:
    """All connections, page by page with one on each; by id."""
    found: dict[str, Any] = {}
    query: dict[str, list[str]] = {"limit": ["1"]}
    for _ in range(9):
        answer = ask(functions, "connections", "connections", **with_query(event("connections"), status=None, **query))
        assert answer["statusCode"] == 200, answer["body"]
        page = json.loads(answer["body"])
        found |= {one["support_code"]: one for one in page["connections"]}
        if page["next"] is None:
            return found
        query["next"] = [page["next"]]
    pytest.fail("the list never ends")


def everything(functions: Functions, world: World, item: dict[str, Any]) -> None:
    """Call everything that reads such an item."""
    confirmation = json.dumps({"confirmation": f"{fingerprint(LINK)}.x", "tenant": TENANT})
    link = json.dumps({"tenant": TENANT, "return_url": "https://app.example.com/done"})
    ask(functions, "connections", "connection")
    ask(functions, "connections", "history")
    ask(functions, "connections", "connect-link", body=link)
    ask(functions, "connections", "connect-link-confirm", body=confirmation)
    ask(functions, "connections", "import", body=json.dumps({"refresh_token": "r", "tenant": TENANT}))
    ask(functions, "token", "token")
    ask(functions, "token", "token-rejected")
    ask(functions, "authorize", "authorize", **with_query(event("authorize"), link=[LINK], return_url=None, state=None))
    ask(functions, "callback", "callback")
    told = functions.call("refresh", {"connection_id": STRANGE}, seconds=20)
    assert told.get("error") in (None, "store_unavailable"), (told, functions.logs()[-2_000:])
    messages = [
        {"messageId": one, "body": json.dumps({"connection_id": STRANGE, "import": one == "i"})} for one in "ci"
    ]
    functions.call("refresh", {"Records": messages}, seconds=20)
    functions.call("salvage", event("salvage-queue"), seconds=20)
    functions.call("publish", {"Records": [record(None, item), record(item, None), record(item, item)]}, seconds=30)


def record(old: dict[str, Any] | None, new: dict[str, Any] | None) -> dict[str, Any]:
    """A record of the table's stream, as JSON carries it."""

    def image(item: dict[str, Any]) -> dict[str, Any]:
        return {
            name: {"B": base64.b64encode(value["B"]).decode()} if "B" in value else value
            for name, value in item.items()
        }

    either = new or old or {}
    facts: dict[str, Any] = {
        "ApproximateCreationDateTime": int(time.time()),
        "Keys": {name: either[name] for name in ("pk", "sk")},
        "SequenceNumber": str(id(old) + id(new)),
    }
    facts |= {"OldImage": image(old)} if old else {}
    facts |= {"NewImage": image(new)} if new else {}
    return {"eventID": f"{id(old)}-{id(new)}", "eventSource": "aws:dynamodb", "dynamodb": facts}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_nothing_answers_500_and_nobody_else_notices(
    kind: str, functions: Functions, world: World, data: st.DataObject
) -> None:
    world.table.clear()
    item = data.draw(spoilt(kind))
    world.clock.now = time.time()
    world.connect()
    others = {name: as_written(name) for name in KINDS if name not in (kind, "RATE", "HEALTH", "EVENT", "IMPORT")}
    for one in (*others.values(), item):
        world.table.model.put_item(TableName="table", Item=one)

    # What a process dispatched, and what it knows of the endpoint, is not of this table.
    for function in ("sweep", "refresh"):
        functions.forget(function)
    tick = functions.call("sweep", {}, seconds=30)
    assert tick["complete"]
    assert CONNECTION in {json.loads(one["MessageBody"])["connection_id"] for one in world.sqs.sent}
    world.sqs.sent.clear()
    assert CONNECTION in listed(functions)
    served = ask(functions, "token", "token", CONNECTION)
    assert json.loads(served["body"])["access_token"] == "access-1"
    everything(functions, world, item)
    assert json.loads(ask(functions, "token", "token", CONNECTION)["body"])["access_token"] == "access-1"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_it_is_it_can_be_disconnected(functions: Functions, world: World, data: st.DataObject) -> None:
    world.table.clear()
    world.clock.now = time.time()
    connection, imported = data.draw(spoilt("CONNECTION")), data.draw(st.none() | spoilt("IMPORT"))
    for one in (connection, imported):
        if one is not None:
            world.table.model.put_item(TableName="table", Item=one)
    answer = ask(functions, "connections", "disconnect")
    assert answer["statusCode"] == 204, answer["body"]
    left = world.table.items
    assert left[f"CONNECTION#{STRANGE}", "CONNECTION"]["status"] == "disconnected"
    assert "tokens" not in left[f"CONNECTION#{STRANGE}", "CONNECTION"]
    shown = json.loads(ask(functions, "connections", "connection")["body"])
    assert (shown["status"], shown["generation"] >= 1) == ("disconnected", True)
    assert ask(functions, "connections", "disconnect")["statusCode"] == 204
