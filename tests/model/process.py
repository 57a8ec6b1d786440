"""The real code as a process of the model: run up to its next call, from the results of its calls so far.

`Rotation.refresh`, `Callback.finish` and `Confirmation.confirm` are deterministic in the results of their calls and the
time at which these came. So a worker's state *is* its history. To go on, the code is run from the start with the
recorded results, and stopped at the first call that has none; each history is run once, and known by a number from then
on.
"""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

from botocore.exceptions import ClientError

import flowaccount_connect.connect.callback as callback_module
import flowaccount_connect.connect.confirm as confirm_module
import flowaccount_connect.storage.event_items as events_module
from flowaccount_connect.connect.callback import Callback, Ended, Returned
from flowaccount_connect.connect.confirm import Confirmation
from flowaccount_connect.domain.connection import Sealed
from flowaccount_connect.domain.errors import Failure
from flowaccount_connect.domain.schedule import Schedule
from flowaccount_connect.oauth.client_secret import ClientSecret
from flowaccount_connect.oauth.token_answer import Answer, Outcome, classify
from flowaccount_connect.rotation.outcomes import Refresh
from flowaccount_connect.rotation.pending_commits import PendingQueue, Target
from flowaccount_connect.rotation.permits import NoPermit
from flowaccount_connect.rotation.protocol import Rotation
from flowaccount_connect.storage.attempts import AttemptStore, browser_secret
from flowaccount_connect.storage.connections import ConnectionStore
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from flowaccount_connect.storage.imports import ImportStore
from flowaccount_connect.storage.links import LinkStore
from flowaccount_connect.storage.sealing import CannotOpen, DataKey, SealingUnavailable, TokenPair
from tests.model.server import BUSINESS
from tests.model.server import Answer as ServerAnswer

TABLE = "connections"
ENVIRONMENT = "sandbox"
TENANT = "tenant"
FUNCTION_TIMEOUT = 45
"""How long an invocation lives, in seconds (template.yaml)."""

HURRIED = 3.0
"""What a hurried invocation has left, in seconds: enough to salvage, too little to send."""

LOST = "no answer"
NOT_SENT = "not sent"

SCHEDULE = Schedule(fraction=lambda: 0.99)
"""Jitter at its most: what falls due does so earliest, and backoff is longest."""


class Call(NamedTuple):
    """One call that leaves the process."""

    service: str
    """`write`, `secret`, `key`, `permit`, `health`, `post`, `exchange` or `queue`."""
    name: str
    """What the trace calls it."""
    request: Any
    """Its parameters."""


class Event(NamedTuple):
    """The result of a call, and the moment at which it came; from a hurried one on, time is short."""

    result: Any
    now: int
    hurried: bool


class _Stop(BaseException):
    """Raised into the real code at its first call without a result; no `except Exception` of it holds this up."""


@dataclass(slots=True)
class Node:
    """A process after some history."""

    number: int
    attempt: int
    kind: str
    """`refresh`, `import`, `callback` or `confirm`."""
    started_at: int
    generation: int | None
    subject: str
    """The attempt of a callback, or what confirms."""
    events: tuple[Event, ...]
    call: Call | None = None
    """The call it makes next; `None` once it has ended."""
    outcome: Refresh | Ended | str | BaseException | None = None
    asks_for_time: bool = False
    """Whether it asked how much time is left since its last result."""
    holds: str | None = None
    """The refresh token it has received."""
    in_doubt: bool = False
    """Whether the connection was in doubt as it was claimed."""
    lease_until: int = 0
    posted: str | None = None
    sent_at: int = 0
    """When its last POST was sent."""
    answer: str | None = None
    """What came of its last POST."""
    healthy: bool = True
    """What the endpoint's health last answered; false before it was asked, where it may be unwell."""
    grant_id: str | None = None
    """The consent that a callback or a confirmation has written, or tried to."""
    next: dict[Event, "Node"] = field(default_factory=dict)

    @property
    def is_callback(self) -> bool:
        """Whether a browser came back with a code."""
        return self.kind == "callback"

    @property
    def refreshes(self) -> bool:
        """Whether it sends a refresh token."""
        return self.kind in ("refresh", "import")

    @property
    def now(self) -> int:
        """When its last result came."""
        return self.events[-1].now if self.events else self.started_at

    @property
    def hurried(self) -> bool:
        """Whether its time is short."""
        return bool(self.events) and self.events[-1].hurried


