"""With Authlib and boto3."""

import os
from collections.abc import Mapping
from typing import Any

from authlib.integrations.requests_client import OAuth2Session  # type: ignore[import-untyped]

from . import acts, vault

_session: Any = None


def _ask(refresh_token: str) -> Mapping[str, Any]:
    global _session  # noqa: PLW0603 - made once the secret is known, and kept
    if _session is None:
        _session = OAuth2Session(
            os.environ["CLIENT_ID"],
            vault.client_secret(),
            token_endpoint_auth_method="client_secret_post",  # noqa: S106 - the name of a method
        )
    answer: Mapping[str, Any] = _session.refresh_token(
        os.environ["TOKEN_ENDPOINT"], refresh_token=refresh_token, timeout=15
    )
    return answer


token, refresh = acts.token, acts.refreshing(_ask)
