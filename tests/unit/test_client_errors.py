"""The client's errors: they cross processes, hold no secret, come at once where time does not help, and are its own."""

import copy
import gzip
import json
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from email.utils import formatdate
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import botocore.session
import pytest
from hypothesis import given as given_any
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies

from flowaccount_connect_client import (
    AccessDenied,
    AccessToken,
    Connection,
    ConnectionNotFound,
    ConnectLink,
    FlowAccountAuth,
    FlowAccountConnect,
    FlowAccountConnectError,
    HistoryEntry,
    InvalidAnswer,
    NotConfigured,
    Problem,
    ReauthorizationRequired,
    TemporarilyUnavailable,
    cache,
    client,
    signing,
    transport,
)
from tests.unit.clients import CONNECTION, given, origin, refused
from tests.unit.servers import Answer, Asked, Certificates, Line, Server, drop, first, hang, reply, reset, unused_port

ROOT = Path(__file__).parents[2]
SECRET = "CANARY-of-a-secret"
TOKEN = {"access_token": "access-1", "expires_in": 600, "support_code": CONNECTION, "generation": 1, "status": "active"}


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be waited for."""

    def sleep(seconds: float) -> None:
        raise AssertionError(f"it waits {seconds} s for what time does not mend")

    monkeypatch.setattr(client, "time", SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=sleep))


def ask(url: str, *, patience: float = 0, session: Any = None) -> FlowAccountConnectError | None:
    """The error of asking for a token, or `None`. Any other exception is the test's failure."""
    try:
        FlowAccountConnect(url, patience=patience, session=session).access_token(CONNECTION)
    except FlowAccountConnectError as error:
        return error
    return None


def texts(error: BaseException | None) -> str:
    """All that a log would show of an error, and of what it was raised from."""
    shown = ""
    while error is not None:
        shown += f"{error!r} {error} {error.__dict__}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return shown


# ---- errors cross processes -------------------------------------------------------------------------------


def kinds(kind: type[FlowAccountConnectError] = FlowAccountConnectError) -> list[type[FlowAccountConnectError]]:
    """An error and all that are of its kind."""
    return [kind, *(one for sub in kind.__subclasses__() for one in kinds(sub))]


words = strategies.text(max_size=20)


@given_any(
    kind=strategies.sampled_from(kinds()),
    problem=strategies.tuples(words, strategies.integers(0, 599), words, strategies.none() | words),
    members=strategies.dictionaries(
        strategies.sampled_from(["reason", "ending", "since", "reconnect_url", "retry_after", "denial"]), words
    ),
    protocol=strategies.integers(0, pickle.HIGHEST_PROTOCOL),
)
def test_an_error_is_the_same_after_pickling_and_copying(
    kind: type[FlowAccountConnectError], problem: tuple[Any, ...], members: dict[str, str], protocol: int
) -> None:
    error = kind(*problem) if issubclass(kind, Problem) else kind(problem[2])
    error.__dict__.update(members)
    for other in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301
        assert type(other) is kind
        assert (other.args, str(other), other.__dict__) == (error.args, str(error), error.__dict__)


RESULTS = [
    AccessToken("access-1", CONNECTION, 1, "active", "sandbox", 1.0, 2.0),
    Connection(CONNECTION, "active", 1, tenant="ร้าน"),
    HistoryEntry("a", "refreshed", 1),
    ConnectLink("https://api.example/authorize?link=x", 1),
]


@pytest.mark.parametrize("result", RESULTS, ids=lambda one: type(one).__name__)
def test_a_result_is_the_same_after_pickling_and_copying(result: object) -> None:
    for other in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):  # noqa: S301
        assert other == result


def test_a_client_and_its_auth_go_to_a_process_and_tokens_and_errors_come_back(server: Server) -> None:
    server.say(given(), refused(409, "reauthorization_required", reconnect_url="https://a/b"))
    auths = [FlowAccountAuth(one, client=FlowAccountConnect(origin(server), patience=0)) for one in (CONNECTION, "N2")]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(FlowAccountAuth.token, auths[0]).result(60).value == "access-1"
        error = pool.submit(FlowAccountAuth.token, auths[1]).exception(60)
    assert isinstance(error, ReauthorizationRequired)
    assert (error.code, error.request_id, error.reconnect_url) == ("reauthorization_required", "r-1", "https://a/b")


