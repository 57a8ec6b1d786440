"""The times of a new token set, all counted from the moment its request was sent."""

from flowaccount_connect.domain.connection import Connection, Sealed
from flowaccount_connect.domain.schedule import Schedule
from flowaccount_connect.oauth.token_answer import TokenSet
from flowaccount_connect.storage.stored_tokens import StoredTokens

ACCESS_TOKEN_LIFETIME = 3_600
"""Assumed where an answer gives no usable `expires_in`, in seconds."""


def timed(
    sealed: Sealed,
    answer: TokenSet,
    sent_at: int,
    schedule: Schedule,
    *,
    before: Connection | None = None,
    renewed: bool = False,
) -> StoredTokens:
    """A sealed set with its times, for an `answer` to what was sent at `sent_at` (epoch seconds).

    `before` is the connection that was refreshed; its consent goes on. Without `before`, or if `renewed`, the consent
    is new.
    """
    announced = answer.refresh_expires_in
    ends_at = schedule.consent_ends_at(
        sent_at,
        answer.authorization_expires_in,
        before.consent_ends_at if before is not None else None,
        renewed=renewed or before is None,
    )
    at_risk = None
    if schedule.consent_ends_soon(sent_at, ends_at):
        at_risk = before.at_risk if before is not None and before.at_risk is not None else sent_at
    return StoredTokens(
        sealed=sealed,
        requested_at=sent_at,
        access_expires_at=sent_at + (answer.expires_in or ACCESS_TOKEN_LIFETIME),
        deadline=schedule.deadline(sent_at, announced, ends_at),
        refresh_at=schedule.refresh_at(sent_at, announced),
        consent_ends_at=ends_at,
        at_risk=at_risk,
    )
