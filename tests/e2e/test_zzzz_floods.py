"""Floods of callers, imports and visitors on the deployed stack, at the sandbox's 15 requests a minute.

All of them ask without an end for a minute and a half, while the schedule has more to do than the rate lets through.
`tests/simulation/test_floods.py` has the same in a virtual clock, for longer and at other rates.
"""

import bisect
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from flowaccount_connect.scheduling.rate import WINDOW
from tests.e2e import crowd
from tests.e2e.conftest import EXPERIMENT, until
from tests.e2e.test_connections import call
from tools.campaign.stage import Stage
from tools.local import settings, stack
from tools.local.settings import Settings
from tools.local.visit import HttpVisitor

HOUR = 3_600
SECONDS = 90
LIMIT = 15


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """The stack as it is by default in the sandbox, ended in the end. Ticks are ours."""
    chosen = settings.read({"SCHEDULE": "disabled", "PUBLIC_RATE_LIMIT": str(EXPERIMENT.public_rate_limit)})
    assert "RefreshesPerMinute" not in Settings(parameters=chosen.parameters).parameters
    try:
        made = Stage(stack.up(chosen))
        made.clear()
        # FlowAccount counts too, and accepts 20 a minute.
        made.control("POST", "settings", {"rate_limit": True})
        made.table.delete_item(TableName=made.up.table, Key={"pk": {"S": "RATE"}, "sk": {"S": "token-endpoint"}})
        yield made
    finally:
        stack.down()


def visit(stage: Stage) -> None:
    """A callback of a true attempt, with an invented code."""
    visitor = HttpVisitor()
    begun = visitor.get(stage.up.authorize_url, Accept="text/html").headers["Location"]
    state = begun.partition("state=")[2].partition("&")[0]
    visitor.follow(f"{stage.up.callback_url}?code=junk&state={state}")


def test_a_flood_of_everybody_takes_neither_the_last_hour_nor_the_schedules_half(stage: Stage) -> None:
    up = stage.up
    due = crowd.connect(stage, "N5100001", 40, access_expires_at=9 * HOUR, deadline=18 * HOUR, refresh_at=-1)
    asked = crowd.connect(stage, "N5200001", 30, access_expires_at=-60, deadline=18 * HOUR, refresh_at=9 * HOUR)
    dying = crowd.connect(stage, "N5300001", 4, access_expires_at=9 * HOUR, deadline=HOUR // 2, refresh_at=9 * HOUR)
    ended, numbers = threading.Event(), count()

    def everywhere(ask: Callable[[int], object]) -> None:
        while not ended.is_set():
            ask(next(numbers))
            ended.wait(0.5)

    crowds: list[Callable[[int], object]] = [
        lambda number: call(up, "GET", f"/connections/{asked[number % len(asked)]}/token"),
        lambda number: call(up, "POST", f"/connections/N54{number:05}", {"refresh_token": "garbage"}),
        lambda _: visit(stage),
    ]
    # So that each function has a process that runs by then.
    for ask in crowds:
        ask(next(numbers))
    with ThreadPoolExecutor(len(crowds)) as pool:
        running = [pool.submit(everywhere, ask) for ask in crowds]
        try:
            begun, waited = time.time(), list[float]()
            # Two come into their last hour before each tick.
            for pair in (dying[:2], dying[2:]):
                since = time.time()
                for business in pair:
                    stage.let_fall_due(business)
                stage.functions.invoke(FunctionName=up.functions["sweep"], Payload=b"{}")
                until(lambda pair=pair: all(stage.item(one)["generation"]["N"] == "2" for one in pair), patience=60)  # type: ignore[misc]
                waited.append(time.time() - since)
                time.sleep(max(since + SECONDS / 2 - time.time(), 0))
        finally:
            ended.set()
        for one in running:
            one.result()
    sent = [one for one in stage.token_requests() if begun <= one["at"] <= begun + SECONDS]
    times = sorted(one["at"] for one in sent)
    busiest = max(bisect.bisect(times, at + WINDOW) - place for place, at in enumerate(times))
    kinds = Counter(
        "due" if one["business"] in due else "dying" if one["business"] in dying else "else" for one in sent
    )
    print(f"in {SECONDS} s: {dict(kinds)}, {busiest} within a minute; the dying waited for {waited}")
    assert busiest <= LIMIT
    assert 429 not in {one["status"] for one in sent}
    assert max(waited) < WINDOW
    # The half of the schedule, what dies among it; in so short a time each of the others may have one slot more.
    assert kinds["due"] + kinds["dying"] + 3 >= kinds["else"] >= 4
    assert (kinds["dying"], kinds["due"] > 0) == (4, True)