# ---- no foreign exception ---------------------------------------------------------------------------------

BODY = json.dumps(TOKEN).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def whole(headers: bytes, body: bytes) -> Answer:
    return first(HEAD + headers + b"\r\n" + body, Line.drop)


def cut(line: Line, asked: Asked) -> None:
    reply(200, BODY, length=len(BODY) + 9)(line, asked)


def reset_inside(line: Line, _: Asked) -> None:
    line.send(HEAD + b"Content-Length: 999\r\n\r\n{")
    line.reset()


def stalled(line: Line, _: Asked) -> None:
    line.send(HEAD + b"Content-Length: 999\r\n\r\n{")
    line.hang()


WIRES: dict[str, tuple[Answer, type[FlowAccountConnectError]]] = {
    "dropped": (drop, TemporarilyUnavailable),
    "reset": (reset, TemporarilyUnavailable),
    "silent": (hang, TemporarilyUnavailable),
    "cut": (cut, TemporarilyUnavailable),
    "reset inside the body": (reset_inside, TemporarilyUnavailable),
    "stalled": (stalled, TemporarilyUnavailable),
    "no http": (first(b"SSH-2.0-x\r\n", Line.drop), InvalidAnswer),
    "no status": (first(b"HTTP/1.1 1000 X\r\n\r\n", Line.drop), InvalidAnswer),
    "too many headers": (whole(b"X: y\r\n" * 300, BODY), InvalidAnswer),
    "half a pair": (reply(409, b'{"code": "x\\ud800", "detail": "\\udfff"}'), InvalidAnswer),
    "no content": (reply(204), InvalidAnswer),
    "wrong chunk": (whole(b"Transfer-Encoding: chunked\r\n", b"zz\r\n{}\r\n0\r\n\r\n"), InvalidAnswer),
    "cut chunk": (whole(b"Transfer-Encoding: chunked\r\n", b"ff\r\n{}"), TemporarilyUnavailable),
    "no gzip": (whole(b"Content-Encoding: gzip\r\n", BODY), InvalidAnswer),
    "half a gzip": (whole(b"Content-Encoding: gzip\r\n", gzip.compress(BODY)[:20]), InvalidAnswer),
    "no deflate": (whole(b"Content-Encoding: deflate\r\n", b"\xff" * 9), InvalidAnswer),
    "endless": (whole(b"", BODY + b" " * (2 << 20)), InvalidAnswer),
    "no such host": (reply(302, b"", "Location: http://[::1\r\n"), InvalidAnswer),
}


@pytest.mark.parametrize(("answer", "kind"), WIRES.values(), ids=WIRES)
def test_a_line_that_fails_has_an_error_of_the_clients(
    server: Server, monkeypatch: pytest.MonkeyPatch, answer: Answer, kind: type[FlowAccountConnectError]
) -> None:
    monkeypatch.setattr(transport, "_TIMEOUT", (1.0, 0.2))
    server.say(answer)
    error = ask(origin(server))
    assert type(error) is kind, texts(error)


@given_any(data=strategies.data())
@hypothesis_settings(max_examples=150)
def test_no_bytes_make_a_foreign_exception(data: strategies.DataObject) -> None:
    """What was answered rightly once, with any piece of it replaced by any bytes."""
    right = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    begin = data.draw(strategies.integers(0, len(right)))
    end = data.draw(strategies.integers(begin, len(right)))
    put = data.draw(
        strategies.binary(max_size=40) | strategies.sampled_from([b"\r\n", b"\r\n\r\n", b"\0", b"-1", b"9" * 30])
    )
    with Server() as server, mock.patch.object(transport, "_TIMEOUT", (1.0, 0.2)):
        server.say(first(right[:begin] + put + right[end:], Line.drop))
        cache.forget()
        ask(origin(server))


numbers = strategies.integers() | strategies.floats() | strategies.sampled_from([10**400, -(10**400), 2**53, 1e308])
BODIES = strategies.recursive(
    strategies.none() | strategies.booleans() | numbers | strategies.text(),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(), inner, max_size=3),
    max_leaves=6,
)


