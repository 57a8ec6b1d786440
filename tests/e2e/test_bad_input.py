"""What strangers, attackers and operators get wrong: a stable answer, nothing changed, nothing sent."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import requests

from flowaccount_connect.domain.ids import fingerprint
from tests.e2e.addresses import RETURN_URL
from tests.e2e.conftest import Simulator
from tests.e2e.tampering import denied, restart
from tools.local import service
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor

RETURN_URLS = json.loads((Path(__file__).parents[1] / "cases" / "return-urls.json").read_text())


def attempts(up: Stack) -> int:
    """How many attempts there are."""
    items = service.client(up, "dynamodb").scan(
        TableName=up.table,
        Select="COUNT",
        FilterExpression="sk = :s",
        ExpressionAttributeValues={":s": {"S": "ATTEMPT"}},
    )
    return int(items["Count"])


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("state=a&state=b", "repeated_parameter"),
        (f"return_url={quote(RETURN_URL)}&return_url={quote(RETURN_URL)}", "repeated_parameter"),
        (f"state={'x' * 2049}", "oversized_parameter"),
        (f"state={'x' * 600}", "invalid_state"),
        ("state=a%0d%0aSet-Cookie:%20x=1", "invalid_state"),
        ("link=unheard-of", "unknown_link"),
        ("link=a&link=b", "repeated_parameter"),
    ],
)
def test_authorize_refuses_and_writes_nothing(up: Stack, query: str, code: str) -> None:
    before = attempts(up)
    answer = requests.get(f"{up.authorize_url}?{query}", allow_redirects=False, timeout=30)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == code
    assert problem["request_id"]
    assert "Set-Cookie" not in answer.headers
    assert attempts(up) == before


@pytest.mark.parametrize(
    "url", [url for url in RETURN_URLS["refuse"] if url], ids=range(len(RETURN_URLS["refuse"]) - 1)
)
def test_a_return_url_that_is_not_on_the_list_is_refused(up: Stack, url: str) -> None:
    query = "return_url=" + quote(url, safe="")
    answer = requests.get(f"{up.authorize_url}?{query}", allow_redirects=False, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (400, "return_url_not_allowed")


def test_a_person_gets_a_page_instead_of_a_problem(up: Stack) -> None:
    answer = requests.get(
        f"{up.authorize_url}?state=a&state=b", headers={"Accept": "text/html", "Accept-Language": "en"}, timeout=30
    )
    assert answer.status_code == 400
    assert 'lang="en"' in answer.text
    assert "<script" not in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "code=abc",
        "state=abc",
        "state=&code=",
        "code=a&code=b&state=s",
        "code=a&state=s&state=t",
        "code=a&state=s&iss=i&iss=j",
        f"code=c&state={'s' * 3000}",
        "error=access_denied",
    ],
)
def test_a_malformed_callback_gets_a_page_and_sends_nothing(up: Stack, simulator: Simulator, query: str) -> None:
    answer = requests.get(f"{up.callback_url}?{query}", allow_redirects=False, timeout=30)
    assert answer.status_code == 400
    assert 'data-page="invalid_request"' in answer.text
    assert simulator.posts() == []


def test_an_unknown_state_sends_nothing(up: Stack, simulator: Simulator) -> None:
    answer = requests.get(f"{up.callback_url}?code=abc&state=never-issued", allow_redirects=False, timeout=30)
    assert (answer.status_code, 'data-page="attempt_unknown"' in answer.text) == (400, True)
    assert simulator.posts() == []


def test_another_browser_cannot_finish_and_changes_nothing(
    up: Stack, simulator: Simulator, visitor: HttpVisitor
) -> None:
    back = visitor.consent(up.authorize_url, user="somchai", business="N1000001")
    assert HttpVisitor().follow(back).page == "attempt_unknown"
    stranger = HttpVisitor()
    stranger.get(up.authorize_url)
    host = urlsplit(up.authorize_url).netloc
    # The victim's cookie name with the stranger's value.
    name = next(iter(visitor.cookies[host]))
    stranger.cookies[host][name] = next(iter(stranger.cookies[host].values()))
    assert stranger.follow(back).page == "attempt_unknown"
    assert simulator.posts() == []
    assert visitor.follow(back).page == "connected"


def test_an_expired_attempt_is_refused_whatever_ttl_has_left(
    up: Stack, simulator: Simulator, visitor: HttpVisitor
) -> None:
    back = visitor.consent(up.authorize_url, user="somchai", business="N1000001")
    state = parse_qs(urlsplit(back).query)["state"][0]
    change_attempt(up, state, "expires_at", int(time.time()) - 1)
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


def test_cancelling_goes_back_to_the_app(up: Stack, simulator: Simulator, visitor: HttpVisitor) -> None:
    url = f"{up.authorize_url}?return_url={quote(RETURN_URLS['allowed'][0], safe='')}&state=abc"
    answer = visitor.get(visitor.consent(url, user="anong", business=None).partition("#")[0])
    assert answer.status_code == 303
    returned = urlsplit(answer.headers["Location"])
    assert parse_qs(returned.query) == {"error": ["access_denied"], "state": ["abc"]}


def test_a_code_is_never_sent_twice(up: Stack, simulator: Simulator, visitor: HttpVisitor) -> None:
    simulator.fault("lose_answer")
    back = visitor.consent(up.authorize_url, user="somchai", business="N1000001")
    assert visitor.follow(back).page == "temporarily_unavailable"
    assert visitor.follow(back).page == "attempt_used"
    assert len(simulator.posts("authorization_code")) == 1


def test_a_grant_without_a_refresh_token_is_not_stored(up: Stack, simulator: Simulator, visitor: HttpVisitor) -> None:
    simulator.post("settings", {"support_code": "null"})
    back = visitor.consent(up.authorize_url, user="anong", business="N1000005")
    assert visitor.follow(back).page == "incomplete_grant"
    assert service.connection_item(up, "N1000005") is None


@pytest.mark.parametrize("value", [None, "not json", "{}", '{"client_secret": ""}', '{"client_secret": 7}', "[]"])
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


def test_flowaccount_refusing_the_client_is_the_administrators_matter(
    up: Stack, simulator: Simulator, visitor: HttpVisitor
) -> None:
    back = visitor.consent(up.authorize_url, user="somchai", business="N1000001")
    simulator.fault("error", code="invalid_client", status=200)
    assert visitor.follow(back).page == "configuration_error"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/connections/N404404/token", 404, "connection_not_found"),
        ("/connections/N1%20x/token", 400, "invalid_connection_id"),
        (f"/connections/{'N' * 65}/token", 400, "invalid_connection_id"),
        ("/connections/N1/token?min_ttl=-1", 400, "invalid_min_ttl"),
        ("/connections/N1/token?min_ttl=3601", 400, "invalid_min_ttl"),
        ("/connections/N1/token?min_ttl=ten", 400, "invalid_min_ttl"),
        ("/connections/N1/token?min_ttl=1&min_ttl=2", 400, "repeated_parameter"),
        ("/connections/N1/token?minttl=1", 400, "unknown_parameter"),
    ],
)
def test_token_refuses(up: Stack, path: str, status: int, code: str) -> None:
    answer = service.call(up, "GET", path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"rejected_generation": "1"}',
        '{"rejected_generation": true}',
        '{"rejected_generation": 1, "x": 2}',
        "[" * 5000,
        '{"rejected_generation": 0}',
    ],
    ids=range(9),
)
def test_token_refuses_a_malformed_body(up: Stack, body: str) -> None:
    answer = service.call(up, "POST", "/connections/N1/token", body=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_body")


def test_the_iam_routes_are_closed_to_whoever_does_not_sign(up: Stack, connection: str) -> None:
    unsigned = requests.get(f"{up.api_url}/connections/{connection}/token", timeout=30)
    assert unsigned.status_code == 403
    assert unsigned.json()["code"]
    forged = service.call(up, "GET", f"/connections/{connection}/token", credentials=(up.access_key_id, "x" * 40))
    assert forged.status_code == 403


@pytest.mark.parametrize(
    "event", [{}, {"connection_id": 7}, {"connection_id": "../x"}, {"connection_id": "N1", "generation": "1"}]
)
def test_a_malformed_direct_invocation_says_what_is_wrong(up: Stack, event: dict[str, Any]) -> None:
    answer = service.invoke(up, "refresh", event)
    assert set(answer) == {"error", "detail"}


def test_a_message_that_nobody_wrote_does_not_block_the_queue(
    up: Stack, simulator: Simulator, connection: str, set_item: Any
) -> None:
    answer = service.invoke(
        up,
        "refresh",
        {"Records": [{"messageId": "1", "body": "[" * 2000}, {"messageId": "2", "body": '{"connection_id": "a b"}'}]},
    )
    assert answer == {"batchItemFailures": []}


def change_attempt(up: Stack, state: str, name: str, value: int) -> None:
    """Change a number of the attempt that belongs to `state`."""
    service.client(up, "dynamodb").update_item(
        TableName=up.table,
        Key={"pk": {"S": f"ATTEMPT#{fingerprint(state)}"}, "sk": {"S": "ATTEMPT"}},
        UpdateExpression="SET #name = :value",
        ExpressionAttributeNames={"#name": name},
        ExpressionAttributeValues={":value": {"N": str(value)}},
    )


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
