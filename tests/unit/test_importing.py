"""Imports: proved by the rotation protocol, whatever breaks on the way; what was there before stays."""

from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from flowaccount_connect.domain.connection import Attempt, Connection, Sealed, Status
from flowaccount_connect.oauth.token_answer import Answer, Outcome
from flowaccount_connect.rotation.outcomes import RefreshOutcome
from flowaccount_connect.rotation.pending_commits import PendingCommit, PendingCommits, PendingOutcome, Target
from flowaccount_connect.rotation.ports import Health
from flowaccount_connect.rotation.protocol import ReplayPolicy, Rotation
from flowaccount_connect.storage.imports import COOLING, ImportStore
from flowaccount_connect.storage.sealing import TokenPair
from flowaccount_connect.storage.stored_tokens import StoredTokens
from tests.support.commits import commit_of
from tests.unit.fakes import CONNECTION, FREE, NOW, KnownHealth, tokens
from tests.unit.tables import Fault, client_error
from tests.unit.worlds import World

MINE = "0199ffff-1111-7abc-8def-0123456789ab"
GIVEN = "given"
DOWN = Fault(client_error("InternalServerError"))
UNACKNOWLEDGED = Fault(client_error("InternalServerError"), written=True)
REJECTED = Answer(Outcome.REJECTED, error="invalid_grant", status=400)
SILENT = Answer(Outcome.IN_DOUBT)


ROTATED = StoredTokens(
    sealed=Sealed(b"", b""),
    requested_at=NOW,
    access_expires_at=NOW + 3_600,
    deadline=NOW + 86_400,
    refresh_at=NOW + 21_600,
)


class Killed(BaseException):
    """The worker is gone."""


@dataclass
class Imports:
    """A world with an import of one connection in it, that had not been there before unless said otherwise."""

    world: World = field(default_factory=World)
    attempts: int = 0
    health: Health = field(default_factory=KnownHealth)

    def __post_init__(self) -> None:
        self.store = ImportStore(self.world.table, "table", "sandbox", clock=self.world.clock)

    def begin(self, grant_id: str = MINE, token: str = GIVEN) -> None:
        """Store the given token."""
        now = int(self.world.clock())
        sealer = self.world.sealer
        sealed = sealer.seal(TokenPair("", token), sealer.data_key(), owner=CONNECTION, grant_id=grant_id)
        self.store.begin(CONNECTION, grant_id, sealed, deadline=now + 86_400, now=now)

    def prove(self, *answers: Answer, policy: ReplayPolicy = "allowed", seconds: float = 45) -> RefreshOutcome:
        """What a refresh worker does with it."""
        self.attempts += 1
        self.world.endpoint.answers[:] = answers
        rotation: Rotation = replace(
            self.world.rotation(policy),
            store=self.store,
            target=Target.IMPORT,
            health=self.health,
            attempt_id=lambda: f"attempt-{self.attempts}",
        )
        return rotation.refresh(CONNECTION, permit=FREE, remaining=self.world.clock.remaining(seconds)).outcome

    def later(self, seconds: int = 200) -> None:
        """Past the lease."""
        self.world.clock.now += seconds

    def stored(self) -> Connection:
        """The import as it is stored."""
        found = self.store.get(CONNECTION)
        assert found is not None
        return found

    def here(self) -> Connection | None:
        """The connection."""
        return self.world.store.get(CONNECTION)

    def sent(self) -> list[str]:
        """The refresh tokens that were sent."""
        return [token for token, _ in self.world.endpoint.posts]

    def apply_pending(self) -> PendingOutcome:
        """Apply the first pending commit."""
        message = self.world.sqs.sent[0]["MessageBody"]
        return PendingCommits(self.world.table, "table").apply(message, now=int(self.world.clock()))[0]

    def events(self) -> list[str]:
        """The reasons of the events."""
        return [item["reason"] for (pk, _), item in self.world.table.items.items() if pk.startswith("EVENT#")]


@pytest.fixture
def imports() -> Imports:
    made = Imports()
    made.begin()
    return made


