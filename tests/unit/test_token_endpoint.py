"""The one POST, against servers on loopback that behave as badly as servers can.

Budgets are tiny; that a call returned at all, within the watchdog's time, is what is asserted of time.
"""

import gzip
import json
import logging
import socket
import ssl
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl

import certifi
import pytest

from flowaccount_connect import __version__
from flowaccount_connect.oauth import tls
from flowaccount_connect.oauth.token_answer import BODY_LIMIT, Answer, Outcome
from flowaccount_connect.oauth.token_endpoint import TokenEndpoint
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
def made() -> Iterator[Callable[..., TokenEndpoint]]:
    """Makes token endpoints, and closes them."""
    endpoints: list[TokenEndpoint] = []

    def make(url: str, trusted: Path | None = None) -> TokenEndpoint:
        context = tls.context if trusted is None else lambda: ssl.create_default_context(cafile=trusted)
        endpoints.append(TokenEndpoint(url, "client id&", context=context))
        return endpoints[-1]

    yield make
    for endpoint in endpoints:
        endpoint.close()


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
        "connection": "keep-alive",
    }


def test_a_code_goes_with_its_redirect_uri_byte_for_byte(server: Server, endpoint: TokenEndpoint) -> None:
    server.say(reply(200, WHOLE))
    uri = "https://api.example/live/callback?x=%2F&y=+"
    answer = endpoint.exchange_code("the-code", uri, SECRET, budget=AMPLE)
    assert answer.outcome is Outcome.TOKENS
    assert parse_qsl(server.asked[0].body.decode(), strict_parsing=True) == [
        ("grant_type", "authorization_code"),
        ("code", "the-code"),
        ("redirect_uri", uri),
        ("client_id", "client id&"),
        ("client_secret", SECRET),
    ]


def test_a_verifier_goes_with_its_code(server: Server, endpoint: TokenEndpoint) -> None:
    server.say(reply(200, WHOLE))
    endpoint.exchange_code("the-code", "https://api.example/cb", SECRET, budget=AMPLE, verifier="the-verifier")
    assert ("code_verifier", "the-verifier") in parse_qsl(server.asked[0].body.decode(), strict_parsing=True)


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
        endpoint.close()
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
    endpoint.close()
    assert (len(server.asked), server.connections) == (1, 1)


# Not sent ----------------------------------------------------------------------------------------------------------


def test_a_refused_port_is_not_sent(made: Callable[..., TokenEndpoint]) -> None:
    assert refresh(made(f"http://127.0.0.1:{unused_port()}/token")).outcome is Outcome.NOT_SENT


def test_a_host_without_an_address_is_not_sent(made: Callable[..., TokenEndpoint]) -> None:
    assert refresh(made("http://nowhere.invalid/token")).outcome is Outcome.NOT_SENT


