"""Commits for tests, made of the few things that a test cares about."""

from flowaccount_connect.domain.connection import Sealed
from flowaccount_connect.storage.commits import Commit
from flowaccount_connect.storage.stored_tokens import StoredTokens


def commit_of(
    connection_id: str,
    grant_id: str,
    generation: int,
    attempt_id: str,
    tokens: StoredTokens,
    *,
    environment: str = "sandbox",
    tenant: str | None = None,
) -> Commit:
    """What a refresh, a consent (generation 0) or an import brought."""
    return Commit(
        connection_id=connection_id,
        grant_id=grant_id,
        generation=generation,
        attempt_id=attempt_id,
        tokens=tokens,
        environment=environment,
        tenant=tenant,
    )


def rotated(tokens: str, at: int) -> StoredTokens:
    """Tokens that were requested at a time (epoch), with a day to live."""
    return StoredTokens(
        sealed=Sealed(tokens.encode(), b"key"),
        requested_at=at,
        access_expires_at=at + 3_600,
        deadline=at + 86_400,
        refresh_at=at + 50,
    )
