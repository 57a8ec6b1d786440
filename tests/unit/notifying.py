"""Stand-ins for what `notify` calls: a queue with time, secrets with versions, receivers that answer as told."""

import base64
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from flowaccount_connect.notifying import notices, queue, words
from flowaccount_connect.notifying.notify import Notify
from flowaccount_connect.notifying.people import People
from flowaccount_connect.notifying.queue import Queue
from flowaccount_connect.notifying.sending import Answer
from flowaccount_connect.notifying.signing import SigningKeys
from flowaccount_connect.notifying.webhooks import Webhooks, receiver
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from tests.unit.fakes import NOW, Clock
from tests.unit.tables import client_error

URL = "https://app.example/flowaccount"
OTHER_URL = "https://erp.example/hook?key=CANARY-IN-URL"
SECRET = base64.b64encode(b"current-secret-of-33-bytes-......").decode()
DEAD = "https://sqs.example/1/undelivered"


def event(type_: str = "connection.connected", connection: str = "N1", **more: object) -> dict[str, Any]:
    """An event as EventBridge puts it into the queue."""
    detail = {"version": 1, "id": f"{connection}-1", "at": "2026-11-22T14:03:11Z", "connection_id": connection}
    detail |= {"tenant": "shop-7", **more}
    return {"source": "flowaccount-connect", "detail-type": type_, "detail": detail, "account": "000000000000"}


def alarm(
    name: str, state: str = "ALARM", at: str = "2026-11-22T14:03:11Z", *, before: str | None = None
) -> dict[str, Any]:
    """An alarm as CloudWatch writes it to the topic; `before` is the state that it had."""
    states = {"OldStateValue": before or ("OK" if state == "ALARM" else "ALARM"), "NewStateValue": state}
    return {"AlarmName": name, **states, "StateChangeTime": at, "AlarmDescription": "words"}


@dataclass
class FakeSecrets:
    """Secrets by name, each with its versions, the newest first, and when that was made."""

    values: dict[str, list[str]] = field(default_factory=dict)
    made: float = 0.0
    error: Exception | None = None
    asked: int = 0

    def get_secret_value(self, **given: Any) -> Any:
        """GetSecretValue."""
        self.asked += 1
        if self.error is not None:
            raise self.error
        versions = self.values.get(given["SecretId"], [])
        at = {"AWSCURRENT": 0, "AWSPREVIOUS": 1}[given["VersionStage"]]
        if at >= len(versions):
            raise client_error("ResourceNotFoundException")
        return {"SecretString": versions[at], "CreatedDate": datetime.fromtimestamp(self.made, UTC)}


@dataclass
class FakeQueue:
    """An SQS queue that keeps time by `clock`, counts receives, and moves to the dead letters as SQS does."""

    clock: Clock
    messages: list[dict[str, Any]] = field(default_factory=list)
    dead: list[dict[str, Any]] = field(default_factory=list)
    number: int = 0
    fail: bool = False
    """Whether it takes no more messages."""

    def put(self, body: object, after: float = 0) -> None:
        """Put a message in."""
        self.number += 1
        text = body if isinstance(body, str) else json.dumps(body)
        self.messages.append({"id": str(self.number), "body": text, "at": self.clock.now + after, "tries": 0})

    def send_message_batch(self, **given: Any) -> Any:
        """SendMessageBatch."""
        if self.fail:
            raise client_error("ServiceUnavailable")
        assert 1 <= len(given["Entries"]) <= 10
        for entry in given["Entries"]:
            assert 0 <= entry["DelaySeconds"] <= 900
            self.put(entry["MessageBody"], entry["DelaySeconds"])
        return {"Successful": [{"Id": entry["Id"]} for entry in given["Entries"]]}

    def send_message(self, **given: Any) -> Any:
        """SendMessage, which is for the dead letters."""
        assert given["QueueUrl"] == DEAD
        self.dead.append(json.loads(given["MessageBody"]))

    def change_message_visibility(self, **given: Any) -> Any:
        """ChangeMessageVisibility."""
        assert 0 <= given["VisibilityTimeout"] <= 43_200
        (message,) = [one for one in self.messages if one["id"] == given["ReceiptHandle"]]
        message["at"] = self.clock.now + given["VisibilityTimeout"]

    def receive(self, most: int = 10) -> list[dict[str, Any]]:
        """Records of up to `most` visible messages, as Lambda hands them over."""
        records: list[dict[str, Any]] = []
        for message in [one for one in self.messages if one["at"] <= self.clock.now]:
            if message["tries"] >= queue.TRIES:
                self.messages.remove(message)
                self.dead.append(json.loads(message["body"]))
            elif len(records) < most:
                message["tries"] += 1
                message["at"] = self.clock.now + 240
                count = {"ApproximateReceiveCount": str(message["tries"])}
                records.append(
                    {
                        "messageId": message["id"],
                        "receiptHandle": message["id"],
                        "body": message["body"],
                        "attributes": count,
                    }
                )
        return records


