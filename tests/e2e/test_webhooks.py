"""Webhooks on the deployed stack: signed, to each receiver by itself, whatever the others do."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from flowaccount_connect.notifying.webhooks import receiver
from flowaccount_connect_client import InvalidSignature, webhooks
from flowaccount_connect_client.cli.main import main
from tests.e2e.addresses import RECEIVERS
from tests.e2e.conftest import Simulator, until
from tests.e2e.tampering import restart
from tests.support import typescript
from tests.unit.test_events import valid
from tools.local import service
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor

GOOD, BAD, OTHER = RECEIVERS
BUSINESS = "N1000003"


@dataclass
class Receiver:
    """A receiver of webhooks on this machine; `answer` says how it treats one."""

    url: str
    answer: Callable[[BaseHTTPRequestHandler], None]
    came: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def of(self, connection: str) -> list[dict[str, Any]]:
        """The webhooks about a connection."""
        said = [json.loads(body) for _, body in list(self.came)]
        return [one for one in said if one["data"].get("connection_id") == connection]


def status(code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """An ordinary answer."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def endless(handler: BaseHTTPRequestHandler) -> None:
    """A body without an end."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100_000):
        handler.wfile.write(b"x" * 65_536)


def silence(handler: BaseHTTPRequestHandler) -> None:
    """Nothing, for longer than anybody waits."""
    time.sleep(20)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Note what came, and answer as the receiver does."""
        receiver_ = cast("_Server", self.server).receiver
        body = self.rfile.read(int(self.headers["Content-Length"]))
        receiver_.came.append(({name.lower(): value for name, value in self.headers.items()}, body))
        receiver_.answer(self)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver

    def handle_error(self, *_: Any) -> None:
        """A stack that has seen enough is no error."""


@contextmanager
def listening(url: str, answer: Callable[[BaseHTTPRequestHandler], None] | None = None) -> Iterator[Receiver]:
    """A receiver at one of the stack's webhook URLs."""
    server = _Server(("127.0.0.1", int(urlsplit(url).port or 0)), _Handler)
    server.receiver = made = Receiver(url, answer or status(204))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def good() -> Iterator[Receiver]:
    with listening(GOOD) as made:
        yield made


@pytest.fixture
def other() -> Iterator[Receiver]:
    with listening(OTHER) as made:
        yield made


@pytest.fixture
def secret(up: Stack) -> str:
    """The secret that the stack has made."""
    found = service.client(up, "secretsmanager").get_secret_value(SecretId="flowaccount-connect/webhook-secret")
    return f"whsec_{found['SecretString']}"


@pytest.fixture(autouse=True)
def afresh(up: Stack) -> Iterator[None]:
    """An empty queue before and after, and workers that know of no receiver that hangs."""
    sqs = service.client(up, "sqs")
    for name in ("notify", "undelivered"):
        sqs.purge_queue(QueueUrl=up.queues[name])
    restart(up, "notify")
    yield
    for name in ("notify", "undelivered"):
        sqs.purge_queue(QueueUrl=up.queues[name])


def waiting(up: Stack, queue: str) -> list[dict[str, Any]]:
    """What waits in a queue and can be seen."""
    found = service.client(up, "sqs").receive_message(
        QueueUrl=up.queues[queue], MaxNumberOfMessages=10, VisibilityTimeout=0
    )
    return [json.loads(one["Body"]) for one in found.get("Messages", [])]


def put(up: Stack, connection: str, number: int = 1) -> str:
    """An event on the bus; its id."""
    id_ = f"{connection}-{number}-{time.time_ns()}"
    detail = {"version": 1, "id": id_, "at": "2026-11-22T14:03:11Z", "connection_id": connection, "tenant": None,
              "environment": "sandbox", "status": "active", "generation": number}  # fmt: skip
    service.client(up, "events").put_events(
        Entries=[
            {"EventBusName": up.event_bus, "Source": "flowaccount-connect", "DetailType": "connection.connected",
             "Detail": json.dumps(detail)}
        ]
    )  # fmt: skip
    return id_


VERIFY = """
import { Webhook } from "standardwebhooks";
const { body, headers, secret } = JSON.parse(process.argv[1]);
const said = new Webhook(secret).verify(body, headers);
let forged = false;
try { new Webhook(secret).verify(body + " ", headers); forged = true; } catch { /* as it must be */ }
console.log(JSON.stringify([said, forged]));
"""


def by_npm(body: bytes, headers: dict[str, str], secret: str) -> Any:
    """What npm's `standardwebhooks` reads, and whether it takes a forged one."""
    given = json.dumps({"body": body.decode(), "headers": headers, "secret": secret})
    return json.loads(typescript.run(typescript.package(), "node", "--input-type=module", "-e", VERIFY, given))


def _has_told(one: Receiver, number: int) -> bool:
    return len(one.of(BUSINESS)) >= number


