"""One table on each of the three engines."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.contract import engines
from tests.support.dynamodb_model import DynamoDbModel
from tools import deployed
from tools.local.errors import LocalError

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Table:
    """A table, and an id in it that no other test uses."""

    engine: str
    client: Any
    name: str
    connection_id: str


@pytest.fixture(scope="session", params=["model", "ministack", "dynamodb_local"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """An engine with the deployed table; for the model `None`, since each test gets one of its own."""
    if request.param == "model":
        yield "model", None
        return
    local = engines.dynamodb_local()
    running = engines.ministack(tmp_path_factory.mktemp("ministack")) if request.param == "ministack" else local
    try:
        with running as client:
            client.create_table(TableName="connections", **deployed.table())
            client.get_waiter("table_exists").wait(TableName="connections", WaiterConfig={"Delay": 1})
            ours = engines.functions_client(client)
            yield request.param, ours
            ours.close()
    except (engines.Missing, LocalError) as missing:
        pytest.fail(str(missing), pytrace=False)


@pytest.fixture
def table(engine: tuple[str, Any]) -> Table:
    """The table, and an id of one's own in it."""
    name, client = engine
    return Table(name, client or DynamoDbModel(), "connections", f"N{next(_numbers)}")
