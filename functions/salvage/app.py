"""Applies the queue of pending commits: token sets that could not be written when they came."""

import time
from collections.abc import Mapping
from typing import Any

from flowaccount_connect.rotation.pending_commits import MalformedMessage
from flowaccount_connect.rotation.time_left import LONGEST_WRITE
from flowaccount_connect.runtime import bootstrap
from flowaccount_connect.runtime.observability import fault, logger, observed
from flowaccount_connect.storage.dynamodb import StoreUnavailable

_commits = bootstrap.salvage()


@observed
def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Apply a batch of pending commits.

    A message that cannot be read, or whose write the table did not take, is delivered again, for as long as the queue
    keeps it. So are those for which no time is left: whoever is killed has all of them delivered again.
    """
    failed = []
    for record in event.get("Records", []):
        # An import may take two writes.
        if context.get_remaining_time_in_millis() < (2 * LONGEST_WRITE + 1) * 1_000:
            failed.append(record.get("messageId"))
            continue
        try:
            outcome, connection_id = _commits.apply(record["body"], now=int(time.time()))
        except (StoreUnavailable, MalformedMessage) as error:
            logger.error("not applied", extra={"message_id": record.get("messageId"), "error": str(error)})
            failed.append(record.get("messageId"))
        except Exception as error:
            logger.error("unexpected", extra={"message_id": record.get("messageId"), **fault(error)})
            failed.append(record.get("messageId"))
        else:
            logger.warning("salvage", extra={"outcome": outcome.value, "connection_id": connection_id})
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