def test_a_resolver_that_hangs_is_not_sent_within_the_budget_and_never_afterwards(
    server: Server, made: Callable[..., TokenEndpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve, resolved, go_on = socket.getaddrinfo, threading.Event(), threading.Event()

    def slow(*args: object, **kwargs: object) -> object:
        go_on.wait(WATCHDOG)
        try:
            return resolve(*args, **kwargs)  # type: ignore[arg-type]
        finally:
            resolved.set()

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    server.say(reply(200, WHOLE))
    assert bounded(made(server.url(host="localhost"))).outcome is Outcome.NOT_SENT
    go_on.set()
    assert resolved.wait(WATCHDOG)
    # It does connect now, but the exchange was given up: not a byte is written.
    assert eventually(lambda: bool(server.lines) and not server.lines[0].open)
    assert server.asked == []


# Were certificates not verified, urllib3's warning of it would be an error here, and hide just that.
UNVERIFIED = pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")


@UNVERIFIED
def test_a_certificate_nobody_vouches_for_is_not_sent(
    made: Callable[..., TokenEndpoint], certificates: Certificates
) -> None:
    with Server(tls=Certificates.context(certificates.good)) as server:
        server.say(reply(200, WHOLE))
        assert refresh(made(server.url("https"))).outcome is Outcome.NOT_SENT
        assert server.asked == []


@UNVERIFIED
def test_a_certificate_of_another_host_is_not_sent(
    made: Callable[..., TokenEndpoint], certificates: Certificates
) -> None:
    with Server(tls=Certificates.context(certificates.other_host)) as server:
        server.say(reply(200, WHOLE))
        assert refresh(made(server.url("https"), certificates.other_host)).outcome is Outcome.NOT_SENT
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
            endpoint.close()
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
        endpoint.close()


def test_certificates_and_names_are_verified_by_the_context_of_the_functions() -> None:
    context = tls.context()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_server_that_speaks_no_tls_is_not_sent(server: Server, made: Callable[..., TokenEndpoint]) -> None:
    server.say(reply(200, WHOLE))
    assert bounded(made(server.url("https"))).outcome is Outcome.NOT_SENT


def test_a_handshake_that_hangs_is_not_sent_within_the_budget(made: Callable[..., TokenEndpoint]) -> None:
    with Server(silent=True) as server:
        assert bounded(made(server.url("https"))).outcome is Outcome.NOT_SENT
        assert server.connections == 1


def test_a_thread_is_kept_for_the_next_exchange(server: Server, endpoint: TokenEndpoint) -> None:
    server.say(*[reply(200, WHOLE)] * 10)
    for _ in range(10):
        assert refresh(endpoint).outcome is Outcome.TOKENS
        # As many are idle as there are, so they were never more than one.
        assert eventually(lambda: len(endpoint._threads._idle) == 1)


def test_without_any_time_nothing_is_sent(server: Server, endpoint: TokenEndpoint) -> None:
    assert refresh(endpoint, 0.0).outcome in (Outcome.NOT_SENT, Outcome.IN_DOUBT)
    endpoint.close()
    # Whatever was said, it is true of what the server saw.
    said = refresh(endpoint, -1.0).outcome
    assert said in (Outcome.NOT_SENT, Outcome.IN_DOUBT)


# In time -----------------------------------------------------------------------------------------------------------


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        hang,
        first(b"", dripping(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000)),
        first(b"", dripping(b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000)),
        first(HEAD % 5_000, dripping(b" " * 5_000)),
        first(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", dripping(b"1\r\n \r\n" * 1_000)),
        first(HEAD % 5_000, Line.hang),
        first(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", dripping(b" " * 5_000)),
    ],
    ids=["no answer", "headers drip", "100 for ever", "body drips", "chunks drip", "no body", "redirect drips"],
)
def test_a_slow_answer_is_doubt_within_the_budget(
    server: Server, endpoint: TokenEndpoint, answer: Callable[[Line, Asked], None]
) -> None:
    server.say(answer)
    assert bounded(endpoint).outcome is Outcome.IN_DOUBT
    assert len(server.asked) == 1
    # The exchange has been hung up, too: nothing of it is left to arrive in the middle of a later one.
    assert eventually(lambda: not server.lines[0].open)


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


@pytest.mark.parametrize("interim", [b"102 Processing", b"103 Early Hints\r\nLink: </x>; rel=preload", b"199 Wait"])
def test_an_interim_answer_is_not_the_answer(server: Server, endpoint: TokenEndpoint, interim: bytes) -> None:
    def answer(line: Line, asked: Asked) -> None:
        line.send(b"HTTP/1.1 " + interim + b"\r\n\r\n")
        reply(200, answered_to(parse_qs(asked.body.decode())["refresh_token"][0]))(line, asked)

    server.say(answer, answer)
    for token in ("a", "b"):
        told = refresh(endpoint, token=token)
        assert told.tokens is not None
        assert told.tokens.access_token == f"for-{token}"
    assert server.connections == 1


@pytest.mark.parametrize("status", [101, 204, 304])
def test_what_follows_an_answer_without_a_body_is_nobodys(server: Server, endpoint: TokenEndpoint, status: int) -> None:
    went = threading.Event()

    def answer(line: Line, asked: Asked) -> None:
        # The body comes once nobody looks any more whether something has arrived on the idle connection.
        line.send(b"HTTP/1.1 %d Said\r\n\r\n" % status)
        went.wait(WATCHDOG)
        reply(200, answered_to("a"))(line, asked)

    server.say(answer, reply(200, answered_to("b")))
    assert refresh(endpoint, token="a").outcome is Outcome.IN_DOUBT
    went.set()
    told = refresh(endpoint, token="b")
    assert told.tokens is not None
    assert told.tokens.access_token == "for-b"
    assert server.connections == 2


# What broke off, and what is too much ------------------------------------------------------------------------------


def test_whole_tokens_before_a_broken_connection_are_tokens(server: Server, endpoint: TokenEndpoint) -> None:
    server.say(reply(200, WHOLE, length=len(WHOLE) + 100))
    answer = refresh(endpoint)
    assert answer.outcome is Outcome.TOKENS
    assert answer.tokens is not None
    assert answer.tokens.refresh_token == FIELDS["refresh_token"]


def test_whole_tokens_are_taken_though_the_connection_then_hangs(server: Server, endpoint: TokenEndpoint) -> None:
    server.say(first(HEAD % 5_000 + WHOLE, Line.hang))
    assert bounded(endpoint).outcome is Outcome.TOKENS


def test_whole_tokens_in_chunks_that_never_end_are_tokens(server: Server, endpoint: TokenEndpoint) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (WHOLE[:50], WHOLE[50:]))
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for end in (Line.hang, Line.drop, Line.reset):
        server.say(first(head + chunks, end))
        assert bounded(endpoint).outcome is Outcome.TOKENS


def test_tokens_that_broke_off_are_doubt(server: Server, endpoint: TokenEndpoint) -> None:
    for cut in (1, len(WHOLE) // 2, len(WHOLE) - 1):
        server.say(reply(200, WHOLE[:cut], length=len(WHOLE)))
        assert refresh(endpoint).outcome is Outcome.IN_DOUBT


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429])
def test_a_refusal_that_broke_off_proves_nothing(server: Server, endpoint: TokenEndpoint, status: int) -> None:
    server.say(reply(status, REFUSED, length=len(REFUSED) + 10))
    answer = refresh(endpoint)
    assert answer.outcome is Outcome.IN_DOUBT
    assert not answer.proves_unspent


