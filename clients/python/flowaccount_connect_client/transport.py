"""One HTTP exchange with the stack. Whatever goes wrong in the libraries below becomes an error of this package."""

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import requests
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.exceptions import ChunkedEncodingError, ContentDecodingError, InvalidSchema, InvalidURL
from urllib3.exceptions import InvalidChunkLength

from flowaccount_connect_client.errors import (
    FlowAccountConnectError,
    InvalidAnswer,
    NotConfigured,
    TemporarilyUnavailable,
)
from flowaccount_connect_client.signing import signature

_TIMEOUT = (3.05, 35.0)
"""Seconds to connect, and to wait for an answer: API Gateway gives up after 29."""

_LONGEST_ANSWER = 1 << 20

_CUT = (http.client.IncompleteRead, http.client.RemoteDisconnected)
"""The errors of an answer that was cut; all others of `http.client` are those of an answer that is no HTTP."""

mounted: dict[str, BaseAdapter] = {}
"""Adapters that answer instead of the network, by the base URL of an API; `testing` puts its fake here."""


@dataclass(frozen=True)
class Answer:
    """An answer of HTTP: its status, its headers, and the JSON it holds (`None` where it holds none)."""

    status: int
    headers: Mapping[str, str]
    content: Any
    is_empty: bool


def exchange(session: Any, base: str, method: str, path: str, body: Mapping[str, object] | None) -> Answer:
    """Send one signed request, and read its answer to the end.

    Raises `NotConfigured`, `InvalidAnswer`, and `TemporarilyUnavailable` where there is no answer, or half of one.
    """
    adapter = mounted.get(base) or HTTPAdapter()
    try:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", "User-Agent": "flowaccount-connect-python"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        request = requests.Request(method, base + path, data=data, headers=headers).prepare()
        request.headers.update(signature(session, method, request.url or "", data, headers))
        settings = dict[str, Any](requests.Session().merge_environment_settings(base, {}, True, None, None))
        with adapter.send(request, timeout=_TIMEOUT, **settings) as answer:
            content = _content(answer)
            return Answer(answer.status_code, answer.headers, _json(content), not content)
    except FlowAccountConnectError:
        raise
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:  # requests' own errors are OSErrors.
        raise _translated(error, base) from None
    finally:
        if isinstance(adapter, HTTPAdapter):
            adapter.close()


def _content(answer: requests.Response) -> bytes:
    content = b""
    for chunk in answer.iter_content(65_536):
        content += chunk
        if len(content) > _LONGEST_ANSWER:
            raise InvalidAnswer("The answer is longer than any of the API's: check the URL.")
    return content


def _json(content: bytes) -> Any:
    try:
        found = json.loads(content)
        if b"\\ud" in content.lower():  # A half of a surrogate pair is no text: nobody could print it.
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return found


def _translated(error: Exception, base: str) -> FlowAccountConnectError:
    """The one table of what the libraries below raise."""
    name = type(error).__name__
    for one in _chain(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            return NotConfigured(f"The certificate of {base} is not trusted: check the URL, and REQUESTS_CA_BUNDLE.")
        if isinstance(one, ssl.SSLError) and one.library in ("X509", "PEM"):
            return NotConfigured("The file of certificate authorities cannot be read: check REQUESTS_CA_BUNDLE.")
        if isinstance(one, ssl.SSLError) and not isinstance(one, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return InvalidAnswer(f"{base} does not speak TLS as an API of AWS's does: check the URL and the proxy.")
        wrong_chunk = isinstance(one, InvalidChunkLength) and one.length
        if wrong_chunk or (isinstance(one, http.client.HTTPException) and not isinstance(one, _CUT)):
            return InvalidAnswer(f"{base} does not speak HTTP as an API of AWS's does: check the URL and the proxy.")
    match error:
        case InvalidURL() | InvalidSchema() | urllib3.exceptions.LocationParseError():
            return NotConfigured(
                f"{base}, or the URL of a proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, cannot be used."
            )
        case ContentDecodingError():
            return InvalidAnswer(f"The answer of {base} is not compressed as it says: something stands in between.")
        case requests.ConnectionError() | requests.Timeout() | ChunkedEncodingError() | ConnectionError():
            return TemporarilyUnavailable("unreachable", 0, f"The stack's API cannot be reached ({name}).")
        case OSError() if not isinstance(error, requests.RequestException):
            return NotConfigured(
                "A file of certificates cannot be read: check REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE and SSL_CERT_FILE."
            )
    return InvalidAnswer(f"{base} does not answer as FlowAccount Connect does ({name}): check the URL.")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and all that led to it."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
