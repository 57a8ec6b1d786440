"""One real simulator for these tests, put back to the beginning before each, and a probe of it."""

from collections.abc import Iterator

import pytest

from tests.probe.runs import Runs
from tests.simulator.driver import Driver, started
from tools.probe.demonstration import REDIRECT_URI


@pytest.fixture(scope="session")
def simulator() -> Iterator[Driver]:
    """The simulator that is shared."""
    with started("--redirect-uri", REDIRECT_URI) as driver:
        yield driver


@pytest.fixture
def runs(simulator: Driver) -> Runs:
    """The simulator as it is after its start, with a rate limit that is out of the way."""
    simulator.control("POST", "reset")
    simulator.set(rate_limit=False)
    return Runs(simulator)
