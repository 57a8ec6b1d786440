"""Between the socket and the application: the rate limit, the ordered faults, and the books about both."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes

from flask import Flask
from werkzeug.test import run_wsgi_app

from tools.simulator.company import bearer_token
from tools.simulator.faults import NOTHING, Answer, FaultOrder, befall, is_processed, throttled
from tools.simulator.messengers import LINE_PATH
from tools.simulator.requests_log import Kind, Record
from tools.simulator.state import State
from tools.simulator.tokens import FORM


@dataclass(frozen=True)
class Exchange:
    """A request as it came in. headers: by name in lower case, repeated ones joined by a comma."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    client_address: str = "127.0.0.1"


class Gateway:
    """Lets requests through to the application, or not, and does to the answers what was ordered."""

    def __init__(self, app: Flask, state: State) -> None:
        self._app = app
        self._state = state

    def handle(self, exchange: Exchange) -> tuple[Answer, Record | None]:
        """The answer to *exchange*, and its record if it is one of those that are recorded."""
        kind = self._kind(exchange)
        if kind is None:
            return self._run(exchange, None), None
        state = self._state
        now = state.clock.now()
        record = state.requests.begin(kind, now)
        presented = self._identify(exchange, record)
        retry_after = self._admit(record, now)
        if retry_after is not None:
            record.outcome = "throttled"
            return self._out(throttled(retry_header(state.settings.retry_after, retry_after)), record), record
        # Known of what was presented, also if the request is not processed.
        business = record.business = state.ledger.business_of(presented) if presented else None
        orders = state.faults.take(kind, record.grant, business)
        record.fault = [order.fault for order in orders]
        return self._out(self._under(orders, exchange, record), record), record

    def _under(self, orders: list[FaultOrder], exchange: Exchange, record: Record) -> Answer:
        """The answer under the faults ordered for it."""
        delays = [order.options for order in orders if order.fault == "delay"]
        others = [order for order in orders if order.fault != "delay"]
        time.sleep(sum(delay["seconds"] for delay in delays if delay["when"] == "before"))
        if all(map(is_processed, others)):
            answer = self._run(exchange, record)
        else:
            answer, record.outcome = NOTHING, "not processed"
        time.sleep(sum(delay["seconds"] for delay in delays if delay["when"] == "after"))
        for order in others:
            answer = befall(order, answer, self._state.settings.error_status)
        return answer

    @staticmethod
    def _out(answer: Answer, record: Record) -> Answer:
        """*answer*, its status noted."""
        record.status = None if answer.sent in ("nothing", "reset") else answer.status
        return answer

    def _kind(self, exchange: Exchange) -> Kind | None:
        """What is asked for, or None if it is nothing that is limited, recorded or broken by order."""
        environment = self._state.settings.environment
        kinds: dict[tuple[str, str], Kind] = {
            ("POST", f"/{environment}/token"): "token",
            ("GET", f"/{environment}/company/info"): "company",
            ("GET", "/connect/authorize"): "authorize",
            ("POST", "/connect/consent"): "consent",
            ("POST", LINE_PATH): "line",
        }
        if exchange.method == "POST" and exchange.path.startswith("/slack/services/"):
            return "slack"
        return kinds.get((exchange.method, exchange.path))

    def _identify(self, exchange: Exchange, record: Record) -> str | None:
        """Note whose request it is; returns the code or token that it presents."""
        presented: str | None = None
        client_id: str | None = None
        if record.kind == "token":
            is_form = exchange.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM
            form = first_values(exchange.body) if is_form else {}
            record.grant = form.get("grant_type")
            presented = form.get("code" if record.grant == "authorization_code" else "refresh_token")
            client = self._state.clients.find(form.get("client_id"))
            client_id = client.client_id if client else None
        elif record.kind == "company":
            presented = bearer_token(exchange.headers.get("authorization", ""))
            consent, _ = self._state.ledger.find_access_token(presented)
            client_id = consent.client_id if consent else None
        record.client_id = client_id
        return presented

    def _admit(self, record: Record, now: float) -> int | None:
        """None if the rate limit lets the request through, else the seconds to wait.

        What carries no credentials of a known client has no account to be counted on. Credentials count by
        the client they name, whether or not the secret is right.
        """
        state, settings = self._state, self._state.settings
        if record.client_id is None:
            return None
        if not settings.rate_limit or (record.kind == "token" and not settings.rate_limit_counts_token):
            return None
        return state.rates.admit(record.client_id, now, settings.allowed_per_minute)

    def _run(self, exchange: Exchange, record: Record | None) -> Answer:
        """What the application answers."""
        environ: dict[str, Any] = {
            "REQUEST_METHOD": exchange.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(exchange.path).decode("latin-1"),
            "QUERY_STRING": exchange.query,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "0",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": exchange.client_address,
            "CONTENT_TYPE": exchange.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(exchange.body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(exchange.body),
            "wsgi.errors": BytesIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "simulator.record": record,
        }
        environ |= {
            f"HTTP_{name.upper().replace('-', '_')}": value
            for name, value in exchange.headers.items()
            if name not in ("content-type", "content-length")
        }
        chunks: Iterable[bytes]
        chunks, status, headers = run_wsgi_app(self._app, environ, buffered=True)
        body = b"".join(chunks)
        lines = tuple((name, value) for name, value in headers if name.lower() != "content-length")
        return Answer(int(status.partition(" ")[0]), lines, body)


def first_values(body: bytes) -> dict[str, str]:
    """The parameters of a form body, the first value of each."""
    try:
        parsed = parse_qs(body.decode("latin-1"), keep_blank_values=True, max_num_fields=1_000)
    except ValueError:
        return {}
    return {name: values[0] for name, values in parsed.items()}


def retry_header(position: str, seconds: int) -> int | str | None:
    """The `Retry-After` of a 429, by the switch.

    The date is by the real clock, since that is the client's; the seconds are the same by both.
    """
    if position == "none":
        return None
    if position == "seconds":
        return seconds
    whole = datetime.fromtimestamp(math.ceil(time.time()), UTC) + timedelta(seconds=seconds)
    return format_datetime(whole, usegmt=True)


def reason_phrase(status: int) -> str:
    """The words after a status code, empty for one that has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
