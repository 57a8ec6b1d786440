"""The beginning of a connect: an attempt bound to the browser, and nothing at all for bad input."""

import base64
import hashlib
import re
from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from flowaccount_connect.connect.begin import Authorize, Begun
from flowaccount_connect.connect.begin import BeginSettings as Settings
from flowaccount_connect.connect.errors import LONGEST_APP_STATE
from flowaccount_connect.domain.errors import Failure
from flowaccount_connect.domain.ids import fingerprint
from flowaccount_connect.http.problems import STATUS
from flowaccount_connect.storage.attempts import CODE_LIFETIME, AttemptStore, cookie_name, link_in, verifier_of
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from flowaccount_connect.storage.links import LinkStore
from tests.unit.fakes import NOW
from tests.unit.tables import Fault, Table, client_error

RETURN_URL = "https://app.example.com/done"
OTHER_RETURN_URL = "https://app.example.com/other"
REDIRECT_URI = "https://api.example/live/callback?x=%2F"
COOKIE_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=12600"


@pytest.fixture
def table() -> Table:
    return Table()


def begin(
    table: Table,
    *,
    return_url: str | None = RETURN_URL,
    app_state: str | None = "app",
    link: str | None = None,
    cookies: Collection[str] = (),
    direct_connect: bool = True,
    pkce: bool = False,
    preselect: bool = False,
    at: int = NOW,
) -> Begun:
    authorize = Authorize(
        attempts=AttemptStore(table, "table", "sandbox"),
        links=LinkStore(table, "table", "sandbox"),
        settings=Settings(
            endpoint="https://auth.example/connect/authorize",
            client_id="client",
            redirect_uri=None,
            return_urls=frozenset({RETURN_URL, OTHER_RETURN_URL}),
            link_lifetime=3_600,
            direct_connect=direct_connect,
            pkce=pkce,
            preselect=preselect,
        ),
        clock=lambda: float(at),
    )
    if link is not None:
        return authorize.through_link(link, redirect_uri=REDIRECT_URI, cookies=cookies)
    return authorize.directly(redirect_uri=REDIRECT_URI, return_url=return_url, app_state=app_state, cookies=cookies)


def query_of(begun: Begun) -> dict[str, str]:
    """What the browser is sent to FlowAccount with."""
    return dict(parse_qsl(urlsplit(begun.location).query))


def cookie_of(begun: Begun) -> str:
    """The value that binds the browser."""
    return begun.cookies[0].partition("=")[2].partition(";")[0]


def refused(table: Table, **fields: Any) -> tuple[int, str]:
    """Status and code of a connect that does not begin, and of which nothing is written."""
    before = repr(table.items)
    with pytest.raises(Failure) as caught:
        begin(table, **fields)
    assert repr(table.items) == before
    assert "evil" not in str(caught.value)
    return STATUS[caught.value.code], caught.value.code


def test_the_attempt_remembers_what_the_callback_needs_and_the_redirect_uri_byte_for_byte(table: Table) -> None:
    query = query_of(begin(table))
    item = table.item("ATTEMPT", fingerprint(query["state"]))
    assert (item["redirect_uri"], item["return_url"], item["app_state"]) == (REDIRECT_URI, RETURN_URL, "app")
    assert (item["expires_at"], item["ttl"]) == (NOW + 3_600, NOW + 3_600 + CODE_LIFETIME)
    assert query["redirect_uri"] == REDIRECT_URI
    assert table.calls == ["put_item"]


def test_the_cookie_binds_this_browser_to_this_attempt_only(table: Table) -> None:
    begun = begin(table)
    state, secret = query_of(begun)["state"], cookie_of(begun)
    assert begun.cookies[0] == f"{cookie_name(fingerprint(state))}={secret}; {COOKIE_ATTRIBUTES}"
    assert table.item("ATTEMPT", fingerprint(state))["binding"] == fingerprint(secret)
    assert secret != state
    for value in (state, secret):
        assert len(value) == 43
        assert value not in repr(table.items)
        assert value not in f"{begun!r} {begun}"


def test_no_two_connects_share_anything(table: Table) -> None:
    begun = [begin(table) for _ in range(20)]
    assert len({b.location for b in begun}) == len({b.cookies[0] for b in begun}) == len(table.items) == 20


def test_without_a_return_url_a_page_ends_it(table: Table) -> None:
    begin(table, return_url=None, app_state=None)
    (item,) = table.items.values()
    assert not {"return_url", "app_state"} & item.keys()


@pytest.mark.parametrize("url", ["https://evil.example/", RETURN_URL + "/", RETURN_URL + "?x=1", "/done"])
def test_a_return_url_that_is_not_on_the_list_writes_nothing(table: Table, url: str) -> None:
    assert refused(table, return_url=url) == (400, "return_url_not_allowed")
    assert table.calls == []


