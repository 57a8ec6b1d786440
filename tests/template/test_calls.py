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


@pytest.fixture(scope="module")
def functions(built: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Program]:
    """The deployed functions."""
    return programs.product(built, tmp_path_factory.mktemp("functions"))


@pytest.fixture(scope="module")
def calls(functions: dict[str, Program]) -> dict[str, Calls]:
    """What was counted of each operation, in warm processes."""
    with stack(functions) as counted:
        return calls_of.count(counted, due=100)


def test_a_token_costs_one_read_and_nothing_else(calls: dict[str, Calls]) -> None:
    served = calls[calls_of.TOKEN]
    assert served.requests == {"dynamodb.GetItem": 1}
    assert (served.read_units, served.write_units) == (1, 0)


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


def test_authorize_costs_one_write(calls: dict[str, Calls]) -> None:
    made = calls[calls_of.AUTHORIZE]
    assert made.requests == {"dynamodb.PutItem": 1}
    assert (made.read_units, made.write_units) == (0, 1)


def test_a_callback_costs_a_conditional_write_a_post_a_data_key_and_a_write(calls: dict[str, Calls]) -> None:
    made = calls[calls_of.CALLBACK]
    asked = dict(made.requests)
    assert asked.pop("kms.GenerateDataKey", 0) <= 1
    # The attempt is looked at, room is taken in the rate, the attempt is consumed; then the connection and the result
    # of the attempt are written together.
    asked_of_the_table = {"dynamodb.GetItem": 1, "dynamodb.UpdateItem": 2, "dynamodb.TransactWriteItems": 1}
    assert asked == asked_of_the_table | {"token endpoint.POST": 1}
    # The connection is in two indexes; what is in a transaction is paid for twice.
    assert (made.read_units, made.write_units) == (1, 2 + 2 * (3 + 1))


def test_a_link_costs_two_writes_itself_and_the_count_of_its_tenant(calls: dict[str, Calls]) -> None:
    made = calls[calls_of.LINK]
    assert made.requests == {"dynamodb.PutItem": 1, "dynamodb.UpdateItem": 1}
    assert (made.read_units, made.write_units) == (0, 2)


def test_a_link_that_is_opened_is_read_and_costs_what_authorize_costs(calls: dict[str, Calls]) -> None:
    made = calls[calls_of.LINK_AUTHORIZE]
    assert made.requests == {"dynamodb.GetItem": 1, "dynamodb.PutItem": 1}
    assert (made.read_units, made.write_units) == (1, 1)


def test_a_callback_by_a_link_uses_the_link_up_too_and_writes_no_connection(calls: dict[str, Calls]) -> None:
    made = calls[calls_of.LINK_CALLBACK]
    asked = dict(made.requests)
    assert asked.pop("kms.GenerateDataKey", 0) <= 1
    # Attempt and link are looked at, room is taken of the tenant's and the stack's rate, both are used up.
    asked_of_the_table = {"dynamodb.GetItem": 2, "dynamodb.UpdateItem": 4, "dynamodb.TransactWriteItems": 1}
    assert asked == asked_of_the_table | {"token endpoint.POST": 1}
    # In the transaction: whose the business is, the token set that waits, and the end of the attempt.
    assert (made.read_units, made.write_units) == (2, 4 + 2 * 3)


def test_a_confirmation_reads_the_link_writes_both_and_shows_the_connection(calls: dict[str, Calls]) -> None:
    made = calls[calls_of.CONFIRM]
    assert made.requests == {"dynamodb.GetItem": 2, "dynamodb.TransactWriteItems": 1}
    assert (made.read_units, made.write_units) == (2, 2 * (3 + 1))


def test_a_tick_with_nothing_due_asks_each_shard_once(calls: dict[str, Calls]) -> None:
    made = calls[calls_of.NOTHING_DUE]
    # The pace and the counts of connections, one query a shard, how many messages wait.
    assert made.requests == {"dynamodb.GetItem": 2, "dynamodb.Query": 8, "sqs.GetQueueAttributes": 1}
    assert (made.read_units, made.write_units) == (2, 0)


def test_a_refresh_leaves_an_entry_of_its_history_by_one_write_and_no_line_of_log(calls: dict[str, Calls]) -> None:
    made = calls[calls_of.REFRESHED]
    assert made.requests == {"dynamodb.PutItem": 1}
    assert (made.read_units, made.write_units, made.logged) == (0, 1, 0)


def test_a_new_connection_is_told_and_counted_by_two_requests(calls: dict[str, Calls]) -> None:
    made = calls[calls_of.CONNECTED]
    assert made.requests == {"dynamodb.TransactWriteItems": 1, "events.PutEvents": 1}
    assert (made.read_units, made.write_units) == (0, 2 * 2)


def test_a_webhook_costs_a_message_and_a_post(calls: dict[str, Calls]) -> None:
    assert calls[calls_of.EVENT].requests == {"sqs.SendMessageBatch": 1}
    assert calls[calls_of.WEBHOOK].requests == {"receiver.POST": 1}


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
