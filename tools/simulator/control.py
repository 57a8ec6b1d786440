"""The control API under `/_control/`: for tests on this machine, never part of what FlowAccount offers.

It can set the clock, order failures and hand out tokens, so a web page must not reach it: requests with an
Origin header, or with a Host that is not a loopback one (DNS rebinding), are refused.

| request | body | answer |
|---|---|---|
| `GET clock` | | `{"now", "offset"}` |
| `POST clock` | `{"advance": 3600}` | the same |
| `GET settings` | | all settings |
| `POST settings` | `{"replay": "forgiving"}` | all settings |
| `GET faults` | | the pending orders |
| `POST faults` | `[{"path": "token", "fault": "lose_answer"}]`, see `simulator.faults` | the pending orders |
| `DELETE faults` | | `[]` |
| `GET ledger?business=N1` | | `{"entries": […]}`, see `simulator.ledger.Ledger.entries` |
| `GET requests?after=0` | | `{"requests": […]}`, see `simulator.requests_log` |
| `GET messages` | | what Slack and LINE have accepted: `{"messages": [{"to", "text"}]}` |
| `POST clients` | `{"client_id", "client_secret"?, "redirect_uris"?}` | `{"client_id", "redirect_uris"}` |
| `POST consents` | `{"business": "N2", "count"?}` | `{"consents": […]}` of the first client, tokens too |
| `DELETE consents` | `{"business": "N2"}` | `{"withdrawn": 1}`: the user unlinked the client |
| `POST reset` | | `{"reset": true}`: all as it was at the start |

Bad input gets 400 and `{"error": "a sentence that tells the fix"}`.
"""

from __future__ import annotations

import ipaddress
import json
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, jsonify, make_response, request

from tools.simulator.clients import API_SCOPE, OFFLINE_SCOPE, ClientError
from tools.simulator.clock import ClockError
from tools.simulator.faults import FaultError, read_orders
from tools.simulator.people import SUPPORT_CODE
from tools.simulator.settings import SettingError
from tools.simulator.state import State

MAX_CONSENTS = 10_000
"""Consents that one request can make."""


class ControlError(ValueError):
    """A control request that cannot be done; the message says how to put it right."""


def control_routes(state: State) -> Blueprint:
    """Everything under `/_control/`."""
    routes = Blueprint("control", __name__, url_prefix="/_control")

    @routes.before_request
    def only_from_this_machine() -> Response | None:
        """Refuse what a web page could have sent."""
        if "Origin" in request.headers or not is_loopback_host(request.headers.get("Host", "")):
            return _problem(403, "The control API takes no requests from web pages: no Origin header, a loopback Host.")
        return None

    for error in (ControlError, SettingError, FaultError, ClientError, ClockError):
        routes.register_error_handler(error, lambda problem: _problem(400, str(problem)))

    @routes.get("/clock")
    def clock() -> Response:
        return jsonify({"now": state.clock.now(), "offset": state.clock.offset})

    @routes.post("/clock")
    def set_clock() -> Response:
        seconds = _object("advance").get("advance")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise ControlError('Send {"advance": seconds}, a number of seconds.')
        state.clock.advance(seconds)
        return clock()

    @routes.get("/settings")
    def settings() -> Response:
        return jsonify(state.settings.as_dict())

    @routes.post("/settings")
    def change_settings() -> Response:
        return jsonify(state.change_settings(_object()).as_dict())

    @routes.get("/faults")
    def faults() -> Response:
        return jsonify(state.faults.pending())

    @routes.post("/faults")
    def order_faults() -> Response:
        state.faults.add(read_orders(_json()))
        return faults()

    @routes.delete("/faults")
    def clear_faults() -> Response:
        state.faults.clear()
        return faults()

    @routes.get("/ledger")
    def ledger() -> Response:
        return jsonify({"entries": state.ledger.entries(state.settings, request.args.get("business"))})

    @routes.get("/requests")
    def requests_seen() -> Response:
        return jsonify({"requests": state.requests.records(_number("after", 0))})

    @routes.get("/messages")
    def messages() -> Response:
        return jsonify({"messages": state.messages.accepted})

    @routes.post("/clients")
    def register_client() -> Response:
        body = _object("client_id", "client_secret", "redirect_uris")
        client_id, secret, uris = body.get("client_id"), body.get("client_secret"), body.get("redirect_uris", [])
        if not isinstance(client_id, str) or not isinstance(secret, str | None):
            raise ControlError("'client_id' must be a string, and 'client_secret' too if it is given.")
        if not isinstance(uris, list) or not all(isinstance(uri, str) for uri in uris):
            raise ControlError("'redirect_uris' must be a list of URLs.")
        client = state.clients.register(client_id, secret, uris)
        return jsonify({"client_id": client.client_id, "redirect_uris": client.redirect_uris})

    @routes.post("/consents")
    def make_consents() -> Response:
        return jsonify({"consents": consents_for(state, _object("business", "count"))})

    @routes.delete("/consents")
    def withdraw_consents() -> Response:
        return jsonify({"withdrawn": state.ledger.withdraw(_support_code(_object("business")))})

    @routes.post("/reset")
    def reset() -> Response:
        state.reset()
        return jsonify({"reset": True})

    return routes


