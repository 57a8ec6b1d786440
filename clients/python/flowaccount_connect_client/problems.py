"""The error that an answer stands for: the stack's problem details (RFC 9457), or AWS's refusal in its own words."""

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from flowaccount_connect_client.errors import (
    AccessDenied,
    ConnectionNotFound,
    Denial,
    FlowAccountConnectError,
    InvalidAnswer,
    Problem,
    ReauthorizationRequired,
    TemporarilyUnavailable,
)
from flowaccount_connect_client.transport import Answer

_WORDS: tuple[tuple[Denial, str], ...] = (
    ("clock", "signature expired|signature not yet current|RequestExpired|RequestTimeTooSkewed"),
    ("expired", "ExpiredToken|credentials_expired|token included in the request is expired"),
    ("region", "should be scoped to"),
    ("keys", "UnrecognizedClient|InvalidClientTokenId|token included in the request is invalid"),
    ("keys", "InvalidSignature|invalid_signature|signature we calculated does not match"),
    ("permission", "AccessDenied|permission_denied|not authorized to perform|explicit deny"),
    ("stage", "MissingAuthenticationToken|missing authentication token|not_signed|Forbidden"),
)
"""AWS's own words, in its header `x-amzn-ErrorType` and its message, and the stack's codes. The first match counts."""

_SKEW = 300
"""AWS takes signatures that are at most so old, in seconds."""

_MEMBERS: dict[str, type] = {"since": int} | dict.fromkeys(
    ("reason", "ending", "tenant", "expected_connection", "reconnect_url"), str
)


def error_of(answer: Answer, *, base: str, method: str, path: str) -> FlowAccountConnectError:
    """The error of an answer that is none of success."""
    fields = answer.content if isinstance(answer.content, dict) else {}
    code, status = _text(fields, "code") or "", answer.status
    if status in (HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED):
        return _denied(answer, fields, f"{method} {path.partition('?')[0]}", base)
    detail = _text(fields, "detail") or _text(fields, "title") or f"HTTP status {status}"
    kind = _kind(status, code)
    if kind is None:
        return InvalidAnswer(f"{base} answers with status {status}, and not as FlowAccount Connect: check the URL.")
    error = kind(code or "unavailable", status, detail, _text(fields, "request_id"))
    way = fields.get("reconnect")
    members = fields | (way if isinstance(way, dict) else {})
    for name, type_ in _MEMBERS.items():
        if hasattr(kind, name) and isinstance(members.get(name), type_):
            setattr(error, name, members[name])
    if isinstance(error, TemporarilyUnavailable):
        after = answer.headers.get("Retry-After", "")
        if re.fullmatch(r"[0-9]{1,6}", after):
            error.retry_after = int(after)
    return error


def _kind(status: int, code: str) -> type[Problem] | None:
    match status:
        case HTTPStatus.CONFLICT if code == "reauthorization_required":
            return ReauthorizationRequired
        case HTTPStatus.NOT_FOUND if code == "connection_not_found":
            return ConnectionNotFound
        case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.INTERNAL_SERVER_ERROR | HTTPStatus.BAD_GATEWAY:
            return TemporarilyUnavailable
        case HTTPStatus.SERVICE_UNAVAILABLE | HTTPStatus.GATEWAY_TIMEOUT:
            return TemporarilyUnavailable
    return Problem if code else None


def _denied(answer: Answer, fields: Mapping[str, Any], call: str, base: str) -> AccessDenied:
    """What AWS refused, and what mends it. AWS's text is read, not shown: it repeats the headers that were signed."""
    said = " ".join(
        [answer.headers.get("x-amzn-ErrorType", "")]
        + [_text(fields, name) or "" for name in ("message", "Message", "code", "title", "detail")]
    )
    denial: Denial = next((kind for kind, words in _WORDS if re.search(words, said, re.IGNORECASE)), "unknown")
    skew = _skew(answer.headers.get("Date", ""))
    if denial == "keys" and abs(skew or 0) > _SKEW:
        denial = "clock"  # The stack's own answer may keep AWS's words to itself; the two clocks still tell.
    by = f" It is {abs(skew):.0f} seconds {'ahead of' if skew > 0 else 'behind'} the API's." if skew else ""
    advice: dict[Denial, str] = {
        "clock": f"The clock of this machine is wrong.{by} Set it, or turn time synchronization on.",
        "expired": "The AWS credentials have expired: renew them.",
        "keys": "AWS does not accept these AWS keys: the access key id, its secret or the session token is wrong.",
        "permission": f"The AWS identity may not do this: its policy needs execute-api:Invoke on {call}.",
        "region": f"The stack is in another region than the request was signed for: set AWS_REGION to that of {base}.",
        "stage": f"The API has no route {call}: check API id, region and stage in {base} (the stack's output ApiUrl).",
        "unknown": f"AWS refused {call} without a reason: check the URL, the AWS credentials and their policy.",
    }
    request_id = _text(fields, "request_id") or answer.headers.get("x-amzn-RequestId")
    error = AccessDenied(_text(fields, "code") or "forbidden", answer.status, advice[denial], request_id)
    error.denial = denial
    return error


def _skew(date: str) -> float | None:
    """By how many seconds the clock of this machine is ahead of the server's."""
    try:
        return time.time() - parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) and value else None
