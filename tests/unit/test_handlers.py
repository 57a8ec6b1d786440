"""The functions with the events that API Gateway, SQS and Scheduler really send."""

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flowaccount_connect.domain.errors import InvalidSetting
from flowaccount_connect.domain.ids import fingerprint
from flowaccount_connect.http.pages import KINDS
from flowaccount_connect.rotation.canary import LONGEST
from flowaccount_connect.rotation.outcomes import Refresh, RefreshOutcome
from flowaccount_connect.rotation.permits import Kind
from flowaccount_connect.rotation.time_left import COMMIT_RESERVE, LONGEST_WRITE, SHORTEST_EXCHANGE
from flowaccount_connect.runtime import observability
from flowaccount_connect.storage.attempts import ConnectAttempt, cookie_name
from tests.unit.fakes import CONNECTION, Clock, Context
from tests.unit.handlers import (
    CLIENT_SECRET,
    RETURN_URL,
    TOKENS,
    Event,
    Functions,
    browser_of,
    event,
    page,
    problem,
    returning,
    sent,
    state_of,
    with_headers,
    with_query,
)
from tests.unit.servers import Answer, Server, drop, eventually, reply
from tests.unit.tables import Fault, client_error
from tests.unit.worlds import World


@pytest.fixture
def world() -> World:
    # The handlers keep the time themselves.
    return World(clock=Clock(now=float(int(time.time()))))


def begin(world: World, *, return_url: str | None = RETURN_URL, app_state: str | None = "app-7f3a") -> None:
    """The attempt that the sample callbacks come back to."""
    callback = event("callback")
    world.attempts.create(
        ConnectAttempt(
            id=fingerprint(state_of(callback)),
            binding=fingerprint(browser_of(callback)),
            redirect_uri="https://a1b2c3d4e5.execute-api.ap-southeast-1.amazonaws.com/live/callback",
            expires_at=int(world.clock()) + 600,
            return_url=return_url,
            app_state=app_state,
        )
    )


def where(answer: dict[str, Any]) -> str:
    """Where an answer of the callback leads the browser."""
    assert answer["statusCode"] == 303
    return str(answer["headers"]["Location"])


def metric(functions: Functions, name: str) -> bool:
    return f'"{name}":[' in functions.logs()


def batch_of(*messages: Mapping[str, object]) -> Event:
    """A batch of the refresh queue; the id of a message is its place."""
    batch = event("refresh-queue")
    batch["Records"] = [{"messageId": str(place), "body": json.dumps(one)} for place, one in enumerate(messages)]
    return batch


def outcomes(functions: Functions) -> list[str]:
    """How the refreshes ended that were logged, sorted."""
    return sorted(line["outcome"] for line in functions.lines() if line["message"] == "refresh")


def broken(*_: object, **__: object) -> Any:
    raise RuntimeError("CANARY in a message")


# authorize ---------------------------------------------------------------------------------------------------------


def test_authorize_sends_the_browser_to_flowaccount_and_binds_it(functions: Functions, world: World) -> None:
    answer = functions.call("authorize", event("authorize"))
    assert answer["statusCode"] == 302
    assert answer["headers"]["Cache-Control"] == "no-store"
    assert answer["headers"]["Referrer-Policy"] == "no-referrer"
    address = "https://sandbox-auth.flowaccount.com/connect/authorize"
    assert answer["headers"]["Location"].startswith(f"{address}?")
    fields = sent(answer)
    assert fields["redirect_uri"] == event("authorize")["stageVariables"]["callbackUrl"]
    (cookie,) = answer["multiValueHeaders"]["Set-Cookie"]
    assert cookie.startswith("__Host-")
    item = world.table.item("ATTEMPT", fingerprint(fields["state"]))
    assert (item["return_url"], item["app_state"]) == (RETURN_URL, "app-7f3a")
    for secret in (fields["state"], cookie.partition("=")[2].partition(";")[0]):
        assert secret not in functions.logs()


def test_authorize_needs_no_parameters(functions: Functions, world: World) -> None:
    bare = with_query(event("authorize"), return_url=None, state=None)
    assert functions.call("authorize", bare)["statusCode"] == 302
    assert len(world.table.items) == 1


def test_a_configured_redirect_uri_is_used_as_it_is_and_no_header_makes_one(functions: Functions) -> None:
    functions.set(REDIRECT_URI="https://registered.example/cb?x=1")
    spoofed = with_headers(event("authorize"), **{"Host": "evil.example", "X-Forwarded-Host": "evil.example"})
    assert sent(functions.call("authorize", spoofed))["redirect_uri"] == "https://registered.example/cb?x=1"


def test_no_header_makes_a_redirect_uri(functions: Functions, world: World) -> None:
    spoofed = with_headers(event("authorize"), **{"Host": "evil.example", "X-Forwarded-Host": "evil.example"})
    assert "evil" not in functions.call("authorize", spoofed)["headers"]["Location"]
    without = spoofed | {"stageVariables": None}
    assert page(functions.call("authorize", without)) == (503, "configuration_error")
    assert len(world.table.items) == 1
    assert "callbackUrl" in functions.logs()