@pytest.mark.parametrize(
    "state", ["x" * (LONGEST_APP_STATE + 1), "a\nb", "a\r\nSet-Cookie: x", "\x00", "\u202e", "\ud800"]
)
def test_an_app_state_that_cannot_be_handed_back_writes_nothing(table: Table, state: str) -> None:
    assert refused(table, app_state=state) == (400, "invalid_state")
    assert table.calls == []


def test_the_longest_app_state_is_kept(table: Table) -> None:
    begin(table, app_state="\u0e01" * LONGEST_APP_STATE)
    assert len(table.items) == 1


def test_a_link_nobody_made_writes_nothing(table: Table) -> None:
    assert refused(table, link="unknown") == (400, "unknown_link")


def test_without_a_written_attempt_nobody_is_sent_away(table: Table) -> None:
    table.faults["put_item"] = [Fault(client_error("InternalServerError"))]
    with pytest.raises(StoreUnavailable):
        begin(table)


# A link of the app's -----------------------------------------------------------------------------------------------


@pytest.fixture
def link(table: Table) -> str:
    """A link, good for an hour."""
    made = LinkStore(table, "table", "sandbox").create(
        tenant="tenant-7", return_url=RETURN_URL, app_state="app", expires_at=NOW + 3_600
    )
    table.calls.clear()
    return made


def test_each_opening_of_a_link_begins_an_attempt_of_its_own_that_lasts_no_longer_than_the_link(
    table: Table, link: str
) -> None:
    opened = [begin(table, link=link, return_url=None, at=NOW + 600, direct_connect=False) for _ in range(3)]
    assert table.calls == ["get_item", "put_item"] * 3
    attempts = [item for (_, sk), item in table.items.items() if sk == "ATTEMPT"]
    assert len({attempt["binding"] for attempt in attempts}) == len({b.location for b in opened}) == 3
    for attempt in attempts:
        assert (attempt["link"], attempt["return_url"]) == (fingerprint(link), RETURN_URL)
        assert attempt["expires_at"] == NOW + 3_600
    assert all(begun.cookies[0].endswith("Max-Age=12000") for begun in opened)
    assert "consumed_by" not in table.item("LINK", fingerprint(link))


def test_the_cookie_alone_brings_the_link_to_the_callback(table: Table, link: str) -> None:
    begun = begin(table, link=link)
    assert link_in(cookie_of(begun)) == link
    assert link not in repr(table.items)
    assert link not in f"{begun.location} {begun!r}"


def test_return_url_and_state_are_the_links_own(table: Table, link: str) -> None:
    begin(table, link=link, return_url=OTHER_RETURN_URL, app_state="another")
    (attempt,) = [item for (_, sk), item in table.items.items() if sk == "ATTEMPT"]
    assert (attempt["return_url"], attempt["app_state"]) == (RETURN_URL, "app")


@pytest.mark.parametrize(
    ("change", "at", "refusal"),
    [
        ({}, NOW + 3_600, (410, "link_expired")),
        ({"consumed_by": "attempt", "confirm_until": NOW + 900}, NOW, (409, "link_used")),
        ({"consumed_by": "attempt", "confirm_until": NOW + 900}, NOW + 3_600, (409, "link_used")),
        ({"environment": "production"}, NOW, (400, "unknown_link")),
    ],
)
def test_a_link_of_which_nothing_can_come_writes_nothing(
    table: Table, link: str, change: dict[str, str | int], at: int, refusal: tuple[int, str]
) -> None:
    table.change("LINK", fingerprint(link), **change)
    assert refused(table, link=link, at=at) == refusal


def test_without_a_link_nobody_connects_unless_the_stack_allows_it(table: Table) -> None:
    assert refused(table, direct_connect=False) == (403, "link_required")
    assert table.calls == []


# PKCE ----------------------------------------------------------------------------------------------------------------


def test_the_code_is_bound_to_a_verifier_that_only_the_browser_has(table: Table) -> None:
    begun = begin(table, pkce=True)
    query = query_of(begun)
    verifier = verifier_of(cookie_of(begun))
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", verifier)
    digest = hashlib.sha256(verifier.encode()).digest()
    assert query["code_challenge"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert query["code_challenge_method"] == "S256"
    assert verifier not in repr(table.items)
    assert verifier not in begun.cookies[0] + begun.location


def test_without_pkce_flowaccount_gets_what_its_page_says(table: Table) -> None:
    assert "code_challenge" not in begin(table).location


@pytest.mark.parametrize(
    ("preselect", "expected", "acr"), [(True, "N7", "tenant:N7"), (True, None, None), (False, "N7", None)]
)
def test_flowaccounts_login_learns_the_expected_business_only_where_the_stack_says_so(
    table: Table, preselect: bool, expected: str | None, acr: str | None
) -> None:
    link = LinkStore(table, "table", "sandbox").create(
        tenant="tenant-7", return_url=RETURN_URL, expected_connection=expected, app_state=None, expires_at=NOW + 3_600
    )
    begun = begin(table, link=link, preselect=preselect)
    assert query_of(begun).get("acr_values") == acr
