"""What a warm operation takes: calls counted at the wire, CPU of the process, beside what one would write instead.

Functions are called as Lambda calls them, each in a process with what is deployed and nothing else. CPU is of the user
and the system together; waiting costs none of it.
"""

import base64
import copy
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks import components, lambdas
from benchmarks.lambdas import Function, Program
from benchmarks.throughput import records
from benchmarks.wire import Count, Wire, wire
from flowaccount_connect.store import ConnectionStore, key_of
from local.errors import LocalError
from local.places import ROOT

ROUNDS = 7
"""How often each is measured, in turn."""

TOKENS = 200
"""Token reads of a round."""

REFRESHES = 50
"""Refreshes of a round."""


@dataclass(slots=True)
class Calls:
    """What one operation asked, counted over several of them."""

    operations: int
    count: Count
    cpu: float = 0.0
    """Milliseconds of CPU for one operation."""
    logged: float = 0.0
    """Bytes of log for one operation."""

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


OURS, FLOOR = "ours", "boto3's get_item alone"

BATCH = "refresh, in a batch of 50"
ALONE = "refresh, in a batch of one"
DEMAND = "refresh on demand"
FIRST_TOKEN = "token, the first of a process"  # noqa: S105 - a title
TOKEN = "token"  # noqa: S105 - a title
AUTHORIZE, CALLBACK = "authorize", "callback"
TICK = "tick, with hundreds due"
NOTHING_DUE = "tick, with nothing due"
HISTORY = "publish, for a refresh"
NEW = "publish, for a new connection"

_SINGLE = 20
_BATCHED = 100


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
    ours = range(counted + refreshes * (rounds + 1))
    theirs = range(ours.stop, ours.stop + refreshes)
    with components.dynamodb() as url, wire(url) as served, ExitStack() as running:
        kms = components.client(served.url, "kms")
        components.create(url, lambdas.TABLE)
        components.fill_instead(url, lambdas.TABLE, theirs, now=now, kms=kms)

        def run(program: Program, handler: str = "handler", **settings: str) -> Function:
            variables = lambdas.environment(program, served, **settings)
            return running.enter_context(lambdas.running(program, variables, handler))

        def fill() -> None:
            components.fill(url, lambdas.TABLE, ours, due=ours.stop, now=now, kms=kms)

        refresh = run(functions["refresh"])
        token = run(functions["token"])
        made.calls = _count(url, served, functions, token, refresh, run, fill)
        living = _for(sample("token"), 0)
        readers = {OURS: (token, living), FLOOR: (run(floor, "token"), living)}
        readers |= {name: (run(one, "token"), _for(living, theirs[0])) for name, one in instead.items()}
        workers = {name: run(one, "refresh") for name, one in instead.items()}
        batches = itertools.batched(ours[counted:], refreshes, strict=True)
        for number in range(rounds + 1):
            for name, (function, event) in readers.items():
                took = function.answer([event] * tokens, answers=False).cpu / tokens * 1_000
                if number > 0:  # The first one warms up.
                    made.token.setdefault(name, []).append(took)
            # The same way for all: a batch of the queue.
            due = next(batches)
            took = refresh.answer([records(due)], answers=False).cpu / refreshes * 1_000
            if number > 0:
                made.refresh.setdefault(OURS, []).append(took)
            for name, function in workers.items():
                took = function.answer([records(theirs)], answers=False).cpu / refreshes * 1_000
                if number > 0:
                    made.refresh.setdefault(name, []).append(took)
            yield made
        store = ConnectionStore(components.client(url), lambdas.TABLE)
        found = [store.get(components.name_of(number)) for number in ours]
        if any(one is None or one.generation != 2 for one in found):
            raise LocalError("Not every connection was refreshed, so the figures would be of something else.")


def sample(name: str) -> dict[str, Any]:
    """A sample event of the repository."""
    made: dict[str, Any] = json.loads((ROOT / "events" / f"{name}.json").read_text("utf-8"))
    return made


def _for(event: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A token's event for another connection."""
    made = copy.deepcopy(dict(event))
    made["pathParameters"]["id"] = components.name_of(number)
    return made


def living_token(url: str, served: Wire) -> tuple[dict[str, Any], dict[str, Any]]:
    """A table with one connection of ours and one of theirs, whose tokens live: an event that reads each."""
    kms, now = components.client(served.url, "kms"), int(time.time())
    # Not one of them is due, so that its token lives.
    components.create(url, lambdas.TABLE)
    components.fill(url, lambdas.TABLE, range(1), due=0, now=now, kms=kms)
    components.fill_instead(url, lambdas.TABLE, range(1, 2), now=now, kms=kms)
    return _for(sample("token"), 0), _for(sample("token"), 1)


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

    def counted(name: str, function: Function, events: list[Any], operations: int) -> list[Any]:
        answered = function.answer(events)
        each = 1_000 / operations
        made[name] = Calls(operations, served.counted(), answered.cpu * each, answered.logged / operations)
        return answered.answers

    def item(number: int) -> Any:
        key = key_of(components.name_of(number))
        found = table.get_item(TableName=lambdas.TABLE, Key=key, ConsistentRead=True)["Item"]
        return _as_told(found)

    sweep = run(functions["sweep"])
    sweep.answer([{}])
    served.counted()
    counted(NOTHING_DUE, sweep, [{}], 1)
    fill()
    served.counted()
    # A process that remembers nothing: what the tick above dispatched is not dispatched again.
    counted(TICK, run(functions["sweep"]), [{}], 1)
    # Connection 0 is refreshed first, so that its token lives. Its process is warm then.
    before = item(0)
    refresh.answer([{"connection_id": components.name_of(0), "generation": 1}])
    after = item(0)
    served.counted()
    counted(DEMAND, refresh, [{"connection_id": components.name_of(1), "generation": 1}], 1)
    counted(ALONE, refresh, [records([number]) for number in range(2, 2 + _SINGLE)], _SINGLE)
    batched = range(2 + _SINGLE, 2 + _SINGLE + _BATCHED)
    counted(BATCH, refresh, [records(some) for some in itertools.batched(batched, 50, strict=True)], _BATCHED)
    living = _for(sample("token"), 0)
    counted(FIRST_TOKEN, token, [living], 1)
    answers = counted(TOKEN, token, [living] * _SINGLE, _SINGLE)
    if any(answer["statusCode"] != 200 for answer in answers):
        raise LocalError(f"The token was not served: {answers[0]['statusCode']}.")
    authorize, callback = run(functions["authorize"]), run(functions["callback"])
    begun = authorize.answer([sample("authorize")]).answers[0]
    callback.answer([_callback_of(begun)])
    served.counted()
    begun = counted(AUTHORIZE, authorize, [sample("authorize")] * 5, 5)
    ended = counted(CALLBACK, callback, [_callback_of(one) for one in begun], 5)
    if any(one["statusCode"] not in (302, 303) for one in ended):
        raise LocalError(f"The consent did not become a connection: {ended[0]['statusCode']}.")
    publish = run(functions["publish"])
    publish.answer([{"Records": [_change("0", before, after)]}])
    served.counted()
    counted(HISTORY, publish, [{"Records": [_change("1", before, after)]}], 1)
    counted(NEW, publish, [{"Records": [_change("2", None, item(1))]}], 1)
    return made


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


def _callback_of(redirect: Mapping[str, Any]) -> dict[str, Any]:
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
