"""Failures ordered for the next requests: what the network, the gateway or FlowAccount can do to an answer.

An order names a path and a fault, and counts down with each request it is applied to. A request gets every
`delay` that matches it and the first other order that does, in the order in which they were given.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tools.simulator.people import SUPPORT_CODE

MAX_SECONDS = 600
"""The longest delay, in real seconds."""

MAX_TIMES = 1_000_000_000
"""The largest number of requests that one order can be for."""


class FaultError(ValueError):
    """An order that cannot be taken; the message says how to put it right."""


@dataclass(eq=False)
class FaultOrder:
    """One order. Only `times` changes, by counting down."""

    path: str
    fault: str
    options: dict[str, Any]
    times: int = 1
    grant_type: str | None = None
    business: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The order as it can be given again, with the times still to come."""
        chosen = {"grant_type": self.grant_type, "business": self.business}
        order: dict[str, Any] = {"path": self.path, "fault": self.fault, "times": self.times}
        order |= {name: value for name, value in chosen.items() if value is not None}
        return order | self.options


class FaultOrders:
    """The orders that are pending, oldest first."""

    def __init__(self) -> None:
        self._orders: list[FaultOrder] = []
        self._lock = threading.Lock()

    def add(self, orders: list[FaultOrder]) -> None:
        """Append *orders*."""
        with self._lock:
            self._orders.extend(orders)

    def clear(self) -> None:
        """Forget all orders."""
        with self._lock:
            self._orders.clear()

    def pending(self) -> list[dict[str, Any]]:
        """What is still to come."""
        with self._lock:
            return [order.as_dict() for order in self._orders]

    def take(self, path: str, grant_type: str | None, business: str | None) -> list[FaultOrder]:
        """The orders for one request, counted down: every matching delay and the first other one."""
        taken: list[FaultOrder] = []
        with self._lock:
            for order in self._orders:
                if order.fault != "delay" and any(other.fault != "delay" for other in taken):
                    continue
                if order.path != path or order.grant_type not in (None, grant_type):
                    continue
                if order.business not in (None, business):
                    continue
                order.times -= 1
                taken.append(order)
            self._orders = [order for order in self._orders if order.times > 0]
        return taken


# Reading orders


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _seconds(value: Any) -> str | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_SECONDS
    return None if fits else f"must be a number of seconds from 0 to {MAX_SECONDS}"


def _status(value: Any) -> str | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and 200 <= value <= 599
    return None if fits else "must be an HTTP status from 200 to 599"


def _headers(value: Any) -> str | None:
    fits = isinstance(value, dict) and all(
        isinstance(text, str)
        and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)
        and text.isprintable()
        and text.isascii()
        for name, text in value.items()
    )
    return None if fits else "must be an object of header names and one-line ASCII values"


def _body(value: Any) -> str | None:
    return None if isinstance(value, str | dict | list) else "must be a string, or JSON as an object or a list"


def _error_code(value: Any) -> str | None:
    fits = isinstance(value, str) and re.fullmatch(r"[a-z_]{1,60}", value)
    return None if fits else "must be an OAuth error code such as 'invalid_grant'"


def _size(value: Any) -> str | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and 65_537 <= value <= 50_000_000
    return None if fits else "must be a whole number from 65,537 to 50,000,000"


def _support_code(value: Any) -> str | None:
    fits = isinstance(value, str) and SUPPORT_CODE.fullmatch(value)
    return None if fits else "must be N and digits, such as 'N1000001'"


