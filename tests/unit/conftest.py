"""What all unit tests share: no network beyond loopback, an environment of no account, quick property tests."""

import json
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from flowaccount_connect_client import cache, signing
from tests.unit.servers import Certificates, Server, reply

if TYPE_CHECKING:
    # The service is imported where it is needed: the client's tests run on a Python that is too old for it.
    from tests.unit.handlers import Functions
    from tests.unit.worlds import World

os.environ |= {
    "AWS_ACCESS_KEY_ID": "unit",
    "AWS_SECRET_ACCESS_KEY": "unit",
    "AWS_DEFAULT_REGION": "ap-southeast-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}

settings.register_profile("unit", deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class NetworkBlocked(Exception):
    """A unit test tried to reach beyond this machine."""


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in _LOOPBACK:
            raise NetworkBlocked(address[0])
        connect(self, address)

    def guarded_resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in _LOOPBACK:
            # As a resolver says it of a name that does not exist.
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_resolve)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on loopback, which says nothing until it is told what to answer."""
    with Server() as running:
        yield running


@pytest.fixture
def other_server() -> Iterator[Server]:
    """Another server on loopback: the one that must see nothing."""
    with Server() as running:
        yield running


@pytest.fixture
def world() -> "World":
    """A stack in memory, to which nothing is connected."""
    from tests.unit.worlds import World

    return World()


@pytest.fixture
def functions(
    world: "World", server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> "Iterator[Functions]":
    """The functions of that stack, over a token endpoint on loopback that answers with tokens. They log no secret."""
    from tests.unit.handlers import SECRETS, TOKENS, Functions

    server.say(reply(200, json.dumps(TOKENS).encode()))
    made = Functions(world, monkeypatch, capsys)
    made.set(TOKEN_ENDPOINT=server.url())
    yield made
    made.close()
    logs = made.logs()
    assert [secret for secret in SECRETS if secret in logs] == []
    assert "No application metrics" not in logs


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for 127.0.0.1 and for another host, signed by themselves."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def _a_client_without_memories() -> Iterator[None]:
    """The Python client keeps tokens and a session for its whole process; each test is one of its own."""
    cache.forget()
    signing.forget()
    yield
    cache.forget()
    signing.forget()
