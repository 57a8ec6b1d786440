"""The tick of the schedule: what is due is found through the index, soonest deadline first, and dispatched.

At most one tick's allowance goes into the queue, and what still waits there counts against it, so that a backlog
drains at the allowed rate and never as a storm. Duplicates and overlapping ticks are harmless: a claim of what is no
longer due is refused.
"""

import heapq
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from flowaccount_connect.dynamodb import Client, call, n, number, s, text
from flowaccount_connect.schedule import DUE_SHARDS

TICK = 60
"""Seconds between two ticks."""

_RESERVE = 10.0
_BATCH = 10


@dataclass(frozen=True, slots=True, order=True)
class Due:
    """A connection that is due, ordered by its deadline. Times in epoch seconds."""

    deadline: int
    refresh_at: int
    connection_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What one tick found and did. `oldest_due` is the age in seconds of what has been due longest;
    `soonest_deadline` the least time to a deadline, in seconds; `None` where nothing is due."""

    due: int
    waiting: int
    dispatched: int
    failed: int
    oldest_due: int | None
    soonest_deadline: int | None
    complete: bool
    """Whether the whole index was seen before time ran short."""


class DueIndex:
    """The sharded, sparse index of what is to be refreshed. `client` is a DynamoDB client."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    def shard(self, shard: int, *, now: int, more: Callable[[], bool]) -> Iterator[Due]:
        """What is due in one shard, page by page while `more()`. Raises `StoreUnavailable`."""
        start: dict[str, Any] = {}
        while more():
            page = call(
                self._client.query,
                TableName=self._table,
                IndexName="due",
                KeyConditionExpression="due_shard = :shard AND refresh_at <= :now",
                ExpressionAttributeValues={":shard": s(str(shard)), ":now": n(now)},
                **start,
            )
            for item in page["Items"]:
                yield Due(
                    deadline=number(item, "deadline") or 0,
                    refresh_at=number(item, "refresh_at") or 0,
                    connection_id=(text(item, "pk") or "").removeprefix("CONNECTION#"),
                )
            if not page.get("LastEvaluatedKey"):
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


class Sqs(Protocol):
    """What is used of an SQS client."""

    def get_queue_attributes(self, **kwargs: Any) -> Any: ...
    def send_message_batch(self, **kwargs: Any) -> Any: ...


class RefreshQueue:
    """The queue between `sweep` and `refresh`. Its messages name connections and carry nothing secret."""

    def __init__(self, sqs: Sqs, url: str) -> None:
        self._sqs = sqs
        self._url = url

    def waiting(self) -> int:
        """About how many messages wait, are delayed, or are being worked on."""
        names = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ]
        answer = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=names)
        return sum(int(answer["Attributes"].get(name, 0)) for name in names)

    def send(self, due: list[tuple[Due, int]]) -> int:
        """Send connections, each with its delay in seconds; how many the queue did not take."""
        entries = [
            {
                "Id": str(i),
                "DelaySeconds": delay,
                "MessageBody": json.dumps({"connection_id": d.connection_id}),
            }
            for i, (d, delay) in enumerate(due)
        ]
        answer = self._sqs.send_message_batch(QueueUrl=self._url, Entries=entries)
        return len(answer.get("Failed", []))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Finds and dispatches what is due."""

    index: DueIndex
    queue: RefreshQueue
    refreshes_per_minute: int
    clock: Callable[[], float] = time.time

    def tick(self, *, remaining: Callable[[], float]) -> Tick:
        """One tick, within the invocation's time. Raises `StoreUnavailable` if the index cannot be read."""
        now = int(self.clock())

        def more() -> bool:
            return remaining() > _RESERVE

        with ThreadPoolExecutor(DUE_SHARDS) as pool:
            shards = pool.map(lambda i: list(self.index.shard(i, now=now, more=more)), range(DUE_SHARDS))
            waiting = self.queue.waiting()
            due = [d for shard in shards for d in shard]
        complete = more()
        allowance = max(self.refreshes_per_minute * TICK // 60 - waiting, 0)
        # What can still be saved goes first: past its deadline a token is tried only in case it lives on.
        chosen = heapq.nsmallest(allowance, due, key=lambda d: (d.deadline <= now, d))
        spaced = [(d, i * TICK // max(len(chosen), 1)) for i, d in enumerate(chosen)]
        failed = 0
        for at in range(0, len(spaced), _BATCH):
            failed += self.queue.send(spaced[at : at + _BATCH])
        return Tick(
            due=len(due),
            waiting=waiting,
            dispatched=len(chosen) - failed,
            failed=failed,
            oldest_due=max((now - d.refresh_at for d in due), default=None),
            soonest_deadline=min((d.deadline - now for d in due), default=None),
            complete=complete,
        )
