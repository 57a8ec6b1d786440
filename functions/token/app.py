"""GET and POST /connections/{id}/token: a valid access token."""

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urljoin

from flowaccount_connect.http.handling import answering
from flowaccount_connect.http.problems import Response
from flowaccount_connect.http.request import InvalidBody, Request, json_answer
from flowaccount_connect.runtime import bootstrap
from flowaccount_connect.runtime.observability import logger, observed
from flowaccount_connect.tokens.serving import DEFAULT_MIN_TTL, LONGEST_MIN_TTL

_serving, _direct_connect, _redirect_uri = bootstrap.token()


@observed
@answering(logger)
def handler(request: Request) -> Response:
    """Answer 200 with the access token and its facts."""
    posted = request.method == "POST"
    request.refuse_unknown(() if posted else ("min_ttl",))
    served = _serving.token(
        request.connection_id(),
        min_ttl=DEFAULT_MIN_TTL if posted else request.number("min_ttl", DEFAULT_MIN_TTL, 0, LONGEST_MIN_TTL),
        rejected_generation=_rejected_generation(request) if posted else None,
        reconnect_url=_reconnect_url(request.stage),
        remaining=request.remaining,
    )
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
    return json_answer(HTTPStatus.OK, body)


def _reconnect_url(stage: Mapping[str, str]) -> str | None:
    """The URL of `authorize`, next to the redirect URI; `None` where users can connect through links only.

    The settings or the stage variable `callbackUrl` have the redirect URI.
    """
    callback = _redirect_uri or stage.get("callbackUrl")
    return urljoin(callback, "authorize") if callback and _direct_connect else None


def _rejected_generation(request: Request) -> int:
    """The generation that FlowAccount refused. Raises `InvalidBody`."""
    value = request.fields(("rejected_generation",))["rejected_generation"]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidBody("rejected_generation, a whole number from 1")
    return value
