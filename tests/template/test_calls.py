"""What each operation asks of AWS and of FlowAccount, counted at the wire and held: every call is paid for, each time.

The functions are those that `sam build` makes, each in a process of its own; DynamoDB Local has the deployed table, and
says what each request consumes.
"""

import itertools
from pathlib import Path

import pytest

from tools.benchmarks import calls as calls_of
from tools.benchmarks import programs
from tools.benchmarks.calls import Calls
from tools.benchmarks.programs import TABLE, Program
from tools.benchmarks.stack import Stack, key, stack

CLAIM_AND_COMMIT, PACE = 2, 1
EXCHANGE: dict[str, float] = {"token endpoint.POST": 1, "dynamodb.TransactWriteItems": 1}


@pytest.fixture(scope="module")
def functions(built: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Program]:
    """The deployed functions."""
    return programs.product(built, tmp_path_factory.mktemp("functions"))


@pytest.fixture(scope="module")
def calls(functions: dict[str, Program]) -> dict[str, Calls]:
    """What was counted of each operation, in warm processes."""
    with stack(functions) as counted:
        return calls_of.count(counted, due=100)


COSTS: dict[str, tuple[dict[str, float], float, float]] = {
    calls_of.TOKEN: ({"dynamodb.GetItem": 1}, 1, 0),
    calls_of.AUTHORIZE: ({"dynamodb.PutItem": 1}, 0, 1),
    # The attempt is looked at, room is taken in the rate, the attempt is consumed; then the connection, which is in two
    # indexes, and the result of the attempt are written together. What is in a transaction is paid for twice.
    calls_of.CALLBACK: (EXCHANGE | {"dynamodb.GetItem": 1, "dynamodb.UpdateItem": 2}, 1, 2 + 2 * (3 + 1)),
    # The link itself, and the count of its tenant.
    calls_of.LINK: ({"dynamodb.PutItem": 1, "dynamodb.UpdateItem": 1}, 0, 2),
    # The link is read; the rest is what authorize costs.
    calls_of.LINK_AUTHORIZE: ({"dynamodb.GetItem": 1, "dynamodb.PutItem": 1}, 1, 1),
    # Attempt and link are looked at, room is taken of the tenant's and the stack's rate, both are used up. In the
    # transaction: whose the business is, the token set that waits, and the end of the attempt; no connection.
    calls_of.LINK_CALLBACK: (EXCHANGE | {"dynamodb.GetItem": 2, "dynamodb.UpdateItem": 4}, 2, 4 + 2 * 3),
    # The link is read, both are written, and the connection is shown.
    calls_of.CONFIRM: ({"dynamodb.GetItem": 2, "dynamodb.TransactWriteItems": 1}, 2, 2 * (3 + 1)),
    # The pace and the counts of connections, one query a shard, how many messages wait.
    calls_of.NOTHING_DUE: ({"dynamodb.GetItem": 2, "dynamodb.Query": 8, "sqs.GetQueueAttributes": 1}, 2, 0),
    # The entry of the history.
    calls_of.REFRESHED: ({"dynamodb.PutItem": 1}, 0, 1),
    # The entry and the count, and the event.
    calls_of.CONNECTED: ({"dynamodb.TransactWriteItems": 1, "events.PutEvents": 1}, 0, 2 * 2),
    calls_of.EVENT: ({"sqs.SendMessageBatch": 1}, 0, 0),
    calls_of.WEBHOOK: ({"receiver.POST": 1}, 0, 0),
}
"""What each operation asks in a warm process, and how many units of the table it reads and writes."""


@pytest.mark.parametrize("operation", COSTS)
def test_an_operation_costs_this_and_nothing_else(calls: dict[str, Calls], operation: str) -> None:
    made, (requests, read_units, write_units) = calls[operation], COSTS[operation]
    asked = dict(made.requests)
    if requests.keys() >= EXCHANGE.keys():
        # A data key is made now and then.
        assert asked.pop("kms.GenerateDataKey", 0) <= 1
    assert asked == requests
    assert (made.read_units, made.write_units) == (read_units, write_units)


def test_a_refresh_that_is_published_leaves_no_line_of_log(calls: dict[str, Calls]) -> None:
    assert calls[calls_of.REFRESHED].logged == 0


def test_the_first_token_of_a_process_opens_a_data_key_too(calls: dict[str, Calls]) -> None:
    assert calls[calls_of.FIRST_TOKEN].requests == {"dynamodb.GetItem": 1, "kms.Decrypt": 1}


