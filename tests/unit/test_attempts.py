"""One attempt to connect: consumed once, in time, in the browser that began it; stored as hashes only."""

import pytest

from flowaccount_connect.domain.ids import fingerprint
from flowaccount_connect.storage.attempts import (
    CODE_LIFETIME,
    AttemptRefused,
    AttemptStore,
    ConnectAttempt,
    cookie_name,
)
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from tests.unit.fakes import NOW
from tests.unit.tables import Fault, Table, client_error

STATE, SECRET = "state-CANARY", "secret-CANARY"
ATTEMPT = ConnectAttempt(
    id=fingerprint(STATE),
    binding=fingerprint(SECRET),
    redirect_uri="https://api.example/live/callback",
    expires_at=NOW + 3_600,
    return_url="https://app.example.com/done",
    app_state="app",
)


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def attempts(table: Table) -> AttemptStore:
    store = AttemptStore(table, "table", "sandbox")
    store.create(ATTEMPT)
    return store


def consume(
    attempts: AttemptStore, *, secret: str = SECRET, callback_id: str = "callback-1", now: int = NOW
) -> ConnectAttempt:
    return attempts.consume(ATTEMPT.id, secret=secret, callback_id=callback_id, now=now)


def refused(attempts: AttemptStore, *, secret: str = SECRET, now: int = NOW) -> ConnectAttempt | None:
    with pytest.raises(AttemptRefused) as caught:
        consume(attempts, secret=secret, callback_id="callback-2", now=now)
    return caught.value.attempt


def test_an_attempt_comes_back_as_it_was_written(attempts: AttemptStore) -> None:
    assert attempts.get(ATTEMPT.id) == ATTEMPT
    assert attempts.get("unknown") is None


def test_neither_state_nor_the_browsers_secret_is_stored(attempts: AttemptStore, table: Table) -> None:
    assert attempts.get(ATTEMPT.id) is not None
    assert "CANARY" not in repr(table.items)


def test_an_attempt_is_deleted_by_the_table_once_no_code_of_it_can_be_good(
    attempts: AttemptStore, table: Table
) -> None:
    assert attempts.get(ATTEMPT.id) is not None
    assert table.item("ATTEMPT", ATTEMPT.id)["ttl"] == ATTEMPT.expires_at + CODE_LIFETIME


def test_an_attempt_is_consumed_once(attempts: AttemptStore) -> None:
    assert consume(attempts).consumed_by == "callback-1"
    there = refused(attempts)
    assert there is not None
    assert there.consumed_by == "callback-1"


def test_an_unknown_link_is_not_made_by_consuming_it(table: Table) -> None:
    assert refused(AttemptStore(table, "table", "sandbox")) is None
    assert table.items == {}


@pytest.mark.parametrize("now", [NOW + 3_600, NOW + 90_000])
def test_an_expired_attempt_is_refused_although_it_is_still_there(attempts: AttemptStore, now: int) -> None:
    there = refused(attempts, now=now)
    assert there is not None
    assert there.consumed_by is None


def test_the_last_second_still_counts(attempts: AttemptStore) -> None:
    assert consume(attempts, now=NOW + 3_599).consumed_by == "callback-1"


def test_another_browser_consumes_nothing(attempts: AttemptStore, table: Table) -> None:
    before = repr(table.items)
    refused(attempts, secret="another browser's")
    assert repr(table.items) == before
    assert consume(attempts).consumed_by == "callback-1"


def test_a_retry_of_the_sdk_recognises_its_own_write(attempts: AttemptStore) -> None:
    consume(attempts)
    assert consume(attempts).consumed_by == "callback-1"


def test_a_table_that_cannot_be_reached_consumes_nothing(attempts: AttemptStore, table: Table) -> None:
    table.faults["update_item"] = [Fault(client_error("ProvisionedThroughputExceededException"))]
    with pytest.raises(StoreUnavailable, match=r"^ProvisionedThroughputExceededException$"):
        consume(attempts)
    assert consume(attempts).consumed_by == "callback-1"


def test_a_result_is_kept_but_makes_no_attempt(attempts: AttemptStore, table: Table) -> None:
    consume(attempts)
    attempts.finish(ATTEMPT.id, "access_denied")
    found = attempts.get(ATTEMPT.id)
    assert found is not None
    assert found.result == "access_denied"
    table.clear()
    with pytest.raises(Exception, match="refused"):
        attempts.finish(ATTEMPT.id, "access_denied")
    assert table.items == {}


@pytest.mark.parametrize("secret", [None, "", "x", SECRET + "x", "\ud800"])
def test_only_the_browser_with_the_secret_is_the_one_that_began(secret: str | None) -> None:
    assert ATTEMPT.is_bound_to(SECRET)
    assert not ATTEMPT.is_bound_to(secret)


def test_each_attempt_has_a_host_cookie_of_its_own() -> None:
    names = {cookie_name(fingerprint(str(i))) for i in range(100)}
    assert len(names) == 100
    assert all(name.startswith("__Host-connect-") and len(name) == 31 for name in names)
