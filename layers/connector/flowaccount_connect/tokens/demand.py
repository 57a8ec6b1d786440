"""Turns: of many callers that find the same expired token, one asks for a refresh.

A thousand callers may find the same token expired at the same moment. One conditional write gives one of them the turn
to invoke `refresh`; the others wait and read. The turn is a short-lived item of its own and never changes the
connection. The rotation needs no lock (see `rotation`). So a lost turn costs at most one invocation too many or too
few.
"""

import contextlib
from dataclasses import dataclass

from flowaccount_connect.domain.ids import new_attempt_id
from flowaccount_connect.storage.dynamodb import Client, ConditionRefused, Item, attributes, call, number, text, write

FORCED_EVERY = 60
"""In so much time, in seconds, a caller can force one refresh of a token that has not expired yet."""

_KEPT = 3_600
"""Seconds after which the table may delete a turn. What was answered holds no longer, either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One caller's turn to ask for a refresh. Times in epoch seconds."""

    id: str
    until: int
    """No other caller asks before this time."""
    answered: bool = False
    """Whether the refresh ended without a new token. Before `until` another one would not help."""
    forced_at: int = 0

    def over(self, now: int) -> bool:
        """Whether other callers need not wait for this turn any longer."""
        return self.answered or self.until <= now


class Demand:
    """Turns to ask for a refresh, in one table. `client` is a DynamoDB client."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    def take(self, connection_id: str, generation: int, *, now: int, seconds: int, forced: bool) -> tuple[Turn, bool]:
        """The turn to ask for a refresh of `generation`, and whether this caller has it.

        The caller gets it unless another turn for this generation or a later one still runs. If `forced`, a refresh
        that was forced within the last minute also prevents it. A stored time that is too far ahead prevents nothing:
        more than two turns (an hour if the turn was answered), or a minute for what was forced.
        `seconds` is the length of a turn. Raises `StoreUnavailable`.
        """
        mine = Turn(id=new_attempt_id(), until=now + seconds, forced_at=now if forced else 0)
        condition = (
            "NOT (generation >= :generation AND turn_until > :now AND "
            "(turn_until <= :soon OR (attribute_exists(answered) AND turn_until <= :ahead)))"
        )
        update = "SET turn_id = :turn, turn_until = :until, generation = :generation, #ttl = :ttl"
        if forced:
            condition += " AND NOT (forced_at > :forced_before AND forced_at <= :minute)"
            update += ", forced_at = :now"
        try:
            self._update(
                connection_id,
                f"{update} REMOVE answered",
                condition,
                turn=mine.id,
                until=mine.until,
                generation=generation,
                now=now,
                soon=now + 2 * seconds,
                ahead=now + _KEPT,
                minute=now + FORCED_EVERY if forced else None,
                ttl=now + _KEPT,
                forced_before=now - FORCED_EVERY if forced else None,
            )
        except ConditionRefused as refused:
            stored = _turn(refused.items[0] or {})
            # If an SDK retry hid the success of the first write, the stored turn is this caller's.
            return stored, stored.id == mine.id
        return mine, True

    def answered(self, connection_id: str, turn: Turn, *, until: int) -> None:
        """Note that the refresh brought no new token, and that no caller should ask again before `until`.

        If another caller has taken the turn meanwhile, nothing changes. Raises `StoreUnavailable`.
        """
        with contextlib.suppress(ConditionRefused):
            self._update(
                connection_id,
                "SET turn_until = :until, answered = :yes",
                "turn_id = :turn",
                turn=turn.id,
                until=until,
                yes=1,
            )

    def _update(self, connection_id: str, update: str, condition: str, **values: str | int | None) -> None:
        key = attributes(pk=f"DEMAND#{connection_id}", sk="DEMAND")
        call(self._client.update_item, **write(self._table, key, update, condition=condition, **values))


def _turn(item: Item) -> Turn:
    return Turn(
        id=text(item, "turn_id") or "",
        until=number(item, "turn_until") or 0,
        answered="answered" in item,
        forced_at=number(item, "forced_at") or 0,
    )