def test_what_happens_to_a_connection_reaches_each_receiver_signed_and_by_its_schema(
    up: Stack, simulator: Simulator, visitor: HttpVisitor, set_item: Any, good: Receiver, other: Receiver, secret: str
) -> None:
    assert visitor.connect(up.authorize_url, user="somchai", business=BUSINESS).page == "connected"
    set_item(BUSINESS, refresh_at=int(time.time()) - 1)
    assert service.invoke(up, "refresh", {"connection_id": BUSINESS})["outcome"] == "refreshed"
    assert service.call(up, "DELETE", f"/connections/{BUSINESS}").status_code == 204
    for one in (good, other):
        until(partial(_has_told, one, 2))
        types = sorted(said["type"].removeprefix("connection.") for said in one.of(BUSINESS))
        # A test before may have connected it.
        assert types in (["connected", "disconnected"], ["disconnected", "reconnected"])
        for headers, body in one.came:
            said = json.loads(body)
            valid(said["type"], said["data"])
            assert Webhook(secret).verify(body, headers) == said
            assert webhooks.verify(body, headers, secret) == said
            assert by_npm(body, headers, secret) == [said, False]
            assert headers["webhook-id"] == said["data"]["id"]
            with pytest.raises(WebhookVerificationError):
                Webhook(secret).verify(body + b" ", headers)


def test_a_receiver_that_is_down_gets_its_webhook_when_it_is_back(up: Stack, good: Receiver) -> None:
    id_ = put(up, "N-down")
    until(lambda: bool(good.of("N-down")))
    with listening(BAD) as back:
        # After five seconds, or after another minute where the second try came too early.
        until(lambda: bool(back.of("N-down")), patience=90)
        assert back.came[0][0]["webhook-id"] == id_


@pytest.mark.parametrize(
    ("answer", "taken"),
    [
        (status(302, Location="http://169.254.169.254/latest/meta-data/"), False),
        (status(307, Location=OTHER), False),
        (status(500), False),
        (status(429, Retry_After="2"), False),
        (endless, True),
    ],
)
def test_a_hostile_receiver_hurts_nobody_else_and_leads_nowhere(
    up: Stack, good: Receiver, other: Receiver, answer: Callable[..., None], taken: bool
) -> None:
    with listening(BAD, answer) as bad:
        put(up, "N-hostile")
        until(lambda: bool(good.of("N-hostile") and bad.of("N-hostile") and other.of("N-hostile")))
        if not taken:
            bad.answer = status(200)
            until(lambda: len(bad.of("N-hostile")) == 2)
        # It was sent its own webhook, and nobody else was sent it.
        assert len(other.of("N-hostile")) == len(good.of("N-hostile")) == 1


def test_a_receiver_that_hangs_delays_no_other_one(up: Stack, good: Receiver) -> None:
    with listening(BAD, silence) as bad:
        for number in range(25):
            put(up, "N-slow", number)
        until(lambda: len({one["data"]["id"] for one in good.of("N-slow")}) == 25, patience=90)
        assert len(bad.of("N-slow")) <= 25


def test_who_is_gone_is_asked_once_and_the_webhook_can_be_driven_back(up: Stack, good: Receiver) -> None:
    with listening(BAD, status(410)) as bad:
        put(up, "N-gone")
        until(lambda: bool(good.of("N-gone")))
        until(lambda: [one["to"] for one in waiting(up, "undelivered")] == [receiver(BAD)])
        assert len(bad.of("N-gone")) == 1
        # What `start-message-move-task` does, which the emulator does not know.
        bad.answer = status(200)
        sqs = service.client(up, "sqs")
        (letter,) = waiting(up, "undelivered")
        sqs.send_message(QueueUrl=up.queues["notify"], MessageBody=json.dumps(letter))
        until(lambda: len(bad.of("N-gone")) == 2)
        ids = {headers["webhook-id"] for headers, _ in bad.came}
        assert len(ids) == 1


def test_the_secret_is_changed_without_a_gap(up: Stack, good: Receiver, secret: str) -> None:
    new = "whsec_" + "QUJD" * 11
    secrets = service.client(up, "secretsmanager")
    name = "flowaccount-connect/webhook-secret"
    try:
        secrets.put_secret_value(SecretId=name, SecretString=new)
        restart(up, "notify")  # Instead of waiting for a minute.
        put(up, "N-rotated")
        until(lambda: bool(good.of("N-rotated")))
        headers, body = next(one for one in good.came if b"N-rotated" in one[1])
        # Who has changed over already, and who has not yet.
        for valid_now in (secret, new):
            assert Webhook(valid_now).verify(body, headers)
            assert by_npm(body, headers, valid_now)[1] is False
            assert webhooks.verify(body, headers, valid_now)
        with pytest.raises(InvalidSignature):
            webhooks.verify(body, headers, "whsec_" + "QUJE" * 11)
    finally:
        secrets.put_secret_value(SecretId=name, SecretString=secret.removeprefix("whsec_"))
        restart(up, "notify")


def test_the_terminal_sends_one_and_says_what_became_of_it(
    up: Stack, good: Receiver, other: Receiver, secret: str, capsys: pytest.CaptureFixture[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # The tool looks for the local stack in its folder.
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "stack.json").write_text(json.dumps(asdict(up)))
    monkeypatch.chdir(tmp_path)
    with listening(BAD, status(404)):
        assert main(["--local", "--json", "webhook", "test"]) == 1
    answers = {one["receiver"]: (one["taken"], one["status"]) for one in json.loads(capsys.readouterr().out)}
    assert answers == {receiver(GOOD): (True, 204), receiver(OTHER): (True, 204), receiver(BAD): (False, 404)}
    (headers, body) = good.came[-1]
    assert Webhook(secret).verify(body, headers)["type"] == "webhook.test"
    with listening(BAD):
        assert main(["--local", "webhook", "test"]) == 0
    assert "taken" in capsys.readouterr().out
