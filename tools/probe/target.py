"""Whom to probe: the endpoints and the client, from environment variables of the names that `make up` takes."""

import getpass
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from flowaccount_connect.domain.errors import InvalidSetting
from flowaccount_connect.runtime.settings import Reader

SANDBOX = ("https://sandbox-auth.flowaccount.com/connect/authorize", "https://openapi.flowaccount.com/test/token")
"""FlowAccount's sandbox: where to authorize, and the token endpoint."""

PRODUCTION = ("https://auth.flowaccount.com/connect/authorize", "https://openapi.flowaccount.com/v1/token")
"""The same of FlowAccount's production."""

_NAMES = ("AUTHORIZE_ENDPOINT", "TOKEN_ENDPOINT", "CLIENT_ID", "REDIRECT_URI")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One authorization server, and our client there. Its repr shows no secret."""

    authorize_endpoint: str
    token_endpoint: str
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str


def read(variables: Mapping[str, str]) -> Target | None:
    """The target that these variables name, or `None` where they name none.

    Without endpoints it is FlowAccount's sandbox. A missing secret is asked for, unseen. Raises `InvalidSetting`, which
    says what to set.
    """
    given = {name: value.strip() for name in (*_NAMES, "CLIENT_SECRET") if (value := variables.get(name, "")).strip()}
    if not given:
        return None
    endpoints = {} if given.keys() & set(_NAMES[:2]) else dict(zip(_NAMES, SANDBOX, strict=False))
    read = Reader(endpoints | given)
    target = Target(
        authorize_endpoint=read.url("AUTHORIZE_ENDPOINT"),
        token_endpoint=read.url("TOKEN_ENDPOINT"),
        client_id=read.text("CLIENT_ID"),
        client_secret=given.get("CLIENT_SECRET", ""),
        redirect_uri=read.url("REDIRECT_URI"),
    )
    if target.client_secret:
        return target
    if not sys.stdin.isatty():
        raise InvalidSetting("CLIENT_SECRET is not set, and there is no terminal to ask for it")
    typed = getpass.getpass("Client secret (not shown): ").strip()
    return replace(target, client_secret=Reader({"CLIENT_SECRET": typed}).text("CLIENT_SECRET"))