BAD_QUERIES: list[tuple[dict[str, list[str]], str]] = [
    ({"return_url": [RETURN_URL, RETURN_URL]}, "repeated_parameter"),
    ({"state": ["a", "b"]}, "repeated_parameter"),
    ({"link": ["a", "b"]}, "repeated_parameter"),
    ({"state": ["x" * 2_049]}, "oversized_parameter"),
    ({"return_url": ["https://evil.example/"]}, "return_url_not_allowed"),
    ({"return_url": [RETURN_URL + "?a=b"]}, "return_url_not_allowed"),
    ({"state": ["x" * 513]}, "invalid_state"),
    ({"state": ["a\r\nSet-Cookie: b=c"]}, "invalid_state"),
    ({"link": ["unknown"]}, "unknown_link"),
]


@pytest.mark.parametrize(("query", "code"), BAD_QUERIES, ids=[f"{i} {code}" for i, (_, code) in enumerate(BAD_QUERIES)])
def test_bad_input_of_authorize_writes_nothing_and_is_a_problem_or_a_page_by_who_looks(
    functions: Functions, world: World, query: dict[str, list[str]], code: str
) -> None:
    bad = with_query(event("authorize"), **query)
    assert problem(functions.call("authorize", with_headers(bad, Accept="application/json"))) == (400, code)
    seen = functions.call("authorize", bad)
    assert page(seen) == (400, code if code in KINDS else "invalid_request")
    assert "evil" not in seen["body"]
    assert "multiValueHeaders" not in seen
    assert world.table.items == {}
    assert "evil" not in functions.logs()


@pytest.mark.parametrize("name", ["authorize", "callback", "token"])
@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"headers": None, "multiValueQueryStringParameters": None, "requestContext": None, "body": None},
        {"headers": [], "multiValueQueryStringParameters": [], "pathParameters": [], "stageVariables": []},
        {"headers": {"Accept": None, "Cookie": 7}, "multiValueQueryStringParameters": {"state": "x", "code": None}},
        {"queryStringParameters": {"state": None}, "requestContext": {"requestId": 7}, "body": {"a": 1}},
        {"httpMethod": "POST", "pathParameters": {"id": None}},
        {"multiValueQueryStringParameters": {"state": [None, 1]}, "httpMethod": 5},
    ],
)
def test_an_event_of_another_shape_is_answered(functions: Functions, name: str, odd: Event) -> None:
    answer = functions.call(name, odd)
    assert answer["statusCode"] in (302, 400, 503)
    assert "x-content-type-options" in {header.lower() for header in answer["headers"]}


# callback ----------------------------------------------------------------------------------------------------------


def test_a_whole_connect_ends_at_the_app_with_the_connection_and_its_state(
    functions: Functions, world: World, server: Server
) -> None:
    began = functions.call("authorize", event("authorize"))
    returned = returning(began)
    cookie = returned["headers"]["Cookie"]
    answer = functions.call("callback", with_headers(returned, Cookie=f"a=b; {cookie}; c=d"))
    assert where(answer) == f"{RETURN_URL}?connection={CONNECTION}&state=app-7f3a"
    form = dict(parse_qsl(server.asked[0].body.decode(), strict_parsing=True))
    assert form == {
        "grant_type": "authorization_code",
        "code": event("callback")["queryStringParameters"]["code"],
        "redirect_uri": sent(began)["redirect_uri"],
        "client_id": "client",
        "client_secret": CLIENT_SECRET,
    }
    assert world.opened() == ("access-CANARY-2", "refresh-CANARY-2")
    assert sent(began)["state"] not in functions.logs()


@given(st.integers(1, 10_240))
@example(2_100)
@example(10_240)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_code_is_sent_however_long_it_is(functions: Functions, world: World, server: Server, length: int) -> None:
    world.table.clear()
    begin(world)
    answer = functions.call("callback", with_query(event("callback"), code=["x" * length]))
    assert answer["statusCode"] == 303
    assert dict(parse_qsl(server.asked[-1].body.decode()))["code"] == "x" * length


def test_without_a_return_url_the_browser_sees_a_page(functions: Functions, world: World) -> None:
    begin(world, return_url=None)
    answer = functions.call("callback", event("callback"))
    assert page(answer) == (200, "connected")
    assert answer["headers"]["Content-Language"] == "th"


def test_a_return_url_that_is_no_longer_allowed_is_not_used(functions: Functions, world: World) -> None:
    begin(world, return_url="https://gone.example/done")
    assert page(functions.call("callback", event("callback"))) == (200, "connected")


def test_a_return_url_with_a_query_keeps_it(functions: Functions, world: World) -> None:
    begin(world, return_url="http://localhost:3000/done?from=settings", app_state="a&connection=N0#\u0e01")
    location = where(functions.call("callback", event("callback")))
    assert location.startswith("http://localhost:3000/done?from=settings&")
    assert parse_qsl(urlsplit(location).query) == [
        ("from", "settings"),
        ("connection", CONNECTION),
        ("state", "a&connection=N0#\u0e01"),
    ]


def test_a_cancel_goes_back_to_the_app_with_the_error_and_nothing_else(
    functions: Functions, world: World, server: Server
) -> None:
    begin(world)
    answer = functions.call("callback", event("callback-denied"))
    assert where(answer) == f"{RETURN_URL}?error=access_denied&state=app-7f3a"
    assert server.asked == []


