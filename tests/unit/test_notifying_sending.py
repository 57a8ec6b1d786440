"""One POST to somebody else's server: to the address that was judged, under the URL's name, by the deadline."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from flowaccount_connect.notifying import addresses, sending
from flowaccount_connect.notifying.sending import Answer, Sender
from flowaccount_connect.oauth import tls
from flowaccount_connect.oauth.tls import context
from tests.unit.servers import (
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

HEADERS = {"webhook-id": "id-1"}
BODY = b'{"a":1}'


def sender(*, loopback: bool = True, deadline: float = 5, trusted: Path | None = None, at: str = "") -> Sender:
    """A sender; `at` is the address that every name leads to."""
    resolver = (lambda *_: [at]) if at else addresses.resolve
    context = tls.context if trusted is None else (lambda: ssl.create_default_context(cafile=trusted))
    return Sender(loopback=loopback, deadline=deadline, resolver=resolver, context=context)


def test_what_is_sent_is_the_body_the_headers_and_nothing_else(server: Server) -> None:
    server.say(reply(204))
    assert sender().post(server.url(), HEADERS, BODY) == Answer(204)
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/test/token", BODY)
    assert asked.headers.pop("user-agent").startswith("flowaccount-connect/")
    assert asked.headers == {
        "host": f"127.0.0.1:{server.port}",
        "connection": "close",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": "7",
        "webhook-id": "id-1",
    }


def test_it_connects_to_the_address_that_was_judged_under_the_name_of_the_url(
    server: Server, other_server: Server
) -> None:
    server.say(reply(200))
    asked_for: list[tuple[str, int]] = []

    def resolver(host: str, port: int) -> list[str]:
        asked_for.append((host, port))
        return ["127.0.0.1"]

    made = Sender(loopback=True, resolver=resolver)
    # The name resolves to nothing for anybody but this resolver, so nobody else has been asked.
    answer = made.post(f"http://localhost:{server.port}/hook", {}, BODY)
    assert answer.is_taken
    assert asked_for == [("localhost", server.port)]
    assert server.asked[0].headers["host"] == f"localhost:{server.port}"
    assert other_server.connections == 0


def test_the_authorities_are_read_with_the_first_request_and_not_before(server: Server) -> None:
    read: list[str] = []

    def authorities() -> ssl.SSLContext:
        read.append("authorities")
        return tls.context()

    server.say(reply(200))
    made = Sender(loopback=True, context=authorities)
    assert read == []
    assert made.post(server.url(), {}, BODY).is_taken
    assert read == ["authorities"]


def test_the_certificate_must_be_the_names(certificates: Certificates) -> None:
    with Server(tls=Certificates.context(certificates.good)) as tls:
        tls.say(reply(200))
        good = sender(trusted=certificates.good)
        assert good.post(tls.url("https"), {}, BODY).is_taken
        # Another name that leads to the same server.
        named = sender(trusted=certificates.good, at="127.0.0.1")
        assert named.post(f"https://receiver.example:{tls.port}/", {}, BODY) == Answer(None, "tls")
        # An authority that nobody trusts.
        assert sender().post(tls.url("https"), {}, BODY) == Answer(None, "tls")
        assert context().check_hostname, "the process's context is as it was"
        assert len(tls.asked) == 1
    with Server(tls=Certificates.context(certificates.other_host)) as tls:
        tls.say(reply(200))
        named = sender(trusted=certificates.other_host, at="127.0.0.1")
        assert named.post(f"https://other.example:{tls.port}/", {}, BODY).is_taken
        assert tls.asked[0].headers["host"] == f"other.example:{tls.port}"


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:{port}/",
        "https://localhost:{port}/",
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "https://[::1]:{port}/",
    ],
)
def test_on_aws_this_machine_is_no_receiver(server: Server, url: str) -> None:
    server.say(reply(200))
    assert sender(loopback=False).post(url.format(port=server.port), {}, BODY) == Answer(None, "forbidden_address")
    assert server.connections == 0


@pytest.mark.parametrize(
    "host",
    [
        *("2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1", "127.1", "127.0.0.1.", "localhost."),
        *("0", "0.0.0.0", "[::]", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]"),  # noqa: S104
        *("169.254.169.254", "2852039166", "0xa9fea9fe", "[::ffff:169.254.169.254]", "[fd00:ec2::254]"),
        *("[64:ff9b::169.254.169.254]", "[64:ff9b:1::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "[fe80::1%25lo]"),
        *("10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "198.18.0.1", "224.0.0.1", "255.255.255.255"),
    ],
)
def test_no_spelling_of_an_inside_address_is_a_way_in(server: Server, host: str) -> None:
    server.say(reply(200))
    refused = {"forbidden_address", "no_address"}  # Not every resolver knows every spelling.
    answer = sender(loopback=False, deadline=2).post(f"https://{host}:{server.port}/", {}, BODY)
    assert (answer.status, answer.error in refused) == (None, True), answer
    assert server.connections == 0


@pytest.mark.parametrize(
    ("url", "error"),
    [
        (f"https://{'a' * 64}.example/", "no_address"),
        (f"https://{'a.' * 300}example/", "no_address"),
        (f"https://{'a' * 100_000}/", "no_address"),
        ("https://a..example/", "no_address"),
        ("https://.example/", "no_address"),
        ("https://ร้าน.example/", "forbidden_address"),
        ("https://xn--nothing-at-all-0.example/", "no_address"),
        ("https://ⓛocalhost/", "forbidden_address"),
        ("https://app.example@127.0.0.1/", "forbidden_address"),
        ("https://app.example\\@127.0.0.1/", "forbidden_address"),
        ("https://127.0.0.1:0/", "forbidden_address"),
        ("https://app.example:443:80/", "forbidden_address"),
        ("https://app.example/\r\nHost: inside", "forbidden_address"),
    ],
)
def test_an_odd_name_leads_nowhere(url: str, error: str) -> None:
    assert sender(loopback=False).post(url, {}, BODY) == Answer(None, error)


def test_a_name_that_leads_elsewhere_at_the_next_look_is_looked_up_once(server: Server) -> None:
    """DNS rebinding: public when it is judged, this machine when it is connected to."""
    answers = [["192.88.99.1"], ["127.0.0.1"]]
    made = Sender(loopback=False, deadline=0.5, resolver=lambda *_: answers.pop(0))
    assert not made.post(f"https://rebind.example:{server.port}/", {}, BODY).is_taken
    assert (len(answers), server.connections) == (1, 0)


def test_threads_that_one_server_keeps_are_bounded_and_another_has_its_own(
    server: Server, other_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "KEPT", 3)
    server.say(first(b"HTTP/1.1 200 OK\r\nX-A: ", dripping(b"b" * 60_000)))
    other_server.say(reply(200))
    made = sender(deadline=0.3)
    for _ in range(6):
        assert made.post(server.url(), {}, BODY) == Answer(None, "timeout")
    assert len(server.asked) == 3
    assert made.post(other_server.url(), {}, BODY).is_taken
    for line in server.lines:
        line.socket.close()
    server.say(reply(200))
    assert eventually(lambda: made.post(server.url(), {}, BODY).is_taken)


@pytest.mark.parametrize("address", ["169.254.169.254", "10.0.0.1", "fd00:ec2::254", "::ffff:127.0.0.1", "100.64.0.1"])
def test_a_name_that_leads_inside_is_refused_on_the_local_stack_too(address: str) -> None:
    assert sender(at=address).post("https://receiver.example/", {}, BODY) == Answer(None, "forbidden_address")


@pytest.mark.parametrize(
    "url",
    [
        "http://receiver.example/",
        "ftp://127.0.0.1/",
        "https://user:pass@127.0.0.1/",
        "https://",
        "https://127.0.0.1:99999/",
        "file:///etc/passwd",
        "",
    ],
)
def test_a_url_that_is_none_of_https_is_refused(url: str) -> None:
    assert sender().post(url, {}, BODY) == Answer(None, "forbidden_address")


def test_http_leads_to_this_machine_only() -> None:
    assert sender(at="8.8.8.8").post("http://localhost/", {}, BODY) == Answer(None, "forbidden_address")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(server: Server, other_server: Server, status: int) -> None:
    server.say(reply(status, headers=f"Location: {other_server.url()}\r\n"))
    answer = sender().post(server.url(), {}, BODY)
    assert (answer.status, answer.is_taken) == (status, False)
    assert (len(server.asked), other_server.connections) == (1, 0)


def test_no_proxy_of_the_environment_is_asked(
    server: Server, other_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, other_server.url())
    server.say(reply(200))
    assert sender().post(server.url(), {}, BODY).is_taken
    assert other_server.connections == 0


def drop_line(line: Line) -> None:
    """Close."""
    line.drop()


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (hang, Answer(None, "timeout")),
        (drop, Answer(None, "connection")),
        (reset, Answer(None, "connection")),
        (first(b"HTTP/1.1 200 OK\r\n", dripping(b"X-A: b\r\n" * 1_000)), Answer(None, "timeout")),
        (first(b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 100_000 + b"\r\n\r\n", drop_line), Answer(None, "connection")),
        (first(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 200 + b"\r\n", drop_line), Answer(None, "connection")),
        (
            first(b"HTTP/1.1 100 Continue\r\n\r\n" * 50, dripping(b"HTTP/1.1 100 Continue\r\n\r\n" * 200)),
            Answer(None, "timeout"),
        ),
        (first(b"HTTP/1.1 999 \xff\r\n\r\n", drop_line), Answer(999)),
        (first(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", dripping(b"0" * 1_000)), Answer(200)),
        (first(b"SSH-2.0-server\r\n", lambda line: line.drop()), Answer(None, "connection")),
        # The status is there; what comes after it is nobody's concern.
        (first(HEAD, dripping(b"x" * 10_000)), Answer(200)),
        (first(HEAD, lambda line: line.hang()), Answer(200)),
        (first(HEAD + b"x" * 1_000_000, lambda line: line.drop()), Answer(200)),
        (first(b"HTTP/1.1 204 No Content\r\n\r\n", lambda line: line.reset()), Answer(204)),
    ],
)
def test_whatever_a_server_does_it_is_over_by_the_deadline(
    server: Server, answer: Callable[..., None], expected: Answer
) -> None:
    server.say(answer)
    assert sender(deadline=1).post(server.url(), {}, BODY) == expected


def test_a_handshake_that_never_comes_is_over_by_the_deadline(certificates: Certificates) -> None:
    with Server(silent=True) as mute:
        made = sender(deadline=0.5, trusted=certificates.good)
        assert made.post(mute.url("https"), {}, BODY) == Answer(None, "timeout")


def test_nobody_there_and_no_name_are_told_apart() -> None:
    assert sender().post(f"http://127.0.0.1:{unused_port()}/", {}, BODY) == Answer(None, "connection")
    assert sender().post("https://nowhere.example/", {}, BODY) == Answer(None, "no_address")


@pytest.mark.parametrize(
    ("text", "seconds"), [("120", 120), ("999999999999", 3_600), ("-1", None), ("soon", None), ("", None), ("๑๒", None)]
)
def test_retry_after_is_heeded_up_to_an_hour(server: Server, text: str, seconds: int | None) -> None:
    server.say(reply(429, headers=f"Retry-After: {text.encode().decode('latin-1')}\r\n"))
    assert sender().post(server.url(), {}, BODY).retry_after == seconds
