"""The app's routes for links, confirmations and connections. The function `token` has the routes for tokens."""

from collections.abc import Callable, Mapping
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from flowaccount_connect.connections.listing import LONGEST_PAGE
from flowaccount_connect.connections.managing import DEFAULT_LIMIT, shown
from flowaccount_connect.http.handling import answering
from flowaccount_connect.http.problems import Response
from flowaccount_connect.http.request import Request, RouteNotFound, json_answer, no_content
from flowaccount_connect.runtime import bootstrap
from flowaccount_connect.runtime.observability import logger, observed
from flowaccount_connect.runtime.settings import Reader

if TYPE_CHECKING:
    from flowaccount_connect.connections.importing import Importing

_managing = bootstrap.connections()
_confirmation = bootstrap.confirmation(_managing.client)


@cache
def _importing() -> "Importing":
    """Made with the first import; see there."""
    return bootstrap.importing(_managing)


@observed
@answering(logger)
def handler(request: Request) -> Response:
    """Answer a request by the function of its route (`ROUTES`)."""
    route = ROUTES.get((request.method, request.resource))
    if route is None:
        raise RouteNotFound
    return route(request)


def _make_link(request: Request) -> Response:
    request.refuse_unknown(())
    fields = request.fields(("tenant", "return_url"), ("expected_connection", "state", "external_browser"))
    made = _confirmation.make(
        tenant=fields["tenant"],
        return_url=fields["return_url"],
        expected_connection=fields.get("expected_connection"),
        app_state=fields.get("state"),
        external=fields.get("external_browser"),
        redirect_uri=_confirmation.redirect_uri or Reader(request.stage).url("callbackUrl"),
    )
    return json_answer(HTTPStatus.CREATED, {"connect_url": made.connect_url, "expires_at": made.expires_at})


def _confirm(request: Request) -> Response:
    request.refuse_unknown(())
    fields = request.fields(("confirmation", "tenant"))
    return json_answer(HTTPStatus.OK, shown(_confirmation.confirm(fields["confirmation"], fields["tenant"])))


def _list(request: Request) -> Response:
    request.refuse_unknown(("status", "tenant", "limit", "next"))
    page = _managing.page(
        request.only("status"),
        tenant=request.only("tenant"),
        limit=request.number("limit", DEFAULT_LIMIT, 1, LONGEST_PAGE),
        next_=request.only("next"),
    )
    return json_answer(HTTPStatus.OK, page)


def _show(request: Request) -> Response:
    request.refuse_unknown(())
    return json_answer(HTTPStatus.OK, _managing.show(request.connection_id()))


def _history(request: Request) -> Response:
    request.refuse_unknown(("limit", "next"))
    connection_id, limit = request.connection_id(), request.number("limit", DEFAULT_LIMIT, 1, LONGEST_PAGE)
    return json_answer(HTTPStatus.OK, _managing.history(connection_id, limit=limit, next_=request.only("next")))


def _disconnect(request: Request) -> Response:
    request.refuse_unknown(())
    connection_id = request.connection_id()
    _managing.disconnect(connection_id)
    logger.info("disconnected", extra={"connection_id": connection_id})
    return no_content(HTTPStatus.NO_CONTENT)


def _import(request: Request) -> Response:
    request.refuse_unknown(())
    connection_id = request.connection_id()
    fields = request.fields(("refresh_token",), ("tenant",))
    imported = _importing().import_(connection_id, fields["refresh_token"], tenant=fields.get("tenant"))
    logger.info("imported", extra={"connection_id": connection_id, "proved": imported.proved})
    return json_answer(HTTPStatus.OK if imported.proved else HTTPStatus.ACCEPTED, imported.shown)


ROUTES: Mapping[tuple[str, str], Callable[[Request], Response]] = {
    ("POST", "/connect-links"): _make_link,
    ("POST", "/connect-links/confirm"): _confirm,
    ("GET", "/connections"): _list,
    ("GET", "/connections/{id}"): _show,
    ("POST", "/connections/{id}"): _import,
    ("DELETE", "/connections/{id}"): _disconnect,
    ("GET", "/connections/{id}/history"): _history,
}
"""The function for each route, by method and pattern. The template has the same routes."""
