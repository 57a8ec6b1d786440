"""The client for the integrator's own services: one call, one token, one repetition, and never to another host."""

import gc
import io
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.session
import pytest
import requests

from flowaccount_connect_client import (
    AccessDenied,
    AccessToken,
    ConnectionNotFound,
    FlowAccountAuth,
    FlowAccountConnect,
    FlowAccountConnectError,
    HostNotAllowed,
    InvalidAnswer,
    InvalidArgument,
    NotConfigured,
    Problem,
    ReauthorizationRequired,
    TemporarilyUnavailable,
    cache,
    client,
    signing,
)
from tests.unit.clients import CONNECTION, carried, found, given, origin, refused
from tests.unit.servers import Answer, Asked, Line, Server, eventually, reply


@pytest.fixture
def stack(server: Server) -> Server:
    """The stack's API."""
    server.say(given(1))
    return server


@pytest.fixture
def books(other_server: Server) -> Server:
    """FlowAccount."""
    other_server.say(reply(200, b'{"ok": true}'))
    return other_server


def base(stack: Server) -> str:
    return f"{origin(stack)}/_aws/execute-api/api/live"


def page(books: Server, path: str = "/test/company/info") -> str:
    return f"{origin(books)}{path}"


def auth(stack: Server, books: Server, **options: Any) -> FlowAccountAuth:
    made = FlowAccountConnect(options.pop("url", base(stack)), session=options.pop("session", None), patience=0)
    chosen: dict[str, Any] = {"allowed_hosts": [origin(books)]} | options
    return FlowAccountAuth(CONNECTION, client=made, **chosen)


def connect(stack: Server, **options: Any) -> FlowAccountConnect:
    return FlowAccountConnect(base(stack), **{"patience": 0, **options})


def get(stack: Server, books: Server, **options: Any) -> requests.Response:
    """FlowAccount's answer to a request of an app's."""
    return requests.get(page(books), auth=auth(stack, books, **options), timeout=10)


def paths(stack: Server) -> list[str]:
    """What the stack was asked for, below its URL."""
    return [asked.path.partition("/live")[2] for asked in stack.asked]


def held_until(event: threading.Event, answer: Answer) -> Answer:
    """This answer, once `event` is set."""

    def slowly(line: Line, asked: Asked) -> None:
        event.wait(10)
        answer(line, asked)

    return slowly


# ---- one token for all ------------------------------------------------------------------------------------


def test_a_request_carries_the_connections_token(stack: Server, books: Server) -> None:
    assert get(stack, books).json() == {"ok": True}
    assert carried(books) == ["Bearer access-1"]
    (asked,) = stack.asked
    assert (asked.method, asked.path) == ("GET", "/_aws/execute-api/api/live/connections/N1234567/token?min_ttl=300")
    assert asked.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=unit/")
    assert "/ap-southeast-1/execute-api/aws4_request" in asked.headers["authorization"]


def test_the_token_is_kept_for_the_process_however_often_one_is_made(stack: Server, books: Server) -> None:
    for _ in range(3):
        get(stack, books)
    assert (len(stack.asked), len(books.asked)) == (1, 3)


def test_a_hundred_threads_ask_once(stack: Server, books: Server) -> None:
    together = threading.Barrier(100)
    held = threading.Event()
    stack.say(held_until(held, given(1)), reply(500))

    def ask(_: int) -> str:
        together.wait(10)
        return auth(stack, books).token().value

    with ThreadPoolExecutor(100) as pool:
        asking = [pool.submit(ask, number) for number in range(100)]
        while not stack.asked:
            time.sleep(0.01)
        held.set()
        assert {one.result(20) for one in asking} == {"access-1"}
    assert len(stack.asked) == 1


def test_who_meets_in_a_request_that_the_stack_refuses_shares_its_refusal(stack: Server, books: Server) -> None:
    held, together = threading.Event(), threading.Barrier(9)
    stack.say(held_until(held, refused(404, "connection_not_found")))

    def ask() -> AccessToken:
        together.wait(10)
        return auth(stack, books).token()

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        together.wait(10)
        assert eventually(lambda: len(stack.asked) == 1)
        held.set()
        errors = [one.exception(20) for one in asking]
    assert all(isinstance(one, ConnectionNotFound) for one in errors)
    # Each has an error of its own: tracebacks of several threads in one object tell nothing.
    assert len(set(map(id, errors))) == 8
    stack.say(given(2))
    assert auth(stack, books).token().generation == 2


class SoftTimeLimit(Exception):
    """What a task queue raises in a thread whose time is over."""


