"""One bad connection, one bad hour, one bad visitor on the deployed stack: nobody else pays for it.

The connections are written as the callback writes them; they are due from the beginning. Minutes and hours pass by
moving the times in the table. So each worker of `refresh` ends first: it remembers for seconds what it has read.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from flowaccount_connect.storage.connections import due_shard, key_of, listed_as
from tests.e2e import crowd
from tests.e2e.conftest import Bus, Simulator, change, until
from tests.e2e.tampering import restart
from tests.e2e.test_connect_links import confirm, link_of, make, refused
from tests.e2e.test_connections import call, walk
from tests.e2e.test_zzz_schedule import rest
from tools.campaign.stage import Stage
from tools.local import metrics, service
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor

HOUR = 3_600
SHARED = ("HEALTH", "RATE")
"""The items that all workers share."""


@pytest.fixture
def stage(up: Stack, simulator: Simulator) -> Iterator[Stage]:
    """The stack with nothing under way, and no memory of what its endpoint did to tests before."""
    made = Stage(up)

    def forget() -> None:
        simulator.clear_faults()
        made.queues.purge_queue(QueueUrl=up.queues["refresh"])
        for name in SHARED:
            made.table.delete_item(TableName=up.table, Key=shared(name))
        for business in made.items():
            made.table.delete_item(TableName=up.table, Key=key_of(business))
        for function in ("refresh", "callback"):
            restart(up, function)

    forget()
    yield made
    forget()


def shared(name: str) -> dict[str, Any]:
    """The key of an item that all workers share."""
    return {"pk": {"S": name}, "sk": {"S": "token-endpoint"}}


def connect(stage: Stage, first: str, count: int, *, deadline: int = 18 * HOUR, access: int = 9 * HOUR) -> list[str]:
    """So many businesses whose refresh is due."""
    return crowd.connect(stage, first, count, access_expires_at=access, deadline=deadline, refresh_at=-1)


def refresh_each(stage: Stage, businesses: list[str]) -> list[str]:
    """Refresh one after the other; the outcomes."""
    return [stage.invoke(business) for business in businesses]


def time_of_the_canary(stage: Stage) -> None:
    """Let the time of the next canary come."""
    change(stage.up, "HEALTH", "token-endpoint", next_test=1)
    restart(stage.up, "refresh")


def send(stage: Stage, businesses: list[str]) -> None:
    """Dispatch them, in this order."""
    for at in range(0, len(businesses), 10):
        stage.send(businesses[at : at + 10])


def generations(stage: Stage, businesses: list[str]) -> Counter[int]:
    return Counter(int(stage.item(business)["generation"]["N"]) for business in businesses)


def statuses(stage: Stage, businesses: list[str]) -> Counter[str]:
    """What is stored of each, with the reason where one is."""
    items = map(stage.item, businesses)
    return Counter(" ".join(item[name]["S"] for name in ("status", "reason") if name in item) for item in items)


def sent(simulator: Simulator, businesses: list[str]) -> Counter[str]:
    """How often the token of each business was sent."""
    found = Counter(one["business"] for one in simulator.posts("refresh_token"))
    return Counter({business: found[business] for business in businesses if found[business]})


# Poisoned connections ------------------------------------------------------------------------------------------------

POISONS: list[dict[str, object]] = [
    {"fault": "error", "code": "invalid_request", "status": 400},
    {"fault": "error", "code": "invalid_request", "status": 200},
    {"fault": "error", "code": "invalid_scope", "status": 400},
    {"fault": "error", "code": "unauthorized_client", "status": 400},
    {"fault": "error", "code": "unsupported_grant_type", "status": 401},
    {"fault": "status", "status": 403},
    {"fault": "status", "status": 404, "body": "<html>Not Found</html>"},
    {"fault": "status", "status": 405},
]


def test_connections_that_are_always_refused_stop_nobody_and_are_announced(
    stage: Stage, simulator: Simulator, bus: Bus, set_item: Any
) -> None:
    poisoned = connect(stage, "N4100001", len(POISONS), deadline=5 * HOUR)
    healthy = connect(stage, "N4100101", 15)
    (expired,) = connect(stage, "N4100201", 1, access=-60)
    for business, poison in zip(poisoned, POISONS, strict=True):
        simulator.fault(**poison, business=business, times=1_000)  # type: ignore[arg-type]
    for minute in range(8):
        # The poisoned ones first, since their deadlines are sooner.
        for business in poisoned:
            stage.let_fall_due(business)
        send(stage, poisoned)
        if minute == 0:
            until(lambda: len(sent(simulator, poisoned)) >= 5)
            until(lambda: call(stage.up, "GET", f"/connections/{expired}/token")[0] == 200)
            assert call(stage.up, "GET", f"/connections/{expired}/token")[1]["generation"] == 2
        send(stage, [one for one in healthy if stage.item(one)["generation"]["N"] == "1"])
        rest(stage)
        if all("refused_alone" in stage.item(one) for one in poisoned):
            break
    assert generations(stage, healthy) == {2: 15}
    assert statuses(stage, poisoned) == {"active": len(poisoned)}
    shown = {one["support_code"]: one["status"] for one in walk(stage.up, "status=active")}
    assert {shown[business] for business in poisoned} == {"refresh_failing"}
    assert {shown[business] for business in healthy} == {"active"}
    until(lambda: all(bus.types(one).count("refused_alone") == 1 for one in poisoned))
    # Its time is over, and it ends like any other.
    last, now = poisoned[0], int(time.time())
    set_item(last, deadline=now - 25 * HOUR)
    stage.let_fall_due(last)
    assert stage.invoke(last) == "reauthorization_required"
    assert statuses(stage, [last]) == {"reauthorization_required expired": 1}


# Brown-outs ----------------------------------------------------------------------------------------------------------

BROWN_OUTS: list[list[dict[str, object]]] = [
    [
        {"fault": "lose_answer"},
        {"fault": "status", "status": 504, "processed": True},
        {"fault": "garbage", "content": "html", "processed": True},
    ],
    [
        {"fault": "reset"},
        {"fault": "truncate"},
        {"fault": "status", "status": 200, "processed": True},
    ],
    [
        {"fault": "status", "status": 307, "headers": {"Location": "/test/token"}, "processed": True},
        {"fault": "status", "status": 418, "body": {"refresh_token": "alone"}, "processed": True},
        {"fault": "huge", "bytes": 5_000_000},
    ],
    [{"fault": "delay", "seconds": 20, "when": "after"}] * 3,
]
"""What befalls the answers to three connections in the same minute. The server has processed each request."""


def test_brown_outs_cost_three_connections_each_and_end_by_themselves(stage: Stage, simulator: Simulator) -> None:
    for number, faults in enumerate(BROWN_OUTS):
        businesses = connect(stage, f"N42{number:02}001", 12)
        met, others = businesses[:3], businesses[3:]
        for business, fault in zip(met, faults, strict=True):
            simulator.fault(**fault, business=business)  # type: ignore[arg-type]
        simulator.fault("lose_answer", times=1_000)
        if number < 3:
            outcomes = refresh_each(stage, businesses)
        else:
            # Each waits for its answer in vain, all at the same time. Who comes after them reads what they have noted.
            with ThreadPoolExecutor(3) as pool:
                outcomes = list(pool.map(stage.invoke, met))
            restart(stage.up, "refresh")
            outcomes += refresh_each(stage, others)
        assert outcomes == ["in_doubt"] * 3 + ["unwell"] * 9, faults
        assert sent(simulator, businesses) == Counter(met), faults
        # A canary finds no answer either. The next one finds one, and lets one connection try.
        time_of_the_canary(stage)
        assert stage.invoke(others[0]) == "unwell", faults
        simulator.clear_faults()
        time_of_the_canary(stage)
        assert refresh_each(stage, others) == ["refreshed"] * 9, faults
        for business in met:
            # The lease of an attempt in doubt passes, and then ten minutes between two refusals.
            for outcome in ("refused", "reauthorization_required"):
                stage.let_fall_due(business)
                assert stage.invoke(business) == outcome, faults
        assert statuses(stage, businesses) == {"active": 9, "reauthorization_required rotation_lost": 3}, faults


# A server's bad minute -----------------------------------------------------------------------------------------------


def test_one_false_refusal_costs_nothing(stage: Stage, simulator: Simulator) -> None:
    (business,) = connect(stage, "N4300001", 1)
    simulator.fault("error", code="invalid_grant", business=business)
    assert stage.invoke(business) == "refused"
    status, served = call(stage.up, "GET", f"/connections/{business}/token")
    assert (status, served["status"], served["generation"]) == (200, "refresh_failing", 1)
    assert call(stage.up, "GET", f"/connections/{business}")[1]["status"] == "refresh_failing"
    stage.let_fall_due(business)
    assert stage.invoke(business) == "refreshed"
    assert call(stage.up, "GET", f"/connections/{business}/token")[1]["status"] == "active"


def test_a_bad_minute_of_refusals_ends_nobody(stage: Stage, simulator: Simulator, set_item: Any) -> None:
    businesses = connect(stage, "N4310001", 12)
    simulator.fault("error", code="invalid_grant", times=1_000)
    assert refresh_each(stage, businesses) == ["refused"] * 5 + ["refused"] + ["unwell"] * 6
    # Ten minutes later it is not over: a second refusal is no verdict while all are refused.
    for business in businesses[:3]:
        stage.let_fall_due(business)
    set_item(businesses[0], deadline=int(time.time()) + 600)
    entries = [{"Id": "1", "MessageBody": json.dumps({"connection_id": businesses[0], "urgent": True})}]
    stage.queues.send_message_batch(QueueUrl=stage.up.queues["refresh"], Entries=entries)
    until(lambda: sent(simulator, businesses[:1])[businesses[0]] == 2)
    rest(stage)
    assert statuses(stage, businesses) == {"active": 12}
    simulator.clear_faults()
    for business in businesses:
        stage.let_fall_due(business)
    time_of_the_canary(stage)
    refresh_each(stage, businesses[6:] + businesses[:6])
    assert generations(stage, businesses) == {2: 12}


# Visitors and callers ------------------------------------------------------------------------------------------------


def pause(stage: Stage) -> None:
    """Let FlowAccount have asked the stack to wait for ten minutes."""
    until_then = {"paused_until": {"N": str(int((time.time() + 600) * 1_000_000))}}
    stage.table.put_item(TableName=stage.up.table, Item=shared("RATE") | until_then | {"tag": {"S": "test"}})
    for function in ("refresh", "callback"):
        restart(stage.up, function)


def test_junk_codes_stop_no_refresh(stage: Stage, simulator: Simulator) -> None:
    businesses = connect(stage, "N4400001", 12)

    def junk(number: int) -> str | None:
        visitor = HttpVisitor()
        url = stage.up.authorize_url
        if number % 2:
            url = make(stage.up, f"visitor-{number}")["connect_url"]
        begun = visitor.get(url, Accept="text/html").headers["Location"]
        state = begun.partition("state=")[2].partition("&")[0]
        return visitor.follow(f"{stage.up.callback_url}?code={'junk' * 1_000}&state={state}").page

    with ThreadPoolExecutor(2) as pool:
        pages = [pool.submit(junk, number) for number in range(12)]
        assert refresh_each(stage, businesses) == ["refreshed"] * 12
        seen = Counter(page.result() for page in pages)
    # A code of 4,000 characters is a code: FlowAccount is asked, and refuses it. A link leads back to the app.
    assert seen == {"code_rejected": 6, None: 6}
    assert len(simulator.posts("authorization_code")) == 12


def test_without_room_a_connect_consumes_nothing_and_what_dies_goes_all_the_same(
    stage: Stage, simulator: Simulator, visitor: HttpVisitor
) -> None:
    (caller,) = connect(stage, "N4410001", 1, access=-60)
    (dying,) = connect(stage, "N4410002", 1, deadline=HOUR // 2)
    made = make(stage.up, "tenant-of-a-busy-minute")
    back = visitor.consent(made["connect_url"], user="somchai", business="N1000001")
    pause(stage)
    entries = [{"Id": "1", "MessageBody": json.dumps({"connection_id": dying, "urgent": True})}]
    stage.queues.send_message_batch(QueueUrl=stage.up.queues["refresh"], Entries=entries)
    arrived = visitor.follow(back)
    assert (arrived.page, arrived.status) == ("busy", 429)
    status, problem = call(stage.up, "GET", f"/connections/{caller}/token")
    assert (status, problem["code"]) == (503, "token_unavailable")
    until(lambda: stage.item(dying)["generation"]["N"] == "2")
    assert [one["business"] for one in simulator.posts()] == [dying]
    stage.table.delete_item(TableName=stage.up.table, Key=shared("RATE"))
    for function in ("refresh", "callback"):
        restart(stage.up, function)
    # The same link, the same code: a reload works.
    assert "confirmation=" in visitor.follow(back).url
    assert confirm(stage.up, made["confirmation"], "tenant-of-a-busy-minute").status_code == 200


def test_garbage_imports_under_one_id_are_one_request(stage: Stage, simulator: Simulator) -> None:
    name = "N4500001"
    stage.table.delete_item(TableName=stage.up.table, Key=key_of(name, "IMPORT"))
    with ThreadPoolExecutor(4) as pool:
        body = {"refresh_token": "garbage" * 1_200}
        answers = list(pool.map(lambda _: call(stage.up, "POST", f"/connections/{name}", body), range(8)))
    # Who comes while the first one is under way is refused, too, or told that it goes on.
    assert {status for status, _ in answers} <= {409, 202}
    codes = {problem["code"] for status, problem in answers if status == 409}
    assert codes <= {"import_refused", "import_under_way"}

    def ask() -> requests.Response:
        return service.call(stage.up, "POST", f"/connections/{name}", body=body)

    until(lambda: ask().json().get("code") == "import_refused")
    again = ask()
    assert (again.json()["code"], again.json()["reason"]) == ("import_refused", "rejected")
    assert 0 < int(again.headers["Retry-After"]) <= 600
    assert len(simulator.posts("refresh_token")) == 1


# Malformed items -----------------------------------------------------------------------------------------------------


def test_malformed_items_are_their_own_trouble_and_can_be_ended(stage: Stage, simulator: Simulator) -> None:
    strange: dict[str, dict[str, Any] | None] = {
        "reason": {"S": "because"},
        "status": {"S": "strange"},
        "generation": {"S": "seven"},
        "grant_id": None,
        "deadline": {"BOOL": True},
        "tokens": {"L": []},
        "tenant": {"S": "x" * 300_000},
        "retries": {"N": "-1E+100"},
        "attempt_id": {"M": {}},
        "listed_as": {"S": "active#0"},
    }
    healthy = connect(stage, "N4600101", 3)
    malformed = dict(zip(connect(stage, "N4600001", len(strange), deadline=5 * HOUR), strange.items(), strict=True))
    for business, (name, value) in malformed.items():
        item = stage.item(business)
        item = item | {name: value} if value is not None else {k: v for k, v in item.items() if k != name}
        stage.table.put_item(TableName=stage.up.table, Item=item)
    stage.table.put_item(
        TableName=stage.up.table,
        Item=key_of("not a name/ก")
        | {
            "listed_as": {"S": listed_as("N1", "active")},
            "due_shard": {"S": due_shard("N1")},
            "refresh_at": {"N": "1"},
        },
    )
    tick = service.invoke(stage.up, "sweep", {})
    assert tick["complete"]
    assert tick["due"] >= len(malformed) + len(healthy)
    shown = {one["support_code"]: one for one in walk(stage.up, "limit=2")}
    assert set(shown) >= {*healthy, *malformed} - {"N4600010"}
    in_trouble = {name: shown[business]["status"] for business, (name, _) in malformed.items() if business in shown}
    assert {name for name, status in in_trouble.items() if status != "unreadable"} <= {"listed_as", "tokens"}
    send(stage, [*malformed, *healthy])
    until(lambda: generations(stage, healthy) == {2: 3}, patience=90)
    for business in malformed:
        status, served = call(stage.up, "GET", f"/connections/{business}/token")
        assert status in (200, 503), served
        assert call(stage.up, "GET", f"/connections/{business}/history")[0] == 200
        assert call(stage.up, "DELETE", f"/connections/{business}") == (204, {}), business
        assert call(stage.up, "GET", f"/connections/{business}")[1]["status"] == "disconnected"
    stage.table.delete_item(TableName=stage.up.table, Key=key_of("not a name/ก"))
    assert set(sent(simulator, list(malformed))) <= {"N4600010"}


# Consents ------------------------------------------------------------------------------------------------------------


def test_an_old_confirmation_and_an_earlier_consent_find_the_door_shut(
    stage: Stage, simulator: Simulator, visitor: HttpVisitor
) -> None:
    up, business = stage.up, "N1000003"
    first = make(up, "shop-a")
    visitor.connect(first["connect_url"], user="somchai", business=business)
    assert confirm(up, first["confirmation"], "shop-a").status_code == 200
    waiting = make(up, "shop-a")
    visitor.connect(waiting["connect_url"], user="somchai", business=business)
    assert "tokens" in link_of(up, waiting["confirmation"])
    # A direct connect is in flight, and an import, while the business is disconnected.
    simulator.fault("delay", seconds=3, when="after", grant_type="authorization_code")
    late = HttpVisitor()
    back = late.consent(up.authorize_url, user="somchai", business=business)
    with ThreadPoolExecutor(1) as pool:
        flying = pool.submit(late.follow, back)
        until(lambda: len(simulator.posts("authorization_code")) == 3)
        assert call(up, "DELETE", f"/connections/{business}")[0] == 204
        assert flying.result().page == "attempt_expired"
    assert refused(up, waiting["confirmation"], "shop-a") == (409, "connect_failed", "disconnected")
    assert refused(up, first["confirmation"], "shop-a") == (409, "connect_failed", "disconnected")
    assert call(up, "GET", f"/connections/{business}")[1]["status"] == "disconnected"
    theirs = make(up, "shop-b")
    visitor.connect(theirs["connect_url"], user="somchai", business=business)
    assert confirm(up, theirs["confirmation"], "shop-b").status_code == 200
    for old in (first, waiting):
        status, code, _ = refused(up, old["confirmation"], "shop-a")
        assert (status, code) == (409, "connect_failed")
    assert call(up, "GET", f"/connections/{business}")[1]["tenant"] == "shop-b"


def test_an_import_belongs_to_its_tenant(stage: Stage, simulator: Simulator, visitor: HttpVisitor) -> None:
    up, business = stage.up, "N1000002"
    stage.table.delete_item(TableName=up.table, Key=key_of(business, "IMPORT"))
    (consent,) = simulator.post("consents", {"business": business})["consents"]
    body = {"refresh_token": consent["refresh_token"], "tenant": "shop-c"}
    assert call(up, "POST", f"/connections/{business}", body)[1]["tenant"] == "shop-c"
    other = make(up, "shop-d")
    assert visitor.connect(other["connect_url"], user="somchai", business=business).page == "business_taken"
    mine = make(up, "shop-c")
    visitor.connect(mine["connect_url"], user="somchai", business=business)
    assert confirm(up, mine["confirmation"], "shop-c").json()["tenant"] == "shop-c"


def test_refused_imports_sound_no_alarm_of_connections(stage: Stage, simulator: Simulator) -> None:
    begun = time.time()
    simulator.fault("status", status=504, processed=True, grant_type="refresh_token")
    for number in range(5):
        name = f"N480000{number}"
        stage.table.delete_item(TableName=stage.up.table, Key=key_of(name, "IMPORT"))
        call(stage.up, "POST", f"/connections/{name}", {"refresh_token": "never-issued"})
    # The first one's answer was lost: in doubt and then refused, it is a refused import and no lost rotation.
    change(stage.up, "CONNECTION#N4800000", "IMPORT", refresh_at=1)
    told = service.invoke(stage.up, "refresh", {"connection_id": "N4800000", "import": True})
    assert told["outcome"] == "import_refused"
    assert counted(stage, begun)["Reauthorizations"] == counted(stage, begun)["TokensLost"] == 0
    # The same count sees a connection that ends.
    (business,) = connect(stage, "N4810001", 1, deadline=-1)
    simulator.withdraw(business)
    assert stage.invoke(business) == "reauthorization_required"
    until(lambda: counted(stage, begun)["Reauthorizations"] > 0)


def counted(stage: Stage, since: float) -> Counter[str]:
    """The metrics that `refresh` has written since then, by name."""
    pages = stage.client("logs").get_paginator("filter_log_events")
    group = f"/aws/lambda/{stage.up.functions['refresh']}"
    lines = (event["message"] for page in pages.paginate(logGroupName=group) for event in page["events"])
    found: Counter[str] = Counter()
    for line in lines:
        for metric, sample in metrics.embedded(line):
            if sample.at >= since:
                found[metric.name] += int(sample.value)
    return found
