"""The one POST, against servers on loopback that behave as badly as servers can.

Budgets are tiny; that a call returned at all, within the watchdog's time, is what is asserted of time.
"""

import contextlib
import gzip
import json
import logging
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl

import certifi
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowaccount_connect import __version__
from flowaccount_connect.oauth import tls, token_endpoint
from flowaccount_connect.oauth.token_answer import BODY_LIMIT, Answer, Outcome, classify
from flowaccount_connect.oauth.token_endpoint import NO_ANSWER, TokenEndpoint, _Form, _Withdrawn
from tests.unit.servers import (
    Asked,
    Certificates,
    Line,
    Server,
    dripping,
    drop,
    eventually,
    first,
    hang,
    reply,
    reset,
    unused_port,
)

BUDGET = 0.25
AMPLE = 10.0
WATCHDOG = 15.0
TOKEN, SECRET = "refresh-CANARY", "secret-CANARY"
FIELDS = {"access_token": "A" * 43, "refresh_token": "R" * 43, "expires_in": 3_600, "supportCode": "N1234567"}
WHOLE = json.dumps(FIELDS).encode()
REFUSED = b'{"error":"invalid_grant"}'


@pytest.fixture
def made() -> Callable[..., TokenEndpoint]:
    """Makes token endpoints."""

    def make(url: str, trusted: Path | None = None) -> TokenEndpoint:
        context = tls.context if trusted is None else lambda: ssl.create_default_context(cafile=trusted)
        return TokenEndpoint(url, "client id&", context=context)

    return make


@pytest.fixture
def endpoint(made: Callable[..., TokenEndpoint], server: Server) -> TokenEndpoint:
    return made(server.url())


def refresh(endpoint: TokenEndpoint, budget: float = AMPLE, token: str = TOKEN) -> Answer:
    """One refresh, on a thread of its own, so that a call that never returns fails and does not hang."""
    answers: list[Answer] = []

    def call() -> None:
        answers.append(endpoint.refresh(token, SECRET, connection_id="N1234567", budget=budget))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(WATCHDOG)
    assert answers, "the call never returned"
    return answers[0]


def bounded(endpoint: TokenEndpoint) -> Answer:
    return refresh(endpoint, BUDGET)


# What is sent ------------------------------------------------------------------------------------------------------


def test_the_form_is_exact(server: Server, endpoint: TokenEndpoint) -> None:
    server.say(reply(200, WHOLE))
    refresh(endpoint, token="r+/=& %\u0e01")
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/test/token")
    assert asked.body == (
        b"grant_type=refresh_token&refresh_token=r%2B%2F%3D%26+%25%E0%B8%81"
        b"&client_id=client+id%26&client_secret=secret-CANARY"
    )
    assert asked.headers == {
        "host": f"127.0.0.1:{server.port}",
        "content-type": "application/x-www-form-urlencoded",
        "content-length": str(len(asked.body)),
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": f"flowaccount-connect/{__version__}",
        "connection": "close",
    }


@pytest.mark.parametrize("verifier", [None, "the-verifier"])
def test_a_code_goes_with_its_redirect_uri_byte_for_byte(
    server: Server, endpoint: TokenEndpoint, verifier: str | None
) -> None:
    server.say(reply(200, WHOLE))
    uri = "https://api.example/live/callback?x=%2F&y=+"
    answer = endpoint.exchange_code("the-code", uri, SECRET, budget=AMPLE, verifier=verifier)
    assert answer.outcome is Outcome.TOKENS
    sent = parse_qsl(server.asked[0].body.decode(), strict_parsing=True)
    assert sorted(sent) == [
        ("client_id", "client id&"),
        ("client_secret", SECRET),
        ("code", "the-code"),
        *([("code_verifier", verifier)] if verifier else []),
        ("grant_type", "authorization_code"),
        ("redirect_uri", uri),
    ]


