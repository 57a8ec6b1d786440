"""The token endpoint: Authlib runs the two grants; FlowAccount's deviations are the small functions on top.

What Authlib does on its own is RFC 6749; everything here that is overridden says what FlowAccount, or the
IdentityServer behind it, does otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from authlib.integrations.flask_oauth2 import AuthorizationServer  # type: ignore[import-untyped]
from authlib.oauth2 import OAuth2Error, OAuth2Request  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749 import (  # type: ignore[import-untyped]
    InvalidGrantError,
    InvalidRequestError,
)
from authlib.oauth2.rfc6749.grants import (  # type: ignore[import-untyped]
    AuthorizationCodeGrant,
    RefreshTokenGrant,
)
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload  # type: ignore[import-untyped]
from authlib.oauth2.rfc7636 import CodeChallenge  # type: ignore[import-untyped]
from flask import Blueprint, Response, g, make_response, request

from tools.simulator.clients import Client
from tools.simulator.ledger import Consent, Entry, fingerprint, wants_refresh_token
from tools.simulator.requests_log import Record
from tools.simulator.settings import Settings
from tools.simulator.state import State

FORM = "application/x-www-form-urlencoded"


class ProtocolRequest(OAuth2Request):  # type: ignore[misc]
    """An OAuth request made of its parameters alone.

    Authlib's own Flask request mixes the query into the form and reads the Authorization header; FlowAccount
    takes client authentication and parameters from one place.
    """

    def __init__(self, method: str, parameters: Mapping[str, str]) -> None:
        # FlowAccount is behind TLS, this stand-in on loopback without it. Authlib refuses plain HTTP, so it
        # gets an address such as the real one would see.
        super().__init__(method, "https://flowaccount.invalid/")
        self.payload = BasicOAuth2Payload(dict(parameters))

    @property
    def form(self) -> Mapping[str, str]:
        """The parameters."""
        return self.payload.data  # type: ignore[no-any-return]


class FlowAccountServer(AuthorizationServer):  # type: ignore[misc]
    """Authlib's authorization server with FlowAccount's answers."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state
        self.register_grant(CodeGrant, [Pkce(required=False)])
        self.register_grant(RefreshGrant)

    def query_client(self, client_id: str) -> Client | None:
        """The registered client of that id."""
        return self.state.clients.find(client_id)

    def create_oauth2_request(self, request: ProtocolRequest) -> ProtocolRequest:
        """The request itself: it was made from the parameters already."""
        return request

    def create_token_response(self, request: ProtocolRequest) -> Response:
        """Authenticate the client before all else, so that `invalid_client` never spends a thing."""
        try:
            self.authenticate_client(request, CodeGrant.TOKEN_ENDPOINT_AUTH_METHODS)
        except OAuth2Error as error:
            return self.handle_error_response(request, error)  # type: ignore[no-any-return]
        return super().create_token_response(request)  # type: ignore[no-any-return]

    def generate_token(
        self,
        grant_type: str,
        user: Consent,
        scope: str,
        include_refresh_token: bool,
        **_: Any,
    ) -> dict[str, Any]:
        """FlowAccount's answer to a token request, with new tokens. *user* is the consent they are for."""
        settings = self.state.settings
        length = settings.token_length
        answer: dict[str, Any] = {"access_token": self.state.ledger.new_token(length)}
        answer.update(expires_in(settings))
        answer["token_type"] = settings.token_type
        answer.update(support_code(settings, grant_type, user))
        if include_refresh_token and wants_refresh_token(scope):
            answer["refresh_token"] = self.state.ledger.new_token(length)
        if settings.scope_in_answer:
            answer["scope"] = scope
        return answer

    def save_token(self, token: dict[str, Any], request: ProtocolRequest) -> None:
        """Enter the answer's tokens in the ledger."""
        entries = self.state.ledger.record_tokens(
            request.user,
            request.authorization_code or request.refresh_token,
            token["access_token"],
            token.get("refresh_token"),
            self.state.settings,
        )
        current_record().issued.extend(entries)

    def handle_response(self, status: int, payload: Any, headers: Sequence[tuple[str, str]]) -> Response:
        """A Flask response; errors are bare and have FlowAccount's status."""
        if isinstance(payload, dict) and "error" in payload:
            return bare_error(self.state.settings, payload["error"])
        response = make_response(payload, status)
        # Whatever carries a code or a token is kept by nobody (RFC 6749, section 5.1).
        response.headers.update(dict(headers) | {"Cache-Control": "no-store", "Pragma": "no-cache"})
        return response


