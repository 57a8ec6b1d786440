"""The URL that sends a user to FlowAccount's login (FlowAccount's page, step 1; RFC 6749 section 4.1.1)."""

from urllib.parse import quote, urlencode

SCOPE = "flowaccount-api offline_access"
"""Without `offline_access` FlowAccount never issues a refresh token."""


def authorization_url(endpoint: str, *, client_id: str, redirect_uri: str, state: str) -> str:
    """The login URL, encoded as FlowAccount's page shows it: a space is `%20`, never `+`.

    An endpoint that carries a query of its own keeps it.
    """
    query = urlencode(
        {
            "response_type": "code",
            "scope": SCOPE,
            "client_id": client_id,
            "redirect_uri": redirect_uri,
            "state": state,
        },
        quote_via=quote,
        safe="",
    )
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"
