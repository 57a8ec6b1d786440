"""The client for httpx in an event loop: who waits for one connection keeps nobody else waiting."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio.to_thread
import httpx
import pytest

from flowaccount_connect_client import FlowAccountConnect
from flowaccount_connect_client.httpx_auth import FlowAccountAuth
from tests.unit.clients import given, origin
from tests.unit.servers import Answer, Asked, Line, Server, reply


def hanging(held: threading.Event) -> Answer:
    """No answer for as long as `held` is not set."""

    def hang(line: Line, _: Asked) -> None:
        held.wait(20)
        line.drop()

    return hang


def test_a_connection_that_waits_keeps_no_other_waiting(server: Server, other_server: Server) -> None:
    """Sixty requests wait for the stack; another connection has its token, and a thread of the app's runs."""
    held = threading.Event()
    server.say(given(support_code="N1"), hanging(held))
    other_server.say(reply(200, b"{}"))
    page = f"{origin(other_server)}/test/company/info"
    stack = FlowAccountConnect(origin(server), patience=0)

    async def app() -> None:
        hosts = [origin(other_server)]
        good, bad = (FlowAccountAuth(one, client=stack, allowed_hosts=hosts) for one in ("N1", "N2"))
        async with httpx.AsyncClient() as client:
            await client.get(page, auth=good)
            waiting = [asyncio.create_task(client.get(page, auth=bad)) for _ in range(60)]
            await asyncio.sleep(0.2)
            assert (await client.get(page, auth=good)).status_code == 200
            assert await anyio.to_thread.run_sync(lambda: "free") == "free"
            for one in waiting:
                one.cancel()
            # Who is cancelled goes on at once, though its thread still waits.
            await asyncio.wait(waiting, timeout=10)
            assert all(one.cancelled() for one in waiting)
            held.set()

    asyncio.run(app())


@pytest.mark.parametrize("before", [[], [given(support_code="N1")]], ids=["the token", "the report of a 401"])
def test_a_time_limit_of_the_apps_holds_whatever_the_stack_hangs_on(
    server: Server, other_server: Server, before: list[Answer]
) -> None:
    held = threading.Event()
    server.say(*before, hanging(held))
    other_server.say(reply(401))
    stack = FlowAccountConnect(origin(server), patience=0)
    auth = FlowAccountAuth("N1", client=stack, allowed_hosts=[origin(other_server)])

    async def app() -> None:
        async with httpx.AsyncClient() as client:
            with anyio.move_on_after(0.2) as limit:
                await client.get(origin(other_server), auth=auth)
        assert limit.cancelled_caught
        assert not held.is_set()
        held.set()

    asyncio.run(app())


def test_event_loops_in_several_threads_keep_each_other_from_nothing(server: Server, other_server: Server) -> None:
    release = threading.Event()

    def slowly(line: Line, asked: Asked) -> None:
        release.wait(10)
        given(1, support_code="N1")(line, asked)

    server.say(slowly)
    other_server.say(reply(200, b"{}"))
    stack = FlowAccountConnect(origin(server), patience=0)
    auth = FlowAccountAuth("N1", client=stack, allowed_hosts=[origin(other_server)])

    async def six() -> list[int]:
        async with httpx.AsyncClient(trust_env=False) as client:
            asking = asyncio.gather(*(client.get(f"{origin(other_server)}/", auth=auth) for _ in range(6)))
            await asyncio.sleep(0.05)
            release.set()
            return [answer.status_code for answer in await asyncio.wait_for(asking, 10)]

    with ThreadPoolExecutor(3) as pool:
        loops = [pool.submit(lambda: asyncio.run(six())) for _ in range(3)]
        assert [loop.result(20) for loop in loops] == [[200] * 6] * 3
