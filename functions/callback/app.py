"""GET /callback: the user comes back from FlowAccount; ends on the host's return URL, or on a page."""

from collections.abc import Mapping
from typing import Any

from flowaccount_connect.connect.callback import Ended, Ending, Returned
from flowaccount_connect.domain.ids import fingerprint
from flowaccount_connect.domain.return_urls import is_allowed, with_parameters
from flowaccount_connect.http import pages
from flowaccount_connect.http import request as http_request
from flowaccount_connect.http.problems import Problem, Response, invalid
from flowaccount_connect.http.request import LONGEST_CODE
from flowaccount_connect.runtime import bootstrap
from flowaccount_connect.runtime.observability import COUNT, fault, logger, metrics, observed
from flowaccount_connect.storage.attempts import cookie_name
from flowaccount_connect.storage.dynamodb import StoreUnavailable

_callback, _return_urls = bootstrap.callback()


@observed
def handler(event: Mapping[str, Any], context: Any) -> Response:
    """Answer 303 to the return URL of the session, or a page, where the way back is a link on it."""
    request = http_request.read(event, context.aws_request_id)
    try:
        ended = _callback.finish(_returned(request), remaining=lambda: context.get_remaining_time_in_millis() / 1000)
    except Problem as problem:
        logger.info("refused", extra={"code": problem.code})
        return _page(request, "invalid_request")
    except StoreUnavailable as error:
        logger.error("the session was not consumed", extra={"error": str(error)})
        return _page(request, Ending.TEMPORARILY_UNAVAILABLE)
    except Exception as error:
        logger.error("unexpected", extra=fault(error))
        return _page(request, Ending.TEMPORARILY_UNAVAILABLE)
    _tell(ended)
    return _answer(request, ended)


def _returned(request: http_request.Request) -> Returned:
    """The parameters that are read; others are ignored, since FlowAccount sends `scope` and may send more."""
    state, error, issuer = request.only("state"), request.only("error"), request.only("iss")
    code = request.only("code", LONGEST_CODE)
    if state is None or (code is None and error is None):
        raise invalid("incomplete_callback", "FlowAccount's redirect carries state, and code or error.")
    secret = request.cookie(cookie_name(fingerprint(state)))
    return Returned(state=state, code=code, error=error, issuer=issuer, secret=secret)


def _answer(request: http_request.Request, ended: Ended) -> Response:
    session = ended.session
    if session is None or session.return_url is None or not is_allowed(session.return_url, _return_urls):
        return _page(request, ended.ending)
    parameters = {"error": ended.ending.value}
    if ended.ending is Ending.CONNECTED:
        parameters = {"connection": ended.connection_id or ""}
    elif ended.ending is Ending.TO_BE_CONFIRMED:
        parameters = {}
    if ended.confirmation is not None:
        parameters["session"] = ended.confirmation
    if session.host_state is not None:
        parameters["state"] = session.host_state
    back = with_parameters(session.return_url, parameters)
    if ended.ending is Ending.WRONG_BUSINESS:
        # Only who chose it can choose another: told here, in their language, whatever the host's page will say.
        return _page(request, ended.ending, back)
    return http_request.redirect(303, back)


def _page(request: http_request.Request, kind: str, back: str | None = None) -> Response:
    language = request.headers.get("accept-language", "")
    return pages.page(kind, accept_language=language, reference=request.id, back=back)


def _tell(ended: Ended) -> None:
    facts: dict[str, object] = {
        "ending": ended.ending.value,
        "connection_id": ended.connection_id,
        "note": ended.note,
    }
    if ended.exchange is not None:
        facts |= {"error": ended.exchange.error, "http_status": ended.exchange.status}
    told = {name: value for name, value in facts.items() if value is not None}
    if ended.ending in (Ending.CONFIGURATION_ERROR, Ending.INCOMPLETE_GRANT) or ended.note == "lost":
        logger.error("connect ended", extra=told)
    else:
        logger.info("connect ended", extra=told)
    if ended.note != "reload":
        name = "".join(word.capitalize() for word in ended.ending.value.split("_"))
        metrics.add_metric(f"Connect{name}", COUNT, 1)
