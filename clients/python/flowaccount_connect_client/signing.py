"""Signs requests to the stack with the caller's AWS credentials (Signature Version 4, service `execute-api`)."""

import configparser
import os
import re
import threading
from collections.abc import Mapping
from subprocess import SubprocessError
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from flowaccount_connect_client.errors import FlowAccountConnectError, NotConfigured, TemporarilyUnavailable

_API_HOST = re.compile(r"[a-z0-9-]+\.execute-api\.([a-z0-9-]+)\.(vpce\.)?amazonaws\.com(\.cn)?")
_REGION = re.compile(r"[a-z0-9-]{1,64}")
_VISIBLE = re.compile(r"[!-~]+")


_OF_PROVIDERS = (
    BotoCoreError,
    ClientError,
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SubprocessError,
    TypeError,
    ValueError,
    configparser.Error,
)
"""What providers of credentials raise. Not every `Exception`: the time limit of a task queue is one, too, and a lack of
memory; these are the caller's."""


def region_of(caller: Any, url: str = "") -> str | None:
    """The region: of the URL if that is AWS's own, else the session's own, `AWS_REGION`, or the configuration's.

    botocore itself does not read `AWS_REGION`. Raises `NotConfigured` for what can be no region.
    """
    of_url = _API_HOST.fullmatch(urlsplit(url).hostname or "")
    region = (
        (of_url and of_url.group(1))
        or caller.instance_variables().get("region")
        or os.environ.get("AWS_REGION")
        or caller.get_config_variable("region")
    )
    if region is not None and not _REGION.fullmatch(region):
        raise NotConfigured("The AWS region is no region: set AWS_REGION to that of the stack, like ap-southeast-1.")
    return region


def signature(caller: Any, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that sign a request. Raises `NotConfigured`, and `TemporarilyUnavailable` if AWS does not answer."""
    try:
        with _reading:
            region = region_of(caller, url)
            credentials = caller.get_credentials()
        keys = None if credentials is None else credentials.get_frozen_credentials()
    except FlowAccountConnectError:
        raise
    except _OF_PROVIDERS as error:  # Some of it quotes secrets.
        raise _no_credentials(error) from None
    if not region:
        raise NotConfigured("No AWS region: set AWS_REGION to that of the stack.")
    if keys is None or not keys.access_key or not keys.secret_key:
        raise NotConfigured("No AWS credentials: give this process a role, or set AWS_ACCESS_KEY_ID and its kin.")
    for value in keys[:3]:
        if value is not None and not _VISIBLE.fullmatch(value):
            raise NotConfigured(
                "An AWS key or session token has a space, a line break or another sign that no key has: check "
                "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN."
            )
    request = AWSRequest(method, url, data=body, headers=dict(headers))
    SigV4Auth(keys, "execute-api", region).add_auth(request)
    return dict(request.headers.items())


def _no_credentials(error: Exception) -> FlowAccountConnectError:
    """Why there are no credentials, without the words of who refused them."""
    name, status = type(error).__name__, 0
    if isinstance(error, ClientError):
        name = str(error.response.get("Error", {}).get("Code", name))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if isinstance(error, HTTPClientError) or status >= 500 or "Throttl" in name:
        return TemporarilyUnavailable("credentials_unavailable", 0, f"AWS gives no credentials at the moment ({name}).")
    kind = "settings" if isinstance(error, BotoCoreError) else "credentials"
    return NotConfigured(f"The AWS {kind} of this process are of no use ({name}): check its role, profile and keys.")


_own: Any = None
_reading = threading.Lock()
"""A session reads its files at its first use, and shows other threads a half of them meanwhile."""


def session(given: Any = None) -> Any:
    """A session of botocore's: the one inside boto3's, what was given, or the process's own."""
    global _own  # noqa: PLW0603 - made at its first use: it reads files
    if given is not None:
        return getattr(given, "_session", given)
    if _own is None:
        _own = botocore.session.Session()
    return _own


def forget() -> None:
    """Forget the process's own session. A child process begins so: a thread of its parent may have held its lock."""
    global _own, _reading
    _own, _reading = None, threading.Lock()


if hasattr(os, "register_at_fork"):  # Windows has no fork.
    os.register_at_fork(after_in_child=forget)
