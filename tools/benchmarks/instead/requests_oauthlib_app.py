"""With requests-oauthlib and boto3."""

import os
from collections.abc import Mapping
from typing import Any

from requests_oauthlib import OAuth2Session  # type: ignore[import-untyped]

from . import acts, vault

_session = OAuth2Session(os.environ["CLIENT_ID"])


def _ask(refresh_token: str) -> Mapping[str, Any]:
    answer: Mapping[str, Any] = _session.refresh_token(
        os.environ["TOKEN_ENDPOINT"],
        refresh_token=refresh_token,
        client_id=os.environ["CLIENT_ID"],
        client_secret=vault.client_secret(),
        timeout=15,
    )
    return answer


token, refresh = acts.token, acts.refreshing(_ask)
