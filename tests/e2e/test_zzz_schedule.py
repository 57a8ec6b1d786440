"""The schedule on the deployed stack, with a shrunk clock: many connections, several lifetimes, an outage, and 429s.

A refresh token lives 80 seconds here instead of a day, so a tick every four seconds stands for the one a minute: these
tests invoke it. One waits for the stack's own schedule. The stand-in for FlowAccount runs in this process, so that it
can be gone without forgetting anything.
"""

import bisect
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import pytest

from flowaccount_connect.domain.schedule import Schedule
from flowaccount_connect.rotation.permits import FIRST_PAUSE
from flowaccount_connect.scheduling.rate import NEWS, WINDOW
from flowaccount_connect.scheduling.refresh_queue import RefreshQueue
from tests.e2e import crowd
from tests.e2e.conftest import until
from tests.e2e.tampering import denied
from tools.campaign.stage import Stage
from tools.local import ports, service, settings, stack
from tools.simulator.application import create_application
from tools.simulator.clients import Clients
from tools.simulator.gateway import Gateway
from tools.simulator.ledger import fingerprint
from tools.simulator.server import Server
from tools.simulator.settings import Settings
from tools.simulator.state import State

CONNECTIONS = 100
LIFETIME = 80
LIFETIMES = 1.75
REFRESH_AFTER = 16
OUTAGE = 15
TICK = 4.0

LIMIT = 300
"""Refreshes a minute: so many connections that are due at once, as after the outage, are 20 seconds' worth of it."""

CLIENT_ID, CLIENT_SECRET = "a-shrunk-clock", "of the test of the schedule"


class FlowAccount:
    """The stand-in, on a port of its own, which can be gone: then connections are refused, and nothing is forgotten."""

    def __init__(self) -> None:
        clients = Clients()
        clients.register(CLIENT_ID, CLIENT_SECRET, [])
        lifetimes = {"refresh_token_lifetime": LIFETIME, "access_token_lifetime": LIFETIME}
        # Its own limit is ours: what it counts beyond that is refused, and seen.
        state = State(Settings().merged({**lifetimes, "requests_per_minute": LIMIT}), clients)
        self._gateway = Gateway(create_application(state), state)
        self._port = ports.choose(None)
        self._server: Server | None = None
        self.open()

    @property
    def url(self) -> str:
        return f"http://{ports.HOST}:{self._port}"

    def open(self) -> None:
        self._server = Server(self._port, self._gateway)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @contextmanager
    def gone(self) -> Iterator[None]:
        """An outage for as long as the block runs."""
        self.close()
        try:
            yield
        finally:
            self.open()


@pytest.fixture(scope="module")
def flowaccount() -> Iterator[FlowAccount]:
    running = FlowAccount()
    yield running
    running.close()


@pytest.fixture(scope="module")
def deployed(flowaccount: FlowAccount) -> Iterator[Stage]:
    """The stack with a shrunk clock, ended in the end: no test comes after these."""
    variables = {
        "AUTHORIZE_ENDPOINT": f"{flowaccount.url}/connect/authorize",
        "TOKEN_ENDPOINT": f"{flowaccount.url}/test/token",
        "CLIENT_ID": CLIENT_ID,
        "CLIENT_SECRET": CLIENT_SECRET,
        "REFRESH_AFTER": str(REFRESH_AFTER),
        "REFRESH_TOKEN_LIFETIME": str(LIFETIME),
        "REFRESHES_PER_MINUTE": str(LIMIT),
        "REFRESH_CONCURRENCY": "3",
        "SCHEDULE": "disabled",
    }
    try:
        yield Stage(replace(stack.up(settings.read(variables)), simulator_url=flowaccount.url))
    finally:
        stack.down()


@pytest.fixture
def stage(deployed: Stage) -> Stage:
    """The stage without connections, messages, or a memory of 429s."""
    deployed.clear()
    deployed.control("POST", "settings", {"rate_limit": True})
    for name in ("RATE", "HEALTH"):
        deployed.table.delete_item(TableName=deployed.up.table, Key={"pk": {"S": name}, "sk": {"S": "token-endpoint"}})
    return deployed


def connect(stage: Stage, count: int, **changes: int) -> list[str]:
    """So many businesses, connected a moment ago: written as the callback writes. `changes` are times, from now."""
    schedule, now = Schedule(REFRESH_AFTER, LIFETIME), int(time.time())
    times = {
        "access_expires_at": LIFETIME,
        "deadline": schedule.deadline(now) - now,
        "refresh_at": schedule.refresh_at(now) - now,
    }
    return crowd.connect(stage, "N3000001", count, **times | changes)


