"""The real sweep over a small and a large table, with the same number due, side by side.

The table is DynamoDB Local's, the index is the deployed one; the queue takes everything.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from rich.console import Console
from rich.progress import Progress

from flowaccount_connect.scheduling.rate import Rate, Rule
from flowaccount_connect.scheduling.sweep import DueIndex, RefreshQueue, Sweep
from flowaccount_connect.storage.connections import ConnectionStore
from flowaccount_connect.storage.history import Counts
from flowaccount_connect.storage.shared_item import SharedItem
from tools.benchmarks import components

SMALL, LARGE, DUE = 10_000, 200_000, 100
GOAL = 1.2
ROUNDS = 40


@dataclass(slots=True)
class Cost:
    """What ticks over one table cost, each."""

    connections: int
    due: int
    requests: float = 0.0
    read_units: float = 0.0
    milliseconds: list[float] = field(default_factory=list)


class Counted:
    """A DynamoDB client that counts what is asked of it and what that consumes."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self.requests = 0
        self.read_units = 0.0

    def query(self, **kwargs: Any) -> Any:
        """Query."""
        return self._counted(self._table.query, kwargs)

    def get_item(self, **kwargs: Any) -> Any:
        """GetItem."""
        return self._counted(self._table.get_item, kwargs)

    def _counted(self, operation: Any, kwargs: dict[str, Any]) -> Any:
        self.requests += 1
        answer = operation(**kwargs, ReturnConsumedCapacity="TOTAL")
        self.read_units += answer["ConsumedCapacity"]["CapacityUnits"]
        return answer


class Sink:
    """An SQS that takes everything and holds nothing."""

    def get_queue_attributes(self, **_: Any) -> Any:
        """Nothing waits."""
        return {"Attributes": {}}

    def send_message_batch(self, **_: Any) -> Any:
        """Taken."""
        return {"Successful": []}


def measure(url: str, sizes: Sequence[int], due: int, rounds: int, console: Console) -> list[Cost]:
    """Fill a table of each size and run ticks over them in turn."""
    table, now = components.client(url), int(time.time())
    for size in sizes:
        components.create(url, f"connections-{size}")
        with Progress(*Progress.get_default_columns(), console=console, transient=True) as progress:
            task = progress.add_task(f"filling {size:,}", total=size)
            for written in components.fill_alike(url, f"connections-{size}", size, due=due, now=now):
                progress.update(task, completed=written)
    costs = [Cost(size, due) for size in sizes]
    for number in range(rounds + 2):
        for cost in costs:
            counted = Counted(table)
            sweep = Sweep(
                index=DueIndex(cast("Any", counted), f"connections-{cost.connections}"),
                queue=RefreshQueue(Sink(), ""),
                rate=Rate(SharedItem(cast("Any", counted), f"connections-{cost.connections}", "RATE"), Rule(2 * due)),
                marks=ConnectionStore(table, f"connections-{cost.connections}"),
                counts=Counts(cast("Any", counted), f"connections-{cost.connections}"),
                clock=lambda: float(now),
            )
            began = time.perf_counter()
            tick = sweep.tick(remaining=lambda: 50.0)
            took = time.perf_counter() - began
            if (tick.due, tick.dispatched, tick.complete) != (due, due, True):
                raise AssertionError(f"not all that is due was found: {tick}")
            if number >= 2:  # The first ones warm the engine up.
                cost.milliseconds.append(took * 1_000)
                cost.requests += counted.requests / rounds
                cost.read_units += counted.read_units / rounds
    return costs


def figures(costs: Sequence[Cost]) -> list[tuple[str, list[float]]]:
    """What is compared: the title of each figure, and its value in each table."""
    return [
        ("requests of a tick", [cost.requests for cost in costs]),
        ("read units of a tick", [cost.read_units for cost in costs]),
        ("read units per due connection", [cost.read_units / cost.due for cost in costs]),
        ("milliseconds per due connection", [statistics.median(cost.milliseconds) / cost.due for cost in costs]),
    ]
