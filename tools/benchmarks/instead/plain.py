"""With requests and boto3."""

import os
from collections.abc import Mapping
from typing import Any

import requests

from . import acts, vault

_session = requests.Session()


def _ask(refresh_token: str) -> Mapping[str, Any]:
    form = {
        "grant_type": "refresh_token",
        "refresh_token": refresh_token,
        "client_id": os.environ["CLIENT_ID"],
        "client_secret": vault.client_secret(),
    }
    answer = _session.post(os.environ["TOKEN_ENDPOINT"], data=form, timeout=15)
    answer.raise_for_status()
    made: dict[str, Any] = answer.json()
    return made


token, refresh = acts.token, acts.refreshing(_ask)
