"""A commit: new tokens, and all that the write that stores them must know, now or later out of a queue."""

from dataclasses import dataclass

from flowaccount_connect.storage.stored_tokens import StoredTokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """The tokens that one exchange brought, and whose they are."""

    connection_id: str
    grant_id: str
    """The consent that the tokens belong to."""
    attempt_id: str
    """Names the exchange. Whoever finds it in the table has found its own write."""
    tokens: StoredTokens
    generation: int = 0
    """The generation that was refreshed; 0 for a consent and an import, which refresh none."""
    environment: str = ""
    tenant: str | None = None
    """The tenant that the connection is to belong to; `None`: it stays whose it is."""
    in_doubt: int | None = None
    """Since when the refresh token of an import is in doubt (epoch), if the answer brought no new one."""
