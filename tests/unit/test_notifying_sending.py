"""One POST to somebody else's server: to the address that was judged, under the URL's name, by the deadline."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from flowaccount_connect.notifying import addresses
from flowaccount_connect.notifying.sending import Answer, Sender
from flowaccount_connect.oauth import tls
from flowaccount_connect.oauth.tls import context
from tests.unit.servers import Certificates, Server, dripping, drop, first, hang, reply, reset, unused_port

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


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (hang, Answer(None, "timeout")),
        (drop, Answer(None, "connection")),
        (reset, Answer(None, "connection")),
        (first(b"HTTP/1.1 200 OK\r\n", dripping(b"X-A: b\r\n" * 1_000)), Answer(None, "timeout")),
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


def test_nobody_there_and_no_name_are_told_apart() -> None:
    assert sender().post(f"http://127.0.0.1:{unused_port()}/", {}, BODY) == Answer(None, "connection")
    assert sender().post("https://nowhere.example/", {}, BODY) == Answer(None, "no_address")


@pytest.mark.parametrize(
    ("text", "seconds"), [("120", 120), ("999999999999", 3_600), ("-1", None), ("soon", None), ("", None), ("๑๒", None)]
)
def test_retry_after_is_heeded_up_to_an_hour(server: Server, text: str, seconds: int | None) -> None:
    server.say(reply(429, headers=f"Retry-After: {text.encode().decode('latin-1')}\r\n"))
    assert sender().post(server.url(), {}, BODY).retry_after == seconds
