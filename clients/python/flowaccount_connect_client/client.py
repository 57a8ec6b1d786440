"""For the integrator's own services: FlowAccount's API with a valid token, without a thought of OAuth.

    requests.get("https://openapi.flowaccount.com/v1/company/info", auth=FlowAccountAuth("N1234567"))

`FlowAccountAuth` asks the stack for the connection's access token, signed with the caller's AWS credentials, and keeps
it until shortly before it expires, for the whole process. Where FlowAccount refuses it all the same, that is reported,
and the request is sent once more with the token that comes of it. It needs `requests` and `botocore`, nothing else of
this package, and no layer.
"""

import functools
import json
import math
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import urlencode

import botocore.session
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from requests.auth import AuthBase
from requests.utils import rewind_body
from urllib3.util import parse_url

from flowaccount_connect_client.rules import is_connection_id, is_secure

__all__ = [
    "FLOWACCOUNT",
    "AccessDenied",
    "AccessToken",
    "Api",
    "ConnectionNotFound",
    "FlowAccountAuth",
    "FlowAccountConnectError",
    "HostNotAllowed",
    "InvalidAnswer",
    "NotConfigured",
    "Problem",
    "ReauthorizationRequired",
    "TemporarilyUnavailable",
]

FLOWACCOUNT = "https://openapi.flowaccount.com"
"""Where FlowAccount's business API is, in the sandbox and in production: the one origin that gets a token."""

URL_VARIABLE = "FLOWACCOUNT_CONNECT_URL"
"""The environment variable with the base URL of the stack's API (the output `ApiUrl`)."""

FLOWACCOUNT_VARIABLE = "FLOWACCOUNT_URL"
"""The environment variable with another origin for `FLOWACCOUNT`, where a stand-in for FlowAccount is used."""

_TIMEOUT = (3.05, 35.0)
"""Seconds to connect, and to wait for an answer: API Gateway gives up after 29."""

_LONGEST_ANSWER = 1 << 20
_AGAIN = 30
"""A token that has less life left than asked for is as good as it gets for now; the stack is asked again after this."""

_SPENT = 5
"""Seconds before its end from which on a token is not sent any more: a request takes time."""

_TOKENS_KEPT = 10_000
"""Connections whose tokens a process remembers."""


class FlowAccountConnectError(Exception):
    """What all errors of this module are. The message says what to do; no token is ever in it."""


class NotConfigured(FlowAccountConnectError):
    """The API's URL, the region or the AWS credentials are missing or wrong."""


class HostNotAllowed(FlowAccountConnectError):
    """The request goes to a host that must not get a token of FlowAccount's."""


class Problem(FlowAccountConnectError):
    """The stack refused: its `code` (stable, see the README), HTTP `status`, `detail` and `request_id`.

    `ending` says how a connect ended, where a confirmation is refused for that.
    """

    ending: str | None = None

    def __init__(self, code: str, status: int, detail: str, request_id: str | None = None) -> None:
        super().__init__(f"{code}: {detail}" + (f" (request {request_id})" if request_id else ""))
        self.code = code
        self.status = status
        self.detail = detail
        self.request_id = request_id


class ConnectionNotFound(Problem):
    """That business was never connected to this stack, or has been disconnected."""


class ReauthorizationRequired(Problem):
    """Only a new consent of the business's user helps.

    `Api.connect_link(error.tenant, return_url, expected_connection=error.expected_connection)` makes the link to send
    to that user. `reason` says why, `since` since when (epoch seconds); `reconnect_url` is where the stack connects
    without links. Each is `None` where the stack does not say.
    """

    reason: str | None = None
    since: int | None = None
    expected_connection: str | None = None
    tenant: str | None = None
    reconnect_url: str | None = None


class TemporarilyUnavailable(Problem):
    """Only time helps; `retry_after` says how much, in seconds."""

    retry_after: int = 5


class AccessDenied(Problem):
    """These AWS credentials may not do that: they need `execute-api:Invoke` on the route."""


