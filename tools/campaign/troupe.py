"""The connections of a campaign. They are connected as the product does it, and connected again after a loss."""

import time

from flowaccount_connect.domain.ids import new_grant_id
from flowaccount_connect.domain.schedule import Schedule
from flowaccount_connect.storage.sealing import TokenPair
from flowaccount_connect.storage.stored_tokens import StoredTokens
from tools.campaign.stage import Stage
from tools.local.visit import HttpVisitor
from tools.simulator.people import USERS

OWNERS = {business: user.username for user in USERS.values() for business in user.businesses}
"""By demo business: the user who can connect it through the simulator's pages."""


def businesses(count: int) -> list[str]:
    """`count` businesses: the demo businesses, then invented ones."""
    demo = sorted(OWNERS)
    return [*demo, *(f"N{2_000_001 + number}" for number in range(count - len(demo)))][:count]


def connect(stage: Stage, business: str) -> None:
    """Make a new consent for a business, and store its connection. Raises `RuntimeError` if that fails.

    A demo business goes through the simulator's pages and the deployed `authorize` and `callback`. The pages offer no
    other business. So the consent of an invented one comes from the simulator's control API, and the product's own
    `Sealer` and `grant_update` seal and write it.
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
