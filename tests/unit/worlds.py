"""A stack in memory: the product's own parts, put together over fakes, with one connection in it."""

from dataclasses import dataclass, field, replace
from typing import Any

from flowaccount_connect.connect.callback import Callback
from flowaccount_connect.connect.confirm import Confirmation
from flowaccount_connect.domain.connection import Attempt, Connection
from flowaccount_connect.domain.ids import fingerprint
from flowaccount_connect.domain.schedule import Schedule
from flowaccount_connect.oauth.client_secret import ClientSecret
from flowaccount_connect.oauth.token_answer import Answer
from flowaccount_connect.rotation.outcomes import Refresh
from flowaccount_connect.rotation.pending_commits import PendingQueue
from flowaccount_connect.rotation.permits import Permit
from flowaccount_connect.rotation.protocol import ReplayPolicy, Rotation
from flowaccount_connect.rotation.refresh_function import RefreshFunction
from flowaccount_connect.runtime.observability import logger
from flowaccount_connect.storage.attempts import AttemptStore, ConnectAttempt, browser_secret
from flowaccount_connect.storage.connections import ConnectionStore, grant_update
from flowaccount_connect.storage.links import LinkStore
from flowaccount_connect.storage.sealing import Sealer, TokenPair
from flowaccount_connect.storage.stored_tokens import StoredTokens
from flowaccount_connect.tokens.demand import Demand
from flowaccount_connect.tokens.serving import AccessTokens, Serving
from tests.support.commits import commit_of
from tests.unit.fakes import (
    CONNECTION,
    FREE,
    GRANT,
    NOW,
    Clock,
    FakeEndpoint,
    FakeEvents,
    FakeKms,
    FakeLambda,
    FakeSecretsManager,
    FakeSqs,
    KnownHealth,
)
from tests.unit.tables import Table

STATE = "state-of-flowaccount"
BROWSER = "secret-of-the-browser"
TENANT = "tenant-7"


