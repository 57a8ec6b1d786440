"""Many of everything at the same moment: still one POST."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

from tests.e2e.conftest import Simulator
from tools.local import service
from tools.local.stack import Stack


def test_many_refreshes_at_once_are_one_post(up: Stack, simulator: Simulator, connection: str, set_item: Any) -> None:
    def generation() -> int:
        item = service.connection_item(up, connection)
        assert item is not None
        return int(item["generation"]["N"])

    before = generation()
    simulator.fault("delay", seconds=1, when="before")
    set_item(connection, refresh_at=int(time.time()) - 1)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: service.invoke(up, "refresh", {"connection_id": connection}), range(8)))
    assert len(simulator.posts("refresh_token")) == 1
    assert generation() == before + 1
    outcomes = sorted(answer["outcome"] for answer in answers)
    # The schedule's own tick may have been the one.
    assert outcomes.count("refreshed") <= 1
    assert set(outcomes) <= {"refreshed", "in_flight", "not_due"}


CALLERS = 1_000
IN_FLIGHT = 24
"""The emulator starts a process for each call in flight, and keeps it; on AWS all thousand are in flight."""


def test_a_thousand_callers_on_an_expired_token_are_one_post(
    up: Stack, simulator: Simulator, connection: str, set_item: Any
) -> None:
    def caller(_: int) -> tuple[float, float, requests.Response]:
        # Who waits in front of the emulator waits for that, not for us.
        began, answer = time.monotonic(), service.call(up, "GET", f"/connections/{connection}/token", patience=240)
        return began, time.monotonic(), answer

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        # So many processes that start at once may be slower than the limits of a call of AWS.
        for _ in range(5):
            warm = {answer.status_code for _, _, answer in pool.map(caller, range(IN_FLIGHT))}
            if warm == {200}:
                break
        assert warm == {200}
        now, before = int(time.time()), invocations(up, "refresh")
        set_item(connection, requested_at=now - 90_000, access_expires_at=now - 10)
        simulator.fault("delay", seconds=5, when="before")
        calls = list(pool.map(caller, range(CALLERS)))
    told = Counter(answer.status_code for _, _, answer in calls)
    invoked = invocations(up, "refresh") - before
    _show(calls, told, invoked)
    assert len(simulator.posts("refresh_token")) == 1
    assert invoked == 1
    assert set(told) <= {200, 503}
    assert all("Retry-After" in answer.headers for _, _, answer in calls if answer.status_code == 503)
    served = [answer.json() for _, _, answer in calls if answer.status_code == 200]
    item = service.connection_item(up, connection)
    assert item is not None
    assert {one["generation"] for one in served} == {int(item["generation"]["N"])}
    assert len({one["access_token"] for one in served}) == 1


def _show(calls: list[tuple[float, float, requests.Response]], told: Counter[int], invoked: int) -> None:
    """The figures, for whoever runs this with `-s`."""
    first = min(ended for _, ended, _ in calls)
    took = sorted(ended - began for began, ended, _ in calls)
    wall = max(ended for _, ended, _ in calls) - min(began for began, _, _ in calls)
    waited = sum(began < first for began, _, _ in calls)
    middle, most = took[len(took) // 2], took[len(took) * 95 // 100]
    print(
        f"\n{len(calls)} callers, {IN_FLIGHT} in flight: {dict(told)} in {wall:.1f} s; {waited} asked before the new "
        f"token was there; {invoked} invocation of refresh; a call took {middle:.2f} s (median), {most:.2f} s (95 %), "
        f"{took[-1]:.2f} s (longest)"
    )


def invocations(up: Stack, function: str) -> int:
    """How often a function has been invoked, by its own log."""
    logs, count = service.client(up, "logs"), 0
    more: dict[str, str] = {}
    while True:
        page = logs.filter_log_events(
            logGroupName=f"/aws/lambda/{up.functions[function]}", filterPattern="START RequestId", **more
        )
        count += sum("START RequestId" in event["message"] for event in page["events"])
        if "nextToken" not in page:
            return count
        more = {"nextToken": page["nextToken"]}
