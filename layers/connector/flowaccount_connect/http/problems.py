"""Errors as problem details (RFC 9457), each with a stable `code`, a fix, and the request id."""

import json
from dataclasses import dataclass, field
from http import HTTPStatus

Response = dict[str, object]
"""An answer as API Gateway's Lambda proxy integration takes it."""

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=63072000",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer of ours: nothing is kept, nothing leaks by Referer, nothing is sniffed, plain http is not tried."""


@dataclass(eq=False)
class Problem(Exception):
    """Something the caller can be told: a stable code, the HTTP status, and a sentence that says what to do.

    `detail` is ours throughout; nothing that a user or FlowAccount sent is ever put into it.
    """

    code: str
    status: HTTPStatus
    detail: str
    retry_after: int | None = None
    """Seconds, where only time helps."""
    extra: dict[str, object] = field(default_factory=dict)
    """Further members of the problem object."""
    back: str | None = None
    """Where a page that tells it to a person may lead: a host's own URL, on the allow-list. Not for programs."""

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"

    def response(self, request_id: str) -> Response:
        """The problem as an answer of the API."""
        body = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "code": self.code,
            "detail": self.detail,
            "request_id": request_id,
            **self.extra,
        }
        headers = {"Content-Type": "application/problem+json", **SECURITY_HEADERS}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return {"statusCode": self.status.value, "headers": headers, "body": json.dumps(body)}


def invalid(code: str, detail: str) -> Problem:
    """A request that cannot be understood: 400."""
    return Problem(code, HTTPStatus.BAD_REQUEST, detail)


def unavailable(code: str, detail: str, retry_after: int) -> Problem:
    """Something that only time mends: 503 with `Retry-After` in seconds."""
    return Problem(code, HTTPStatus.SERVICE_UNAVAILABLE, detail, retry_after)


def invalid_connection_id() -> Problem:
    """What a path names cannot be a connection's id: 400."""
    return invalid(
        "invalid_connection_id",
        "A connection's id is its supportCode: 1 to 64 letters, digits, '.', '_' or '-'.",
    )


def connection_not_found() -> Problem:
    """No such connection: 404."""
    return Problem(
        "connection_not_found",
        HTTPStatus.NOT_FOUND,
        "There is no such connection. Its business has to be connected first.",
    )


def unreadable() -> Problem:
    """The table cannot be read: 503."""
    return unavailable("store_unavailable", "The table cannot be read at the moment. Try again.", 5)


def key_unavailable() -> Problem:
    """KMS cannot be reached: 503."""
    return unavailable("key_unavailable", "KMS cannot be reached at the moment. Try again.", 5)


MISCONFIGURED = unavailable(
    "configuration_error", "This needs the stack's administrator; the log names the setting.", 60
)

INTERNAL = Problem(
    "internal_error",
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "This is a fault of the stack. Give the request id to whoever operates it.",
)
