"""The number of connections by status, which `storage.history` counts along with what it writes."""

from flowaccount_connect.storage.dynamodb import Client, get, number, s

KEY = {"pk": s("COUNT"), "sk": s("connections")}
"""The key of the one item with the numbers."""


class Counts:
    """Reads the number of connections by status. `client` is a DynamoDB client."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    def get(self) -> dict[str, int]:
        """The number of connections by status. A status that no connection ever had is absent.

        Raises `StoreUnavailable`.
        """
        item = get(self._client, self._table, KEY) or {}
        return {name: number(item, name) or 0 for name in item if name not in ("pk", "sk")}