@given_any(
    status=strategies.sampled_from([200, 201, 204, 302, 400, 401, 403, 404, 409, 413, 429, 500, 502, 503, 504]),
    body=BODIES | strategies.dictionaries(strategies.sampled_from([*TOKEN, "code", "detail", "since"]), BODIES),
)
def test_no_json_makes_a_foreign_exception(status: int, body: object) -> None:
    with Server() as server:
        server.say(reply(status, json.dumps(body).encode()))
        api = FlowAccountConnect(origin(server), patience=0)
        calls: list[Callable[[], object]] = [
            lambda: api.access_token(CONNECTION),
            lambda: api.connection(CONNECTION),
            lambda: list(api.connections()),
            lambda: list(api.history(CONNECTION)),
            lambda: api.connect_link("t", "https://a/"),
            lambda: api.confirm("c", "t"),
        ]
        for call in calls:
            cache.forget()
            try:
                call()
            except FlowAccountConnectError as error:
                pickle.loads(pickle.dumps(error))  # noqa: S301


@pytest.mark.parametrize("name", ["expires_in", "generation"])
@pytest.mark.parametrize("number", [10**400, -(10**400), 2**53, 1e308])
def test_a_number_that_nobody_means_is_no_answer(server: Server, name: str, number: float) -> None:
    server.say(reply(200, json.dumps(TOKEN | {name: number}).encode()))
    assert isinstance(ask(origin(server)), InvalidAnswer)


@given_any(text=strategies.text(strategies.characters(), min_size=1, max_size=5) | strategies.just("\udcff"))
def test_no_argument_makes_a_foreign_exception(text: str) -> None:
    with Server() as server:
        server.say(reply(400, b'{"code": "invalid_request"}'))
        api = FlowAccountConnect(origin(server), patience=0)
        calls: list[Callable[[], object]] = [
            lambda: api.access_token(text),
            lambda: list(api.connections(tenant=text)),
            lambda: list(api.connections(status=text)),
            lambda: list(api.history(text)),
            lambda: api.connect_link(text, text, state=text),
            lambda: api.confirm(text, text),
            lambda: api.import_("N1", text, tenant=text),
        ]
        for call in calls:
            with pytest.raises(FlowAccountConnectError):
                call()


class SoftTimeLimit(Exception):
    """What a task queue raises in a thread whose time is over."""


@pytest.mark.parametrize("trouble", [SoftTimeLimit(), MemoryError(), KeyboardInterrupt(), SystemExit()])
def test_what_interrupts_a_provider_of_credentials_is_no_misconfiguration(
    server: Server, trouble: BaseException
) -> None:
    session = botocore.session.Session()
    with mock.patch.object(session, "get_credentials", side_effect=trouble), pytest.raises(type(trouble)):
        FlowAccountConnect(origin(server), session=session, patience=0).access_token(CONNECTION)


@pytest.mark.parametrize("trouble", [OSError(SECRET), KeyError(SECRET), RuntimeError(SECRET), TypeError(SECRET)])
def test_whatever_a_provider_of_credentials_raises_is_named_and_not_shown(server: Server, trouble: Exception) -> None:
    session = botocore.session.Session()
    with mock.patch.object(session, "get_credentials", side_effect=trouble):
        error = ask(origin(server), session=session)
    assert isinstance(error, NotConfigured)
    assert type(trouble).__name__ in str(error)
    assert SECRET not in texts(error)


# ---- no secret, whatever the environment ------------------------------------------------------------------

values = strategies.text(strategies.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
SETTINGS = strategies.fixed_dictionaries(
    {},
    optional={
        "AWS_REGION": values | strategies.sampled_from(["ap-southeast-1\n", "ap southeast", "../x"]),
        "AWS_DEFAULT_REGION": values,
        "AWS_PROFILE": values,
        "AWS_ACCESS_KEY_ID": values,
        "AWS_SECRET_ACCESS_KEY": values.map(lambda value: SECRET + value),
        "AWS_SESSION_TOKEN": values.map(lambda value: SECRET + value),
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": values | strategies.just("http://evil.example/x"),
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": values.map(lambda value: SECRET + value),
        "AWS_CONFIG_FILE": values,
        "HTTP_PROXY": values | strategies.sampled_from(["http://", "http://a b", "http://h:port", "socks5://h:1"]),
        "NO_PROXY": values,
        "REQUESTS_CA_BUNDLE": values,
    },
)


@given_any(settings=SETTINGS)
def test_no_environment_makes_a_foreign_exception_or_shows_a_secret(settings: dict[str, str]) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    clean |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "1", "NO_PROXY": ""}
    with Server() as server, mock.patch.dict(os.environ, clean | settings, clear=True):
        server.say(reply(200, BODY))
        cache.forget()
        signing.forget()
        error = ask(origin(server))
    assert isinstance(error, NotConfigured | TemporarilyUnavailable | InvalidAnswer | None)
    assert SECRET not in texts(error)