@pytest.fixture
def dead() -> Imports:
    """The connection needs a new consent, and its import is stored."""
    made = Imports()
    made.world.connect()
    made.world.end("rejected")
    made.begin()
    return made


def proved(imports: Imports, opened: tuple[str, str] = ("access-2", "refresh-2"), generation: int = 1) -> bool:
    there = imports.here()
    return (
        there is not None
        and there.status is Status.ACTIVE
        and there.generation == generation
        and there.refresh_at is not None
        and imports.world.opened() == opened
        and imports.store.get(CONNECTION) is None
    )


# The way it goes ---------------------------------------------------------------------------------------------------


def test_the_token_is_stored_sealed_before_anything_is_sent(imports: Imports) -> None:
    item = imports.world.table.items[f"CONNECTION#{CONNECTION}", "IMPORT"]
    assert (item["generation"], item["refresh_at"], item["due_shard"]) == (0, NOW, item["listed_as"][-1])
    assert GIVEN.encode() not in item["tokens"]
    assert imports.sent() == []
    assert imports.here() is None


def test_a_proved_import_is_a_connection(imports: Imports) -> None:
    assert imports.prove(tokens()) is RefreshOutcome.REFRESHED
    assert proved(imports)
    assert imports.sent() == [GIVEN]
    there = imports.world.connection()
    assert (there.grant_id, there.committed_by, there.deadline) == (MINE, "attempt-1", NOW + 86_400)


def test_a_proved_import_revives_a_dead_connection_and_its_generation_goes_on(dead: Imports) -> None:
    dead.world.change(tenant="tenant-7")
    assert dead.prove(tokens()) is RefreshOutcome.REFRESHED
    assert proved(dead, generation=2)
    there = dead.world.connection()
    assert (there.tenant, there.reason) == ("tenant-7", None)


def test_a_proved_import_revives_a_disconnected_connection(imports: Imports) -> None:
    imports.world.connect()
    imports.world.disconnect()
    imports.prove(tokens())
    assert proved(imports, generation=3)


def test_an_answer_without_a_new_refresh_token_keeps_the_given_one(imports: Imports) -> None:
    assert imports.prove(tokens(refresh=None)) is RefreshOutcome.KEPT
    assert proved(imports, ("access-2", GIVEN))


# What is refused ---------------------------------------------------------------------------------------------------


REFUSALS = [
    (REJECTED, "rejected"),
    (Answer(Outcome.WRONG_CONNECTION, tokens(support_code="N9").tokens, status=200), "wrong_connection"),
    (tokens(support_code=None), "wrong_connection"),
]


@pytest.mark.parametrize(("answer", "reason"), REFUSALS)
def test_a_refusal_leaves_a_dead_connection_as_it_was(dead: Imports, answer: Answer, reason: str) -> None:
    before = dead.world.table.item("CONNECTION", CONNECTION)
    assert dead.prove(answer) is RefreshOutcome.IMPORT_REFUSED
    assert dead.world.table.item("CONNECTION", CONNECTION) == before
    assert dead.events() == [reason]
    assert not any("N9" in pk for pk, _ in dead.world.table.items)


@pytest.mark.parametrize(("answer", "reason"), REFUSALS)
def test_a_refusal_leaves_an_unknown_connection_unknown_and_drops_the_token(
    imports: Imports, answer: Answer, reason: str
) -> None:
    imports.prove(answer)
    assert imports.here() is None
    over = imports.world.table.items[f"CONNECTION#{CONNECTION}", "IMPORT"]
    assert (over["reason"], over["ttl"]) == (reason, NOW + 30 * 86_400)
    assert not {"tokens", "data_key", "due_shard", "refresh_at", "listed_as", "attempt_id"} & over.keys()


def test_while_the_endpoint_is_unwell_no_import_is_refused(imports: Imports) -> None:
    imports.health = KnownHealth(well=False)
    assert imports.prove(REJECTED) is RefreshOutcome.REFUSED
    assert imports.events() == []
    imported = imports.stored()
    assert (imported.status, imported.refresh_at) == (Status.ACTIVE, NOW + 600)


# Whatever breaks on the way ----------------------------------------------------------------------------------------