def _retry_after(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 86_400:
        return None
    fits = isinstance(value, str) and value.isprintable() and value.isascii() and len(value) <= 100
    return None if fits else "must be seconds from 0 to 86,400, or the header's text (an HTTP date, or nonsense)"


def _one_of(*choices: str) -> Callable[[Any], str | None]:
    return lambda value: None if value in choices else f"must be one of {', '.join(choices)}"


_OPTIONS: Mapping[str, Mapping[str, tuple[Callable[[Any], str | None], Any]]] = {
    # fault: {option: (check, default)}; the default ... means that it must be given, None that it need not.
    "lose_request": {},
    "lose_answer": {},
    "truncate": {},
    "reset": {},
    "status": {
        "status": (_status, ...),
        "body": (_body, None),
        "headers": (_headers, None),
        "processed": (_flag, False),
    },
    "garbage": {"content": (_one_of("html", "bytes"), "html"), "processed": (_flag, False)},
    "error": {"code": (_error_code, ...), "status": (_status, None), "processed": (_flag, False)},
    "delay": {"seconds": (_seconds, ...), "when": (_one_of("before", "after"), "before")},
    "drip": {"seconds": (_seconds, ...)},
    "huge": {"bytes": (_size, 100_000)},
    "wrong_business": {"support_code": (_support_code, "N9999999")},
    "throttle": {"retry_after": (_retry_after, None)},
}

_TOKEN_ONLY = ("error", "wrong_business")

_PATHS = ("token", "company", "authorize", "slack", "line")


def read_orders(data: Any) -> list[FaultOrder]:
    """The orders that *data*, parsed JSON, describes. Raises `FaultError` if any of them cannot be taken."""
    if not isinstance(data, list):
        raise FaultError('Send a JSON list of orders, such as [{"path": "token", "fault": "lose_answer"}].')
    return [_read_order(number, order) for number, order in enumerate(data, 1)]


def _read_order(number: int, data: Any) -> FaultOrder:
    """One order. Raises `FaultError` naming it by its place in the list."""

    def insist(condition: object, message: str) -> None:
        if not condition:
            raise FaultError(f"Order {number}: {message}.")

    def checked(name: str, check: Callable[[Any], str | None], default: Any) -> Any:
        value = data.pop(name, default)
        insist(value is not ..., f"'{name}' is missing")
        problem = check(value) if value is not None and value is not default else None
        insist(problem is None, f"'{name}' {problem}")
        return value

    insist(isinstance(data, dict), "must be an object with 'path' and 'fault'")
    data = dict(data)
    path = checked("path", _one_of(*_PATHS), ...)
    fault = checked("fault", _one_of(*_OPTIONS), ...)
    insist(path == "token" or fault not in _TOKEN_ONLY, f"'{fault}' is for the path 'token' only")
    grant_type = checked("grant_type", _one_of("authorization_code", "refresh_token"), None)
    insist(grant_type is None or path == "token", "'grant_type' is for the path 'token' only")
    business = checked("business", _support_code, None)
    insist(business is None or path != "authorize", "'business' is not known yet at the path 'authorize'")
    times = checked(
        "times",
        lambda n: None if type(n) is int and 1 <= n <= MAX_TIMES else f"must be a whole number from 1 to {MAX_TIMES:,}",
        1,
    )
    options = {name: checked(name, check, default) for name, (check, default) in _OPTIONS[fault].items()}
    allowed = ", ".join(_OPTIONS[fault]) or "no options"
    unknown = ", ".join(map(repr, data))
    insist(not unknown, f"{unknown} is not known here; '{fault}' takes {allowed}")
    given = {name: value for name, value in options.items() if value is not None}
    return FaultOrder(path, fault, given, times, grant_type, business)


# Applying them


@dataclass(frozen=True)
class Answer:
    """An HTTP answer on its way out, and what happens to it there.

    sent: `whole`, `half` (of the body, under its full Content-Length), `nothing` (the connection is closed)
    or `reset` (the connection is reset). drip: real seconds between two bytes. carries_tokens: whether what
    was issued for the request is in the body.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    sent: str = "whole"
    drip: float = 0.0
    carries_tokens: bool = True


NOTHING = Answer(0, (), b"", sent="nothing", carries_tokens=False)
"""The connection is closed without a byte."""


def json_answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer of our own making, that carries no tokens.

    In a text a lone surrogate from U+DC80 to U+DCFF stands for a byte that is no UTF-8.
    """
    text = body if isinstance(body, str) else json.dumps(body)
    lines = {"Content-Type": "application/json"} | dict(headers or {})
    return Answer(status, tuple(lines.items()), text.encode(errors="surrogateescape"), carries_tokens=False)


def throttled(retry_after: int | str | None) -> Answer:
    """The gateway's 429."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return json_answer(429, {"message": "Too Many Requests"}, headers)


def is_processed(order: FaultOrder) -> bool:
    """Whether the request is handled before this fault befalls its answer."""
    return bool(order.options.get("processed", order.fault not in ("lose_request", "throttle")))


def befall(order: FaultOrder, answer: Answer, error_status: int) -> Answer:
    """What a fault makes of *answer*. For a request that was not processed *answer* is `NOTHING`."""
    options = order.options
    match order.fault:
        case "lose_answer":
            return replace(answer, sent="nothing", carries_tokens=False)
        case "truncate":
            return replace(answer, sent="half", carries_tokens=False)
        case "reset":
            return replace(answer, sent="reset", carries_tokens=False)
        case "status":
            return json_answer(options["status"], options.get("body", ""), options.get("headers"))
        case "garbage" if options["content"] == "html":
            page = "<!doctype html><html><title>502 Bad Gateway</title><body>Bad Gateway</body></html>"
            return json_answer(200, page, {"Content-Type": "text/html"})
        case "garbage":
            return Answer(200, (("Content-Type", "application/json"),), secrets.token_bytes(256), carries_tokens=False)
        case "error":
            return json_answer(options.get("status", error_status), {"error": options["code"]})
        case "drip":
            return replace(answer, drip=options["seconds"])
        case "huge":
            padding = {"padding": "x" * options["bytes"]}
            return replace(answer, body=_with(answer.body, padding))
        case "wrong_business" if b'"access_token"' in answer.body:
            return replace(answer, body=_with(answer.body, {"supportCode": options["support_code"]}))
        case "throttle":
            return throttled(options.get("retry_after"))
    return answer


def _with(body: bytes, change: dict[str, Any]) -> bytes:
    """A JSON object's body with *change* merged in; anything else is followed by it."""
    try:
        data = json.loads(body)
    except ValueError:
        data = None
    return json.dumps(data | change).encode() if isinstance(data, dict) else body + json.dumps(change).encode()
