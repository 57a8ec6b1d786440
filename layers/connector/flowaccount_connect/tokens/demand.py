"""One caller of many asks for a refresh: a short-lived item of its own in the table says who, and since when.

A thousand callers may find the same token expired in the same moment. One conditional write lets one of them invoke
`refresh`; the others wait and read. It is no lock of the rotation, which needs none (see `rotation`): where it fails,
the worst is an invocation too many or one too few. It never touches the connection itself.
"""

import contextlib
from dataclasses import dataclass

from flowaccount_connect.domain.ids import new_attempt_id
from flowaccount_connect.storage.dynamodb import Client, ConditionRefused, Item, call, n, number, s, text

FORCED_EVERY = 60
"""A refresh of a token that looks good can be forced once in so many seconds."""

_KEPT = 3_600
"""Seconds after which the table may forget it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Somebody's turn to ask for a refresh. Times in epoch seconds."""

    id: str
    until: int
    """Until when nobody else asks."""
    answered: bool = False
    """Whether the answer is there already: no new token, and until then there is no use in asking again."""
    forced_at: int = 0

    def over(self, now: int) -> bool:
        """Whether waiting for it is of no use."""
        return self.answered or self.until <= now


class Demand:
    """Turns to ask for a refresh, in one table. `client` is a DynamoDB client."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    def take(self, connection_id: str, generation: int, *, now: int, seconds: int, forced: bool) -> tuple[Turn, bool]:
        """The turn to ask for a refresh of `generation`, and whether it is the caller's.

        It is while nobody has asked for as new a generation and may still be at it, and, if `forced`, nobody has
        forced one within a minute. Raises `StoreUnavailable`.
        """
        mine = Turn(id=new_attempt_id(), until=now + seconds, forced_at=now if forced else 0)
        condition = "(attribute_not_exists(pk) OR generation < :generation OR turn_until <= :now)"
        update = "SET turn_id = :turn, turn_until = :until, generation = :generation, #ttl = :ttl"
        values = {
            ":turn": s(mine.id),
            ":until": n(mine.until),
            ":generation": n(generation),
            ":now": n(now),
            ":ttl": n(now + _KEPT),
        }
        if forced:
            condition += " AND (attribute_not_exists(forced_at) OR forced_at <= :forced_before)"
            update += ", forced_at = :now"
            values[":forced_before"] = n(now - FORCED_EVERY)
        try:
            self._update(
                connection_id,
                UpdateExpression=f"{update} REMOVE answered",
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
                ExpressionAttributeNames={"#ttl": "ttl"},
            )
        except ConditionRefused as refused:
            there = _turn(refused.items[0] or {})
            # An SDK retry may have hidden the success of the first write.
            return there, there.id == mine.id
        return mine, True

    def answered(self, connection_id: str, turn: Turn, *, until: int) -> None:
        """Say that the refresh asked for brought nothing, and that it is of no use to ask again before `until`.

        Raises `StoreUnavailable`; a turn that somebody else has taken meanwhile is left alone.
        """
        with contextlib.suppress(ConditionRefused):
            self._update(
                connection_id,
                UpdateExpression="SET turn_until = :until, answered = :yes",
                ConditionExpression="turn_id = :turn",
                ExpressionAttributeValues={":turn": s(turn.id), ":until": n(until), ":yes": n(1)},
            )

    def _update(self, connection_id: str, **expressions: object) -> None:
        call(
            self._client.update_item,
            TableName=self._table,
            Key={"pk": s(f"DEMAND#{connection_id}"), "sk": s("DEMAND")},
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
            **expressions,
        )


def _turn(item: Item) -> Turn:
    return Turn(
        id=text(item, "turn_id") or "",
        until=number(item, "turn_until") or 0,
        answered="answered" in item,
        forced_at=number(item, "forced_at") or 0,
    )