def test_neither_proxies_nor_netrc_nor_a_ca_bundle_of_the_environment_matter(
    server: Server,
    other_server: Server,
    made: Callable[..., TokenEndpoint],
    certificates: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, other_server.url())
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(certificates.good))
    server.say(reply(200, WHOLE))
    assert refresh(made(server.url())).outcome is Outcome.TOKENS
    assert "authorization" not in server.asked[0].headers
    assert "proxy-authorization" not in server.asked[0].headers
    with Server(tls=Certificates.context(certificates.good)) as tls:
        tls.say(reply(200, WHOLE))
        assert refresh(made(tls.url("https"))).outcome is Outcome.NOT_SENT
        assert tls.asked == []
    assert (other_server.connections, other_server.asked) == (0, [])


def test_cookies_are_not_carried_from_one_refresh_to_the_next(server: Server, endpoint: TokenEndpoint) -> None:
    server.say(reply(200, WHOLE, "Set-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\n"))
    for _ in range(2):
        refresh(endpoint)
    assert len(server.asked) == 2
    assert all("cookie" not in asked.headers for asked in server.asked)


# Once, and to this address only ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(
    server: Server, other_server: Server, endpoint: TokenEndpoint, status: int
) -> None:
    other_server.say(reply(200, WHOLE))
    server.say(reply(status, b"", f"Location: {other_server.url()}\r\n"))
    assert refresh(endpoint).outcome is Outcome.IN_DOUBT
    assert len(server.asked) == 1
    assert (other_server.connections, other_server.asked) == (0, [])


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (reply(200, WHOLE), Outcome.TOKENS),
        (reply(500, WHOLE), Outcome.TOKENS),
        (reply(200, REFUSED), Outcome.REJECTED),
        (reply(400, REFUSED), Outcome.REJECTED),
        (reply(401, b'{"error":"invalid_client"}'), Outcome.CONFIGURATION_ERROR),
        (reply(403, b'{"message":"Forbidden"}'), Outcome.CONFIGURATION_ERROR),
        (reply(404, b"<html>"), Outcome.CONFIGURATION_ERROR),
        (reply(429, b"", "Retry-After: 7\r\n"), Outcome.THROTTLED),
        (reply(408), Outcome.IN_DOUBT),
        (reply(500), Outcome.IN_DOUBT),
        (reply(502, b"<html>"), Outcome.IN_DOUBT),
        (reply(503, b"", "Retry-After: 7\r\n"), Outcome.IN_DOUBT),
        (reply(504, b'{"message":"Endpoint request timed out"}'), Outcome.IN_DOUBT),
        (reset, Outcome.IN_DOUBT),
        (drop, Outcome.IN_DOUBT),
        (first(b"SSH-2.0-what\r\n\r\n", Line.drop), Outcome.IN_DOUBT),
        (first(b"HTTP/1.1 200 OK\r\nContent-Le", Line.drop), Outcome.IN_DOUBT),
    ],
)
def test_whatever_the_answer_the_token_goes_out_exactly_once(
    server: Server, endpoint: TokenEndpoint, answer: Callable[[Line, Asked], None], outcome: Outcome
) -> None:
    server.say(answer)
    said = refresh(endpoint)
    assert said.outcome is outcome
    assert said.retry_after == (7 if outcome is Outcome.THROTTLED else None)
    assert (len(server.asked), server.connections) == (1, 1)


# Not sent ----------------------------------------------------------------------------------------------------------


def never_sent(server: Server) -> bool:
    """Whether the connection has ended without a word of the form; the head of a request may have come."""
    return eventually(lambda: bool(server.lines) and not server.lines[0].open) and not any(
        word in bytes(server.received) for word in (b"CANARY", b"grant_type")
    )


