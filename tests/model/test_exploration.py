"""The short exploration, and the counterexample that shows that the explorer can find one."""

import os
import subprocess
import sys

import pytest

from tests.model import explore

ENOUGH = 200_000
"""How many distinct states the short run visits at the least, in all."""


@pytest.mark.timeout(900)
def test_every_invariant_holds_in_every_state() -> None:
    states = 0
    for found in explore.run(explore.short()):
        states += found.states
        assert found.invariant is None, "\n".join((found.line(), *found.trace))
    assert states >= ENOUGH


_FIGURES = """
from tests.model.explore import explore
from tests.model.world import Config
found = explore(Config(name="twice", consents=1, faults=1, starts=2, may=frozenset({"unacknowledged"})))
print(found.complete, found.states, found.steps, found.depth)
"""


def test_an_exploration_is_deterministic() -> None:
    """Equal states are one state, in whatever order their parts were put together."""
    figures = {
        subprocess.run(
            [sys.executable, "-c", _FIGURES],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(figures) == 1
    assert figures.pop().startswith("True ")
