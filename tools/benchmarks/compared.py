"""The tables of what was timed, with the target beside each figure that has one."""

import statistics
from collections.abc import Mapping

from tools.benchmarks import timed
from tools.benchmarks.programs import FLOOR, FUNCTIONS
from tools.benchmarks.report import Comparison, Section
from tools.benchmarks.stack import BATCH
from tools.benchmarks.timed import OURS, Figures

READY_TARGETS = dict.fromkeys(FUNCTIONS, 1.0) | {"callback": 1.2, "refresh": 1.2}
MEMORY_TARGETS = dict.fromkeys(FUNCTIONS, 1.1)
CPU = "CPU ms"


def sections(figures: Figures) -> list[Section]:
    """A table for each figure that was taken, or could not be; none for what nobody asked for."""

    def of(values: Mapping[timed.Name, list[float]], figure: str) -> dict[str, list[float]]:
        return {name: taken for (one, name), taken in values.items() if one == figure}

    def missed(*names: str) -> dict[str, str]:
        return {name: why for (one, name), why in figures.missed.items() if one in names}

    ready, memory = of(figures.cpu, timed.READY), of(figures.memory, timed.READY)
    token, first_token = of(figures.cpu, timed.TOKEN), of(figures.cpu, timed.FIRST_TOKEN)
    batch, alone = of(figures.cpu, timed.IN_BATCH), of(figures.cpu, timed.ALONE)
    singly = _a_second(of(figures.wall, timed.ONE_BY_ONE))
    floor, least = ("floor", ready.get(FLOOR, [])), ("floor", memory.get(FLOOR, []))
    made = [
        Comparison("Cold start until ready", CPU, ready, *floor, READY_TARGETS, missed(timed.READY)),
        Comparison(
            "Cold start and a first token, by TLS",
            CPU,
            first_token,
            "floor with its first get_item",
            first_token.get(FLOOR, []),
            {OURS: 1.0},
            missed(timed.FIRST_TOKEN),
        ),
        Comparison(
            f"Cold start and a first batch of {BATCH}, by TLS",
            CPU,
            of(figures.cpu, timed.FIRST_BATCH),
            *floor,
            {OURS: 2.5},
            missed(timed.FIRST_BATCH),
        ),
        Comparison("Peak memory when ready", "MiB", memory, *least, MEMORY_TARGETS),
        Comparison(
            f"Peak memory after a first batch of {BATCH}",
            "MiB",
            of(figures.memory, timed.FIRST_BATCH),
            *least,
            {OURS: 1.3},
        ),
        Comparison(
            "A token, warm", CPU, token, "boto3's get_item", token.get(FLOOR, []), {OURS: 1.05}, missed(timed.TOKEN)
        ),
        Comparison(
            f"A refresh in a batch of {BATCH}", CPU, batch, *_cheapest(batch), {OURS: 0.9}, missed(timed.IN_BATCH)
        ),
        Comparison(
            "A refresh alone, with its handshake", CPU, alone, *_cheapest(alone), {OURS: 1.4}, missed(timed.ALONE)
        ),
        Comparison(
            f"One worker where FlowAccount takes {timed.LATENCY * 1_000:.0f} ms",
            "refreshes a second",
            _a_second(of(figures.wall, timed.MANY)) | {f"{name}, one by one": one for name, one in singly.items()},
            "ours, one by one",
            singly.get(OURS, []),
            {OURS: 15},
            missed(timed.MANY, timed.ONE_BY_ONE),
            at_least=True,
        ),
    ]
    return [one.section() for one in made if one.values or one.missed]


def _cheapest(values: Mapping[str, list[float]]) -> tuple[str, list[float]]:
    """The figure of the cheapest program that is not ours, with what it is called."""
    theirs = [taken for name, taken in values.items() if name != OURS]
    return "the cheapest other", min(theirs, key=statistics.median, default=[])


def _a_second(milliseconds: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {name: [1_000 / one for one in taken] for name, taken in milliseconds.items()}
