"""What a warm operation takes: calls counted at the wire, CPU of the process, beside what one would write instead.

Functions are called as Lambda calls them, each in a process with what is deployed and nothing else. CPU is of the user
and the system together; waiting costs none of it.
"""

import base64
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from flowaccount_connect.dynamodb import n, s
from flowaccount_connect.store import key_of
from local.errors import LocalError
from local.metrics import embedded
from local.places import ROOT
from tools.benchmarks import components, lambdas
from tools.benchmarks.lambdas import Function, Program
from tools.benchmarks.throughput import records
from tools.benchmarks.wire import Count, Wire, wire

ROUNDS = 7
"""How often each is measured, in turn."""

TOKENS = 200
"""Token reads of a round."""

REFRESHES = 50
"""Refreshes of a round, in one batch."""

ALONES = 10
"""Refreshes of a round, each by itself."""


@dataclass(slots=True)
class Calls:
    """What one operation asked, counted over several of them."""

    operations: int
    count: Count
    cpu: float = 0.0
    """Milliseconds of CPU for one operation."""
    logged: float = 0.0
    """Bytes of log for one operation."""
    metrics: frozenset[tuple[str, str]] = frozenset()
    """The metrics that it wrote, as function and name."""

    @property
    def requests(self) -> dict[str, float]:
        """By service and operation, for one operation."""
        return {name: count / self.operations for name, count in sorted(self.count.requests.items())}

    @property
    def read_units(self) -> float:
        """For one operation."""
        return self.count.read_units / self.operations

    @property
    def write_units(self) -> float:
        """For one operation, of the table and its indexes."""
        return self.count.write_units / self.operations


@dataclass(slots=True)
class Operations:
    """All of it; CPU in milliseconds an operation, one figure for each round."""

    calls: dict[str, Calls] = field(default_factory=dict)
    token: dict[str, list[float]] = field(default_factory=dict)
    refresh: dict[str, list[float]] = field(default_factory=dict)
    """One of a batch."""
    alone: dict[str, list[float]] = field(default_factory=dict)
    """A refresh that is a batch by itself."""


OURS, FLOOR = "ours", "boto3's get_item alone"

BATCH = "refresh, in a batch of 50"
ALONE = "refresh, in a batch of one"
DEMAND = "refresh on demand"
FIRST_TOKEN = "token, the first of a process"  # noqa: S105 - a title
TOKEN = "token"  # noqa: S105 - a title
AUTHORIZE, CALLBACK = "authorize", "callback"
SESSION, CONFIRM = "a host makes a link", "a host confirms"
LINK_AUTHORIZE, LINK_CALLBACK = "authorize, by a link", "callback, by a link"
TICK = "tick, with hundreds due"
NOTHING_DUE = "tick, with nothing due"
HISTORY = "publish, for a refresh"
NEW = "publish, for a new connection"

_SINGLE = 20
_BATCHED = 100
_CONNECTS = 5


def measure(
    functions: Mapping[str, Program],
    floor: Program,
    instead: Mapping[str, Program],
    *,
    rounds: int = ROUNDS,
    tokens: int = TOKENS,
    refreshes: int = REFRESHES,
) -> Iterator[Operations]:
    """Count, then measure in turn; yields what there is after each round. Raises `LocalError`."""
    made, now = Operations(), int(time.time())
    counted = 2 + _SINGLE + _BATCHED
    ours = range(counted + (refreshes + ALONES) * (rounds + 1))
    theirs = range(ours.stop, ours.stop + refreshes)
    with components.dynamodb() as url, wire(url) as served, ExitStack() as running:
        kms = components.client(served.url, "kms")
        components.create(url, lambdas.TABLE)
        components.fill_instead(url, lambdas.TABLE, theirs, now=now, kms=kms)

        def run(program: Program, handler: str = "handler") -> Function:
            variables = lambdas.environment(program, served)
            return running.enter_context(lambdas.running(program, variables, handler))

        def fill() -> None:
            components.fill(url, lambdas.TABLE, ours, due=ours.stop, now=now, kms=kms)

        refresh = run(functions["refresh"])
        token = run(functions["token"])
        made.calls = _count(url, served, functions, token, refresh, run, fill)
        living = token_of(0)
        readers = {OURS: (token, living), FLOOR: (run(floor, "token"), living)}
        readers |= {name: (run(one, "token"), token_of(theirs[0])) for name, one in instead.items()}
        workers = {OURS: refresh} | {name: run(one, "refresh") for name, one in instead.items()}
        due = iter(ours[counted:])
        for number in range(rounds + 1):
            for name, (function, event) in readers.items():
                took = function.answer([event] * tokens, answers=False).cpu / tokens * 1_000
                if number > 0:  # The first one warms up.
                    made.token.setdefault(name, []).append(took)
            for name, function in workers.items():
                # The same way for all: a batch of the queue, then some of one message.
                # Ours are refreshed once each, since they are not due again.
                named = due if name == OURS else itertools.cycle(theirs)
                batch, singly = (list(itertools.islice(named, count)) for count in (refreshes, ALONES))
                took = _refreshed(function, [records(batch)]) / refreshes * 1_000
                took_alone = _refreshed(function, [records([one]) for one in singly]) / ALONES * 1_000
                if number > 0:
                    made.refresh.setdefault(name, []).append(took)
                    made.alone.setdefault(name, []).append(took_alone)
            for operation, values in ((TOKEN, made.token), (BATCH, made.refresh), (ALONE, made.alone)):
                if number > 0:  # Better than what was counted by: those were the first of their process.
                    made.calls[operation].cpu = statistics.median(values[OURS])
            yield made
        if components.refreshed(url, lambdas.TABLE, ours) < len(ours):
            raise LocalError("Not every connection was refreshed, so the figures would be of something else.")


