"""Addresses on this machine that tests use, chosen once for the whole run, and others in each process of tests."""

import os

from tools.local import ports

_APART = 20 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))

RETURN_URL = "http://localhost:3000/done"
APP_RETURN_URL = f"http://localhost:{ports.choose(4590 + _APART)}/flowaccount-connected"
"""The return URL of the app that a test starts."""
RECEIVERS = [f"http://127.0.0.1:{ports.choose(4600 + _APART + number)}/hook/{number}" for number in range(3)]
"""Where the stack sends webhooks; a test listens there."""
TERMINAL_PORT = ports.choose(8767 + _APART)
"""Where the terminal tool waits for a browser."""
