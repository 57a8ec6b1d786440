"""The client for httpx in an event loop: who waits for one connection keeps nobody else waiting."""

import asyncio
import json
import threading

import anyio.to_thread
import httpx

from flowaccount_connect_client import FlowAccountConnect
from flowaccount_connect_client.httpx_auth import FlowAccountAuth
from tests.unit.servers import Answer, Asked, Line, Server, reply


def given(connection: str) -> Answer:
    body = {"access_token": "a", "expires_in": 86_400, "support_code": connection, "status": "active", "generation": 1}
    return reply(200, json.dumps(body).encode())


def test_a_connection_that_waits_keeps_no_other_waiting(server: Server, other_server: Server) -> None:
    """Sixty requests wait for the stack; another connection has its token, and a thread of the app's runs."""
    held = threading.Event()

    def hang(line: Line, _: Asked) -> None:
        held.wait(20)
        line.drop()

    server.say(given("N1"), hang)
    other_server.say(reply(200, b"{}"))
    page = f"http://127.0.0.1:{other_server.port}/test/company/info"
    stack = FlowAccountConnect(f"http://127.0.0.1:{server.port}", patience=0)

    async def app() -> None:
        hosts = [f"http://127.0.0.1:{other_server.port}"]
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


def test_a_time_limit_of_the_apps_holds(server: Server, other_server: Server) -> None:
    held = threading.Event()

    def hang(line: Line, _: Asked) -> None:
        held.wait(20)
        line.drop()

    server.say(hang)
    stack = FlowAccountConnect(f"http://127.0.0.1:{server.port}", patience=0)
    auth = FlowAccountAuth("N1", client=stack, allowed_hosts=["http://127.0.0.1:9"])

    async def app() -> None:
        async with httpx.AsyncClient() as client:
            with anyio.move_on_after(0.2) as limit:
                await client.get("http://127.0.0.1:9/", auth=auth)
        assert limit.cancelled_caught
        assert not held.is_set()
        held.set()

    asyncio.run(app())
