"""One request of API Gateway's REST proxy integration (payload format 1.0), read without trust."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowaccount_connect.domain.errors import Failure, InvalidConnectionId
from flowaccount_connect.domain.ids import is_connection_id
from flowaccount_connect.http.problems import SECURITY_HEADERS, Response

LONGEST_PARAMETER = 2_048
"""The most characters of a query parameter of ours."""

LONGEST_CODE = 10_240
"""The most characters of a code of FlowAccount's, whose length nobody bounds. API Gateway refuses a request with more
in its request line and headers (its quotas for REST APIs)."""

LONGEST_BODY = 65_536
"""The most characters of a body: room for an imported token (`importing.LONGEST_REFRESH_TOKEN`) and the rest."""


class UnknownParameter(Failure):
    """A program sent a query parameter that its route does not take."""

    code = "unknown_parameter"

    def __init__(self, known: Collection[str]) -> None:
        super().__init__()
        self.detail = f"This route takes {', '.join(known) or 'no parameters'} and nothing else in its query."


class RepeatedParameter(Failure):
    """A query parameter was sent more than once (RFC 6749 section 3.1 forbids that)."""

    code = "repeated_parameter"

    def __init__(self, name: str) -> None:
        super().__init__()
        self.detail = f"The parameter {name} is given more than once. Send it once."


class OversizedParameter(Failure):
    """A query parameter is out of all proportion."""

    code = "oversized_parameter"

    def __init__(self, name: str, longest: int) -> None:
        super().__init__()
        self.detail = f"The parameter {name} is longer than {longest} characters."


class InvalidNumber(Failure):
    """A query parameter is not a whole number in its range. Its code names the parameter: `invalid_limit`."""

    def __init__(self, name: str, low: int, high: int) -> None:
        self.code = f"invalid_{name}"
        super().__init__()
        self.detail = f"{name} must be a whole number from {low} to {high}."


class InvalidBody(Failure):
    """The body is not the JSON object that the route takes."""

    code = "invalid_body"

    def __init__(self, form: str) -> None:
        super().__init__()
        self.detail = f"The body must be a JSON object with these members and no others: {form}."


class OversizedBody(Failure):
    """The body is out of all proportion."""

    code = "oversized_body"
    detail = f"The body is longer than {LONGEST_BODY} characters."


class RouteNotFound(Failure):
    """The API has no such route."""

    code = "route_not_found"
    detail = "The API has no such route."


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the functions need of an event. No header decides where anything leads."""

    query: Mapping[str, list[str]]
    path: Mapping[str, str]
    headers: Mapping[str, str]
    stage: Mapping[str, str]
    body: str
    id: str
    method: str = ""
    resource: str = ""
    """The pattern of the route, as in `/connections/{id}`."""
    remaining: Callable[[], float] = field(default=lambda: 0.0)
    """The seconds left of the invocation."""

    def __repr__(self) -> str:
        # A query string holds codes and states.
        return f"Request({self.id})"

    def only(self, name: str, longest: int = LONGEST_PARAMETER) -> str | None:
        """The one value of a query parameter, or `None` where it is absent or empty. `longest` is in characters.

        Raises `RepeatedParameter`, `OversizedParameter`.
        """
        values = self.query.get(name, [])
        if len(values) > 1:
            raise RepeatedParameter(name)
        if values and len(values[0]) > longest:
            raise OversizedParameter(name, longest)
        return values[0] or None if values else None

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """A query parameter that is a whole number from `low` to `high`. Raises `InvalidNumber`."""
        value = self.only(name)
        if value is None:
            return default
        if not (value.isascii() and value.isdigit() and len(value) <= 9 and low <= int(value) <= high):
            raise InvalidNumber(name, low, high)
        return int(value)

    def refuse_unknown(self, known: Collection[str]) -> None:
        """Raises `UnknownParameter` for a query parameter that is not one of `known`.

        Only for routes that programs call: what browsers open gets parameters from whoever passes a link on.
        """
        if not self.query.keys() <= set(known):
            raise UnknownParameter(known)

    def connection_id(self) -> str:
        """The connection in the path. Raises `InvalidConnectionId`."""
        value = self.path.get("id", "")
        if not is_connection_id(value):
            raise InvalidConnectionId
        return value

    def fields(self, required: Collection[str], optional: Collection[str] = ()) -> dict[str, object]:
        """The members of a body that is a JSON object with all of `required` and perhaps some of `optional`.

        The JSON of any language is welcome: a byte order mark is skipped, `null` counts as absent, and a whole number
        can be written as `2.0`. Raises `InvalidBody` for other members and repeated ones, and `OversizedBody`.
        """
        refusal = InvalidBody(", ".join([*required, *(f"{name} (optional)" for name in optional)]))
        if len(self.body) > LONGEST_BODY:
            raise OversizedBody
        try:
            found = json.loads(
                self.body.removeprefix("\ufeff"),
                object_pairs_hook=_object,
                parse_float=_number,
                parse_constant=_no_number,
            )
        except (ValueError, RecursionError):
            raise refusal from None
        if not isinstance(found, dict) or not found.keys() <= {*required, *optional}:
            raise refusal
        given = {name: value for name, value in found.items() if value is not None}
        if not set(required) <= given.keys():
            raise refusal
        return given

    def cookie(self, name: str) -> str | None:
        """The value of a cookie, or `None` where it is absent or ambiguous."""
        found = [value for key, value in self._cookies() if key == name]
        return found[0] if len(found) == 1 else None

    def cookies(self, prefix: str) -> list[str]:
        """The names of the cookies that begin with `prefix`, the oldest first: browsers send cookies of one path in the
        order in which they were made (RFC 6265 section 5.4)."""
        return list(dict.fromkeys(key for key, _ in self._cookies() if key.startswith(prefix)))

    def _cookies(self) -> list[tuple[str, str]]:
        """The pairs of the header `Cookie`. Only space and tab are blanks (RFC 6265 section 5.2): a name with another
        blank in front is another name, which `__Host-` does not protect."""
        pairs = [pair.strip(" \t").partition("=") for pair in self.headers.get("cookie", "").split(";")]
        return [(key, value) for key, _, value in pairs]

    @property
    def prefers_html(self) -> bool:
        """Whether a person is looking: browsers ask for HTML by name, programs do not."""
        return "text/html" in self.headers.get("accept", "").lower()

    @property
    def language(self) -> str:
        """The header `Accept-Language`."""
        return self.headers.get("accept-language", "")


