"""`make bench`: what it makes of its figures, what it does where one cannot be taken, and what money it counts."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.servers import Asked, Line, Server, reply
from tools import deployed
from tools.benchmarks import calls, compared, money, report
from tools.benchmarks.calls import Calls
from tools.benchmarks.programs import FLOOR, FUNCTIONS, Function, Program, Took
from tools.benchmarks.report import Section
from tools.benchmarks.timed import CPU, FIRST_BATCH, IN_BATCH, ONE_BY_ONE, OURS, READY, TOKEN, WORKER, Figures
from tools.benchmarks.wire import Wire, wire
from tools.local.errors import LocalError


def took(milliseconds: float) -> Took:
    return Took(milliseconds, 40.0, milliseconds, milliseconds, [], "")


def figures(**ours: float) -> Figures:
    """As if the floor and the other programs had taken 100 ms for everything, and ours so many."""
    made = Figures()
    for name, figure in {"ready": READY, "token": TOKEN, "batch": IN_BATCH, "first_batch": FIRST_BATCH}.items():
        made.add((figure, FLOOR if figure in (READY, TOKEN) else "another"), took(100), operations=1)
        if name in ours:
            made.add((figure, "authorize" if figure == READY else OURS), took(ours[name]), operations=1)
    return made


def fail(error: Exception) -> None:
    raise error


def met(sections: list[Section]) -> dict[str, bool]:
    return {row.cells[0]: row.met for one in sections for row in one.rows if row.met is not None and one.judged}


@pytest.mark.parametrize(
    ("figure", "reached", "missed"),
    [("ready", 99, 102), ("token", 104, 107), ("batch", 89, 92), ("first_batch", 249, 252)],
)
def test_a_target_is_a_multiple_of_the_floor_or_of_the_cheapest_other(figure: str, reached: int, missed: int) -> None:
    assert report.exit_code(compared.sections(figures(**{figure: reached}))) == 0
    assert report.exit_code(compared.sections(figures(**{figure: missed}))) == 1


def test_a_first_answer_counts_from_the_start_of_its_process() -> None:
    made = Figures()
    answered = Took(started=150, memory=40, cpu=50, wall=60, answers=[], log="")
    made.add((FIRST_BATCH, OURS), answered)
    made.add((IN_BATCH, OURS), answered, operations=50)
    assert made.taken[CPU] == {(FIRST_BATCH, OURS): [150], (IN_BATCH, OURS): [1]}


def test_a_worker_has_to_refresh_fifteen_times_as_many() -> None:
    for each, code in ((20, 0), (21, 1)):
        made = Figures()
        made.add((WORKER, ONE_BY_ONE), took(300), operations=1)
        made.add((WORKER, OURS), took(each * 50), operations=50)
        assert report.exit_code(compared.sections(made)) == code


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (LocalError("the machine was too busy"), "the machine was too busy"),
        (KeyError("headers"), "KeyError('headers')"),
        (ConnectionResetError(), "ConnectionResetError()"),
    ],
)
def test_a_figure_that_cannot_be_taken_is_named_and_the_others_go_on(error: Exception, why: str) -> None:
    made = figures(ready=99)
    with made.taking(TOKEN, OURS):
        fail(error)
    sections = compared.sections(made)
    assert report.exit_code(sections) == 2
    assert "authorize" in met(sections)
    (row,) = [row for one in sections for row in one.rows if not row.taken]
    assert row.cells[:2] == (OURS, f"not taken: {why}")


def test_a_round_that_failed_is_noted_and_the_other_rounds_count() -> None:
    made = figures(ready=99)
    with made.taking(READY, "authorize"):
        fail(LocalError("once"))
    first = compared.sections(made)[0]
    assert first.note == "authorize: not in every round: once."
    assert report.exit_code([first]) == 0


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """A function that does what its event says."""
    text = "import os, time\nlist(range(500_000))\n"
    text += "def handler(event, context):\n    print('logged')\n    return eval(event)\n"
    (tmp_path / "app.py").write_text(text)
    return Program((tmp_path,), "app")


def started(program: Program, patience: float = 30.0) -> Function:
    return Function(program, {"PYTHONPATH": str(program.path[0])}, patience=patience)


def test_a_process_is_measured_until_ready_and_not_until_its_end(program: Program) -> None:
    with started(program) as function:
        answered = function.answer(["1 + 1", "[0 for _ in range(500_000)] and 3"])
    assert 0 < function.ready.started < answered.started
    assert answered.started >= function.ready.started + answered.cpu
    assert (answered.answers, answered.log) == ([2, 3], "logged\nlogged\n")


@pytest.mark.parametrize(
    ("event", "why"),
    [("time.sleep(60)", "app: no answer within 1 s"), ("1 / 0", "app: ZeroDivisionError: division by zero")],
)
def test_a_process_that_hangs_or_fails_ends_with_its_reason(program: Program, event: str, why: str) -> None:
    with started(program, patience=1.0) as function, pytest.raises(LocalError) as failed:
        function.answer([event])
    assert str(failed.value) == why


@pytest.fixture
def before_a_rude_engine(server: Server) -> Iterator[Wire]:
    """Before one that answers the first request of each connection, and closes it when the second one comes."""

    def answer(line: Line, asked: Asked) -> None:
        if line.sent:
            line.drop()
        else:
            reply(200, b"{}")(line, asked)

    server.say(answer)
    with wire(f"http://127.0.0.1:{server.port}") as made:
        yield made


def test_an_engine_that_closes_its_connections_is_asked_again(before_a_rude_engine: Wire) -> None:
    headers = {"x-amz-target": "DynamoDB_20120810.GetItem", "content-type": "application/x-amz-json-1.0"}
    answers = [before_a_rude_engine.answer("/", headers, b"{}") for _ in range(5)]
    assert answers == [(200, b"{}")] * 5


STEPS = (
    *(calls.ALONE, calls.IN_BATCH, calls.TOKEN, calls.EMPTY, calls.REFRESHED, calls.CONNECTED),
    *(calls.LINK, calls.LINK_AUTHORIZE, calls.LINK_CALLBACK, calls.CONFIRM, calls.EVENT, calls.WEBHOOK),
)


def costs(metrics: int = 1) -> money.Costs:
    """As if each operation made one write, and wrote so many metrics."""
    names = frozenset(("sweep", str(number)) for number in range(metrics))
    one = Calls({"dynamodb.UpdateItem": 1}, 0, 1, cpu=1.0, logged=300.0, metrics=names)
    return money.costs(dict.fromkeys(STEPS, one))


def test_prices_are_shown_with_their_target_and_do_not_count() -> None:
    section = money.section(costs(metrics=1_000).calls)
    assert [row.met for row in section.rows if row.cells[3]] == [False, False]
    assert report.exit_code([section]) == 0


def test_a_metric_costs_whoever_writes_it_and_once() -> None:
    made = costs(metrics=7)
    assert made.month(money.AT)["metrics"] == pytest.approx(7 * made.price["metric_month"])


def test_an_allowance_is_taken_from_its_line_alone() -> None:
    made = costs(metrics=12)
    assert made.less_free(made.idle())["metrics"] == pytest.approx(2 * made.price["metric_month"])
    assert made.less_free(made.idle())["key"] == made.idle()["key"]


def test_a_dashboard_that_is_left_out_costs_nothing() -> None:
    made = costs()
    bare, drawn = (replace(made, standing={**made.standing, "AWS::CloudWatch::Dashboard": number}) for number in (0, 1))
    assert drawn.idle().total - bare.idle().total == pytest.approx(made.price["dashboard_month"])


def test_a_receiver_costs_a_secret_an_alarm_and_the_polls_of_its_queue_and_none_costs_nothing() -> None:
    made = costs()
    assert money.standing() == money.standing(WebhookUrl="")
    bill = made.receivers(WebhookUrl="https://app.example.com/")
    assert bill["secret"] == pytest.approx(made.price["secret_month"])
    assert bill["alarms"] == pytest.approx(made.price["alarm_month"])
    assert 0.5 < bill.total < 1
    mail, slack = made.receivers(AlarmEmail="operator@example.com"), made.receivers(SlackSecretName="slack")
    assert mail == slack
    assert mail["secret"] == 0
    assert 0.3 < mail.total < 0.4
    assert made.receivers() == dict.fromkeys(mail, 0)


def test_of_a_refresh_the_stream_wakes_publish_once() -> None:
    made = costs()
    # Alone in its batch, and once for its history.
    assert made.refresh()["Lambda requests"] == pytest.approx(2 * made.price["lambda_request"])


def test_a_function_pays_for_its_own_memory_and_has_its_part_of_a_cpu() -> None:
    made = costs()
    half, whole = (replace(made, memory={"refresh": memory}) for memory in (256, 512))
    waiting, working = (
        [one.invocation("refresh", calls.ALONE, waits=waits)["Lambda time"] for one in (half, whole)]
        for waits in (1_000.0, 0.0)
    )
    assert waiting[0] / waiting[1] == pytest.approx(0.5, abs=0.01)
    # The one call waits, too; the CPU costs the same.
    assert 0.5 < working[0] / working[1] < 1
    assert set(deployed.memory()) == set(FUNCTIONS)


def test_only_what_a_stack_has_by_default_is_paid_for() -> None:
    made, there = money.standing(), [one["Type"] for one in deployed.resources().values()]
    assert made["AWS::CloudWatch::Alarm"] == 13
    assert made["AWS::CloudWatch::Alarm"] < there.count("AWS::CloudWatch::Alarm"), "some are for gradual deployments"
    assert made["AWS::ApiGateway::DomainName"] == 0
    assert made["SQS"] == 3, "each is polled around the clock"