def tick(stage: Stage) -> dict[str, Any]:
    """One tick: what it found and did."""
    answer = stage.functions.invoke(FunctionName=stage.up.functions["sweep"], Payload=b"{}")
    told: dict[str, Any] = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, told
    return told


@contextmanager
def ticking(stage: Stage) -> Iterator[list[dict[str, Any]]]:
    """Ticks, one every four seconds, for as long as the block runs."""
    ended, ticks = threading.Event(), list[dict[str, Any]]()

    def run() -> None:
        while not ended.is_set():
            begun = time.time()
            ticks.append({"at": begun, **tick(stage)})
            ended.wait(max(begun + TICK - time.time(), 0))

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            yield ticks
        finally:
            ended.set()
            running.result()


@contextmanager
def scheduled(stage: Stage) -> Iterator[None]:
    """The stack's own schedule, a tick of EventBridge Scheduler's a minute, for as long as the block runs."""
    scheduler = stage.client("scheduler")
    found = scheduler.list_schedules()["Schedules"]
    (name,) = (one["Name"] for one in found if f":{stage.up.functions['sweep']}:" in one["Target"]["Arn"])
    there = scheduler.get_schedule(Name=name)
    assert there["ScheduleExpression"] == "rate(1 minute)"
    wanted = ("Name", "GroupName", "ScheduleExpression", "FlexibleTimeWindow", "Target")
    same = {key: there[key] for key in wanted if key in there}
    scheduler.update_schedule(**same, State="ENABLED")
    try:
        yield
    finally:
        scheduler.update_schedule(**same, State=there["State"])


def waiting(stage: Stage, queue: str) -> int:
    """How many messages a queue holds, those being worked on included."""
    return RefreshQueue(stage.queues, stage.up.queues[queue]).waiting()


def send(stage: Stage, businesses: list[str]) -> None:
    """Dispatch them all at once."""
    for at in range(0, len(businesses), 10):
        stage.send(businesses[at : at + 10])


def rest(stage: Stage) -> None:
    """Until nothing is under way."""
    until(lambda: not waiting(stage, "refresh"))
    until(lambda: not any("attempt_id" in item for item in stage.items().values()))


def outcomes(stage: Stage) -> Counter[str]:
    return Counter(one["outcome"] for one in stage.token_requests())


def assert_all_alive(stage: Stage, businesses: list[str]) -> None:
    """None is lost: what is stored of each is what FlowAccount would take, now and for a while, and the API agrees."""
    newest = {entry["business"]: entry for entry in stage.ledger()}
    now, items = time.time(), stage.items()
    assert sorted(items) == sorted(newest) == sorted(businesses)
    for business, item in items.items():
        assert item["status"]["S"] == "active", business
        assert int(item["deadline"]["N"]) > now, business
        assert newest[business]["works"], business
        assert fingerprint(stage.refresh_token(item)) == newest[business]["fingerprint"], business
    assert sorted(listed(stage, "active")) == sorted(businesses)
    assert listed(stage, "reauthorization_required") == []


def listed(stage: Stage, status: str) -> list[str]:
    """The connections of a status, as the API lists them."""
    found, next_ = list[str](), ""
    while True:
        answer = service.call(stage.up, "GET", f"/connections?status={status}&limit=100{next_}")
        assert answer.status_code == 200, answer.text
        found += [one["support_code"] for one in answer.json()["connections"]]
        if answer.json()["next"] is None:
            return found
        next_ = f"&next={answer.json()['next']}"


def busiest(times: list[float]) -> int:
    """The most that came in any 60 seconds, wherever they begin."""
    return max(bisect.bisect_left(times, at + WINDOW) - place for place, at in enumerate(times))


def test_a_hundred_connections_live_through_their_lifetimes_and_an_outage_within_the_limit(
    stage: Stage, flowaccount: FlowAccount
) -> None:
    businesses, start = connect(stage, CONNECTIONS), time.time()

    def pass_time(to: float) -> None:
        time.sleep(max(to - time.time(), 0))

    with ticking(stage) as ticks:
        pass_time(start + LIFETIME)
        with flowaccount.gone():
            gone = time.time()
            pass_time(gone + OUTAGE)
        back = time.time()
        pass_time(start + LIFETIMES * LIFETIME)
    rest(stage)

    assert_all_alive(stage, businesses)
    assert outcomes(stage).keys() == {"issued"}, "and none was throttled, refused or sent in vain"
    times = [one["at"] for one in stage.token_requests()]
    peak = busiest(times)
    afterwards = [one for one in ticks if one["at"] >= back]
    print(
        f"{len(businesses)} connections, {(times[-1] - start) / LIFETIME:.1f} lifetimes, {len(times)} refreshes, "
        f"at most {peak} in any 60 s, of {LIMIT}; "
        f"{afterwards[0]['due']} due after the outage; the soonest deadline was "
        f"{min(one['soonest_deadline'] or LIFETIME for one in ticks)} s away"
    )
    assert peak <= LIMIT
    # The outage was one, and what had fallen due in it was more than could be sent at once.
    assert not [at for at in times if gone + 8 < at < back]
    assert afterwards[0]["due"] > CONNECTIONS / 2
    refreshes = Counter(one["business"] for one in stage.token_requests())
    assert min(refreshes[business] for business in businesses) >= LIFETIMES


