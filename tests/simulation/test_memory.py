"""The simulation's fast store and item, held against the real ones over the model of DynamoDB, step by step."""

import random
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from flowaccount_connect.domain.connection import Attempt, Connection, Reason, Sealed
from flowaccount_connect.domain.schedule import DUE_SHARDS
from flowaccount_connect.scheduling.due_index import DueIndex
from flowaccount_connect.storage.commits import Commit
from flowaccount_connect.storage.connections import ConnectionStore, Refused, grant_update
from flowaccount_connect.storage.dynamodb import Item, StoreUnavailable, call, n
from flowaccount_connect.storage.shared_item import Changed, Shared, SharedItem
from flowaccount_connect.storage.stored_tokens import StoredTokens
from tests.support.commits import commit_of
from tests.support.dynamodb_model import DynamoDbModel
from tests.unit.tables import Table
from tools.simulation.memory import ItemMemory, Memory, Row, connection_of

IDS = ("N1", "N2", "N3")
STEPS = 1_500


class Both:
    """The same done to both stores, and what came of it compared."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - repeatable
        model: Any = DynamoDbModel()
        self.model = model
        self.real, self.fast = ConnectionStore(model, "table"), Memory()
        self.now = 1_000_000
        self.attempts = 0

    def rotated(self) -> StoredTokens:
        age = self.chance.choice((0, 0, 30))
        sealed = Sealed(f"set {self.chance.random()}".encode(), b"key")
        requested_at = self.now - age
        return StoredTokens(
            sealed=sealed,
            requested_at=requested_at,
            access_expires_at=requested_at + 3_600,
            deadline=requested_at + 1_000,
            refresh_at=requested_at + self.chance.choice((0, 20, 200)),
        )

    def connect(self, name: str) -> None:
        rotated = self.rotated()
        update = grant_update(
            "table",
            Commit(connection_id=name, grant_id="g", attempt_id="callback", environment="sandbox", tokens=rotated),
            now=self.now,
        )
        call(self.model.update_item, **update)
        self.fast.connect(name, "g", "callback", rotated, now=self.now)

    def step(self) -> str:
        """One step at random; the name of what came of it."""
        chance, name = self.chance, self.chance.choice((*IDS, "N4"))
        there = self.real.get(name)
        seen = there.generation if there else 1
        generation = chance.choice((seen, seen, seen, seen - 1))
        held = there.attempt if there else None
        attempt_id = chance.choice((held.id if held else "nobody", held.id if held else "nobody", "another"))
        self.attempts += 1
        mine = Attempt(id=str(self.attempts), started_at=self.now, lease_until=self.now + chance.choice((5, 50)))
        dead = chance.choice((held or mine, mine))
        wanted = chance.choice((None, None, generation))
        refresh_at, in_doubt = self.now + chance.choice((0, 10, 100)), chance.choice((None, self.now))
        reason, retries, rotated = chance.choice(tuple(Reason)), chance.randrange(3), self.rotated()
        grant = chance.choice(("g", "g", "g", "other"))
        self.now += chance.choice((0, 0, 1, 7, 60))
        operations: dict[str, Callable[[Any], Connection]] = {
            "claim": lambda s: s.claim(name, mine, generation=wanted, now=self.now),
            "claim_over": lambda s: s.claim_over(name, mine, dead=dead, generation=generation, now=self.now),
            "commit": lambda s: s.commit(commit_of(name, grant, generation, attempt_id, rotated)),
            "commit_kept": lambda s: s.commit_kept(commit_of(name, grant, generation, attempt_id, rotated)),
            "release": lambda s: s.release(
                name, generation, attempt_id, refresh_at=refresh_at, retries=retries, in_doubt=in_doubt
            ),
            "get": lambda s: s.get(name),
        }
        if chance.random() < 0.1:
            operations = {
                "end": lambda s: s.require_reauthorization(name, generation, attempt_id, reason, now=self.now)
            }
        operation = chance.choice(tuple(operations))
        real, fast = told(operations[operation], self.real), told(operations[operation], self.fast)
        assert fast == real, f"{operation} at {self.now}"
        return f"{operation} {real[0]}"

    def due(self) -> None:
        """The index says the same of what is due."""
        index = DueIndex(Table(model=self.model), "table")
        for shard in range(DUE_SHARDS):
            found, expected = (sorted(source.page(shard, now=self.now).due) for source in (self.fast, index))
            assert found == expected


def told(operation: Callable[[Any], Connection | None], store: Any) -> tuple[str, Connection | None]:
    try:
        found = operation(store)
    except Refused as refused:
        return "refused", connection_of(refused.connection) if refused.connection else None
    return "done", connection_of(found) if found else None


def test_the_fast_store_keeps_the_real_ones_promises() -> None:
    met: set[str] = set()
    for seed in range(3):
        both = Both(seed)
        for name in IDS:
            both.connect(name)
        for number in range(STEPS):
            met.add(both.step())
            if number % 10 == 0:
                both.due()
            if number % 100 == 99:
                # What has ended would stay so; a new store for new connections.
                both = Both(seed * STEPS + number)
                for name in IDS:
                    both.connect(name)
    operations = ("claim", "claim_over", "commit", "commit_kept", "release", "end")
    assert met >= {f"{operation} {outcome}" for operation in operations for outcome in ("done", "refused")}


def test_a_row_has_everything_that_a_connection_has() -> None:
    assert {each.name for each in fields(Connection)} <= {each.name for each in fields(Row)}


def test_what_was_shown_does_not_change_with_what_is_written_later() -> None:
    both = Both(1)
    both.connect("N1")
    before = both.fast.get("N1")
    assert before is not None
    both.fast.commit(commit_of("N1", "g", 1, "a", both.rotated()))
    assert before.generation == 1


def test_a_table_that_cannot_be_reached_is_said_and_changes_nothing() -> None:
    there = True
    store = Memory(lambda: there)
    rotated = Both(1).rotated()
    store.connect("N1", "g", "callback", rotated, now=0)
    there = False
    with pytest.raises(StoreUnavailable):
        store.commit(commit_of("N1", "g", 1, "a", rotated))
    with pytest.raises(StoreUnavailable):
        store.page(0, now=0)
    with pytest.raises(StoreUnavailable):
        ItemMemory(lambda: there).get()
    there = True
    found = store.get("N1")
    assert found is not None
    assert found.generation == 1


def test_the_fast_item_keeps_the_real_ones_promises() -> None:
    chance = random.Random(1)  # noqa: S311 - repeatable
    model: Any = DynamoDbModel()
    items: tuple[Shared, ...] = (SharedItem(model, "table", "RATE"), ItemMemory())
    known: list[list[Item]] = [[{}], [{}]]
    """What was seen of each so far."""
    outcomes = set()
    for number in range(500):
        at = chance.randrange(-4, 0)
        answers = []
        for item, seen in zip(items, known, strict=True):
            try:
                found, outcome = item.replace(seen[max(at, -len(seen))], {"value": n(number)}), "done"
            except Changed as changed:
                found, outcome = changed.item, "changed"
            seen.append(found)
            answers.append((outcome, found.get("value"), item.get()["value"]))
        assert answers[0] == answers[1]
        outcomes.add(answers[0][0])
    assert outcomes == {"done", "changed"}
