"""Every error as problem details (RFC 9457): one table of codes, one function that reads it.

A problem has a stable `code`, a sentence that says what to do, and the id of the request. `docs/openapi.yaml` lists the
same codes, and a test compares the two.
"""

import json
from dataclasses import dataclass, field
from http import HTTPStatus

from flowaccount_connect.domain.errors import Failure, InvalidSetting
from flowaccount_connect.storage.dynamodb import StoreUnavailable

Response = dict[str, object]
"""An answer in the form of API Gateway's Lambda proxy integration."""

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=63072000",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer: no cache keeps it, no Referer leaks it, no browser guesses its type or tries plain http."""

_BY_STATUS = {
    HTTPStatus.BAD_REQUEST: (
        "incomplete_callback invalid_body invalid_connection_id invalid_external_browser invalid_limit invalid_min_ttl "
        "invalid_next invalid_refresh_token invalid_state invalid_status invalid_tenant oversized_body "
        "oversized_parameter repeated_parameter return_url_not_allowed unknown_link unknown_parameter"
    ),
    HTTPStatus.FORBIDDEN: "link_required",
    HTTPStatus.NOT_FOUND: "connection_not_found route_not_found unknown_confirmation",
    HTTPStatus.CONFLICT: (
        "already_connected confirmation_expired connect_failed connected_meanwhile import_refused import_under_way "
        "link_used not_finished other_tenant reauthorization_required tenant_mismatch"
    ),
    HTTPStatus.GONE: "link_expired",
    HTTPStatus.TOO_MANY_REQUESTS: "too_many_links",
    HTTPStatus.INTERNAL_SERVER_ERROR: "internal_error",
    HTTPStatus.SERVICE_UNAVAILABLE: (
        "configuration_error key_unavailable refreshed_just_now sealed_elsewhere store_unavailable token_unavailable"
    ),
}

STATUS = {code: status for status, codes in _BY_STATUS.items() for code in codes.split()}
"""The HTTP status of every code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What a caller reads of an error. Nothing that a user or FlowAccount sent is ever in it."""

    code: str
    detail: str
    retry_after: int | None = None
    """Seconds, where only time helps."""
    facts: dict[str, object] = field(default_factory=dict)
    """Further members of the problem object."""
    back: str | None = None
    """The return URL that a page with this problem links to. Not for programs."""

    @property
    def status(self) -> HTTPStatus:
        """The HTTP status of the code."""
        return STATUS[self.code]

    def response(self, request_id: str) -> Response:
        """The problem as an answer of the API."""
        body = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "code": self.code,
            "detail": self.detail,
            "request_id": request_id,
            **self.facts,
        }
        headers = {"Content-Type": "application/problem+json", **SECURITY_HEADERS}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return {"statusCode": self.status.value, "headers": headers, "body": json.dumps(body)}


_TRANSLATED: tuple[tuple[type[Exception], Problem], ...] = (
    (
        StoreUnavailable,
        Problem(code="store_unavailable", detail="The table does not answer at the moment. Try again.", retry_after=5),
    ),
    (
        InvalidSetting,
        Problem(
            code="configuration_error",
            detail="The stack is configured wrongly, and its log names the setting. Ask who operates it.",
            retry_after=60,
        ),
    ),
    (
        Exception,
        Problem(
            code="internal_error", detail="This is a fault of the stack. Give the request id to whoever operates it."
        ),
    ),
)
"""Errors that are no `Failure`, and what a caller reads of them; the first that fits."""


def problem(error: Exception) -> Problem:
    """What a caller reads of `error`."""
    if isinstance(error, Failure):
        back = getattr(error, "back", None)
        return Problem(
            code=error.code, detail=error.detail, retry_after=error.retry_after, facts=error.facts, back=back
        )
    return next(found for kind, found in _TRANSLATED if isinstance(error, kind))