def expires_in(settings: Settings) -> dict[str, Any]:
    """`expires_in` as a number, as a string, or not at all."""
    lifetime = settings.access_token_lifetime
    positions: dict[str, dict[str, Any]] = {
        "number": {"expires_in": lifetime},
        "string": {"expires_in": str(lifetime)},
        "absent": {},
    }
    return positions[settings.expires_in]


def support_code(settings: Settings, grant_type: str, consent: Consent) -> dict[str, Any]:
    """`supportCode`, by the switch of the grant: there, null, or not there."""
    positions: dict[str, dict[str, Any]] = {
        "present": {"supportCode": consent.support_code},
        "null": {"supportCode": None},
        "absent": {},
    }
    on_refresh = grant_type == "refresh_token"
    return positions[settings.support_code_on_refresh if on_refresh else settings.support_code]


def bare_error(settings: Settings, code: str) -> Response:
    """`{"error": …}` and nothing else, with HTTP 200 unless a switch says otherwise."""
    status: int = settings.error_status
    if code == "invalid_grant" and settings.invalid_grant_status is not None:
        status = settings.invalid_grant_status
    response = make_response({"error": code}, status)
    response.headers["Cache-Control"] = "no-store"
    return response


class CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]
    """The authorization-code grant: its start on the pages, its end at the token endpoint."""

    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_post",)

    server: FlowAccountServer

    def create_authorization_response(self, redirect_uri: str, grant_user: Consent | None) -> tuple[int, str, Any]:
        """Back to the client: with `code`, `scope` and `state`, or `access_denied` if there is no consent.

        Authlib would decode and re-encode the redirect URI's own query and leave out `scope`.
        """
        settings = self.server.state.settings
        if grant_user is None:
            parameters = {"error": "access_denied"}
        else:
            self.request.user = grant_user
            code = self.generate_authorization_code()
            self.save_authorization_code(code, self.request)
            parameters = {"code": code, "scope": grant_user.scope}
        if self.request.payload.state:
            parameters["state"] = self.request.payload.state
        if settings.session_state:
            parameters["session_state"] = self.server.state.ledger.new_token(43)
        if settings.iss is not None:
            parameters["iss"] = settings.iss
        # IdentityServer appends this to errors, so that a fragment of the login page does not travel along.
        fragment = "#_=_" if grant_user is None else ""
        return 302, "", [("Location", callback_url(redirect_uri, parameters) + fragment)]

    def generate_authorization_code(self) -> str:
        """A code as long as the tokens."""
        return self.server.state.ledger.new_token(self.server.state.settings.token_length)

    def save_authorization_code(self, code: str, request: ProtocolRequest) -> None:
        """Enter a code in the ledger, bound to the redirect URI and the challenge of the request."""
        data = request.payload.data
        entry = self.server.state.ledger.record_code(
            code,
            request.user,
            request.payload.redirect_uri,
            self.server.state.settings,
            (data.get("code_challenge"), data.get("code_challenge_method")),
        )
        current_record().issued.append(entry)

    def validate_token_request(self) -> None:
        """Authlib's checks, noting in the ledger when they burned a code that was good until then."""
        try:
            super().validate_token_request()
        except OAuth2Error:
            if (entry := g.get("code_taken")) is not None:
                wrong_uri = self.request.payload.redirect_uri != entry.redirect_uri
                refuse("redirect_uri" if wrong_uri else "pkce")
                self.server.state.ledger.burn(entry, g.refusal)
            raise

    def query_authorization_code(self, code: str, client: Client) -> Entry | None:
        """The code's entry, **deleted by this look**: redirect URI and PKCE are checked only afterwards."""
        entry, refusal = self.server.state.ledger.take_code(code, client, self.server.state.settings)
        note_business(entry)
        if refusal is not None:
            refuse(refusal)
            return None
        g.code_taken = entry
        return entry

    def delete_authorization_code(self, authorization_code: Entry) -> None:
        """Nothing: it was deleted when it was looked up."""

    def authenticate_user(self, authorization_code: Entry) -> Consent:
        """The consent that the code is for."""
        return authorization_code.consent


def callback_url(redirect_uri: str, parameters: Mapping[str, str]) -> str:
    """*redirect_uri*, not a byte of it changed, with *parameters* added to its query."""
    query = urlencode(parameters, quote_via=quote, safe="")
    return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{query}"


