"""What all tests share."""

import os
from pathlib import Path

import pytest

# Before anything of `local` is imported: tests bring up a stack of their own, and leave one that is in use alone.
os.environ["FLOWACCOUNT_CONNECT_STATE"] = ".local/test"

# Read by Powertools when the product is imported, whichever test does that first.
os.environ |= {
    "POWERTOOLS_METRICS_NAMESPACE": "FlowAccountConnect",
    "POWERTOOLS_SERVICE_NAME": "unit",
    "POWERTOOLS_LOG_LEVEL": "DEBUG",
}

E2E = Path(__file__).parent / "e2e"


def of_the_stack(item: pytest.Item) -> bool:
    """Whether the test runs on the deployed local stack."""
    return E2E in item.path.parents


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where `make test` runs two processes, one has all tests of the stack: there is one stack, at fixed ports."""
    for item in filter(of_the_stack, items):
        item.add_marker(pytest.mark.xdist_group("stack"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The other process gives way to it: the functions of the stack have deadlines."""
    if "PYTEST_XDIST_WORKER" in os.environ and not of_the_stack(item) and not os.nice(0):
        os.nice(10)
