"""The programs that are measured, and the one way in which their processes are started.

A program of the product is what `sam build` made of it, laid out as Lambda shows it: files dated 1980, bytecode from
the layers alone. The floor and the programs of `instead` have plain packages, as `pip install` leaves them, with
ordinary bytecode: nothing that is cut from the product's layer makes them faster. All trust the benchmark's authority.
"""

import compileall
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tools.benchmarks.wire import Wire, root
from tools.local.errors import LocalError
from tools.local.places import CACHE, LOCAL, ROOT

FUNCTIONS = ("authorize", "callback", "sweep", "refresh", "salvage", "token", "connections", "publish", "notify")

FLOOR = "floor"
INSTEAD = {
    "requests + boto3": "plain",
    "requests-oauthlib": "requests_oauthlib_app",
    "Authlib": "authlib_app",
}
"""What one would write instead, and its module in `instead`."""

TABLE = "connections"
HOME = LOCAL / "bench"

_DATE = 315_532_800
_PATIENCE = 120.0
"""Seconds for one step of a process; a machine that is too busy for that measures nothing."""


@dataclass(frozen=True, slots=True)
class Program:
    """A function's code: where it is imported from, and under which name its module has its handlers."""

    path: tuple[Path, ...]
    module: str


def built() -> Path:
    """What `sam build` makes of the sources as they are; built anew. Raises `LocalError`."""
    target = HOME / "build"
    variables = {"LAYER_CACHE": str(CACHE), "LAYER_ARCHITECTURE": "native", "SAM_CLI_TELEMETRY": "0"}
    _run(["sam", "build", "--build-dir", str(target)], variables)
    return target


def product(build: Path, home: Path = HOME / "product") -> dict[str, Program]:
    """The functions of a build, laid out in `home`, which is emptied before."""
    shutil.rmtree(home, ignore_errors=True)
    layers = home / "opt" / "python"
    for layer in ("DependenciesLayer", "ConnectorLayer"):
        shutil.copytree(build / layer / "python", layers, dirs_exist_ok=True)
    for name in FUNCTIONS:
        shutil.copytree(build / f"{name.capitalize()}Function", home / "var" / name)
    _trust(layers)
    for path in home.rglob("*"):
        os.utime(path, (_DATE, _DATE))
    return {name: Program((home / "var" / name, layers), "app") for name in FUNCTIONS}


def others(home: Path = HOME / "others") -> dict[str, Program]:
    """The floor and the programs of `instead`, laid out in `home`, which is emptied before. Raises `LocalError`."""
    shutil.rmtree(home, ignore_errors=True)
    packages, ours = home / "packages", home / "var"
    command = ["uv", "pip", "install", "--quiet", "--target", str(packages), "--python", sys.executable]
    command += ["--only-binary", ":all:", "--require-hashes", "--no-config", "--link-mode", "copy"]
    command += ["--compile-bytecode", "-r", str(ROOT / "requirements" / "instead.txt")]
    _run(command, {})
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(__file__).with_name("instead"), ours / "instead", ignore=ignored)
    compileall.compile_dir(ours, quiet=2)
    _trust(packages)
    modules = {FLOOR: "floor"} | INSTEAD
    return {name: Program((ours, packages), f"instead.{module}") for name, module in modules.items()}


def _run(command: list[str], variables: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LocalError(f"{command[0]} failed:\n{done.stderr[-2_000:]}")


def _trust(packages: Path) -> None:
    """Add the benchmark's authority to each file of authorities; nothing else of a program is changed."""
    for bundle in packages.rglob("*.pem"):
        bundle.chmod(0o644)
        with bundle.open("ab") as file:
            file.write(b"\n" + root().cert_pem.bytes())


def environment(program: Program, wire: Wire, rate: int) -> dict[str, str]:
    """The variables of a function, as the template sets them, with AWS and FlowAccount at `wire`.

    `rate`: refreshes a minute.
    """
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONPATH": ":".join(map(str, program.path)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_ENDPOINT_URL": wire.url,
        "AWS_REGION": "ap-southeast-1",
        "AWS_DEFAULT_REGION": "ap-southeast-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        # As long as a role's.
        "AWS_SESSION_TOKEN": "t" * 800,
        "POWERTOOLS_METRICS_NAMESPACE": "FlowAccountConnect",
        "POWERTOOLS_SERVICE_NAME": program.path[0].name,
        "ENVIRONMENT": "sandbox",
        "STACK": "connect",
        "TABLE_NAME": TABLE,
        "AUTHORIZE_ENDPOINT": "https://auth.example.com/connect/authorize",
        "TOKEN_ENDPOINT": f"{wire.url}/token",
        "CLIENT_ID": "client",
        "CLIENT_SECRET_NAME": "secret",
        "KEY_ID": "key",
        "DIRECT_CONNECT": "allowed",
        "ALLOWED_RETURN_URLS": "https://app.example.com/accounting/done",
        "REFRESHES_PER_MINUTE": str(rate),
        "REFRESH_FUNCTION": "refresh",
        "REFRESH_QUEUE_URL": f"{wire.url}/refresh",
        "SALVAGE_QUEUE_URL": f"{wire.url}/salvage",
        "UNPUBLISHED_QUEUE_URL": f"{wire.url}/unpublished",
        "EVENT_BUS_NAME": "bus",
        "NOTIFY_QUEUE_URL": f"{wire.url}/notify",
        "UNDELIVERED_QUEUE_URL": f"{wire.url}/undelivered",
        "WEBHOOK_URLS": f"{wire.url}/webhook",
        "WEBHOOK_SECRET": "webhook",
        # As on the local stack alone.
        "LOOPBACK_RECEIVERS": "allowed",
    }


@dataclass(frozen=True, slots=True)
class Took:
    """What one step of a process took, and brought."""

    started: float
    """Milliseconds of CPU since the process began, of the user and the system together."""
    memory: float
    """MiB at the process's peak until now."""
    cpu: float
    """Milliseconds of CPU in this step."""
    wall: float
    """Milliseconds of this step."""
    answers: list[Any]
    log: str


class Function:
    """A function's process, which is ended where its `with` ends. Raises `LocalError` if it does not start.

    `ready` is what it took until it could be sent an event. Its end is not measured: Lambda freezes it instead.
    """

    def __init__(
        self, program: Program, variables: dict[str, str], handler: str = "handler", patience: float = _PATIENCE
    ) -> None:
        self._module, self._patience = program.module, patience
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-S", str(Path(__file__).with_name("invoke.py")), program.module, handler],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        try:
            self.ready = self._told()
        except LocalError:
            self.end()
            raise

    def answer(self, events: Sequence[Any], *, answers: bool = True) -> Took:
        """Answer each event; `answers=False` brings neither answers nor log. Raises `LocalError` if one fails."""
        try:
            print(json.dumps({"events": list(events), "answers": answers}), file=self._process.stdin, flush=True)
        except OSError:
            raise self._failure() from None
        return self._told()

    def _told(self) -> Took:
        timer = threading.Timer(self._patience, self._process.kill)
        timer.start()
        line = self._process.stdout.readline() if self._process.stdout else ""
        timer.cancel()
        if not line:
            raise self._failure()
        return Took(**json.loads(line))

    def _failure(self) -> LocalError:
        self._process.wait()
        self._said.seek(0)
        last = self._said.read().decode(errors="replace").strip().rpartition("\n")[2]
        return LocalError(f"{self._module}: {last or f'no answer within {self._patience:g} s'}")

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
