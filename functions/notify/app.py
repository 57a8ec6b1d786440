"""Tells systems and people outside AWS what happened: webhooks, Slack, LINE and e-mail."""

from collections.abc import Mapping
from typing import Any

from flowaccount_connect.runtime import bootstrap
from flowaccount_connect.runtime.observability import observed

_notify = bootstrap.notify()


@observed
def handler(event: Mapping[str, Any], _context: Any) -> dict[str, Any]:
    """Work on a batch of the queue. `{"test": "webhooks"}` sends a test to each receiver instead.

    A message that could not be delivered comes back later. After its last try it is a dead letter.
    """
    if event.get("test") == "webhooks":
        return {"receivers": _notify.test()}
    failed = _notify.receive(event.get("Records", []))
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
