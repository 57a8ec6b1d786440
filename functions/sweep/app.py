"""The tick of EventBridge Scheduler: dispatches what is due."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from flowaccount_connect.runtime import bootstrap
from flowaccount_connect.runtime.observability import COUNT, PERCENT, SECONDS, logger, metrics, observed

_sweep = bootstrap.sweep()


class IncompleteTick(Exception):
    """A tick that did not do all that it had to."""


@observed
def handler(_event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """One tick, whatever the event says; returns what it found and did.

    Raises `IncompleteTick` if that was not all. So Lambda's own metric `Errors`, which costs nothing, says which ticks
    ended well, and the alarm on it needs no metric of ours. The next tick is not far: Lambda does not repeat this one.
    """
    tick = _sweep.tick(remaining=lambda: context.get_remaining_time_in_millis() / 1000)
    facts = asdict(tick)
    logger.info("tick", extra=facts)
    if tick.queue_error is not None:
        logger.error("the refresh queue failed", extra={"error": tick.queue_error, "failed": tick.failed})
    if tick.unreadable:
        logger.error("due items that cannot be read", extra={"keys": tick.unreadable})
    if tick.overloaded:
        logger.warning(
            "at this rate and interval the stack can keep %d connections alive, and one plans with 70 %% of that; "
            "it has %d",
            tick.capacity,
            tick.connections,
        )
    # What the alarms and the dashboard need; all else is in the line above. CloudWatch bills each metric by the hours
    # in which it is written, so a stack without connections writes none.
    if tick.at_risk or tick.connections:
        metrics.add_metric("AtRisk", COUNT, tick.at_risk)
    if tick.soonest_deadline is not None:
        metrics.add_metric("SoonestDeadline", SECONDS, tick.soonest_deadline)
    if tick.connections:
        metrics.add_metric("CapacityUsed", PERCENT, 100 * tick.connections / max(tick.capacity, 1))
    if not tick.whole:
        raise IncompleteTick("this tick did not see all that is due, or could not dispatch it")
    return facts