def _refreshed(function: Function, events: list[Any]) -> float:
    """Seconds of CPU for refreshing what these events name. Raises `LocalError` if any of it failed."""
    answered = function.answer(events)
    if any(answer["batchItemFailures"] for answer in answered.answers):
        raise LocalError("Not everything was refreshed, so the figures would be of something else.")
    return answered.cpu


def sample(name: str) -> dict[str, Any]:
    """A sample event of the repository."""
    made: dict[str, Any] = json.loads((ROOT / "events" / f"{name}.json").read_text("utf-8"))
    return made


def token_of(number: int) -> dict[str, Any]:
    """An event that asks for a connection's token."""
    made = sample("token")
    made["pathParameters"]["id"] = components.name_of(number)
    return made


def _count(
    url: str,
    served: Wire,
    functions: Mapping[str, Program],
    token: Function,
    refresh: Function,
    run: Callable[[Program], Function],
    fill: Callable[[], None],
) -> dict[str, Calls]:
    """What each operation asks, once its process is warm; `fill` makes connections due."""
    made: dict[str, Calls] = {}
    table = components.client(url)

    def counted(name: str, function: Function, events: list[Any], operations: int | None = None) -> list[Any]:
        served.counted()
        answered, number = function.answer(events), operations or len(events)
        written = frozenset(
            (dict(metric.dimensions)["service"], metric.name)
            for line in answered.log.splitlines()
            for metric, _ in embedded(line)
        )
        cpu, logged = answered.cpu * 1_000 / number, answered.logged / number
        made[name] = Calls(number, served.counted(), cpu, logged, written)
        return answered.answers

    def item(number: int) -> Any:
        key = key_of(components.name_of(number))
        found = table.get_item(TableName=lambdas.TABLE, Key=key, ConsistentRead=True)["Item"]
        return _as_told(found)

    # What `publish` counts, which a tick reads.
    table.put_item(TableName=lambdas.TABLE, Item={"pk": s("COUNT"), "sk": s("connections"), "active": n(1)})
    sweep = run(functions["sweep"])
    sweep.answer([{}])
    counted(NOTHING_DUE, sweep, [{}])
    fill()
    # A process that remembers nothing: what the tick above dispatched is not dispatched again.
    counted(TICK, run(functions["sweep"]), [{}])
    # Connection 0 is refreshed first, so that its token lives. Its process is warm then.
    before = item(0)
    refresh.answer([{"connection_id": components.name_of(0), "generation": 1}])
    after = item(0)
    counted(DEMAND, refresh, [{"connection_id": components.name_of(1), "generation": 1}])
    counted(ALONE, refresh, [records([number]) for number in range(2, 2 + _SINGLE)])
    batched = range(2 + _SINGLE, 2 + _SINGLE + _BATCHED)
    counted(BATCH, refresh, [records(some) for some in itertools.batched(batched, 50, strict=True)], _BATCHED)
    counted(FIRST_TOKEN, token, [token_of(0)])
    answers = counted(TOKEN, token, [token_of(0)] * _SINGLE)
    if any(answer["statusCode"] != 200 for answer in answers):
        raise LocalError(f"The token was not served: {answers[0]['statusCode']}.")
    _count_connects(functions, run, counted)
    publish = run(functions["publish"])
    publish.answer([{"Records": [_change("0", before, after)]}])
    counted(HISTORY, publish, [{"Records": [_change("1", before, after)]}])
    counted(NEW, publish, [{"Records": [_change("2", None, item(1))]}])
    return made