def test_a_resolver_that_hangs_is_not_sent_within_the_budget_and_never_afterwards(
    server: Server, made: Callable[..., TokenEndpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve, go_on = socket.getaddrinfo, threading.Event()

    def slow(*args: object, **kwargs: object) -> object:
        go_on.wait(WATCHDOG)
        return resolve(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    server.say(reply(200, WHOLE))
    answer = bounded(made(server.url(host="localhost")))
    assert (answer.outcome, answer.error) == (Outcome.NOT_SENT, "timeout")
    go_on.set()
    # It does connect now, but the exchange was given up.
    assert never_sent(server)
    assert server.asked == []


def test_a_handshake_that_ends_after_the_budget_sends_nothing_any_more(
    made: Callable[..., TokenEndpoint], certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    wrap = ssl.SSLContext.wrap_socket

    def slow(self: ssl.SSLContext, sock: socket.socket, *args: object, **kwargs: object) -> ssl.SSLSocket:
        sock.settimeout(WATCHDOG)
        return wrap(self, sock, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", slow)
    with Server(tls=Certificates.context(certificates.good), ready=go_on) as server:
        server.say(reply(200, WHOLE))
        answer = bounded(made(server.url("https"), certificates.good))
        assert (answer.outcome, answer.error) == (Outcome.NOT_SENT, "timeout")
        go_on.set()
        assert never_sent(server)
        assert server.received.startswith(b"POST /test/token"), "the handshake was not ended"
        assert server.asked == []


def test_a_form_leaves_once_and_never_after_it_was_withdrawn() -> None:
    form = _Form({"a": "b&"})
    assert (b"".join(form), len(form)) == (b"a=b%26", 6)
    assert not form.withdraw()
    with pytest.raises(_Withdrawn):
        list(form)
    late = _Form({"a": "b"})
    asked = iter(late)
    assert late.withdraw()
    for bytes_ in (asked, iter(late)):
        with pytest.raises(_Withdrawn):
            next(bytes_)


@given(st.lists(st.sampled_from(["take", "withdraw"]), min_size=2, max_size=8))
def test_of_leaving_and_being_withdrawn_whichever_comes_first_counts(steps: list[str]) -> None:
    form, start = _Form({"a": "b"}), threading.Barrier(len(steps))
    left: list[bytes] = []
    kept: list[bool] = []

    def act(step: str) -> None:
        start.wait(WATCHDOG)
        if step == "withdraw":
            kept.append(form.withdraw())
            return
        with contextlib.suppress(_Withdrawn):
            left.extend(form)

    threads = [threading.Thread(target=act, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WATCHDOG)
    assert len(left) <= 1
    assert len(set(kept)) <= 1
    assert (not left) in (kept or [not left])


# Were certificates not verified, urllib3's warning of it would be an error here, and hide just that.
UNVERIFIED = pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")


@UNVERIFIED
@pytest.mark.parametrize(
    ("certificate", "trusted"), [("good", False), ("other_host", True)], ids=["made up", "another's"]
)
def test_a_certificate_nobody_vouches_for_is_not_sent(
    made: Callable[..., TokenEndpoint], certificates: Certificates, certificate: str, trusted: bool
) -> None:
    path: Path = getattr(certificates, certificate)
    with Server(tls=Certificates.context(path)) as server:
        server.say(reply(200, WHOLE))
        assert refresh(made(server.url("https"), path if trusted else None)).outcome is Outcome.NOT_SENT
        assert server.asked == []


def test_certificates_are_read_once_for_all_connections(
    made: Callable[..., TokenEndpoint], certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(tls=Certificates.context(certificates.good)) as server:
        endpoint = made(server.url("https"), certificates.good)

        def read(*_: object, **__: object) -> None:
            pytest.fail("they were read again")

        monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", read)
        server.say(reply(200, WHOLE), reply(200, WHOLE))
        for _ in range(2):
            assert refresh(endpoint).outcome is Outcome.TOKENS
        assert server.connections == 2


def test_no_connection_changes_the_context_that_others_are_begun_with(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certifi, "where", lambda: str(certificates.good))
    shared = tls.context.__wrapped__()

    def change(*_: object) -> None:
        pytest.fail("it was changed")

    monkeypatch.setattr(ssl.SSLContext, "set_alpn_protocols", change)
    with Server(tls=Certificates.context(certificates.good)) as server:
        server.say(reply(200, WHOLE))
        endpoint = TokenEndpoint(server.url("https"), "client id&", context=lambda: shared)
        assert refresh(endpoint).outcome is Outcome.TOKENS


def test_certificates_and_names_are_verified_by_the_context_of_the_functions() -> None:
    context = tls.context()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_all_authorities_of_the_bundle_are_trusted_and_no_other() -> None:
    found = {ssl.DER_cert_to_PEM_cert(one) for one in tls.context().get_ca_certs(binary_form=True)}
    bundle = Path(certifi.where()).read_text("ascii")
    listed = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", bundle, re.DOTALL)
    assert found == set(listed)


def test_without_any_time_nothing_is_sent(server: Server, endpoint: TokenEndpoint) -> None:
    server.say(reply(200, WHOLE))
    for budget in (0.0, -1.0):
        assert refresh(endpoint, budget).outcome is Outcome.NOT_SENT
    assert server.asked == []


def test_without_a_thread_nothing_is_sent(
    server: Server, endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    answer = endpoint.refresh(TOKEN, SECRET, connection_id="N1234567", budget=AMPLE)
    assert (answer.outcome, answer.error) == (Outcome.NOT_SENT, "no_thread")
    assert server.connections == 0


def test_no_character_of_a_code_raises(server: Server, endpoint: TokenEndpoint) -> None:
    server.say(reply(400, REFUSED))
    answer = endpoint.exchange_code("\ud800\x00\n", "https://api.example/cb", SECRET, budget=AMPLE)
    assert answer.outcome is Outcome.REJECTED


# In time -----------------------------------------------------------------------------------------------------------


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "let_go"),
    [
        (hang, True),
        (first(b"", dripping(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000)), False),
        (first(b"", dripping(b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000)), False),
        (first(HEAD % 5_000, dripping(b" " * 5_000)), True),
        (first(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", dripping(b"1\r\n \r\n" * 1_000)), True),
        (first(HEAD % 5_000, Line.hang), True),
        (first(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", dripping(b" " * 5_000)), True),
    ],
    ids=["no answer", "headers drip", "100 for ever", "body drips", "chunks drip", "no body", "redirect drips"],
)
def test_a_slow_answer_is_doubt_within_the_budget(
    server: Server, endpoint: TokenEndpoint, answer: Callable[[Line, Asked], None], let_go: bool
) -> None:
    server.say(answer)
    said = bounded(endpoint)
    assert (said.outcome, said.error) == (Outcome.IN_DOUBT, "timeout")
    assert len(server.asked) == 1
    # The connection is let go, too; only headers that drip keep it for as long as the server sends them.
    assert not let_go or eventually(lambda: not server.lines[0].open)


def test_a_slow_answer_is_bounded_over_tls_too(made: Callable[..., TokenEndpoint], certificates: Certificates) -> None:
    with Server(tls=Certificates.context(certificates.good)) as server:
        endpoint = made(server.url("https"), certificates.good)
        server.say(reply(200, WHOLE), first(HEAD % 5_000, dripping(b" " * 5_000)))
        assert refresh(endpoint).outcome is Outcome.TOKENS
        assert bounded(endpoint).outcome is Outcome.IN_DOUBT
        assert len(server.asked) == 2


# Whose answer it is ------------------------------------------------------------------------------------------------


def answered_to(token: str) -> bytes:
    """A whole answer that tells which token it answers."""
    return json.dumps(FIELDS | {"access_token": f"for-{token}", "supportCode": None}).encode()


ANSWERED_TO_A = HEAD % len(answered_to("a")) + answered_to("a")


def test_each_exchange_has_a_connection_of_its_own_that_ends_with_it(server: Server, endpoint: TokenEndpoint) -> None:
    # The server would keep it.
    server.say(reply(200, WHOLE, "Connection: keep-alive\r\n"))
    for exchanges in (1, 2, 3):
        assert refresh(endpoint).outcome is Outcome.TOKENS
        assert server.connections == exchanges
        assert eventually(lambda: not server.lines[-1].open)


@pytest.mark.parametrize(
    "answer",
    [
        first(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + ANSWERED_TO_A, Line.drop),
        first(b"HTTP/1.1 102 Processing\r\n\r\n" + ANSWERED_TO_A, Line.drop),
        first(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n" + ANSWERED_TO_A, Line.drop),
        first(b"HTTP/1.1 199 Wait\r\n\r\n" + ANSWERED_TO_A, Line.drop),
        reply(204, answered_to("a")),
        reply(304, answered_to("a")),
    ],
    ids=["101", "102", "103", "199", "204", "304"],
)
def test_what_follows_an_answer_without_a_body_is_nobodys(
    server: Server, endpoint: TokenEndpoint, answer: Callable[[Line, Asked], None]
) -> None:
    server.say(answer, reply(200, answered_to("b")))
    assert refresh(endpoint, token="a").outcome is Outcome.IN_DOUBT
    told = refresh(endpoint, token="b")
    assert told.tokens is not None
    assert told.tokens.access_token == "for-b"


def test_many_exchanges_at_once_each_get_their_own_answer(server: Server, endpoint: TokenEndpoint) -> None:
    def answer(line: Line, asked: Asked) -> None:
        reply(200, answered_to(parse_qs(asked.body.decode())["refresh_token"][0]))(line, asked)

    server.say(answer)

    def one(token: str) -> bool:
        tokens = refresh(endpoint, token=token).tokens
        return tokens is not None and tokens.access_token == f"for-{token}"

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, map(str, range(100))))
    assert (len(server.asked), server.connections) == (100, 100)


# What broke off, and what is too much ------------------------------------------------------------------------------


CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS += b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (WHOLE[:50], WHOLE[50:]))
PACKED = gzip.compress(WHOLE)
PACKED_HEAD = HEAD.replace(b"Type: application/json", b"Encoding: gzip") % len(PACKED)


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, WHOLE, length=len(WHOLE) + 100),
        first(CHUNKS, Line.drop),
        first(CHUNKS, Line.reset),
        first(b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + HEAD % len(WHOLE) + WHOLE, Line.drop),
        first(b"HTTP/1.0 200 Said\r\n\r\n" + WHOLE, Line.drop),
        first(b"HTTP/1.1 200 Said\nContent-Length: %d\n\n" % len(WHOLE) + WHOLE, Line.drop),
        reply(200, WHOLE, "X: \0\xe9\r\n"),
        reply(307, WHOLE, "Location: /elsewhere\r\n"),
        # It was not asked for.
        reply(200, PACKED, "Content-Encoding: gzip\r\n"),
        first(PACKED_HEAD, dripping(PACKED, 0.001)),
    ],
    ids=[
        *("ends early", "chunks end early", "chunks are reset", "after a 100", "HTTP/1.0"),
        *("without CR", "strange bytes", "a redirect", "compressed", "compressed, in drops"),
    ],
)
def test_whole_tokens_are_tokens_whatever_frame_they_come_in(
    server: Server, endpoint: TokenEndpoint, answer: Callable[[Line, Asked], None]
) -> None:
    server.say(answer)
    told = refresh(endpoint)
    assert told.outcome is Outcome.TOKENS
    assert told.tokens is not None
    assert told.tokens.refresh_token == FIELDS["refresh_token"]


@pytest.mark.parametrize("sent", [HEAD % 5_000 + WHOLE, CHUNKS], ids=["of a length", "in chunks"])
def test_whole_tokens_are_taken_though_the_connection_then_hangs(
    server: Server, endpoint: TokenEndpoint, sent: bytes
) -> None:
    server.say(first(sent, Line.hang))
    assert bounded(endpoint).outcome is Outcome.TOKENS


HALF = b'{"access_token":"a","supportCode":"N1234567"}'


@pytest.mark.parametrize(
    ("status", "body"), [*((status, REFUSED) for status in (200, 400, 401, 403, 404, 429)), (200, HALF)]
)
def test_a_refusal_or_half_a_set_that_broke_off_proves_nothing(
    server: Server, endpoint: TokenEndpoint, status: int, body: bytes
) -> None:
    server.say(reply(status, body, length=len(body) + 10))
    assert refresh(endpoint).outcome is Outcome.IN_DOUBT


@pytest.mark.parametrize("status", [200, 403, 429])
@pytest.mark.parametrize("body", [b"", REFUSED])
def test_a_refusal_that_we_hung_up_on_ourselves_proves_nothing(
    server: Server, endpoint: TokenEndpoint, status: int, body: bytes
) -> None:
    # Without a length the end of the connection is the end of the body; but here it is our own hanging up.
    server.say(first(b"HTTP/1.1 %d Said\r\n\r\n%s" % (status, body), Line.hang))
    assert bounded(endpoint).outcome is Outcome.IN_DOUBT


ENDS = (Line.drop, Line.reset)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), status=st.sampled_from([200, 400, 401, 403, 404, 429, 500]), end=st.sampled_from(ENDS))
def test_wherever_an_answer_breaks_off_only_whole_tokens_or_a_whole_refusal_count(
    server: Server, endpoint: TokenEndpoint, data: st.DataObject, status: int, end: Callable[[Line], None]
) -> None:
    body = data.draw(st.sampled_from([WHOLE, REFUSED, b""]), "body")
    wire = b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body
    cut = data.draw(st.integers(0, len(wire)), "cut")
    server.say(first(wire[:cut], end) if cut else lambda line, _: end(line))
    answer = refresh(endpoint)
    # Of an answer without a body nothing is missing once its length, 0, is known.
    if cut < len(wire) - (0 if body else 4):
        assert answer.outcome is Outcome.IN_DOUBT
        assert answer.error in NO_ANSWER
    elif end is Line.drop:
        # After a reset, what had arrived may be lost.
        assert answer == classify(status, {}, body, connection_id="N1234567")


def test_a_refusal_in_chunks_counts_once_it_has_ended(server: Server, endpoint: TokenEndpoint) -> None:
    chunks = b"HTTP/1.1 400 Said\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(REFUSED), REFUSED)
    server.say(first(chunks + b"0\r\n\r\n", Line.drop), first(chunks, Line.drop))
    assert [refresh(endpoint).outcome for _ in range(2)] == [Outcome.REJECTED, Outcome.IN_DOUBT]


def flood(status: int, headers: bytes) -> Callable[[Line, Asked], None]:
    def answer(line: Line, _: Asked) -> None:
        line.send(b"HTTP/1.1 %d Said\r\nContent-Length: 1000000000\r\n%s\r\n" % (status, headers))
        while line.sent < 200_000_000 and line.send(b" " * 65_536):
            pass
        line.drop()

    return answer


@pytest.mark.parametrize(
    ("status", "headers"), [(200, b""), (400, b""), (500, b""), (302, b"Location: /elsewhere\r\n")]
)
def test_a_body_over_64_kb_is_doubt_and_not_read_to_its_end(
    server: Server, endpoint: TokenEndpoint, status: int, headers: bytes
) -> None:
    server.say(flood(status, headers))
    assert refresh(endpoint).outcome is Outcome.IN_DOUBT
    assert eventually(lambda: not server.lines[0].open)
    assert server.lines[0].sent < 50_000_000


def test_a_refusal_in_a_body_of_just_64_kb_counts_and_tokens_in_any(server: Server, endpoint: TokenEndpoint) -> None:
    server.say(*[reply(200, body.ljust(BODY_LIMIT + more)) for body in (WHOLE, REFUSED) for more in (0, 1)])
    assert [refresh(endpoint).outcome for _ in range(4)] == [
        Outcome.TOKENS,
        Outcome.TOKENS,
        Outcome.REJECTED,
        Outcome.IN_DOUBT,
    ]


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip"])
def test_a_compressed_bomb_is_doubt_and_never_unpacked(server: Server, endpoint: TokenEndpoint, encoding: str) -> None:
    bomb = gzip.compress(b" " * 100_000_000, 9)
    if "," in encoding:
        bomb = gzip.compress(bomb, 9)
    server.say(reply(200, bomb, f"Content-Encoding: {encoding}\r\n"))
    tracemalloc.start()
    try:
        assert refresh(endpoint).outcome is Outcome.IN_DOUBT
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000


def framed(head: bytes, body: bytes, begin: bytes = b"HTTP/1.1 400 Said") -> Callable[[Line, Asked], None]:
    """An answer whose head is as given, beside the true length of its body."""
    length = f"Content-Length: {len(body)}\r\n".encode() if b"Length" not in head and b"chunked" not in head else b""
    return first(begin + b"\r\n" + head + length + b"\r\n" + body, Line.drop)


def endlessly(data: bytes) -> Callable[[Line, Asked], None]:
    """The same again and again, for as long as anybody listens."""

    def answer(line: Line, _: Asked) -> None:
        while not line.ended.is_set() and line.send(data):
            pass

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        framed(b"".join(b"X-%d: 1\r\n" % number for number in range(200)), REFUSED),
        framed(b"X: " + b"a" * 100_000 + b"\r\n", REFUSED),
        endlessly(b"HTTP/1.1 400 Said\r\n" + b"X: 1\r\n" * 1_000),
        framed(b"Content-Length: 5\r\nContent-Length: 25\r\n", REFUSED),
        framed(b"Content-Length: -1\r\n", REFUSED),
        framed(b"Content-Length: " + b"9" * 5_000 + b"\r\n", REFUSED),
        framed(b"Transfer-Encoding: chunked\r\n", b"F" * 16 + b"\r\n" + REFUSED),
        framed(b"Transfer-Encoding: chunked\r\n", b"-5\r\n" + REFUSED),
        framed(b"Content-Encoding: " + b", ".join([b"gzip"] * 50) + b"\r\n", REFUSED),
        first(b"HTTP/1.0 400 Said\r\n\r\n" + REFUSED, Line.drop),
        framed(b"", REFUSED, b"HTTP/9.9 400 Said"),
        framed(b"", REFUSED, b"HTTP/1.1 99 Said"),
        framed(b"", WHOLE, b"HTTP/1.1 204 Said"),
        first(WHOLE, Line.drop),
    ],
)
def test_a_frame_that_no_server_should_send_is_doubt(
    server: Server, endpoint: TokenEndpoint, answer: Callable[[Line, Asked], None]
) -> None:
    server.say(answer)
    assert refresh(endpoint).outcome is Outcome.IN_DOUBT


def test_one_hung_exchange_does_not_disturb_those_beside_it(server: Server, endpoint: TokenEndpoint) -> None:
    def by_token(line: Line, asked: Asked) -> None:
        (hang if b"slow" in asked.body else reply(200, WHOLE))(line, asked)

    server.say(by_token)
    with ThreadPoolExecutor(6) as pool:
        slow = [pool.submit(refresh, endpoint, BUDGET, "slow") for _ in range(3)]
        quick = [refresh(endpoint).outcome for _ in range(20)]
    assert quick == [Outcome.TOKENS] * 20
    assert [call.result().outcome for call in slow] == [Outcome.IN_DOUBT] * 3


# Why there is no answer ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reset, "connection"),
        (drop, "connection"),
        (hang, "timeout"),
        (first(b"SSH-2.0-what\r\n\r\n", Line.drop), "connection"),
        (first(b"HTTP/1.1 400 Said\r\n\r\n" + REFUSED, Line.drop), "connection"),
        (reply(400, REFUSED, length=5_000), "connection"),
        (reply(400, REFUSED, "Content-Encoding: gzip\r\n"), "encoding"),
        (reply(400, REFUSED.ljust(BODY_LIMIT + 1)), "too_long"),
    ],
)
def test_doubt_says_why_there_is_no_whole_answer(
    server: Server, endpoint: TokenEndpoint, answer: Callable[[Line, Asked], None], error: str
) -> None:
    server.say(answer)
    said = bounded(endpoint)
    assert (said.outcome, said.error) == (Outcome.IN_DOUBT, error)
    assert error in NO_ANSWER


