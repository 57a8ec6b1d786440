"""One refresh worker, an endpoint that takes 300 ms: a batch against one by one, and against what one would write.

The worker is `functions/refresh` as it is deployed, in a process of its own; DynamoDB Local has the deployed table, the
token endpoint and KMS answer over loopback HTTP.
"""

import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tools.benchmarks import components, lambdas
from tools.benchmarks.lambdas import Program
from tools.benchmarks.wire import wire

BATCH = 50
LATENCY = 0.3
GOAL = 15
BATCHES = 6

_ONE_BY_ONE = 30
_INSTEAD = 20


@dataclass(frozen=True, slots=True)
class Throughput:
    """Refreshes of one worker. Seconds a refresh."""

    batched: list[float]
    """Of each batch."""
    one_by_one: float
    instead: dict[str, float]
    """Of a batch of what one would write instead."""
    cpu: float
    """Of the worker's process, in a batch."""
    refreshed: int
    asked: int
    """How many were refreshed of how many; what a busy machine did not get done is left to the next tick."""

    @property
    def best(self) -> float:
        """Seconds a refresh in batches, all of them together."""
        return sum(self.batched) / len(self.batched)

    @property
    def faster(self) -> float:
        """How many times as many as one by one."""
        return self.one_by_one / self.best


def measure(
    functions: dict[str, Program], instead: dict[str, Program], *, batch: int = BATCH, batches: int = BATCHES
) -> Throughput:
    """Refresh batches, one by one, and by the programs of `instead`, in one run. Raises `LocalError`."""
    now, alone = int(time.time()), min(batch, _ONE_BY_ONE)
    first = range(batch)
    many = range(batch, batch * (batches + 1))
    one = range(many.stop, many.stop + alone)
    theirs = range(one.stop, one.stop + min(batch, _INSTEAD))
    with components.dynamodb() as url, wire(url, LATENCY) as served:
        kms = components.client(served.url, "kms")
        components.create(url, lambdas.TABLE)
        components.fill(url, lambdas.TABLE, range(one.stop), due=one.stop, now=now, kms=kms)
        components.fill_instead(url, lambdas.TABLE, theirs, now=now, kms=kms)
        refresh = functions["refresh"]
        variables = lambdas.environment(refresh, served, AWS_ENDPOINT_URL_DYNAMODB=url)
        with lambdas.running(refresh, variables) as function:
            # Warms up, gently, since an engine that has just started answers slowly.
            for some in (*itertools.batched(first[: batch // 2], 5, strict=False), first[batch // 2 :]):
                function.answer([records(some)], answers=False)
            answered = [function.answer([records(some)]) for some in itertools.batched(many, batch, strict=True)]
            singly = function.answer([records([number]) for number in one], answers=False)
        slower = {}
        for name, program in instead.items():
            variables = lambdas.environment(program, served, AWS_ENDPOINT_URL_DYNAMODB=url)
            with lambdas.running(program, variables, "refresh") as function:
                function.answer([records(theirs[:1])], answers=False)
                slower[name] = function.answer([records(theirs)], answers=False).wall / len(theirs)
        of_many, of_one = (components.refreshed(url, lambdas.TABLE, numbers) for numbers in (many, one))
    done = max(of_many, 1)
    return Throughput(
        batched=[answer.wall / (done / batches) for answer in answered],
        one_by_one=singly.wall / max(of_one, 1),
        instead=slower,
        cpu=sum(answer.cpu for answer in answered) / done,
        refreshed=of_many + of_one,
        asked=len(many) + len(one),
    )


def records(numbers: Sequence[int]) -> dict[str, Any]:
    """An event of the refresh queue."""
    bodies = [json.dumps({"connection_id": components.name_of(number)}) for number in numbers]
    return {
        "Records": [
            {"messageId": str(i), "body": body, "eventSource": "aws:sqs", "attributes": {"SentTimestamp": "0"}}
            for i, body in enumerate(bodies)
        ]
    }
