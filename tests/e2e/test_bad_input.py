"""What strangers, attackers and operators get wrong: a stable answer, nothing changed, nothing sent."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from flowaccount_connect.domain.ids import fingerprint
from tests.e2e.conftest import Simulator, change
from tests.e2e.tampering import denied, restart
from tools.local import service
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor


def test_an_expired_attempt_is_refused_whatever_ttl_has_left(
    up: Stack, simulator: Simulator, visitor: HttpVisitor
) -> None:
    back = visitor.consent(up.authorize_url, user="somchai", business="N1000001")
    state = parse_qs(urlsplit(back).query)["state"][0]
    change(up, f"ATTEMPT#{fingerprint(state)}", "ATTEMPT", expires_at=int(time.time()) - 1)
    arrived = visitor.follow(back)
    assert (arrived.page, arrived.status) == ("attempt_expired", 410)
    assert simulator.posts() == []


def test_cancelling_consumes_the_attempt_and_stores_nothing(
    up: Stack, simulator: Simulator, visitor: HttpVisitor
) -> None:
    back = visitor.consent(up.authorize_url, user="anong", business=None)
    assert "error=access_denied" in back
    assert visitor.follow(back).page == "access_denied"
    state = parse_qs(urlsplit(back).query)["state"][0]
    forged = f"{up.callback_url}?code=stolen&state={state}"
    assert visitor.follow(forged).page == "attempt_used"
    assert simulator.posts() == []


def test_a_code_is_never_sent_twice(up: Stack, simulator: Simulator, visitor: HttpVisitor) -> None:
    simulator.fault("lose_answer")
    back = visitor.consent(up.authorize_url, user="somchai", business="N1000001")
    assert visitor.follow(back).page == "temporarily_unavailable"
    assert visitor.follow(back).page == "attempt_used"
    assert len(simulator.posts("authorization_code")) == 1


@pytest.mark.parametrize("value", [None, "{}"])
def test_a_broken_client_secret_spends_nothing_and_the_same_link_works_once_it_is_mended(
    up: Stack, simulator: Simulator, visitor: HttpVisitor, value: str | None
) -> None:
    back = visitor.consent(up.authorize_url, user="somchai", business="N1000001")
    restart(up, "callback")
    with denied(up, "callback", "secretsmanager:GetSecretValue") if value is None else stored_secret(up, value):
        arrived = visitor.follow(back)
        assert (arrived.page, arrived.status) == ("configuration_error", 503)
        assert simulator.posts() == []
    assert visitor.follow(back).page == "connected"


def test_the_iam_routes_are_closed_to_whoever_does_not_sign(up: Stack, connection: str) -> None:
    unsigned = requests.get(f"{up.api_url}/connections/{connection}/token", timeout=30)
    assert unsigned.status_code == 403
    assert unsigned.json()["code"]
    forged = service.call(up, "GET", f"/connections/{connection}/token", credentials=(up.access_key_id, "x" * 40))
    assert forged.status_code == 403


@contextmanager
def stored_secret(up: Stack, value: str) -> Iterator[None]:
    """Another value in Secrets Manager for as long as the block runs."""
    secrets = service.client(up, "secretsmanager")
    good = secrets.get_secret_value(SecretId=up.secret)["SecretString"]
    secrets.put_secret_value(SecretId=up.secret, SecretString=value)
    try:
        yield
    finally:
        secrets.put_secret_value(SecretId=up.secret, SecretString=good)
