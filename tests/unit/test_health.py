"""A configuration that FlowAccount refuses is not hammered on, and works again by itself once it is put right."""

import itertools
import time
from collections.abc import Callable

import pytest

from flowaccount_connect.domain.connection import Reason
from flowaccount_connect.rotation.circuit import RECOVERY, REFUSALS, Circuit
from flowaccount_connect.rotation.protocol import Refresh, RefreshOutcome
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from tests.unit.tables import Fault, Table, client_error

HARMLESS = sorted(set(RefreshOutcome) - {RefreshOutcome.CONFIGURATION_ERROR, RefreshOutcome.CIRCUIT_OPEN})


class Worker:
    """One process with its own look at the circuit, and how often it was let through."""

    def __init__(self, table: Table) -> None:
        self.circuit = Circuit(table, "table")
        self.let_through = 0

    def run(self, outcome: RefreshOutcome = RefreshOutcome.CONFIGURATION_ERROR) -> RefreshOutcome:
        """A refresh that would end like this."""

        def refresh() -> Refresh:
            self.let_through += 1
            return Refresh(outcome=outcome, connection_id="N1")

        return self.circuit.run("N1", refresh).outcome


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def opened(table: Table) -> Callable[[float], Worker]:
    """Opens the circuit some seconds ago, and starts a process that comes upon it."""

    def open_(ago: float) -> Worker:
        worker = Worker(table)
        for _ in range(REFUSALS):
            worker.run()
        item = {k: v for k, v in table.items["CIRCUIT", "token-endpoint"].items() if k not in ("pk", "sk")}
        item |= {"opened_at": int(time.time() - ago)}
        wire = {k: {"S": v} if isinstance(v, str) else {"N": str(v)} for k, v in item.items()}
        table.quiet().put_item(TableName="table", Item={"pk": {"S": "CIRCUIT"}, "sk": {"S": "token-endpoint"}, **wire})
        return Worker(table)

    return open_


def test_after_a_few_refusals_in_a_row_nobody_asks_any_more(table: Table) -> None:
    worker = Worker(table)
    outcomes = [worker.run() for _ in range(REFUSALS + 5)]
    assert outcomes == [RefreshOutcome.CONFIGURATION_ERROR] * REFUSALS + [RefreshOutcome.CIRCUIT_OPEN] * 5
    assert worker.let_through == REFUSALS


def test_an_open_circuit_holds_for_every_process(opened: Callable[[float], Worker]) -> None:
    other = opened(RECOVERY - 5)
    assert other.run(RefreshOutcome.REFRESHED) is RefreshOutcome.CIRCUIT_OPEN
    assert other.let_through == 0


def test_after_a_minute_one_refresh_is_let_through_and_its_success_closes_the_circuit(
    table: Table, opened: Callable[[float], Worker]
) -> None:
    worker = opened(RECOVERY + 1)
    assert worker.run(RefreshOutcome.REFRESHED) is RefreshOutcome.REFRESHED
    assert Worker(table).run(RefreshOutcome.REFRESHED) is RefreshOutcome.REFRESHED
    assert table.items["CIRCUIT", "token-endpoint"]["state"] == "CLOSED"


def test_a_refusal_of_the_one_that_was_let_through_keeps_the_circuit_open(
    table: Table, opened: Callable[[float], Worker]
) -> None:
    worker = opened(RECOVERY + 1)
    assert worker.run() is RefreshOutcome.CONFIGURATION_ERROR
    assert worker.run() is RefreshOutcome.CIRCUIT_OPEN
    assert Worker(table).run() is RefreshOutcome.CIRCUIT_OPEN


@pytest.mark.parametrize("outcome", HARMLESS)
def test_no_other_outcome_opens_the_circuit(table: Table, outcome: RefreshOutcome) -> None:
    worker = Worker(table)
    assert [worker.run(outcome) for _ in range(20)] == [outcome] * 20


def test_a_single_success_forgets_the_refusals_before_it(table: Table) -> None:
    worker = Worker(table)
    for _ in range(5):
        for _ in range(REFUSALS - 1):
            assert worker.run() is RefreshOutcome.CONFIGURATION_ERROR
        assert worker.run(RefreshOutcome.REFRESHED) is RefreshOutcome.REFRESHED


def test_while_the_circuit_cannot_be_read_it_counts_as_closed(table: Table) -> None:
    table.faults["get_item"] = [Fault(client_error("InternalServerError"))] * 50
    assert Worker(table).run(RefreshOutcome.REFRESHED) is RefreshOutcome.REFRESHED


def test_what_a_refresh_raises_comes_through_and_does_not_count(table: Table) -> None:
    def unreachable() -> Refresh:
        raise StoreUnavailable("InternalServerError")

    worker = Worker(table)
    for _ in range(10):
        with pytest.raises(StoreUnavailable):
            worker.circuit.run("N1", unreachable)
    assert worker.run(RefreshOutcome.REFRESHED) is RefreshOutcome.REFRESHED


def test_the_circuit_is_no_connection_and_no_session(opened: Callable[[float], Worker], table: Table) -> None:
    opened(0)
    assert set(table.items) == {("CIRCUIT", "token-endpoint")}


