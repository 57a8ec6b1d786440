"""The short exploration, and the counterexample that shows that the explorer can find one."""

import pytest

from tests.model import explore
from tests.model.server import Kind
from tests.model.world import Config

ENOUGH = 200_000
"""How many distinct states the short run visits at the least, in all."""


@pytest.mark.timeout(300)
def test_every_invariant_holds_in_every_state() -> None:
    states = 0
    for found in explore.run(explore.short()):
        states += found.states
        assert found.invariant is None, "\n".join((found.line(), *found.trace))
    assert states >= ENOUGH


def test_an_exploration_is_deterministic() -> None:
    config = Config(name="twice", server=Kind.FORGIVING, faults=1, starts=2)
    first, second = explore.explore(config), explore.explore(config)
    assert first.complete
    assert (first.states, first.steps, first.depth) == (second.states, second.steps, second.depth)
