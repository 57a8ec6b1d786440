"""Two of everything at the same moment: still one exchange, and one POST."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from local import service
from local.stack import Stack
from local.visit import HttpVisitor
from tests.e2e.conftest import Simulator


def test_two_callbacks_at_once_exchange_the_code_once(up: Stack, simulator: Simulator, visitor: HttpVisitor) -> None:
    back = visitor.consent(up.authorize_url, user="somchai", business="N1000003")
    with ThreadPoolExecutor(6) as pool:
        arrived = list(pool.map(lambda _: visitor.follow(back), range(6)))
    assert len(simulator.posts("authorization_code")) == 1
    assert [one.page for one in arrived] == ["connected"] * 6


def test_a_reload_shows_the_same_and_exchanges_nothing(up: Stack, simulator: Simulator, visitor: HttpVisitor) -> None:
    back = visitor.consent(up.authorize_url, user="somchai", business="N1000001")
    assert [visitor.follow(back).page for _ in range(3)] == ["connected"] * 3
    assert len(simulator.posts("authorization_code")) == 1


def test_many_refreshes_at_once_are_one_post(up: Stack, simulator: Simulator, connection: str, set_item: Any) -> None:
    simulator.fault("delay", seconds=1, when="before")
    set_item(connection, refresh_at=int(time.time()) - 1)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: service.invoke(up, "refresh", {"connection_id": connection}), range(8)))
    assert len(simulator.posts("refresh_token")) == 1
    outcomes = sorted(answer["outcome"] for answer in answers)
    assert outcomes.count("refreshed") == 1
    assert set(outcomes) <= {"refreshed", "in_flight", "not_due"}


def test_many_callers_on_an_expired_token_are_one_post(
    up: Stack, simulator: Simulator, connection: str, set_item: Any
) -> None:
    now = int(time.time())
    set_item(connection, requested_at=now - 90_000, access_expires_at=now - 10)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: service.call(up, "GET", f"/connections/{connection}/token"), range(12)))
    assert [answer.status_code for answer in answers] == [200] * 12
    assert len({answer.json()["access_token"] for answer in answers}) == 1
    assert len(simulator.posts("refresh_token")) == 1