def killed() -> None:
    raise Killed


def test_a_worker_killed_after_the_post_is_doubt_and_the_schedule_goes_on(imports: Imports) -> None:
    imports.world.endpoint.on_post = killed
    with pytest.raises(Killed):
        imports.prove(tokens())
    imports.world.endpoint.on_post = lambda: None
    assert imports.prove(tokens()) is RefreshOutcome.IN_FLIGHT
    imports.later()
    assert imports.prove(tokens()) is RefreshOutcome.REFRESHED
    assert imports.sent() == [GIVEN, GIVEN]
    assert proved(imports)


def test_a_kept_token_learns_from_its_refused_write_that_another_attempt_holds_the_import(imports: Imports) -> None:
    def claimed_over() -> None:
        held = imports.stored()
        assert held.attempt is not None
        late = held.attempt.lease_until
        another = Attempt(id="another", started_at=late, lease_until=late + 180)
        imports.store.claim_over(CONNECTION, another, dead=held.attempt, generation=0, now=late)

    imports.world.endpoint.on_post = claimed_over
    assert imports.prove(tokens(refresh=None)) is RefreshOutcome.IN_FLIGHT
    assert imports.here() is None


def test_under_policy_never_a_killed_worker_ends_the_import(imports: Imports) -> None:
    imports.world.endpoint.on_post = killed
    with pytest.raises(Killed):
        imports.prove(tokens(), policy="never")
    imports.later()
    assert imports.prove(tokens(), policy="never") is RefreshOutcome.IMPORT_REFUSED
    assert imports.sent() == [GIVEN]
    assert imports.events() == ["in_doubt"]


def test_no_usable_answer_is_doubt_that_a_later_refusal_settles(dead: Imports) -> None:
    before = dead.world.table.item("CONNECTION", CONNECTION)
    assert dead.prove(SILENT) is RefreshOutcome.IN_DOUBT
    imported = dead.stored()
    assert imported.refresh_at is not None
    dead.world.clock.now = imported.refresh_at
    assert dead.prove(REJECTED) is RefreshOutcome.IMPORT_REFUSED
    # The token may never have been good: no rotation of a connection is lost.
    assert dead.events() == ["rejected"]
    assert dead.world.table.item("CONNECTION", CONNECTION) == before


def test_a_given_token_that_is_kept_stays_in_doubt(imports: Imports) -> None:
    """Its first request may still arrive and spend it."""
    assert imports.prove(SILENT) is RefreshOutcome.IN_DOUBT
    imported = imports.stored()
    assert imported.refresh_at is not None
    imports.world.clock.now = imported.refresh_at
    assert imports.prove(tokens(refresh=None)) is RefreshOutcome.KEPT
    assert imports.world.connection().in_doubt == NOW


@pytest.mark.parametrize("fault", [DOWN, UNACKNOWLEDGED], ids=["not written", "not acknowledged"])
@pytest.mark.parametrize("answer", [tokens(), REJECTED, SILENT, tokens(refresh=None)], ids=range(4))
@pytest.mark.parametrize("times", [1, 2])
def test_a_table_that_falters_after_the_post_costs_nothing(
    imports: Imports, fault: Fault, answer: Answer, times: int
) -> None:
    table = imports.world.table

    def falters() -> None:
        for operation in ("transact_write_items", "update_item"):
            table.faults[operation].extend([fault] * times)

    imports.world.endpoint.on_post = falters
    imports.prove(answer)
    table.faults.clear()
    if answer.outcome is Outcome.TOKENS:
        assert answer.tokens is not None
        assert proved(imports, ("access-2", answer.tokens.refresh_token or GIVEN))
    elif answer is REJECTED:
        assert imports.events() == ["rejected"]
    else:
        imported = imports.stored()
        assert (imported.attempt, imported.in_doubt) == (None, NOW)


