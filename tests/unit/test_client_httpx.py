"""The client for httpx, sync and async: the same tokens, the same rules."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
import requests

from flowaccount_connect_client import FlowAccountAuth as RequestsAuth
from flowaccount_connect_client import FlowAccountConnect, HostNotAllowed, ReauthorizationRequired
from flowaccount_connect_client.httpx_auth import FlowAccountAuth
from tests.unit.clients import CONNECTION, carried, given, origin, refused
from tests.unit.servers import Asked, Line, Server, reply


@pytest.fixture
def stack(server: Server) -> Server:
    server.say(given(1), given(2))
    return server


@pytest.fixture
def books(other_server: Server) -> Server:
    other_server.say(reply(200, b"{}"))
    return other_server


def options(stack: Server, *books: Server) -> dict[str, Any]:
    return {"client": FlowAccountConnect(origin(stack), patience=0), "allowed_hosts": [*map(origin, books)]}


def page(books: Server) -> str:
    return f"{origin(books)}/test/company/info"


Send = Callable[..., httpx.Response]


def synchronously(method: str, url: str, **sent: Any) -> httpx.Response:
    with httpx.Client(trust_env=False, follow_redirects=True) as client:
        return client.request(method, url, **sent)


def asynchronously(method: str, url: str, **sent: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as client:
            return await client.request(method, url, **sent)

    return asyncio.run(run())


pytestmark = pytest.mark.parametrize("send", [synchronously, asynchronously])


def test_a_request_carries_the_token_that_requests_has_too(stack: Server, books: Server, send: Send) -> None:
    made = options(stack, books)
    assert send("GET", page(books), auth=FlowAccountAuth(CONNECTION, **made)).status_code == 200
    requests.get(page(books), auth=RequestsAuth(CONNECTION, **made), timeout=5)
    assert carried(books) == ["Bearer access-1"] * 2
    assert len(stack.asked) == 1


def test_after_a_401_the_token_is_reported_and_the_request_repeated_once(
    stack: Server, books: Server, send: Send
) -> None:
    books.say(reply(401))
    answer = send("POST", page(books), auth=FlowAccountAuth(CONNECTION, **options(stack, books)), json={"a": 1})
    assert answer.status_code == 401
    assert carried(books) == ["Bearer access-1", "Bearer access-2"]
    assert [json.loads(asked.body) for asked in books.asked] == [{"a": 1}] * 2
    assert json.loads(stack.asked[1].body) == {"rejected_generation": 1}


def test_where_nothing_can_be_done_flowaccounts_own_answer_stands(stack: Server, books: Server, send: Send) -> None:
    stack.say(given(1), refused(503, "refreshed_just_now"))
    books.say(reply(401, b"theirs"))
    assert send("GET", page(books), auth=FlowAccountAuth(CONNECTION, **options(stack, books))).content == b"theirs"
    assert len(books.asked) == 1


def test_a_connection_that_has_ended_is_an_error(stack: Server, books: Server, send: Send) -> None:
    stack.say(given(1), refused(409, "reauthorization_required", reason="rejected"))
    books.say(reply(401))
    with pytest.raises(ReauthorizationRequired) as caught:
        send("GET", page(books), auth=FlowAccountAuth(CONNECTION, **options(stack, books)))
    assert caught.value.reason == "rejected"


def test_a_body_that_can_be_read_once_is_not_sent_again(stack: Server, books: Server, send: Send) -> None:
    def once() -> Iterator[bytes]:
        yield b"once"

    async def once_later() -> AsyncIterator[bytes]:
        yield b"once"

    def taken(line: Line, asked: Asked) -> None:
        body = asked.body
        while not body.endswith(b"0\r\n\r\n"):
            body += line.socket.recv(65_536)
        reply(401)(line, asked)
        line.drop()

    books.say(taken)
    body = once() if send is synchronously else once_later()
    answer = send("POST", page(books), auth=FlowAccountAuth(CONNECTION, **options(stack, books)), content=body)
    assert answer.status_code == 401
    assert "Bearer access-2" not in carried(books)


def test_no_other_host_gets_a_token(stack: Server, books: Server, send: Send) -> None:
    with pytest.raises(HostNotAllowed, match=r"https://openapi\.flowaccount\.com"):
        send("GET", page(books), auth=FlowAccountAuth(CONNECTION, client=options(stack)["client"]))
    assert (stack.asked, books.asked) == ([], [])


def test_a_redirect_to_another_host_takes_no_token_with_it(stack: Server, books: Server, send: Send) -> None:
    with Server() as elsewhere:
        elsewhere.say(reply(401))
        books.say(reply(302, headers=f"Location: {page(elsewhere)}\r\n"))
        auth = FlowAccountAuth(CONNECTION, **options(stack, books, elsewhere))
        assert send("GET", page(books), auth=auth).status_code == 401
        assert carried(elsewhere) == [None]
    assert len(stack.asked) == 1


def test_its_repr_shows_no_token(stack: Server, books: Server, send: Send) -> None:
    auth = FlowAccountAuth(CONNECTION, **options(stack, books))
    send("GET", page(books), auth=auth)
    assert "access-" not in f"{auth!r} {auth.__dict__}"
