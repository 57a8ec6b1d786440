"""What each operation asks of AWS and of FlowAccount, counted at the wire and held: every call is paid for, each time.

The functions are those that `sam build` makes, each in a process of its own; DynamoDB Local has the deployed table, and
says what each request consumes.
"""

from pathlib import Path

import pytest

from tools.benchmarks import lambdas, operations
from tools.benchmarks.operations import Calls

CLAIM_AND_COMMIT, PACE = 2, 1


@pytest.fixture(scope="module")
def calls(built: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Calls]:
    """What was counted of each operation, in warm processes."""
    functions = lambdas.product(built, tmp_path_factory.mktemp("functions"))
    floor = lambdas.floor(functions, tmp_path_factory.mktemp("floor"))
    (*_, made) = operations.measure(functions, floor, {}, rounds=0, tokens=1, refreshes=1)
    return made.calls


def test_a_token_costs_one_read_and_nothing_else(calls: dict[str, Calls]) -> None:
    served = calls[operations.TOKEN]
    assert served.requests == {"dynamodb.GetItem": 1}
    assert (served.read_units, served.write_units) == (1, 0)


def test_the_first_token_of_a_process_opens_a_data_key_too(calls: dict[str, Calls]) -> None:
    assert calls[operations.FIRST_TOKEN].requests == {"dynamodb.GetItem": 1, "kms.Decrypt": 1}


def test_a_refresh_in_a_batch_costs_a_claim_a_commit_and_one_post(calls: dict[str, Calls]) -> None:
    made = calls[operations.BATCH]
    share_of_pace = PACE / 50
    assert made.requests["token endpoint.POST"] == 1
    assert made.requests["dynamodb.UpdateItem"] == CLAIM_AND_COMMIT + share_of_pace
    assert made.read_units == 0
    assert made.write_units == 4 + share_of_pace
    # One data key seals a batch, and none is opened twice by a connection; most are remembered.
    assert made.requests["kms.GenerateDataKey"] <= 1 / 50
    assert made.requests.get("kms.Decrypt", 0) <= 1
    assert set(made.requests) <= {"dynamodb.UpdateItem", "kms.Decrypt", "kms.GenerateDataKey", "token endpoint.POST"}


@pytest.mark.parametrize("operation", [operations.ALONE, operations.DEMAND])
def test_a_refresh_by_itself_costs_its_place_in_the_pace_besides(calls: dict[str, Calls], operation: str) -> None:
    made = calls[operation]
    assert made.requests["dynamodb.UpdateItem"] == CLAIM_AND_COMMIT + PACE
    assert made.requests["token endpoint.POST"] == 1
    assert made.write_units == 4 + PACE
    assert made.read_units == 0
    assert sum(count for name, count in made.requests.items() if name.startswith("kms.")) <= 2
    assert set(made.requests) <= {"dynamodb.UpdateItem", "kms.Decrypt", "kms.GenerateDataKey", "token endpoint.POST"}


def test_authorize_costs_one_write(calls: dict[str, Calls]) -> None:
    made = calls[operations.AUTHORIZE]
    assert made.requests == {"dynamodb.PutItem": 1}
    assert (made.read_units, made.write_units) == (0, 1)


def test_a_callback_costs_a_conditional_write_a_post_a_data_key_and_a_write(calls: dict[str, Calls]) -> None:
    made = calls[operations.CALLBACK]
    asked = dict(made.requests)
    assert asked.pop("kms.GenerateDataKey", 0) <= 1
    # The session is consumed; then the connection and what the session became are written together.
    assert asked == {"dynamodb.UpdateItem": 1, "token endpoint.POST": 1, "dynamodb.TransactWriteItems": 1}
    # The connection is in two indexes; what is in a transaction is paid for twice.
    assert (made.read_units, made.write_units) == (0, 1 + 2 * (3 + 1))


def test_a_link_costs_its_host_one_write(calls: dict[str, Calls]) -> None:
    made = calls[operations.SESSION]
    assert made.requests == {"dynamodb.PutItem": 1}
    assert (made.read_units, made.write_units) == (0, 1)


def test_a_link_that_is_opened_is_read_and_costs_what_authorize_costs(calls: dict[str, Calls]) -> None:
    made = calls[operations.LINK_AUTHORIZE]
    assert made.requests == {"dynamodb.GetItem": 1, "dynamodb.PutItem": 1}
    assert (made.read_units, made.write_units) == (1, 1)


def test_a_callback_by_a_link_uses_the_link_up_too_and_writes_no_connection(calls: dict[str, Calls]) -> None:
    made = calls[operations.LINK_CALLBACK]
    asked = dict(made.requests)
    assert asked.pop("kms.GenerateDataKey", 0) <= 1
    assert asked == {"dynamodb.UpdateItem": 2, "token endpoint.POST": 1, "dynamodb.TransactWriteItems": 1}
    # A look at whose the business is, what waits for the host, and the session's end.
    assert (made.read_units, made.write_units) == (0, 2 + 2 * 3)


def test_a_confirmation_reads_the_link_writes_both_and_shows_the_connection(calls: dict[str, Calls]) -> None:
    made = calls[operations.CONFIRM]
    assert made.requests == {"dynamodb.GetItem": 1, "dynamodb.TransactWriteItems": 1, "dynamodb.BatchGetItem": 1}
    assert (made.read_units, made.write_units) == (2, 2 * (3 + 1))


def test_a_tick_with_nothing_due_asks_each_shard_once(calls: dict[str, Calls]) -> None:
    made = calls[operations.NOTHING_DUE]
    # The pace and the counts of connections, one query a shard, how many messages wait.
    assert made.requests == {"dynamodb.GetItem": 2, "dynamodb.Query": 8, "sqs.GetQueueAttributes": 1}
    assert (made.read_units, made.write_units) == (2, 0)


def test_a_refresh_leaves_an_entry_of_its_history_by_one_write_and_no_line_of_log(calls: dict[str, Calls]) -> None:
    made = calls[operations.HISTORY]
    assert made.requests == {"dynamodb.PutItem": 1}
    assert (made.read_units, made.write_units, made.logged) == (0, 1, 0)


def test_a_new_connection_is_told_and_counted_by_two_requests(calls: dict[str, Calls]) -> None:
    made = calls[operations.NEW]
    assert made.requests == {"dynamodb.TransactWriteItems": 1, "events.PutEvents": 1}
    assert (made.read_units, made.write_units) == (0, 2 * 2)


def test_while_nothing_is_wrong_these_metrics_are_written_and_no_other(calls: dict[str, Calls]) -> None:
    """CloudWatch bills each by the hours in which it is written: as much a month as thirty thousand refreshes."""
    written = frozenset[tuple[str, str]]().union(*(made.metrics for made in calls.values()))
    assert written == {("sweep", name) for name in ("Heartbeat", "AtRisk", "SoonestDeadline", "CapacityUsed")}
