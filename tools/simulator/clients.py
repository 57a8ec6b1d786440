"""The registered clients: the integrators' systems, with their secrets and redirect URIs."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

API_SCOPE = "flowaccount-api"
"""The scope that every authorization must ask for."""

OFFLINE_SCOPE = "offline_access"
"""The scope without which no refresh token is ever issued."""

MAX_LENGTH = 2_000
"""Characters that a client id, secret or redirect URI may have."""


class ClientError(ValueError):
    """A client that cannot be registered; the message says why."""


@dataclass(frozen=True)
class Client:
    """One registered client. `check_*` and `get_*` are what Authlib asks a client for."""

    client_id: str
    client_secret: str
    redirect_uris: tuple[str, ...]

    def get_client_id(self) -> str:
        """The client's id."""
        return self.client_id

    def get_default_redirect_uri(self) -> None:
        """None: FlowAccount wants the redirect URI spelled out in every request."""

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """*scope* as it was asked for, or None if it lacks the API's scope or has one that does not exist."""
        asked = (scope or "").split(" ")
        return scope if API_SCOPE in asked and {*asked} <= {API_SCOPE, OFFLINE_SCOPE} else None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Whether *redirect_uri* equals a registered one byte for byte."""
        return redirect_uri in self.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        """Whether *client_secret* is the client's."""
        return hmac.compare_digest(self.client_secret.encode(), client_secret.encode())

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """Whether the client may authenticate by *method*: in the form body and no other way."""
        return endpoint == "token" and method == "client_secret_post"

    def check_response_type(self, response_type: str) -> bool:
        """Whether the client may ask for *response_type*: a code and nothing else."""
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        """Whether the client may use *grant_type*."""
        return grant_type in ("authorization_code", "refresh_token")


class Clients:
    """All registered clients, by id."""

    def __init__(self) -> None:
        self._clients: dict[str, Client] = {}
        self._lock = threading.Lock()

    def find(self, client_id: str | None) -> Client | None:
        """The client of that id, or None."""
        return self._clients.get(client_id or "")

    def first_id(self) -> str:
        """The id of the client that was registered first, at the start."""
        return next(iter(self._clients))

    def register(self, client_id: str, client_secret: str | None, redirect_uris: Iterable[str]) -> Client:
        """Add a client, or give an existing one another secret and more redirect URIs.

        Raises `ClientError` if an id, a secret or a URI cannot be one, or a new client has no secret.
        """
        uris = tuple(redirect_uris)
        if not 1 <= len(client_id) <= MAX_LENGTH or not client_id.isprintable():
            raise ClientError(f"A client id has 1 to {MAX_LENGTH:,} printable characters.")
        for uri in uris:
            _check_redirect_uri(uri)
        with self._lock:
            known = self._clients.get(client_id)
            secret = client_secret if client_secret is not None else known.client_secret if known else ""
            if not 1 <= len(secret) <= MAX_LENGTH or not secret.isprintable():
                raise ClientError(f"A new client needs a client_secret of 1 to {MAX_LENGTH:,} printable characters.")
            before = known.redirect_uris if known else ()
            client = Client(client_id, secret, tuple(dict.fromkeys((*before, *uris))))
            self._clients[client_id] = client
        return client

    def copy(self) -> Clients:
        """The same registrations in a new set."""
        twin = Clients()
        with self._lock:
            twin._clients.update(self._clients)
        return twin


def _check_redirect_uri(uri: str) -> None:
    """Raise `ClientError` unless *uri* is an absolute http(s) URL that fits a Location header as it is."""
    try:
        parts = urlsplit(uri)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.fragment
    except ValueError:
        usable = False
    if not usable or len(uri) > MAX_LENGTH or "#" in uri or not all("!" <= character <= "~" for character in uri):
        raise ClientError("A redirect URI must be an absolute http(s) URL, percent-encoded, without a fragment.")