@UNVERIFIED
def test_what_was_not_sent_says_why(made: Callable[..., TokenEndpoint], certificates: Certificates) -> None:
    def error(url: str) -> str | None:
        answer = bounded(made(url))
        assert answer.outcome is Outcome.NOT_SENT
        assert answer.error in NO_ANSWER
        return answer.error

    assert error(f"http://127.0.0.1:{unused_port()}/token") == "connection"
    assert error("http://nowhere.invalid/token") == "connection"
    with Server(tls=Certificates.context(certificates.good)) as secured:
        assert error(secured.url("https")) == "tls"
    with Server(silent=True) as silent:
        assert error(silent.url("https")) == "timeout"
        assert silent.connections == 1


# Nothing secret ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, WHOLE),
        reply(400, REFUSED),
        reply(302, b"", "Location: https://x.invalid/?CANARY\r\n"),
        reply(302, b"", "Location: http://[/\r\n"),
        reset,
        drop,
        hang,
        first(b"CANARY\r\n\r\n", Line.drop),
        first(b"HTTP/1.1 200 OK\r\n{\r\n" + WHOLE, Line.drop),
        reply(200, b"x", "Content-Encoding: gzip\r\n"),
        reply(200, WHOLE, length=5_000),
    ],
)
def test_neither_tokens_nor_the_secret_reach_a_log_an_answer_or_an_excepthook(
    server: Server,
    endpoint: TokenEndpoint,
    answer: Callable[[Line, Asked], None],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    escaped: list[object] = []
    monkeypatch.setattr(threading, "excepthook", escaped.append)
    server.say(answer)
    with caplog.at_level(logging.DEBUG):
        said = bounded(endpoint)
    assert eventually(lambda: len(server.asked) == 1)
    output = capfd.readouterr()
    everything = f"{said!r} {said} {caplog.text} {output.out} {output.err}"
    for secret in (TOKEN, SECRET, FIELDS["access_token"], FIELDS["refresh_token"], "grant_type"):
        assert str(secret) not in everything
    assert any(record.name.startswith("urllib3") for record in caplog.records), "the canary's cage is open"
    assert escaped == []


@pytest.mark.parametrize("url", ["http://nowhere.invalid/token", "https://127.0.0.1:1/token"])
def test_nothing_secret_is_logged_of_what_was_not_sent(
    made: Callable[..., TokenEndpoint], url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert refresh(made(url)).outcome is Outcome.NOT_SENT
    output = capfd.readouterr()
    assert "CANARY" not in f"{caplog.text} {output.out} {output.err}"


def test_what_the_layer_leaves_out_is_not_missed() -> None:
    """`requests` warns, on each start of a process, that it cannot guess the character set of a text."""
    program = "import sys; sys.modules['charset_normalizer'] = sys.modules['chardet'] = None; "
    program += "import flowaccount_connect.oauth.token_endpoint"
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_an_address_that_swallows_everything_costs_a_part_of_the_time(
    server: Server, made: Callable[..., TokenEndpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as silent, socket.socket() as first, socket.socket() as second:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        for waiting in (first, second):  # Its queue is full: the kernel drops what comes now.
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", one)
            for one in (silent.getsockname(), ("127.0.0.1", server.port))
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        monkeypatch.setattr(token_endpoint, "CONNECT_TIMEOUT", 0.1)
        server.say(reply(200, WHOLE))
        assert refresh(made(server.url())).outcome is Outcome.TOKENS