@dataclass
class World:
    """Everything there is; tests change it and look at it."""

    clock: Clock = field(default_factory=Clock)
    table: Table = field(default_factory=Table)
    kms: FakeKms = field(default_factory=FakeKms)
    secrets: FakeSecretsManager = field(default_factory=FakeSecretsManager)
    sqs: FakeSqs = field(default_factory=FakeSqs)
    lambdas: FakeLambda = field(default_factory=FakeLambda)
    endpoint: FakeEndpoint = field(default_factory=FakeEndpoint)
    events: FakeEvents = field(default_factory=FakeEvents)

    def __post_init__(self) -> None:
        self.store = ConnectionStore(self.table, "table")
        self.attempts = AttemptStore(self.table, "table", "sandbox")
        self.links = LinkStore(self.table, "table", "sandbox")
        self.sealer = Sealer(self.kms, "key", stack="connect", environment="sandbox")
        self.access_tokens = AccessTokens(self.sealer)
        self.demand = Demand(self.table, "table")
        self.secret = ClientSecret(self.secrets, "name", clock=self.clock)
        self.schedule = Schedule(fraction=lambda: 0.0)
        self.queue = PendingQueue(self.sqs, "url")

    def connect(self, *, age: int = 22_000, lifetime: int = 86_400, grant_id: str = GRANT) -> Connection:
        """A connection whose tokens are `age` seconds old, generation 1."""
        requested_at = int(self.clock()) - age
        tokens = self._tokens("1", grant_id, requested_at, lifetime)
        consent = commit_of(CONNECTION, grant_id, 0, "consent", tokens)
        self.table.quiet().update_item(**grant_update("table", consent, now=requested_at))
        return self.connection()

    def _tokens(self, name: str, grant_id: str, requested_at: int, lifetime: int = 86_400) -> StoredTokens:
        pair, key = TokenPair(f"access-{name}", f"refresh-{name}"), self.sealer.data_key()
        return StoredTokens(
            sealed=self.sealer.seal(pair, key, owner=CONNECTION, grant_id=grant_id),
            requested_at=requested_at,
            access_expires_at=requested_at + lifetime,
            deadline=requested_at + 86_400,
            refresh_at=requested_at + 21_600,
        )

    def connection(self) -> Connection:
        """The connection as it is stored."""
        found = ConnectionStore(self.table.quiet(), "table").get(CONNECTION)
        assert found is not None
        return found

    def change(self, **values: str | int | bytes | None) -> None:
        """Change attributes of the connection's item directly; `None` takes one away."""
        self.table.change("CONNECTION", CONNECTION, **values)

    def hold(self, name: str = "another", *, started: int = 0, lease: int = 180) -> Attempt:
        """Let another attempt hold the connection."""
        now = int(self.clock())
        self.change(attempt_id=name, attempt_started_at=now + started, lease_until=now + lease)
        return Attempt(id=name, started_at=now + started, lease_until=now + lease)

    def end(self, reason: str) -> None:
        """Let it need a new consent, its tokens as they are."""
        self.change(
            status="reauthorization_required", reason=reason, ended_at=NOW - 50, due_shard=None, refresh_at=None
        )

    def disconnect(self) -> None:
        """Leave the tombstone of a disconnect."""
        there = self.connection()
        self.table.put(
            "CONNECTION",
            CONNECTION,
            status="disconnected",
            grant_id=there.grant_id,
            generation=there.generation + 1,
            environment="sandbox",
        )

    def opened(self) -> tuple[str, str]:
        """The tokens that are stored."""
        there = self.connection()
        assert there.sealed is not None
        tokens = self.sealer.open(there.sealed, owner=there.id, grant_id=there.grant_id)
        return tokens.access_token, tokens.refresh_token

    def rotated_by_another(self) -> None:
        """Let somebody else move the generation on, a moment ago."""
        there = self.connection()
        rotated = self._tokens("other", there.grant_id, int(self.clock()))
        ConnectionStore(self.table.quiet(), "table").commit(
            commit_of(CONNECTION, there.grant_id, there.generation, "another", rotated)
        )

    def begin(
        self, *, return_url: str | None = "https://app.example.com/done", expires_in: int = 3_600, pkce: bool = False
    ) -> None:
        """An attempt that waits for its callback."""
        self.attempts.create(
            ConnectAttempt(
                id=fingerprint(STATE),
                binding=fingerprint(BROWSER),
                redirect_uri="https://api.example/live/callback",
                expires_at=int(self.clock()) + expires_in,
                return_url=return_url,
                pkce=pkce,
            )
        )
        self.table.calls.clear()

    def link(self, *, tenant: str = TENANT, expected: str | None = None) -> tuple[str, str]:
        """A link, opened in the browser by an attempt that waits for its callback: the link and its confirmation."""
        link = self.links.create(
            tenant=tenant,
            return_url="https://app.example.com/done",
            expected_connection=expected,
            expires_at=int(self.clock()) + 3_600,
        )
        self.open(link)
        made = self.links.opened(link)
        assert made is not None
        self.table.calls.clear()
        return link, made.confirmation(link)

    def open(self, link: str, *, state: str = STATE, secret: str = BROWSER) -> str:
        """Open a link once more, in a tab of its own; the value of the tab's cookie."""
        cookie = browser_secret(secret, link)
        found = self.links.opened(link)
        assert found is not None
        self.attempts.create(
            ConnectAttempt(
                id=fingerprint(state),
                binding=fingerprint(cookie),
                redirect_uri="https://api.example/live/callback",
                expires_at=found.expires_at,
                return_url=found.return_url,
                link=found.id,
            )
        )
        self.table.calls.clear()
        return cookie

    def confirmation(self) -> Confirmation:
        """The app's side of connecting here."""
        return Confirmation(
            client=self.table,
            table="table",
            environment="sandbox",
            links=self.links,
            connections=self.store,
            return_urls=frozenset({"https://app.example.com/done"}),
            lifetime=3_600,
            redirect_uri=None,
            clock=self.clock,
        )

    def attempt(self) -> dict[str, Any]:
        """The item of the attempt."""
        return self.table.item("ATTEMPT", fingerprint(STATE))

    def callback(self, issuer: str | None = None) -> Callback:
        """What finishes connects here."""
        return Callback(
            client=self.table,
            table="table",
            environment="sandbox",
            attempts=self.attempts,
            links=self.links,
            endpoint=self.endpoint,
            secret=self.secret,
            sealer=self.sealer,
            queue=self.queue,
            schedule=self.schedule,
            issuer=issuer,
            clock=self.clock,
            sleep=self.clock.sleep,
        )

    def rotation(self, replay_policy: ReplayPolicy = "allowed") -> Rotation:
        """What refreshes connections here."""
        return Rotation(
            store=self.store,
            endpoint=self.endpoint,
            secret=self.secret,
            sealer=self.sealer,
            queue=self.queue,
            schedule=self.schedule,
            health=KnownHealth(),
            replay_policy=replay_policy,
            clock=self.clock,
            sleep=self.clock.sleep,
            attempt_id=lambda: "mine",
        )

    def refresh(
        self,
        *answers: Answer,
        generation: int | None = None,
        seconds: float = 45,
        permit: Permit = FREE,
        **changes: Any,
    ) -> Refresh:
        """One attempt to refresh the connection, by a rotation with these changes; `answers` are the endpoint's."""
        if answers:
            self.endpoint.answers = list(answers)
        rotation = replace(self.rotation(), **changes)
        remaining = self.clock.remaining(seconds)
        return rotation.refresh(CONNECTION, generation=generation, permit=permit, remaining=remaining)

    def serving(self) -> Serving:
        """What serves tokens here."""
        return Serving(
            store=self.store,
            tokens=self.access_tokens,
            demand=self.demand,
            refresh=RefreshFunction(self.lambdas, "refresh-function", logger).refresh,
            clock=self.clock,
            sleep=self.clock.sleep,
        )
