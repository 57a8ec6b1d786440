"""Stand-ins for Slack's incoming webhooks and LINE's push messages, as strict as their documentation.

- Slack: `POST /slack/services/T00000000/B00000000/simulator`.
  https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks: 200 and `ok`; else 400 `invalid_payload`,
  400 `no_text`, 404 `no_service`. A text beyond 40,000 characters is cut. An unescaped `<` would be a mention or a
  link, so it is refused here.
- LINE: `POST /line/v2/bot/message/push`.
  https://developers.line.biz/en/reference/messaging-api/#send-push-message and
  https://developers.line.biz/en/docs/messaging-api/retrying-api-request: 200 with the sent messages; else 400 with what
  is wrong of the body or of the retry key, 401 for a token, 409 for a retry key whose request was accepted within a
  day. A text has at most 5,000 UTF-16 units.

`GET /_control/messages` shows what was accepted. Faults can be ordered for the paths `slack` and `line`.
"""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

from flask import Blueprint, Response, jsonify, make_response, request

from tools.simulator.company import bearer_token
from tools.simulator.state import State
from tools.simulator.tokens import current_record

SLACK_PATH = "/slack/services/T00000000/B00000000/simulator"
LINE_PATH = "/line/v2/bot/message/push"
LINE_TOKEN = "simulator-channel-access-token"  # noqa: S105 - of nothing
LINE_GROUP = "C" + "4af4980629" * 3 + "99"
"""A group that the Official Account is in."""

_RETRY_KEY = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_DAY = 86_400


def messenger_routes(state: State) -> Blueprint:
    """Both services."""
    routes = Blueprint("messengers", __name__)

    @routes.post("/slack/services/<team>/<service>/<token>")
    def slack(**_: str) -> Response:
        """An incoming webhook."""
        if request.path != SLACK_PATH:
            return _plain(404, "no_service")
        body = _object()
        if body is None or request.mimetype != "application/json":
            return _plain(400, "invalid_payload")
        text = body.get("text")
        if not isinstance(text, str) or not text.strip():
            return _plain(400, "no_text")
        if re.search(r"[<>]|&(?!amp;|lt;|gt;)", text):
            return _plain(400, "invalid_payload")
        _accept(state, "slack", text[:40_000])
        return _plain(200, "ok")

    @routes.post(LINE_PATH)
    def line() -> Response:
        """A push message."""
        if bearer_token(request.headers.get("Authorization", "")) != LINE_TOKEN:
            failed = "Authentication failed. Confirm that the access token in the authorization header is valid."
            return _line_error(401, failed)
        key = request.headers.get("X-Line-Retry-Key")
        if key is not None and not _RETRY_KEY.fullmatch(key):
            return _line_error(400, "The retry key is invalid.")
        body = _object()
        if body is None or request.mimetype != "application/json":
            return _line_error(400, "The request body could not be parsed as JSON.")
        if body.get("to") != LINE_GROUP:
            return _line_error(400, "The property, 'to', in the request body is invalid (line: -, column: -)")
        wrong = _wrong_messages(body.get("messages"))
        if wrong:
            return _line_error(400, f"The request body has {len(wrong)} error(s)", wrong)
        return _push(state, key, [one["text"] for one in body["messages"]])

    return routes


def _push(state: State, key: str | None, texts: list[str]) -> Response:
    messages, now, id_ = state.messages, state.clock.now(), str(uuid.uuid4())
    with messages.lock:
        at, first, sent = messages.keys.get(key or "", (0.0, "", []))
        if key is not None and first and now - at < _DAY:
            answer = make_response({"message": "The retry key is already accepted", "sentMessages": sent}, 409)
            answer.headers["X-Line-Accepted-Request-Id"] = first
            return answer
        sent = [{"id": str(uuid.uuid4().int)[:18], "quoteToken": uuid.uuid4().hex} for _ in texts]
        if key is not None:
            messages.keys[key] = (now, id_, sent)
    for text in texts:
        _accept(state, "line", text)
    answer = jsonify({"sentMessages": sent})
    answer.headers["X-Line-Request-Id"] = id_
    return answer


def _wrong_messages(messages: Any) -> list[dict[str, str]]:
    """What is wrong of the messages of a push, as LINE says it."""
    if not isinstance(messages, list) or not 1 <= len(messages) <= 5:
        return [{"message": "Size must be between 1 and 5", "property": "messages"}]
    wrong = []
    for number, one in enumerate(messages):
        if not isinstance(one, dict) or one.get("type") != "text":
            wrong.append({"message": "Must be a known type (here: text)", "property": f"messages[{number}].type"})
            continue
        text = one.get("text")
        if not isinstance(text, str) or not text.strip():
            wrong.append({"message": "May not be empty", "property": f"messages[{number}].text"})
        elif len(text.encode("utf-16-le")) // 2 > 5_000:
            wrong.append({"message": "Length must be between 0 and 5000", "property": f"messages[{number}].text"})
    return wrong


def _accept(state: State, to: str, text: str) -> None:
    current_record().outcome = "accepted"
    with state.messages.lock:
        state.messages.accepted.append({"to": to, "text": text})


def _object() -> dict[str, Any] | None:
    try:
        body = json.loads(request.get_data())
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _plain(status: int, text: str) -> Response:
    return Response(text, status, mimetype="text/html")


def _line_error(status: int, message: str, details: list[dict[str, str]] | None = None) -> Response:
    return make_response({"message": message} | ({"details": details} if details else {}), status)
