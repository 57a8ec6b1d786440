"""Start the simulator: ``python -m tools.simulator --port 0 --client-id … --redirect-uri …``.

The client's secret comes from the environment variable SIMULATOR_CLIENT_SECRET, so that no process list shows
it. When the simulator is ready it prints one line to standard output, `simulator ready:
http://127.0.0.1:PORT`; the access log goes to standard error. SIGTERM and Ctrl-C end it at once.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import signal
import sys
import threading
from typing import NoReturn

from tools.simulator.application import create_application
from tools.simulator.clients import ClientError, Clients
from tools.simulator.gateway import Gateway
from tools.simulator.server import Server
from tools.simulator.settings import SettingError, Settings
from tools.simulator.state import State

SECRET_VARIABLE = "SIMULATOR_CLIENT_SECRET"  # noqa: S105 - the variable's name


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.simulator", description="A stand-in for FlowAccount, on loopback."
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0, the default, takes a free one")
    parser.add_argument("--client-id", default="flowaccount-connect-local", help="the registered client")
    parser.add_argument("--redirect-uri", action="append", default=[], help="a registered redirect URI; repeatable")
    parser.add_argument("--settings", default="{}", help="JSON object of settings, see simulator/settings.py")
    return parser.parse_args()


def initial_state(options: argparse.Namespace) -> State:
    """The state to start with. Raises ValueError for a wrong configuration, saying what to do."""
    secret = os.environ.get(SECRET_VARIABLE)
    if not secret:
        raise ValueError(f"Set {SECRET_VARIABLE} to the client's secret.")
    try:
        changes = json.loads(options.settings)
    except ValueError as error:
        raise SettingError(f"--settings must be JSON: {error}.") from error
    if not isinstance(changes, dict):
        raise SettingError('--settings must be a JSON object, such as {"replay": "forgiving"}.')
    clients = Clients()
    clients.register(options.client_id, secret, options.redirect_uri)
    return State(Settings().merged(changes), clients)


def give_up(sentence: str) -> NoReturn:
    """End with one line on standard error."""
    print(f"simulator: {sentence}", file=sys.stderr)
    sys.exit(2)


def main() -> None:
    """Serve until a signal comes."""
    options = arguments()
    # Authlib writes tokens to its log at debug level.
    logging.getLogger("authlib").setLevel(logging.WARNING)
    try:
        state = initial_state(options)
    except (ValueError, ClientError) as error:
        give_up(str(error))
    try:
        server = Server(options.port, Gateway(create_application(state), state))
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            give_up(f"Port {options.port} is taken: choose another with --port, or --port 0 for any free one.")
        give_up(f"Cannot listen on port {options.port}: {error}.")
    # Blocked here, and so in every thread: a handler could run a moment before this thread waits, and wake nobody.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    print(f"simulator ready: {server.url}", flush=True)
    signal.sigwait(ends)
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