def test_flowaccounts_own_words_are_not_handed_on(functions: Functions, world: World) -> None:
    begin(world)
    odd = with_query(event("callback-denied"), error=["<CANARY>&connection=N0"], error_description=["CANARY"])
    assert where(functions.call("callback", odd)) == f"{RETURN_URL}?error=authorization_failed&state=app-7f3a"


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (reply(200, b'{"error": "invalid_grant"}'), "code_rejected"),
        (reply(200, b'{"error": "invalid_client"}'), "configuration_error"),
        (reply(200, json.dumps(TOKENS | {"refresh_token": None}).encode()), "incomplete_grant"),
        (reply(200, json.dumps(TOKENS | {"supportCode": "../N1"}).encode()), "incomplete_grant"),
        (reply(502, b"{}"), "temporarily_unavailable"),
        (drop, "temporarily_unavailable"),
    ],
)
def test_every_other_ending_goes_back_to_the_app_too(
    functions: Functions, world: World, server: Server, said: Answer, error: str
) -> None:
    server.say(said)
    begin(world)
    answer = functions.call("callback", event("callback"))
    assert where(answer) == f"{RETURN_URL}?error={error}&state=app-7f3a"
    assert not [key for key in world.table.items if key[1] == "CONNECTION"]
    assert len(server.asked) == 1


def test_a_reload_sends_the_browser_the_same_way_and_exchanges_nothing(
    functions: Functions, world: World, server: Server
) -> None:
    begin(world)
    assert len({where(functions.call("callback", event("callback"))) for _ in range(3)}) == 1
    assert len(server.asked) == 1


BAD_CALLBACKS: list[dict[str, list[str] | None]] = [
    {"state": None},
    {"state": [""]},
    {"code": None},
    {"code": [""]},
    {"state": ["a", "b"]},
    {"code": ["a", "a"]},
    {"error": ["access_denied", "x"]},
    {"iss": ["a", "b"]},
    {"code": ["x" * 10_241]},
    {"state": ["x" * 2_049]},
]


@pytest.mark.parametrize("query", BAD_CALLBACKS, ids=range(len(BAD_CALLBACKS)))
def test_a_callback_that_is_not_whole_changes_nothing_and_sends_nothing(
    functions: Functions, world: World, server: Server, query: dict[str, list[str] | None]
) -> None:
    begin(world)
    before = repr(world.table.items)
    assert page(functions.call("callback", with_query(event("callback"), **query))) == (400, "invalid_request")
    assert repr(world.table.items) == before
    assert server.connections == 0


@pytest.mark.parametrize("cookie", [None, "", "theme=dark", f"{cookie_name(fingerprint('x'))}=y"])
def test_another_browser_gets_a_page_and_no_way_back(
    functions: Functions, world: World, server: Server, cookie: str | None
) -> None:
    begin(world)
    before = repr(world.table.items)
    foreign = with_headers(event("callback"), Cookie=cookie)
    assert page(functions.call("callback", foreign)) == (400, "attempt_unknown")
    assert repr(world.table.items) == before
    assert server.connections == 0


@pytest.mark.parametrize("text", ["not json CANARY", '{"secret": "CANARY"}', '{"client_secret": ""}', None])
def test_a_stack_without_a_usable_secret_says_so_on_a_page_and_touches_nothing(
    functions: Functions, world: World, server: Server, text: str | None
) -> None:
    begin(world)
    world.secrets.text = text
    before = repr(world.table.items)
    assert page(functions.call("callback", event("callback"))) == (503, "configuration_error")
    assert repr(world.table.items) == before
    assert server.connections == 0
    assert "client_secret" in functions.logs()


# sweep -------------------------------------------------------------------------------------------------------------


def test_a_tick_dispatches_what_is_due_and_says_so(functions: Functions, world: World) -> None:
    world.connect()
    said = functions.call("sweep", event("sweep"))
    assert (said["due"], said["dispatched"], said["complete"]) == (1, 1, True)
    assert json.loads(world.sqs.sent[0]["MessageBody"]) == {"connection_id": CONNECTION}
    assert metric(functions, "SoonestDeadline")
    json.dumps(said)


def test_a_tick_with_nothing_to_do_ends_well_and_writes_no_metric(functions: Functions) -> None:
    assert functions.call("sweep", event("sweep"))["due"] == 0
    # Each metric is paid for by the hours in which it is there.
    assert not metric(functions, "AtRisk")
    assert not metric(functions, "SoonestDeadline")
    assert not metric(functions, "CapacityUsed")


def test_what_waits_is_not_told_where_the_queue_does_not_say_it(
    functions: Functions, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.sqs, "get_queue_attributes", None)
    with pytest.raises(Exception, match="did not see all that is due"):
        functions.call("sweep", event("sweep"))
    (line,) = [line for line in functions.lines() if line["message"] == "tick"]
    assert "waiting" not in line


def test_a_stack_that_holds_more_than_it_should_says_so(functions: Functions, world: World) -> None:
    functions.set(REFRESHES_PER_MINUTE="1")
    count = {"pk": {"S": "COUNT"}, "sk": {"S": "connections"}, "active": {"N": "244"}}
    world.table.model.put_item(TableName="table", Item=count)
    assert functions.call("sweep", event("sweep"))["capacity"] == 348
    assert metric(functions, "CapacityUsed")
    (line,) = [line for line in functions.lines() if line["level"] == "WARNING"]
    assert line["message"].startswith("at this rate and interval the stack can keep 348 connections alive")
    assert line["message"].endswith("it has 244")


