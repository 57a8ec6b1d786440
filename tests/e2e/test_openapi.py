"""Generated requests, good and bad, against every route of the deployed stack: every answer is as described.

`make fuzz` sends many more.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import schemathesis
import yaml
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

from tests.e2e.conftest import Simulator, disconnect
from tests.e2e.links import confirmation_of
from tests.support import typescript
from tests.support.typescript import ROOT
from tools import collection
from tools.local import env, service
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "12"))
"""Requests to each operation, at most."""

CONNECTED = "N1000001"

described = schemathesis.openapi.from_path(collection.DESCRIPTION)
RAW: dict[str, Any] = yaml.safe_load(collection.DESCRIPTION.read_text("utf-8"))
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


@pytest.fixture
def calling(up: Stack) -> Callable[..., Any]:
    """Calls a route, holds the answer against its description, and gives its body. The status must be the given one."""

    def call(status: int, method: str, route: str, *, at: str = CONNECTED, body: Any = None) -> Any:
        answer = service.call(up, method, route.replace("{id}", at), body=body)
        code = answer.json().get("code") if answer.status_code >= 400 else None
        assert answer.status_code == status, f"{method} {route}: {answer.status_code} {code}"
        described[route.partition("?")[0]][method].Case(path_parameters={"id": at}).validate_response(
            answer, checks=CHECKS
        )
        return answer.json() if answer.content else None

    return call


def test_every_answer_of_a_connects_life_is_as_described(
    up: Stack, there: None, simulator: Simulator, calling: Callable[..., Any], set_item: Any
) -> None:
    wanted = {"tenant": "tenant-7", "return_url": up.return_urls[0], "state": "หน้า 3"}

    def consent(business: str | None) -> str:
        """A link, a user who chooses or cancels, and the confirmation that the browser brings."""
        link = calling(201, "POST", "/connect-links", body=wanted)["connect_url"]
        visitor = HttpVisitor()
        back = visitor.get(visitor.consent(link, user="somchai", business=business), Accept="text/html")
        described["/callback"]["GET"].Case().validate_response(back, checks=CHECKS)
        query = parse_qs(urlsplit(back.headers["Location"]).query)
        assert query["state"] == [wanted["state"]]
        return query["confirmation"][0]

    def confirm(status: int, confirmation: str, tenant: str = "tenant-7") -> Any:
        body = {"confirmation": confirmation, "tenant": tenant}
        return calling(status, "POST", "/connect-links/confirm", body=body)

    calling(204, "DELETE", "/connections/{id}")
    time.sleep(2)  # A disconnect ends all consents of its second, and of the one that follows.
    begun = calling(201, "POST", "/connect-links", body={**wanted, "external_browser": True})["connect_url"]
    sent = HttpVisitor().get(begun, Accept="text/html")
    described["/authorize"]["GET"].Case().validate_response(sent, checks=CHECKS)
    assert confirm(409, confirmation_of(up, begun))["code"] == "not_finished"
    assert confirm(409, consent(None))["ending"] == "access_denied"
    assert confirm(409, consent(CONNECTED), "tenant-8")["code"] == "tenant_mismatch"
    assert confirm(404, "made.up")["code"] == "unknown_confirmation"
    confirmation = consent(CONNECTED)
    assert confirm(200, confirmation) == confirm(200, confirmation)

    generation = calling(200, "GET", "/connections/{id}/token")["generation"]
    rejected = {"rejected_generation": generation}
    assert calling(503, "POST", "/connections/{id}/token", body=rejected)["code"] == "refreshed_just_now"
    calling(200, "GET", "/connections?limit=1")
    calling(200, "GET", "/connections/{id}")
    calling(200, "GET", "/connections/{id}/history")
    given = {"refresh_token": "of-an-older-integration"}
    assert calling(409, "POST", "/connections/{id}", body=given)["code"] == "already_connected"

    now = int(time.time())
    set_item(CONNECTED, requested_at=now - 90_000, access_expires_at=now - 10, refresh_at=now - 5, deadline=now - 5)
    simulator.withdraw(CONNECTED)
    lost = calling(409, "GET", "/connections/{id}/token")
    assert (lost["code"], lost["reconnect"]["expected_connection"]) == ("reauthorization_required", CONNECTED)
    refused = calling(409, "POST", "/connections/{id}", at="N1000006", body=given)
    assert (refused["code"], refused["reason"]) == ("import_refused", "rejected")
    calling(204, "DELETE", "/connections/{id}")
    calling(404, "GET", "/connections/{id}/token")


def test_each_request_of_the_collection_is_answered_as_described(
    up: Stack, there: None, simulator: Simulator, calling: Callable[..., Any]
) -> None:
    expected = {
        "makeLink": 201,
        "confirmLink": 404,
        "listConnections": 200,
        "showConnection": 200,
        "importConnection": 409,
        "history": 200,
        "token": 200,
        "tokenAfterRefusal": 200,
        "disconnect": 204,
    }
    names = {
        operation["summary"]: operation["operationId"] for item in RAW["paths"].values() for operation in ops(item)
    }
    sent = set()
    for item in (one for folder in collection.collection(RAW)["item"] for one in folder["item"]):
        request = item["request"]
        if request.get("auth") == {"type": "noauth"}:
            continue
        route = request["url"]["raw"].removeprefix("{{url}}").replace("{{", "{").replace("}}", "}")
        body = json.loads(request["body"]["raw"]) if "body" in request else None
        name = names[item["name"]]
        calling(expected[name], request["method"], route, body=body)
        sent.add(name)
    assert sent == set(expected)


def ops(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations of a path."""
    return [operation for method, operation in item.items() if method != "parameters"]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A client that is generated from the description, compiled with a program that uses it."""
    folder = ROOT / ".local" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    for file in [*(Path(__file__).parent / "generated").iterdir(), typescript.SOURCES / "tests/stack/browser.ts"]:
        shutil.copy(file, folder)
    typescript.run(folder, "npm", "install", "--ignore-scripts", "--prefer-offline")
    programs = folder / "node_modules" / ".bin"
    typescript.run(folder, str(programs / "openapi-typescript"), str(collection.DESCRIPTION), "-o", "api.d.ts")
    typescript.run(folder, str(programs / "tsc"))
    return folder


def test_a_generated_client_goes_through_a_whole_connect(up: Stack, simulator: Simulator, generated: Path) -> None:
    business = "N1000003"
    disconnect(up, business)
    given = {"PATH": typescript.PATH, **env.exports(up), "BUSINESS": business}
    assert typescript.run(generated, "node", "built/connect.js", env=given) == "connected\n"