def test_a_refresh_in_a_batch_costs_a_claim_a_commit_and_one_post(calls: dict[str, Calls]) -> None:
    made = calls[calls_of.IN_BATCH]
    assert made.requests["token endpoint.POST"] == 1
    paces = made.requests["dynamodb.UpdateItem"] - CLAIM_AND_COMMIT
    # One place in the pace for the batch; on a busy machine a refresh may come too late for its own, and takes another.
    assert PACE / 50 <= round(paces, 6) <= 5 * PACE / 50
    assert made.write_units == pytest.approx(4 + paces)
    # The batch takes two seconds, on a busy machine four, and looks once a second whether a pause was asked for.
    assert made.read_units <= 5 / 50
    # One data key seals a batch, and none is opened twice by a connection; most are remembered.
    assert made.requests["kms.GenerateDataKey"] <= 1 / 50
    assert made.requests.get("kms.Decrypt", 0) <= 1
    rare = {"dynamodb.GetItem", "kms.Decrypt", "kms.GenerateDataKey"}
    assert set(made.requests) <= {"dynamodb.UpdateItem", "token endpoint.POST"} | rare


@pytest.mark.parametrize("operation", [calls_of.ALONE, calls_of.ON_DEMAND])
def test_a_refresh_by_itself_costs_its_place_in_the_pace_besides(calls: dict[str, Calls], operation: str) -> None:
    made = calls[operation]
    assert made.requests["dynamodb.UpdateItem"] == CLAIM_AND_COMMIT + PACE
    assert made.requests["token endpoint.POST"] == 1
    assert made.write_units == 4 + PACE
    assert made.read_units == 0
    assert sum(count for name, count in made.requests.items() if name.startswith("kms.")) <= 2
    assert set(made.requests) <= {"dynamodb.UpdateItem", "kms.Decrypt", "kms.GenerateDataKey", "token endpoint.POST"}


def test_while_nothing_is_wrong_these_metrics_are_written_and_no_other(calls: dict[str, Calls]) -> None:
    """CloudWatch bills each by the hours in which it is written: as much a month as thirty thousand refreshes."""
    written = frozenset[tuple[str, str]]().union(*(made.metrics for made in calls.values()))
    assert written == {("sweep", name) for name in ("AtRisk", "SoonestDeadline", "CapacityUsed")}


def test_a_tick_costs_what_is_due_and_not_what_exists(functions: dict[str, Program]) -> None:
    """A tenth of the connections, and the same number due: a tick asks as much, and reads as much."""
    with stack(functions) as few, stack(functions) as many:
        asked = [_tick(few, connections=200), _tick(many, connections=2_000)]
    assert asked[0] == asked[1]
    requests, read_units = asked[0]
    assert sum(requests.values()) <= 20
    assert 0 < read_units < 30


def _tick(measured: Stack, connections: int) -> tuple[dict[str, int], float]:
    """What a tick asks and reads with 60 connections due; the others are copies of one, due tomorrow."""
    (like,) = measured.connect(1)
    item = measured.table.get_item(TableName=TABLE, Key=key(like))["Item"]
    for some in itertools.batched(range(connections), 25, strict=True):
        copies = [item | key(f"N2{number:06}") for number in some]
        measured.table.batch_write_item(RequestItems={TABLE: [{"PutRequest": {"Item": one}} for one in copies]})
    measured.due(60)
    sweep = measured.kept("sweep")
    measured.wire.counted()
    sweep.answer([{}])
    counted = measured.wire.counted()
    return dict(counted.requests), counted.read_units


def test_nothing_that_is_cut_from_the_layer_makes_the_floor_faster(tmp_path: Path) -> None:
    """Its packages are as `pip install` leaves them: all of botocore's services, bytecode that is checked by date."""
    program = programs.others(tmp_path)[programs.FLOOR]
    packages = program.path[-1]
    assert packages.is_relative_to(tmp_path)
    assert len(list((packages / "botocore" / "data").iterdir())) > 300
    (compiled,) = (packages / "botocore" / "__pycache__").glob("client.*.pyc")
    assert compiled.read_bytes()[4:8] == bytes(4)
    dated = int.from_bytes(compiled.read_bytes()[8:12], "little")
    assert dated == int((packages / "botocore" / "client.py").stat().st_mtime)
