"""Publishes what happened to connections, from the table's stream and from the queue of unpublished changes."""

from collections.abc import Mapping
from typing import Any

from flowaccount_connect.publishing.publisher import Change, Malformed, read_message, read_record
from flowaccount_connect.runtime import bootstrap
from flowaccount_connect.runtime.observability import logger, observed

_publisher, _unpublished = bootstrap.publish()


@observed
def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Publish a batch of changes.

    A change that could not be published goes to the queue. If the queue does not take it, it is delivered again.
    """
    changes: dict[str, Change] = {}
    failed: list[str] = []
    for record in event.get("Records", []):
        queued = record.get("eventSource") == "aws:sqs"
        delivery = record["messageId"] if queued else record["dynamodb"]["SequenceNumber"]
        try:
            changes[delivery] = read_message(record["body"]) if queued else read_record(record)
        except Malformed as error:
            logger.error("not read", extra={"delivery": delivery, "error": str(error)})
            failed.append(delivery)
    unpublished = _publisher.publish(
        list(changes.values()), remaining=lambda: context.get_remaining_time_in_millis() / 1000
    )
    from_stream = not any(record.get("eventSource") == "aws:sqs" for record in event.get("Records", []))
    left = {change.id for change in (_unpublished.send(unpublished) if from_stream else unpublished)}
    failed += [delivery for delivery, change in changes.items() if change.id in left]
    return {"batchItemFailures": [{"itemIdentifier": delivery} for delivery in failed]}
