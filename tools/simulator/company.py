"""The one page of the business API that a client needs: which company an access token is for."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, make_response, request

from tools.simulator import people
from tools.simulator.ledger import fingerprint
from tools.simulator.settings import Settings
from tools.simulator.state import State
from tools.simulator.tokens import current_record, forbidden


def company_routes(state: State) -> Blueprint:
    """`GET /{environment}/company/info`."""
    routes = Blueprint("company", __name__)

    @routes.get("/<environment>/company/info")
    def company_info(environment: str) -> Response:
        """The company that the bearer token is for (official shape; the misspelling is theirs)."""
        if environment != state.settings.environment:
            return forbidden()
        record = current_record()
        token = bearer_token(request.headers.get("Authorization", ""))
        record.fingerprint = fingerprint(token) if token else None
        consent, refusal = state.ledger.find_access_token(token)
        if consent is not None:
            record.business = consent.support_code
        if consent is None or refusal is not None:
            record.outcome = f"unauthorized: {refusal}"
            return unauthorized(state.settings)
        record.outcome = "served"
        business = people.business(consent.support_code)
        data = {"companyId": business.company_id, "compnayName": business.thai}
        return jsonify({"status": True, "message": "Success", "code": 0, "data": data})

    return routes


def bearer_token(authorization: str) -> str:
    """The token of an Authorization header, or an empty string if it has none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def unauthorized(settings: Settings) -> Response:
    """The refusal of an access token: the gateway's 401, or `status: false` with HTTP 200."""
    if settings.unauthorized == "status_false":
        return jsonify({"status": False, "message": "Unauthorized", "code": 401, "data": None})
    return make_response({"message": "Unauthorized"}, 401)