@pytest.mark.parametrize("status", [200, 403, 429])
@pytest.mark.parametrize("body", [b"", REFUSED])
def test_a_refusal_that_we_hung_up_on_ourselves_proves_nothing(
    server: Server, endpoint: TokenEndpoint, status: int, body: bytes
) -> None:
    # Without a length the end of the connection is the end of the body; but here it is our own hanging up.
    server.say(first(b"HTTP/1.1 %d Said\r\n\r\n%s" % (status, body), Line.hang))
    assert bounded(endpoint).outcome is Outcome.IN_DOUBT


def test_half_tokens_that_broke_off_prove_nothing(server: Server, endpoint: TokenEndpoint) -> None:
    half = b'{"access_token":"a","supportCode":"N1234567"}'
    server.say(reply(200, half, length=len(half) + 10))
    assert refresh(endpoint).outcome is Outcome.IN_DOUBT


def flood(status: int, headers: bytes = b"") -> Callable[[Line, Asked], None]:
    def answer(line: Line, _: Asked) -> None:
        line.send(b"HTTP/1.1 %d Said\r\nContent-Length: 1000000000\r\n%s\r\n" % (status, headers))
        while line.sent < 200_000_000 and line.send(b" " * 65_536):
            pass
        line.drop()

    return answer


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_body_over_64_kb_is_doubt_and_not_read_to_its_end(
    server: Server, endpoint: TokenEndpoint, status: int
) -> None:
    server.say(flood(status))
    assert refresh(endpoint).outcome is Outcome.IN_DOUBT
    assert eventually(lambda: not server.lines[0].open)
    assert server.lines[0].sent < 50_000_000


def test_the_body_of_a_redirect_is_not_read_to_its_end_either(server: Server, endpoint: TokenEndpoint) -> None:
    server.say(flood(302, b"Location: /elsewhere\r\n"))
    assert refresh(endpoint).outcome is Outcome.IN_DOUBT
    assert eventually(lambda: not server.lines[0].open)
    assert server.lines[0].sent < 50_000_000


