"""The host's side of the API but for tokens: connections, managed by whoever may."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from flowaccount_connect.connections.managing import DEFAULT_LIMIT, LONGEST_PAGE
from flowaccount_connect.http import request as http_request
from flowaccount_connect.http.problems import INTERNAL, MISCONFIGURED, SECURITY_HEADERS, Problem, Response, unavailable
from flowaccount_connect.http.request import Request, json_answer
from flowaccount_connect.runtime import bootstrap
from flowaccount_connect.runtime.observability import fault, logger, observed
from flowaccount_connect.runtime.settings import InvalidSetting, Reader
from flowaccount_connect.storage.dynamodb import StoreUnavailable

_STORE_UNAVAILABLE = unavailable("store_unavailable", "The table did not answer. Try the same again.", 5)

_managing = bootstrap.connections()
_confirmation = bootstrap.confirmation(_managing.client)


@observed
def handler(event: Mapping[str, Any], context: Any) -> Response:
    """Hand the request to its route; a refusal becomes a problem."""
    request = http_request.read(event, context.aws_request_id)
    try:
        route = ROUTES.get((str(event.get("httpMethod")), str(event.get("resource"))), _unknown)
        return route(request)
    except Problem as problem:
        logger.info("refused", extra={"code": problem.code})
        return problem.response(request.id)
    except StoreUnavailable as error:
        logger.error("the table did not acknowledge", extra={"error": str(error)})
        return _STORE_UNAVAILABLE.response(request.id)
    except InvalidSetting as error:
        logger.error("the stack is configured wrongly", extra={"error": str(error)})
        return MISCONFIGURED.response(request.id)
    except Exception as error:
        logger.error("unexpected", extra=fault(error))
        return INTERNAL.response(request.id)


def _unknown(_: Request) -> Response:
    raise Problem("route_not_found", HTTPStatus.NOT_FOUND, "There is no such route.")


def _show(request: Request) -> Response:
    request.refuse_unknown(())
    return json_answer(HTTPStatus.OK, _managing.show(request.connection_id()))


def _make_session(request: Request) -> Response:
    request.refuse_unknown(())
    fields = request.fields(("tenant", "return_url"), ("expected_connection",))
    redirect_uri = _confirmation.redirect_uri or Reader(request.stage).url("callbackUrl")
    made = _confirmation.make(fields, redirect_uri=redirect_uri)
    body = {"session": made.session, "connect_url": made.connect_url, "expires_at": made.expires_at}
    return json_answer(HTTPStatus.CREATED, body)


def _confirm_session(request: Request) -> Response:
    request.refuse_unknown(())
    fields = request.fields(("tenant",))
    connection_id = _confirmation.confirm(request.path.get("session", ""), fields["tenant"])
    return json_answer(HTTPStatus.OK, _managing.show(connection_id))


def _list(request: Request) -> Response:
    request.refuse_unknown(("status", "limit", "next"))
    limit = request.number("limit", DEFAULT_LIMIT, 1, LONGEST_PAGE)
    return json_answer(HTTPStatus.OK, _managing.page(request.only("status"), limit=limit, next_=request.only("next")))


def _history(request: Request) -> Response:
    request.refuse_unknown(("limit", "next"))
    connection_id, limit = request.connection_id(), request.number("limit", DEFAULT_LIMIT, 1, LONGEST_PAGE)
    return json_answer(HTTPStatus.OK, _managing.history(connection_id, limit=limit, next_=request.only("next")))


def _disconnect(request: Request) -> Response:
    request.refuse_unknown(())
    connection_id = request.connection_id()
    _managing.disconnect(connection_id)
    logger.info("disconnected", extra={"connection_id": connection_id})
    return {"statusCode": HTTPStatus.NO_CONTENT.value, "headers": {**SECURITY_HEADERS}, "body": ""}


def _import(request: Request) -> Response:
    request.refuse_unknown(())
    connection_id = request.connection_id()
    status, body = _managing.import_(connection_id, request.fields(("refresh_token",))["refresh_token"])
    logger.info("imported", extra={"connection_id": connection_id, "proved": status is HTTPStatus.OK})
    return json_answer(status, body)


ROUTES: Mapping[tuple[str, str], Callable[[Request], Response]] = {
    ("GET", "/connections"): _list,
    ("GET", "/connections/{id}"): _show,
    ("POST", "/connect-sessions"): _make_session,
    ("POST", "/connect-sessions/{session}/confirm"): _confirm_session,
    ("POST", "/connections/{id}"): _import,
    ("DELETE", "/connections/{id}"): _disconnect,
    ("GET", "/connections/{id}/history"): _history,
}
"""What answers each route, by method and pattern; the template has the same."""