# refresh -----------------------------------------------------------------------------------------------------------


def test_a_batch_of_the_queue_is_refreshed(functions: Functions, world: World, server: Server) -> None:
    world.connect()
    assert functions.call("refresh", event("refresh-queue")) == {"batchItemFailures": []}
    assert world.opened() == ("access-CANARY-2", "refresh-CANARY-2")
    assert len(server.asked) == 1
    ended = {line["connection_id"]: line["outcome"] for line in functions.lines() if line["message"] == "refresh"}
    assert ended == {CONNECTION: "refreshed", "N7654321": "unknown"}
    assert "_aws" not in functions.logs(), "while all is well no metric is written"


def test_duplicates_in_a_batch_lead_to_one_post(functions: Functions, world: World, server: Server) -> None:
    world.connect()
    functions.call("refresh", batch_of(*[{"connection_id": CONNECTION}] * 10))
    assert len(server.asked) == 1
    assert world.connection().generation == 2


def test_a_batch_takes_its_slots_in_one_write_and_what_gets_none_is_left_for_the_next_tick(
    functions: Functions, world: World, server: Server
) -> None:
    functions.set(REFRESHES_PER_MINUTE="1")
    world.connect()
    world.table.calls.clear()
    batch = batch_of(*({"connection_id": name} for name in (CONNECTION, *(f"N{i}" for i in range(20)))))
    assert functions.call("refresh", batch) == {"batchItemFailures": []}
    assert len(server.asked) == 1
    assert outcomes(functions) == ["paced"] * 20 + ["refreshed"]
    # The slots, the claim, the commit: for what got no slot, nothing was written.
    assert world.table.calls.count("update_item") == 3


def test_what_dies_unless_it_is_refreshed_gets_its_slot_first(functions: Functions, world: World) -> None:
    functions.set(REFRESHES_PER_MINUTE="1")
    world.connect()
    # It was sent before it came into its last hour, and again in it.
    early, urgent = {"connection_id": CONNECTION}, {"connection_id": CONNECTION, "urgent": True}
    functions.call("refresh", batch_of({"connection_id": "N1"}, early, urgent))
    assert world.connection().generation == 2


def test_what_dies_unless_it_is_refreshed_gets_its_thread_first(functions: Functions, world: World) -> None:
    module: Any = functions.module("refresh")
    module._workers = ThreadPoolExecutor(1)
    world.connect()
    functions.call("refresh", batch_of({"connection_id": "N1"}, {"connection_id": CONNECTION, "urgent": True}))
    asked = [line["connection_id"] for line in functions.lines() if line["message"] == "refresh"]
    assert asked == [CONNECTION, "N1"]


def test_without_the_pace_a_batch_is_delivered_again_and_nothing_is_sent(
    functions: Functions, world: World, server: Server
) -> None:
    world.connect()
    batch = event("refresh-queue")
    world.table.faults["update_item"] = [Fault(client_error("InternalServerError"))]
    failures = functions.call("refresh", batch)["batchItemFailures"]
    assert failures == [{"itemIdentifier": record["messageId"]} for record in batch["Records"]]
    assert server.asked == []


def test_short_of_time_a_batch_starts_nothing(functions: Functions, world: World, server: Server) -> None:
    world.connect()
    world.table.calls.clear()
    assert functions.call("refresh", event("refresh-queue"), seconds=16.9) == {"batchItemFailures": []}
    assert server.asked == []
    assert world.table.calls == ["get_item", "update_item"]  # The endpoint's health, and the slots.
    assert set(outcomes(functions)) == {"no_time"}


