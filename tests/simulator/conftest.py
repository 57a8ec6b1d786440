"""One real simulator for all of these tests, put back to the beginning before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulator.driver import Driver, started


@pytest.fixture(scope="session")
def running() -> Iterator[Driver]:
    """The simulator that is shared."""
    with started() as driver:
        yield driver


@pytest.fixture
def sim(running: Driver) -> Driver:
    """The simulator as it is after its start, with a rate limit that is out of the way."""
    running.control("POST", "reset")
    running.set(rate_limit=False)
    return running