def test_the_stacks_own_schedule_finds_what_is_due_and_has_it_refreshed(stage: Stage) -> None:
    """Nobody here invokes anything; a tick may be a minute away, so what is due has time."""
    stage.control("POST", "settings", {"refresh_token_lifetime": 3_600})
    try:
        (business,) = connect(stage, 1, refresh_at=-1, deadline=3_600)
        begun, before = time.time(), stage.item(business)["generation"]
        with scheduled(stage):
            until(lambda: stage.item(business)["generation"] != before, patience=90)
        print(f"refreshed by a tick of the schedule's own after {time.time() - begun:.0f} s")
    finally:
        stage.control("POST", "settings", {"refresh_token_lifetime": LIFETIME})
    rest(stage)
    assert outcomes(stage) == {"issued": 1}
    assert_all_alive(stage, [business])


def test_a_429_pauses_the_whole_stack_and_blames_nobody(stage: Stage) -> None:
    businesses = connect(stage, 40, refresh_at=-1)
    stage.control("POST", "faults", [{"path": "token", "fault": "throttle", "retry_after": None}])
    send(stage, businesses)

    def refused() -> list[dict[str, Any]]:
        return [one for one in stage.token_requests() if one["status"] == HTTPStatus.TOO_MANY_REQUESTS]

    until(lambda: bool(refused()))
    (first,) = refused()
    over = first["at"] + FIRST_PAUSE
    time.sleep(max(over - time.time(), 0))
    rest(stage)
    late = [one["at"] - first["at"] for one in stage.token_requests() if one["number"] > first["number"]]
    print(f"paused for {over - first['at']:.1f} s; sent after the 429: {[round(at, 1) for at in late]}")
    # What another worker had in hand goes on until it has heard of it.
    assert not [at for at in late if NEWS + 1 < at < over - first["at"]]
    assert len([at for at in late if at < over - first["at"]]) < len(businesses) / 2
    for item in stage.items().values():
        assert item.get("retries", {"N": "0"}) == {"N": "0"}, "nobody is blamed"
        assert not item.keys() & {"in_doubt", "reason"}

    for business in businesses:
        # Its pause ends to the second, and it may be a moment short of it.
        stage.let_fall_due(business)
    send(stage, businesses)
    # On a busy machine a slot may pass: the next tick finds what had it.
    with ticking(stage):
        until(lambda: {one["business"] for one in stage.token_requests()} >= {*businesses}, patience=60)
    rest(stage)
    assert outcomes(stage)["not processed"] == 1
    assert outcomes(stage).keys() == {"issued", "not processed"}
    assert_all_alive(stage, businesses)


def test_a_dead_letter_that_is_driven_back_is_harmless(stage: Stage) -> None:
    (business,) = connect(stage, 1, refresh_at=-1)
    queue, dead = stage.up.queues["refresh"], stage.up.queues["dead-letters"]

    def visibility(seconds: int) -> None:
        stage.queues.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": str(seconds)})

    before = stage.queues.get_queue_attributes(QueueUrl=queue, AttributeNames=["VisibilityTimeout"])
    visibility(1)  # Not minutes: five deliveries, one after the other.
    try:
        with denied(stage.up, "refresh", "dynamodb:UpdateItem"):
            send(stage, [business])
            until(lambda: waiting(stage, "dead-letters") > 0)
            rest(stage)
    finally:
        visibility(int(before["Attributes"]["VisibilityTimeout"]))
    assert stage.token_requests() == []
    stage.let_fall_due(business)
    assert stage.invoke(business) == "refreshed"

    letters = stage.queues.receive_message(QueueUrl=dead, MaxNumberOfMessages=10)["Messages"]
    for letter in letters:
        stage.queues.send_message(QueueUrl=queue, MessageBody=letter["Body"])
        stage.queues.delete_message(QueueUrl=dead, ReceiptHandle=letter["ReceiptHandle"])
    rest(stage)
    assert waiting(stage, "dead-letters") == 0
    assert outcomes(stage) == {"issued": 1}
    assert_all_alive(stage, [business])