TROUBLES = [SystemExit(), KeyboardInterrupt(), MemoryError(), SoftTimeLimit(), GeneratorExit(), RecursionError()]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda one: type(one).__name__)
def test_what_interrupts_the_thread_that_asks_interrupts_nobody_else(trouble: BaseException) -> None:
    kept, asked = cache.Kept(), threading.Event()
    go, fetches = threading.Event(), []

    def interrupted() -> AccessToken:
        fetches.append("interrupted")
        asked.set()
        go.wait(10)
        raise trouble

    def fetch() -> AccessToken:
        fetches.append("another")
        return token(7)

    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(kept.get, interrupted, lambda _: True)
        assert asked.wait(10)
        waiting = [pool.submit(kept.get, fetch, lambda _: True) for _ in range(8)]
        go.set()
        assert [one.result(20).generation for one in waiting] == [7] * 8
        assert first.exception(20) is trouble
    assert fetches == ["interrupted", "another"]


def test_each_caller_has_its_own_patience(stack: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that gives up at once leaves the others waiting; one request is made for each try of all."""
    held = threading.Event()
    stack.say(held_until(held, refused(503, "store_unavailable", "Retry-After: 0\r\n")), given(3))
    no_sleep = SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=lambda _: None)
    monkeypatch.setattr(client, "time", no_sleep)
    with ThreadPoolExecutor(4) as pool:
        hasty = pool.submit(connect(stack, patience=0).access_token, CONNECTION)
        assert eventually(lambda: len(stack.asked) == 1)
        patient = [pool.submit(connect(stack, patience=60).access_token, CONNECTION) for _ in range(3)]
        held.set()
        assert [one.result(20).generation for one in patient] == [3] * 3
        assert isinstance(hasty.exception(20), TemporarilyUnavailable)
    assert len(stack.asked) <= 3


def test_nobody_waits_for_ever_for_a_thread_that_never_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_LONGEST_REQUEST", 0.01)
    kept, begun, end = cache.Kept(), threading.Event(), threading.Event()

    def never() -> AccessToken:
        begun.set()
        end.wait(20)
        return token(1)

    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(kept.get, never, lambda _: True)
        assert begun.wait(10)
        assert kept.get(lambda: token(2), lambda _: True).generation == 2
        end.set()
        assert lost.result(20).generation == 1
    assert kept.get(lambda: token(3), lambda _: True).generation == 2, "the older one does not take its place"


def token(generation: int = 1, *, left: float = 86_400, fetched: float = 0) -> AccessToken:
    now = time.time()
    return AccessToken(
        value=f"access-{generation}",
        support_code=CONNECTION,
        generation=generation,
        status="active",
        environment="sandbox",
        expires_at=now + left,
        fetched_at=now - fetched,
    )


@pytest.mark.parametrize(
    ("left", "fetched", "asked_again"),
    [(301, 100, False), (299, 100, True), (299, 10, False), (299, 31, True), (4, 0, True), (-1, 0, True)],
)
def test_it_is_asked_for_again_shortly_before_it_expires(left: float, fetched: float, asked_again: bool) -> None:
    assert token(left=left, fetched=fetched).lasts(time.time(), 300) is not asked_again


@pytest.mark.parametrize("status", ["refresh_failing", "in_doubt", "reauthorization_required"])
def test_a_connection_in_danger_is_asked_about_again_soon(status: str) -> None:
    now = time.time()
    assert replace(token(fetched=29), status=status).lasts(now, 300)
    assert not replace(token(fetched=31), status=status).lasts(now, 300)
    assert token(fetched=31).lasts(now, 300)


def test_a_token_in_danger_warns_who_wants_to_know_and_the_log(stack: Server, caplog: pytest.LogCaptureFixture) -> None:
    warned: list[AccessToken] = []

    def warn(token: AccessToken) -> None:
        warned.append(token)
        raise RuntimeError("a mistake in the warning takes nobody's token away")

    stack.say(given(1, status="refresh_failing"))
    with caplog.at_level("DEBUG", "flowaccount_connect_client"):
        made = connect(stack, on_danger=warn)
        assert [made.access_token(CONNECTION).generation for _ in range(2)] == [1, 1]
    assert [one.status for one in warned] == ["refresh_failing"] * 2
    assert f"connection {CONNECTION} is in danger: refresh_failing" in caplog.text
    assert "access-" not in caplog.text
    assert len(stack.asked) == 1
    stack.say(given(2))
    cache.forget()
    warned.clear()
    made.access_token(CONNECTION)
    assert warned == []


def test_a_living_token_is_served_while_the_stack_is_unavailable(stack: Server, books: Server) -> None:
    stack.say(given(1, expires_in=250), refused(503, "store_unavailable"))
    assert auth(stack, books).token().generation == 1
    kept = cache.of((base(stack), CONNECTION))
    assert kept._token is not None
    kept._token = replace(kept._token, fetched_at=time.time() - 31)
    assert auth(stack, books).token().generation == 1
    assert len(stack.asked) == 2
    kept._token = replace(kept._token, expires_at=time.time() + 4)
    with pytest.raises(TemporarilyUnavailable):
        auth(stack, books).token()


def test_who_asks_for_more_life_is_not_served_by_what_was_fetched_for_less(stack: Server) -> None:
    stack.say(given(1, expires_in=200), given(2))
    api = connect(stack)
    assert api.access_token(CONNECTION, min_ttl=0).generation == 1
    assert api.access_token(CONNECTION, min_ttl=3_600).generation == 2
    assert api.access_token(CONNECTION, min_ttl=0).generation == 2
    assert len(stack.asked) == 2


def test_who_waits_for_a_request_of_another_kind_does_not_get_its_error(stack: Server) -> None:
    """A role may get tokens, and report none."""
    held = threading.Event()
    stack.say(given(1), held_until(held, refused(403, "permission_denied")), given(2))
    api = connect(stack)
    token = api.access_token(CONNECTION)
    kept = cache.of((base(stack), CONNECTION))
    with ThreadPoolExecutor(2) as pool:
        reporting = pool.submit(api.report_rejected, token)
        assert eventually(lambda: len(stack.asked) == 2)
        kept._token = None
        asking = pool.submit(api.access_token, CONNECTION)
        time.sleep(0.2)
        held.set()
        assert asking.result().generation == 2
        with pytest.raises(AccessDenied):
            reporting.result()


def test_what_is_kept_of_a_session_of_the_apps_own_goes_with_it(stack: Server) -> None:
    session = botocore.session.Session()
    session.set_credentials("unit", "unit-secret")
    api = connect(stack, session=session)
    assert api.access_token(CONNECTION).generation == 1
    assert connect(stack, session=session).access_token(CONNECTION).generation == 1
    assert len(stack.asked) == 1
    assert len(cache._of_owners) == 1
    del api, session
    gc.collect()
    assert len(cache._of_owners) == 0


def test_the_first_requests_of_a_process_may_come_at_once(
    stack: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session reads its files at its first use. The profile is in one file, the region in the other."""
    (tmp_path / "credentials").write_text("[app]\naws_access_key_id = unit\naws_secret_access_key = unit-secret\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_PROFILE", "app")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    reads, most = [], 0

    def reading(*_: object) -> str:
        nonlocal most
        reads.append(1)
        most = max(most, len(reads))
        time.sleep(0.05)
        reads.pop()
        return "ap-southeast-1"

    monkeypatch.setattr(signing, "region_of", reading)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(connect(stack).access_token, f"N{number}") for number in range(1, 9)]
    assert not [one.exception() for one in asked if isinstance(one.exception(), NotConfigured)]
    assert most == 1


