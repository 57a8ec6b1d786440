"""The URL that sends a user to FlowAccount's login (FlowAccount's page, step 1; RFC 6749 section 4.1.1)."""

import base64
import hashlib
from urllib.parse import quote, urlencode

SCOPE = "flowaccount-api offline_access"
"""Without `offline_access` FlowAccount never issues a refresh token."""


def authorization_url(
    endpoint: str,
    *,
    client_id: str,
    redirect_uri: str,
    state: str,
    verifier: str | None = None,
    business: str | None = None,
) -> str:
    """The login URL, encoded as FlowAccount's page shows it: a space is `%20`, never `+`.

    An endpoint that carries a query of its own keeps it. With a PKCE `verifier` the code that comes back can only be
    exchanged together with it (RFC 7636). `business` is the `supportCode` that the login may preselect: FlowAccount's
    own clients send it as `acr_values` (OpenID Connect Core 3.1.2.1).
    """
    parameters = {
        "response_type": "code",
        "scope": SCOPE,
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "state": state,
    }
    if verifier is not None:
        parameters |= {"code_challenge": challenge(verifier), "code_challenge_method": "S256"}
    if business is not None:
        parameters["acr_values"] = f"tenant:{business}"
    query = urlencode(parameters, quote_via=quote, safe="")
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"


def challenge(verifier: str) -> str:
    """What is shown of a PKCE verifier before it is used (RFC 7636 section 4.2, S256)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
