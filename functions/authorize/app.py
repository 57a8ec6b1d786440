"""GET /authorize: sends the user to FlowAccount's login."""

from http import HTTPStatus

from flowaccount_connect.http import pages
from flowaccount_connect.http.handling import answering
from flowaccount_connect.http.previews import is_preview
from flowaccount_connect.http.problems import Problem, Response
from flowaccount_connect.http.request import Request, redirect
from flowaccount_connect.runtime import bootstrap, settings
from flowaccount_connect.runtime.observability import logger, observed
from flowaccount_connect.runtime.settings import Reader
from flowaccount_connect.storage.attempts import COOKIE

_authorize = bootstrap.authorize()
_app = settings.app()


def _shown(request: Request, problem: Problem) -> Response:
    """The problem as a page for a browser, as JSON for a program."""
    return pages.problem_page(request, problem, _app) if request.prefers_html else problem.response(request.id)


@observed
@answering(logger, show=_shown)
def handler(request: Request) -> Response:
    """Answer 302 to FlowAccount. Unknown parameters are ignored, because in-app browsers and trackers add some."""
    if is_preview(request):
        return pages.preview(request, _app)
    redirect_uri = _authorize.settings.redirect_uri or Reader(request.stage).url("callbackUrl")
    link, cookies = request.only("link"), request.cookies(COOKIE)
    if link is not None:
        begun = _authorize.through_link(link, redirect_uri=redirect_uri, cookies=cookies)
    else:
        begun = _authorize.directly(
            redirect_uri=redirect_uri,
            return_url=request.only("return_url"),
            app_state=request.only("state"),
            cookies=cookies,
        )
    return redirect(HTTPStatus.FOUND, begun.location, begun.cookies)