def test_the_same_message_in_batches_at_the_same_time_leads_to_one_post(
    functions: Functions, world: World, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.connect()
    functions.module("refresh")
    # A process of Lambda's runs one invocation at a time, and its metrics count on that.
    monkeypatch.setattr(observability.metrics, "add_metric", lambda *_: None)
    with ThreadPoolExecutor(6) as pool:
        answers = pool.map(lambda _: functions.call("refresh", event("refresh-queue")), range(6))
    assert list(answers) == [{"batchItemFailures": []}] * 6
    assert len(server.asked) == 1
    assert world.connection().generation == 2


def test_a_dead_letter_that_is_driven_back_is_harmless(functions: Functions, world: World, server: Server) -> None:
    world.connect()
    for _ in range(2):
        assert functions.call("refresh", event("refresh-queue")) == {"batchItemFailures": []}
    assert (len(server.asked), world.connection().generation) == (1, 2)


def test_every_refresh_of_a_batch_is_counted(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Refresh(outcome=RefreshOutcome.NOT_SENT, connection_id=CONNECTION)
    monkeypatch.setattr(type(functions.module("refresh")._rotation), "refresh", lambda *_, **__: ended)
    functions.call("refresh", batch_of(*({"connection_id": f"N{i}"} for i in range(10))))
    printed = [json.loads(line) for line in functions.logs().splitlines() if line.startswith('{"_aws"')]
    assert sum(len(line.get("Unanswered", [])) for line in printed) == 10


def test_only_what_met_an_unreachable_table_is_delivered_again(functions: Functions, world: World) -> None:
    # The pace is kept, the claim is not acknowledged.
    world.table.on_call = lambda operation: world.table.faults[operation].extend(
        [Fault(client_error("InternalServerError"))] * (world.table.calls.count("update_item") == 1)
    )
    # With too little time to write it again.
    batch, seconds = batch_of({"connection_id": CONNECTION}), SHORTEST_EXCHANGE + COMMIT_RESERVE + 0.05
    assert functions.call("refresh", batch, seconds=seconds) == {"batchItemFailures": [{"itemIdentifier": "0"}]}


@pytest.mark.parametrize(
    "body",
    ["", "CANARY", "null", "[]", "7", "{}", '{"connection_id": null}', '{"connection_id": "../CANARY"}', "[" * 100_000],
)
def test_a_message_that_is_none_of_ours_is_dropped_unquoted_and_the_others_are_refreshed(
    functions: Functions, world: World, server: Server, body: str
) -> None:
    world.connect()
    batch = event("refresh-queue")
    batch["Records"][1] |= {"body": body}
    assert functions.call("refresh", batch) == {"batchItemFailures": []}
    assert len(server.asked) == 1
    assert any(line["message"] == "not a message of the refresh queue" for line in functions.lines())


def test_an_unexpected_fault_in_a_batch_is_delivered_again_and_its_message_is_not_logged(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = functions.module("refresh")
    monkeypatch.setattr(type(module._rotation), "refresh", broken)
    failures = functions.call("refresh", event("refresh-queue"))["batchItemFailures"]
    assert len(failures) == 2
    assert functions.call("refresh", event("refresh-on-demand"))["error"] == "internal_error"


def test_on_demand_what_is_of_the_generation_seen_is_refreshed(functions: Functions, world: World) -> None:
    world.connect(age=100)
    said = functions.call("refresh", event("refresh-on-demand") | {"generation": 1})
    assert said == {"outcome": "refreshed", "connection_id": CONNECTION, "generation": 2}
    again = functions.call("refresh", event("refresh-on-demand") | {"generation": 1})
    assert (again["outcome"], again["generation"]) == ("superseded", 2)


def test_on_demand_without_a_generation_only_what_is_due_is_refreshed(functions: Functions, world: World) -> None:
    world.connect(age=100)
    assert functions.call("refresh", {"connection_id": CONNECTION})["outcome"] == "not_due"


@pytest.mark.parametrize(
    ("odd", "error"),
    [
        ({}, "invalid_connection_id"),
        ({"connection_id": None}, "invalid_connection_id"),
        ({"connection_id": 7}, "invalid_connection_id"),
        ({"connection_id": ["N1"]}, "invalid_connection_id"),
        ({"connection_id": "../CANARY"}, "invalid_connection_id"),
        ({"connection_id": "N1\n"}, "invalid_connection_id"),
        ({"connection_id": "N1", "generation": "1"}, "invalid_generation"),
        ({"connection_id": "N1", "generation": 1.0}, "invalid_generation"),
        ({"connection_id": "N1", "generation": True}, "invalid_generation"),
        ({"connection_id": "N1", "generation": [1]}, "invalid_generation"),
    ],
)
def test_an_invocation_with_wrong_types_is_told_what_is_wrong(
    functions: Functions, world: World, odd: Event, error: str
) -> None:
    said = functions.call("refresh", odd)
    assert said["error"] == error
    assert said["detail"]
    assert world.table.calls == []


def test_on_demand_what_finds_no_slot_is_told_when_to_come_again(
    functions: Functions, world: World, server: Server
) -> None:
    functions.set(REFRESHES_PER_MINUTE="1")
    world.connect()
    first = event("refresh-on-demand") | {"generation": 1}
    assert functions.call("refresh", first)["outcome"] == "refreshed"
    said = functions.call("refresh", event("refresh-on-demand") | {"generation": 2})
    assert said["outcome"] == "paced"
    assert 50 <= said["retry_after"] <= 2 * 62
    assert len(server.asked) == 1


def test_on_demand_an_unreachable_table_is_told(functions: Functions, world: World) -> None:
    world.table.faults["update_item"] = [Fault(client_error("InternalServerError"))]
    assert functions.call("refresh", event("refresh-on-demand"), seconds=10)["error"] == "store_unavailable"


def test_a_configuration_error_is_logged_as_an_error_and_blames_no_connection(
    functions: Functions, world: World, server: Server
) -> None:
    server.say(reply(401, b'{"error":"invalid_client"}'))
    world.connect()
    functions.call("refresh", event("refresh-queue"))
    assert any(line["level"] == "ERROR" and line.get("outcome") == "configuration_error" for line in functions.lines())
    assert world.connection().status.value == "active"


def unwell(world: World, cause: str) -> None:
    """The endpoint has been unwell for a moment, and it is time for a canary."""
    state = {"unwell_since": {"N": str(int(time.time()) - 1)}, "cause": {"S": cause}}
    key = {"pk": {"S": "HEALTH"}, "sk": {"S": "token-endpoint"}}
    world.table.quiet().put_item(TableName="table", Item=key | state)


def test_an_import_has_the_slots_of_imports_however_near_its_assumed_deadline(functions: Functions) -> None:
    batch = batch_of({"connection_id": CONNECTION, "import": True, "urgent": True})
    (message,) = functions.module("refresh")._messages(batch["Records"])
    assert message.kind is Kind.IMPORT


def test_while_the_endpoint_is_unwell_a_batch_sends_one_canary_and_what_is_urgent(
    functions: Functions, world: World, server: Server
) -> None:
    server.say(reply(401, b'{"error":"invalid_client"}'))
    world.connect()
    unwell(world, "configuration")
    others = [{"connection_id": f"N{i}"} for i in range(5)]
    batch = batch_of(*others, {"connection_id": CONNECTION, "urgent": True})
    assert functions.call("refresh", batch) == {"batchItemFailures": []}
    assert outcomes(functions) == ["configuration_error"] + ["unwell"] * 5
    tokens = [dict(parse_qsl(asked.body.decode()))["refresh_token"] for asked in server.asked]
    assert len(tokens) == 2
    assert "refresh-1" in tokens
    assert metric(functions, "Unwell")


def test_while_the_endpoint_is_unwell_nobody_begins_a_test_that_the_invocation_does_not_outlast(
    functions: Functions, world: World, server: Server
) -> None:
    world.connect()
    unwell(world, "configuration")
    functions.call("refresh", event("refresh-queue"), seconds=LONGEST + LONGEST_WRITE - 1)
    assert server.asked == []
    assert set(outcomes(functions)) == {"no_time"}


def test_a_change_of_the_endpoints_health_is_one_line_with_its_cause(
    functions: Functions, world: World, server: Server
) -> None:
    server.say(reply(400, b'{"error":"invalid_grant"}'))
    unwell(world, "configuration")
    functions.call("refresh", event("refresh-queue"))
    (line,) = [line for line in functions.lines() if line["message"] == "the token endpoint is well again"]
    assert line["cause"] == "configuration"
    assert not any(line["message"] == "the token endpoint is unwell" for line in functions.lines())


def test_an_operator_can_have_one_canary_sent_and_hears_what_it_shows(
    functions: Functions, world: World, server: Server
) -> None:
    server.say(reply(400, b'{"error":"invalid_grant"}'), reply(401, b'{"error":"invalid_client"}'))
    world.connect()
    known = {"sign": "well", "error": "invalid_grant", "detail": None}
    assert functions.call("refresh", {"canary": True}) == known
    unknown = {"sign": "configuration", "error": "invalid_client", "detail": None}
    assert functions.call("refresh", {"canary": True}) == unknown
    forms = [dict(parse_qsl(asked.body.decode())) for asked in server.asked]
    assert [form["grant_type"] for form in forms] == ["refresh_token"] * 2
    assert "refresh-1" not in [form["refresh_token"] for form in forms]
    assert world.connection().generation == 1
    world.secrets.text = "{}"
    functions.forget("refresh")
    incomplete = functions.call("refresh", {"canary": True})
    assert (incomplete["sign"], incomplete["error"]) == ("nothing", "secret_misconfigured")
    assert len(server.asked) == 2


# salvage -----------------------------------------------------------------------------------------------------------


def test_a_batch_of_pending_commits_is_applied_and_a_repeat_changes_nothing(functions: Functions, world: World) -> None:
    batch = event("salvage-queue")
    message = json.loads(batch["Records"][0]["body"])
    world.connect()
    world.change(generation=message["generation"], grant_id=message["grant_id"])
    for _ in range(2):
        assert functions.call("salvage", batch) == {"batchItemFailures": []}
    assert world.table.item("CONNECTION", CONNECTION)["committed_by"] == message["attempt_id"]
    assert world.table.item("CONNECTION", "N7654321")["generation"] == 1
    outcomes = [line["outcome"] for line in functions.lines() if line["message"] == "salvage"]
    assert outcomes == ["applied", "applied", "applied_before", "applied_before"]


def test_what_cannot_be_applied_yet_or_read_at_all_ends_as_a_dead_letter(functions: Functions, world: World) -> None:
    batch = event("salvage-queue")
    first, second = batch["Records"]
    batch["Records"] = [first, first | {"messageId": "odd", "body": "CANARY"}, {"messageId": "bare"}, second]
    world.table.faults["update_item"] = [Fault(client_error("InternalServerError"))]
    failures = functions.call("salvage", batch)["batchItemFailures"]
    assert [failure["itemIdentifier"] for failure in failures] == [first["messageId"], "odd", "bare"]
    assert world.table.item("CONNECTION", "N7654321")["generation"] == 1


def test_what_salvage_has_no_time_for_comes_again_and_the_rest_is_done(
    functions: Functions, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, applied = event("salvage-queue"), []
    _, second = batch["Records"]
    module = functions.module("salvage")
    apply = module._commits.apply

    def slowly(*given: Any, **more: Any) -> Any:
        applied.append(given)
        return apply(*given, **more)

    monkeypatch.setattr(module, "_commits", SimpleNamespace(apply=slowly))
    left = iter([20_000, 7_000])
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: next(left), aws_request_id="r")
    assert module.handler(batch, context) == {"batchItemFailures": [{"itemIdentifier": second["messageId"]}]}
    assert len(applied) == 1


# token -------------------------------------------------------------------------------------------------------------


def test_a_service_gets_a_token_with_everything_it_needs(functions: Functions, world: World) -> None:
    world.connect(age=100)
    answer = functions.call("token", event("token"))
    assert answer["statusCode"] == 200
    assert answer["headers"] == {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "Strict-Transport-Security": "max-age=63072000",
        "X-Content-Type-Options": "nosniff",
    }
    body = json.loads(answer["body"])
    assert abs(body.pop("expires_in") - 86_300) <= 3
    assert body == {
        "access_token": "access-1",
        "token_type": "Bearer",
        "expires_at": int(world.clock()) - 100 + 86_400,
        "support_code": CONNECTION,
        "environment": "sandbox",
        "generation": 1,
        "status": "active",
    }


def test_min_ttl_of_the_sample_is_honoured(functions: Functions, world: World) -> None:
    world.connect(age=100, lifetime=650)
    assert functions.call("token", event("token"))["statusCode"] == 200
    assert len(world.lambdas.invoked) == 1
    functions.call("token", with_query(event("token"), min_ttl=None))
    assert len(world.lambdas.invoked) == 1


@pytest.mark.parametrize("value", ["-1", "3601", "99999", "1.5", "1e3", "abc", " 5", "+5", "\u0663", "0x10"])
def test_a_min_ttl_out_of_bounds_is_refused(functions: Functions, world: World, value: str) -> None:
    answer = functions.call("token", with_query(event("token"), min_ttl=[value]))
    assert problem(answer) == (400, "invalid_min_ttl")
    assert world.table.calls == []


@pytest.mark.parametrize("value", ["0", "3600", "300", ""])
def test_a_min_ttl_within_bounds_is_taken(functions: Functions, world: World, value: str) -> None:
    world.connect(age=100)
    assert functions.call("token", with_query(event("token"), min_ttl=[value]))["statusCode"] == 200


def test_a_rejected_generation_is_refreshed_and_only_that(functions: Functions, world: World) -> None:
    world.connect(age=100)
    world.lambdas.act = world.rotated_by_another
    assert json.loads(functions.call("token", event("token-rejected"))["body"])["generation"] == 1
    assert world.lambdas.invoked == []
    posted = event("token-rejected") | {"body": '{"rejected_generation": 1}'}
    assert json.loads(functions.call("token", posted)["body"])["generation"] == 2
    answer = functions.call("token", event("token-rejected") | {"body": '{"rejected_generation": 2}'})
    assert problem(answer) == (503, "refreshed_just_now")
    assert 1 <= int(answer["headers"]["Retry-After"]) <= 60


@pytest.mark.parametrize(
    "body",
    [
        None,
        "CANARY",
        '{"rejected_generation": null}',
        '{"rejected_generation": "3"}',
        '{"rejected_generation": 3.5}',
        '{"rejected_generation": true}',
        '{"rejected_generation": 0}',
        '{"rejected_generation": -1}',
        '{"rejected_generation": 3, "more": "CANARY"}',
    ],
)
def test_a_body_that_is_not_understood_is_refused(functions: Functions, world: World, body: str | None) -> None:
    answer = functions.call("token", event("token-rejected") | {"body": body})
    assert problem(answer) == (400, "invalid_body")
    assert world.table.calls == []


def test_what_is_unknown_is_404_and_what_needs_a_new_consent_409(functions: Functions, world: World) -> None:
    assert problem(functions.call("token", event("token"))) == (404, "connection_not_found")
    world.connect(age=200, lifetime=100)
    world.end("rotation_lost")
    answer = functions.call("token", event("token"))
    assert problem(answer) == (409, "reauthorization_required")
    body = json.loads(answer["body"])
    assert (body["reason"], isinstance(body["since"], int)) == ("rotation_lost", True)


def reconnect_url(functions: Functions, asked: Event) -> str | None:
    """The way to reconnect that is told of a connection that needs a new consent."""
    answer = functions.call("token", asked)
    assert problem(answer) == (409, "reauthorization_required")
    body = json.loads(answer["body"])
    assert "POST /connect-links" in body["detail"]
    url: str | None = body.get("reconnect_url")
    return url


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, event("token")["stageVariables"]["callbackUrl"].replace("/callback", "/authorize")),
        ({"REDIRECT_URI": "https://connect.example/f/callback"}, "https://connect.example/f/authorize"),
        ({"DIRECT_CONNECT": "refused"}, None),
    ],
    ids=["stage", "a domain of one's own", "links only"],
)
def test_the_way_to_reconnect_is_the_stacks_own_word_and_no_headers(
    functions: Functions, world: World, settings: dict[str, str], url: str | None
) -> None:
    functions.set(**settings)
    world.connect(age=200, lifetime=100)
    world.end("rejected")
    misled = with_headers(event("token"), **{"Host": "evil.example", "X-Forwarded-Host": "evil.example"})
    assert reconnect_url(functions, misled) == url
    if not settings:
        assert reconnect_url(functions, misled | {"stageVariables": None}) is None


