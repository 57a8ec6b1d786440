"""One attempt to connect: consumed once, in time, in the browser that began it; stored as hashes only."""

import pytest

from flowaccount_connect.domain.ids import fingerprint
from flowaccount_connect.storage.attempts import ConnectSession, SessionRefused, SessionStore, cookie_name
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from tests.unit.fakes import NOW
from tests.unit.tables import Fault, Table, client_error

STATE, SECRET = "state-CANARY", "secret-CANARY"
SESSION = ConnectSession(
    id=fingerprint(STATE),
    binding=fingerprint(SECRET),
    redirect_uri="https://api.example/live/callback",
    expires_at=NOW + 3_600,
    return_url="https://app.example.com/done",
    host_state="host",
)


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def sessions(table: Table) -> SessionStore:
    store = SessionStore(table, "table", "sandbox")
    store.create(SESSION)
    return store


def consume(
    sessions: SessionStore, *, secret: str = SECRET, attempt_id: str = "attempt-1", now: int = NOW
) -> ConnectSession:
    return sessions.consume(SESSION.id, secret=secret, attempt_id=attempt_id, now=now)


def refused(sessions: SessionStore, *, secret: str = SECRET, now: int = NOW) -> ConnectSession | None:
    with pytest.raises(SessionRefused) as caught:
        consume(sessions, secret=secret, attempt_id="attempt-2", now=now)
    return caught.value.session


def test_a_session_comes_back_as_it_was_written(sessions: SessionStore) -> None:
    assert sessions.get(SESSION.id) == SESSION
    assert sessions.get("unknown") is None


def test_neither_state_nor_the_browsers_secret_is_stored(sessions: SessionStore, table: Table) -> None:
    assert sessions.get(SESSION.id) is not None
    assert "CANARY" not in repr(table.items)


def test_a_session_is_put_away_by_the_table_once_it_has_expired(sessions: SessionStore, table: Table) -> None:
    assert sessions.get(SESSION.id) is not None
    assert table.item("SESSION", SESSION.id)["ttl"] == SESSION.expires_at


def test_a_session_is_consumed_once(sessions: SessionStore) -> None:
    assert consume(sessions).consumed_by == "attempt-1"
    there = refused(sessions)
    assert there is not None
    assert there.consumed_by == "attempt-1"


def test_an_unknown_session_is_not_made_by_consuming_it(table: Table) -> None:
    assert refused(SessionStore(table, "table", "sandbox")) is None
    assert table.items == {}


@pytest.mark.parametrize("now", [NOW + 3_600, NOW + 90_000])
def test_an_expired_session_is_refused_although_it_is_still_there(sessions: SessionStore, now: int) -> None:
    there = refused(sessions, now=now)
    assert there is not None
    assert there.consumed_by is None


def test_the_last_second_still_counts(sessions: SessionStore) -> None:
    assert consume(sessions, now=NOW + 3_599).consumed_by == "attempt-1"


def test_another_browser_consumes_nothing(sessions: SessionStore, table: Table) -> None:
    before = repr(table.items)
    refused(sessions, secret="another browser's")
    assert repr(table.items) == before
    assert consume(sessions).consumed_by == "attempt-1"


def test_a_retry_of_the_sdk_recognises_its_own_write(sessions: SessionStore) -> None:
    consume(sessions)
    assert consume(sessions).consumed_by == "attempt-1"


def test_a_table_that_cannot_be_reached_consumes_nothing(sessions: SessionStore, table: Table) -> None:
    table.faults["update_item"] = [Fault(client_error("ProvisionedThroughputExceededException"))]
    with pytest.raises(StoreUnavailable, match=r"^ProvisionedThroughputExceededException$"):
        consume(sessions)
    assert consume(sessions).consumed_by == "attempt-1"


def test_a_result_is_kept_but_makes_no_session(sessions: SessionStore, table: Table) -> None:
    consume(sessions)
    sessions.finish(SESSION.id, "access_denied")
    found = sessions.get(SESSION.id)
    assert found is not None
    assert found.result == "access_denied"
    table.clear()
    with pytest.raises(Exception, match="refused"):
        sessions.finish(SESSION.id, "access_denied")
    assert table.items == {}


@pytest.mark.parametrize("secret", [None, "", "x", SECRET + "x", "\ud800"])
def test_only_the_browser_with_the_secret_is_the_one_that_began(secret: str | None) -> None:
    assert SESSION.is_bound_to(SECRET)
    assert not SESSION.is_bound_to(secret)


def test_each_session_has_a_host_cookie_of_its_own() -> None:
    names = {cookie_name(fingerprint(str(i))) for i in range(100)}
    assert len(names) == 100
    assert all(name.startswith("__Host-connect-") and len(name) == 31 for name in names)
