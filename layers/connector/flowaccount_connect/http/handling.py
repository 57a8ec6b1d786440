"""The frame of every handler behind the API: it reads the event, runs the route, and answers its errors.

One ladder for all of them: a `Failure` is the caller's matter and is logged by its code; anything else is the stack's
and is logged as an error, without the text of anybody else's exception.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Protocol

from flowaccount_connect.domain.errors import Failure, InvalidSetting
from flowaccount_connect.domain.log import Log, fault
from flowaccount_connect.http import request as http_request
from flowaccount_connect.http.problems import Problem, Response, problem
from flowaccount_connect.http.request import Request
from flowaccount_connect.storage.dynamodb import StoreUnavailable


class InvocationLog(Log, Protocol):
    """The log of a handler."""

    def append_keys(self, **keys: object) -> None:
        """Add facts to all lines from now on."""


Route = Callable[[Request], Response]
Handler = Callable[[Mapping[str, Any], Any], Response]


def as_problem(request: Request, found: Problem) -> Response:
    """The answer for a program."""
    return found.response(request.id)


def answering(
    log: InvocationLog,
    *,
    show: Callable[[Request, Problem], Response] = as_problem,
) -> Callable[[Route], Handler]:
    """Makes a Lambda handler of a route; `show` makes the answer of a problem."""

    def decorate(route: Route) -> Handler:
        @wraps(route)
        def handler(event: Mapping[str, Any], context: Any) -> Response:
            request = http_request.read(event, context.aws_request_id, context.get_remaining_time_in_millis)
            # The reference that the caller or the browser is given.
            log.append_keys(gateway_request_id=request.id)
            try:
                return route(request)
            except Exception as error:
                found = problem(error)
                _write(log, error, found.code)
                return show(request, found)

        return handler

    return decorate


def _write(log: Log, error: Exception, code: str) -> None:
    """One line for an error. Only errors of ours are quoted: the texts of others can hold secrets."""
    match error:
        case Failure():
            log.info("refused", extra={"code": code})
        case StoreUnavailable():
            log.error("the table did not answer", extra={"code": code, "error": str(error)})
        case InvalidSetting():
            log.error("the stack is configured wrongly", extra={"code": code, "error": str(error)})
        case _:
            log.error("unexpected", extra={"code": code, **fault(error)})
