"""What all tests share."""

import os

# Before anything of `local` is imported: tests bring up a stack of their own, one for each process that has tests of a
# stack, and leave one that is in use alone.
os.environ["FLOWACCOUNT_CONNECT_STATE"] = "-".join([".local/test", *os.environ.get("PYTEST_XDIST_WORKER", "").split()])

# Read by Powertools when the product is imported, whichever test does that first.
os.environ |= {
    "POWERTOOLS_METRICS_NAMESPACE": "FlowAccountConnect",
    "POWERTOOLS_SERVICE_NAME": "unit",
    "POWERTOOLS_LOG_LEVEL": "DEBUG",
}