# All of them -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "part", "sample", "code"),
    [
        ("authorize", "_authorize.directly", "authorize", "temporarily_unavailable"),
        ("callback", "_callback.finish", "callback", "temporarily_unavailable"),
        ("token", "_serving.token", "token", "internal_error"),
        ("connections", "_managing.show", "connection", "internal_error"),
    ],
)
def test_an_unexpected_fault_is_an_answer_and_is_logged_by_its_place_alone(
    functions: Functions, monkeypatch: pytest.MonkeyPatch, name: str, part: str, sample: str, code: str
) -> None:
    use_case, _, method = part.partition(".")
    monkeypatch.setattr(type(getattr(functions.module(name), use_case)), method, broken)
    read = page if name in ("authorize", "callback") else problem
    assert read(functions.call(name, event(sample))) == (500, code)
    (line,) = [line for line in functions.lines() if line["level"] == "ERROR"]
    assert line["error_type"] == "RuntimeError"
    assert any("broken" in at for at in line["at"])


@pytest.mark.parametrize(
    ("name", "sample", "operation"),
    [
        ("authorize", "authorize", "put_item"),
        ("token", "token", "get_item"),
        ("connections", "connection", "batch_get_item"),
        ("connections", "history", "query"),
        ("connections", "import", "transact_write_items"),
        ("connections", "import", "get_item"),
        ("connections", "connect-link", "put_item"),
        ("connections", "connect-link-confirm", "get_item"),
    ],
)
def test_while_the_table_stays_away_a_program_is_asked_for_patience(
    functions: Functions, world: World, name: str, sample: str, operation: str
) -> None:
    world.table.faults[operation] = [Fault(client_error("InternalServerError"))]
    answer = functions.call(name, with_headers(event(sample), Accept="*/*"))
    assert problem(answer) == (503, "store_unavailable")
    assert answer["headers"]["Retry-After"] == "5"