STS = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>{code}</Code><Message>No {secret}</Message></Error><RequestId>r</RequestId></ErrorResponse>"""


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "InvalidIdentityToken", NotConfigured),
        (403, "AccessDenied", NotConfigured),
        (503, "ServiceUnavailable", TemporarilyUnavailable),
    ],
)
def test_a_web_identity_that_sts_refuses_is_an_error_of_the_clients(
    server: Server,
    other_server: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    status: int,
    code: str,
    kind: type[FlowAccountConnectError],
) -> None:
    token = tmp_path / "token"
    token.write_text(SECRET)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/app",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_ENDPOINT_URL_STS": origin(other_server),
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    other_server.say(reply(status, STS.format(code=code, secret=SECRET).encode()))
    error = ask(origin(server))
    assert type(error) is kind
    assert code in str(error)
    assert SECRET not in texts(error)


# ---- misconfiguration, at once and by name ----------------------------------------------------------------


@pytest.mark.usefixtures("at_once")
def test_a_missing_or_broken_file_of_authorities_is_named_at_once(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate\n")
    with Server(tls=certificates.context(certificates.good)) as server:
        server.say(reply(200, BODY))
        url = f"https://127.0.0.1:{server.port}"
        for path, told in ((tmp_path / "none.pem", "REQUESTS_CA_BUNDLE"), (broken, "authorities")):
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
            error = ask(url, patience=60)
            assert isinstance(error, NotConfigured), texts(error)
            assert told in str(error)
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        error = ask(url, patience=60)
        assert isinstance(error, NotConfigured)
        assert "not trusted" in str(error)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.good))
        assert ask(url) is None


@pytest.mark.usefixtures("at_once")
def test_a_host_that_speaks_no_tls_is_named_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:

        def answer() -> None:
            line, _ = listener.accept()
            with line:
                line.recv(1)
                line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                line.settimeout(5)
                while line.recv(65_536):
                    pass

        answering = pool.submit(answer)
        error = ask(f"https://127.0.0.1:{listener.getsockname()[1]}", patience=60)
        answering.exception(20)
    assert isinstance(error, InvalidAnswer), texts(error)
    assert "does not speak TLS" in str(error)


KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
BAD_KEYS = [SECRET + bad for bad in ("\n", "\r\nX-Evil: 1", " ", "ก", "\x7f")]
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
BAD_REGIONS = ["ap-southeast-1\n", "ap southeast 1", "Asia/Bangkok", "ap-southeast-1\r\nX-Evil: 1"]
BAD_PROXIES = [
    *("http://", "foo bar", "http://a b:1", "http://h:port"),
    *("socks5://127.0.0.1:9", "://x", "http://[::1", "http://ก..x:1"),
]
PASTED_BADLY = [
    *product(KEYS, BAD_KEYS, ["AWS_SESSION_TOKEN"]),
    *product(REGIONS, BAD_REGIONS, ["AWS_REGION"]),
    *product(["HTTPS_PROXY"], BAD_PROXIES, ["HTTPS_PROXY"]),
]
"""A variable, what is wrong in it, and the variable that the error names."""


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("variable", "bad", "named"), PASTED_BADLY)
def test_a_key_a_region_or_a_proxy_that_was_pasted_badly_is_named_at_once_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, bad: str, named: str
) -> None:
    """Before anything is sent: the network of these tests would make another error."""
    monkeypatch.setenv(variable, bad)
    error = ask("https://api.example", patience=60)
    assert isinstance(error, NotConfigured), texts(error)
    assert named in str(error)
    assert SECRET not in texts(error)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("url", ["https://a..example/live", "https://*.example", "https://" + "a" * 64 + ".example"])
def test_a_malformed_host_is_named_at_once(url: str) -> None:
    error = ask(url, patience=60)
    assert isinstance(error, NotConfigured), texts(error)
    assert url in str(error)


def test_a_proxy_that_is_down_is_a_matter_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{unused_port()}")
    assert isinstance(ask("https://api.example"), TemporarilyUnavailable)


CANONICAL = f"The Canonical String for this request should have been 'GET x-amz-security-token:{SECRET}'"
LATE = 3_600
"""Seconds that the server's clock is behind."""
AWS = [
    ("clock", 403, "InvalidSignatureException", "Signature expired: 20261129T000000Z is now earlier than …", 0),
    ("clock", 403, "InvalidSignatureException", "Signature not yet current: 20261129T000000Z is still later", 0),
    ("clock", 403, "", "invalid_signature", LATE),
    ("expired", 403, "ExpiredTokenException", "The security token included in the request is expired", 0),
    ("expired", 403, "", "credentials_expired", 0),
    ("keys", 403, "UnrecognizedClientException", "The security token included in the request is invalid.", 0),
    (
        "keys",
        403,
        "InvalidSignatureException",
        f"The request signature we calculated does not match. {CANONICAL}",
        0,
    ),
    ("keys", 403, "", "invalid_signature", 0),
    ("region", 403, "InvalidSignatureException", "Credential should be scoped to a valid region.", 0),
    ("permission", 403, "AccessDeniedException", "User: arn:aws:sts::1:x is not authorized to perform: …", 0),
    ("permission", 403, "", "permission_denied", 0),
    ("stage", 403, "ForbiddenException", "Forbidden", 0),
    ("stage", 403, "MissingAuthenticationTokenException", "Missing Authentication Token", 0),
    ("stage", 403, "", "not_signed", 0),
    ("unknown", 401, "", "whatever", 0),
]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("denial", "status", "kind", "said", "behind"), AWS)
def test_what_aws_refuses_is_told_apart_by_its_own_words(
    server: Server, denial: str, status: int, kind: str, said: str, behind: int
) -> None:
    headers = f"Date: {formatdate(time.time() - behind, usegmt=True)}\r\n"
    headers += f"x-amzn-ErrorType: {kind}\r\n" if kind else ""
    name = "code" if "_" in said else "message"
    server.say(reply(status, json.dumps({name: said}).encode(), headers))
    error = ask(origin(server), patience=60)
    assert isinstance(error, AccessDenied)
    assert error.denial == denial
    assert SECRET not in texts(error)
    mends = {
        "clock": "clock",
        "expired": "renew",
        "keys": "access key id",
        "region": "AWS_REGION",
        "permission": "execute-api:Invoke on GET /connections/N1234567/token",
        "stage": "stage",
        "unknown": "check",
    }
    assert mends[denial] in error.detail