class Processes:
    """All histories met so far, and the real code that they came from."""

    def __init__(self, replay_policy: str, *, unwell: bool = False, paced: bool = False) -> None:
        self._policy = replay_policy
        self._unwell, self._paced = unwell, paced
        self._roots: dict[tuple[Any, ...], Node] = {}
        self.nodes: list[Node] = []

    def start(self, attempt: int, now: int, kind: str, *, generation: int | None = None, subject: str = "") -> Node:
        """A new process: a refresh of what is due, or of one generation on demand; the proof of an import; the callback
        of an attempt; or a confirmation."""
        key = (attempt, now, kind, generation, subject)
        if key not in self._roots:
            node = Node(len(self.nodes), attempt, kind, now, generation, subject, (), healthy=not self._unwell)
            self.nodes.append(node)
            self._run(node)
            self._roots[key] = node
        return self._roots[key]

    def resume(self, node: Node, result: Any, now: int, *, hurried: bool = False) -> Node:
        """The process after its pending call had `result`."""
        event = Event(result, now, hurried or node.hurried)
        found = node.next.get(event)
        if found is None:
            call = node.call
            assert call is not None
            found = Node(
                len(self.nodes),
                node.attempt,
                node.kind,
                node.started_at,
                node.generation,
                node.subject,
                (*node.events, event),
                holds=node.holds,
                in_doubt=node.in_doubt,
                lease_until=node.lease_until,
                posted=node.posted,
                sent_at=node.sent_at,
                answer=node.answer,
                healthy=node.healthy,
                grant_id=node.grant_id,
            )
            if call.service == "post":
                found.sent_at = node.now
            self.nodes.append(found)
            self._observe(found, call, result)
            self._run(found)
            node.next[event] = found
        return found

    def _observe(self, node: Node, call: Call, result: Any) -> None:
        if call.name in ("claim", "claim_over"):
            item = _item(result)
            node.in_doubt = "in_doubt" in item
            node.lease_until = int(item.get("lease_until", {}).get("N", 0))
        elif call.name == "grant":
            written = re.search(r"grant-\d+-\d+", repr(call.request))
            node.grant_id = written[0] if written else None
        elif call.service == "health":
            node.healthy = result
        elif call.service == "post":
            node.posted = call.request[0]
            node.answer = result.kind if isinstance(result, ServerAnswer) else result
        if call.service in ("post", "exchange") and isinstance(result, ServerAnswer) and result.kind == "tokens":
            node.holds = result.refresh_token

    def _run(self, node: Node) -> None:
        replay = _Replay(node, unwell=self._unwell, paced=self._paced)
        try:
            match node.kind:
                case "callback":
                    node.outcome = replay.run_callback(node.subject)
                case "confirm":
                    node.outcome = replay.run_confirmation(node.subject)
                case kind:
                    node.outcome = replay.run_refresh(self._policy, is_import=kind == "import")
        except _Stop:
            node.call = replay.pending
        except Exception as error:
            node.outcome = error
        node.asks_for_time = replay.asked
        if node.call is None and node.outcome is None:
            raise AssertionError("a process neither ended nor called")


def _item(result: Any) -> dict[str, Any]:
    answer = json.loads(result[1])
    return answer.get("Attributes") or answer.get("Item") or {}


