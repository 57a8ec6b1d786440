"""What a cold start takes: fresh processes of every function, in turn with the floor and what one would write instead.

A process imports its module, which makes its clients, and ends; or it answers one first call, too. What is compared is
CPU, of the user and the system together, which on a Lambda function is the time it takes. AWS is named by https, as it
is everywhere but here, so whoever reads the authorities that it trusts at the start does so.
"""

import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tools.benchmarks import components, lambdas
from tools.benchmarks.lambdas import FUNCTIONS, Program, Started
from tools.benchmarks.operations import OURS, callback_of, sample, token_of
from tools.benchmarks.throughput import BATCH, records
from tools.benchmarks.wire import wire

ROUNDS = 15
BATCHES = 3
"""Of those rounds have a batch refreshed too."""

FLOOR = "floor"
SHIPPED = ", as sam build ships it"
FIRST = {"token": "token", "refresh": "refresh", "authorize": "handler", "callback": "handler"}
"""Whose first call is measured, and how the handler is called in the programs of `instead` that have it, too."""
GOALS = {"authorize": 1.1, "sweep": 1.1, "callback": 1.2, "refresh": 1.2, "token": 0.6}
"""CPU of the floor's."""
MEMORY_GOAL = 1.2


@dataclass(slots=True)
class Cold:
    """The starts of each program, one for each round."""

    starts: dict[str, list[Started]] = field(default_factory=dict)
    first: dict[str, dict[str, list[Started]]] = field(default_factory=dict)
    """With the first call answered, by function and program."""
    batch: dict[str, list[Started]] = field(default_factory=dict)
    """With a batch refreshed."""
    refreshed: tuple[int, int] = (0, 0)
    """How many of ours were refreshed of how many; a process that starts on a busy machine lets slots of the pace pass,
    and leaves what has none to the next tick."""


def measure(
    functions: Mapping[str, Program],
    floor: Program,
    instead: Mapping[str, Program],
    shipped: Mapping[str, Program],
    *,
    rounds: int = ROUNDS,
    batch: int = BATCH,
) -> Iterator[Cold]:
    """Start each in turn, `rounds` times; yields what there is after each round. Raises `LocalError`."""
    made, now = Cold(), int(time.time())
    programs = {FLOOR: floor} | {name: functions[name] for name in FUNCTIONS} | dict(instead)
    programs |= {name + SHIPPED: program for name, program in shipped.items()}
    batches = min(rounds, BATCHES)
    ours = range(rounds + 1 + batches * batch)
    living, theirs = ours.stop, range(ours.stop + 1, ours.stop + 1 + batch)
    with components.dynamodb() as url, wire(url) as served, ExitStack() as running:
        kms = components.client(served.url, "kms")
        components.create(url, lambdas.TABLE)
        components.fill(url, lambdas.TABLE, range(living + 1), due=living, now=now, kms=kms)
        components.fill_instead(url, lambdas.TABLE, theirs, now=now, kms=kms)
        due = iter(ours)
        begins = lambdas.running(functions["authorize"], lambdas.environment(functions["authorize"], served))
        authorize = running.enter_context(begins)

        def start(program: Program, event: Any = None, handler: str = "handler") -> Started:
            return lambdas.start(program, lambdas.environment(program, served, secure=True), event, handler)

        def asked(function: str) -> dict[str, Any]:
            """What the functions are asked first, ours; a new one each time, since most can be answered once."""
            match function:
                case "token":
                    return token_of(living)
                case "refresh":
                    return records([next(due)])
                case "callback":
                    return callback_of(authorize.answer([sample("authorize")]).answers[0])
            return sample(function)

        events = {"token": token_of(theirs[0]), "refresh": records(theirs[:1])}
        # The first starts read the files from the disk.
        for number in range(rounds + 1):
            for name, program in programs.items():
                started = start(program)
                if number > 0:
                    made.starts.setdefault(name, []).append(started)
            for function, handler in FIRST.items():
                answered = {OURS: start(functions[function], asked(function))}
                if function in events:
                    answered |= {name: start(one, events[function], handler) for name, one in instead.items()}
                if number > 0:
                    for name, started in answered.items():
                        made.first.setdefault(function, {}).setdefault(name, []).append(started)
            if 0 < number <= batches:
                many = records(list(itertools.islice(due, batch)))
                answered = {OURS: start(functions["refresh"], many)}
                answered |= {name: start(one, records(theirs), "refresh") for name, one in instead.items()}
                for name, started in answered.items():
                    made.batch.setdefault(name, []).append(started)
            asked_for = range(number + 1 + min(number, batches) * batch)
            made.refreshed = components.refreshed(url, lambdas.TABLE, asked_for), len(asked_for)
            yield made
