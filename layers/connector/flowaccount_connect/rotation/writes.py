"""Writes that must not be lost: repeated while the table does not acknowledge them, with a copy in the queue."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flowaccount_connect.domain.error_code import error_code
from flowaccount_connect.rotation.time_left import COMMIT_RESERVE, LAST_TRY, SHORTEST_EXCHANGE, TABLE_ALONE, TimeLeft
from flowaccount_connect.storage.dynamodb import StoreUnavailable


class QueueUnavailable(Exception):
    """The queue of pending commits did not take a message; the message is an error's code."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The queue has what the table did not take, for the reason `table` (an error's code)."""

    table: str


class Lost(Exception):
    """Neither the table nor the queue took it; `table` and `queue` are the codes of their last errors."""

    def __init__(self, table: str, queue: str) -> None:
        super().__init__("neither table nor queue")
        self.table = table
        self.queue = queue


def persist[Stored](write: Callable[[], Stored], time: TimeLeft) -> Stored | None:
    """`write` until the table acknowledges it, or `None` once only the time to queue it is left."""
    for pause in _pauses():
        try:
            return write()
        except StoreUnavailable:
            if not time.pause(pause, reserve=COMMIT_RESERVE):
                return None
    return None


def acknowledged[Stored](write: Callable[[], Stored], time: TimeLeft) -> Stored:
    """`write` until the table acknowledges it: what has to be claimed or used up before a POST.

    What was written and not acknowledged would have been for nothing. It may be repeated: it recognises what it wrote
    before. Raises its last `StoreUnavailable` once too little time is left for the POST.
    """
    pauses = _pauses()
    while True:
        try:
            return write()
        except StoreUnavailable:
            if not time.pause(next(pauses), reserve=COMMIT_RESERVE + SHORTEST_EXCHANGE):
                raise


def persist_or_queue[Stored](write: Callable[[], Stored], send: Callable[[], None], time: TimeLeft) -> Stored | Pending:
    """`write` until the table acknowledges it. After `TABLE_ALONE` seconds `send` it to the queue as well.

    Until one of them has it, it is in this process alone. With the queue's copy it is safe, but waits for a minute or
    two: so the table is tried on while there is time. Both may be repeated: each recognises what it wrote before.
    Raises `Lost` once there is no time for either.
    """
    table = queue = ""
    is_queued = False
    queue_from = time.seconds() - TABLE_ALONE
    for pause in _pauses():
        try:
            return write()
        except StoreUnavailable as error:
            table = str(error)
        except Exception as error:
            # Of whatever kind: what nobody has foreseen must not cost the tokens.
            table = error_code(error)
        left = time.seconds()
        if queue and not is_queued and left < LAST_TRY:
            break
        if not is_queued and (left < queue_from or left - pause < COMMIT_RESERVE):
            try:
                send()
                is_queued = True
            except QueueUnavailable as error:
                queue = str(error)
        if not time.pause(pause, reserve=COMMIT_RESERVE if is_queued else LAST_TRY):
            break
    if is_queued:
        return Pending(table)
    raise Lost(table, queue)


def _pauses() -> Iterator[float]:
    """The seconds between tries: 0.1, doubled up to 2, without end."""
    pause = 0.1
    while True:
        yield pause
        pause = min(pause * 2, 2.0)
