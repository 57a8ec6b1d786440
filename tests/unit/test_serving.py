"""A valid access token for whoever asks, whatever happens to its refresh."""

import json
from typing import Any

import pytest

from flowaccount_connect.domain.connection import Reason, Sealed
from flowaccount_connect.domain.errors import Failure
from flowaccount_connect.http.problems import Problem
from flowaccount_connect.http.problems import problem as problem_of
from flowaccount_connect.rotation.refresh_function import LONGEST_INVOCATION
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from flowaccount_connect.storage.sealing import Sealer, TokenPair
from flowaccount_connect.tokens.serving import AccessTokens, Served
from tests.unit.fakes import CONNECTION, NOW
from tests.unit.tables import Fault, client_error
from tests.unit.worlds import TENANT, World

RECONNECT = "https://api.example/live/authorize"


def served(world: World, *, min_ttl: int = 300, rejected: int | None = None, seconds: float = 28) -> Served:
    return world.serving().token(
        CONNECTION,
        min_ttl=min_ttl,
        rejected_generation=rejected,
        reconnect_url=RECONNECT,
        remaining=world.clock.remaining(seconds),
    )


def refused(world: World, *, min_ttl: int = 300, rejected: int | None = None) -> Problem:
    """What a caller reads of the error."""
    with pytest.raises((Failure, StoreUnavailable)) as caught:
        served(world, min_ttl=min_ttl, rejected=rejected)
    return problem_of(caught.value)


def test_a_fresh_enough_token_costs_one_read_and_no_refresh(world: World) -> None:
    world.connect(age=1_000)
    answer = served(world)
    assert answer == Served(
        access_token="access-1",
        expires_in=85_400,
        expires_at=NOW + 85_400,
        support_code=CONNECTION,
        environment="sandbox",
        generation=1,
        status="active",
    )
    assert world.table.calls == ["get_item"]
    assert world.lambdas.invoked == []


def test_what_was_opened_once_is_not_opened_again(world: World) -> None:
    world.connect(age=1_000)
    world.sealer = Sealer(world.kms, "key", stack="connect", environment="sandbox")  # Knows no data key yet.
    world.access_tokens = AccessTokens(world.sealer)
    assert [served(world).access_token for _ in range(3)] == ["access-1"] * 3
    assert (world.table.calls, world.kms.decrypts, world.lambdas.invoked) == (["get_item"] * 3, 1, [])


