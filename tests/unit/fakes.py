"""Stand-ins for what the product calls: small, in memory, and able to fail on demand."""

import hashlib
import io
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flowaccount_connect.oauth.token_answer import Answer, Outcome, TokenSet
from flowaccount_connect.rotation.permits import FIRST_PAUSE, NoPermit
from tests.unit.tables import client_error

NOW = 1_800_000_000
CONNECTION = "N1234567"
GRANT = "0198b5a0-1111-7abc-8def-0123456789ab"


@dataclass
class Clock:
    """A clock that moves when told to, or when somebody sleeps on it."""

    now: float = NOW
    slept: list[float] = field(default_factory=list)
    on_sleep: Callable[[], object] = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.now += seconds
        self.on_sleep()

    def remaining(self, seconds: float) -> Callable[[], float]:
        """What is left of an invocation that has `seconds` from here."""
        end = self.now + seconds
        return lambda: end - self.now


class FakeKms:
    """A KMS that binds its data keys to key id and context, as the real one does."""

    def __init__(self) -> None:
        self.keys: dict[bytes, tuple[bytes, str, str]] = {}
        self.decrypts = 0
        self.generated = 0
        self.error: Exception | None = None
        self._lock = threading.Lock()

    def generate_data_key(self, **kwargs: Any) -> Any:
        """GenerateDataKey."""
        if self.error is not None:
            raise self.error
        assert kwargs["KeySpec"] == "AES_256"
        with self._lock:
            self.generated += 1
            plaintext = hashlib.sha256(f"{id(self)} {self.generated}".encode()).digest()
            wrapped = b"wrapped" + hashlib.sha256(plaintext).digest()
            self.keys[wrapped] = (plaintext, kwargs["KeyId"], json.dumps(kwargs["EncryptionContext"]))
        return {"Plaintext": plaintext, "CiphertextBlob": wrapped}

    def decrypt(self, **kwargs: Any) -> Any:
        """Decrypt."""
        self.decrypts += 1
        if self.error is not None:
            raise self.error
        plaintext, key_id, context = self.keys.get(kwargs["CiphertextBlob"], (b"", "", ""))
        if context != json.dumps(kwargs["EncryptionContext"]):
            raise client_error("InvalidCiphertextException")
        if key_id != kwargs["KeyId"]:
            raise client_error("IncorrectKeyException")
        return {"Plaintext": plaintext}


@dataclass
class FakeSecretsManager:
    """One secret and how often it was asked for."""

    text: Any = '{"client_secret": "the-secret"}'
    error: Exception | None = None
    asked: int = 0

    def get_secret_value(self, **_: Any) -> Any:
        """GetSecretValue."""
        self.asked += 1
        if self.error is not None:
            raise self.error
        return {} if self.text is None else {"SecretString": self.text}


@dataclass
class FakeSqs:
    """A queue; `refused` are the indices of a batch that it does not take."""

    sent: list[dict[str, Any]] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)
    refused: frozenset[int] = frozenset()
    error: Exception | None = None
    on_send: Callable[[], None] = lambda: None

    def send_message(self, **kwargs: Any) -> Any:
        """SendMessage."""
        self.on_send()
        if self.error is not None:
            raise self.error
        self.sent.append(kwargs)
        return {"MessageId": "1"}

    def get_queue_attributes(self, **kwargs: Any) -> Any:
        """GetQueueAttributes."""
        return {"Attributes": {name: self.waiting[name] for name in kwargs["AttributeNames"] if name in self.waiting}}

    def send_message_batch(self, **kwargs: Any) -> Any:
        """SendMessageBatch: at most ten, each with an id of its own."""
        entries = kwargs["Entries"]
        assert 1 <= len(entries) <= 10
        assert len({entry["Id"] for entry in entries}) == len(entries)
        self.batches.append(len(entries))
        failed = [entry for i, entry in enumerate(entries) if i in self.refused]
        taken = [entry for entry in entries if entry not in failed]
        self.sent += taken
        answer = {"Successful": taken, "Failed": failed}
        return {name: [{"Id": entry["Id"]} for entry in some] for name, some in answer.items() if some}