class InvalidAnswer(FlowAccountConnectError):
    """What answered is not the API of FlowAccount Connect: the URL is wrong, or something stands in between."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token and what goes with it. Its repr does not show the token. Times in epoch seconds, local clock."""

    value: str = field(repr=False)
    generation: int
    status: str
    """`active`, `refresh_failing`, `in_doubt` or `reauthorization_required`: whether the next one is in danger."""
    environment: str
    expires_at: float
    fetched_at: float

    def lasts(self, now: float, min_ttl: float) -> bool:
        """Whether it need not be asked for again."""
        if now >= self.expires_at - _SPENT:
            return False
        return now < max(self.expires_at - min_ttl, self.fetched_at + _AGAIN)


class Api:
    """The stack's HTTP API, called with the caller's AWS credentials (SigV4, service `execute-api`).

    `url` is the base URL, `FLOWACCOUNT_CONNECT_URL` by default; `session` a session of botocore's (or boto3's), the
    environment's own by default. Time is spent on answers that only time mends, `patience` seconds in all.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        session: Any = None,
        patience: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        given = url or os.environ.get(URL_VARIABLE, "")
        if not given:
            raise NotConfigured(f"Give the URL of the stack's API, or set {URL_VARIABLE} (the stack's output ApiUrl).")
        if not is_secure(given):
            raise NotConfigured("The API's URL must be absolute https (http on a loopback host only).")
        self.url = given.rstrip("/")
        self._session = session
        self._patience = patience
        self._clock = clock
        self._sleep = sleep

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        query: Mapping[str, object] | None = None,
    ) -> Any:
        """One request; `path` begins with a slash. Returns what the answer's JSON holds, `None` where it is empty.

        Raises `FlowAccountConnectError`.
        """
        url = self.url + path + (f"?{urlencode(query)}" if query else "")
        until, pause = self._clock() + self._patience, 0.5
        while True:
            try:
                return self._once(method, url, body)
            except TemporarilyUnavailable as error:
                pause = min(pause * 2, 8.0)
                wait = max(float(error.retry_after), pause)
                if self._clock() + wait > until:
                    raise
                self._sleep(wait)

    def _once(self, method: str, url: str, body: Mapping[str, object] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json"} | ({} if data is None else {"Content-Type": "application/json"})
        try:
            with requests.request(
                method,
                url,
                data=data,
                headers=headers,
                auth=_Signed(_session(self._session), url),
                timeout=_TIMEOUT,
                allow_redirects=False,
                stream=True,
            ) as answer:
                content = answer.raw.read(_LONGEST_ANSWER + 1, decode_content=True)
        except requests.exceptions.SSLError as error:
            raise InvalidAnswer(f"The certificate of {self.url} is not to be trusted.") from error
        except (requests.ConnectionError, requests.Timeout, OSError) as error:
            raise _temporary("unreachable", 0, "The stack's API cannot be reached.", None, None) from error
        fields = _json(content)
        if HTTPStatus.OK <= answer.status_code < HTTPStatus.MULTIPLE_CHOICES:
            if content and fields is None:
                raise InvalidAnswer(f"{self.url} does not answer as FlowAccount Connect does: check the URL.")
            return fields
        raise self._error(answer, fields if isinstance(fields, dict) else {})

    def _error(self, answer: requests.Response, fields: Mapping[str, Any]) -> FlowAccountConnectError:
        """The error of an answer that is none of success."""
        status = answer.status_code
        code = fields["code"] if isinstance(fields.get("code"), str) else ""
        detail = str(fields.get("detail") or fields.get("title") or f"HTTP status {status}")
        about = (status, detail, fields["request_id"] if isinstance(fields.get("request_id"), str) else None)
        match status:
            case HTTPStatus.FORBIDDEN | HTTPStatus.UNAUTHORIZED:
                return AccessDenied(code or "access_denied", *about)
            case HTTPStatus.CONFLICT if code == "reauthorization_required":
                error = ReauthorizationRequired(code, *about)
                texts = dict.fromkeys(("reason", "expected_connection", "tenant", "reconnect_url"), str)
                for name, kind in (texts | {"since": int}).items():
                    if isinstance(fields.get(name), kind):
                        setattr(error, name, fields[name])
                return error
            case HTTPStatus.NOT_FOUND if code == "connection_not_found":
                return ConnectionNotFound(code, *about)
            case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.SERVICE_UNAVAILABLE | HTTPStatus.BAD_GATEWAY:
                return _temporary(code or "unavailable", *about, answer.headers.get("Retry-After"))
            case HTTPStatus.GATEWAY_TIMEOUT | HTTPStatus.INTERNAL_SERVER_ERROR:
                return _temporary(code or "internal_error", *about, None)
            case _ if code:
                problem = Problem(code, *about)
                problem.ending = fields["ending"] if isinstance(fields.get("ending"), str) else None
                return problem
        return InvalidAnswer(f"{self.url} answers with status {status}, and not as FlowAccount Connect: check the URL.")

    def connect_link(
        self, tenant: str, return_url: str, *, expected_connection: str | None = None, state: str | None = None
    ) -> dict[str, Any]:
        """A link for one of your users: `{connect_url, expires_at}`. Send the browser to `connect_url`.

        `tenant` is the tenant whose user is logged in. The browser comes back to `return_url` with `confirmation` (or
        `error`), and with your `state`. Raises `FlowAccountConnectError`.
        """
        wanted = {"tenant": tenant, "return_url": return_url}
        given = {"expected_connection": expected_connection, "state": state}
        wanted |= {name: value for name, value in given.items() if value is not None}
        return self._fields(self.call("POST", "/connect-links", wanted), "connect_url")

    def confirm(self, confirmation: str, tenant: str) -> dict[str, Any]:
        """Connect what the browser that brought `confirmation` chose at FlowAccount; the connection.

        `tenant` is the tenant of whoever is logged in where the browser came back. Raises `Problem` if it is not to be
        confirmed (`code` and `ending` say why), and any other `FlowAccountConnectError`.
        """
        wanted = {"confirmation": confirmation, "tenant": tenant}
        return self._fields(self.call("POST", "/connect-links/confirm", wanted), "support_code")

    def _fields(self, answer: object, name: str) -> dict[str, Any]:
        """An answer that is an object and has a text of this name. Raises `InvalidAnswer`."""
        if isinstance(answer, dict) and isinstance(answer.get(name), str):
            return answer
        raise InvalidAnswer(f"{self.url} does not answer as FlowAccount Connect does: check the URL.")

    def access_token(self, connection_id: str, *, min_ttl: int = 300, rejected: int | None = None) -> AccessToken:
        """The connection's access token, asked for now; `rejected` is a generation that FlowAccount refused.

        Raises `FlowAccountConnectError`.
        """
        path, asked_at = f"/connections/{connection_id}/token", time.time()
        if rejected is None:
            answer = self.call("GET", path, query={"min_ttl": min_ttl})
        else:
            answer = self.call("POST", path, {"rejected_generation": rejected})
        fields = answer if isinstance(answer, dict) else {}
        token, life = fields.get("access_token"), fields.get("expires_in")
        if not (
            isinstance(token, str)
            and re.fullmatch(r"[!-~]+", token)
            and isinstance(life, int | float)
            and math.isfinite(life)
            and isinstance(fields.get("generation"), int)
            and fields.get("support_code") == connection_id
        ):
            raise InvalidAnswer(f"{self.url} gave no access token of {connection_id}: check the URL.")
        return AccessToken(
            value=token,
            generation=fields["generation"],
            status=str(fields.get("status")),
            environment=str(fields.get("environment")),
            expires_at=asked_at + life,
            fetched_at=time.time(),
        )


class FlowAccountAuth(AuthBase):
    """Authenticates requests to FlowAccount's API as one connected business.

    `connection_id` is FlowAccount's `supportCode`. `url`, `session` and `patience` are `Api`'s. A token has at least
    `min_ttl` seconds left (0 to 3600) where the stack can bring that. `allowed_hosts` are the origins that may get the
    token, FlowAccount's alone by default (`FLOWACCOUNT_URL` names another). Made in passing or kept: all of a process
    share the tokens. Thread-safe.

    Sending a request raises `HostNotAllowed` for another host, `ReauthorizationRequired`, `ConnectionNotFound`,
    `TemporarilyUnavailable`, `AccessDenied`, `InvalidAnswer` or `NotConfigured`.
    """

    def __init__(
        self,
        connection_id: str,
        *,
        url: str | None = None,
        session: Any = None,
        min_ttl: int = 300,
        patience: float = 30.0,
        allowed_hosts: Iterable[str] | None = None,
    ) -> None:
        if not is_connection_id(connection_id):
            raise ValueError("connection_id is FlowAccount's supportCode: 1 to 64 letters, digits, '.', '_' or '-'")
        self.connection_id = connection_id
        self._api = Api(url, session=session, patience=patience)
        self._key = (self._api.url, connection_id, session)
        self._min_ttl = min_ttl
        if allowed_hosts is None:
            allowed_hosts = (os.environ.get(FLOWACCOUNT_VARIABLE) or FLOWACCOUNT,)
        self._origins = frozenset(_allowed(host) for host in allowed_hosts)

    def __repr__(self) -> str:
        return f"FlowAccountAuth({self.connection_id!r}, url={self._api.url!r})"

    def token(self) -> AccessToken:
        """The token that a request would carry now. Raises `FlowAccountConnectError`."""
        return _kept(self._key).get(
            lambda: self._api.access_token(self.connection_id, min_ttl=self._min_ttl), min_ttl=self._min_ttl
        )

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Give the request its token. What `requests` calls."""
        if _origin(request.url or "") not in self._origins:
            raise HostNotAllowed(
                f"A token of FlowAccount's goes to {', '.join(sorted(self._origins))} only, not to this request's host."
            )
        token = self.token()
        request.headers["Authorization"] = f"Bearer {token.value}"
        cast("Any", request).register_hook("response", functools.partial(self._answered, token))
        return request

    def _answered(self, token: AccessToken, response: requests.Response, **sending: Any) -> requests.Response:
        """After a 401 from FlowAccount: report the token, and repeat the request once with the next."""
        request = response.request
        carried = request.headers.get("Authorization") == f"Bearer {token.value}"
        if response.status_code != HTTPStatus.UNAUTHORIZED or not carried:
            return response
        if _origin(request.url or "") not in self._origins:
            return response
        try:
            newer = _kept(self._key).get(
                lambda: self._api.access_token(self.connection_id, rejected=token.generation), rejected=token.generation
            )
        except (TemporarilyUnavailable, AccessDenied):
            return response  # FlowAccount's own answer tells more.
        except FlowAccountConnectError:
            response.close()
            raise
        if newer.generation == token.generation or not _rewound(request):
            return response
        _ = response.content  # Read, so that its connection may be used again.
        response.close()
        again = request.copy()
        again.headers["Authorization"] = f"Bearer {newer.value}"
        connection = cast("Any", response).connection
        repeated: requests.Response = connection.send(again, **sending)
        repeated.history.append(response)
        repeated.request = again
        return repeated


