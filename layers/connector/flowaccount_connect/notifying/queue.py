"""The queue of what is to be delivered: its messages, and when a failed one comes back.

Each message is for one receiver, so none waits for another. SQS counts the tries. After the last it puts the message
into the dead letters, from which it can be driven back; it is a new message then, and is tried from the beginning.
"""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

DELAYS = (5, 60, 300, 1_800, 3_600, 7_200, 14_400, 28_800, 30_300)
"""Seconds after the first failed try, after the second, and so on. A day in all, and what is added at random."""

TRIES = len(DELAYS) + 1
"""As often a message is tried (the queue's `maxReceiveCount`)."""

LONGEST_DELAY = 900
"""The most seconds that SQS holds a new message back."""


class Malformed(Exception):
    """A message that is none of the queue's."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it was received."""

    id: str
    receipt: str
    tries: int
    """How often it has been received, this time included."""
    body: dict[str, Any]


def read(record: Any) -> Message:
    """The message in a record of Lambda's. Raises `Malformed`."""
    try:
        body = json.loads(record["body"])
        if not isinstance(body, dict):
            raise Malformed
        return Message(
            record["messageId"], record["receiptHandle"], int(record["attributes"]["ApproximateReceiveCount"]), body
        )
    except (KeyError, TypeError, ValueError, RecursionError):
        raise Malformed from None


def delay(tries: int, *, asked: int | None = None, jitter: Callable[[], float] = random.random) -> int:
    """Seconds until the next try after `tries` failed ones; `asked` is the least that the receiver wants.

    Up to a tenth is added at random, so that what failed together does not come back together. After the last try it is
    0: SQS takes the message at once for its dead letters.
    """
    if tries >= TRIES:
        return 0
    planned = DELAYS[max(tries, 1) - 1]
    return max(int(planned * (1 + 0.1 * jitter())), 1, asked or 0)


class NotSent(Exception):
    """The queue did not take all messages."""


class Queue:
    """The queue `url` and its dead letters `dead_letters`. `sqs` is a client of SQS."""

    def __init__(self, sqs: Any, url: str, dead_letters: str) -> None:
        self._sqs = sqs
        self._url = url
        self._dead_letters = dead_letters

    def send(self, bodies: Sequence[dict[str, Any]], *, after: int = 0) -> None:
        """Send messages, each to be received `after` so many seconds at the earliest. Raises `NotSent`."""
        for at in range(0, len(bodies), 10):
            entries = [
                {"Id": str(i), "MessageBody": json.dumps(body), "DelaySeconds": min(max(after, 0), LONGEST_DELAY)}
                for i, body in enumerate(bodies[at : at + 10])
            ]
            answer = self._sqs.send_message_batch(QueueUrl=self._url, Entries=entries)
            if len(answer.get("Successful", [])) < len(entries):
                raise NotSent

    def give_up(self, message: Message) -> None:
        """Put a message into the dead letters at once. The one in the queue is still to be deleted."""
        self._sqs.send_message(QueueUrl=self._dead_letters, MessageBody=json.dumps(message.body))

    def come_back(self, message: Message, after: int) -> None:
        """Hide a message for `after` seconds."""
        self._sqs.change_message_visibility(
            QueueUrl=self._url, ReceiptHandle=message.receipt, VisibilityTimeout=min(max(after, 0), 43_000)
        )