def test_another_session_or_stack_or_connection_shares_nothing(stack: Server, books: Server) -> None:
    auth(stack, books).token()
    auth(stack, books, session=botocore.session.Session()).token()
    auth(stack, books, url=f"http://localhost:{stack.port}").token()
    stack.say(given(1, support_code="N7"))
    connect(stack).access_token("N7")
    assert len(stack.asked) == 4


def test_the_least_recently_used_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_TOKENS_KEPT", 2)
    one, two = cache.of("N1"), cache.of("N2")
    assert cache.of("N1") is one
    cache.of("N3")
    assert cache.of("N1") is one
    assert cache.of("N2") is not two


def test_a_child_process_waits_for_nobody(stack: Server, books: Server) -> None:
    cache._lock.acquire()
    try:
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # Ends a child that waits for ever.
            os._exit(0 if auth(stack, books).token().value == "access-1" else 1)
    finally:
        cache._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---- a token that FlowAccount refuses ---------------------------------------------------------------------


def test_after_a_401_the_token_is_reported_and_the_request_repeated_once(stack: Server, books: Server) -> None:
    stack.say(given(1), given(2))
    books.say(reply(401), reply(200, b"{}"))
    answer = get(stack, books)
    assert [answer.status_code, *(one.status_code for one in answer.history)] == [200, 401]
    assert carried(books) == ["Bearer access-1", "Bearer access-2"]
    report = stack.asked[1]
    assert (report.method, json.loads(report.body)) == ("POST", {"rejected_generation": 1})
    assert get(stack, books).status_code == 200
    assert len(stack.asked) == 2


