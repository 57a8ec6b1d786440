"""The time that an invocation has left, and what of it must be kept for what comes after a POST."""

import time
from collections.abc import Callable
from dataclasses import dataclass

LONGEST_EXCHANGE = 15.0
"""The most time one POST may take, in seconds."""

SHORTEST_EXCHANGE = 3.0
"""With less time than this nothing is sent, in seconds."""

LONGEST_WRITE = 7.0
"""What one write to the table can take at worst, with the timeouts and retries of its client, in seconds."""

QUEUE_RESERVE = 7.0
"""The same for the message to the queue of pending commits, in seconds."""

TABLE_ALONE = 3.0
"""How long the table alone is tried with new tokens, in seconds. From then on the queue is to have a copy."""

LAST_TRY = LONGEST_WRITE + 0.5
"""With less time than this, in seconds, neither of the two is tried again, so that the loss can still be logged."""

COMMIT_RESERVE = LONGEST_WRITE + QUEUE_RESERVE
"""What must be left of the invocation after the POST, to store its answer or else to queue it, in seconds."""


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """What an invocation has left. `seconds` reads it; `sleep` spends it."""

    seconds: Callable[[], float]
    sleep: Callable[[float], None] = time.sleep

    def for_exchange(self) -> float | None:
        """How many seconds one POST may take, or `None` where too little is left to store what it would bring."""
        budget = min(LONGEST_EXCHANGE, self.seconds() - COMMIT_RESERVE)
        return None if budget < SHORTEST_EXCHANGE else budget

    def for_permit(self) -> float:
        """How many seconds one may wait for a permit, and still have the time for a whole exchange."""
        return self.seconds() - COMMIT_RESERVE - LONGEST_EXCHANGE

    def pause(self, seconds: float, *, reserve: float) -> bool:
        """Sleep, and return `True`; `False`, at once, where less than `reserve` would be left."""
        if self.seconds() - seconds < reserve:
            return False
        self.sleep(seconds)
        return True
