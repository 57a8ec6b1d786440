"""GET and POST /connections/{id}/token: a valid access token."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin

from flowaccount_connect.http import request as http_request
from flowaccount_connect.http.problems import INTERNAL, Problem, Response, invalid
from flowaccount_connect.runtime import bootstrap
from flowaccount_connect.runtime.observability import fault, logger, observed
from flowaccount_connect.tokens.serving import DEFAULT_MIN_TTL, LONGEST_MIN_TTL

_serving, _direct_connect, _redirect_uri = bootstrap.token()


@observed
def handler(event: Mapping[str, Any], context: Any) -> Response:
    """Answer 200 with the token, or a problem."""
    request = http_request.read(event, context.aws_request_id)
    try:
        posted = event.get("httpMethod") == "POST"
        request.refuse_unknown(() if posted else ("min_ttl",))
        served = _serving.token(
            request.path.get("id", ""),
            min_ttl=DEFAULT_MIN_TTL if posted else _min_ttl(request.only("min_ttl")),
            rejected_generation=_rejected_generation(request.body) if posted else None,
            reconnect_url=_reconnect_url(request.stage),
            remaining=lambda: context.get_remaining_time_in_millis() / 1000,
        )
    except Problem as problem:
        logger.info("refused", extra={"code": problem.code})
        return problem.response(request.id)
    except Exception as error:
        logger.error("unexpected", extra=fault(error))
        return INTERNAL.response(request.id)
    body = {
        "access_token": served.access_token,
        "token_type": "Bearer",
        "expires_in": served.expires_in,
        "expires_at": served.expires_at,
        "support_code": served.support_code,
        "environment": served.environment,
        "generation": served.generation,
        "status": served.status,
    }
    return http_request.json_answer(HTTPStatus.OK, body)


def _reconnect_url(stage: Mapping[str, str]) -> str | None:
    """`authorize`, which is beside the callback (by the settings or a stage variable, never by a header); `None` where
    one connects by a host's link only."""
    callback = _redirect_uri or stage.get("callbackUrl")
    return urljoin(callback, "authorize") if callback and _direct_connect else None


def _min_ttl(text: str | None) -> int:
    if text is None:
        return DEFAULT_MIN_TTL
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and int(text) <= LONGEST_MIN_TTL):
        raise invalid("invalid_min_ttl", f"min_ttl must be a whole number of seconds from 0 to {LONGEST_MIN_TTL}.")
    return int(text)


def _rejected_generation(body: str) -> int:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    value = fields.get("rejected_generation") if isinstance(fields, dict) and len(fields) == 1 else None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise invalid("invalid_body", 'The body must be JSON of the form {"rejected_generation": 3}.')
    return value
