"""What is written down of what happened: one structured line and its metrics for each act, and never a secret."""

import os
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from flowaccount_connect.domain.log import fault

__all__ = ["COUNT", "PERCENT", "SECONDS", "fault", "logger", "metrics", "observed"]

logger = Logger()
"""The structured logger; its service and level come from the environment (POWERTOOLS_SERVICE_NAME, …_LOG_LEVEL)."""

metrics = Metrics()
"""Metrics in CloudWatch's embedded format; the namespace comes from POWERTOOLS_METRICS_NAMESPACE.

Each has the dimensions `service` and, since an account may have several stacks, `stack`.
"""

COUNT, PERCENT, SECONDS = MetricUnit.Count, MetricUnit.Percent, MetricUnit.Seconds


Handler = Callable[[Mapping[str, Any], Any], Any]


def observed(handler: Handler) -> Handler:
    """Gives every log line of an invocation its request id, and flushes its metrics at the end.

    An exception leaves as it came; handlers whose exceptions could quote a secret make answers of them, see `fault`.
    """
    metrics.set_default_dimensions(stack=os.environ["STACK"])

    @wraps(handler)
    def run(event: Mapping[str, Any], context: Any) -> Any:
        logger.append_keys(request_id=context.aws_request_id)
        try:
            return handler(event, context)
        finally:
            if metrics.metric_set:
                metrics.flush_metrics()

    return run
