"""What an answer of FlowAccount's token endpoint means.

The body decides, since errors can come with HTTP 200 (seen on the live sandbox):

1. Tokens without an error are a success.
2. A status of 500 and above is doubt.
3. A known error code decides.
4. The status decides.
5. All else is doubt, and never the connection's fault.

To miss tokens costs a customer a consent, and to believe a false refusal costs one, too. So whole tokens (an access and
a refresh token that can be sent) count in any body that begins with them, and a refusal counts only in a body that is
one JSON object and nothing else. Where tokens are named but cannot be read, nothing is proved.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

from flowaccount_connect.domain.ids import is_connection_id

BODY_LIMIT = 64 * 1024
"""The most that is read of a body, in bytes."""

LONGEST_LIFETIME = 30 * 86_400
"""An `expires_in` beyond this is capped: nothing of FlowAccount's is likely to outlive 30 days. Seconds."""

LONGEST_ANNOUNCED = 10 * 365 * 86_400
"""A lifetime of a refresh token or a consent beyond this is capped: ten years are as good as for ever. Seconds."""

LONGEST_RETRY_AFTER = 3_600
"""A `Retry-After` beyond this is capped, so that no header can put a connection to sleep for good. Seconds."""


class Outcome(StrEnum):
    """What came of one request to the token endpoint."""

    TOKENS = "tokens"
    REJECTED = "rejected"
    """`invalid_grant`: the code or refresh token is not, or no longer, good."""
    CONFIGURATION_ERROR = "configuration_error"
    """The stack's fault, not the connection's: wrong client, secret, path or scope. Nothing was consumed."""
    THROTTLED = "throttled"
    """429: nothing was consumed."""
    IN_DOUBT = "in_doubt"
    """No usable answer. Nobody knows whether the token was rotated."""
    INCOMPLETE = "incomplete"
    """A code exchange that cannot become a connection: no refresh token, or no usable `supportCode`."""
    WRONG_CONNECTION = "wrong_connection"
    """Tokens of another business than the one asked for, which the answer names."""
    NOT_SENT = "not_sent"
    """The request provably never left: DNS, TCP or TLS failed, or its time was up before the first byte."""


@dataclass(frozen=True, slots=True)
class TokenSet:
    """The tokens of one answer. Its repr shows none of them."""

    access_token: str
    refresh_token: str | None
    expires_in: int | None
    """Seconds from the moment the request was sent; `None` if the answer gave no usable figure."""
    support_code: str | None
    refresh_expires_in: int | None = None
    """Seconds that the answer announces for the refresh token; `None` if it announces none."""
    authorization_expires_in: int | None = None
    """Seconds that the answer announces for the whole consent, however often it is refreshed; `None` if none."""

    def __repr__(self) -> str:
        return f"TokenSet(support_code={self.support_code!r}, expires_in={self.expires_in!r})"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer means: the outcome, the tokens if there are any, and what to log of an error."""

    outcome: Outcome
    tokens: TokenSet | None = None
    error: str | None = None
    """A known OAuth error code, or `unknown`, or one of `token_endpoint.NO_ANSWER`; never text of the server's own."""
    retry_after: int | None = None
    """Seconds the server asked to be left alone, if it did."""
    status: int | None = None


TOO_MANY_REQUESTS = 429

_BY_ERROR = {
    "invalid_grant": Outcome.REJECTED,
    "invalid_client": Outcome.CONFIGURATION_ERROR,
    "unauthorized_client": Outcome.CONFIGURATION_ERROR,
    "unsupported_grant_type": Outcome.CONFIGURATION_ERROR,
    "invalid_scope": Outcome.CONFIGURATION_ERROR,
    "invalid_request": Outcome.CONFIGURATION_ERROR,
    "temporarily_unavailable": Outcome.IN_DOUBT,
    "server_error": Outcome.IN_DOUBT,
}

_BY_STATUS = {
    403: Outcome.CONFIGURATION_ERROR,
    404: Outcome.CONFIGURATION_ERROR,
    405: Outcome.CONFIGURATION_ERROR,
    TOO_MANY_REQUESTS: Outcome.THROTTLED,
}


def classify(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    connection_id: str | None = None,
    now: float = 0.0,
) -> Answer:
    """Say what an answer means (RFC 6749 sections 5.1 and 5.2, and FlowAccount's page, read with suspicion).

    `connection_id` is the connection that was refreshed, or `None` for the exchange of a code. `now` (epoch seconds)
    turns a `Retry-After` date into seconds. Never raises, whatever the server sent.
    """
    fields, alone = _leading_object(body)
    error = fields.get("error") or None
    if isinstance(error, str):
        error = error.strip() or None
    if error is None and not (_blank(fields.get("access_token")) and _blank(fields.get("refresh_token"))):
        answer = _tokens(fields, connection_id, status)
        whole = answer.tokens is not None and answer.tokens.refresh_token is not None
        return answer if alone or whole else Answer(Outcome.IN_DOUBT, status=status)
    if not alone:
        error = None
    code = (error if error in _BY_ERROR else "unknown") if isinstance(error, str) else "unknown" if error else None
    if status >= 500:
        return Answer(Outcome.IN_DOUBT, error=code, status=status)
    outcome = _BY_ERROR.get(error) if isinstance(error, str) else None
    if outcome is None or (outcome is Outcome.IN_DOUBT and status == TOO_MANY_REQUESTS):
        # If the error proves nothing, the status decides.
        outcome = _BY_STATUS.get(status, Outcome.IN_DOUBT)
    retry_after = _retry_after(headers, now) if status == TOO_MANY_REQUESTS else None
    return Answer(outcome, error=code, retry_after=retry_after, status=status)