def test_tokens_in_a_body_of_just_64_kb_are_tokens(server: Server, endpoint: TokenEndpoint) -> None:
    server.say(reply(200, WHOLE.ljust(BODY_LIMIT)), reply(200, WHOLE.ljust(BODY_LIMIT + 1)))
    assert refresh(endpoint).outcome is Outcome.TOKENS
    assert refresh(endpoint).outcome is Outcome.IN_DOUBT


def test_a_compressed_answer_is_read_although_none_was_asked_for(server: Server, endpoint: TokenEndpoint) -> None:
    packed = gzip.compress(WHOLE)
    server.say(
        reply(200, packed, "Content-Encoding: gzip\r\n"),
        first(HEAD.replace(b"Type: application/json", b"Encoding: gzip") % len(packed), dripping(packed, 0.001)),
    )
    for _ in range(2):
        assert refresh(endpoint).outcome is Outcome.TOKENS


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


def test_what_claims_to_be_compressed_and_is_not_is_doubt(server: Server, endpoint: TokenEndpoint) -> None:
    server.say(reply(400, REFUSED, "Content-Encoding: gzip\r\n"))
    assert refresh(endpoint).outcome is Outcome.IN_DOUBT


# Connections that are kept alive -----------------------------------------------------------------------------------


def test_connections_are_kept_alive_within_an_invocation_and_none_after_it(
    server: Server, endpoint: TokenEndpoint
) -> None:
    server.say(reply(200, WHOLE))
    for _ in range(3):
        assert refresh(endpoint).outcome is Outcome.TOKENS
    assert server.connections == 1
    endpoint.close()
    assert eventually(lambda: not server.lines[0].open)
    assert refresh(endpoint).outcome is Outcome.TOKENS
    assert server.connections == 2


def test_a_connection_that_the_server_closed_meanwhile_costs_no_second_post(
    server: Server, endpoint: TokenEndpoint
) -> None:
    def answer_and_close(line: Line, asked: Asked) -> None:
        reply(200, WHOLE)(line, asked)
        line.drop()

    server.say(answer_and_close)
    for _ in range(3):
        assert refresh(endpoint).outcome is Outcome.TOKENS
        assert eventually(lambda: not server.lines[-1].open)
    assert len(server.asked) == 3


def test_a_reset_of_an_idle_connection_is_doubt_or_a_new_connection_but_one_post(
    server: Server, endpoint: TokenEndpoint
) -> None:
    server.say(reply(200, WHOLE), reset, reply(200, WHOLE))
    assert refresh(endpoint).outcome is Outcome.TOKENS
    assert refresh(endpoint).outcome is Outcome.IN_DOUBT
    assert len(server.asked) == 2


def test_the_end_of_one_exchange_never_breaks_into_another(server: Server, endpoint: TokenEndpoint) -> None:
    """A connection given back is somebody else's: whoever had it before must not hang it up."""
    slow = threading.Event()

    def wait_a_little(line: Line, asked: Asked) -> None:
        slow.wait(0.002)
        reply(200, WHOLE)(line, asked)

    server.say(wait_a_little)

    def many(_: int) -> list[Outcome]:
        return [endpoint.refresh(TOKEN, SECRET, connection_id="N1234567", budget=AMPLE).outcome for _ in range(40)]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.00001)
    try:
        with ThreadPoolExecutor(8) as pool:
            outcomes = [outcome for some in pool.map(many, range(8)) for outcome in some]
    finally:
        sys.setswitchinterval(interval)
    assert outcomes.count(Outcome.TOKENS) == 320
    assert len(server.asked) == 320


def test_one_hung_exchange_does_not_disturb_those_beside_it(server: Server, endpoint: TokenEndpoint) -> None:
    def by_token(line: Line, asked: Asked) -> None:
        (hang if b"slow" in asked.body else reply(200, WHOLE))(line, asked)

    server.say(by_token)
    with ThreadPoolExecutor(6) as pool:
        slow = [pool.submit(refresh, endpoint, BUDGET, "slow") for _ in range(3)]
        quick = [refresh(endpoint).outcome for _ in range(20)]
    assert quick == [Outcome.TOKENS] * 20
    assert [call.result().outcome for call in slow] == [Outcome.IN_DOUBT] * 3


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
