"""Faults: what reaches the client, what the ledger says was done, and what orders are refused."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import pytest
import requests

from tests.simulator.driver import Driver, form_of
from tests.unit.servers import eventually


def raw_refresh(sim: Driver, token: str) -> tuple[bytes, bool]:
    """Every byte of the answer to a refresh, and whether the connection ended with a reset."""
    body = urlencode(form_of(token))
    request = (
        "POST /test/token HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
    received = b""
    with sim.connection() as connection:
        connection.sendall(request.encode())
        try:
            while chunk := connection.recv(65_536):
                received += chunk
        except ConnectionResetError:
            return received, True
    return received, False


def lost_entry(sim: Driver) -> dict[str, Any]:
    """The entry of the refresh token issued last, after a fault: a sound client never got it.

    Its client may be back before the server has noted what became of the answer.
    """
    assert eventually(lambda: sim.ledger()[-1]["delivered"] is not None)
    return sim.ledger()[-1]


def test_a_lost_request_does_nothing(sim: Driver) -> None:
    token = sim.consent()
    sim.order("lose_request")
    assert raw_refresh(sim, token) == (b"", False)
    record = sim.last_request()
    assert (record["outcome"], record["status"], record["fault"]) == ("not processed", None, ["lose_request"])
    assert sim.ledger()[-1]["presented"] == 0
    assert sim.works(token)


def test_a_lost_answer_has_rotated_and_sends_no_byte(sim: Driver) -> None:
    token = sim.consent()
    sim.order("lose_answer")
    assert raw_refresh(sim, token) == (b"", False)
    assert sim.refresh(token) == {"error": "invalid_grant"}
    spent, lost = sim.ledger()
    assert (spent["outcome"], lost["delivered"], lost["works"]) == ("rotated", False, True)
    assert lost["issued_by"] == spent["fingerprint"]


def test_a_reset_has_rotated(sim: Driver) -> None:
    token = sim.consent()
    sim.order("reset")
    assert raw_refresh(sim, token) == (b"", True)
    assert lost_entry(sim)["delivered"] is False
    assert sim.refresh(token) == {"error": "invalid_grant"}


def test_a_truncated_answer_promises_more_than_it_sends(sim: Driver) -> None:
    sim.order("truncate")
    answer, _ = raw_refresh(sim, sim.consent())
    head, _, body = answer.partition(b"\r\n\r\n")
    (length,) = (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    assert len(body) == length // 2
    assert lost_entry(sim)["delivered"] is False


@pytest.mark.parametrize("processed", [False, True])
def test_a_status_comes_before_or_after_processing(sim: Driver, processed: bool) -> None:
    token = sim.consent()
    sim.order(
        "status",
        status=504,
        body={"message": "Endpoint request timed out"},
        headers={"X-Fault": "yes"},
        processed=processed,
    )
    answer = sim.answer(token)
    assert (answer.status_code, answer.headers["X-Fault"]) == (504, "yes")
    assert answer.json() == {"message": "Endpoint request timed out"}
    assert sim.works(token) is not processed
    if processed:
        assert sim.ledger()[1]["delivered"] is False


def test_a_body_may_have_bytes_that_are_no_text(sim: Driver) -> None:
    sim.order("status", status=200, body="caf\udce9")
    assert sim.answer(sim.consent()).content == b"caf\xe9"


@pytest.mark.parametrize(("content", "start"), [("html", b"<!doctype html>"), ("bytes", b"")])
def test_garbage_has_status_200(sim: Driver, content: str, start: bytes) -> None:
    sim.order("garbage", content=content, processed=True)
    answer = sim.answer(sim.consent())
    assert answer.status_code == 200
    assert answer.content.startswith(start)
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    assert lost_entry(sim)["delivered"] is False


def test_an_error_can_be_ordered_with_any_status(sim: Driver) -> None:
    token = sim.consent()
    sim.order("error", code="invalid_grant")
    assert sim.refresh(token) == {"error": "invalid_grant"}
    sim.order("error", code="server_error", status=500, processed=True)
    answer = sim.answer(token)
    assert (answer.status_code, answer.json()) == (500, {"error": "server_error"})
    assert sim.works(token) is False


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_delay_holds_the_answer(sim: Driver, when: str) -> None:
    token = sim.consent()
    sim.order("delay", seconds=0.4, when=when)
    with ThreadPoolExecutor(1) as pool:
        started = time.monotonic()
        slow = pool.submit(raw_refresh, sim, token)
        while not (record := sim.control("GET", "requests")["requests"]) and not slow.done():
            pass
        time.sleep(0.1)
        assert sim.ledger()[0]["presented"] == (1 if when == "after" else 0)
        assert record[0]["fault"] == ["delay"]
        assert b"200 OK" in slow.result()[0]
        assert time.monotonic() - started >= 0.4


def test_a_delay_and_another_fault_befall_one_request(sim: Driver) -> None:
    sim.order("delay", seconds=0)
    sim.order("lose_answer")
    assert raw_refresh(sim, sim.consent()) == (b"", False)
    assert sim.last_request()["fault"] == ["delay", "lose_answer"]


def test_a_drip_lets_every_byte_through_slowly(sim: Driver) -> None:
    sim.order("drip", seconds=0.001)
    started = time.monotonic()
    answer, _ = raw_refresh(sim, sim.consent())
    assert time.monotonic() - started >= 0.001 * len(answer)
    assert b'"refresh_token"' in answer
    assert lost_entry(sim)["delivered"] is True


def test_a_huge_answer_is_valid_and_over_64_kb(sim: Driver) -> None:
    sim.order("huge")
    answer = sim.answer(sim.consent())
    assert len(answer.content) > 65_536
    assert "refresh_token" in answer.json()


def test_the_wrong_business_is_only_in_the_answer(sim: Driver) -> None:
    sim.order("wrong_business", support_code="N42")
    assert sim.refresh(sim.consent())["supportCode"] == "N42"
    assert lost_entry(sim)["business"] == "N1000001"


def test_throttling_can_be_ordered(sim: Driver) -> None:
    token = sim.consent()
    sim.order("throttle", retry_after=7)
    answer = sim.answer(token)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert sim.works(token)


def test_orders_befall_what_they_name_and_count_down(sim: Driver) -> None:
    sim.order("status", status=500, times=2, grant_type="refresh_token")
    sim.order("status", "company", status=502)
    access_token = sim.exchange(sim.code())["access_token"]
    assert [sim.company(access_token).status_code for _ in range(2)] == [502, 200]
    statuses = [sim.answer("x").status_code for _ in range(3)]
    assert statuses == [500, 500, 200]
    assert sim.control("GET", "faults") == []


def test_an_order_can_wait_for_one_business(sim: Driver) -> None:
    one, two = sim.consent("N1"), sim.consent("N2")
    sim.order("error", code="invalid_grant", business="N2")
    assert sim.works(one)
    assert not sim.works(two)
    assert sim.works(two)


def test_the_authorize_endpoint_can_fail_too(sim: Driver) -> None:
    sim.order("status", "authorize", status=503, body="busy")
    assert sim.authorize().status_code == 503
    assert sim.authorize().status_code == 200


def test_orders_can_be_cleared(sim: Driver) -> None:
    sim.order("status", status=500, times=5)
    assert sim.control("GET", "faults")[0]["times"] == 5
    assert sim.control("DELETE", "faults") == []
    assert sim.token().status_code == 200


@pytest.mark.parametrize(
    ("order", "fix"),
    [
        ({"path": "nowhere", "fault": "reset"}, "'path' must be one of token, company, authorize"),
        ({"path": "token"}, "'fault' is missing"),
        ({"path": "token", "fault": "explode"}, "'fault' must be one of lose_request"),
        ({"path": "token", "fault": "reset", "times": 0}, "'times' must be a whole number from 1"),
        ({"path": "token", "fault": "reset", "times": True}, "'times'"),
        ({"path": "token", "fault": "reset", "processed": True}, "'reset' takes no options"),
        ({"path": "token", "fault": "delay"}, "'seconds' is missing"),
        ({"path": "token", "fault": "delay", "seconds": -1}, "'seconds' must be a number of seconds"),
        ({"path": "token", "fault": "delay", "seconds": 1, "when": "later"}, "'when' must be one of"),
        ({"path": "token", "fault": "status", "status": 100}, "'status' must be an HTTP status from 200"),
        ({"path": "token", "fault": "status", "status": 500, "headers": {"X": "a\r\nB: c"}}, "'headers'"),
        ({"path": "token", "fault": "status", "status": 500, "processed": 1}, "'processed' must be true"),
        ({"path": "token", "fault": "huge", "bytes": 10}, "'bytes' must be a whole number"),
        ({"path": "company", "fault": "error", "code": "x"}, "'error' is for the path 'token' only"),
        (
            {"path": "company", "fault": "reset", "grant_type": "refresh_token"},
            "'grant_type' is for the path",
        ),
        ({"path": "token", "fault": "throttle", "retry_after": -1}, "'retry_after' must be"),
        ("reset", "must be an object"),
    ],
)
def test_a_wrong_order_is_refused_with_the_fix(sim: Driver, order: Any, fix: str) -> None:
    good = {"path": "token", "fault": "reset"}
    answer = sim.control("POST", "faults", [good, order], status=400)
    assert answer["error"].startswith("Order 2: ")
    assert fix in answer["error"]
    assert sim.control("GET", "faults") == []
