"""What a cold start takes: fresh processes of every function, in turn with the floor and what one would write instead.

A process imports its module, which makes its clients, and ends; or it answers one first call, too. What is compared is
CPU, of the user and the system together, which on a Lambda function is the time it takes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks import components, lambdas
from benchmarks.lambdas import FUNCTIONS, Program, Started
from benchmarks.operations import living_token
from benchmarks.wire import wire

ROUNDS = 15

FLOOR = "floor"
SHIPPED = ", as sam build ships it"
FIRST_TOKEN = "to its first token: "  # noqa: S105 - a title
GOALS = {"authorize": 1.1, "sweep": 1.1, "callback": 1.2, "refresh": 1.2, "token": 0.6}
"""CPU of the floor's."""
MEMORY_GOAL = 1.2


@dataclass(slots=True)
class Cold:
    """The starts of each program, one for each round."""

    starts: dict[str, list[Started]] = field(default_factory=dict)


def measure(
    functions: Mapping[str, Program],
    floor: Program,
    instead: Mapping[str, Program],
    shipped: Mapping[str, Program],
    *,
    rounds: int = ROUNDS,
) -> Iterator[Cold]:
    """Start each in turn, `rounds` times; yields what there is after each round. Raises `LocalError`."""
    made = Cold()
    programs = {FLOOR: floor} | {name: functions[name] for name in FUNCTIONS} | dict(instead)
    programs |= {name + SHIPPED: program for name, program in shipped.items()}
    answering: dict[str, tuple[Program, Any, str]] = {}
    with components.dynamodb() as url, wire(url) as served:
        event, their_event = living_token(url, served)
        answering["ours"] = (functions["token"], event, "handler")
        answering |= {name: (program, their_event, "token") for name, program in instead.items()}
        # The first starts read the files from the disk.
        for number in range(rounds + 1):
            for name, program in programs.items():
                started = lambdas.start(program, lambdas.environment(program, served))
                if number > 0:
                    made.starts.setdefault(name, []).append(started)
            for name, (program, asked, handler) in answering.items():
                started = lambdas.start(program, lambdas.environment(program, served), asked, handler)
                if number > 0:
                    made.starts.setdefault(FIRST_TOKEN + name, []).append(started)
            yield made
