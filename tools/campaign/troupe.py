"""The connections of a campaign: connected, and connected again when they are lost, the way the product does it."""

import time

from flowaccount_connect.domain.ids import new_grant_id
from flowaccount_connect.domain.schedule import Schedule
from flowaccount_connect.storage.sealing import TokenPair
from flowaccount_connect.storage.stored_tokens import StoredTokens
from tools.campaign.stage import Stage
from tools.local.visit import HttpVisitor
from tools.simulator.people import USERS

OWNERS = {business: user.username for user in USERS.values() for business in user.businesses}
"""Who can connect which of the demo businesses through the simulator's pages."""


def businesses(count: int) -> list[str]:
    """The demo businesses, and invented ones up to `count` altogether."""
    demo = sorted(OWNERS)
    return [*demo, *(f"N{2_000_001 + number}" for number in range(count - len(demo)))][:count]


def connect(stage: Stage, business: str) -> None:
    """A new consent: through the pages and the deployed `authorize` and `callback` for a demo business.

    The simulator's pages offer no others, so an invented one's consent is made by its control API, and written by the
    product's own `grant_update` and `Sealer`. Raises `RuntimeError` if it did not come to a connection.
    """
    if business in OWNERS:
        arrived = HttpVisitor().connect(stage.up.authorize_url, user=OWNERS[business], business=business)
        if arrived.page != "connected":
            raise RuntimeError(f"{business} was not connected: {arrived.page} ({arrived.status})")
        return
    grant_id, sent_at = new_grant_id(), int(time.time())
    consent = stage.control("POST", "consents", {"business": business})["consents"][0]
    tokens = TokenPair("access-token-of-an-invented-business", consent["refresh_token"])
    schedule = Schedule()
    rotated = StoredTokens(
        sealed=stage.sealer.seal(tokens, stage.sealer.data_key(), owner=business, grant_id=grant_id),
        requested_at=sent_at,
        access_expires_at=sent_at + 3_600,
        deadline=schedule.deadline(sent_at),
        refresh_at=schedule.refresh_at(sent_at),
    )
    stage.store(business, grant_id, rotated)
