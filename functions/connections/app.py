"""The host's side of the API but for tokens: connections, managed by whoever may."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from flowaccount_connect import http_request, wiring
from flowaccount_connect.http_request import Request, json_answer
from flowaccount_connect.observability import COUNT, fault, logger, metrics, observed
from flowaccount_connect.problems import INTERNAL, Problem, Response

type Remaining = Callable[[], float]
"""Tells how many seconds the invocation has left."""

_managing = wiring.connections()


@observed
def handler(event: Mapping[str, Any], context: Any) -> Response:
    """Hand the request to its route; a refusal becomes a problem."""
    request = http_request.read(event, context.aws_request_id)
    try:
        route = ROUTES.get((str(event.get("httpMethod")), str(event.get("resource"))), _unknown)
        return route(request, lambda: context.get_remaining_time_in_millis() / 1000)
    except Problem as problem:
        logger.info("refused", extra={"code": problem.code})
        metrics.add_metric("RequestsRefused", COUNT, 1)
        return problem.response(request.id)
    except Exception as error:
        logger.error("unexpected", extra=fault(error))
        return INTERNAL.response(request.id)


def _unknown(_: Request, __: Remaining) -> Response:
    raise Problem("route_not_found", HTTPStatus.NOT_FOUND, "There is no such route.")


def _show(request: Request, _: Remaining) -> Response:
    request.refuse_unknown(())
    return json_answer(HTTPStatus.OK, _managing.show(request.connection_id()))


ROUTES: Mapping[tuple[str, str], Callable[[Request, Remaining], Response]] = {
    ("GET", "/connections/{id}"): _show,
}
"""What answers each route, by method and pattern; the template has the same."""