@pytest.mark.parametrize(
    ("status", "generations", "reports", "sent"),
    [(401, [1, 2, 3], 1, 2), (401, [1, 1], 1, 1), (403, [1, 2], 0, 1)],
    ids=["a 401 again", "a 401, and no newer token", "a 403"],
)
def test_a_401_alone_is_reported_and_repeated_once_with_a_newer_token_only(
    stack: Server, books: Server, status: int, generations: list[int], reports: int, sent: int
) -> None:
    stack.say(*map(given, generations))
    books.say(reply(status))
    assert get(stack, books).status_code == status
    assert (len(stack.asked), len(books.asked)) == (1 + reports, sent)


@pytest.mark.parametrize("refusal", [refused(503, "refreshed_just_now", "Retry-After: 9\r\n"), refused(403, "x")])
def test_where_nothing_can_be_done_flowaccounts_own_answer_stands(
    stack: Server, books: Server, refusal: Answer
) -> None:
    stack.say(given(1), refusal)
    books.say(reply(401, b"theirs"))
    assert get(stack, books).content == b"theirs"
    assert len(books.asked) == 1


def test_a_token_refused_for_good_says_how_to_connect_again(stack: Server, books: Server) -> None:
    whose = {"tenant": "t", "expected_connection": CONNECTION}
    stack.say(given(1), refused(409, "reauthorization_required", reason="rejected", since=5, reconnect=whose))
    books.say(reply(401))
    with pytest.raises(ReauthorizationRequired) as caught:
        get(stack, books)
    assert (caught.value.reason, caught.value.since) == ("rejected", 5)
    assert (caught.value.tenant, caught.value.expected_connection) == ("t", CONNECTION)


def test_many_refusals_of_one_token_are_one_report(stack: Server, books: Server) -> None:
    stack.say(given(1), given(2), reply(500))
    together = threading.Barrier(8)

    def answer(line: Line, asked: Asked) -> None:
        stale = asked.headers["authorization"] == "Bearer access-1"
        if stale:
            together.wait(10)
        reply(401 if stale else 200, b"{}")(line, asked)

    books.say(answer)
    auth(stack, books).token()
    with ThreadPoolExecutor(8) as pool:
        assert [one.status_code for one in pool.map(lambda _: get(stack, books), range(8))] == [200] * 8
    assert len(stack.asked) == 2


class NoSeek(io.RawIOBase):
    """A body that can be read once."""

    def __init__(self, content: bytes) -> None:
        self._inner = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._inner.readinto(buffer)


def started(content: bytes, at: int) -> io.BytesIO:
    """A file that has been read a little already."""
    made = io.BytesIO(content)
    made.seek(at)
    return made


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (None, b""),
        (b"bytes", b"bytes"),
        ("text", b"text"),
        ({"a": "b"}, b"a=b"),
        (io.BytesIO(b"file"), b"file"),
        (started(b"12file", 2), b"file"),
    ],
    ids=["none", "bytes", "text", "form", "file", "file from its middle"],
)
def test_a_body_that_can_be_sent_again_is(stack: Server, books: Server, body: Any, sent: bytes) -> None:
    stack.say(given(1), given(2))
    books.say(reply(401), reply(200, b"{}"))
    assert requests.post(page(books), data=body, auth=auth(stack, books), timeout=5).status_code == 200
    assert [asked.body for asked in books.asked] == [sent, sent]


def chunks_taken(line: Line, asked: Asked) -> None:
    """Takes a body in chunks to its end, and refuses it."""
    body = asked.body
    while not body.endswith(b"0\r\n\r\n"):
        body += line.socket.recv(65_536)
    reply(401)(line, asked)
    line.drop()


@pytest.mark.parametrize("body", ["generator", "stream"])
def test_a_body_that_can_be_read_once_is_not_sent_again(stack: Server, books: Server, body: str) -> None:
    stack.say(given(1), given(2))
    books.say(chunks_taken)
    data: Any = (part for part in [b"once"]) if body == "generator" else NoSeek(b"once")
    assert requests.post(page(books), data=data, auth=auth(stack, books), timeout=5).status_code == 401
    assert carried(books)[:1] == ["Bearer access-1"]
    assert "Bearer access-2" not in carried(books)
    assert auth(stack, books).token().generation == 2