@dataclass
class FakeNotices(notices.Notices):
    """What waits, in memory, with the promises of `Notices`."""

    now: Clock
    fail: bool = False
    """Whether the table takes nothing."""
    unacknowledged: bool = False
    """Whether the table takes the next note and does not say so."""
    kinds: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)

    def _of(self, kind: str) -> dict[str, Any]:
        return self.kinds.setdefault(kind, {"waiting": set(), "more": 0, "quiet": 0})

    def note(self, kind: str, subjects: Any) -> tuple[bool, int]:
        if self.fail:
            raise StoreUnavailable("ResourceNotFoundException")
        with self.lock:
            of = self._of(kind)
            was_first = of["waiting"] in (set(), set(subjects)) and not of["more"]
            if len(of["waiting"]) < notices.SAMPLE:
                of["waiting"] |= set(subjects)
            else:
                of["more"] += len(subjects)
            if self.unacknowledged:
                self.unacknowledged = False
                raise StoreUnavailable("ReadTimeoutError")
            return was_first, max(int(self.now()) + notices.GATHER, of["quiet"])

    def get(self, kind: str) -> notices.Waiting:
        of = self._of(kind)
        return notices.Waiting(sorted(of["waiting"]), of["more"], of["quiet"])

    def claim(self, kind: str, seen: notices.Waiting) -> bool:
        with self.lock:
            of = self._of(kind)
            if of["quiet"] != seen.quiet_until:
                return False
            of["quiet"] = int(self.now()) + 60
            return True

    def mark_sent(self, kind: str, sent: notices.Waiting) -> notices.Waiting:
        with self.lock:
            of = self._of(kind)
            of["waiting"] -= set(sent.subjects)
            of["more"] -= sent.more
            of["quiet"] = int(self.now()) + notices.QUIET
        return self.get(kind)


@dataclass
class Receivers:
    """What receivers were sent, and what they answer: in turn by URL, the last answer for all that follow."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """`Sender.post`."""
        with self.lock:
            self.asked.append((url, dict(headers), body))
            waiting = self.answers.get(url, [Answer(200)])
            return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def of(self, url: str) -> list[dict[str, Any]]:
        """The bodies that one receiver was sent."""
        return [json.loads(body) for to, _, body in self.asked if to == url]


@dataclass
class Mailbox:
    """An SNS topic, and the mails that its subscriber got."""

    mails: list[tuple[str, str]] = field(default_factory=list)
    """Subject and text."""
    error: Exception | None = None

    def publish(self, **given: Any) -> Any:
        """Publish, as strict about a subject as SNS is documented to be."""
        if self.error is not None:
            raise self.error
        subject = given["Subject"]
        assert subject.isascii()
        assert subject.isprintable()
        assert 0 < len(subject) < 100
        assert given["TopicArn"] == MAIL_TOPIC
        self.mails.append((subject, given["Message"]))
        return {"MessageId": "1"}


@dataclass
class Log:
    """What was logged."""

    lines: list[tuple[str, Mapping[str, object]]] = field(default_factory=list)

    def warning(self, msg: object, *, extra: Mapping[str, object]) -> None:
        """A warning."""
        self.lines.append((str(msg), extra))

    info = error = warning


MAIL_TOPIC = "arn:aws:sns:ap-southeast-1:000000000000:connect-mail"
SLACK_URL = "https://hooks.slack.com/services/T0/B0/CANARY-SLACK"
LINE_SECRET = {"channel_access_token": "CANARY-LINE-TOKEN", "to": "C" + "a" * 32}


class World:
    """A `notify` with its queue, its receivers and its clock."""

    def __init__(
        self,
        urls: tuple[str, ...] = (URL,),
        *,
        people: bool = False,
        mail: bool = False,
        events: frozenset[str] = frozenset(),
        language: words.Language = "en",
    ) -> None:
        self.mailbox = Mailbox()
        self.clock = Clock()
        self.queue = FakeQueue(self.clock)
        self.receivers = Receivers()
        self.secrets = FakeSecrets(
            {"webhook": [SECRET], "slack": [SLACK_URL], "line": [json.dumps(LINE_SECRET)]}, made=NOW
        )
        self.log = Log()
        self.notices = FakeNotices(self.clock)
        self.notify = Notify(
            queue=Queue(self.queue, "https://sqs.example/1/notify", DEAD),
            webhooks=Webhooks(
                {receiver(url): url for url in urls},
                events,
                SigningKeys(self.secrets, "webhook", self.log, clock=self.clock).get,
                self.receivers.post,
                self.clock,
            ),
            people=People(
                secrets=self.secrets,
                slack="slack" if people else None,
                line="line" if people else None,
                mail=MAIL_TOPIC if people or mail else None,
                sns=self.mailbox,
                post=self.receivers.post,
            ),
            notices=self.notices,
            stack="connect",
            language=language,
            log=self.log,
            clock=self.clock,
        )

    def turn(self) -> int:
        """Work on what is visible now, batch after batch; how many messages that were."""
        seen = 0
        while records := self.queue.receive():
            seen += len(records)
            failed = set(self.notify.receive(records))
            done = {one["messageId"] for one in records} - failed
            self.queue.messages = [one for one in self.queue.messages if one["id"] not in done]
        return seen

    def run(self, seconds: float) -> None:
        """Let so much time pass, working on what becomes visible in it."""
        end = self.clock.now + seconds
        while True:
            self.turn()
            later = [one["at"] for one in self.queue.messages if one["at"] > self.clock.now]
            if not later or min(later) > end:
                break
            self.clock.now = min(later)
        self.clock.now = end
