"""What all tests share."""

import os
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Before anything of `local` is imported: tests bring up a stack of their own, and leave one that is in use alone.
os.environ["FLOWACCOUNT_CONNECT_STATE"] = ".local/test"

# Read by Powertools when the product is imported, whichever test does that first.
os.environ |= {
    "POWERTOOLS_METRICS_NAMESPACE": "FlowAccountConnect",
    "POWERTOOLS_SERVICE_NAME": "unit",
    "POWERTOOLS_LOG_LEVEL": "DEBUG",
}

STACK = "tests/e2e/"


class ByStack(LoadScopeScheduling):  # type: ignore[misc]
    """Where `make test` runs two processes: one has all tests of the stack, since there is one stack, at fixed ports.

    Of the other tests each file goes to one process.
    """

    def _split_scope(self, nodeid: str) -> str:
        return STACK if nodeid.startswith(STACK) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByStack:
    """The unit with the most tests goes first: that of the stack."""
    return ByStack(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The process without the stack gives way to it: the functions of the stack have deadlines."""
    if "PYTEST_XDIST_WORKER" in os.environ and not item.nodeid.startswith(STACK) and not os.nice(0):
        os.nice(10)
