"""The sessions that exchanges resume, against servers on loopback, in both versions of TLS.

A server counts how many handshakes resumed a session (`hits`).
"""

import json
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import certifi
import pytest

from flowaccount_connect.oauth import tls
from flowaccount_connect.oauth.token_answer import Answer, Outcome
from flowaccount_connect.oauth.token_endpoint import TokenEndpoint
from tests.unit.servers import Certificates, Server, reply

FIELDS = {"access_token": "A" * 43, "refresh_token": "R" * 43, "expires_in": 3_600}
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def context(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context of a process that trusts the certificates of these tests."""
    bundle = certificates.good.with_name("both.pem")
    bundle.write_bytes(certificates.good.read_bytes() + certificates.other_host.read_bytes())
    monkeypatch.setattr(certifi, "where", lambda: str(bundle))
    return tls.context.__wrapped__()


def exchange(server: Server, context: ssl.SSLContext, *, host: str = "127.0.0.1") -> Answer:
    """One refresh in a connection of its own."""
    endpoint = TokenEndpoint(server.url("https", host), "client", context=lambda: context)
    return endpoint.refresh("token", "secret", connection_id="N1", budget=10.0)


@contextmanager
def serving(tls_context: ssl.SSLContext) -> Iterator[Server]:
    """A server that has tokens for everybody."""
    with Server(tls=tls_context) as server:
        server.say(reply(200, json.dumps(FIELDS).encode()))
        yield server


@pytest.mark.parametrize("version", VERSIONS)
def test_an_exchange_resumes_the_session_of_an_earlier_one(
    context: ssl.SSLContext, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    offered = Certificates.context(certificates.good)
    offered.maximum_version = version
    with serving(offered) as server:
        for number in range(4):
            assert exchange(server, context).outcome is Outcome.TOKENS
            assert offered.session_stats()["hits"] == number
        assert server.connections == 4


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_proves_the_name_of_its_handshake_and_no_other(
    context: ssl.SSLContext, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    offered = Certificates.context(certificates.good)
    offered.maximum_version = version
    with serving(offered) as server:
        assert exchange(server, context).outcome is Outcome.TOKENS
        # The very same server would resume it. But its certificate is not that of this name.
        assert exchange(server, context, host="localhost").outcome is Outcome.NOT_SENT
        assert len(server.asked) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_that_does_not_know_a_session_has_to_prove_itself(
    context: ssl.SSLContext, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    known = Certificates.context(certificates.good)
    known.maximum_version = version
    with serving(known) as server:
        assert exchange(server, context).outcome is Outcome.TOKENS
        server.tls = Certificates.context(certificates.good)
        assert exchange(server, context).outcome is Outcome.TOKENS
        assert server.tls.session_stats()["hits"] == 0
        server.tls = Certificates.context(certificates.other_host)
        assert exchange(server, context).outcome is Outcome.NOT_SENT
        assert len(server.asked) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_a_handshake_that_failed_leaves_no_session(
    context: ssl.SSLContext, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    offered = Certificates.context(certificates.other_host)
    offered.maximum_version = version
    with serving(offered) as server:
        for _ in range(2):
            assert exchange(server, context).outcome is Outcome.NOT_SENT
        assert offered.session_stats()["hits"] == 0
        assert server.asked == []


def test_a_session_with_which_a_handshake_failed_is_not_used_again(
    context: ssl.SSLContext, certificates: Certificates
) -> None:
    with serving(Certificates.context(certificates.good)) as server:
        assert exchange(server, context).outcome is Outcome.TOKENS
        with serving(Certificates.context(certificates.other_host)) as broken:
            assert exchange(broken, context).outcome is Outcome.NOT_SENT
        assert exchange(server, context).outcome is Outcome.TOKENS
        assert server.tls is not None
        assert server.tls.session_stats()["hits"] == 0


def test_many_exchanges_at_once_resume_sessions_too(context: ssl.SSLContext, certificates: Certificates) -> None:
    offered = Certificates.context(certificates.good)
    with serving(offered) as server, ThreadPoolExecutor(16) as pool:
        for _ in range(6):
            answers = list(pool.map(lambda _: exchange(server, context).outcome, range(32)))
            assert answers == [Outcome.TOKENS] * 32
        # Each of the first round's sixteen threads may have had to begin without one.
        assert offered.session_stats()["hits"] >= 6 * 32 - 32
