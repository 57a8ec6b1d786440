"""Generated requests, good and bad, against every route of the deployed stack: every answer is as described.

`make fuzz` sends many more.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.e2e.conftest import Simulator
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "12"))
"""Requests to each operation, at most."""

CONNECTED = "N1000001"

described = schemathesis.openapi.from_path(Path(__file__).parents[2] / "docs" / "openapi.yaml")
# Each request is signed here, after it was made.
described.config.generation.update(with_security_parameters=False)

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def checks(case: Any) -> list[Any]:
    """What an answer is held against. A parameter without a value counts as absent, which JSON Schema cannot say."""
    empty = any(value in ("", [""], [], None) for value in (case.query or {}).values())
    return CHECKS if empty else [*CHECKS, negative_data_rejection]


@described.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Of the generated ids every other one is that of a connection that is there."""
    del context
    if path_parameters is not None and len(str(path_parameters.get("id", "x"))) % 2 == 0:
        return {**path_parameters, "id": CONNECTED}
    return path_parameters


class Signed(requests.auth.AuthBase):
    """Signs with the keys of the stack's user."""

    def __init__(self, up: Stack) -> None:
        self._up = up

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the signature of this very request."""
        signed = AWSRequest(request.method, request.url, data=request.body, headers={"Host": ""})
        del signed.headers["Host"]
        key = Credentials(self._up.access_key_id, self._up.secret_access_key)
        SigV4Auth(key, "execute-api", self._up.region).add_auth(signed)
        request.headers.update(dict(signed.headers))
        return request


@pytest.fixture
def there(up: Stack, simulator: Simulator) -> None:
    """The connection that is there."""
    assert HttpVisitor().connect(up.authorize_url, user="somchai", business=CONNECTED).page == "connected"


@described.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described(case: Any, up: Stack, there: None) -> None:
    answer = case.call(base_url=up.api_url, auth=Signed(up), allow_redirects=False, timeout=40)
    if answer.status_code == 403:
        # The gateway's own, before any of ours: a path that is no route, or that the emulator signs differently.
        return
    # A refresh can be forced once a minute.
    once_a_minute = answer.status_code == 503 and answer.json()["code"] == "refreshed_just_now"
    assert answer.status_code < 500 or once_a_minute, f"{answer.status_code} {answer.text}"
    case.validate_response(answer, checks=checks(case))