def _count_connects(
    functions: Mapping[str, Program],
    run: Callable[[Program], Function],
    counted: Callable[[str, Function, list[Any]], list[Any]],
) -> None:
    """Connecting at once, and by a host's link, which is what the template's default wants: each step by itself."""
    authorize, callback, connections = (run(functions[name]) for name in ("authorize", "callback", "connections"))

    def first(_: str, function: Function, events: list[Any]) -> list[Any]:
        return function.answer(events).answers

    for ask, count in ((first, 1), (counted, _CONNECTS)):
        begun = ask(AUTHORIZE, authorize, [sample("authorize")] * count)
        ended = ask(CALLBACK, callback, [callback_of(one) for one in begun])
        _succeeded(ended, 303)
    for ask, count in ((first, 1), (counted, _CONNECTS)):
        sessions = ask(SESSION, connections, [sample("connect-session")] * count)
        _succeeded(sessions, 201)
        told = [json.loads(one["body"]) for one in sessions]
        begun = ask(LINK_AUTHORIZE, authorize, [_opened(one["connect_url"]) for one in told])
        ended = ask(LINK_CALLBACK, callback, [callback_of(one) for one in begun])
        _succeeded(ended, 303)
        confirmed = ask(CONFIRM, connections, [_confirming(one["session"]) for one in told])
        _succeeded(confirmed, 200)


def _succeeded(answers: list[Any], status: int) -> None:
    if any(one["statusCode"] != status for one in answers):
        raise LocalError(f"The consent did not become a connection: {answers[0]['statusCode']}.")


def _opened(connect_url: str) -> dict[str, Any]:
    """A browser opens a host's link."""
    event, query = sample("authorize"), parse_qs(urlsplit(connect_url).query)
    event["multiValueQueryStringParameters"] = query
    event["queryStringParameters"] = {name: values[-1] for name, values in query.items()}
    return event


def _confirming(session: str) -> dict[str, Any]:
    """The host confirms what a session brought."""
    event = sample("connect-session-confirm")
    event["pathParameters"] = {"session": session}
    return event


def _change(number: str, old: Any, new: Any) -> dict[str, Any]:
    """A record of the table's stream."""
    images = {name: image for name, image in (("OldImage", old), ("NewImage", new)) if image is not None}
    told = {"Keys": {name: new[name] for name in ("pk", "sk")}, "SequenceNumber": number.zfill(29), **images}
    return {
        "eventID": number.zfill(32),
        "eventName": "INSERT" if old is None else "MODIFY",
        "dynamodb": {"ApproximateCreationDateTime": time.time(), **told},
    }


def _as_told(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item as the stream tells it: bytes in base64."""
    return {
        name: {"B": base64.b64encode(value["B"]).decode()} if "B" in value else value for name, value in item.items()
    }


def callback_of(redirect: Mapping[str, Any]) -> dict[str, Any]:
    """How the browser comes back from FlowAccount after `authorize` sent it there."""
    headers = {name.lower(): value for name, value in redirect.get("headers", {}).items()}
    many = {name.lower(): values for name, values in redirect.get("multiValueHeaders", {}).items()}
    if redirect["statusCode"] not in (302, 303):
        raise LocalError(f"authorize did not redirect: {redirect['statusCode']}")
    location = headers.get("location") or many["location"][0]
    cookie = (headers.get("set-cookie") or many["set-cookie"][0]).partition(";")[0]
    state = parse_qs(urlsplit(location).query)["state"]
    event = sample("callback")
    query = dict(event["multiValueQueryStringParameters"]) | {"state": state, "code": ["code"]}
    event["multiValueQueryStringParameters"] = query
    event["queryStringParameters"] = {name: values[-1] for name, values in query.items()}
    event["headers"]["Cookie"] = cookie
    event["multiValueHeaders"]["Cookie"] = [cookie]
    return event


def median(values: list[float]) -> float:
    """Of one figure's rounds."""
    return statistics.median(values)
