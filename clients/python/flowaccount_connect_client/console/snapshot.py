"""All connections as they were a moment ago, in memory. The API lists them by id; people want the soonest deadline."""

import threading
import time
from collections.abc import Callable, Iterable

from flowaccount_connect_client.cli.tables import is_at_risk
from flowaccount_connect_client.errors import FlowAccountConnectError
from flowaccount_connect_client.results import Connection

GROUPS: dict[str, str] = {
    "all": "All",
    "at_risk": "At risk",
    "in_doubt": "In doubt",
    "refresh_failing": "Refreshes fail",
    "needs_consent": "Need a new consent",
    "importing": "Importing",
    "active": "Active, no trouble",
    "disconnected": "Disconnected",
    "other": "Other",
}
"""What can be shown alone, with its heading."""

_BY_STATUS = {
    "reauthorization_required": "needs_consent",
    "in_doubt": "in_doubt",
    "refresh_failing": "refresh_failing",
    "importing": "importing",
    "active": "active",
    "disconnected": "disconnected",
}


def group_of(one: Connection) -> str:
    """The group that a connection is in. One that is at risk is in no other."""
    if is_at_risk(one):
        return "at_risk"
    return _BY_STATUS.get(one.status, "other")


class Snapshot:
    """Reads all connections page by page in a thread of its own. Safe for several threads.

    `connections` lists them; what it raises ends the reading, and is in `error`.
    """

    def __init__(
        self, connections: Callable[[], Iterable[Connection]], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._connections = connections
        self._clock = clock
        self._lock = threading.Lock()
        self._found: dict[tuple[str, bool], Connection] = {}
        self._done = threading.Event()
        self._is_reading = False
        self.read_at: float | None = None
        """When the reading began that is shown (epoch seconds)."""
        self.error: FlowAccountConnectError | None = None
        """Why not all connections are shown."""

    def read(self) -> None:
        """Begin to read anew, unless a reading is under way."""
        with self._lock:
            if self._is_reading:
                return
            self._is_reading = True
            self._done.clear()
        threading.Thread(target=self._read, daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait for the reading to end; whether it has."""
        return self._done.wait(seconds)

    def put(self, one: Connection) -> None:
        """Show one connection as it is now."""
        with self._lock:
            if self._key(one) in self._found:
                self._found[self._key(one)] = one

    def all(self) -> list[Connection]:
        """What is read so far: the soonest deadline first, those without one last."""
        with self._lock:
            found = list(self._found.values())
        return sorted(found, key=lambda one: (one.deadline or float("inf"), one.support_code))

    def _read(self) -> None:
        began, error, found = self._clock(), None, dict[tuple[str, bool], Connection]()
        first = self.read_at is None
        try:
            for one in self._connections():
                found[self._key(one)] = one
                if first:
                    with self._lock:
                        self._found[self._key(one)] = one
        except FlowAccountConnectError as failed:
            error = failed
        with self._lock:
            self._found = found if error is None or first else self._found
            self.error = error
            self.read_at = began if error is None or first else self.read_at
            self._is_reading = False
        self._done.set()

    @staticmethod
    def _key(one: Connection) -> tuple[str, bool]:
        """An import under way is listed beside the connection that it can revive."""
        return one.support_code, one.status == "importing"
