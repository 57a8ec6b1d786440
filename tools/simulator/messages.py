"""What the stand-ins of Slack and LINE have accepted, in memory."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass
class Messages:
    """What was accepted, and the retry keys of the last day."""

    accepted: list[dict[str, str]] = field(default_factory=list)
    keys: dict[str, tuple[float, str, list[dict[str, str]]]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