class _Replay:
    """Gives the real code its recorded results, and stops it where they end. Plays every service it calls."""

    def __init__(self, node: Node, *, unwell: bool, paced: bool) -> None:
        self._node = node
        self._unwell, self._paced = unwell, paced
        self._at = 0
        self._now = node.started_at
        self._hurried = False
        self._ids = 0
        self.name = ""
        self.asked = False
        self.pending: Call | None = None

    # The real code

    def run_refresh(self, policy: Any, *, is_import: bool) -> Refresh:
        events_module.new_event_id = self.event_id  # type: ignore[assignment, attr-defined]
        store = ImportStore(self, TABLE, ENVIRONMENT, clock=self.clock) if is_import else ConnectionStore(self, TABLE)
        return Rotation(
            store=_Named(self, store),
            target=Target.IMPORT if is_import else Target.CONNECTION,
            health=self,
            endpoint=self,
            secret=ClientSecret(self, "client", clock=self.clock),
            sealer=self,
            queue=PendingQueue(self, "salvage"),
            schedule=SCHEDULE,
            replay_policy=policy,
            clock=self.clock,
            sleep=lambda _seconds: None,
            attempt_id=self.attempt_id,
        ).refresh(BUSINESS, generation=self._node.generation, permit=self, remaining=self.remaining)

    def run_callback(self, attempt: str) -> Ended:
        def grant_id(clock: Callable[[], float]) -> str:
            return f"grant-{int(clock()):09d}-{self._node.attempt}"

        # Grant ids are random beyond the millisecond; here the number of the attempt orders what falls together.
        callback_module.new_grant_id = grant_id  # type: ignore[assignment, attr-defined]
        return Callback(
            client=self,
            table=TABLE,
            environment=ENVIRONMENT,
            attempts=_Named(self, AttemptStore(self, TABLE, "sandbox")),  # type: ignore[arg-type]
            links=LinkStore(self, TABLE, "sandbox"),
            endpoint=self,
            secret=ClientSecret(self, "client", clock=self.clock),
            sealer=self,
            queue=PendingQueue(self, "salvage"),
            schedule=SCHEDULE,
            clock=self.clock,
            sleep=lambda _seconds: None,
            new_id=self.attempt_id,
        ).finish(
            Returned(state=attempt, code=f"code of {attempt}", error=None, issuer=None, secret=browser_of(attempt)),
            remaining=self.remaining,
        )

    def run_confirmation(self, secret: str) -> str:
        confirm_module.new_attempt_id = self.attempt_id  # type: ignore[attr-defined]
        events_module.new_event_id = self.event_id  # type: ignore[assignment, attr-defined]
        try:
            return (
                Confirmation(
                    client=self,
                    table=TABLE,
                    environment=ENVIRONMENT,
                    links=LinkStore(self, TABLE, ENVIRONMENT),
                    connections=ConnectionStore(self, TABLE),
                    return_urls=(),
                    lifetime=3_600,
                    redirect_uri=None,
                    clock=self.clock,
                )
                .confirm(secret, TENANT)
                .id
            )
        except Failure as failure:
            return failure.code

    # What is not a call

    def clock(self) -> float:
        return float(self._now)

    def remaining(self) -> float:
        self.asked = True
        return HURRIED if self._hurried else FUNCTION_TIMEOUT - float(self._now - self._node.started_at)

    def attempt_id(self) -> str:
        self._ids += 1
        return f"a{self._node.attempt}" + "'" * (self._ids - 1)

    def event_id(self, _clock: Callable[[], float]) -> str:
        return f"event-{self._node.attempt}"  # Random in truth; here the attempt names the one event that it can write.

    def seal(self, tokens: TokenPair, key: DataKey, *, owner: str, grant_id: str) -> Sealed:
        content = [tokens.access_token, tokens.refresh_token, owner, grant_id]
        return Sealed(json.dumps(content).encode(), key.wrapped)

    # What is one

    def _call(self, service: str, name: str, request: Any) -> Any:
        if self._at < len(self._node.events):
            event = self._node.events[self._at]
            self._at += 1
            self._now, self._hurried, self.asked = event.now, event.hurried, False
            return event.result
        self.pending = Call(service, name, request)
        raise _Stop

    def _write(self, operation: str, request: dict[str, Any]) -> Any:
        code, body = self._call("write", self.name or "grant", (operation, _frozen(request)))
        answer = json.loads(body, object_hook=_bytes)
        if code == "return":
            return answer
        raise ClientError(answer, operation)

    def update_item(self, **request: Any) -> Any:
        return self._write("update_item", request)

    def get_item(self, **request: Any) -> Any:
        return self._write("get_item", request)

    def put_item(self, **request: Any) -> Any:
        return self._write("put_item", request)

    def query(self, **request: Any) -> NoReturn:
        raise NotImplementedError(request)

    def transact_write_items(self, **request: Any) -> Any:
        return self._write("transact_write_items", request)

    def use(self, patience: float, *, urgent: bool = False) -> None:
        assert isinstance(urgent, bool), patience
        permitted = not self._paced or self._call("permit", "permit", None)
        if permitted is None:
            raise StoreUnavailable("InternalServerError")
        if not permitted:
            raise NoPermit(60)

    def throttled(self, sent_at: float, retry_after: int | None) -> int:
        assert sent_at <= self._now
        return retry_after or 15

    def succeeded_since(self, at: int) -> bool:
        return at > self._now

    def throttled_alone(self, connection_id: str) -> bool:
        return not connection_id

    def may_end(self, now: int) -> bool:
        assert now == self._now
        return not self._unwell or bool(self._call("health", "health", None))

    def get_secret_value(self, **_request: Any) -> Any:
        version = self._call("secret", "client secret", None)
        if version is None:
            raise ClientError({"Error": {"Code": "InternalServiceError"}}, "GetSecretValue")
        return {"SecretString": json.dumps({"client_secret": f"secret {version}"})}

    def open(self, sealed: Sealed, *, owner: str, grant_id: str) -> TokenPair:
        if not self._call("key", "decrypt", None):
            raise SealingUnavailable("InternalException")
        access_token, refresh_token, *sealed_for = json.loads(sealed.ciphertext)
        if sealed_for != [owner, grant_id]:
            raise CannotOpen("not sealed for this item")
        return TokenPair(access_token, refresh_token)

    def data_key(self) -> DataKey:
        if not self._call("key", "data key", None):
            raise SealingUnavailable("InternalException")
        return DataKey(b"data key", b"wrapped")

    def send_message(self, **message: Any) -> None:
        if not self._call("queue", "send to salvage", message["MessageBody"]):
            raise ClientError({"Error": {"Code": "InternalError"}}, "SendMessage")

    def refresh(self, refresh_token: str, client_secret: str, *, connection_id: str, budget: float) -> Answer:
        left = HURRIED if self._hurried else FUNCTION_TIMEOUT - float(self._now - self._node.started_at)
        return self._answer("post", "POST", (refresh_token, client_secret, budget, left), connection_id)

    def exchange_code(
        self, code: str, redirect_uri: str, client_secret: str, *, budget: float, verifier: str | None = None
    ) -> Answer:
        assert redirect_uri
        assert verifier is None
        return self._answer("exchange", "code exchange", (code, client_secret, budget, 0.0), None)

    def _answer(self, service: str, name: str, request: tuple[Any, ...], connection_id: str | None) -> Answer:
        sent_at = self._now
        result = self._call(service, name, request)
        if result == NOT_SENT:
            return Answer(Outcome.NOT_SENT, error="not_sent")
        if result == LOST:
            return Answer(Outcome.IN_DOUBT, error="no_answer")
        status, body = result.http(access_token(result.refresh_token or request[0], self._node.attempt, sent_at))
        return classify(status, {}, body, connection_id=connection_id, now=self._now)


