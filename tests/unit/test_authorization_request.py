"""The login URL, exactly as FlowAccount's page shows it."""

from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowaccount_connect.oauth.authorization_url import authorization_url

ENDPOINT = "https://sandbox-auth.flowaccount.com/connect/authorize"
REDIRECT_URI = "https://a1b2.execute-api.ap-southeast-1.amazonaws.com/live/callback"


def url(endpoint: str = ENDPOINT, *, client_id: str = "client", redirect_uri: str = REDIRECT_URI) -> str:
    return authorization_url(endpoint, client_id=client_id, redirect_uri=redirect_uri, state="the-state")


def test_the_login_url_carries_every_parameter_once_and_no_other() -> None:
    address, _, query = url().partition("?")
    assert address == ENDPOINT
    assert sorted(query.split("&")) == [
        "client_id=client",
        "redirect_uri=https%3A%2F%2Fa1b2.execute-api.ap-southeast-1.amazonaws.com%2Flive%2Fcallback",
        "response_type=code",
        "scope=flowaccount-api%20offline_access",
        "state=the-state",
    ]


def test_a_space_is_percent_20_and_never_a_plus() -> None:
    assert "+" not in url(client_id="a b", redirect_uri="http://localhost/x y")
    assert "client_id=a%20b" in url(client_id="a b")


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=40))
def test_the_redirect_uri_arrives_byte_for_byte(redirect_uri: str, client_id: str) -> None:
    query = urlsplit(url(client_id=client_id, redirect_uri=redirect_uri)).query
    fields = dict(pair.split("=") for pair in query.split("&"))
    assert unquote(fields["redirect_uri"]) == redirect_uri
    assert unquote(fields["client_id"]) == client_id


@pytest.mark.parametrize(
    "endpoint", ["https://id.example/authorize?tenant=7", "https://id.example/authorize?tenant=7&x="]
)
def test_an_endpoint_with_a_query_of_its_own_keeps_it(endpoint: str) -> None:
    made = url(endpoint)
    assert made.startswith(f"{endpoint}&")
    assert made.count("?") == 1
    assert dict(parse_qsl(urlsplit(made).query))["tenant"] == "7"
