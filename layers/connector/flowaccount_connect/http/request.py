"""One request of API Gateway's REST proxy integration (payload format 1.0), read without trust."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from flowaccount_connect.domain.ids import is_connection_id
from flowaccount_connect.http.problems import SECURITY_HEADERS, Response, invalid, invalid_connection_id

LONGEST_PARAMETER = 2_048
"""The most characters a query parameter of ours may have."""

LONGEST_CODE = 10_240
"""The most characters a code of FlowAccount's may have, whose length nobody bounds: API Gateway refuses a request whose
request line and headers are longer than this (its quotas for REST APIs)."""

LONGEST_BODY = 65_536
"""The most characters a body may have: room for an imported token (`managing.LONGEST_REFRESH_TOKEN`) and the rest."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the functions need of an event; no header is trusted to say which host this is."""

    query: Mapping[str, list[str]]
    path: Mapping[str, str]
    headers: Mapping[str, str]
    stage: Mapping[str, str]
    body: str
    id: str

    def __repr__(self) -> str:
        # A query string holds codes and states.
        return f"Request({self.id})"

    def only(self, name: str, longest: int = LONGEST_PARAMETER) -> str | None:
        """The one value of a query parameter, or `None` where it is absent or empty. `longest` is in characters.

        Raises `Problem` (400) where it is repeated or oversized: RFC 6749 section 3.1 forbids repeats.
        """
        values = self.query.get(name, [])
        if len(values) > 1:
            raise invalid("repeated_parameter", f"The parameter {name} is given more than once. Send it once.")
        if values and len(values[0]) > longest:
            raise invalid("oversized_parameter", f"The parameter {name} is longer than {longest} characters.")
        return values[0] or None if values else None

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """A query parameter that is a whole number from `low` to `high`. Raises `Problem` (400), `invalid_{name}`."""
        value = self.only(name)
        if value is None:
            return default
        if not (value.isascii() and value.isdigit() and len(value) <= 9 and low <= int(value) <= high):
            raise invalid(f"invalid_{name}", f"{name} must be a whole number from {low} to {high}.")
        return int(value)

    def refuse_unknown(self, known: Collection[str]) -> None:
        """Raise `Problem` (400) for a query parameter that is not one of `known`, which the answer lists."""
        if not self.query.keys() <= set(known):
            listed = ", ".join(known) or "no parameters"
            raise invalid("unknown_parameter", f"This route takes {listed} and nothing else in its query.")

    def connection_id(self) -> str:
        """The connection that the path names. Raises `Problem` (400) where it cannot be one's id."""
        value = self.path.get("id", "")
        if not is_connection_id(value):
            raise invalid_connection_id()
        return value

    def fields(self, required: Collection[str], optional: Collection[str] = ()) -> dict[str, object]:
        """The members of a body that is a JSON object with all of `required` and perhaps some of `optional`.

        Raises `Problem` (400) for anything else: other members, repeated ones, and bodies out of all proportion.
        """
        form = ", ".join([*required, *(f"{name} (optional)" for name in optional)])
        refusal = invalid("invalid_body", f"The body must be a JSON object with these members and no others: {form}.")
        if len(self.body) > LONGEST_BODY:
            raise invalid("oversized_body", f"The body is longer than {LONGEST_BODY} characters.")
        try:
            fields = json.loads(self.body, object_pairs_hook=_object)
        except (ValueError, RecursionError):
            raise refusal from None
        if not isinstance(fields, dict) or not set(required) <= fields.keys() <= {*required, *optional}:
            raise refusal
        return fields

    def cookie(self, name: str) -> str | None:
        """The value of a cookie, or `None` where it is absent or ambiguous."""
        found = []
        for pair in self.headers.get("cookie", "").split(";"):
            key, _, value = pair.strip().partition("=")
            if key == name:
                found.append(value)
        return found[0] if len(found) == 1 else None

    @property
    def prefers_html(self) -> bool:
        """Whether a person is looking: browsers ask for HTML by name, programs do not."""
        return "text/html" in self.headers.get("accept", "").lower()


def read(event: Mapping[str, Any], request_id: str) -> Request:
    """The request in an event of API Gateway's; what is missing or of another shape counts as empty."""
    many = event.get("multiValueQueryStringParameters")
    if not isinstance(many, Mapping):
        single = event.get("queryStringParameters")
        many = {k: [v] for k, v in single.items()} if isinstance(single, Mapping) else {}
    headers, body = event.get("headers"), event.get("body")
    context = event.get("requestContext")
    given = context.get("requestId") if isinstance(context, Mapping) else None
    return Request(
        query={str(k): [str(v) for v in values] for k, values in many.items() if isinstance(values, list)},
        path=_texts(event.get("pathParameters")),
        headers={k.lower(): v for k, v in _texts(headers).items()},
        stage=_texts(event.get("stageVariables")),
        body=body if isinstance(body, str) else "",
        id=given if isinstance(given, str) and given else request_id,
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


def json_answer(status: int, body: object) -> Response:
    """An answer in JSON that no cache keeps."""
    return {
        "statusCode": int(status),
        "headers": {"Content-Type": "application/json", **SECURITY_HEADERS},
        "body": json.dumps(body),
    }


def redirect(status: int, location: str, cookies: Collection[str] = ()) -> Response:
    """A redirect that no cache keeps, with the cookies to set."""
    answer: Response = {
        "statusCode": status,
        "headers": {"Location": location, **SECURITY_HEADERS},
        "body": "",
    }
    if cookies:
        answer["multiValueHeaders"] = {"Set-Cookie": list(cookies)}
    return answer