# ---- to FlowAccount alone ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://openapi.flowaccount.com/test/company/info",
        "https://openapi.flowaccount.com:8443/",
        "https://openapi.flowaccount.com.evil.example/",
        "https://openapi.flowaccount.com@evil.example/",
        "https://evil.example\\@openapi.flowaccount.com/",
        "https://evil.example/#@openapi.flowaccount.com/",
        "https://openapi.flowaccount.co/",
        "https://auth.flowaccount.com/",
    ],
)
def test_no_other_host_gets_a_token(stack: Server, url: str) -> None:
    with pytest.raises(HostNotAllowed, match=r"https://openapi\.flowaccount\.com"):
        requests.Request("GET", url, auth=FlowAccountAuth(CONNECTION, client=connect(stack))).prepare()
    assert stack.asked == []


@pytest.mark.parametrize(
    "url", ["https://openapi.flowaccount.com/v1", "https://OpenAPI.FlowAccount.com:443/test/x?y=1"]
)
def test_flowaccount_itself_does(stack: Server, url: str) -> None:
    prepared = requests.Request("GET", url, auth=FlowAccountAuth(CONNECTION, client=connect(stack))).prepare()
    assert prepared.headers["Authorization"] == "Bearer access-1"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_takes_no_token_with_it(stack: Server, books: Server, status: int) -> None:
    with Server() as elsewhere:
        elsewhere.say(reply(401))
        books.say(reply(status, headers=f"Location: {page(elsewhere)}\r\n"))
        # Allowed, even: what another host is given is what it is asked for itself, never what came along.
        hosts = [origin(books), origin(elsewhere)]
        answer = get(stack, books, allowed_hosts=hosts)
        assert (answer.status_code, carried(elsewhere)) == (401, [None])
    assert len(stack.asked) == 1


def test_after_a_redirect_on_the_same_host_a_401_is_still_answered(stack: Server, books: Server) -> None:
    stack.say(given(1), given(2))
    books.say(reply(302, headers="Location: /there\r\n"), reply(401), reply(200, b"{}"))
    assert get(stack, books).status_code == 200
    assert [asked.path for asked in books.asked] == ["/test/company/info", "/there", "/there"]


@pytest.mark.parametrize(
    "host", ["http://openapi.flowaccount.com", "https://a.example/path", "ftp://a", "https://u@a.example", "a b", ""]
)
def test_what_is_no_host_is_not_taken_for_one(stack: Server, host: str) -> None:
    with pytest.raises(InvalidArgument, match="allowed_hosts"):
        FlowAccountAuth(CONNECTION, client=connect(stack), allowed_hosts=[host])


# ---- errors -----------------------------------------------------------------------------------------------


ERRORS = [
    (refused(404, "connection_not_found"), ConnectionNotFound),
    (refused(409, "reauthorization_required", reason="expired", since=1, reconnect_url="u"), ReauthorizationRequired),
    (refused(409, "already_active"), Problem),
    (refused(400, "invalid_min_ttl"), Problem),
    (refused(503, "token_unavailable", "Retry-After: 7\r\n"), TemporarilyUnavailable),
    (refused(429, "too_many_requests"), TemporarilyUnavailable),
    (reply(502, b"<html>"), TemporarilyUnavailable),
    (reply(504, b""), TemporarilyUnavailable),
    (refused(500, "internal_error"), TemporarilyUnavailable),
    (refused(403, "permission_denied"), AccessDenied),
    (reply(403, b'{"Message": "User: x is not authorized"}'), AccessDenied),
    (reply(404, b"nothing here"), InvalidAnswer),
    (reply(302, b"", "Location: https://login.example/\r\n"), InvalidAnswer),
    (reply(200, b"<html>a captive portal</html>"), InvalidAnswer),
    (reply(200, b""), InvalidAnswer),
    (reply(200, b"[" * 100_000), InvalidAnswer),
    (given(access_token=""), InvalidAnswer),
    (given(access_token="two words"), InvalidAnswer),
    (given(access_token="line\r\nInjected: yes"), InvalidAnswer),
    (given(expires_in="soon"), InvalidAnswer),
    (given(expires_in=float("inf")), InvalidAnswer),
    (given(expires_in=True, generation=None), InvalidAnswer),
    (given(support_code="N999"), InvalidAnswer),
]


