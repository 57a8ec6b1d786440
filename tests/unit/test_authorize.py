"""The beginning of a connect: a session bound to the browser, and nothing at all for bad input."""

from urllib.parse import parse_qsl, urlsplit

import pytest

from flowaccount_connect.authorize import LONGEST_HOST_STATE, Authorize, Begun
from flowaccount_connect.connect_session import SessionStore, cookie_name
from flowaccount_connect.dynamodb import StoreUnavailable
from flowaccount_connect.identifiers import fingerprint
from flowaccount_connect.problems import Problem
from flowaccount_connect.settings import Authorize as Settings
from tests.unit.fakes import NOW
from tests.unit.tables import Fault, Table, client_error

RETURN_URL = "https://app.example.com/done"
REDIRECT_URI = "https://api.example/live/callback?x=%2F"


@pytest.fixture
def table() -> Table:
    return Table()


def begin(
    table: Table, *, return_url: str | None = RETURN_URL, host_state: str | None = "host", session: str | None = None
) -> Begun:
    authorize = Authorize(
        sessions=SessionStore(table, "table"),
        settings=Settings(
            endpoint="https://auth.example/connect/authorize",
            client_id="client",
            redirect_uri=None,
            return_urls=frozenset({RETURN_URL}),
            session_lifetime=3_600,
        ),
        clock=lambda: float(NOW),
    )
    return authorize.begin(redirect_uri=REDIRECT_URI, return_url=return_url, host_state=host_state, session=session)


def test_the_session_remembers_what_the_callback_needs_and_the_redirect_uri_byte_for_byte(table: Table) -> None:
    begun = begin(table)
    query = dict(parse_qsl(urlsplit(begun.location).query))
    item = table.item("SESSION", fingerprint(query["state"]))
    assert (item["redirect_uri"], item["return_url"], item["host_state"]) == (REDIRECT_URI, RETURN_URL, "host")
    assert (item["expires_at"], item["ttl"]) == (NOW + 3_600, NOW + 3_600)
    assert query["redirect_uri"] == REDIRECT_URI
    assert table.calls == ["put_item"]


def test_the_cookie_binds_this_browser_to_this_session_only(table: Table) -> None:
    begun = begin(table)
    name, _, rest = begun.cookie.partition("=")
    secret, *attributes = rest.split("; ")
    state = dict(parse_qsl(urlsplit(begun.location).query))["state"]
    assert name == cookie_name(fingerprint(state))
    assert attributes == ["Path=/", "Secure", "HttpOnly", "SameSite=Lax", "Max-Age=3600"]
    assert table.item("SESSION", fingerprint(state))["binding"] == fingerprint(secret)
    assert secret != state


def test_neither_state_nor_secret_is_stored_or_shown(table: Table) -> None:
    begun = begin(table)
    state = dict(parse_qsl(urlsplit(begun.location).query))["state"]
    secret = begun.cookie.partition("=")[2].partition(";")[0]
    for value in (state, secret):
        assert len(value) == 43
        assert value not in repr(table.items)
        assert value not in f"{begun!r} {begun}"


def test_no_two_connects_share_anything(table: Table) -> None:
    begun = [begin(table) for _ in range(20)]
    assert len({b.location for b in begun}) == len({b.cookie for b in begun}) == len(table.items) == 20


def test_without_a_return_url_a_page_ends_it(table: Table) -> None:
    begin(table, return_url=None, host_state=None)
    (item,) = table.items.values()
    assert not {"return_url", "host_state"} & item.keys()


@pytest.mark.parametrize("url", ["https://evil.example/", RETURN_URL + "/", RETURN_URL + "?x=1", "/done"])
def test_a_return_url_that_is_not_on_the_list_writes_nothing(table: Table, url: str) -> None:
    with pytest.raises(Problem) as caught:
        begin(table, return_url=url)
    assert caught.value.code == "return_url_not_allowed"
    assert "evil" not in str(caught.value)
    assert table.calls == []


@pytest.mark.parametrize(
    "state", ["x" * (LONGEST_HOST_STATE + 1), "a\nb", "a\r\nSet-Cookie: x", "\x00", "\u202e", "\ud800"]
)
def test_a_host_state_that_cannot_be_handed_back_writes_nothing(table: Table, state: str) -> None:
    with pytest.raises(Problem) as caught:
        begin(table, host_state=state)
    assert caught.value.code == "invalid_state"
    assert table.calls == []


def test_the_longest_host_state_is_kept(table: Table) -> None:
    begin(table, host_state="\u0e01" * LONGEST_HOST_STATE)
    assert len(table.items) == 1


def test_a_session_nobody_made_writes_nothing(table: Table) -> None:
    with pytest.raises(Problem) as caught:
        begin(table, session="unknown")
    assert (caught.value.code, caught.value.status) == ("unknown_session", 400)
    assert table.calls == []


def test_without_a_written_session_nobody_is_sent_away(table: Table) -> None:
    table.faults["put_item"] = [Fault(client_error("InternalServerError"))]
    with pytest.raises(StoreUnavailable):
        begin(table)