def _tokens(fields: Mapping[str, object], connection_id: str | None, status: int) -> Answer:
    """What fields mean that name tokens and no error."""
    doubt = Answer(Outcome.IN_DOUBT, status=status)
    access_token = _token(fields.get("access_token"))
    if access_token is None:
        return doubt
    refresh_token = _token(fields.get("refresh_token"))
    support_code = fields.get("supportCode")
    succeeded = 200 <= status < 300
    tokens = TokenSet(
        access_token,
        refresh_token,
        _lifetime(fields.get("expires_in"), LONGEST_LIFETIME),
        support_code if isinstance(support_code, str) and support_code.strip() else None,
        _refresh_lifetime(fields),
        _lifetime(fields.get("authorization_expires_in"), LONGEST_ANNOUNCED),
    )
    if connection_id is None:
        if refresh_token is not None and is_connection_id(tokens.support_code):
            return Answer(Outcome.TOKENS, tokens, status=status)
        return Answer(Outcome.INCOMPLETE, status=status) if succeeded else doubt
    if refresh_token is None and not (succeeded and _blank(fields.get("refresh_token"))):
        # The old refresh token is kept only after a success that names no new one. A new one that cannot be read has
        # replaced the old one all the same.
        return doubt
    if _blank(support_code) or support_code == connection_id:
        return Answer(Outcome.TOKENS, tokens, status=status)
    if is_connection_id(support_code):
        return Answer(Outcome.WRONG_CONNECTION, tokens, status=status)
    # The value is no id. To store the tokens could give them to the connection of another business. To end the
    # connection would need a proof, and a server that begins to write the field in another way would end all
    # connections. In doubt the connection is still served, and doubt of several connections stops the sending.
    return doubt


def _blank(value: object) -> bool:
    """Whether a member says nothing: absent, null, or a string of white space at most."""
    return value is None or (isinstance(value, str) and not value.strip())


def _token(value: object) -> str | None:
    """A token as RFC 6749 (appendix A.12, A.17) has it: one or more visible ASCII characters or spaces."""
    if isinstance(value, str) and value.strip() and value.isascii() and value.isprintable():
        return value
    return None


def _lifetime(value: object, longest: int) -> int | None:
    """Seconds from a number or a numeric string, `longest` at most; `None` if it is neither, or less than one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(seconds) or seconds < 1:
        return None
    return min(int(seconds), longest)


_REFRESH_LIFETIMES = ("refresh_token_expires_in", "refresh_expires_in", "refresh_token_timeout")
"""The names in use: the usual one; that of Keycloak, where 0 means no end; that of the draft
ietf-oauth-refresh-token-expiration."""


def _refresh_lifetime(fields: Mapping[str, object]) -> int | None:
    """The announced lifetime of the refresh token; of several the shortest, since it is the safe one to believe."""
    announced = (_lifetime(fields.get(name), LONGEST_ANNOUNCED) for name in _REFRESH_LIFETIMES)
    return min((seconds for seconds in announced if seconds is not None), default=None)


def json_object(body: bytes) -> Mapping[str, object]:
    """The JSON object that `body` is, or an empty one if it is anything else or more. Never raises."""
    fields, alone = _leading_object(body)
    return fields if alone else {}


def _leading_object(body: bytes) -> tuple[Mapping[str, object], bool]:
    """The JSON object that `body` begins with, or an empty one, and whether nothing follows it. Never raises.

    It accepts a byte order mark, control characters in strings, and bytes that are not UTF-8: a string that has one of
    them is no token, no known error and no id. Of a repeated member the last one counts.
    """
    text = body[:BODY_LIMIT].decode("utf-8-sig", errors="replace").lstrip(_WHITE_SPACE)
    try:
        value, end = _decoder.raw_decode(text)
    except (ValueError, RecursionError):
        return {}, False
    if not isinstance(value, dict):
        return {}, False
    return value, len(body) <= BODY_LIMIT and not text[end:].strip(_WHITE_SPACE)


_WHITE_SPACE = " \t\r\n"


def _whole_number(digits: str) -> int | float:
    # int() refuses more than 4,300 digits, and a whole token set must not be lost to a silly number beside it.
    return int(digits) if len(digits) <= 20 else math.inf


_decoder = json.JSONDecoder(parse_int=_whole_number, strict=False)


def _retry_after(headers: Mapping[str, str], now: float) -> int | None:
    """Seconds from a `Retry-After` in seconds or as a date (RFC 9110 section 10.2.3); `None` if there is none."""
    value = next((v for k, v in headers.items() if k.lower() == "retry-after"), "").strip()
    if value.isascii() and value.isdigit():
        seconds = float(value[:9])
    else:
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        seconds = (date - datetime.fromtimestamp(now, UTC)).total_seconds()
    return min(max(math.ceil(seconds), 0), LONGEST_RETRY_AFTER)
