"""What a cold start pays for: each function, as it is deployed, imports what it needs, nothing else, and asks nobody.

Timing is for `make bench`; these lists are what keeps it.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_imports import ENVIRONMENT

EVERY = {"aws_lambda_powertools", "botocore", "certifi", "jmespath", "typing_extensions"}
"""Logger and Metrics, and what they import, of botocore its version; and the authorities that are trusted."""
HTTP = {"charset_normalizer", "idna", "requests", "urllib3"}
SEALING = {"_cffi_backend", "cryptography"}
PACKAGES = {
    "authorize": EVERY,
    "callback": EVERY | HTTP | SEALING,
    "sweep": EVERY,
    "refresh": EVERY | HTTP | SEALING,
    "salvage": EVERY,
    "token": EVERY | SEALING,
    "connections": EVERY | SEALING,
    "publish": EVERY,
}

EVERYWHERE = {
    "aws_client",
    "aws_error",
    "connection",
    "dynamodb",
    "observability",
    "return_urls",
    "schedule",
    "settings",
}
EVERYWHERE |= {"store", "tls", "wiring"}
ANSWERS = {"http_request", "identifiers", "problems"}
EXCHANGES = {"client_secret", "rotation", "salvage", "sealing", "token_endpoint", "token_response", "pacing"}
MODULES = {
    "authorize": EVERYWHERE
    | ANSWERS
    | {"authorization_request", "authorize", "connect_link", "connect_session", "event_item", "pages"},
    "callback": EVERYWHERE
    | ANSWERS
    | EXCHANGES
    | {"callback", "connect_link", "connect_session", "event_item", "importing", "pages"},
    "sweep": EVERYWHERE
    | {"cursor", "event_item", "events", "history", "identifiers", "importing", "pacing", "sweep", "token_response"},
    "refresh": EVERYWHERE | EXCHANGES | {"circuit", "connect_link", "event_item", "identifiers", "importing"},
    "salvage": EVERYWHERE | {"connect_link", "event_item", "identifiers", "importing", "salvage", "token_response"},
    "token": EVERYWHERE | ANSWERS | {"demand", "refresh_function", "sealing", "serving"},
    "connections": EVERYWHERE
    | ANSWERS
    | {"confirmation", "connect_link", "cursor", "event_item", "events", "history", "importing", "listing", "managing"}
    | {"refresh_function", "sealing", "token_response"},
    "publish": EVERYWHERE | {"cursor", "events", "history", "publishing"},
}

LOOK = """
import json, os, sys
asked = []
hook = lambda event, _: asked.append(event) if event in ("socket.connect", "socket.getaddrinfo", "os.putenv") else None
sys.addaudithook(hook)
import app
sys.stdout.write(json.dumps({
    "asked": asked,
    "own": [name.partition(".")[2] for name in sys.modules if name.startswith("flowaccount_connect.")],
    "packages": sorted({
        name.partition(".")[0] for name, module in list(sys.modules.items())
        if (getattr(module, "__file__", None) or "").startswith(os.environ["DEPENDENCIES"])
    }),
}))
"""


def start(built: Path, name: str, **variables: str) -> dict[str, list[str]]:
    """What a function imported and asked while it started, in a process with what is deployed and nothing else."""
    layers = [built / layer / "python" for layer in ("DependenciesLayer", "ConnectorLayer")]
    run = subprocess.run(
        [sys.executable, "-S", "-c", LOOK],
        env={
            **ENVIRONMENT,
            "PYTHONPATH": ":".join(map(str, [built / f"{name.capitalize()}Function", *layers])),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DEPENDENCIES": str(layers[0]),
            "TOKEN_ENDPOINT": "https://auth.example/token",
            "CLIENT_SECRET_NAME": "secret",
            "KEY_ID": "key",
            "SALVAGE_QUEUE_URL": "https://sqs.example/1/salvage",
            "REFRESH_FUNCTION": "refresh",
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, list[str]] = json.loads(run.stdout)
    return found


@pytest.fixture(scope="module")
def started(built: Path) -> dict[str, dict[str, list[str]]]:
    """All functions, started once."""
    return {name: start(built, name) for name in MODULES}


@pytest.mark.parametrize("name", MODULES)
def test_a_function_imports_what_it_needs_and_nothing_else(started: dict[str, dict[str, list[str]]], name: str) -> None:
    assert set(started[name]["packages"]) == PACKAGES[name]
    assert set(started[name]["own"]) == MODULES[name]


@pytest.mark.parametrize("name", MODULES)
def test_a_function_asks_nobody_while_it_starts(started: dict[str, dict[str, list[str]]], name: str) -> None:
    """So a snapshot of it (SnapStart) holds no key, no secret and no connection."""
    assert started[name]["asked"] == []


def test_a_snapshot_has_what_the_first_call_would_load_and_has_asked_nobody(built: Path) -> None:
    found = start(built, "token", AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")
    assert set(found["packages"]) > PACKAGES["token"]
    assert found["asked"] == []
