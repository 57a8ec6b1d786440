"""Reads the attributes of an item. A person or another program may have written it, so each type is checked.

Reading never raises. An attribute of a wrong type becomes `None`, and `understood` becomes false. A caller that sees
this makes the connection `unreadable` (see `storage.connections.from_item`).
"""

from enum import StrEnum

from flowaccount_connect.storage.dynamodb import Item, binary, number, text

LONGEST_TEXT = 512
"""The most characters of a text that this stack reads in an item: a tenant has 128, an id less."""

_LATEST = 253_402_300_799
"""The last second of the year 9999, in epoch seconds. A greater number is neither a time nor a count of this stack."""


class Fields:
    """The attributes of one item. `understood` becomes false at the first attribute of a wrong type or value."""

    def __init__(self, item: Item) -> None:
        self._item = item
        self.understood = True

    def text(self, name: str) -> str | None:
        """A string of at most `LONGEST_TEXT` characters, or `None`."""
        found = text(self._item, name)
        return self._noted(name, found if found is None or len(found) <= LONGEST_TEXT else None)

    def number(self, name: str) -> int | None:
        """A whole number from 0 to the year 9999 in epoch seconds, or `None`."""
        found = number(self._item, name)
        return self._noted(name, found if found is None or 0 <= found <= _LATEST else None)

    def binary(self, name: str) -> bytes | None:
        """Bytes, or `None`."""
        return self._noted(name, binary(self._item, name))

    def one_of[Choice: StrEnum](self, name: str, choices: type[Choice]) -> Choice | None:
        """A member of `choices`, or `None`."""
        found = self.text(name)
        return self._noted(name, choices(found) if found in set(choices) else None)

    def required[Value](self, found: Value | None, otherwise: Value) -> Value:
        """`found`, or `otherwise` if it is `None`. A missing value makes `understood` false."""
        if found is None:
            self.understood = False
            return otherwise
        return found

    def _noted[Value](self, name: str, found: Value | None) -> Value | None:
        if found is None and name in self._item:
            self.understood = False
        return found
