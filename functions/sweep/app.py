"""The tick of EventBridge Scheduler: dispatches what is due."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from flowaccount_connect import wiring
from flowaccount_connect.observability import COUNT, SECONDS, logger, metrics, observed

_sweep = wiring.sweep()


@observed
def handler(_event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """One tick, whatever the event says; returns what it found and did."""
    tick = _sweep.tick(remaining=lambda: context.get_remaining_time_in_millis() / 1000)
    facts = asdict(tick)
    logger.info("tick", extra=facts)
    metrics.add_metric("Ticks", COUNT, 1)
    metrics.add_metric("Due", COUNT, tick.due)
    metrics.add_metric("Dispatched", COUNT, tick.dispatched)
    if tick.oldest_due is not None and tick.soonest_deadline is not None:
        metrics.add_metric("OldestDue", SECONDS, tick.oldest_due)
        metrics.add_metric("SoonestDeadline", SECONDS, tick.soonest_deadline)
    return facts
