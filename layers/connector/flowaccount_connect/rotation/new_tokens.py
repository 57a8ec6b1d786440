"""The times of a new token set, all counted from the moment its request was sent."""

from flowaccount_connect.domain.connection import Connection, Sealed
from flowaccount_connect.domain.schedule import Schedule
from flowaccount_connect.oauth.token_answer import TokenSet
from flowaccount_connect.storage.stored_tokens import StoredTokens


def timed(
    sealed: Sealed,
    access_lifetime: int,
    sent_at: int,
    schedule: Schedule,
    *,
    issued: TokenSet | None = None,
    replaced: Connection | None = None,
    renewed: bool = False,
) -> StoredTokens:
    """A sealed set with its times. `access_lifetime` in seconds, `sent_at` in epoch seconds.

    `issued` is the answer that announces lifetimes. `replaced` is the connection that was refreshed. A refresh does not
    begin the consent anew; without one, or with `renewed`, the tokens are those of a new consent.
    """
    announced = issued.refresh_expires_in if issued is not None else None
    ends_at = schedule.consent_ends_at(
        sent_at,
        issued.authorization_expires_in if issued is not None else None,
        replaced.consent_ends_at if replaced is not None else None,
        renewed=renewed or replaced is None,
    )
    at_risk = None
    if schedule.consent_ends_soon(sent_at, ends_at):
        at_risk = replaced.at_risk if replaced is not None and replaced.at_risk is not None else sent_at
    return StoredTokens(
        sealed=sealed,
        requested_at=sent_at,
        access_expires_at=sent_at + access_lifetime,
        deadline=schedule.deadline(sent_at, announced, ends_at),
        refresh_at=schedule.refresh_at(sent_at, announced),
        consent_ends_at=ends_at,
        at_risk=at_risk,
    )
