"""The proof that the accounting bites: a stored connection is set back to what it was, and that must be noticed."""

import time

from tools.campaign.accounting import Account, Fate, account
from tools.campaign.stage import Stage
from tools.campaign.waves import Campaign


def sabotage(stage: Stage, campaign: Campaign) -> Account:
    """After a campaign: one connection is refreshed, then its item overwritten with the one of before.

    Raises `RuntimeError` if no connection could be refreshed.
    """
    for business, item in sorted(stage.items().items()):
        if item["status"]["S"] != "active":
            continue
        stage.let_fall_due(business)
        if stage.invoke(business) == "refreshed":
            stage.table.put_item(TableName=stage.up.table, Item=item)
            time.sleep(0.1)
            return account(campaign.collect())
    raise RuntimeError("no connection was left to be tampered with")


def is_noticed(found: Account) -> bool:
    """Whether the one token that was taken away is unexplained, and the one that was put back is seen to be dead."""
    return found.count(Fate.UNEXPLAINED) == 1 and len(found.breaches) == 1
