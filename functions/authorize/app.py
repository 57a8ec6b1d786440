"""GET /authorize: sends the user to FlowAccount's login."""

from collections.abc import Mapping
from typing import Any

from flowaccount_connect.http import pages
from flowaccount_connect.http import request as http_request
from flowaccount_connect.http.problems import INTERNAL, MISCONFIGURED, Problem, Response, unavailable
from flowaccount_connect.runtime import bootstrap
from flowaccount_connect.runtime.observability import fault, logger, observed
from flowaccount_connect.runtime.settings import InvalidSetting, Reader
from flowaccount_connect.storage.dynamodb import StoreUnavailable

_STORE_UNAVAILABLE = unavailable("store_unavailable", "Connecting is not possible right now. Try again.", 5)

_authorize = bootstrap.authorize()


@observed
def handler(event: Mapping[str, Any], context: Any) -> Response:
    """Answer 302 to FlowAccount, or a problem; a page instead of a problem where a person is looking."""
    request = http_request.read(event, context.aws_request_id)
    try:
        request.refuse_unknown(("return_url", "state", "session"))
        begun = _authorize.begin(
            redirect_uri=_authorize.settings.redirect_uri or Reader(request.stage).url("callbackUrl"),
            return_url=request.only("return_url"),
            host_state=request.only("state"),
            session=request.only("session"),
        )
    except Problem as problem:
        return _problem(request, problem, problem.code if problem.code in pages.KINDS else "invalid_request")
    except StoreUnavailable as error:
        logger.error("the session was not written", extra={"error": str(error)})
        return _problem(request, _STORE_UNAVAILABLE, "temporarily_unavailable")
    except InvalidSetting as error:
        logger.error("the stack is configured wrongly", extra={"error": str(error)})
        return _problem(request, MISCONFIGURED, "configuration_error")
    except Exception as error:
        logger.error("unexpected", extra=fault(error))
        return _problem(request, INTERNAL, "temporarily_unavailable")
    return http_request.redirect(302, begun.location, [begun.cookie])


def _problem(request: http_request.Request, problem: Problem, page: str) -> Response:
    logger.info("refused", extra={"code": problem.code})
    if not request.prefers_html:
        return problem.response(request.id)
    language = request.headers.get("accept-language", "")
    answer = pages.page(page, accept_language=language, reference=request.id, back=problem.back)
    return answer | {"statusCode": problem.status.value}
