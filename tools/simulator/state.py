"""Everything a running simulator remembers, in one place, so that it can be put back to the beginning."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from tools.simulator.attempts import Attempts
from tools.simulator.clients import Clients
from tools.simulator.clock import Clock
from tools.simulator.faults import FaultOrders
from tools.simulator.ledger import Ledger
from tools.simulator.messages import Messages
from tools.simulator.rates import RateLimiter
from tools.simulator.requests_log import RequestsLog
from tools.simulator.settings import Settings


class State:
    """The parts of the simulator, in memory only."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._initial_settings = settings
        self._initial_clients = clients.copy()
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Back to the start: real time, first settings, first clients, nothing issued, no faults."""
        with self._lock:
            self.clock = Clock()
            self.clients = self._initial_clients.copy()
            self.settings = self._initial_settings
            self.ledger = Ledger(self.clock)
            self.requests = RequestsLog()
            self.rates = RateLimiter()
            self.faults = FaultOrders()
            self.attempts = Attempts(self.clock)
            self.messages = Messages()

    def change_settings(self, changes: Mapping[str, Any]) -> Settings:
        """Apply *changes* to the settings. Raises `SettingError`, nothing changed, if one cannot be."""
        with self._lock:
            self.settings = self.settings.merged(changes)
            return self.settings
