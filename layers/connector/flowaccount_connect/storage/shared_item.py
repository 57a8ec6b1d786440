"""An item that all workers of a stack share: read it, decide, and write it if nobody wrote it since.

Each write replaces the item's attribute `tag` by a new random one, on the condition that the tag is still the one that
was read. The tag is compared as it is, so that no content of the item can make every later write fail.
"""

import secrets
from typing import Protocol

from flowaccount_connect.storage.dynamodb import Client, ConditionRefused, Item, attributes, call, get, s


class Changed(Exception):
    """Somebody else wrote the item first; `item` is what it is now."""

    def __init__(self, item: Item) -> None:
        super().__init__("somebody else wrote it first")
        self.item = item


class Shared(Protocol):
    """A shared item; see `SharedItem`."""

    def get(self, *, consistent: bool = True) -> Item: ...
    def replace(self, seen: Item, values: Item) -> Item: ...


class SharedItem:
    """The item `pk=name, sk=token-endpoint` of a table. `client` is a DynamoDB client."""

    def __init__(self, client: Client, table: str, name: str) -> None:
        self._client = client
        self._table = table
        self._key = attributes(pk=name, sk="token-endpoint")

    def get(self, *, consistent: bool = True) -> Item:
        """The item, empty if nothing is there. Raises `StoreUnavailable`."""
        return get(self._client, self._table, self._key, consistent=consistent) or {}

    def replace(self, seen: Item, values: Item) -> Item:
        """Write `values` if the item is still as `seen`; what the item is then.

        Raises `Changed`, and `StoreUnavailable` if the write was not acknowledged.
        """
        written = {**values, "tag": s(secrets.token_hex(8))}
        before = {":seen": seen["tag"]} if "tag" in seen else {}
        try:
            call(
                self._client.update_item,
                TableName=self._table,
                Key=self._key,
                UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in written),
                ConditionExpression="#tag = :seen" if before else "attribute_not_exists(#tag)",
                ExpressionAttributeNames={f"#{name}": name for name in written},
                ExpressionAttributeValues={f":{name}": value for name, value in written.items()} | before,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionRefused as refused:
            found = refused.items[0] or {}
            # The client repeats a write that was not acknowledged. The repeat finds what the first one wrote.
            if found.get("tag") != written["tag"]:
                raise Changed(found) from None
        return written