@pytest.mark.usefixtures("at_once")
def test_no_credentials_are_said_so(server: Server) -> None:
    empty = botocore.session.Session()
    empty.get_component("credential_provider").providers = []
    error = ask(origin(server), patience=60, session=empty)
    assert isinstance(error, NotConfigured)
    assert "AWS_ACCESS_KEY_ID" in str(error)


# ---- any platform -----------------------------------------------------------------------------------------


def test_it_imports_where_the_system_has_no_fork() -> None:
    code = (
        "import os\n"
        "for name in ('register_at_fork', 'pread', 'fork', 'dup2'): delattr(os, name)\n"
        "import flowaccount_connect_client.cli.main, flowaccount_connect_client.httpx_auth\n"
        "import flowaccount_connect_client.testing, sys\n"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] in ('boto3', 'flowaccount_connect')))\n"
    )
    path = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "[]\n"), run.stderr


def test_every_error_is_drawn_once() -> None:
    from flowaccount_connect_client import errors

    drawn = [
        line.replace("├─", "").replace("└─", "").replace("│", "").split()[0]
        for line in (errors.__doc__ or "").splitlines()
        if "─" in line
    ]
    assert sorted(["FlowAccountConnectError", *drawn]) == sorted(kind.__name__ for kind in kinds())
    assert issubclass(ConnectionNotFound, Problem)
