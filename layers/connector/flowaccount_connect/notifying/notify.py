"""What the function `notify` does with a batch of its queue: fan out, gather, deliver, and let what failed come back.

Four kinds of messages are in the queue:

- an event of the bus: becomes one message for each receiver of webhooks, and is noted where people have to act;
- an alarm of the stack's topic: is noted;
- `{"tell": kind}`: what has been gathered of a kind becomes one message for each way to people;
- `{"to": receiver, …}`: one delivery.

The messages of a batch are worked on side by side, so a slow receiver holds up nobody else of its batch. After three
timeouts in a row, what is for this receiver waits for its next try without being sent, for half a minute in this
process: a burst for a receiver that hangs does not use up the function's time. A message's last try is always sent.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from flowaccount_connect import SOURCE
from flowaccount_connect.domain.log import Log, fault
from flowaccount_connect.notifying import notices, queue, webhooks, words
from flowaccount_connect.notifying.notices import Notice, Notices, Waiting
from flowaccount_connect.notifying.people import People
from flowaccount_connect.notifying.queue import Malformed, Message, Queue
from flowaccount_connect.notifying.sending import Answer
from flowaccount_connect.notifying.webhooks import Webhooks
from flowaccount_connect.oauth.client_secret import SecretMisconfigured, SecretUnavailable
from flowaccount_connect.storage.dynamodb import StoreUnavailable

HANGS = 3
"""Timeouts in a row that mean: a receiver hangs. A busy one that misses the deadline now and then does not."""

SILENCE = 30
"""Seconds for which nothing is sent to a receiver that hangs."""

_GONE = 410
"""The receiver wants no webhooks any more. Its messages are dead letters at once."""


@dataclass(slots=True, kw_only=True)
class Notify:
    """Works on batches of the queue. Safe for several threads. `clock` is in epoch seconds."""

    queue: Queue
    webhooks: Webhooks
    people: People
    notices: Notices
    stack: str
    language: words.Language
    log: Log
    clock: Callable[[], float] = time.time
    silent_until: dict[str, float] = field(default_factory=dict)
    """By receiver that hangs: until when nothing is sent to it, in epoch seconds."""
    timeouts: dict[str, int] = field(default_factory=dict)
    """By receiver: how many deliveries in a row had no answer in time."""

    def receive(self, records: Sequence[Any]) -> list[str]:
        """Work on a batch; the ids of the messages that must come back. Raises nothing."""
        messages: list[Message] = []
        for record in records:
            try:
                messages.append(queue.read(record))
            except Malformed:
                # The topic may be another's, with other messages on it.
                self.log.warning("not a message of the queue", extra={"message_id": record.get("messageId")})
        with ThreadPoolExecutor(max(len(messages), 1)) as pool:
            done = pool.map(self._work, messages)
            return [message.id for message, is_done in zip(messages, done, strict=True) if not is_done]

    def test(self) -> list[dict[str, object]]:
        """Send the event `webhook.test` to each receiver of webhooks; what became of each."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.clock()))
        said = {
            "type": "webhook.test",
            "timestamp": at,
            "data": {"version": 1, "id": f"test-{uuid.uuid4().hex}", "at": at},
        }
        answers = []
        for to in self.webhooks.urls:
            try:
                answer = self.webhooks.deliver(to, said) or Answer(None, "unexpected")
            except (SecretMisconfigured, SecretUnavailable) as error:
                self.log.error("no secret", extra={"error": str(error)})
                answer = Answer(None, "no_secret")
            answers.append({"receiver": to, "taken": answer.is_taken, "status": answer.status, "error": answer.error})
        return answers

    def _work(self, message: Message) -> bool:
        """Whether a message is done. Otherwise it comes back: when its turn is, or when its visibility times out."""
        try:
            if isinstance(message.body.get("to"), str):
                after = self._deliver(message)
            elif isinstance(message.body.get("tell"), str):
                after = self._tell(message.body["tell"])
            else:
                self._spread(message)
                return True
        except (SecretMisconfigured, SecretUnavailable) as error:
            self.log.error("no secret", extra={"message_id": message.id, "error": str(error)})
            after = queue.delay(message.tries)
        except Exception as error:
            self.log.error("unexpected", extra={"message_id": message.id, **fault(error)})
            after = queue.delay(message.tries)
        if after is None:
            return True
        try:
            self.queue.come_back(message, after)
        except Exception as error:
            self.log.error("not put back", extra={"message_id": message.id, **fault(error)})
        return False

    def _spread(self, message: Message) -> None:
        """Queue the deliveries of an event or an alarm, and note it for people."""
        body = message.body
        notice = notices.of_alarm(body, self.stack) if "AlarmName" in body else None
        if body.get("source") == SOURCE:
            said = webhooks.payload(body)
            self.queue.send([{"to": to, "event": said} for to in self.webhooks.receivers(said["type"])])
            notice = notices.of_event(body)
        if notice is not None and self.people.names:
            self._note(notice, again=message.tries > 1)

    def _note(self, notice: Notice, *, again: bool) -> None:
        try:
            is_first, at = self.notices.note(notice.kind, [notice.subject])
        except StoreUnavailable:
            if not notice.kind.startswith(notices.ALARM):
                raise
            # The alarm may be about the very table in which it would be gathered. If it was gathered, and only the
            # table's answer was lost, a message must follow: later ones send none.
            self._say(notice.kind, Waiting([notice.subject], 0, 0))
            self.queue.send([{"tell": notice.kind}], after=notices.GATHER)
            return
        # The first notice queues the one message that tells all. One that is tried again does too: it may have been
        # the first.
        if is_first or again:
            self.queue.send([{"tell": notice.kind}], after=at - int(self.clock()))

    def _tell(self, kind: str) -> int | None:
        """Tell what waits of a kind, if it is time; the seconds after which to come back, or `None` for never."""
        if not self.people.names:
            # The last way to them was removed meanwhile, and with it the right to read what waits.
            return None
        waiting = self.notices.get(kind)
        if not waiting.count:
            return None
        quiet = waiting.quiet_until - int(self.clock())
        if quiet > 0:
            return quiet
        if not self.notices.claim(kind, waiting):
            return notices.GATHER
        self._say(kind, waiting)
        if self.notices.mark_sent(kind, waiting).count:
            # What came meanwhile had no message of its own.
            self.queue.send([{"tell": kind}], after=notices.QUIET)
        return None

    def _say(self, kind: str, waiting: Waiting) -> None:
        said = {
            "subject": words.subject(kind, waiting, stack=self.stack),
            "text": words.text(kind, waiting, stack=self.stack, language=self.language),
        }
        self.queue.send([{"to": to, **said, "key": str(uuid.uuid4())} for to in self.people.names])

    def _deliver(self, message: Message) -> int | None:
        """Try a delivery; the seconds until the next try, or `None` if there is none."""
        to, body = message.body["to"], message.body
        if self.silent_until.get(to, 0.0) > self.clock() and message.tries < queue.TRIES:
            return queue.delay(message.tries)
        if "event" in body:
            answer = self.webhooks.deliver(to, body["event"])
        else:
            answer = self.people.deliver(to, str(body.get("subject", "")), str(body["text"]), str(body["key"]))
        if answer is None:
            self.log.warning("no such receiver any more", extra={"receiver": to})
            return None
        self.timeouts[to] = self.timeouts.get(to, 0) + 1 if answer.error == "timeout" else 0
        self.silent_until[to] = self.clock() + SILENCE if self.timeouts[to] >= HANGS else 0.0
        if answer.is_taken:
            return None
        facts = {"receiver": to, "status": answer.status, "error": answer.error, "tries": message.tries}
        self.log.error("not delivered", extra=facts | {"event_id": body.get("event", {}).get("data", {}).get("id")})
        if answer.status == _GONE:
            self.queue.give_up(message)
            return None
        return queue.delay(message.tries, asked=answer.retry_after)
