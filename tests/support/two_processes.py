"""How `make test` divides the tests among two processes: a plugin of pytest, for pytest-xdist."""

import os
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

STACK = "tests/e2e/"


class ByStack(LoadScopeScheduling):  # type: ignore[misc]
    """One process has all tests of the stack, since there is one stack, at fixed ports; each other file goes to one."""

    def _split_scope(self, nodeid: str) -> str:
        return STACK if nodeid.startswith(STACK) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByStack:
    """The unit with the most tests goes first: that of the stack."""
    return ByStack(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The process without the stack gives way to it: the functions of the stack have deadlines."""
    if "PYTEST_XDIST_WORKER" in os.environ and not item.nodeid.startswith(STACK) and not os.nice(0):
        os.nice(10)