@pytest.mark.parametrize("reason", [Reason.EXPIRED, Reason.IN_DOUBT])
def test_an_ending_without_an_answer_of_flowaccount_does_not_close_the_circuit(
    table: Table, opened: Callable[[float], Worker], reason: Reason
) -> None:
    worker = opened(RECOVERY + 1)
    ended = Refresh(outcome=RefreshOutcome.REAUTHORIZATION_REQUIRED, connection_id="N1", reason=reason)
    assert worker.circuit.run("N1", lambda: ended) is ended
    assert table.items["CIRCUIT", "token-endpoint"]["state"] != "CLOSED"


def test_while_the_circuit_cannot_be_written_nobody_is_let_through_but_nothing_breaks(
    table: Table, opened: Callable[[float], Worker]
) -> None:
    worker = opened(RECOVERY + 1)
    table.faults["update_item"] = [Fault(client_error("InternalServerError"))]
    assert worker.run(RefreshOutcome.REFRESHED) is RefreshOutcome.CIRCUIT_OPEN


def test_of_all_processes_one_is_let_through(table: Table, opened: Callable[[float], Worker]) -> None:
    worker, other = opened(RECOVERY + 1), Worker(table)

    def meanwhile() -> Refresh:
        assert other.run(RefreshOutcome.REFRESHED) is RefreshOutcome.CIRCUIT_OPEN
        return Refresh(outcome=RefreshOutcome.REFRESHED, connection_id="N1")

    assert worker.circuit.run("N1", meanwhile).outcome is RefreshOutcome.REFRESHED
    assert other.let_through == 0


def test_one_that_never_comes_back_is_not_waited_for_longer_than_a_minute(
    table: Table, opened: Callable[[float], Worker]
) -> None:
    opened(RECOVERY + 1)
    now = time.time()
    killed = Circuit(table, "table", clock=lambda: now)

    class Killed(BaseException):
        pass

    def kill() -> Refresh:
        # What a killed worker does not do any more.
        table.faults["update_item"] = [Fault(client_error("InternalServerError"))]
        raise Killed

    with pytest.raises(Killed):
        killed.run("N1", kill)
    for later, outcome in ((RECOVERY - 1, RefreshOutcome.CIRCUIT_OPEN), (RECOVERY, RefreshOutcome.REFRESHED)):
        clock = itertools.repeat(now + later)
        other = Circuit(table, "table", clock=clock.__next__)
        there = other.run("N1", lambda: Refresh(outcome=RefreshOutcome.REFRESHED, connection_id="N1"))
        assert there.outcome is outcome


def test_one_that_says_nothing_for_the_configuration_leaves_it_to_the_next(
    table: Table, opened: Callable[[float], Worker]
) -> None:
    worker = opened(RECOVERY + 1)
    assert worker.run(RefreshOutcome.IN_DOUBT) is RefreshOutcome.IN_DOUBT
    assert table.items["CIRCUIT", "token-endpoint"]["state"] == "OPEN"
    assert Worker(table).run(RefreshOutcome.REFRESHED) is RefreshOutcome.REFRESHED


def test_a_success_of_long_ago_does_not_close_what_opened_since(
    table: Table, opened: Callable[[float], Worker]
) -> None:
    worker = opened(RECOVERY + 1)

    def slow() -> Refresh:
        opened(0)
        return Refresh(outcome=RefreshOutcome.REFRESHED, connection_id="N1")

    worker.circuit.run("N1", slow)
    assert table.items["CIRCUIT", "token-endpoint"]["state"] == "OPEN"


def test_the_circuit_is_looked_at_once_in_a_while(table: Table) -> None:
    worker = Worker(table)
    for _ in range(20):
        worker.run(RefreshOutcome.REFRESHED)
    assert table.calls == ["get_item"]


def test_a_table_that_hangs_is_waited_for_once_and_not_by_each_refresh_in_turn(table: Table) -> None:
    table.faults["get_item"] = [Fault(client_error("InternalServerError"))] * 50
    worker = Worker(table)
    for _ in range(20):
        assert worker.run(RefreshOutcome.REFRESHED) is RefreshOutcome.REFRESHED
    assert table.calls == ["get_item"]


@pytest.mark.parametrize("ahead", [RECOVERY + 60, 1_000 * 365 * 86_400])
def test_a_time_that_no_worker_can_have_written_stops_nothing(opened: Callable[[float], Worker], ahead: int) -> None:
    assert opened(-ahead).run(RefreshOutcome.REFRESHED) is RefreshOutcome.REFRESHED


@pytest.mark.parametrize("until", ["soon", 10**15])
def test_nobody_is_waited_for_until_a_time_that_no_worker_can_have_written(
    table: Table, opened: Callable[[float], Worker], until: str | int
) -> None:
    worker = opened(RECOVERY + 1)
    at = {"S": until} if isinstance(until, str) else {"N": str(until)}
    table.quiet().update_item(
        TableName="table",
        Key={"pk": {"S": "CIRCUIT"}, "sk": {"S": "token-endpoint"}},
        UpdateExpression="SET probe_until = :at",
        ExpressionAttributeValues={":at": at},
    )
    assert worker.run(RefreshOutcome.REFRESHED) is RefreshOutcome.REFRESHED