class _Kept:
    """The newest token of one connection, and the one call that fetches the next: threads that meet there share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token: AccessToken | None = None
        self._flight: Future[AccessToken] | None = None

    def get(
        self, fetch: Callable[[], AccessToken], *, min_ttl: float = 0.0, rejected: int | None = None
    ) -> AccessToken:
        """The token that is kept, or the one that `fetch` brings; raises what that raises.

        With `rejected`, one of another generation than that.
        """
        while True:
            with self._lock:
                token = self._token
                if token is not None and token.lasts(time.time(), min_ttl) and token.generation != rejected:
                    return token
                flight, mine = self._flight, self._flight is None
                if flight is None:
                    flight = self._flight = Future()
            if mine:
                return self._fly(flight, fetch)
            found = flight.result()
            # A flight that had begun before may bring what was rejected meanwhile.
            if found.generation != rejected:
                return found

    def _fly(self, flight: Future[AccessToken], fetch: Callable[[], AccessToken]) -> AccessToken:
        try:
            found = fetch()
        except BaseException as error:
            with self._lock:
                self._flight = None
            flight.set_exception(error)
            raise
        with self._lock:
            if (
                self._token is None
                or found.generation >= self._token.generation
                or not self._token.lasts(time.time(), 0)
            ):
                self._token = found
            self._flight = None
        flight.set_result(found)
        return found


_lock = threading.Lock()
_tokens: OrderedDict[tuple[str, str, Any], _Kept] = OrderedDict()


def _kept(key: tuple[str, str, Any]) -> _Kept:
    """What this process keeps of one connection of one stack, for one session; the least recently used go first."""
    with _lock:
        kept = _tokens.setdefault(key, _Kept())
        _tokens.move_to_end(key)
        while len(_tokens) > _TOKENS_KEPT:
            _tokens.popitem(last=False)
        return kept


def forget() -> None:
    """Forget all tokens of this process. A child process begins so: what its parent fetches never arrives there."""
    global _lock, _default_session  # noqa: PLW0603 - one of each for a process
    _lock = threading.Lock()
    _default_session = None
    _tokens.clear()


os.register_at_fork(after_in_child=forget)


class _Signed(AuthBase):
    """Signs a request to the stack with AWS credentials (SigV4)."""

    def __init__(self, session: Any, url: str) -> None:
        self._session = session
        self._url = url

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        signed = AWSRequest(request.method, request.url, data=request.body)
        try:
            credentials = self._session.get_credentials()
            if credentials is None:
                raise NotConfigured(
                    "No AWS credentials: give this process a role, or set AWS_ACCESS_KEY_ID and its kin."
                )
            SigV4Auth(credentials.get_frozen_credentials(), "execute-api", self._region()).add_auth(signed)
        except BotoCoreError as error:
            raise NotConfigured(f"The AWS credentials or settings are of no use: {type(error).__name__}.") from error
        request.headers.update(dict(signed.headers.items()))
        return request

    def _region(self) -> str:
        """The region of an address of AWS's own, else the session's."""
        host = re.fullmatch(
            r"[a-z0-9-]+\.execute-api\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?", parse_url(self._url).host or ""
        )
        region = host.group(1) if host else self._session.get_config_variable("region") or os.environ.get("AWS_REGION")
        if not region:
            raise NotConfigured("No AWS region: set AWS_DEFAULT_REGION to that of the stack.")
        return str(region)


_default_session: Any = None


def _session(given: Any) -> Any:
    """A session of botocore's: the one inside boto3's, or the process's own."""
    global _default_session  # noqa: PLW0603 - made at its first use: it reads files
    if given is not None:
        return getattr(given, "_session", given)
    with _lock:
        if _default_session is None:
            _default_session = botocore.session.Session()
        return _default_session