@pytest.mark.parametrize(("name", "operation"), [("authorize", "put_item"), ("callback", "update_item")])
def test_while_the_table_stays_away_a_person_sees_a_page_with_a_button_that_loads_it_again(
    functions: Functions, world: World, server: Server, name: str, operation: str
) -> None:
    begin(world)
    world.table.faults[operation] = [Fault(client_error("InternalServerError"))]
    answer = functions.call(name, event(name))
    assert page(answer) == (503, "temporarily_unavailable")
    assert '<a href="" rel="noreferrer">' in answer["body"]
    assert server.connections == 0


FOR_PROGRAMS = [
    ("token", "token"),
    ("token", "token-rejected"),
    *(("connections", name) for name in ("connections", "connection", "history", "disconnect", "import")),
    *(("connections", name) for name in ("connect-link", "connect-link-confirm")),
]


@pytest.mark.parametrize(("name", "sample"), FOR_PROGRAMS)
def test_routes_for_programs_refuse_parameters_that_they_do_not_know(
    functions: Functions, world: World, name: str, sample: str
) -> None:
    """`min_ttl` is one of GET alone, and so is `limit` of lists."""
    other = "limit" if sample.startswith("token") else "min_ttl"
    for unknown in ("force", other):
        answer = functions.call(name, with_query(event(sample), **{unknown: ["1"]}))
        assert problem(answer) == (400, "unknown_parameter")
    assert world.table.calls == []