class _Named:
    """A store that tells the replay by which of its methods a write is made."""

    def __init__(self, replay: _Replay, store: Any) -> None:
        self._replay = replay
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._store, name)

        def named(*args: Any, **kwargs: Any) -> Any:
            self._replay.name = name
            try:
                return method(*args, **kwargs)
            finally:
                self._replay.name = ""

        return named


def browser_of(attempt: str) -> str:
    """What the browser's cookie holds: the link that it opened too, where the attempt is that of a link."""
    return browser_secret("browser", attempt if attempt.startswith("link") else None)


def access_token(refresh_token: str, attempt: int, sent_at: int) -> str:
    """The name of the access token that came with a refresh token: tells for which request, and when that was sent."""
    return f"{refresh_token}@{attempt}@{sent_at}"


def _frozen(value: Any) -> Any:
    """Parameters as something hashable, and back by `thawed`."""
    if isinstance(value, dict):
        return ("d", *((key, _frozen(content)) for key, content in value.items()))
    if isinstance(value, list):
        return ("l", *(_frozen(content) for content in value))
    return value


def thawed(value: Any) -> Any:
    """What `_frozen` froze."""
    if isinstance(value, tuple):
        if value[0] == "d":
            return {key: thawed(content) for key, content in value[1:]}
        return [thawed(content) for content in value[1:]]
    return value


def result_of(answer: dict[str, Any]) -> tuple[str, str]:
    """The result of a write that was answered."""
    return "return", json.dumps(answer, default=_text, sort_keys=True)


def failure_of(error: ClientError) -> tuple[str, str]:
    """The result of a write that was refused, or failed."""
    return "raise", json.dumps(error.response, default=_text, sort_keys=True)


def _text(content: bytes) -> dict[str, str]:
    return {"bytes": content.decode()}


def _bytes(content: dict[str, Any]) -> Any:
    return content["bytes"].encode() if set(content) == {"bytes"} else content


def pending_content(message: dict[str, Any]) -> list[str]:
    """What a message of the salvage queue carries: access token, refresh token, owner, grant."""
    content: list[str] = json.loads(base64.b64decode(message["tokens"]["tokens"]))
    return content


UNAVAILABLE = failure_of(ClientError({"Error": {"Code": "InternalServerError", "Message": ""}}, "UpdateItem"))
"""The result of a write that was not acknowledged."""
