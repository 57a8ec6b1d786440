"""What `make bench` makes of its figures: the price is judged by list prices, and the exit code by what is measured."""

from collections import Counter
from dataclasses import replace

import pytest

from tools.benchmarks import money, operations, performance
from tools.benchmarks.money import Costs
from tools.benchmarks.operations import Calls, Operations
from tools.benchmarks.performance import Figures, Row
from tools.benchmarks.wire import Count

STEPS = (
    *(operations.ALONE, operations.BATCH, operations.TOKEN, operations.NOTHING_DUE, operations.HISTORY),
    *(operations.SESSION, operations.LINK_AUTHORIZE, operations.LINK_CALLBACK, operations.CONFIRM, operations.NEW),
)


def made(cpu: float = 1.0, metrics: int = 1) -> Operations:
    """As if each operation had taken so much, and written so many metrics."""
    names = frozenset(("sweep", str(number)) for number in range(metrics))
    count = Count(Counter({"dynamodb.UpdateItem": 1}), Counter({"dynamodb.UpdateItem": 1}))
    return Operations(
        calls={name: Calls(1, count, cpu=cpu, logged=300.0, metrics=names) for name in STEPS},
        token={operations.OURS: [0.1], operations.FLOOR: [1.0]},
        refresh={operations.OURS: [1.0], "another": [4.0]},
        alone={operations.OURS: [3.0], "another": [4.0]},
    )


def row(operations_: Operations, title: str) -> Row:
    (section,) = [one for one in Figures(operations=operations_).sections() if one.title.startswith("Money: a month")]
    (found,) = [row for row in section.rows if row.cells[0] == title]
    return found


def test_the_goal_is_met_by_list_prices_or_not_at_all() -> None:
    operations_, listed, free = made(metrics=16), "10,000", "10,000, less what every account has free"
    costs = performance.costs_of(operations_)
    assert costs.month(money.AT).total > money.AT * money.GOAL > costs.free(costs.month(money.AT)).total
    assert (row(operations_, listed).met, row(operations_, free).met) == (False, True)


def test_the_exit_code_tells_what_was_measured_and_no_price() -> None:
    assert Figures(operations=made(metrics=1_000)).met
    dear = made()
    slow = replace(dear, refresh=dear.refresh | {operations.OURS: [3.9]})
    assert not Figures(operations=slow).met


def test_a_metric_costs_whoever_writes_it_and_once() -> None:
    costs = performance.costs_of(made(metrics=7))
    assert costs.metrics == 7
    assert costs.standing()["metrics"] == pytest.approx(7 * costs.price["metric_month"])


def test_a_dashboard_that_is_left_out_costs_nothing() -> None:
    costs = performance.costs_of(made())
    bare = replace(costs, template=replace(costs.template, dashboards=0))
    saved = costs.month(money.AT).total - bare.month(money.AT).total
    assert saved == pytest.approx(costs.price["dashboard_month"])


def test_a_connect_is_four_requests_and_what_each_of_them_asks() -> None:
    costs = performance.costs_of(made())
    assert costs.connect()["API Gateway"] == pytest.approx(4 * costs.price["api_gateway_rest_request"])
    assert costs.connect()["table units"] == pytest.approx(5 * costs.price["dynamodb_write_unit"])


def test_of_a_refresh_the_stream_wakes_publish_once() -> None:
    costs = performance.costs_of(made())
    one = Costs(costs.calls, costs.price, costs.template)
    # Alone in its batch, and told once.
    assert one.refresh(100)["Lambda requests"] == pytest.approx(2 * costs.price["lambda_request"])
