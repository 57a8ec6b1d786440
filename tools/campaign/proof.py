"""Proves that the accounting notices a loss: a stored connection is set back to an earlier state on purpose."""

import time

from tools.campaign.accounting import Account, Fate, account
from tools.campaign.stage import Stage
from tools.campaign.waves import Campaign


def sabotage(stage: Stage, campaign: Campaign) -> Account:
    """After a campaign: refreshes one connection, then overwrites its item with the earlier one.

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
    raise RuntimeError("no connection could be refreshed, so none can be set back")


def is_noticed(found: Account) -> bool:
    """Whether the removed token is unexplained, and the token that was put back is found to be dead."""
    return found.count(Fate.UNEXPLAINED) == 1 and len(found.breaches) == 1