class Pkce(CodeChallenge):  # type: ignore[misc]
    """PKCE (RFC 7636) as IdentityServer does it: S256 only, `invalid_grant` for whatever does not match."""

    DEFAULT_CODE_CHALLENGE_METHOD = "none sent"
    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)

    def validate_code_challenge(self, grant: CodeGrant, redirect_uri: str) -> None:
        """Refuse a malformed challenge, and any method but S256 (none at all would mean `plain`)."""
        if grant.server.state.settings.pkce == "ignored":
            return
        super().validate_code_challenge(grant, redirect_uri)
        data = grant.request.payload.data
        if data.get("code_challenge") and not data.get("code_challenge_method"):
            raise InvalidRequestError("Missing 'code_challenge_method'")

    def validate_code_verifier(self, grant: CodeGrant, result: None) -> None:
        """Check the verifier against the challenge, unless the facade in front lost it."""
        settings = grant.server.state.settings
        if settings.pkce == "ignored":
            return
        if settings.pkce == "dropped":
            grant.request.payload.data.pop("code_verifier", None)
        try:
            super().validate_code_verifier(grant, result)
        except InvalidRequestError as error:
            raise InvalidGrantError from error


class RefreshGrant(RefreshTokenGrant):  # type: ignore[misc]
    """The refresh-token grant with one-time refresh tokens."""

    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_post",)

    server: FlowAccountServer

    def authenticate_refresh_token(self, refresh_token: str) -> Entry | None:
        """The refresh token's entry if it may be used now. This spends nothing yet."""
        state = self.server.state
        client = self.request.client
        entry, refusal = state.ledger.look_up_refresh_token(refresh_token, client, state.settings)
        note_business(entry)
        if refusal is not None:
            refuse(refusal)
            return None
        return entry

    def create_token_response(self) -> Any:
        """Spend the token, then issue: of two requests at the same moment the ledger lets one through.

        Under `racy` both have passed the check by now, and the ledger lets them.
        """
        settings = self.server.state.settings
        if settings.racy:
            time.sleep(settings.race_window)
        refusal = self.server.state.ledger.spend(self.request.refresh_token, settings)
        if refusal is not None:
            refuse(refusal)
            raise InvalidGrantError
        return super().create_token_response()

    def issue_token(self, user: Consent, refresh_token: Entry) -> dict[str, Any]:
        """New tokens for the consent; whether a refresh token is among them is a switch."""
        renewed = self.server.state.settings.refresh_answer == "new_token"
        answer: dict[str, Any] = self.generate_token(
            user=user, scope=refresh_token.get_scope(), include_refresh_token=renewed
        )
        return answer

    def revoke_old_credential(self, refresh_token: Entry) -> None:
        """Nothing: it was spent before anything was issued, and the access tokens live out their time."""

    def authenticate_user(self, refresh_token: Entry) -> Consent:
        """The consent that the token is for."""
        return refresh_token.consent


def current_record() -> Record:
    """The record of the request that is being handled."""
    record: Record = request.environ["simulator.record"]
    return record


def note_business(entry: Entry | None) -> None:
    """Note in the record whose business a presented code or token is for."""
    if entry is not None:
        current_record().business = entry.consent.support_code


def refuse(reason: str) -> None:
    """Remember, for the record only, why a code or token is refused: the client gets a bare error."""
    g.refusal = reason


def forbidden() -> Response:
    """What the gateway in front says to a path that it does not know (seen)."""
    return make_response({"message": "Forbidden"}, 403)


def token_routes(state: State, server: FlowAccountServer) -> Blueprint:
    """The token endpoint."""
    routes = Blueprint("tokens", __name__)

    @routes.post("/<environment>/token")
    def token(environment: str) -> Response:
        """Exchange a code or a refresh token."""
        if environment != state.settings.environment:
            return forbidden()
        record = current_record()
        form = request.form
        repeated = any(len(form.getlist(name)) > 1 for name in form)
        if request.mimetype != FORM or repeated:
            # RFC 6749, section 3.2: parameters must not be included more than once.
            record.outcome = "invalid_request"
            return bare_error(state.settings, "invalid_request")
        presented = form.get("code") if record.grant == "authorization_code" else form.get("refresh_token")
        record.fingerprint = fingerprint(presented) if presented else None
        response = server.create_token_response(ProtocolRequest("POST", form.to_dict()))
        error = (response.get_json(silent=True) or {}).get("error")
        reason = g.get("refusal")
        record.outcome = "issued" if error is None else f"{error}: {reason}" if reason else error
        return response

    return routes
