"""Many connections at once, written as the callback writes them."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flowaccount_connect.domain.ids import new_grant_id
from flowaccount_connect.storage.sealing import TokenPair
from flowaccount_connect.storage.stored_tokens import StoredTokens
from tools.campaign.stage import Stage


def connect(
    stage: Stage, first: str, count: int, *, access_expires_at: int, deadline: int, refresh_at: int
) -> list[str]:
    """So many businesses, numbered from `first` on, connected a moment ago. The times are seconds from now."""
    issued = stage.control("POST", "consents", {"business": first, "count": count})["consents"]
    key = stage.sealer.data_key()

    def store(consent: dict[str, Any]) -> str:
        business: str = consent["business"]
        grant_id, now = new_grant_id(), int(time.time())
        tokens = TokenPair("the-access-token-of-the-consent", consent["refresh_token"])
        rotated = StoredTokens(
            sealed=stage.sealer.seal(tokens, key, owner=business, grant_id=grant_id),
            requested_at=now,
            access_expires_at=now + access_expires_at,
            deadline=now + deadline,
            refresh_at=now + refresh_at,
        )
        stage.store(business, grant_id, rotated)
        return business

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(store, issued))