def consents_for(state: State, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Issue refresh tokens as if users had consented.

    One for each of `count` businesses, numbered from `business` on. This is the one place where the
    simulator gives a token to somebody who did not go through its pages.
    """
    first, count = _support_code(body), body.get("count", 1)
    if type(count) is not int or not 1 <= count <= MAX_CONSENTS:
        raise ControlError(f"'count' must be a whole number from 1 to {MAX_CONSENTS:,}.")
    client_id, scope, issued = state.clients.first_id(), f"{API_SCOPE} {OFFLINE_SCOPE}", []
    for number in range(int(first.removeprefix("N")), int(first.removeprefix("N")) + count):
        consent = state.ledger.open_consent(client_id, f"N{number}" if count > 1 else first, scope)
        access, refresh = (state.ledger.new_token(state.settings.token_length) for _ in range(2))
        (entry,) = state.ledger.record_tokens(consent, None, access, refresh, state.settings)
        entry.delivered = True
        issued.append(
            {
                "business": consent.support_code,
                "consent": consent.consent_id,
                "refresh_token": refresh,
                "fingerprint": entry.fingerprint,
                "expires_at": entry.expires_at,
            }
        )
    return issued


def is_loopback_host(host: str) -> bool:
    """Whether a Host header names this machine by a loopback address or as `localhost`."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _problem(status: int, sentence: str) -> Response:
    return make_response({"error": sentence}, status)


def _json() -> Any:
    """The body as JSON. Raises `ControlError` if it is not."""
    try:
        return json.loads(request.get_data())
    except (ValueError, RecursionError) as error:
        raise ControlError("The body must be JSON.") from error


def _object(*known: str) -> dict[str, Any]:
    """The body as a JSON object with no names but *known*, if there are any. Raises `ControlError` if not."""
    body = _json()
    if not isinstance(body, dict):
        raise ControlError("The body must be a JSON object.")
    if unknown := [name for name in body if known and name not in known]:
        raise ControlError(f"{unknown[0]!r} is not known here; there are: {', '.join(known)}.")
    return body


def _support_code(body: dict[str, Any]) -> str:
    """The support code under `business`. Raises `ControlError` if it is not one."""
    code = body.get("business")
    if not isinstance(code, str) or not SUPPORT_CODE.fullmatch(code):
        raise ControlError("'business' must be N and digits, such as 'N1000001'.")
    return code


def _number(name: str, default: int) -> int:
    """A whole number from the query. Raises `ControlError` if it is none."""
    text = request.args.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise ControlError(f"'{name}' must be a whole number, 0 or more.")
    return int(text)
