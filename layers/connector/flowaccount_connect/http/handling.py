"""The frame of every handler behind the API: it reads the event, runs the route, and answers its errors.

One ladder for all of them: a `Failure` is the caller's matter and is logged by its code; anything else is the stack's
and is logged as an error, without the text of anybody else's exception.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from flowaccount_connect.domain.errors import Failure, InvalidSetting
from flowaccount_connect.domain.log import Log, fault
from flowaccount_connect.http import request as http_request
from flowaccount_connect.http.problems import Problem, Response, problem
from flowaccount_connect.http.request import Request
from flowaccount_connect.storage.dynamodb import StoreUnavailable

Route = Callable[[Request], Response]
Handler = Callable[[Mapping[str, Any], Any], Response]


def as_problem(request: Request, found: Problem) -> Response:
    """The answer for a program."""
    return found.response(request.id)


def answering(
    log: Log,
    *,
    show: Callable[[Request, Problem], Response] = as_problem,
) -> Callable[[Route], Handler]:
    """Makes a Lambda handler of a route; `show` makes the answer of a problem."""

    def decorate(route: Route) -> Handler:
        @wraps(route)
        def handler(event: Mapping[str, Any], context: Any) -> Response:
            request = http_request.read(event, context.aws_request_id, context.get_remaining_time_in_millis)
            try:
                return route(request)
            except Exception as error:
                _write(log, error)
                return show(request, problem(error))

        return handler

    return decorate


def _write(log: Log, error: Exception) -> None:
    """One line for an error. Only errors of ours are quoted: the texts of others can hold secrets."""
    match error:
        case Failure():
            log.info("refused", extra={"code": error.code})
        case StoreUnavailable():
            log.error("the table did not answer", extra={"error": str(error)})
        case InvalidSetting():
            log.error("the stack is configured wrongly", extra={"error": str(error)})
        case _:
            log.error("unexpected", extra=fault(error))
