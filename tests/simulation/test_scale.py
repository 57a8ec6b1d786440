"""The cost of a tick over the deployed table, on DynamoDB Local: it grows with what is due, not with what exists."""

import io

import pytest
from rich.console import Console

from local.errors import LocalError
from tools.benchmarks import components, scale


def test_a_tick_costs_the_same_however_many_connections_there_are() -> None:
    try:
        with components.dynamodb() as url:
            small, large = scale.measure(url, (500, 5_000), 60, 2, Console(file=io.StringIO()))
    except LocalError as missing:
        pytest.fail(str(missing), pytrace=False)
    assert (large.requests, large.read_units) == (small.requests, small.read_units)
    assert 0 < large.requests <= 16
    assert 0 < large.read_units / large.due < 0.5