def test_a_set_that_the_table_did_not_take_waits_and_the_token_is_not_sent_again(imports: Imports) -> None:
    imports.world.endpoint.on_post = lambda: imports.world.table.faults["transact_write_items"].extend([DOWN] * 50)
    assert imports.prove(tokens()) is RefreshOutcome.PENDING
    imports.world.table.faults.clear()
    body = imports.world.sqs.sent[0]["MessageBody"]
    assert "refresh-2" not in body
    assert imports.apply_pending() is PendingOutcome.APPLIED
    assert proved(imports)
    assert imports.apply_pending() is PendingOutcome.APPLIED_BEFORE
    imports.later()
    assert imports.prove(tokens("access-3", "refresh-3")) is RefreshOutcome.UNKNOWN
    assert imports.sent() == [GIVEN]


def test_a_pending_set_comes_through_although_the_import_was_given_up(imports: Imports) -> None:
    imports.world.endpoint.on_post = lambda: imports.world.table.faults["transact_write_items"].extend([DOWN] * 50)
    imports.prove(tokens())
    imports.world.table.faults.clear()
    imports.world.endpoint.on_post = lambda: None
    imports.later()
    assert imports.prove(REJECTED) is RefreshOutcome.IMPORT_REFUSED
    assert imports.apply_pending() is PendingOutcome.APPLIED
    assert proved(imports)


def test_a_late_success_comes_through_although_another_import_follows(imports: Imports) -> None:
    imports.prove(REJECTED)
    imports.later(COOLING)
    imports.begin("019affff", "another")
    late = pending(imports, MINE, "access-late", "refresh-late")
    outcome, _ = PendingCommits(imports.world.table, "table").apply(late, now=NOW)
    assert outcome is PendingOutcome.APPLIED
    assert imports.world.opened() == ("access-late", "refresh-late")
    assert imports.store.get(CONNECTION) is not None
    imports.prove(tokens())
    assert proved(imports, generation=2)


def test_of_two_answers_to_the_given_token_the_later_wins(imports: Imports) -> None:
    first = pending(imports, MINE, "access-1", "refresh-1", at=NOW)
    second = pending(imports, MINE, "access-2", "refresh-2", at=NOW + 200)
    apply = PendingCommits(imports.world.table, "table").apply
    assert [apply(body, now=NOW)[0] for body in (first, second, first)] == [
        PendingOutcome.APPLIED,
        PendingOutcome.APPLIED,
        PendingOutcome.TOO_LATE,
    ]
    assert imports.world.opened() == ("access-2", "refresh-2")


def pending(imports: Imports, grant_id: str, access: str, refresh: str, at: int = NOW) -> str:
    """A message of the salvage queue with the set of an import."""
    sealer = imports.world.sealer
    sealed = sealer.seal(TokenPair(access, refresh), sealer.data_key(), owner=CONNECTION, grant_id=grant_id)
    rotated = replace(ROTATED, sealed=sealed, requested_at=at)
    commit = commit_of(CONNECTION, grant_id, 0, f"late {at}", rotated)
    imports.world.queue.send(PendingCommit(target=Target.IMPORT, commit=commit))
    return str(imports.world.sqs.sent.pop()["MessageBody"])


# Who else is at it -------------------------------------------------------------------------------------------------


def test_a_user_who_connects_meanwhile_wins_and_the_import_is_over(dead: Imports) -> None:
    dead.world.endpoint.on_post = partial(dead.world.connect, grant_id="ffff")
    assert dead.prove(tokens()) is RefreshOutcome.SUPERSEDED
    assert dead.world.opened() == ("access-1", "refresh-1")
    assert dead.store.get(CONNECTION) is None


def test_a_disconnect_ends_the_import_and_its_answer_revives_nothing(imports: Imports) -> None:
    def disconnects() -> None:
        imported = imports.stored()
        imports.store.cancel(imported, None, now=NOW)

    imports.world.endpoint.on_post = disconnects
    assert imports.prove(tokens()) is RefreshOutcome.NOT_ACTIVE
    there = imports.world.connection()
    assert (there.status, there.sealed, there.generation) == (Status.DISCONNECTED, None, 1)
    late = pending(imports, MINE, "access-late", "refresh-late", at=NOW + 500)
    assert PendingCommits(imports.world.table, "table").apply(late, now=NOW)[0] is PendingOutcome.TOO_LATE
