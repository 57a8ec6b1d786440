"""What a cold start pays for: each function, as it is deployed, imports what it needs, nothing else, and asks nobody.

Timing is for `make bench`; these lists are what keeps it.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_imports import ENVIRONMENT

EVERY = {"aws_lambda_powertools", "boto3", "botocore", "certifi", "dateutil", "jmespath", "s3transfer", "six"}
EVERY |= {"typing_extensions", "urllib3"}
"""Logger, Metrics and boto3, and what they import."""
REQUESTS = {"idna", "requests"}
SEALING = {"_cffi_backend", "cryptography"}
PACKAGES = {
    "authorize": EVERY,
    "callback": EVERY | REQUESTS | SEALING,
    "sweep": EVERY,
    "refresh": EVERY | REQUESTS | SEALING,
    "salvage": EVERY,
    "token": EVERY | SEALING,
    "connections": EVERY,
    "publish": EVERY,
    "notify": EVERY | REQUESTS,
}

EVERYWHERE = {"domain", "runtime", "storage"}
FOLDERS = {
    "authorize": EVERYWHERE | {"connect", "http", "oauth"},
    "callback": EVERYWHERE | {"connect", "http", "oauth", "rotation", "scheduling"},
    "sweep": EVERYWHERE | {"rotation", "scheduling"},
    "refresh": EVERYWHERE | {"oauth", "rotation", "scheduling"},
    "salvage": EVERYWHERE | {"rotation"},
    "token": EVERYWHERE | {"http", "rotation", "tokens"},
    "connections": EVERYWHERE | {"connect", "connections", "http"},
    "publish": EVERYWHERE | {"publishing"},
    "notify": EVERYWHERE | {"notifying", "oauth"},
}
"""The folders of the service of which a function imports modules."""

ONLY = {
    "connections.importing": set(),
    "domain.app": {"authorize", "callback"},
    "domain.connection": set(PACKAGES) - {"notify"},
    "domain.events": {"connections", "publish"},
    "domain.schedule": set(PACKAGES) - {"authorize", "notify"},
    "rotation.ports": {"callback", "refresh"},
    "storage.commits": {"authorize", "callback", "connections", "refresh", "salvage"},
    "storage.history": {"connections", "publish"},
    "storage.imports": {"callback", "connections", "refresh", "salvage"},
    "storage.sealing": {"callback", "refresh", "token"},
}
"""Modules that cost a millisecond or two, and the functions that need them from their start."""

LOOK = """
import gc, json, os, sys
asked = []
hook = lambda event, _: asked.append(event) if event in ("socket.connect", "socket.getaddrinfo", "os.putenv") else None
sys.addaudithook(hook)
import app
sys.stdout.write(json.dumps({
    "asked": asked,
    "collecting": [gc.isenabled()],
    "frozen": [gc.get_freeze_count() > len(sys.modules)],
    "own": sorted({name.split(".")[1] for name in sys.modules if name.startswith("flowaccount_connect.")}),
    "modules": sorted(name.removeprefix("flowaccount_connect.") for name in sys.modules),
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
    return {name: start(built, name) for name in PACKAGES}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_function_imports_what_it_needs_and_nothing_else(started: dict[str, dict[str, list[str]]], name: str) -> None:
    assert set(started[name]["packages"]) == PACKAGES[name]
    assert set(started[name]["own"]) == FOLDERS[name]


@pytest.mark.parametrize("module", ONLY)
def test_what_only_some_functions_need_no_other_imports(started: dict[str, dict[str, list[str]]], module: str) -> None:
    assert {name for name, found in started.items() if module in found["modules"]} == ONLY[module]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_function_asks_nobody_while_it_starts(started: dict[str, dict[str, list[str]]], name: str) -> None:
    assert started[name]["asked"] == []


@pytest.mark.parametrize("name", PACKAGES)
def test_no_collection_looks_at_what_a_function_has_loaded(started: dict[str, dict[str, list[str]]], name: str) -> None:
    assert started[name]["frozen"] == [True]
    assert started[name]["collecting"] == [True]
