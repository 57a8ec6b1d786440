"""Addresses on this machine that tests use, chosen once for the whole run."""

from tools.local import ports

RETURN_URL = "http://localhost:3000/done"
APP_RETURN_URL = f"http://localhost:{ports.choose(4590)}/flowaccount-connected"
"""The return URL of the app that a test starts."""
RECEIVERS = [f"http://127.0.0.1:{ports.choose(4600 + number)}/hook/{number}" for number in range(3)]
"""Where the stack sends webhooks; a test listens there."""
TERMINAL_PORT = ports.choose(8767)
"""Where the terminal tool waits for a browser."""
