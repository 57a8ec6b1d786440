"""Logs and metrics: one structured log line and its metrics for each action. Neither has a secret."""

import os
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from flowaccount_connect.domain.log import fault

__all__ = ["COUNT", "PERCENT", "SECONDS", "fault", "logger", "metrics", "observed"]

logger = Logger()
"""The structured logger. POWERTOOLS_SERVICE_NAME and POWERTOOLS_LOG_LEVEL set its service and its level."""

metrics = Metrics()
"""Metrics in CloudWatch's embedded format. POWERTOOLS_METRICS_NAMESPACE sets the namespace.

Each metric has the dimensions `service` and `stack`, since an account may have several stacks.
"""

COUNT, PERCENT, SECONDS = MetricUnit.Count, MetricUnit.Percent, MetricUnit.Seconds


Handler = Callable[[Mapping[str, Any], Any], Any]


def observed(handler: Handler) -> Handler:
    """Adds the request id to every log line of an invocation, and writes its metrics at the end.

    An exception passes through unchanged. A handler whose exceptions could quote a secret must turn them into answers
    (see `fault`).
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