def _temporary(code: str, status: int, detail: str, request_id: str | None, retry_after: str | None) -> Problem:
    error = TemporarilyUnavailable(code, status, detail, request_id)
    if retry_after is not None and retry_after.isascii() and retry_after.isdigit() and len(retry_after) <= 6:
        error.retry_after = int(retry_after)
    return error


def _json(content: bytes) -> Any:
    try:
        return json.loads(content) if len(content) <= _LONGEST_ANSWER else None
    except (ValueError, RecursionError):
        return None


def _origin(url: str) -> str:
    """Scheme, host and port of a URL, read as `requests` itself reads it."""
    try:
        parts = parse_url(url)
    except ValueError:
        return ""
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme or "", 0)
    return f"{parts.scheme}://{parts.host}:{port}" if parts.host else ""


def _allowed(host: str) -> str:
    """The origin that an entry of `allowed_hosts` names: a host, or a URL with nothing behind its host."""
    url = host if "://" in host else f"https://{host}"
    if not is_secure(url) or parse_url(url).path not in (None, "", "/"):
        raise ValueError(
            "allowed_hosts holds https origins (http on a loopback host only), like https://openapi.example"
        )
    return _origin(url)


def _rewound(request: requests.PreparedRequest) -> bool:
    """Whether the request's body can be sent once more: none, bytes, text, or a file, which is rewound."""
    body: object = request.body
    if body is None or isinstance(body, bytes | str):
        return True
    # Where `requests` found a file to begin; None or an object of its own where it cannot tell.
    if not isinstance(getattr(request, "_body_position", None), int):
        return False
    try:
        rewind_body(request)
    except requests.exceptions.UnrewindableBodyError:
        return False
    return True
