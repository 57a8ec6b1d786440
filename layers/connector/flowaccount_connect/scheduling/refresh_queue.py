"""The queue between `sweep` and `refresh`."""

import json
from dataclasses import dataclass
from typing import Any

from flowaccount_connect.domain.error_code import error_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One dispatch: a connection, in how many seconds, and whether it dies unless it is refreshed now."""

    connection_id: str
    refresh_at: int
    delay: int
    urgent: bool = False
    is_import: bool = False


class QueueUnavailable(Exception):
    """The queue did not answer: what was sent may be in it or not. The message is the error's code alone."""


class RefreshQueue:
    """The queue between `sweep` and `refresh`. Its messages name connections and carry nothing secret.

    Both methods raise `QueueUnavailable`.
    """

    def __init__(self, sqs: Any, url: str) -> None:
        self._sqs = sqs
        self._url = url

    def waiting(self) -> int:
        """About how many messages wait, are delayed, or are being worked on."""
        names = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ]
        try:
            counts = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=names)["Attributes"]
            return sum(int(counts.get(name, 0)) for name in names)
        except Exception as error:
            raise QueueUnavailable(error_code(error)) from None

    def send(self, messages: list[Message]) -> int:
        """Send at most ten messages; how many the queue did not take."""
        entries = [
            {
                "Id": str(i),
                "DelaySeconds": message.delay,
                "MessageBody": json.dumps(
                    {"connection_id": message.connection_id}
                    | ({"urgent": True} if message.urgent else {})
                    | ({"import": True} if message.is_import else {})
                ),
            }
            for i, message in enumerate(messages)
        ]
        try:
            answer = self._sqs.send_message_batch(QueueUrl=self._url, Entries=entries)
        except Exception as error:
            raise QueueUnavailable(error_code(error)) from None
        return len(entries) - len(answer.get("Successful", []))
