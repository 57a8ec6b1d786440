"""Whose turn it is to ask for a refresh, on every engine."""

import pytest

from flowaccount_connect.storage.dynamodb import attributes, n, s
from flowaccount_connect.tokens.demand import Demand
from tests.contract.conftest import NOW, Table


def test_a_turn_is_one_callers_until_it_lapses_or_the_generation_moves_on(table: Table) -> None:
    demand = Demand(table.client, table.name)

    def take(generation: int, now: int, *, forced: bool = False) -> bool:
        return demand.take(table.connection_id, generation, now=now, seconds=20, forced=forced)[1]

    assert [take(1, NOW), take(1, NOW), take(1, NOW + 19), take(1, NOW + 20)] == [True, False, False, True]
    assert [take(2, NOW + 21), take(1, NOW + 21), take(2, NOW + 21)] == [True, False, False]


def test_a_refresh_is_forced_once_a_minute_and_what_came_of_it_is_told(table: Table) -> None:
    demand = Demand(table.client, table.name)
    first, mine = demand.take(table.connection_id, 1, now=NOW, seconds=20, forced=True)
    assert (mine, first.forced_at) == (True, NOW)
    demand.answered(table.connection_id, first, until=NOW + 5)
    there, mine = demand.take(table.connection_id, 1, now=NOW + 5, seconds=20, forced=True)
    assert (mine, there.answered, there.until, there.forced_at) == (False, True, NOW + 5, NOW)
    second, mine = demand.take(table.connection_id, 1, now=NOW + 5, seconds=20, forced=False)
    assert (mine, second.answered) == (True, False)
    demand.answered(table.connection_id, first, until=NOW + 500)
    assert demand.take(table.connection_id, 1, now=NOW + 30, seconds=20, forced=True)[1] is False
    assert demand.take(table.connection_id, 1, now=NOW + 60, seconds=20, forced=True)[1] is True


@pytest.mark.parametrize(
    "value",
    [{"S": "soon"}, {"N": str(NOW + 3_000)}, {"N": "9" * 30}, {"N": "1E+125"}, {"BOOL": True}, {"L": []}],
    ids=str,
)
@pytest.mark.parametrize("name", ["turn_until", "generation", "forced_at"])
def test_a_turn_that_no_caller_can_have_taken_keeps_nobody_waiting(
    table: Table, name: str, value: dict[str, object]
) -> None:
    demand = Demand(table.client, table.name)
    written = {"turn_id": s("t"), "turn_until": n(NOW - 1), "generation": n(1), "forced_at": n(NOW - 99), name: value}
    table.client.put_item(
        TableName=table.name, Item=attributes(pk=f"DEMAND#{table.connection_id}", sk="DEMAND") | written
    )
    assert demand.take(table.connection_id, 1, now=NOW, seconds=20, forced=True)[1] is True
    assert demand.take(table.connection_id, 1, now=NOW + 1, seconds=20, forced=True)[1] is False
