"""GET /callback: the user comes back from FlowAccount. The answer leads to the app's return URL, or is a page."""

from http import HTTPStatus

from flowaccount_connect.connect.callback import Ended, Returned
from flowaccount_connect.connect.endings import Ending
from flowaccount_connect.connect.errors import IncompleteCallback
from flowaccount_connect.domain.ids import fingerprint
from flowaccount_connect.domain.return_urls import is_allowed, with_parameters
from flowaccount_connect.http import pages
from flowaccount_connect.http.handling import answering
from flowaccount_connect.http.previews import is_prefetch
from flowaccount_connect.http.problems import Problem, Response
from flowaccount_connect.http.request import LONGEST_CODE, Request, redirect, with_cookies
from flowaccount_connect.runtime import bootstrap, settings
from flowaccount_connect.runtime.observability import COUNT, logger, metrics, observed
from flowaccount_connect.storage.attempts import cookie, cookie_name
from flowaccount_connect.storage.links import Refusal

_callback, _return_urls = bootstrap.callback()
_app = settings.app()


def _shown(request: Request, problem: Problem) -> Response:
    return pages.problem_page(request, problem, _app)


@observed
@answering(logger, show=_shown)
def handler(request: Request) -> Response:
    """Answer 303 to the return URL of the attempt, or a page. Clears the cookie of an attempt that has ended.

    A browser that asks ahead of its user has the cookie. It must not consume the attempt: it may discard the answer.
    """
    if is_prefetch(request):
        return pages.preview(request, _app)
    returned = _returned(request)
    ended = _callback.finish(returned, remaining=request.remaining)
    _log(ended)
    answer = _answer(request, ended)
    if ended.untouched:
        return answer
    return with_cookies(answer, [cookie(cookie_name(fingerprint(returned.state)), "", 0)])


def _returned(request: Request) -> Returned:
    """The parameters of the callback. Unknown ones are ignored: FlowAccount sends `scope`, and may send more."""
    state, error, issuer = request.only("state"), request.only("error"), request.only("iss")
    code = request.only("code", LONGEST_CODE)
    if state is None or (code is None and error is None):
        raise IncompleteCallback
    secret = request.cookie(cookie_name(fingerprint(state)))
    return Returned(state=state, code=code, error=error, issuer=issuer, secret=secret)


def _answer(request: Request, ended: Ended) -> Response:
    attempt = ended.attempt
    if attempt is None or attempt.return_url is None or not is_allowed(attempt.return_url, _return_urls):
        return _page(request, ended)
    match ended.ending:
        case Ending.CONNECTED:
            parameters = {"connection": ended.connection_id or ""}
        case Ending.TO_BE_CONFIRMED:
            parameters = {}
        case _:
            parameters = {"error": ended.ending.value}
    if ended.confirmation is not None:
        parameters["confirmation"] = ended.confirmation
    if attempt.app_state is not None:
        parameters["state"] = attempt.app_state
    back = with_parameters(attempt.return_url, parameters)
    if ended.ending is Ending.WRONG_BUSINESS:
        # Only the user can choose another business, so a page in the user's language asks for it first.
        return _page(request, ended, back)
    return redirect(HTTPStatus.SEE_OTHER, back)


def _page(request: Request, ended: Ended, back: str | None = None) -> Response:
    kind = "business_taken" if ended.refusal is Refusal.OTHER_TENANT else ended.ending.value
    return pages.page(
        kind,
        app=_app,
        accept_language=request.language,
        reference=request.id,
        back=back,
        retry_after=ended.retry_after,
    )


def _log(ended: Ended) -> None:
    """Write one log line for each ending, and the metric `Unwell` if the stack's configuration is wrong."""
    facts: dict[str, object] = {
        "ending": ended.ending.value,
        "connection_id": ended.connection_id,
        "note": ended.note,
    }
    if ended.exchange is not None:
        facts |= {"error": ended.exchange.error, "http_status": ended.exchange.status}
    known = {name: value for name, value in facts.items() if value is not None}
    if ended.ending in (Ending.CONFIGURATION_ERROR, Ending.INCOMPLETE_GRANT) or ended.note == "lost":
        logger.error("connect ended", extra=known)
    else:
        logger.info("connect ended", extra=known)
    if ended.ending is Ending.CONFIGURATION_ERROR and ended.note != "reload":
        metrics.add_metric("Unwell", COUNT, 1)
