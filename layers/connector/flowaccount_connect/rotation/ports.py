"""What rotation and connecting need of the world around them. Each is implemented once, and faked in tests."""

from typing import TYPE_CHECKING, Protocol

from flowaccount_connect.domain.connection import Attempt, Connection, Reason, Sealed
from flowaccount_connect.storage.commits import Commit
from flowaccount_connect.storage.sealing import DataKey, TokenPair

if TYPE_CHECKING:
    # `token` and `connections` need the ports of sealing only, and must not load the rest.
    from flowaccount_connect.oauth.token_answer import Answer
    from flowaccount_connect.rotation.pending_commits import PendingCommit


class Store(Protocol):
    """Where connections are kept; see `storage.connections.ConnectionStore`."""

    def claim(self, connection_id: str, attempt: Attempt, *, generation: int | None, now: int) -> Connection: ...
    def claim_over(
        self, connection_id: str, attempt: Attempt, *, dead: Attempt, generation: int, now: int
    ) -> Connection: ...
    def commit(self, commit: Commit) -> Connection: ...
    def commit_kept(self, commit: Commit) -> Connection: ...
    def release(
        self,
        connection_id: str,
        generation: int,
        attempt_id: str,
        *,
        refresh_at: int,
        retries: int,
        in_doubt: int | None = None,
        refused_at: int | None = None,
        refused_alone: int | None = None,
    ) -> Connection: ...
    def require_reauthorization(
        self, connection_id: str, generation: int, attempt_id: str, reason: Reason, *, now: int
    ) -> Connection: ...
    def put_off(self, connection_id: str, *, until: int, now: int) -> None: ...


class RefreshEndpoint(Protocol):
    """Where refresh tokens are sent; see `oauth.token_endpoint.TokenEndpoint`."""

    def refresh(self, refresh_token: str, client_secret: str, *, connection_id: str, budget: float) -> "Answer": ...


class CodeEndpoint(Protocol):
    """Where codes are exchanged; see `oauth.token_endpoint.TokenEndpoint`."""

    def exchange_code(
        self, code: str, redirect_uri: str, client_secret: str, *, budget: float, verifier: str | None = None
    ) -> "Answer": ...


class Secret(Protocol):
    """The client secret; see `oauth.client_secret.ClientSecret`."""

    def get(self) -> str: ...
    def newer_than(self, refused: str) -> str | None: ...


class Sealer(Protocol):
    """What seals and opens token sets; see `storage.sealing.Sealer`."""

    def data_key(self) -> DataKey: ...
    def seal(self, tokens: TokenPair, key: DataKey, *, owner: str, grant_id: str) -> Sealed: ...
    def open(self, sealed: Sealed, *, owner: str, grant_id: str) -> TokenPair: ...


class Queue(Protocol):
    """Where commits go that the table did not take; see `rotation.pending_commits.PendingQueue`."""

    def send(self, pending: "PendingCommit") -> None: ...


class Health(Protocol):
    """What a verdict on one connection asks of the token endpoint's health; see `rotation.health.Health`."""

    def may_end(self, now: int) -> bool: ...
    def succeeded_since(self, at: int) -> bool: ...
    def throttled_alone(self, connection_id: str) -> bool: ...