class Opener(Sealer):
    """Opens anything, and remembers what."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str, bytes]] = []

    def open(self, sealed: Sealed, *, owner: str, grant_id: str) -> TokenPair:
        self.opened.append((owner, grant_id, sealed.ciphertext))
        return TokenPair(f"access of {owner} {len(self.opened)}", "refresh")


def test_opened_tokens_are_remembered_by_what_was_sealed_and_the_oldest_are_forgotten() -> None:
    opener = Opener()
    tokens = AccessTokens(opener, kept=2)
    first, second = Sealed(b"1", b"k"), Sealed(b"2", b"k")
    assert tokens.open("A", "g", first) == tokens.open("A", "g", first) == "access of A 1"
    assert tokens.open("A", "g", second) == "access of A 2"
    assert tokens.open("A", "h", second) == "access of A 3"
    assert tokens.open("B", "h", second) == "access of B 4"
    assert tokens.open("A", "h", second) == "access of A 3"
    assert tokens.open("C", "h", second) == "access of C 5"
    assert tokens.open("A", "h", second) == "access of A 3"
    assert tokens.open("B", "h", second) == "access of B 6"
    assert "access of" not in repr(tokens)


def test_a_token_that_lives_too_short_is_refreshed_first(world: World) -> None:
    world.connect(lifetime=22_000 + 299)
    world.lambdas.act = world.rotated_by_another
    answer = served(world)
    assert (answer.access_token, answer.generation, answer.expires_in) == ("access-other", 2, 86_400)
    (invoked,) = world.lambdas.invoked
    assert (invoked["FunctionName"], invoked["InvocationType"]) == ("refresh-function", "RequestResponse")
    assert json.loads(invoked["Payload"]) == {"connection_id": CONNECTION, "generation": 1}


@pytest.mark.parametrize(("min_ttl", "invoked"), [(0, 0), (300, 0), (301, 1), (3_600, 1)])
def test_min_ttl_is_what_must_be_left(world: World, min_ttl: int, invoked: int) -> None:
    world.connect(lifetime=22_000 + 300)
    assert served(world, min_ttl=min_ttl).expires_in == 300
    assert len(world.lambdas.invoked) == invoked


def test_a_token_younger_than_a_minute_is_as_fresh_as_it_gets(world: World) -> None:
    world.connect(age=59, lifetime=120)
    assert served(world, min_ttl=3_600).expires_in == 61
    assert world.lambdas.invoked == []


def test_a_rejected_generation_is_refreshed_however_fresh_it_looks(world: World) -> None:
    world.connect(age=61)
    world.lambdas.act = world.rotated_by_another
    assert served(world, rejected=1).generation == 2


def test_a_generation_that_has_moved_on_already_is_not_refreshed_again(world: World) -> None:
    world.connect(age=61)
    for rejected in (0, 2, 99):
        assert served(world, rejected=rejected).generation == 1
    assert world.lambdas.invoked == []


def test_at_most_one_refresh_a_minute_can_be_forced(world: World) -> None:
    world.connect(age=59)
    problem = refused(world, rejected=1)
    assert (problem.code, problem.status, problem.retry_after) == ("refreshed_just_now", 503, 1)
    assert world.lambdas.invoked == []


def test_at_most_one_refresh_a_minute_can_be_forced_whatever_came_of_it(world: World) -> None:
    world.connect(age=1_000)
    assert served(world, rejected=1).status == "refresh_failing"
    for passed, left in ((5, 55), (54, 1)):
        world.clock.now += passed
        problem = refused(world, rejected=1)
        assert (problem.code, problem.status, problem.retry_after) == ("refreshed_just_now", 503, left)
    assert len(world.lambdas.invoked) == 1
    assert served(world).access_token == "access-1"
    world.clock.now += 1
    assert served(world, rejected=1).access_token == "access-1"
    assert len(world.lambdas.invoked) == 2


def test_who_reports_the_same_generation_meanwhile_waits_for_the_one_refresh(world: World) -> None:
    world.connect(age=1_000)
    world.demand.take(CONNECTION, 1, now=NOW, seconds=20, forced=True)
    world.clock.on_sleep = lambda: world.rotated_by_another() if len(world.clock.slept) == 2 else None
    assert served(world, rejected=1).generation == 2
    assert world.lambdas.invoked == []


def test_while_another_attempt_holds_it_one_waits_and_never_invokes(world: World) -> None:
    world.connect(lifetime=22_100)
    world.hold()
    reads = 0

    def after_a_while(operation: str) -> None:
        nonlocal reads
        reads += operation == "get_item"
        if reads == 4:
            world.rotated_by_another()
            reads += 1

    world.table.on_call = after_a_while
    assert served(world).generation == 2
    assert world.lambdas.invoked == []
    assert world.clock.slept == sorted(world.clock.slept)
    assert len(world.clock.slept) == 3


def test_waiting_for_another_attempt_ends_in_time_with_the_living_token(world: World) -> None:
    world.connect(lifetime=22_100)
    world.hold()
    answer = served(world, seconds=20)
    assert (answer.access_token, answer.generation) == ("access-1", 1)
    assert sum(world.clock.slept) <= 17.001
    assert world.lambdas.invoked == []


def test_who_comes_while_another_asks_waits_and_reads(world: World) -> None:
    world.connect(lifetime=22_000)
    _, mine = world.demand.take(CONNECTION, 1, now=NOW, seconds=20, forced=False)
    assert mine

    def asleep() -> None:
        if len(world.clock.slept) == 4:
            world.rotated_by_another()

    world.clock.on_sleep = asleep
    assert served(world).generation == 2
    assert world.clock.slept == sorted(world.clock.slept)
    assert world.lambdas.invoked == []


def test_who_waits_for_anothers_refresh_learns_that_it_failed(world: World) -> None:
    world.connect(lifetime=22_000)
    turn, _ = world.demand.take(CONNECTION, 1, now=NOW, seconds=20, forced=False)

    def asleep() -> None:
        if len(world.clock.slept) == 2:
            world.demand.answered(CONNECTION, turn, until=int(world.clock()) + 30)

    world.clock.on_sleep = asleep
    problem = refused(world)
    assert (problem.code, problem.retry_after, len(world.clock.slept)) == ("token_unavailable", 30, 2)
    assert world.lambdas.invoked == []


def test_a_turn_that_was_taken_unacknowledged_is_ones_own(world: World) -> None:
    world.connect(lifetime=22_000)
    client = world.table
    original = client.update_item

    def twice(**kwargs: Any) -> Any:
        if kwargs["Key"]["pk"]["S"].startswith("DEMAND#") and "take" not in seen:
            seen.append("take")
            original(**kwargs)
        return original(**kwargs)

    seen: list[str] = []
    client.update_item = twice  # type: ignore[method-assign]
    world.lambdas.act = world.rotated_by_another
    assert served(world).generation == 2


def test_a_refresh_that_has_to_wait_for_its_allowance_says_for_how_long(world: World) -> None:
    world.connect(lifetime=22_000)
    world.lambdas.answer = {"outcome": "paced", "retry_after": 30}
    problems = [refused(world) for _ in range(3)]
    assert {(problem.code, problem.status, problem.retry_after) for problem in problems} == {
        ("token_unavailable", 503, 30)
    }
    assert len(world.lambdas.invoked) == 1
    world.clock.now += 30
    refused(world)
    assert len(world.lambdas.invoked) == 2


def test_while_a_refresh_has_to_wait_the_living_token_is_served(world: World) -> None:
    world.connect(lifetime=22_100)
    world.lambdas.answer = {"outcome": "paced", "retry_after": 30}
    answers = [served(world) for _ in range(3)]
    assert {(answer.access_token, answer.status) for answer in answers} == {("access-1", "refresh_failing")}
    assert len(world.lambdas.invoked) == 1


@pytest.mark.parametrize("answer", [None, [], {"retry_after": "soon"}, {"retry_after": -1}, {"errorType": "x"}])
def test_an_answer_of_refresh_that_says_nothing_means_a_little_patience(world: World, answer: Any) -> None:
    world.connect(lifetime=22_000)
    world.lambdas.answer = answer
    assert refused(world).retry_after == 5


def test_a_table_that_takes_no_turn_serves_the_living_token_and_nobody_asks(world: World) -> None:
    world.connect(lifetime=22_100)
    world.table.faults["update_item"] = [Fault(client_error("ThrottlingException"))]
    assert served(world).access_token == "access-1"
    assert world.lambdas.invoked == []


@pytest.mark.parametrize("seconds", [1.6, 2.0, 3.0])
def test_over_a_slow_table_a_token_is_refreshed_all_the_same(world: World, seconds: float) -> None:
    world.connect(lifetime=22_100)
    world.lambdas.act = world.rotated_by_another
    world.table.on_call = lambda _: world.clock.sleep(seconds)
    assert served(world).generation == 2


def test_a_commit_by_a_clock_that_was_ahead_is_not_fresh_for_as_long(world: World) -> None:
    world.connect()
    world.change(requested_at=NOW + 86_400)
    world.lambdas.act = world.rotated_by_another
    assert served(world, rejected=1).generation == 2


def test_a_lease_that_nobody_can_have_given_keeps_no_caller_waiting(world: World) -> None:
    world.connect(lifetime=22_000)
    world.change(attempt_id="a", attempt_started_at=NOW, lease_until=NOW + 86_400)
    begun = world.clock.now
    with pytest.raises(Failure):
        served(world)
    assert world.clock.now - begun <= 1


def test_a_turn_that_took_too_long_to_take_asks_for_nothing(world: World) -> None:
    world.connect(lifetime=22_100)

    def slowly(operation: str) -> None:
        world.clock.now += 8 if operation == "update_item" else 0

    world.table.on_call = slowly
    assert served(world).status == "refresh_failing"
    assert world.lambdas.invoked == []


def test_an_attempt_whose_lease_ran_out_does_not_hold_it(world: World) -> None:
    world.connect(lifetime=22_100)
    world.hold(lease=0)
    world.lambdas.act = world.rotated_by_another
    assert served(world).generation == 2


def test_a_failed_refresh_serves_the_living_token_after_one_try(world: World) -> None:
    world.connect(lifetime=22_100)
    answer = served(world)
    assert (answer.access_token, answer.expires_in) == ("access-1", 100)
    assert answer.status == "refresh_failing"
    assert len(world.lambdas.invoked) == 1
    # The turn to ask is taken before, and what came of it said to the others after.
    assert world.table.calls == ["get_item", "update_item", "get_item", "update_item"]


def test_a_refresh_that_breaks_down_serves_the_living_token(world: World) -> None:
    world.connect(lifetime=22_100)

    def act() -> None:
        raise TimeoutError("CANARY")

    world.lambdas.act = act
    assert served(world).access_token == "access-1"


def test_a_table_that_goes_away_during_the_refresh_does_not_take_the_living_token_with_it(world: World) -> None:
    world.connect(lifetime=22_100)
    world.lambdas.act = lambda: world.table.faults["get_item"].append(Fault(client_error("InternalServerError")))
    assert served(world).access_token == "access-1"


def test_without_the_time_to_wait_for_it_no_refresh_is_begun(world: World) -> None:
    world.connect(lifetime=22_100)
    assert served(world, seconds=LONGEST_INVOCATION).access_token == "access-1"
    assert world.lambdas.invoked == []


def test_during_a_backoff_nothing_is_tried(world: World) -> None:
    world.connect(lifetime=22_100)
    world.change(retries=2, refresh_at=NOW + 60)
    assert served(world).access_token == "access-1"
    assert world.lambdas.invoked == []


def test_once_the_backoff_is_over_it_is_tried_again(world: World) -> None:
    world.connect(lifetime=22_100)
    world.change(retries=2, refresh_at=NOW)
    served(world)
    assert len(world.lambdas.invoked) == 1


@pytest.mark.parametrize(("later", "retry_after"), [(40, 40), (1, 2), (0, 5), (-500, 5), (9_000, 60)])
def test_an_expired_token_that_could_not_be_refreshed_asks_for_patience(
    world: World, later: int, retry_after: int
) -> None:
    world.connect(lifetime=22_000)
    world.change(retries=1, refresh_at=NOW + later)
    problem = refused(world)
    assert (problem.code, problem.status, problem.retry_after) == ("token_unavailable", 503, retry_after)


def test_a_token_is_not_served_in_the_second_it_expires(world: World) -> None:
    world.connect(lifetime=22_001)
    assert served(world, min_ttl=0).expires_in == 1
    world.clock.now += 1
    assert refused(world, min_ttl=0).code == "token_unavailable"


@pytest.mark.parametrize("reason", Reason)
def test_only_when_no_living_token_is_left_a_new_consent_is_asked_for(world: World, reason: Reason) -> None:
    world.connect(lifetime=22_100)
    world.change(tenant=TENANT)
    world.end(reason.value)
    answer = served(world)
    assert (answer.access_token, answer.status) == ("access-1", "reauthorization_required")
    world.clock.now += 100
    problem = refused(world)
    assert (problem.code, problem.status) == ("reauthorization_required", 409)
    assert problem.facts == {
        "reason": reason,
        "since": NOW - 50,
        "reconnect": {"tenant": TENANT, "expected_connection": CONNECTION},
        "reconnect_url": RECONNECT,
    }
    assert world.lambdas.invoked == []


def test_a_rejected_generation_of_a_dead_connection_is_served_while_it_lives_and_not_refreshed(world: World) -> None:
    world.connect(age=30)
    world.end("rejected")
    assert served(world, rejected=1).status == "reauthorization_required"
    assert world.lambdas.invoked == []


def test_doubt_is_told_beside_the_token(world: World) -> None:
    world.connect(age=1_000)
    world.change(in_doubt=NOW - 10)
    assert served(world).status == "in_doubt"


def test_what_is_unknown_or_disconnected_is_not_found(world: World) -> None:
    assert refused(world).code == "connection_not_found"
    world.connect()
    world.disconnect()
    problem = refused(world)
    assert (problem.code, problem.status) == ("connection_not_found", 404)


def test_a_disconnect_during_the_refresh_is_not_found(world: World) -> None:
    world.connect(lifetime=22_100)
    world.lambdas.act = world.disconnect
    assert refused(world).code == "connection_not_found"


def test_a_table_or_a_kms_that_cannot_be_reached_is_a_matter_of_time(world: World) -> None:
    world.connect(age=1_000)
    world.table.faults["get_item"] = [Fault(client_error("InternalServerError"))]
    problem = refused(world)
    assert (problem.code, problem.status, problem.retry_after) == ("store_unavailable", 503, 5)
    world.kms.error = client_error("ThrottlingException")
    problem = refused(world)
    assert (problem.code, problem.status, problem.retry_after) == ("key_unavailable", 503, 5)


def test_tokens_that_were_sealed_for_another_item_are_not_served(world: World) -> None:
    there = world.connect(age=1_000)
    assert there.sealed is not None
    world.change(grant_id="another-grant")
    problem = refused(world)
    assert (problem.code, problem.status) == ("sealed_elsewhere", 503)


def test_what_is_served_does_not_show_its_token(world: World) -> None:
    world.connect(age=1_000)
    answer = served(world)
    assert "access-1" not in f"{answer!r} {answer}"
