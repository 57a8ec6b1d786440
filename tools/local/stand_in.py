"""The stand-in for FlowAccount, as a background process on loopback."""

import json
import os
import sys

from tools.local import ports, processes
from tools.local.places import LOGS, ROOT, shown

DEFAULT_PORT = 4567
CLIENT_ID = "flowaccount-connect-local"
LOG = LOGS / "simulator.log"


def start(
    port: int, client_id: str, secret: str, redirect_uris: list[str], settings: dict[str, object]
) -> processes.Process:
    """Starts it with one client and waits until it answers. Raises ``LocalError``; then nothing runs.

    The secret goes by the environment, so that no list of processes shows it.
    """
    command = [sys.executable, "-m", "tools.simulator", "--port", str(port), "--client-id", client_id]
    for redirect_uri in redirect_uris:
        command += ["--redirect-uri", redirect_uri]
    command += ["--settings", json.dumps(settings)]
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "SIMULATOR_CLIENT_SECRET": secret,
    }
    process = processes.start(command, environment, LOG, ROOT)
    failure = f"The stand-in for FlowAccount did not start. The end of {shown(LOG)} says why."
    processes.wait_until(lambda: ports.answers(ports.HOST, port, 1.0), process, 30, failure)
    return process
