"""The same stack against another, ordinary OAuth server, as `make up AUTHORIZE_ENDPOINT=… …` brings it up."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.ordinary_server import CLIENT_ID, CLIENT_SECRET, OrdinaryServer, ordinary_server
from tools.local import service, settings, stack
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor


@pytest.fixture(scope="module")
def server() -> Iterator[OrdinaryServer]:
    with ordinary_server() as running:
        yield running


@pytest.fixture(scope="module")
def other(up: Stack, server: OrdinaryServer) -> Stack:
    """The running stack, deployed anew with other settings."""
    variables = {
        "AUTHORIZE_ENDPOINT": f"{server.url}/login/oauth2?tenant=7",
        "TOKEN_ENDPOINT": f"{server.url}/oauth2/access-token",
        "CLIENT_ID": CLIENT_ID,
        "CLIENT_SECRET": CLIENT_SECRET,
        "PKCE": "enabled",
        "ISSUER": server.url,
        "REFRESH_AFTER": "600",
    }
    deployed = stack.up(settings.read(variables))
    assert deployed.simulator_url is None
    assert deployed.aws_endpoint_url == up.aws_endpoint_url
    return deployed


def test_a_connection_to_another_server_is_made_kept_and_served(
    other: Stack, server: OrdinaryServer, set_item: Any
) -> None:
    assert HttpVisitor().follow(other.authorize_url).page == "connected"
    item = service.connection_item(other, "shop-42")
    assert item is not None
    assert int(item["refresh_at"]["N"]) - int(item["requested_at"]["N"]) <= 600

    set_item("shop-42", refresh_at=int(time.time()) - 1)
    service.invoke(other, "sweep", {})
    kept = service.until_generation(other, "shop-42", int(item["generation"]["N"]) + 1, patience=60)
    # A server that keeps its refresh tokens: the deadline counts from the last token request all the same.
    assert int(kept["deadline"]["N"]) > int(item["deadline"]["N"]) - 1
    assert int(kept["requested_at"]["N"]) >= int(item["requested_at"]["N"])

    answer = service.call(other, "GET", "/connections/shop-42/token")
    assert answer.status_code == 200
    assert answer.json()["token_type"] == "Bearer"
    assert len(answer.json()["access_token"]) == 128
    assert server.posts == [("authorization_code", 200), ("refresh_token", 200)]


def test_a_refusal_with_400_ends_the_connection_and_its_living_token_is_served(
    other: Stack, server: OrdinaryServer, set_item: Any
) -> None:
    HttpVisitor().follow(other.authorize_url)
    server.refresh_token = "revoked"
    answer = service.invoke(other, "refresh", {"connection_id": "shop-42"})
    assert answer["outcome"] == "not_due"
    set_item("shop-42", refresh_at=int(time.time()) - 1)
    assert service.invoke(other, "refresh", {"connection_id": "shop-42"})["outcome"] == "refused"
    set_item("shop-42", refresh_at=int(time.time()) - 1, refused_at=int(time.time()) - 601)
    assert service.invoke(other, "refresh", {"connection_id": "shop-42"})["outcome"] == "reauthorization_required"
    item = service.connection_item(other, "shop-42")
    assert item is not None
    assert "due_shard" not in item
    living = service.call(other, "GET", "/connections/shop-42/token")
    assert (living.status_code, living.json()["status"]) == (200, "reauthorization_required")
    set_item("shop-42", access_expires_at=int(time.time()) - 1)
    dead = service.call(other, "GET", "/connections/shop-42/token")
    assert (dead.status_code, dead.json()["code"]) == (409, "reauthorization_required")
    assert dead.json()["reason"] == "rejected"


@pytest.mark.parametrize("issuer", [None, "https://elsewhere.example"])
def test_a_callback_that_does_not_name_the_configured_issuer_sends_no_code(
    other: Stack, server: OrdinaryServer, issuer: str | None
) -> None:
    before, own = len(server.posts), server.issuer
    server.issuer = issuer
    try:
        assert HttpVisitor().follow(other.authorize_url).page == "configuration_error"
    finally:
        server.issuer = own
    assert len(server.posts) == before
