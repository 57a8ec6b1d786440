"""The stand-ins of Slack and LINE: as strict as what the two document."""

import json
import uuid
from typing import Any

import pytest
import requests

from tests.simulator.driver import DAY, TIMEOUT, Driver
from tools.simulator.messengers import LINE_GROUP, LINE_PATH, LINE_TOKEN, SLACK_PATH


def slack(sim: Driver, body: object, path: str = SLACK_PATH, **headers: str) -> requests.Response:
    data = body if isinstance(body, str) else json.dumps(body)
    given = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return sim.http.post(sim.url + path, data=data.encode(), headers=given, timeout=TIMEOUT)


def line(sim: Driver, body: object, key: str | None = None, token: str = LINE_TOKEN) -> requests.Response:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    if key is not None:
        headers["X-Line-Retry-Key"] = key
    data = body if isinstance(body, str) else json.dumps(body)
    return sim.http.post(sim.url + LINE_PATH, data=data.encode(), headers=headers, timeout=TIMEOUT)


def push(text: Any = "สวัสดี", **more: object) -> dict[str, object]:
    return {"to": LINE_GROUP, "messages": [{"type": "text", "text": text}], **more}


def messages(sim: Driver) -> list[dict[str, str]]:
    found: list[dict[str, str]] = sim.control("GET", "messages")["messages"]
    return found


def test_slack_takes_a_text(sim: Driver) -> None:
    answer = slack(sim, {"text": "สวัสดี &lt;all&gt; &amp; more"})
    assert (answer.status_code, answer.text) == (200, "ok")
    assert messages(sim) == [{"to": "slack", "text": "สวัสดี &lt;all&gt; &amp; more"}]


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        ("{", SLACK_PATH, (400, "invalid_payload")),
        ([], SLACK_PATH, (400, "invalid_payload")),
        ({}, SLACK_PATH, (400, "no_text")),
        ({"text": " "}, SLACK_PATH, (400, "no_text")),
        ({"text": 7}, SLACK_PATH, (400, "no_text")),
        ({"text": "<!channel>"}, SLACK_PATH, (400, "invalid_payload")),
        ({"text": "a & b"}, SLACK_PATH, (400, "invalid_payload")),
        ({"text": "x"}, SLACK_PATH + "x", (404, "no_service")),
    ],
)
def test_slack_says_what_is_wrong(sim: Driver, body: object, path: str, expected: tuple[int, str]) -> None:
    answer = slack(sim, body, path)
    assert (answer.status_code, answer.text) == expected
    assert messages(sim) == []


def test_slack_takes_json_only(sim: Driver) -> None:
    assert slack(sim, {"text": "x"}, Content_Type="text/plain").status_code == 400


def test_line_takes_a_push_and_names_what_it_sent(sim: Driver) -> None:
    answer = line(sim, push())
    assert answer.status_code == 200
    assert answer.headers["X-Line-Request-Id"]
    (sent,) = answer.json()["sentMessages"]
    assert set(sent) == {"id", "quoteToken"}
    assert messages(sim) == [{"to": "line", "text": "สวัสดี"}]


def test_a_retry_key_sends_once_within_a_day(sim: Driver) -> None:
    key = str(uuid.uuid4())
    first = line(sim, push(), key)
    again = line(sim, push(), key)
    assert (first.status_code, again.status_code) == (200, 409)
    assert again.headers["X-Line-Accepted-Request-Id"] == first.headers["X-Line-Request-Id"]
    assert again.json()["sentMessages"] == first.json()["sentMessages"]
    assert len(messages(sim)) == 1
    sim.advance(DAY)
    assert line(sim, push(), key).status_code == 200


def test_a_request_that_was_refused_does_not_use_its_retry_key_up(sim: Driver) -> None:
    key = str(uuid.uuid4())
    assert line(sim, push(""), key).status_code == 400
    assert line(sim, push(), key).status_code == 200


@pytest.mark.parametrize(
    ("body", "property_"),
    [
        (push(""), "messages[0].text"),
        (push("x" * 5_001), "messages[0].text"),
        (push("😀" * 2_501), "messages[0].text"),
        (push(messages=[]), "messages"),
        (push(messages=[{"type": "text", "text": "x"}] * 6), "messages"),
        (push(messages=[{"type": "nothing"}]), "messages[0].type"),
    ],
)
def test_line_names_the_property_that_is_wrong(sim: Driver, body: object, property_: str) -> None:
    answer = line(sim, body)
    assert answer.status_code == 400
    assert answer.json()["details"][0]["property"] == property_
    assert messages(sim) == []


def test_line_takes_a_text_of_its_longest(sim: Driver) -> None:
    assert line(sim, push("😀" * 2_500)).status_code == 200


def test_line_refuses_a_token_a_key_a_group_and_what_is_no_json(sim: Driver) -> None:
    assert line(sim, push(), token="another").status_code == 401
    assert line(sim, push(), key="not-a-uuid").status_code == 400
    assert line(sim, push(to="U" + "0" * 32)).status_code == 400
    assert line(sim, "{").status_code == 400
    assert messages(sim) == []


def test_faults_can_be_ordered_for_both(sim: Driver) -> None:
    sim.order("status", "slack", status=500)
    sim.order("lose_answer", "line")
    assert slack(sim, {"text": "x"}).status_code == 500
    with pytest.raises(requests.ConnectionError):
        line(sim, push(), str(uuid.uuid4()))
    assert slack(sim, {"text": "x"}).status_code == 200
