"""The stack's own health: whether the token endpoint is well, and how fast the stack sends. Two items of its table."""

import time
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

CAUSES = {
    "configuration": "FlowAccount refuses the stack's configuration",
    "doubt": "FlowAccount's answers are missing or cannot be read",
    "refusal": "FlowAccount refuses the tokens of several connections",
}


@dataclass(frozen=True)
class Facts:
    """What the page shows of the stack. `problem` says why nothing is known."""

    unwell_since: int | None = None
    cause: str = ""
    paused_until: int | None = None
    slowed_at: int | None = None
    problem: str = ""


def look(client: Any, table: str) -> Facts:
    """Read both items, by `dynamodb:GetItem`. Never raises: what AWS does not allow or answer is the `problem`."""
    try:
        health, rate = (_item(client, table, name) for name in ("HEALTH", "RATE"))
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in ("AccessDeniedException", "AccessDenied"):
            return Facts(problem="Your role may not read it (dynamodb:GetItem on the stack's table).")
        return Facts(problem=f"DynamoDB answers {code}.")
    except BotoCoreError as error:
        return Facts(problem=f"DynamoDB cannot be asked ({type(error).__name__}).")
    now = time.time()
    paused, slowed = (_number(rate, name) // 1_000_000 for name in ("paused_until", "slowed_at"))
    return Facts(
        unwell_since=_number(health, "unwell_since") or None,
        cause=CAUSES.get(health.get("cause", {}).get("S", ""), "for an unknown cause"),
        paused_until=paused if paused > now else None,
        slowed_at=slowed if _number(rate, "slowdown") > 1_000 and slowed > now - 3_600 else None,
    )


def _item(client: Any, table: str, name: str) -> dict[str, dict[str, str]]:
    key = {"pk": {"S": name}, "sk": {"S": "token-endpoint"}}
    item: dict[str, dict[str, str]] = client.get_item(TableName=table, Key=key).get("Item", {})
    return item


def _number(item: dict[str, dict[str, str]], name: str) -> int:
    value = item.get(name, {}).get("N", "0")
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 20 else 0
