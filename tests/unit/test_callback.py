"""The end of a connect: consumed once, exchanged once, stored whatever happens; in this order and no other."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from flowaccount_connect.connect.callback import Ended, Returned
from flowaccount_connect.connect.endings import Ending
from flowaccount_connect.domain.connection import Status
from flowaccount_connect.domain.ids import fingerprint
from flowaccount_connect.oauth.client_secret import RETRY_AFTER
from flowaccount_connect.oauth.token_answer import Answer, Outcome
from flowaccount_connect.rotation.pending_commits import PendingCommits, PendingOutcome
from flowaccount_connect.rotation.time_left import COMMIT_RESERVE, LONGEST_EXCHANGE, SHORTEST_EXCHANGE
from flowaccount_connect.storage.attempts import AttemptStore, verifier_of
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from tests.unit.fakes import CONNECTION, NOW, tokens
from tests.unit.tables import Fault, client_error
from tests.unit.worlds import BROWSER, STATE, World

ATTEMPT_ID = fingerprint(STATE)
RETURNED = Returned(state=STATE, code="the-code", error=None, issuer=None, secret=BROWSER)
AWAY = Fault(client_error("InternalServerError"))


@pytest.fixture
def world() -> World:
    made = World()
    made.begin()
    made.endpoint.answers = [tokens()]
    return made


def finish(
    world: World,
    *,
    state: str = STATE,
    code: str | None = "the-code",
    error: str | None = None,
    issuer: str | None = None,
    secret: str | None = BROWSER,
    expected_issuer: str | None = None,
    seconds: float = 28,
) -> Ended:
    returned = replace(RETURNED, state=state, code=code, error=error, issuer=issuer, secret=secret)
    return world.callback(expected_issuer).finish(returned, remaining=world.clock.remaining(seconds))


def test_a_connect_ends_with_the_tokens_stored_and_the_attempt_finished(world: World) -> None:
    ended = finish(world)
    assert (ended.ending, ended.connection_id, ended.note) == (Ending.CONNECTED, CONNECTION, None)
    there = world.connection()
    assert (there.status, there.generation, there.environment) == (Status.ACTIVE, 1, "sandbox")
    assert (there.requested_at, there.deadline, there.access_expires_at) == (NOW, NOW + 86_400, NOW + 86_400)
    assert world.opened() == ("access-2", "refresh-2")
    assert world.attempt()["result"] == f"connected:{CONNECTION}"


def test_secret_attempt_data_key_exchange_and_write_come_in_this_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    world.table.on_call = steps.append
    world.endpoint.on_post = lambda: steps.append("POST")

    def noted(step: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(**parameters: Any) -> Any:
            steps.append(step)
            return call(**parameters)

        return run

    monkeypatch.setattr(world.secrets, "get_secret_value", noted("secret", world.secrets.get_secret_value))
    monkeypatch.setattr(world.kms, "generate_data_key", noted("data key", world.kms.generate_data_key))
    finish(world)
    assert steps == ["secret", "get_item", "data key", "update_item", "POST", "transact_write_items"]


def test_times_count_from_the_moment_the_request_was_sent(world: World) -> None:
    world.endpoint.on_post = lambda: world.clock.sleep(12)
    finish(world)
    assert world.connection().requested_at == NOW
    assert world.connection().deadline == NOW + 86_400


def test_an_answer_without_a_lifetime_is_given_the_configured_one(world: World) -> None:
    answer = tokens()
    assert answer.tokens is not None
    object.__setattr__(answer.tokens, "expires_in", None)
    world.endpoint.answers = [answer]
    finish(world)
    assert world.connection().access_expires_at == NOW + 3_600


def test_two_callbacks_at_the_same_moment_lead_to_exactly_one_exchange(world: World) -> None:
    together = threading.Barrier(8)
    # Those who come second wait for the first in earnest.
    callback = replace(world.callback(), sleep=time.sleep)

    def run(_: int) -> Ended:
        together.wait()
        return callback.finish(RETURNED, remaining=lambda: 28.0)

    with ThreadPoolExecutor(8) as pool:
        endings = [ended.ending for ended in pool.map(run, range(8))]
    assert len(world.endpoint.posts) == 1
    assert endings == [Ending.CONNECTED] * 8
    assert world.connection().generation == 1


def test_a_reload_shows_the_same_result_and_exchanges_nothing(world: World) -> None:
    finish(world)
    before = repr(world.table.items)
    again = finish(world)
    assert (again.ending, again.connection_id, again.note) == (Ending.CONNECTED, CONNECTION, "reload")
    assert len(world.endpoint.posts) == 1
    assert repr(world.table.items) == before


@pytest.mark.parametrize(
    ("answer", "ending"),
    [
        (Answer(Outcome.REJECTED, error="invalid_grant"), Ending.CODE_REJECTED),
        (Answer(Outcome.INCOMPLETE), Ending.INCOMPLETE_GRANT),
        (Answer(Outcome.CONFIGURATION_ERROR, error="invalid_client"), Ending.CONFIGURATION_ERROR),
        (Answer(Outcome.THROTTLED, retry_after=5), Ending.TEMPORARILY_UNAVAILABLE),
        (Answer(Outcome.IN_DOUBT), Ending.TEMPORARILY_UNAVAILABLE),
        (Answer(Outcome.NOT_SENT), Ending.TEMPORARILY_UNAVAILABLE),
    ],
)
def test_a_code_is_sent_once_whatever_comes_back_and_the_reload_says_so(
    world: World, answer: Answer, ending: Ending
) -> None:
    world.endpoint.answers = [answer]
    assert finish(world).ending is ending
    assert finish(world).ending is ending
    assert len(world.endpoint.posts) == 1
    assert not [key for key in world.table.items if key[1] == "CONNECTION"]


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        ("access_denied", Ending.ACCESS_DENIED),
        ("consent_required", Ending.AUTHORIZATION_FAILED),
        ("<script>", Ending.AUTHORIZATION_FAILED),
    ],
)
def test_an_error_consumes_the_attempt_too_and_sends_nothing(world: World, error: str, ending: Ending) -> None:
    assert finish(world, code=None, error=error).ending is ending
    assert world.attempt()["result"] == ending.value
    assert finish(world).ending is ending
    assert world.endpoint.posts == []
    assert error not in repr(world.table.items) or error == "access_denied"


def test_a_code_beside_an_error_is_not_sent(world: World) -> None:
    assert finish(world, error="access_denied").ending is Ending.ACCESS_DENIED
    assert world.endpoint.posts == []


def test_a_cancel_needs_no_client_secret(world: World) -> None:
    world.secrets.error = client_error("ResourceNotFoundException")
    assert finish(world, code=None, error="access_denied").ending is Ending.ACCESS_DENIED


@pytest.mark.parametrize("secret", [None, "", "another browser's", BROWSER + "x", "\ud800"])
def test_another_browser_changes_nothing_and_learns_nothing(world: World, secret: str | None) -> None:
    before = repr(world.table.items)
    for error in (None, "access_denied"):
        ended = finish(world, secret=secret, error=error)
        assert ended.ending is Ending.ATTEMPT_UNKNOWN
        assert ended.attempt is None
        assert ended.connection_id is None
    assert repr(world.table.items) == before
    assert world.endpoint.posts == []
    assert finish(world).ending is Ending.CONNECTED


def test_another_browser_does_not_see_how_it_ended(world: World) -> None:
    finish(world)
    ended = finish(world, secret="another browser's")
    assert (ended.ending, ended.attempt, ended.connection_id) == (Ending.ATTEMPT_UNKNOWN, None, None)


def test_an_unknown_state_looks_like_another_browser(world: World) -> None:
    ended = finish(world, state="unknown")
    assert (ended.ending, ended.attempt) == (Ending.ATTEMPT_UNKNOWN, None)
    assert len(world.table.items) == 1


def test_an_expired_attempt_is_refused_untouched(world: World) -> None:
    world.clock.now += 3_600
    before = repr(world.table.items)
    assert finish(world).ending is Ending.ATTEMPT_EXPIRED
    assert repr(world.table.items) == before
    assert world.endpoint.posts == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("not json", None),
        ("{}", None),
        ('{"client_secret": ""}', None),
        (None, None),
        ("{}", client_error("ResourceNotFoundException")),
        ("{}", client_error("AccessDeniedException")),
    ],
)
def test_without_a_client_secret_attempt_and_code_stay_as_they_are(
    world: World, text: str | None, error: Exception | None
) -> None:
    world.secrets.text, world.secrets.error = text, error
    before = repr(world.table.items)
    assert finish(world).ending is Ending.CONFIGURATION_ERROR
    assert repr(world.table.items) == before
    assert world.table.calls == []
    assert world.endpoint.posts == []
    world.secrets.text, world.secrets.error = '{"client_secret": "mended"}', None
    assert finish(world).ending is Ending.CONNECTED


def test_while_the_secret_cannot_be_looked_up_attempt_and_code_stay_as_they_are(world: World) -> None:
    world.secrets.error = client_error("ThrottlingException")
    untouched(world, finish(world))
    world.secrets.error = None
    world.clock.now += RETRY_AFTER
    assert finish(world).ending is Ending.CONNECTED


def untouched(world: World, ended: Ended) -> None:
    """Raises unless nothing was used up or sent, and a reload may help."""
    assert (ended.ending, ended.untouched) == (Ending.TEMPORARILY_UNAVAILABLE, True)
    assert world.endpoint.posts == []


def test_without_a_data_key_the_code_is_not_sent(world: World) -> None:
    world.kms.error = client_error("ThrottlingException")
    untouched(world, finish(world))
    world.kms.error = None
    assert finish(world).ending is Ending.CONNECTED, "the attempt and the code stay as they are"


def test_without_the_time_to_store_the_answer_the_code_is_not_sent(world: World) -> None:
    untouched(world, finish(world, seconds=COMMIT_RESERVE + SHORTEST_EXCHANGE - 0.1))
    assert finish(world).ending is Ending.CONNECTED


@pytest.mark.parametrize("seconds", [0.5, 1.4, 2.0, 3.0, 5.0, 7.0])
def test_a_slow_table_uses_nothing_up_in_vain(world: World, seconds: float) -> None:
    """What a call takes is known from the first one."""
    world.table.on_call = lambda _: world.clock.sleep(seconds)
    ended = finish(world)
    world.table.on_call = lambda _: None
    assert ended.untouched or len(world.endpoint.posts) == 1
    assert ended.ending is Ending.CONNECTED or finish(world).ending is Ending.CONNECTED


def test_an_ending_is_recorded_only_while_there_is_time_to_log_it(world: World) -> None:
    world.endpoint.answers = [Answer(Outcome.REJECTED, error="invalid_grant")]
    world.endpoint.on_post = lambda: world.clock.sleep(21)
    assert finish(world).ending is Ending.CODE_REJECTED
    assert "result" not in world.attempt()


@pytest.mark.parametrize("spare", [LONGEST_EXCHANGE + 10, LONGEST_EXCHANGE, 8, SHORTEST_EXCHANGE])
def test_the_exchange_leaves_time_to_store_its_answer(world: World, spare: float) -> None:
    finish(world, seconds=COMMIT_RESERVE + spare)
    assert world.endpoint.budgets == [min(spare, LONGEST_EXCHANGE)]


def test_an_attempt_that_could_not_be_consumed_exchanges_nothing(world: World) -> None:
    world.table.faults["update_item"] = [AWAY] * 30
    with pytest.raises(StoreUnavailable):
        finish(world)
    assert world.endpoint.posts == []
    world.table.faults.clear()
    assert finish(world).ending is Ending.CONNECTED


@pytest.mark.parametrize("written", [False, True])
def test_a_consumption_is_repeated_until_it_is_acknowledged(world: World, written: bool) -> None:
    world.table.faults["update_item"] = [replace(AWAY, written=written)] * 3
    assert finish(world).ending is Ending.CONNECTED
    assert len(world.endpoint.posts) == 1


def consumed_without_an_acknowledgement(world: World) -> None:
    """A callback whose attempt is consumed, and who never hears of it."""
    world.table.faults["update_item"] = [replace(AWAY, written=True)] + [AWAY] * 30
    with pytest.raises(StoreUnavailable):
        finish(world)
    world.table.faults.clear()


def test_an_attempt_that_was_consumed_unacknowledged_exchanges_nothing_on_its_reload(world: World) -> None:
    consumed_without_an_acknowledgement(world)
    assert finish(world).ending is Ending.ATTEMPT_USED
    assert world.endpoint.posts == []


def test_a_reload_does_not_wait_beyond_its_time(world: World) -> None:
    consumed_without_an_acknowledgement(world)
    world.table.on_call = lambda _: world.clock.sleep(2)
    begun = world.clock.now
    finish(world)
    assert world.clock.now - begun <= 28 - 4


def test_a_replaced_secret_is_looked_up_for_the_next_connect_but_this_code_is_not_sent_again(world: World) -> None:
    world.endpoint.answers = [Answer(Outcome.CONFIGURATION_ERROR, error="invalid_client"), tokens()]
    world.endpoint.on_post = lambda: setattr(world.secrets, "text", '{"client_secret": "newer"}')
    assert finish(world).ending is Ending.CONFIGURATION_ERROR
    assert len(world.endpoint.posts) == 1
    assert world.secret.get() == "newer"


@pytest.mark.parametrize("issuer", ["https://evil.example", None])
def test_an_issuer_that_is_not_the_configured_one_is_refused(world: World, issuer: str | None) -> None:
    ended = finish(world, issuer=issuer, expected_issuer="https://auth.example")
    assert ended.ending is Ending.CONFIGURATION_ERROR
    assert world.endpoint.posts == []


@pytest.mark.parametrize(("issuer", "expected"), [(None, None), ("https://x.example", None), ("i", "i")])
def test_any_other_issuer_is_ignored(world: World, issuer: str | None, expected: str | None) -> None:
    assert finish(world, issuer=issuer, expected_issuer=expected).ending is Ending.CONNECTED


def test_the_verifier_of_the_browser_goes_with_the_code_where_a_challenge_was_sent(world: World) -> None:
    finish(world)
    world.begin(pkce=True)
    finish(world)
    assert world.endpoint.verifiers == [None, verifier_of(BROWSER)]


def test_an_attempt_begun_in_the_other_environment_is_unknown_and_its_code_is_not_sent(world: World) -> None:
    production = replace(world.callback(), attempts=AttemptStore(world.table, "table", "production"))
    before = repr(world.table.items)
    assert production.finish(RETURNED, remaining=lambda: 28.0).ending is Ending.ATTEMPT_UNKNOWN
    assert repr(world.table.items) == before
    assert world.endpoint.posts == []


def test_a_table_that_stumbles_is_tried_again_without_another_exchange(world: World) -> None:
    conflict = client_error(
        "TransactionCanceledException", CancellationReasons=[{"Code": "TransactionConflict"}, {"Code": "None"}]
    )
    world.table.faults["transact_write_items"] = [Fault(conflict), Fault(client_error("ThrottlingException"))]
    assert finish(world).ending is Ending.CONNECTED
    assert len(world.endpoint.posts) == 1
    assert world.connection().generation == 1
    assert world.sqs.sent == []


def test_a_write_whose_acknowledgement_was_lost_counts_once(world: World) -> None:
    world.table.faults["transact_write_items"] = [Fault(TimeoutError(), written=True)]
    ended = finish(world)
    assert (ended.ending, ended.note) == (Ending.CONNECTED, None)
    assert world.connection().generation == 1


def test_an_attempt_item_that_is_gone_costs_no_tokens(world: World) -> None:
    world.endpoint.on_post = world.table.clear
    assert finish(world).ending is Ending.CONNECTED
    assert world.opened() == ("access-2", "refresh-2")
    assert len(world.table.items) == 1


def test_a_later_consent_wins(world: World) -> None:
    world.endpoint.on_post = partial(world.connect, age=0, grant_id="ffffffff-later")
    ended = finish(world)
    assert (ended.ending, ended.note) == (Ending.CONNECTED, "a later consent is stored")
    assert world.connection().grant_id == "ffffffff-later"
    assert world.opened() == ("access-1", "refresh-1")


def test_a_reconnect_beats_what_is_in_flight_and_moves_the_generation_on(world: World) -> None:
    world.connect(grant_id="00000000-older")
    world.hold()
    assert finish(world).ending is Ending.CONNECTED
    there = world.connection()
    assert (there.generation, there.attempt) == (2, None)
    assert world.opened() == ("access-2", "refresh-2")


def test_while_the_table_stays_away_the_set_goes_as_ciphertext_to_the_salvage_queue(world: World) -> None:
    world.table.faults["transact_write_items"] = [AWAY] * 99
    ended = finish(world)
    assert (ended.ending, ended.note, ended.connection_id) == (Ending.CONNECTED, "pending", CONNECTION)
    (message,) = world.sqs.sent
    assert "access-2" not in message["MessageBody"]
    assert "refresh-2" not in message["MessageBody"]
    assert world.clock.now < NOW + 28
    applied = PendingCommits(world.table, "table").apply(message["MessageBody"], now=NOW + 60)
    assert applied == (PendingOutcome.APPLIED, CONNECTION)
    assert world.opened() == ("access-2", "refresh-2")


def test_what_neither_table_nor_queue_took_is_not_called_connected(world: World) -> None:
    world.table.faults["transact_write_items"] = [AWAY] * 99
    world.sqs.error = client_error("OverLimit")
    ended = finish(world)
    assert (ended.ending, ended.note, ended.connection_id) == (Ending.TEMPORARILY_UNAVAILABLE, "lost", None)


def test_a_reload_waits_for_the_callback_that_it_overtook(world: World) -> None:
    world.attempts.consume(ATTEMPT_ID, secret=BROWSER, callback_id="the other", now=NOW)

    def after(operation: str) -> None:
        if operation == "get_item" and len(world.clock.slept) == 3:
            world.attempts.finish(ATTEMPT_ID, "access_denied")

    world.table.on_call = after
    assert finish(world).ending is Ending.ACCESS_DENIED
    assert len(world.clock.slept) == 3


def test_a_reload_of_what_never_ended_says_that_it_was_used(world: World) -> None:
    world.attempts.consume(ATTEMPT_ID, secret=BROWSER, callback_id="the other", now=NOW)
    assert finish(world).ending is Ending.ATTEMPT_USED
    assert sum(world.clock.slept) < 10
    assert world.endpoint.posts == []


def test_a_result_that_cannot_be_noted_changes_no_ending(world: World) -> None:
    world.endpoint.answers = [Answer(Outcome.REJECTED)]
    world.endpoint.on_post = lambda: world.table.faults["update_item"].append(Fault(TimeoutError()))
    assert finish(world).ending is Ending.CODE_REJECTED


def test_nothing_secret_shows_or_is_stored_in_the_clear(world: World) -> None:
    returned = replace(RETURNED, code="code-CANARY")
    assert "CANARY" not in f"{returned!r} {returned}"
    ended = finish(world, code="code-CANARY")
    stored = repr(world.table.items) + json.dumps(world.sqs.sent)
    for secret in ("code-CANARY", "access-2", "refresh-2", STATE, BROWSER, "the-secret"):
        assert secret not in stored
        assert secret not in repr(ended)