def _gateway_id(event: Mapping[str, Any]) -> str | None:
    """The id of a request that API Gateway's access log has, too; `None` in any other event.

    Not its `requestId`: a client can set that one.
    """
    context = event.get("requestContext")
    given = context.get("extendedRequestId") if isinstance(context, Mapping) else None
    return given if isinstance(given, str) and given else None


def read(event: Mapping[str, Any], request_id: str, milliseconds: Callable[[], float] = lambda: 0.0) -> Request:
    """The request in an event of API Gateway's; what is missing or of another shape counts as empty.

    `milliseconds` are those left of the invocation.
    """
    many = event.get("multiValueQueryStringParameters")
    if not isinstance(many, Mapping):
        single = event.get("queryStringParameters")
        many = {k: [v] for k, v in single.items()} if isinstance(single, Mapping) else {}
    headers, body = event.get("headers"), event.get("body")
    return Request(
        query={str(k): [str(v) for v in values] for k, values in many.items() if isinstance(values, list)},
        path=_texts(event.get("pathParameters")),
        headers={k.lower(): v for k, v in _texts(headers).items()},
        stage=_texts(event.get("stageVariables")),
        body=body if isinstance(body, str) else "",
        id=_gateway_id(event) or request_id,
        method=str(event.get("httpMethod")),
        resource=str(event.get("resource")),
        remaining=lambda: milliseconds() / 1_000,
    )


def _texts(value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {str(k): v for k, v in value.items() if isinstance(v, str)}


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object whose members are named once each."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("repeated member")
    return made


def _number(text: str) -> float:
    """A number with a fraction or an exponent; a whole one is an `int`, as in `2.0`."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def json_answer(status: int, body: object) -> Response:
    """An answer in JSON that no cache keeps."""
    return {
        "statusCode": int(status),
        "headers": {"Content-Type": "application/json", **SECURITY_HEADERS},
        "body": json.dumps(body),
    }


def no_content(status: int) -> Response:
    """An answer without a body."""
    return {"statusCode": int(status), "headers": {**SECURITY_HEADERS}, "body": ""}


def redirect(status: int, location: str, cookies: Collection[str] = ()) -> Response:
    """A redirect that no cache keeps, with the cookies to set."""
    answer: Response = {
        "statusCode": int(status),
        "headers": {"Location": location, **SECURITY_HEADERS},
        "body": "",
    }
    return with_cookies(answer, cookies)


def with_cookies(answer: Response, cookies: Collection[str]) -> Response:
    """The answer with the headers `Set-Cookie`."""
    return answer | {"multiValueHeaders": {"Set-Cookie": list(cookies)}} if cookies else answer
