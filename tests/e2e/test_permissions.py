"""What each role may do is enforced: by caller on the IAM routes, by function inside."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e import callers
from tests.e2e.conftest import Simulator
from tests.e2e.tampering import denied
from tools.local import service
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor


@pytest.mark.parametrize("kind", [callers.user, callers.role])
def test_who_is_allowed_one_connections_token_can_reach_nothing_else(
    up: Stack, connection: str, visitor: HttpVisitor, kind: Callable[[Stack, str], AbstractContextManager[Any]]
) -> None:
    visitor.connect(up.authorize_url, user="somchai", business="N1000002")
    with kind(up, callers.calling(up, f"GET/connections/{connection}/token")) as keys:
        allowed = service.call(up, "GET", f"/connections/{connection}/token", credentials=keys)
        assert (allowed.status_code, allowed.json()["support_code"]) == (200, connection)
        for method, path in (
            ("GET", "/connections/N1000002/token"),
            ("POST", f"/connections/{connection}/token"),
            ("GET", f"/connections/{connection}"),
            ("GET", "/connections/N1000002"),
        ):
            other = service.call(up, method, path, credentials=keys, body=None if method == "GET" else {})
            assert other.status_code == 403, path
            assert "access_token" not in other.text
            assert "support_code" not in other.text


def test_a_token_still_living_is_served_while_the_refresh_fails(
    up: Stack, simulator: Simulator, connection: str, set_item: Any
) -> None:
    item = service.connection_item(up, connection)
    assert item is not None
    sent = int(item["requested_at"]["N"])
    set_item(connection, requested_at=sent - 1_000, access_expires_at=sent + 200)
    simulator.fault("status", status=503, body="{}", processed=False)
    answer = service.call(up, "GET", f"/connections/{connection}/token")
    assert answer.status_code == 200
    assert answer.json()["status"] == "in_doubt"
    assert answer.json()["generation"] == int(item["generation"]["N"])


def test_policies_are_enforced_here(up: Stack, simulator: Simulator, connection: str, set_item: Any) -> None:
    with denied(up, "token", "dynamodb:GetItem"):
        answer = service.call(up, "GET", f"/connections/{connection}/token")
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert answer.headers["Retry-After"]
    with pytest.raises(ClientError, match="AccessDenied"):
        service.client(up, "s3").list_buckets()
