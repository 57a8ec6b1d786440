"""The authorize endpoint and the pages behind it: login, choice of a business, and back to the client."""

from __future__ import annotations

import hmac

from authlib.oauth2 import OAuth2Error  # type: ignore[import-untyped]
from flask import Blueprint, Response, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from tools.simulator import pages, people
from tools.simulator.attempts import Attempt
from tools.simulator.state import State
from tools.simulator.tokens import FlowAccountServer, ProtocolRequest, current_record


def authorization_routes(state: State, server: FlowAccountServer) -> Blueprint:
    """Everything under `/connect/`."""
    routes = Blueprint("authorization", __name__)

    @routes.get("/connect/authorize")
    def authorize() -> Response:
        """Check the client's request and show the login page, or strand the user on the error page.

        No error goes back to the client from here: IdentityServer shows its own page for all of these.
        """
        record = current_record()
        parameters = request.args.to_dict()
        error = refusal(state, server)
        if error is not None:
            record.outcome = error
            return pages.stranded(error)
        record.client_id = parameters["client_id"]
        record.outcome = "login page"
        return pages.sign_in(state.attempts.begin(parameters))

    @routes.get("/connect/login")
    def login_page() -> Response:
        """The login page again, for another user."""
        attempt = state.attempts.find(request.args.get("attempt", ""))
        return pages.sign_in(attempt) if attempt else pages.stranded("ended")

    @routes.post("/connect/login")
    def login() -> AnyResponse:
        """Log in, by one click or by user name and password."""
        attempt = state.attempts.find(request.form.get("attempt", ""))
        if attempt is None:
            return pages.stranded("ended")
        username = request.form.get("user") or request.form.get("username", "").strip()
        user = people.USERS.get(username)
        if user is None or not ("user" in request.form or right_password(request.form.get("password", ""))):
            return pages.sign_in(attempt, username, refused=True)
        attempt.user = user
        return redirect(url_for("authorization.choose", attempt=attempt.attempt_id), 303)

    @routes.get("/connect/businesses")
    def choose() -> Response:
        """The choice of the business that the client may reach."""
        attempt = state.attempts.find(request.args.get("attempt", ""))
        if attempt is None:
            return pages.stranded("ended")
        return pages.businesses(attempt, attempt.user) if attempt.user else pages.sign_in(attempt)

    @routes.post("/connect/consent")
    def consent() -> Response:
        """Back to the client with a code for the chosen business, or with nothing if the user cancelled."""
        record = current_record()
        attempt = state.attempts.find(request.form.get("attempt", ""))
        if attempt is None:
            record.outcome = "ended"
            return pages.stranded("ended")
        record.client_id = attempt.parameters["client_id"]
        if request.form.get("action") == "cancel":
            record.outcome = "cancelled"
            return pages.cancelled() if state.settings.cancel == "stranded" else back_to_client(attempt, None)
        business = request.form.get("business", "")
        if attempt.user is None or business not in attempt.user.businesses:
            record.outcome = "invalid_request"
            return pages.stranded("invalid_request")
        record.outcome, record.business = "issued", business
        return back_to_client(attempt, business)

    def back_to_client(attempt: Attempt, business: str | None) -> Response:
        """The redirect with a code for *business*, or with `access_denied` if there is none."""
        protocol_request = ProtocolRequest("GET", attempt.parameters)
        grant = server.get_authorization_grant(protocol_request)
        user = None
        if business is not None:
            scope = attempt.parameters["scope"]
            user = state.ledger.open_consent(attempt.parameters["client_id"], business, scope)
        response = server.create_authorization_response(protocol_request, grant_user=user, grant=grant)
        response.headers["Referrer-Policy"] = "no-referrer"
        return response  # type: ignore[no-any-return]

    return routes


def refusal(state: State, server: FlowAccountServer) -> str | None:
    """What is wrong with the authorize request, as the error page names it, or None."""
    if any(len(request.args.getlist(name)) > 1 for name in request.args):
        return "invalid_request"
    client = state.clients.find(request.args.get("client_id"))
    if client is None:
        return "unauthorized_client"
    if not client.check_redirect_uri(request.args.get("redirect_uri", "")):
        return "invalid_redirect_uri"
    try:
        server.get_consent_grant(ProtocolRequest("GET", request.args.to_dict()))
    except OAuth2Error as error:
        return str(error.error)
    except ValueError:
        # Authlib quotes what it refuses in the error's description, and then refuses the description for
        # the characters in that quote.
        return "invalid_request"
    return None


def right_password(password: str) -> bool:
    """Whether it is the password of the demo users."""
    return hmac.compare_digest(password.encode(), people.DEMO_PASSWORD.encode())
