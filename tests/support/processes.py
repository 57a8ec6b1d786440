"""How `make test` divides the tests among processes: a plugin of pytest, for pytest-xdist.

Two processes have a stack each, which they bring up beside each other. The others, and those two afterwards, take
file by file. What takes longest begins first.
"""

import os
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

STACK = "tests/e2e/"
SECOND = (
    *("test_campaign", "test_nobody_else_pays", "test_notifications", "test_races", "test_upgrade"),
    *("test_zzz_another_server", "test_zzz_schedule", "test_zzzz_floods"),
)
"""The files of the second stack: those that wait, or that change the whole stack."""
LONG = ("tests/unit/test_client_distribution", "tests/model/", "tests/template/", "tests/web/", "tests/clients/")
"""Where a single test may take most of a minute."""


def unit(nodeid: str) -> str:
    """What a test goes along with: the tests of its stack, or of its file."""
    file = nodeid.partition("::")[0]
    if not file.startswith(STACK):
        return file
    second = file.removeprefix(STACK).removesuffix(".py") in SECOND or nodeid.endswith("[second]")
    return f"{STACK} second" if second else STACK


def turn(nodeid: str) -> int:
    """Which units begin first."""
    return {STACK: 0, f"{STACK} second": 1}.get(unit(nodeid), 2 if nodeid.startswith(LONG) else 3)


class ByStack(LoadScopeScheduling):  # type: ignore[misc]
    """One process has all tests of a stack; each other file goes to one."""

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByStack:
    """Units begin in the order in which they were collected."""
    config.option.loadscopereorder = False
    return ByStack(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that take longest first."""
    items.sort(key=lambda item: turn(item.nodeid))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The processes without a stack give way to those with one: the functions of a stack have deadlines."""
    if "PYTEST_XDIST_WORKER" in os.environ and not item.nodeid.startswith(STACK) and not os.nice(0):
        os.nice(10)
