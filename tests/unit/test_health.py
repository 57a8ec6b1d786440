"""The endpoint's health: a bad hour of the server stops the stack, one bad connection never does; it mends itself."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from flowaccount_connect.domain.connection import Reason
from flowaccount_connect.oauth.client_secret import SecretMisconfigured, SecretUnavailable
from flowaccount_connect.oauth.token_answer import Answer, Outcome, TokenSet
from flowaccount_connect.rotation.canary import GOOD_TIME, Canary
from flowaccount_connect.rotation.health import (
    ALL_REFUSED,
    CACHED,
    DOUBTS,
    FAILURES,
    NEXT_ONE,
    PAUSES,
    Change,
    Health,
    Sign,
    sign_of,
)
from flowaccount_connect.rotation.outcomes import Refresh, RefreshOutcome
from flowaccount_connect.rotation.permits import NoPermit
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from flowaccount_connect.storage.shared_item import SharedItem
from tests.unit.fakes import NOW, Clock, FakeEndpoint, FakePermit
from tests.unit.tables import Fault, Table, client_error

KEY = {"pk": {"S": "HEALTH"}, "sk": {"S": "token-endpoint"}}
CAUSES = {
    Sign.DOUBT: (RefreshOutcome.IN_DOUBT, DOUBTS),
    Sign.CONFIGURATION: (RefreshOutcome.CONFIGURATION_ERROR, FAILURES),
    Sign.REFUSAL: (RefreshOutcome.REFUSED, FAILURES),
}
"""For each cause the outcome that it shows in, and how many different connections it takes."""


@dataclass
class Stack:
    """One table, and processes that come upon it. `canary` is what each canary finds."""

    clock: Clock = field(default_factory=Clock)
    table: Table = field(default_factory=Table)
    canary: Sign = Sign.DOUBT
    canaries: list[float] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def process(self) -> "Worker":
        def sing() -> Sign:
            self.canaries.append(self.clock.now)
            return self.canary

        item = SharedItem(self.table, "table", "HEALTH")
        return Worker(Health(item, sing, changed=self.changes.append, clock=self.clock))

    def unwell(self, cause: Sign = Sign.DOUBT) -> "Worker":
        """The endpoint becomes unwell; another process comes upon it."""
        outcome, count = CAUSES[cause]
        worker = self.process()
        for i in range(count):
            worker.run(outcome, f"F{i}")
        self.changes.clear()
        return self.process()

    def put(self, **values: dict[str, str]) -> None:
        """Somebody puts an item there."""
        self.table.quiet().put_item(TableName="table", Item=KEY | values)


@dataclass
class Worker:
    """One process."""

    health: Health
    sent: list[str] = field(default_factory=list)

    def run(
        self, outcome: RefreshOutcome, connection_id: str = "N1", *, urgent: bool = False, retries: int | None = None
    ) -> RefreshOutcome:
        """A refresh that would end like this."""

        def refresh() -> Refresh:
            self.sent.append(connection_id)
            return Refresh(outcome=outcome, connection_id=connection_id, exchange_ms=1, retries=retries)

        return self.health.run(connection_id, refresh, urgent=urgent).outcome

    def works(self, connection_id: str = "N1") -> bool:
        """Whether a refresh is let through, and succeeds."""
        return self.run(RefreshOutcome.REFRESHED, connection_id) is RefreshOutcome.REFRESHED


@pytest.fixture
def stack() -> Stack:
    return Stack()


# What makes it unwell


@pytest.mark.parametrize("cause", list(CAUSES))
def test_failures_of_several_connections_stop_the_whole_stack(stack: Stack, cause: Sign) -> None:
    outcome, count = CAUSES[cause]
    worker = stack.process()
    for i in range(count):
        assert worker.run(outcome, f"N{i}") is outcome
    assert not worker.works("N100")
    assert not stack.process().works("N101")
    assert worker.sent == [f"N{i}" for i in range(count)]
    assert stack.changes == [Change(False, cause, NOW)]


def test_failures_of_different_kinds_count_together(stack: Stack) -> None:
    worker = stack.process()
    outcomes = [outcome for outcome, _ in CAUSES.values()]
    for i in range(FAILURES):
        worker.run(outcomes[i % 3], f"N{i}")
    assert worker.health.unwell


@pytest.mark.parametrize("cause", list(CAUSES))
def test_one_connection_never_makes_it_unwell_however_often_it_fails(stack: Stack, cause: Sign) -> None:
    """Nor do as many as it takes, less one."""
    outcome, count = CAUSES[cause]
    worker = stack.process()
    for i in range(50):
        assert worker.run(outcome, f"N{i % (count - 1)}") is outcome
    assert worker.works("N100")
    assert stack.changes == []


@pytest.mark.parametrize("cause", list(CAUSES))
def test_connections_that_fail_while_others_succeed_stop_nobody(stack: Stack, cause: Sign) -> None:
    """Eight poisoned ones among healthy ones, as one process sees them, and as several do."""
    outcome, count = CAUSES[cause]
    workers = [stack.process() for _ in range(3)]
    for i in range(200):
        stack.clock.sleep(1)
        worker = workers[i % 3]
        for j in range(count - 1):
            assert worker.run(outcome, f"P{(i + j) % 8}") is outcome
        assert worker.works(f"N{i}")
    assert stack.changes == []


def test_a_success_between_failures_counts_though_its_process_did_not_know_of_them(stack: Stack) -> None:
    """It reads the item every ten seconds only. When it adds a failure, it leaves out those before its success."""
    one, other = stack.process(), stack.process()
    assert other.works()
    stack.clock.sleep(1)
    for i in range(DOUBTS - 1):
        one.run(RefreshOutcome.IN_DOUBT, f"N{i}")
    stack.clock.sleep(1)
    assert other.works()
    stack.clock.sleep(1)
    other.run(RefreshOutcome.IN_DOUBT, "N9")
    assert not other.health.unwell
    assert not stack.process().health.unwell


@pytest.mark.parametrize("cause", list(CAUSES))
def test_failures_in_the_second_of_the_last_success_count_too(stack: Stack, cause: Sign) -> None:
    """At 6,000 a minute a second has a hundred refreshes: they must not all fail before one of them counts."""
    outcome, count = CAUSES[cause]
    worker = stack.process()
    assert worker.works()
    for i in range(count):
        stack.clock.now += 0.01
        assert worker.run(outcome, f"N{i}") is outcome
    assert worker.health.unwell


@pytest.mark.parametrize(
    "outcome",
    sorted(
        set(RefreshOutcome)
        - {outcome for outcome, _ in CAUSES.values()}
        - {RefreshOutcome.UNWELL, RefreshOutcome.REAUTHORIZATION_REQUIRED}
    ),
)
def test_no_other_outcome_makes_it_unwell(stack: Stack, outcome: RefreshOutcome) -> None:
    worker = stack.process()
    assert [worker.run(outcome, f"N{i}") for i in range(20)] == [outcome] * 20


@pytest.mark.parametrize(
    ("reason", "posted", "sign"),
    [
        (Reason.REJECTED, True, Sign.REFUSAL),
        (Reason.IN_DOUBT, True, Sign.DOUBT),
        (Reason.IN_DOUBT, False, Sign.NOTHING),
        (Reason.EXPIRED, False, Sign.NOTHING),
        (Reason.ROTATION_LOST, True, Sign.NOTHING),
        (Reason.WRONG_CONNECTION, True, Sign.WELL),
    ],
)
def test_an_ending_says_what_its_answer_said(reason: Reason, posted: bool, sign: Sign) -> None:
    ended = Refresh(
        outcome=RefreshOutcome.REAUTHORIZATION_REQUIRED,
        connection_id="N1",
        reason=reason,
        exchange_ms=5 if posted else None,
    )
    assert sign_of(ended) is sign


@pytest.mark.parametrize("outcome", [outcome for outcome, _ in CAUSES.values()])
def test_only_the_first_failure_of_a_connection_counts(stack: Stack, outcome: RefreshOutcome) -> None:
    """Those that fail for ever have the soonest deadlines, so that they come one after the other."""
    worker = stack.process()
    for i in range(50):
        worker.run(outcome, f"N{i}", retries=2 + i)
    assert not worker.health.unwell
    for i in range(FAILURES):
        worker.run(outcome, f"N{i}", retries=1)
    assert worker.health.unwell


@pytest.mark.parametrize("change", [{"in_doubt_since": NOW}, {"seconds_to_deadline": 0}], ids=["in doubt", "dead"])
def test_a_refusal_that_a_bad_time_leaves_behind_says_nothing(change: dict[str, int]) -> None:
    """What was probably spent in that time, or died in it, comes back one after the other when it is over."""
    refused = Refresh(outcome=RefreshOutcome.REFUSED, connection_id="N1", exchange_ms=5, seconds_to_deadline=1)
    assert sign_of(refused) is Sign.REFUSAL
    assert sign_of(replace(refused, **change)) is Sign.NOTHING  # type: ignore[arg-type]


# What is one connection's own


def test_a_429_is_a_connections_own_once_others_were_accepted_since_its_last_one(stack: Stack) -> None:
    worker = stack.process()
    worker.run(RefreshOutcome.THROTTLED, "N1")
    stack.clock.sleep(1)
    worker.run(RefreshOutcome.THROTTLED, "N2")
    assert not worker.health.throttled_alone("N1"), "all may be throttled"
    stack.clock.sleep(1)
    assert worker.works("N3")
    assert [worker.health.throttled_alone(one) for one in ("N1", "N2", "N3", "N4")] == [True, True, False, False]
    stack.clock.sleep(1)
    worker.run(RefreshOutcome.THROTTLED, "N1")
    assert not worker.health.throttled_alone("N1"), "nobody was accepted since"
    stack.clock.sleep(1)
    assert worker.works("N2")
    assert [worker.health.throttled_alone(one) for one in ("N1", "N2")] == [True, False]
    for i in range(1_000):
        worker.run(RefreshOutcome.THROTTLED, f"M{i}")
    assert len(worker.health._throttled) < 100


def test_an_answer_to_what_was_sent_before_a_429_does_not_say_that_others_are_accepted(stack: Stack) -> None:
    worker = stack.process()
    began = int(stack.clock.now)
    stack.clock.sleep(1)
    worker.run(RefreshOutcome.THROTTLED, "N1")
    stack.clock.sleep(1)
    worker.health.learn(Refresh(outcome=RefreshOutcome.REFRESHED, connection_id="N2"), began)
    assert not worker.health.throttled_alone("N1")


def test_a_process_knows_whether_others_have_succeeded_since(stack: Stack) -> None:
    worker = stack.process()
    assert not worker.health.succeeded_since(NOW - 9)
    assert worker.works()
    assert worker.health.succeeded_since(NOW - 1)
    assert not worker.health.succeeded_since(NOW)


# While it is unwell


@pytest.mark.parametrize("cause", list(CAUSES))
def test_no_token_is_spent_to_find_out(stack: Stack, cause: Sign) -> None:
    worker = stack.unwell(cause)
    for i in range(6 * 3_600):
        assert not worker.works(f"N{i % 500}")
        stack.clock.sleep(1)
    assert worker.sent == []


def test_canaries_go_at_once_and_then_with_growing_pauses_to_a_limit(stack: Stack) -> None:
    workers = [stack.unwell(), stack.process(), stack.process()]
    for i in range(3_600):
        workers[i % 3].works(f"N{i}")
        stack.clock.sleep(1)
    pauses = [round(b - a) for a, b in zip(stack.canaries, stack.canaries[1:], strict=False)]
    assert stack.canaries[0] - NOW <= 1
    assert tuple(pauses[:4]) == PAUSES
    assert set(pauses[4:]) == {PAUSES[-1]}


@pytest.mark.parametrize("cause", list(CAUSES))
def test_a_connection_in_its_last_hour_is_tried_all_the_same(stack: Stack, cause: Sign) -> None:
    outcome, _ = CAUSES[cause]
    worker = stack.unwell(cause)
    assert worker.run(outcome, "N5", urgent=True) is outcome
    assert worker.health.unwell
    assert worker.run(RefreshOutcome.REFRESHED, "N6", urgent=True) is RefreshOutcome.REFRESHED
    # That says that everything is well.
    assert stack.process().works()


@pytest.mark.parametrize("cause", [Sign.DOUBT, Sign.REFUSAL])
def test_who_failed_lately_is_not_the_one_who_tests(stack: Stack, cause: Sign) -> None:
    worker = stack.unwell(cause)
    stack.canary = Sign.WELL
    _, count = CAUSES[cause]
    for i in range(count):
        assert not worker.works(f"F{i}")
    assert stack.canaries == []
    assert worker.works("N1")


@pytest.mark.parametrize("cause", list(CAUSES))
@pytest.mark.parametrize("count", [1, 3, 5, 20])
def test_a_stack_whose_connections_have_all_failed_recovers_by_itself(stack: Stack, cause: Sign, count: int) -> None:
    """However few they are, and whoever has failed: within six minutes after the server is well again."""
    outcome, needed = CAUSES[cause]
    worker, names = stack.process(), [f"F{i}" for i in range(max(count, needed))]
    for name in names:
        worker.run(outcome, name)
    stack.clock.sleep(1_800)
    stack.canary = Sign.WELL
    begun = stack.clock.now
    while not all(worker.works(name) for name in names):
        stack.clock.sleep(30)
        assert stack.clock.now - begun <= 360
    assert stack.changes[-1].well


@pytest.mark.parametrize("cause", [Sign.DOUBT, Sign.REFUSAL])
@pytest.mark.parametrize("count", [3, 5, 20])
def test_while_nothing_gets_better_one_token_is_tried_in_five_minutes(stack: Stack, cause: Sign, count: int) -> None:
    """However many have failed before, and though canaries are answered well."""
    outcome, needed = CAUSES[cause]
    worker, names = stack.process(), [f"F{i}" for i in range(max(count, needed))]
    for name in names:
        # All of them were under way.
        worker.health.learn(Refresh(outcome=outcome, connection_id=name, exchange_ms=1), int(stack.clock.now))
    stack.canary = Sign.WELL
    for _ in range(3_600 // 5):
        stack.clock.sleep(5)
        for name in names:
            worker.run(RefreshOutcome.IN_DOUBT, name, retries=3)
    assert 10 <= len(worker.sent) <= 13


@pytest.mark.parametrize("outcome", [RefreshOutcome.LOST, RefreshOutcome.PENDING])
def test_what_the_table_did_not_take_is_not_told_to_the_table(stack: Stack, outcome: RefreshOutcome) -> None:
    """It hangs, and the invocation has the time for a line of the log."""
    worker = stack.process()
    worker.health.admits("N1")
    stack.clock.sleep(CACHED + 1)
    stack.table.calls.clear()
    worker.health.learn(Refresh(outcome=outcome, connection_id="N1", exchange_ms=1), int(stack.clock.now))
    assert stack.table.calls == []
    assert worker.health.succeeded_since(int(stack.clock.now) - 1)


def test_a_success_that_a_clock_saw_ahead_hides_no_failure(stack: Stack) -> None:
    worker, other = stack.process(), stack.process()
    stack.clock.now = NOW + 3_600
    assert worker.works("N0")
    stack.clock.now = NOW
    assert not worker.health.succeeded_since(NOW)
    worker.run(RefreshOutcome.THROTTLED, "N1")
    assert not worker.health.throttled_alone("N1")
    for i in range(DOUBTS):
        (worker if i % 2 else other).run(RefreshOutcome.IN_DOUBT, f"F{i}")
    assert stack.process().health.unwell


def test_a_refused_configuration_is_over_with_the_first_good_canary(stack: Stack) -> None:
    worker = stack.unwell(Sign.CONFIGURATION)
    stack.canary = Sign.WELL
    assert worker.run(RefreshOutcome.NOT_DUE) is RefreshOutcome.NOT_DUE
    assert worker.works()
    assert stack.process().works()
    assert stack.changes == [Change(True, Sign.CONFIGURATION, NOW)]


@pytest.mark.parametrize("cause", [Sign.DOUBT, Sign.REFUSAL])
def test_after_a_good_canary_one_connection_shows_that_tokens_work(stack: Stack, cause: Sign) -> None:
    """A server that loses answers, or refuses good tokens, may refuse a made-up one correctly all the time."""
    outcome, _ = CAUSES[cause]
    stack.canary = Sign.WELL
    worker = stack.unwell(cause)
    for i in range(3_600):
        worker.run(outcome, f"N{i}")
        stack.clock.sleep(1)
    assert len(worker.sent) == len(stack.canaries) <= 15
    stack.clock.sleep(PAUSES[-1])
    assert worker.works("W")
    assert stack.process().works("N1")
    assert stack.changes == [Change(True, cause, NOW)]


@pytest.mark.parametrize("cause", [Sign.DOUBT, Sign.REFUSAL])
def test_one_that_tests_and_shows_nothing_leaves_it_to_the_next(stack: Stack, cause: Sign) -> None:
    """One that fails for ever must not be the only one who is asked, once in five minutes."""
    stack.canary = Sign.WELL
    worker, outcome = stack.unwell(cause), CAUSES[cause][0]
    for i in range(20):
        assert worker.run(outcome, f"P{i}", retries=9) is outcome
        assert not worker.works()
        stack.clock.sleep(NEXT_ONE)
    assert worker.works()


@pytest.mark.parametrize(
    ("first", "then", "cause"),
    [(Sign.DOUBT, Sign.CONFIGURATION, Sign.CONFIGURATION), (Sign.CONFIGURATION, Sign.DOUBT, Sign.DOUBT)],
)
def test_a_canary_says_what_is_wrong(stack: Stack, first: Sign, then: Sign, cause: Sign) -> None:
    worker = stack.unwell(first)
    stack.canary = then
    assert not worker.works()
    stack.clock.sleep(PAUSES[0])
    stack.canary = Sign.WELL
    worker.works()
    assert stack.changes == [Change(True, cause, NOW)]


def test_a_canary_that_was_not_sent_changes_nothing(stack: Stack) -> None:
    worker = stack.unwell(Sign.CONFIGURATION)
    stack.canary = Sign.NOTHING
    assert not worker.works()
    assert worker.health.unwell


def test_of_all_processes_one_sends_the_canary(stack: Stack) -> None:
    worker, other = stack.unwell(), stack.process()
    assert other.health.unwell
    sing = worker.health._canary

    def meanwhile() -> Sign:
        assert not other.works("N2")
        return sing()

    worker.health._canary = meanwhile
    worker.works("N1")
    assert len(stack.canaries) == 1


def test_a_success_from_before_does_not_end_a_bad_time(stack: Stack) -> None:
    worker = stack.process()

    def slow() -> Refresh:
        stack.clock.sleep(1)
        stack.unwell()
        stack.clock.sleep(CACHED)
        return Refresh(outcome=RefreshOutcome.REFRESHED, connection_id="N1")

    worker.health.run("N1", slow)
    assert stack.process().health.unwell


def test_a_verdict_waits_while_the_endpoint_is_unwell(stack: Stack) -> None:
    assert stack.process().health.may_end(NOW)
    for cause in (Sign.DOUBT, Sign.CONFIGURATION):
        worker = stack.unwell(cause)
        assert not worker.health.may_end(NOW)
        assert not worker.health.may_end(NOW + 86_400)
        stack.table.clear()


def test_refusals_of_all_tokens_for_an_hour_are_believed(stack: Stack) -> None:
    """Where the app itself was removed at FlowAccount, they are true, and customers must be asked for consent."""
    worker = stack.unwell(Sign.REFUSAL)
    assert not worker.health.may_end(NOW + ALL_REFUSED - 1)
    assert worker.health.may_end(NOW + ALL_REFUSED)


# What it costs, and what cannot stop it


def test_while_all_is_well_it_costs_one_read_in_ten_seconds(stack: Stack) -> None:
    worker = stack.process()
    for _ in range(20):
        assert worker.works()
    assert stack.table.calls == ["get_item"]
    stack.clock.sleep(CACHED)
    assert worker.works()
    assert stack.table.calls == ["get_item"] * 2


def test_the_first_success_after_failures_is_written_and_no_other(stack: Stack) -> None:
    worker = stack.process()
    worker.run(RefreshOutcome.IN_DOUBT, "N1")
    stack.table.calls.clear()
    assert all(worker.works(f"N{i}") for i in range(20))
    assert stack.table.calls == ["update_item"]


def test_a_table_that_hangs_is_waited_for_once_and_the_endpoint_counts_as_well(stack: Stack) -> None:
    stack.table.faults["get_item"] = [Fault(client_error("InternalServerError"))] * 50
    worker = stack.process()
    assert all(worker.works(f"N{i}") for i in range(20))
    assert stack.table.calls == ["get_item"]


def test_a_process_that_cannot_write_stops_by_itself(stack: Stack) -> None:
    stack.table.faults["update_item"] = [Fault(client_error("InternalServerError"))] * 50
    worker = stack.process()
    for i in range(DOUBTS):
        worker.run(RefreshOutcome.IN_DOUBT, f"N{i}")
    assert not worker.works("N100")
    assert stack.process().works("N100")


def test_what_a_refresh_raises_comes_through_and_does_not_count(stack: Stack) -> None:
    def unreachable() -> Refresh:
        raise StoreUnavailable("InternalServerError")

    worker = stack.process()
    for i in range(10):
        with pytest.raises(StoreUnavailable):
            worker.health.run(f"N{i}", unreachable)
    assert worker.works()


FAR = 10**30
TIMES = [{"S": "soon"}, {"N": "-7"}, {"N": str(FAR)}, {"B": b"\0"}, {"N": "1.5"}, {"N": str(NOW + 100_000)}]


@pytest.mark.parametrize("value", TIMES, ids=str)
def test_a_time_that_no_worker_can_have_written_makes_nothing_unwell(stack: Stack, value: Any) -> None:
    stack.put(unwell_since=value, cause={"S": "doubt"})
    assert stack.process().works()


@pytest.mark.parametrize("name", ["next_test", "tests", "cause", "failures", "tag"])
@pytest.mark.parametrize("value", [*TIMES, {"S": "doubt:x:N1 doubt:9:N2 :: a:b ² doubt:²:N3"}], ids=str)
def test_no_content_of_the_item_stops_a_stack_for_longer_than_a_pause(stack: Stack, name: str, value: Any) -> None:
    stack.put(**{"unwell_since": {"N": str(NOW - 50)}, "cause": {"S": "doubt"}, name: value})
    stack.canary = Sign.WELL
    worker = stack.process()
    for _ in range(PAUSES[-1] + CACHED):
        if worker.works("N77"):
            break
        stack.clock.sleep(1)
    else:
        pytest.fail("it stays unwell")
    stack.clock.sleep(1)
    for i in range(DOUBTS):
        worker.run(RefreshOutcome.IN_DOUBT, f"N{i}")
    assert stack.process().health.unwell


# The canary


class Secret:
    """A client secret that may be replaced."""

    def __init__(self, newer: str | None = None) -> None:
        self.newer = newer

    def get(self) -> str:
        return "old"

    def newer_than(self, refused: str) -> str | None:
        assert refused == "old"
        return self.newer


def canary(
    *answers: Answer, secret: Secret | None = None, permit: FakePermit | None = None
) -> tuple[Canary, FakeEndpoint]:
    endpoint, given = FakeEndpoint(answers=list(answers)), permit or FakePermit()
    return Canary(endpoint=endpoint, secret=secret or Secret(), permits=lambda: given, clock=Clock()), endpoint


@pytest.mark.parametrize(
    ("answer", "sign", "error"),
    [
        (Answer(Outcome.REJECTED, error="invalid_grant", status=400), Sign.WELL, "invalid_grant"),
        (Answer(Outcome.CONFIGURATION_ERROR, error="invalid_client", status=401), Sign.CONFIGURATION, "invalid_client"),
        (Answer(Outcome.CONFIGURATION_ERROR, error="unknown", status=404), Sign.CONFIGURATION, "unknown"),
        (Answer(Outcome.IN_DOUBT, error="no_answer"), Sign.DOUBT, "no_answer"),
        (Answer(Outcome.NOT_SENT, error="connection"), Sign.DOUBT, "connection"),
        (Answer(Outcome.TOKENS, TokenSet("a", "b", 1, "N1"), status=200), Sign.DOUBT, "tokens"),
        (Answer(Outcome.THROTTLED, status=429, retry_after=7), Sign.NOTHING, "throttled"),
    ],
)
def test_a_canary_is_well_where_its_token_is_refused_and_nowhere_else_and_names_what_it_heard(
    answer: Answer, sign: Sign, error: str
) -> None:
    permit = FakePermit()
    made, endpoint = canary(answer, permit=permit)
    heard = made.look()
    assert (heard.sign, heard.error) == (sign, error)
    ((token, secret),) = endpoint.posts
    assert len(token) >= 40
    assert secret == "old"
    assert permit.used == [(GOOD_TIME, False)]
    assert permit.throttles == ([(NOW, 7)] if sign is Sign.NOTHING else [])


@pytest.mark.parametrize(
    ("why", "error", "detail"),
    [
        (SecretMisconfigured("the secret s must be JSON"), "secret_misconfigured", "the secret s must be JSON"),
        (SecretUnavailable("Throttling"), "secret_unavailable", None),
        (NoPermit(5), "no_room_in_the_rate", None),
        (StoreUnavailable("RequestTimeout"), "store_unavailable", None),
    ],
)
def test_a_canary_that_was_not_sent_says_why(why: Exception, error: str, detail: str | None) -> None:
    made, endpoint = canary(permit=FakePermit(room=0, error=why))
    heard = made.look()
    assert (heard.sign, heard.error, heard.detail) == (Sign.NOTHING, error, detail)
    assert endpoint.posts == []


def test_each_canary_has_another_token() -> None:
    made, endpoint = canary(Answer(Outcome.REJECTED))
    assert [made() for _ in range(3)] == [Sign.WELL] * 3
    assert len({token for token, _ in endpoint.posts}) == 3


def test_a_canary_tries_a_secret_that_was_replaced_meanwhile() -> None:
    """So that a client secret that is put right is found without a hand."""
    refused = Answer(Outcome.CONFIGURATION_ERROR, error="invalid_client", status=401)
    permit = FakePermit()
    made, endpoint = canary(refused, Answer(Outcome.REJECTED), secret=Secret("new"), permit=permit)
    assert made() is Sign.WELL
    assert [secret for _, secret in endpoint.posts] == ["old", "new"]
    assert len(permit.used) == 2


@pytest.mark.parametrize("outcome", [RefreshOutcome.IN_DOUBT, RefreshOutcome.REFUSED])
def test_a_batch_waits_once_for_a_table_that_takes_nothing(stack: Stack, outcome: RefreshOutcome) -> None:
    worker = stack.process()
    worker.run(RefreshOutcome.REFRESHED, "N0")
    stack.table.faults["update_item"] = [Fault(client_error("InternalServerError"))] * 50
    for i in range(25):
        worker.run(outcome, f"N{i}", urgent=True)
    assert stack.table.calls.count("update_item") == 1
    stack.table.faults.clear()
    stack.clock.now += CACHED
    worker.run(outcome, "N99", urgent=True)
    assert stack.table.calls.count("update_item") == 2