@pytest.mark.parametrize(("name", "sample"), [one for one in FOR_PROGRAMS if event(one[1])["pathParameters"]])
@pytest.mark.parametrize("connection_id", ["", "..%2F", "N1\n", "N 1", "N" * 65, "\u0e01", "N#1"])
def test_what_is_no_id_is_not_accepted_as_one(
    functions: Functions, world: World, name: str, sample: str, connection_id: str
) -> None:
    answer = functions.call(name, event(sample) | {"pathParameters": {"id": connection_id}})
    assert problem(answer) == (400, "invalid_connection_id")
    assert world.table.calls == []


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("authorize", "AUTHORIZE_ENDPOINT"),
        ("callback", "CLIENT_SECRET_NAME"),
        ("refresh", "TOKEN_ENDPOINT"),
        ("sweep", "REFRESH_QUEUE_URL"),
        ("salvage", "TABLE_NAME"),
        ("token", "REFRESH_FUNCTION"),
    ],
)
def test_a_wrong_setting_fails_at_the_start_and_is_named(functions: Functions, name: str, variable: str) -> None:
    functions.set(**{variable: ""})
    with pytest.raises(InvalidSetting, match=variable):
        functions.module(name)


@pytest.mark.parametrize("name", ["callback", "refresh"])
def test_no_connection_outlives_an_invocation(functions: Functions, world: World, server: Server, name: str) -> None:
    begin(world)
    world.connect()
    functions.call(name, event({"callback": "callback", "refresh": "refresh-queue"}[name]))
    assert server.connections == 1
    assert eventually(lambda: not server.lines[0].open)


def test_every_line_of_a_log_says_which_request_it_belongs_to(functions: Functions, world: World) -> None:
    begin(world)
    functions.call("callback", event("callback"))
    functions.call("refresh", event("refresh-queue"))
    lines = functions.lines()
    assert lines
    assert {line["request_id"] for line in lines} == {Context.aws_request_id}


def test_a_metric_tells_which_stack_it_is_of(functions: Functions, world: World) -> None:
    world.connect()
    functions.call("sweep", event("sweep"))
    (line,) = [json.loads(line) for line in functions.logs().splitlines() if line.startswith('{"_aws"')]
    (about,) = line["_aws"]["CloudWatchMetrics"]
    (dimensions,) = about["Dimensions"]
    assert sorted(dimensions) == ["service", "stack"]
    assert line["stack"] == "connect"


def test_a_log_would_show_a_canary(functions: Functions) -> None:
    """The trap of this module catches: what is logged or printed is seen."""
    from flowaccount_connect.runtime.observability import logger

    logger.info("a bird", extra={"song": "tweet-1"})
    print("tweet-2")
    assert "tweet-1" in functions.logs()
    assert "tweet-2" in functions.logs()
