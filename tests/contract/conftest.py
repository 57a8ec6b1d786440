"""One table on each of the three engines."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from flowaccount_connect.domain.connection import Attempt, Connection
from flowaccount_connect.storage.commits import Commit
from flowaccount_connect.storage.connections import ConnectionStore, Refused, grant_update, key_of
from flowaccount_connect.storage.dynamodb import call
from tests.contract import engines
from tests.support.commits import commit_of, rotated
from tests.support.dynamodb_model import DynamoDbModel
from tools import deployed
from tools.local.errors import LocalError

NOW = 1_000_000
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Table:
    """A table, and an id in it that no other test uses."""

    engine: str
    client: Any
    name: str
    connection_id: str

    def item(self) -> dict[str, Any]:
        """The connection as it is stored."""
        answer = self.client.get_item(TableName=self.name, Key=key_of(self.connection_id), ConsistentRead=True)
        item: dict[str, Any] = answer["Item"]
        return item

    def connection(self) -> Connection:
        """The connection, which is there."""
        found = ConnectionStore(self.client, self.name).get(self.connection_id)
        assert found is not None
        return found

    def commit(
        self,
        grant_id: str,
        generation: int,
        attempt_id: str,
        tokens: str,
        at: int = NOW,
        *,
        tenant: str | None = None,
    ) -> Commit:
        """What a refresh, a consent (generation 0) or an import brought to the connection."""
        return commit_of(self.connection_id, grant_id, generation, attempt_id, rotated(tokens, at), tenant=tenant)

    def granting(
        self, grant_id: str = "g1", at: int = NOW, *, attempt_id: str = "a0", tenant: str | None = None
    ) -> dict[str, Any]:
        """The write that connects the connection by a consent."""
        commit = self.commit(grant_id, 0, attempt_id, f"{grant_id} tokens", at, tenant=tenant)
        return grant_update(self.name, commit, now=at)

    def grant(self, grant_id: str = "g1", at: int = NOW - 100) -> None:
        """Connect it."""
        call(self.client.update_item, **self.granting(grant_id, at))


@pytest.fixture(scope="session", params=["model", "ministack", "dynamodb_local"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """An engine with the deployed table; for the model `None`, since each test gets one of its own."""
    if request.param == "model":
        yield "model", None
        return
    local = engines.dynamodb_local()
    running = engines.ministack(tmp_path_factory.mktemp("ministack")) if request.param == "ministack" else local
    try:
        with running as url:
            client = engines.owners_client(url)
            client.create_table(TableName="connections", **deployed.table())
            client.get_waiter("table_exists").wait(TableName="connections", WaiterConfig={"Delay": 1})
            ours = engines.functions_client(url)
            yield request.param, ours
            ours.close()
    except LocalError as missing:
        pytest.fail(str(missing), pytrace=False)


@pytest.fixture
def table(engine: tuple[str, Any]) -> Table:
    """The table, and an id of one's own in it."""
    name, client = engine
    return Table(name, client or DynamoDbModel(), "connections", f"N{next(_numbers)}")


@pytest.fixture
def store(table: Table) -> ConnectionStore:
    return ConnectionStore(table.client, table.name)


def attempt(name: str, at: int = NOW) -> Attempt:
    """An attempt to refresh, with its lease."""
    return Attempt(id=name, started_at=at, lease_until=at + 180)


def refused(write: Callable[[], object]) -> Connection | None:
    """What stood in the way of a write that must be refused."""
    with pytest.raises(Refused) as caught:
        write()
    return caught.value.connection
