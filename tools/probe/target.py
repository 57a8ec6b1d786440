"""Whom to probe: the endpoints and the client, from environment variables of the names that `make up` takes."""

import getpass
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from flowaccount_connect.runtime.settings import InvalidSetting, Reader

SANDBOX = (
    "https://sandbox-auth.flowaccount.com/connect/authorize",
    "https://openapi.flowaccount.com/test/token",
)
"""FlowAccount's own sandbox: where to authorize, and the token endpoint."""

_NAMES = ("AUTHORIZE_ENDPOINT", "TOKEN_ENDPOINT", "CLIENT_ID", "REDIRECT_URI")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One authorization server, and our client there. Its repr shows no secret."""

    authorize_endpoint: str
    token_endpoint: str
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str
    business_api: str | None
    """The base URL of `company/info`; `None`: access tokens cannot be tried out."""

    @property
    def is_loopback(self) -> bool:
        """Whether the authorization server is a stand-in on this machine."""
        return is_loopback(self.authorize_endpoint)


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine."""
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


def read(variables: Mapping[str, str], ask: Callable[[str], str] = getpass.getpass) -> Target | None:
    """The target that these variables name, or `None` where they name none.

    Without endpoints it is FlowAccount's sandbox. A missing secret is asked for, unseen. Raises `InvalidSetting`, which
    says what to set.
    """
    read = Reader({name: value.strip() for name, value in variables.items()})
    given = [name for name in (*_NAMES, "CLIENT_SECRET") if read.optional(name)]
    if not given:
        return None
    if read.optional("AUTHORIZE_ENDPOINT") is None and read.optional("TOKEN_ENDPOINT") is None:
        read = Reader({**read.variables, "AUTHORIZE_ENDPOINT": SANDBOX[0], "TOKEN_ENDPOINT": SANDBOX[1]})
    missing = [name for name in _NAMES if read.optional(name) is None]
    if missing:
        raise InvalidSetting(f"{' and '.join(given)} given without {' and '.join(missing)}, which the probe needs too")
    token_endpoint = read.url("TOKEN_ENDPOINT")
    # FlowAccount's business API lies beside its token endpoint.
    beside, slash, last = token_endpoint.rpartition("/")
    business_api = read.optional_url("BUSINESS_API") or (beside if slash and last == "token" else None)
    return Target(
        authorize_endpoint=read.url("AUTHORIZE_ENDPOINT"),
        token_endpoint=token_endpoint,
        client_id=read.text("CLIENT_ID"),
        redirect_uri=read.url("REDIRECT_URI"),
        business_api=business_api.rstrip("/") if business_api else None,
        client_secret=read.optional("CLIENT_SECRET") or _asked(ask),
    )


def _asked(ask: Callable[[str], str]) -> str:
    """The client secret, typed unseen."""
    if not sys.stdin.isatty() and ask is getpass.getpass:
        raise InvalidSetting("CLIENT_SECRET is not set, and there is no terminal to ask for it")
    secret = ask("Client secret (not shown): ").strip()
    if not secret:
        raise InvalidSetting("CLIENT_SECRET is not set")
    return secret