@pytest.mark.parametrize(("answer", "error"), ERRORS, ids=range(len(ERRORS)))
def test_every_error_has_its_type_and_no_token_in_it(
    stack: Server, books: Server, answer: Answer, error: type[FlowAccountConnectError]
) -> None:
    stack.say(answer)
    with pytest.raises(FlowAccountConnectError) as caught:
        get(stack, books)
    assert type(caught.value) is error
    assert "access-" not in f"{caught.value!r} {caught.value}"
    assert books.asked == []


def test_a_problem_tells_its_code_status_detail_and_request(stack: Server, books: Server) -> None:
    stack.say(refused(503, "token_unavailable", "Retry-After: 7\r\n"))
    with pytest.raises(TemporarilyUnavailable) as caught:
        auth(stack, books).token()
    error = caught.value
    assert (error.code, error.status, error.retry_after, error.request_id) == ("token_unavailable", 503, 7, "r-1")
    assert str(error) == "token_unavailable: Detail of token_unavailable. (request r-1)"


def test_what_time_mends_is_waited_for_within_the_callers_patience(
    stack: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, slept = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(client, "time", SimpleNamespace(time=time.time, monotonic=lambda: now[0], sleep=sleep))
    later = refused(503, "token_unavailable", "Retry-After: 7\r\n")
    stack.say(later, refused(503, "x", "Retry-After: soon\r\n"), refused(429, "x", "Retry-After: 0\r\n"), given(4))
    assert connect(stack, patience=30).access_token(CONNECTION).generation == 4
    assert slept == [7, 5, 4]
    cache.forget()
    slept.clear()
    stack.say(later)
    with pytest.raises(TemporarilyUnavailable):
        connect(stack, patience=20).access_token(CONNECTION)
    assert slept == [7, 7]
    slept.clear()
    stack.say(refused(404, "connection_not_found"))
    with pytest.raises(ConnectionNotFound):
        connect(stack, patience=20).access_token(CONNECTION)
    assert slept == []


# ---- the button -------------------------------------------------------------------------------------------

SHOWN = {
    "support_code": CONNECTION,
    "environment": "sandbox",
    "status": "active",
    "tenant": "tenant-1",
    "generation": 3.0,
    "deadline": 9,
    "reason": None,
    "a_member_of_a_later_version": [],
}


WANTED = {
    "tenant": "tenant-1",
    "return_url": "https://shop.example/back",
    "expected_connection": CONNECTION,
    "state": "s",
}
LINKED = reply(201, b'{"connect_url": "https://x/authorize?link=l", "expires_at": 9}')


def test_an_app_makes_a_link_and_confirms_what_the_browser_brought(stack: Server) -> None:
    api = connect(stack)
    stack.say(LINKED)
    made = api.connect_link("tenant-1", "https://shop.example/back", expected_connection=CONNECTION, state="s")
    assert (made.connect_url, made.expires_at) == ("https://x/authorize?link=l", 9)
    assert "link=l" not in repr(made)
    stack.say(found(**SHOWN))
    confirmed = api.confirm("../s.1", "tenant-1")
    assert (confirmed.support_code, confirmed.tenant, confirmed.generation) == (CONNECTION, "tenant-1", 3)
    assert [asked.method for asked in stack.asked] == ["POST"] * 2
    assert paths(stack) == ["/connect-links", "/connect-links/confirm"]
    assert [json.loads(asked.body) for asked in stack.asked] == [
        WANTED,
        {"confirmation": "../s.1", "tenant": "tenant-1"},
    ]


def lost(tenant: str | None) -> ReauthorizationRequired:
    error = ReauthorizationRequired("reauthorization_required", 409, "No consent.")
    error.expected_connection, error.tenant = CONNECTION, tenant
    return error


@pytest.mark.parametrize("of", [CONNECTION, lost(None), lost("tenant-1")], ids=["an id", "an error", "a whole error"])
def test_a_fresh_link_for_a_connection_is_for_its_tenant_and_for_that_business(
    stack: Server, of: str | ReauthorizationRequired
) -> None:
    known = isinstance(of, ReauthorizationRequired) and of.tenant is not None
    stack.say(*([] if known else [found(**SHOWN)]), LINKED)
    made_link = connect(stack).reconnect_link(of, "https://shop.example/back", state="s", external_browser=True)
    assert made_link.expires_at == 9
    assert paths(stack) == [*([] if known else [f"/connections/{CONNECTION}"]), "/connect-links"]
    assert json.loads(stack.asked[-1].body) == WANTED | {"external_browser": True}


def test_a_fresh_link_is_made_of_an_events_own_words(stack: Server) -> None:
    detail: dict[str, Any] = {"reconnect": {"tenant": "tenant-1", "expected_connection": CONNECTION}}
    stack.say(LINKED)
    connect(stack).connect_link(return_url="https://shop.example/back", **detail["reconnect"])
    assert json.loads(stack.asked[0].body) == detail["reconnect"] | {"return_url": "https://shop.example/back"}


def test_a_connection_that_nobody_has_gets_no_link_of_itself(stack: Server) -> None:
    stack.say(found(**SHOWN | {"tenant": None}))
    with pytest.raises(InvalidArgument, match="connect_link"):
        connect(stack).reconnect_link(CONNECTION, "https://shop.example/back")
    with pytest.raises(InvalidArgument):
        connect(stack).reconnect_link(ReauthorizationRequired("c", 409, "d"), "https://shop.example/back")
    assert len(stack.asked) == 1


@pytest.mark.parametrize("brought", ["", None])
def test_a_browser_that_brings_nothing_is_a_problem_as_any_other(stack: Server, brought: str | None) -> None:
    with pytest.raises(Problem) as caught:
        connect(stack).confirm(brought, "tenant-1")
    assert (caught.value.code, stack.asked) == ("unknown_confirmation", [])


def test_what_nothing_came_of_says_why(stack: Server) -> None:
    stack.say(refused(409, "connect_failed", ending="access_denied"))
    with pytest.raises(Problem) as caught:
        connect(stack).confirm("s.1", "tenant-1")
    assert (caught.value.code, caught.value.ending) == ("connect_failed", "access_denied")
    stack.say(refused(409, "import_refused", reason="rejected"))
    with pytest.raises(Problem) as caught:
        connect(stack).import_(CONNECTION, "a-refresh-token")
    assert (caught.value.code, caught.value.reason) == ("import_refused", "rejected")


@pytest.mark.parametrize(
    "body", [[], {}, {**SHOWN, "support_code": None}, {**SHOWN, "generation": True}, {**SHOWN, "deadline": "soon"}]
)
def test_an_answer_of_something_else_connects_nothing(stack: Server, body: object) -> None:
    stack.say(reply(200, json.dumps(body).encode()))
    with pytest.raises(InvalidAnswer):
        connect(stack).confirm("s.1", "tenant-1")


# ---- managing ---------------------------------------------------------------------------------------------


def test_lists_turn_their_pages_by_themselves(stack: Server) -> None:
    stack.say(found(connections=[SHOWN], next="a&b"), found(connections=[SHOWN | {"support_code": "N2"}], next=None))
    listed = list(connect(stack).connections(status="active", tenant="ร้าน 7"))
    assert [one.support_code for one in listed] == [CONNECTION, "N2"]
    asked = "/connections?status=active&tenant=%E0%B8%A3%E0%B9%89%E0%B8%B2%E0%B8%99%207&limit=100"
    assert paths(stack) == [asked, f"{asked}&next=a%26b"]
    stack.say(found(connections=[], next="x"))
    with pytest.raises(InvalidAnswer):
        list(connect(stack).connections())


def test_the_history_of_an_unknown_id_is_an_error(stack: Server) -> None:
    entry = {"id": "e", "kind": "refreshed", "at": 5, "status": "active"}
    stack.say(found(entries=[entry], next=None))
    (told,) = connect(stack).history(CONNECTION)
    assert (told.kind, told.at, told.attempt_id) == ("refreshed", 5, None)
    stack.say(found(entries=[], next=None), refused(404, "connection_not_found"))
    with pytest.raises(ConnectionNotFound):
        list(connect(stack).history("N404"))
    stack.say(found(entries=[], next=None), found(**SHOWN))
    assert list(connect(stack).history(CONNECTION)) == []


def test_an_import_and_a_disconnect(stack: Server, books: Server) -> None:
    stack.say(reply(202, json.dumps({**SHOWN, "status": "importing"}).encode()))
    assert connect(stack).import_(CONNECTION, "a-refresh-token", tenant="t").status == "importing"
    assert json.loads(stack.asked[0].body) == {"refresh_token": "a-refresh-token", "tenant": "t"}
    stack.say(given(1))
    auth(stack, books).token()
    stack.say(reply(204))
    connect(stack).disconnect(CONNECTION)
    assert (stack.asked[2].method, paths(stack)[2]) == ("DELETE", f"/connections/{CONNECTION}")
    stack.say(refused(404, "connection_not_found"))
    with pytest.raises(ConnectionNotFound):
        auth(stack, books).token()


def test_an_empty_answer_of_something_else_ends_no_connection(stack: Server) -> None:
    stack.say(reply(200, b""))
    with pytest.raises(InvalidAnswer):
        connect(stack).disconnect(CONNECTION)


def test_an_import_is_sent_once_since_a_token_may_be_spent_by_it(stack: Server) -> None:
    stack.say(refused(503, "store_unavailable", "Retry-After: 0\r\n"))
    with pytest.raises(TemporarilyUnavailable):
        connect(stack, patience=60).import_(CONNECTION, "a-refresh-token")
    assert len(stack.asked) == 1


def test_after_a_new_consent_the_older_ones_token_is_not_used_any_more(stack: Server, books: Server) -> None:
    auth(stack, books).token()
    stack.say(found(**SHOWN))
    connect(stack).confirm("a.b", "tenant-1")
    stack.say(given(2))
    assert auth(stack, books).token().value == "access-2"


@pytest.mark.parametrize("id_", ["", "..", "../connect-links", "N1/token", "N1?x=1", "N1\n", "น1", "N" * 65])
def test_what_is_no_id_chooses_no_route(stack: Server, id_: str) -> None:
    api = connect(stack)
    for call in (api.access_token, api.connection, api.disconnect, lambda one: list(api.history(one))):
        with pytest.raises(InvalidArgument, match="supportCode"):
            call(id_)
    with pytest.raises(InvalidArgument):
        api.import_(id_, "t")
    assert stack.asked == []


# ---- configuration ----------------------------------------------------------------------------------------


def test_the_url_comes_from_the_environment(stack: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWACCOUNT_CONNECT_URL", base(stack) + "/")
    assert FlowAccountAuth(CONNECTION).token().value == "access-1"
    assert "//connections" not in stack.asked[0].path


def test_what_is_missing_is_named(stack: Server, books: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOWACCOUNT_CONNECT_URL", raising=False)
    with pytest.raises(NotConfigured, match="FLOWACCOUNT_CONNECT_URL"):
        FlowAccountAuth(CONNECTION)
    with pytest.raises(NotConfigured, match="https"):
        FlowAccountConnect("http://api.example/live")
    with pytest.raises(InvalidArgument, match="supportCode"):
        FlowAccountAuth("../N1", client=connect(stack))
    with pytest.raises(InvalidArgument, match="3600"):
        connect(stack).access_token(CONNECTION, min_ttl=3_601)
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(NotConfigured, match="AWS_REGION"):
        auth(stack, books).token()
    monkeypatch.setenv("AWS_REGION", "ap-southeast-1")
    assert auth(stack, books).token().generation == 1
    cache.forget()
    signing.forget()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(NotConfigured, match="credentials"):
        auth(stack, books).token()


API_OF_AWS = "https://a1b2c3.execute-api.eu-west-1.amazonaws.com/live"


@pytest.mark.parametrize(
    ("url", "own", "variable", "default", "expected"),
    [
        (API_OF_AWS, "us-east-1", "us-east-2", "us-west-1", "eu-west-1"),
        (API_OF_AWS.replace("amazonaws", "vpce.amazonaws"), "us-east-1", "us-east-2", "us-west-1", "eu-west-1"),
        (API_OF_AWS.replace("aws.com", "aws.com.evil.example"), "us-east-1", "us-east-2", "us-west-1", "us-east-1"),
        ("https://api.example", "us-east-1", "us-east-2", "us-west-1", "us-east-1"),
        ("https://api.example", None, "us-east-2", "us-west-1", "us-east-2"),
        ("https://api.example", None, None, "us-west-1", "us-west-1"),
    ],
)
def test_the_region_is_that_of_the_address_else_the_sessions_else_the_environments(
    monkeypatch: pytest.MonkeyPatch, url: str, own: str | None, variable: str | None, default: str, expected: str
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", default)
    if variable is not None:
        monkeypatch.setenv("AWS_REGION", variable)
    session = botocore.session.Session()
    if own is not None:
        session.set_config_variable("region", own)
    signed = signing.signature(session, "GET", url, None, {})
    assert f"/{expected}/execute-api/" in signed["Authorization"]


def test_a_netrc_takes_nobodys_place(
    stack: Server, books: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    get(stack, books)
    assert carried(books) == ["Bearer access-1"]
    assert str(carried(stack)[0]).startswith("AWS4-HMAC-SHA256")


def test_no_repr_shows_a_token(stack: Server, books: Server) -> None:
    made = auth(stack, books)
    found = made.token()
    assert "access-" not in f"{made!r} {made} {found!r} {found} {made.__dict__}"
