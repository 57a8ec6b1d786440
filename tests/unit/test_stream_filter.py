"""The filter between the stream and `publish`: what it keeps back tells nothing, whatever is written in what order.

Publishing decides by the two images of an item, and so does the filter; they are two rules in two places, and these
tests are what keeps them together.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowaccount_connect.domain.connection import Attempt, Connection, Reason, Sealed
from flowaccount_connect.publishing.publisher import Publisher, read_record
from flowaccount_connect.runtime.observability import logger
from flowaccount_connect.storage.commits import Commit
from flowaccount_connect.storage.connections import (
    ConnectionStore,
    Refused,
    disconnect_write,
    grant_update,
    key_of,
    put_absent,
    restored,
)
from flowaccount_connect.storage.dynamodb import ConditionRefused, call
from flowaccount_connect.storage.history import History
from flowaccount_connect.storage.imports import ImportStore, NotBegun
from tests.support.commits import commit_of, rotated
from tests.unit.fakes import CONNECTION, NOW, Clock, FakeEvents
from tests.unit.streams import StreamingTable, is_of_interest, patterns
from tests.unit.tables import Table

LIMIT = 5
"""As many patterns as AWS lets a mapping have without being asked."""


@dataclass
class Life:
    """One connection, its imports, and every write that there is of either."""

    id: str = CONNECTION
    clock: Clock = field(default_factory=Clock)
    shared: StreamingTable | None = None
    """The table of another life; `None`: this one has a table of its own."""

    def __post_init__(self) -> None:
        self.table = self.shared or StreamingTable(self.clock)
        self.store = ConnectionStore(self.table, "table")
        self.imports = ImportStore(self.table, "table", "sandbox", clock=self.clock)
        self.count = 0

    def happen(self, what: str) -> None:
        """One write, where it can be made."""
        self.clock.now += 1
        self.count += 1
        with suppress(Refused, ConditionRefused, NotBegun):
            WRITES[what](self)

    @property
    def now(self) -> int:
        return int(self.clock())

    @property
    def name(self) -> str:
        return f"{self.count:04}"

    def of(self, store: ConnectionStore) -> Connection:
        """What is there; where nothing is, nothing can be written by this write."""
        there = store.get(self.id)
        if there is None:
            raise Refused(None)
        return there

    def attempt(self, lease: int = 180) -> Attempt:
        return Attempt(id=self.name, started_at=self.now, lease_until=self.now + lease)

    def claim(self, store: ConnectionStore) -> None:
        there = self.of(store)
        store.claim(self.id, self.attempt(0), generation=there.generation, now=NOW + 10**9)

    def claim_over(self, store: ConnectionStore) -> None:
        there = self.of(store)
        if there.attempt is not None:
            generation = there.generation
            store.claim_over(self.id, self.attempt(0), dead=there.attempt, generation=generation, now=self.now)

    def commit(self, store: ConnectionStore) -> None:
        there = self.of(store)
        holder = there.attempt.id if there.attempt is not None else "late"
        store.commit(commit_of(self.id, there.grant_id, there.generation, holder, rotated("t", self.now)))

    def commit_kept(self, store: ConnectionStore) -> None:
        there = self.of(store)
        if there.attempt is not None:
            kept = rotated("t", self.now)
            store.commit_kept(commit_of(self.id, there.grant_id, there.generation, there.attempt.id, kept))

    def fenced(self, store: ConnectionStore, write: str, *arguments: Any, **named: Any) -> None:
        """A write that only the holder of the claim may make."""
        there = self.of(store)
        if there.attempt is not None:
            getattr(store, write)(self.id, there.generation, there.attempt.id, *arguments, **named)

    def release(
        self,
        store: ConnectionStore,
        *,
        doubt: bool = False,
        failed: bool = True,
        refused: bool = False,
        alone: bool = False,
    ) -> None:
        retries = (self.of(store).retries or 0) + failed
        in_doubt = self.now if doubt else None
        self.fenced(
            store,
            "release",
            refresh_at=self.now,
            retries=retries,
            in_doubt=in_doubt,
            refused_at=self.now if refused else None,
            refused_alone=self.now if alone else None,
        )

    def consent(self, tenant: str | None = None) -> None:
        update = grant_update(
            "table",
            Commit(
                connection_id=self.id,
                grant_id=self.name,
                attempt_id="consent",
                environment="sandbox",
                tokens=rotated("t", self.now),
                tenant=tenant,
            ),
            now=self.now,
        )
        self.transact({"Update": update})

    def bury(self) -> None:
        there = self.store.get(self.id)
        seen = there.grant_id if there is not None else None
        update = disconnect_write("table", self.id, seen=seen, environment="sandbox", now=self.now)
        self.transact({"Update": update})

    def transact(self, write: dict[str, Any]) -> None:
        call(self.table.transact_write_items, TransactItems=[write])

    def at_risk(self) -> None:
        there = self.of(self.store)
        self.store.mark_at_risk(
            self.id, generation=there.generation, deadline=there.deadline, near_since=self.now - 1, now=self.now
        )

    def import_(self) -> None:
        self.imports.begin(self.id, self.name, Sealed(b"t", b"k"), deadline=self.now + 9, now=self.now)

    def cancel(self) -> None:
        self.imports.cancel(self.of(self.imports), self.store.get(self.id), now=self.now)

    def restore(self) -> None:
        """What was in a backup comes back into the place of what is gone."""
        answer = self.table.get_item(TableName="table", Key=key_of(self.id), ConsistentRead=True)
        item = answer.get("Item")
        if item is not None:
            self.table.delete("CONNECTION", self.id)
            put_absent(self.table, "table", restored(item, restored_to=NOW, now=self.now))


WRITES: dict[str, Callable[[Life], object]] = {
    "consent": Life.consent,
    "consent for a tenant": lambda life: life.consent("shop-7"),
    "claim": lambda life: life.claim(life.store),
    "claim over": lambda life: life.claim_over(life.store),
    "commit": lambda life: life.commit(life.store),
    "commit kept": lambda life: life.commit_kept(life.store),
    "release": lambda life: life.release(life.store, failed=False),
    "fail": lambda life: life.release(life.store),
    "doubt": lambda life: life.release(life.store, doubt=True),
    "refused": lambda life: life.fenced(life.store, "require_reauthorization", Reason.REJECTED, now=life.now),
    "refused once": lambda life: life.release(life.store, refused=True),
    "refused alone": lambda life: life.release(life.store, alone=True),
    "at risk": Life.at_risk,
    "disconnect": lambda life: life.store.disconnect(life.id, life.of(life.store).grant_id, now=life.now),
    "bury": Life.bury,
    "time to live": lambda life: life.table.delete("CONNECTION", life.id),
    "restore": Life.restore,
    "import": Life.import_,
    "import: claim": lambda life: life.claim(life.imports),
    "import: claim over": lambda life: life.claim_over(life.imports),
    "import: commit": lambda life: life.commit(life.imports),
    "import: commit kept": lambda life: life.commit_kept(life.imports),
    "import: fail": lambda life: life.release(life.imports),
    "import: doubt": lambda life: life.release(life.imports, doubt=True),
    "import: refused": lambda life: life.fenced(life.imports, "require_reauthorization", Reason.REJECTED, now=life.now),
    "import: cancel": Life.cancel,
    "import: time to live": lambda life: life.transact(
        {"Delete": {"TableName": "table", "Key": key_of(life.id, "IMPORT")}}
    ),
}
"""Every write of a connection or an import that the product makes."""


def told(life: Life) -> Iterator[tuple[dict[str, Any], bool, bool]]:
    """Each record of a connection, an import or an event, whether it passes, and whether it tells anything."""
    teller = Publisher(
        history=History(Table(), "table"), bus=FakeEvents(), bus_name="bus", environment="sandbox", log=logger
    )
    for record in life.table.records:
        if record["dynamodb"]["Keys"]["sk"]["S"] in ("CONNECTION", "IMPORT", "EVENT"):
            yield record, is_of_interest(record), bool(teller.entries(read_record(record)))


@given(st.lists(st.sampled_from(sorted(WRITES)), min_size=1, max_size=25))
def test_what_is_kept_back_tells_nothing_whatever_happens_in_whatever_order(happened: list[str]) -> None:
    life = Life()
    for what in ("consent", *happened):
        life.happen(what)
    for record, passes, tells in told(life):
        assert passes or not tells, record


@pytest.mark.parametrize("first", WRITES)
def test_what_is_kept_back_tells_nothing_after_any_two_writes_in_a_claim(first: str) -> None:
    for then in WRITES:
        life = Life()
        for what in ("consent", "claim", first, then, "claim", then):
            life.happen(what)
        assert all(passes or not tells for _, passes, tells in told(life)), then


@pytest.mark.parametrize("what", WRITES)
def test_every_write_is_really_made_by_these_tests(what: str) -> None:
    """One that is always refused would prove nothing."""
    life = Life()
    for before in ("import", "import: claim") if what.startswith("import") else ("consent", "claim"):
        if before != what:
            life.happen(before)
    count = len(life.table.records)
    life.happen(what)
    assert len(life.table.records) > count


def test_histories_counts_and_attempts_are_not_read_back_in() -> None:
    for kind in ("HISTORY", "COUNT", "ATTEMPT", "LINK", "TENANT", "RATE", "HEALTH"):
        image = {"pk": {"S": kind}, "sk": {"S": kind}}
        assert not is_of_interest({"dynamodb": {"Keys": image, "NewImage": image}})
        assert not is_of_interest({"dynamodb": {"Keys": image, "NewImage": image, "OldImage": image}})


def test_the_patterns_are_such_as_aws_takes() -> None:
    """Five, about the key `dynamodb` alone, and whether something exists is asked of leaves alone."""

    def leaves(name: str, pattern: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(pattern, list):
            yield from ((name, one) for one in pattern)
        else:
            for inner, below in pattern.items():
                yield from leaves(inner, below)

    assert len(patterns()) <= LIMIT
    for pattern in patterns():
        assert set(pattern) == {"dynamodb"}
        assert {name for name, _ in leaves("", pattern)} <= {"S", "N"}