@dataclass
class FakeEvents:
    """An event bus; `refused` are the indices of a call's entries that it does not take."""

    put: list[dict[str, Any]] = field(default_factory=list)
    refused: frozenset[int] = frozenset()
    error: Exception | None = None
    calls: int = 0

    def put_events(self, **kwargs: Any) -> Any:
        """PutEvents: at most ten, each taken or refused for itself."""
        self.calls += 1
        if self.error is not None:
            raise self.error
        assert 1 <= len(kwargs["Entries"]) <= 10
        results: list[dict[str, str]] = []
        for i, entry in enumerate(kwargs["Entries"]):
            if i in self.refused:
                results.append({"ErrorCode": "ThrottlingException", "ErrorMessage": "CANARY-SDK-MESSAGE"})
            else:
                self.put.append(entry)
                results.append({"EventId": str(i)})
        return {"FailedEntryCount": len(self.refused), "Entries": results}

    def details(self) -> list[tuple[str, dict[str, Any]]]:
        """The events that are on the bus: type and detail."""
        return [(entry["DetailType"], json.loads(entry["Detail"])) for entry in self.put]


@dataclass
class FakeLambda:
    """Remembers invocations; `act` is what the invoked function does, and `answer` what it answers."""

    invoked: list[dict[str, Any]] = field(default_factory=list)
    act: Callable[[], None] = lambda: None
    answer: Any = field(default_factory=lambda: {"outcome": "refreshed"})

    def close(self) -> None:
        """Close the connections."""

    def invoke(self, **kwargs: Any) -> Any:
        """Invoke."""
        self.invoked.append(kwargs)
        self.act()
        return {"StatusCode": 200, "Payload": io.BytesIO(json.dumps(self.answer).encode())}


@dataclass
class FakeEndpoint:
    """A token endpoint that answers in turn, the last answer for all that follow."""

    answers: list[Answer] = field(default_factory=list)
    posts: list[tuple[str, str]] = field(default_factory=list)
    budgets: list[float] = field(default_factory=list)
    verifiers: list[str | None] = field(default_factory=list)
    on_post: Callable[[], object] = lambda: None

    def _next(self, token: str, secret: str, budget: float) -> Answer:
        self.posts.append((token, secret))
        self.budgets.append(budget)
        self.on_post()
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def refresh(self, refresh_token: str, client_secret: str, *, connection_id: str, budget: float) -> Answer:
        """A refresh."""
        assert connection_id
        return self._next(refresh_token, client_secret, budget)

    def exchange_code(
        self, code: str, redirect_uri: str, client_secret: str, *, budget: float, verifier: str | None = None
    ) -> Answer:
        """The exchange of a code."""
        assert redirect_uri
        self.verifiers.append(verifier)
        return self._next(code, client_secret, budget)


class Context:
    """The context of a Lambda invocation that has `seconds` from now."""

    aws_request_id = "9f3c2a77-request"

    def __init__(self, seconds: float = 28.0) -> None:
        self._end = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        """As Lambda says it."""
        return int((self._end - time.monotonic()) * 1000)


def tokens(
    access: str = "access-2", refresh: str | None = "refresh-2", *, support_code: str | None = CONNECTION
) -> Answer:
    """An answer with tokens."""
    return Answer(Outcome.TOKENS, TokenSet(access, refresh, 86_400, support_code), status=200)


@dataclass
class FakePermit:
    """A permit for `room` requests, which notes what it was asked for; `error` is for those that find no room."""

    room: int = 1_000_000
    error: Exception = field(default_factory=lambda: NoPermit(41))
    used: list[tuple[float, bool]] = field(default_factory=list)
    throttles: list[tuple[float, int | None]] = field(default_factory=list)

    def use(self, patience: float, *, urgent: bool = False) -> None:
        """Return at once."""
        self.used.append((patience, urgent))
        if len(self.used) > self.room:
            raise self.error

    def throttled(self, sent_at: float, retry_after: int | None) -> int:
        """The pause that was asked for."""
        self.throttles.append((sent_at, retry_after))
        return retry_after or FIRST_PAUSE


FREE = FakePermit()


@dataclass(frozen=True)
class KnownHealth:
    """The health of an endpoint, as a test knows it."""

    well: bool = True
    others_accepted: bool = False
    """Whether whatever befalls a connection befalls it alone."""

    def succeeded_since(self, at: int) -> bool:
        """Whether others were accepted."""
        return self.others_accepted and at > 0

    def throttled_alone(self, connection_id: str) -> bool:
        """Whether others were accepted."""
        return self.others_accepted and connection_id == CONNECTION

    def may_end(self, now: int) -> bool:  # noqa: ARG002
        """Whether it is well."""
        return self.well
