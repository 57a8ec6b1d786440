"""Functions as Lambda starts them: trees of what is deployed, and processes that have nothing else.

A tree is what a function sees below `/opt/python` and `/var/task`, its files dated 1980 and read-only, as Lambda shows
them; nothing is compiled at run time. Those of the product are what `sam build` made, those of the programs beside it
what it would make of their requirements, once with bytecode and once as it ships them, without any that is valid. All
trust the benchmark's authority besides.
"""

import hashlib
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from compileall import compile_dir
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.errors import LocalError
from local.places import CACHE, LOCAL, ROOT
from tools.benchmarks.authority import BUNDLE, authority
from tools.benchmarks.wire import Wire

FUNCTIONS = ("authorize", "callback", "sweep", "refresh", "salvage", "token", "connections", "publish")

INSTEAD = {
    "requests + boto3": "plain",
    "requests-oauthlib": "requests_oauthlib_app",
    "Authlib": "authlib_app",
    "Authlib + resource": "authlib_resource_app",
}
"""What one would write instead, and its module in `benchmarks/instead`."""

TABLE = "connections"

_PROGRAMS = Path(__file__).parent / "instead"
_DATE = 315_532_800
_TELL_MEMORY = "import sys; sys.stderr.write(open('/proc/self/status').read())"
_INVOKE = Path(__file__).with_name("invoke.py")


@dataclass(frozen=True, slots=True)
class Program:
    """A function's code: where it is imported from, and under which name its module has its handlers."""

    path: tuple[Path, ...]
    module: str


def built() -> Path:
    """What `sam build` makes of the sources as they are; built anew. Raises `LocalError`."""
    target = LOCAL / "bench" / "build"
    command = ["sam", "build", "--build-dir", str(target)]
    environment = os.environ | {"LAYER_CACHE": str(CACHE), "LAYER_ARCHITECTURE": "native", "SAM_CLI_TELEMETRY": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LocalError(f"sam build failed:\n{done.stderr[-2_000:]}")
    return target


def product(build: Path, home: Path = LOCAL / "bench" / "product") -> dict[str, Program]:
    """The eight functions of a build, laid out in `home`, which is emptied before."""
    _empty(home)
    layers = home / "opt" / "python"
    for layer in ("DependenciesLayer", "ConnectorLayer"):
        shutil.copytree(build / layer / "python", layers, dirs_exist_ok=True)
    made = {}
    for name in FUNCTIONS:
        task = home / "var" / name
        shutil.copytree(build / f"{name.capitalize()}Function", task)
        made[name] = Program((task, layers), "app")
    authority().trusted_by(layers)
    _seal(home)
    return made


def floor(functions: dict[str, Program], home: Path = LOCAL / "bench" / "floor") -> Program:
    """The floor, with the product's own packages and bytecode, laid out in `home`, which is emptied before."""
    _, layers = functions["token"].path
    _empty(home)
    (home / "instead").mkdir(parents=True)
    shutil.copy(_PROGRAMS / "floor.py", home / "instead")
    _compile(home, "/var/task")
    _seal(home)
    return Program((home, layers), "instead.floor")


def instead(*, bytecode: bool) -> dict[str, Program]:
    """The programs one would write instead, by what they are written with. Raises `LocalError`."""
    home = _empty(LOCAL / "bench" / ("instead" if bytecode else "instead-shipped"))
    shutil.copytree(_packages(), home / "opt" / "python")
    authority().trusted_by(home / "opt" / "python")
    shutil.copytree(_PROGRAMS, home / "var" / "instead", ignore=shutil.ignore_patterns("__pycache__", "*.txt", "*.in"))
    if bytecode:
        _compile(home / "opt" / "python", "/opt/python")
        _compile(home / "var", "/var/task")
    _seal(home)
    path = (home / "var", home / "opt" / "python")
    return {name: Program(path, f"instead.{module}") for name, module in INSTEAD.items()}


def _packages() -> Path:
    """The packages of the programs, without bytecode."""
    requirements = ROOT / "requirements" / "instead.txt"
    kept = CACHE / f"instead-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:20]}"
    if not kept.is_dir():
        unfinished = kept.with_name(f"{kept.name}.{os.getpid()}")
        command = ["uv", "pip", "install", "--quiet", "--target", str(unfinished), "--python", sys.executable]
        command += ["--only-binary", ":all:", "--require-hashes", "--link-mode", "copy", "-r", str(requirements)]
        if subprocess.run(command, check=False).returncode != 0:
            raise LocalError("The packages of benchmarks/instead could not be fetched; uv says why above.")
        for folder in list(unfinished.rglob("__pycache__")):
            shutil.rmtree(folder)
        unfinished.rename(kept)
    return kept


def _empty(home: Path) -> Path:
    if home.exists():
        shutil.rmtree(home)
    home.mkdir(parents=True)
    return home


def _compile(folder: Path, shown: str) -> None:
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compile_dir(folder, quiet=2, force=True, workers=2, invalidation_mode=mode, stripdir=str(folder), prependdir=shown)


def _seal(home: Path) -> None:
    for path in home.rglob("*"):
        if path.is_file():
            os.utime(path, (_DATE, _DATE))
            path.chmod(0o444)


def environment(program: Program, wire: Wire, *, secure: bool = False, **settings: str) -> dict[str, str]:
    """The variables of a function, as the template sets them, with AWS at `wire`; `secure`: by TLS, as AWS is."""
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONPATH": ":".join(map(str, program.path)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_ENDPOINT_URL": wire.secure if secure else wire.url,
        # Of boto3, which brings authorities of its own.
        "AWS_CA_BUNDLE": str(program.path[-1] / BUNDLE),
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
        "TOKEN_ENDPOINT": wire.token_endpoint,
        "CLIENT_ID": "client",
        "CLIENT_SECRET_NAME": "secret",
        "KEY_ID": "key",
        "DIRECT_CONNECT": "allowed",
        "ALLOWED_RETURN_URLS": "https://app.example.com/accounting/done",
        "REFRESHES_PER_MINUTE": "60000",
        "REFRESH_FUNCTION": "refresh",
        "REFRESH_QUEUE_URL": f"{wire.url}/refresh",
        "SALVAGE_QUEUE_URL": f"{wire.url}/salvage",
        "UNPUBLISHED_QUEUE_URL": f"{wire.url}/unpublished",
        "EVENT_BUS_NAME": "bus",
        **settings,
    }


@dataclass(frozen=True, slots=True)
class Started:
    """What one start of a process took."""

    cpu: float
    """Milliseconds, of the user and the system together."""
    wall: float
    """Milliseconds."""
    memory: float
    """MiB at the peak."""


def start(program: Program, variables: dict[str, str], event: Any = None, handler: str = "handler") -> Started:
    """Start a function's process, which imports its module and ends; with an event it answers that first.

    Raises `LocalError` if it fails.
    """
    if event is None:
        command = [sys.executable, "-S", "-c", f"import {program.module}\n{_TELL_MEMORY}"]
    else:
        command = [sys.executable, "-S", str(_INVOKE), program.module, handler, "memory"]
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if event is not None else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    if process.stdin is None or process.stderr is None:
        raise AssertionError("they are pipes")
    with process.stdin as into:
        if event is not None:
            into.write(json.dumps({"events": [event]}).encode() + b"\n")
    told = process.stderr.read()
    if process.stdout is not None:
        process.stdout.read()
        process.stdout.close()
    process.stderr.close()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise LocalError(f"{program.module} did not start:\n{told.decode()[-2_000:]}")
    # Not the usage's own figure, which begins with what the parent had when it forked.
    (peak,) = re.findall(rb"VmHWM:\s*(\d+) kB", told)
    return Started((usage.ru_utime + usage.ru_stime) * 1_000, wall * 1_000, int(peak) / 1_024)


@dataclass(frozen=True, slots=True)
class Answered:
    """What a warm process made of some events."""

    answers: list[Any]
    cpu: float
    """Seconds of the process, of the user and the system together."""
    wall: float
    """Seconds."""
    logged: int
    """Bytes of log."""
    log: str
    """The log itself, where the answers were asked for."""


class Function:
    """A process that has started, and answers events one after the other."""

    def __init__(self, process: "subprocess.Popen[bytes]", module: str) -> None:
        self._process = process
        self._module = module

    def answer(self, events: Sequence[Any], *, answers: bool = True) -> Answered:
        """Answer each event; `answers=False` brings neither answers nor log. Raises `LocalError` if one fails."""
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise AssertionError("they are pipes")
        process.stdin.write(json.dumps({"events": list(events), "answers": answers}).encode() + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise LocalError(f"{self._module} failed; what it said is above.")
        told = json.loads(line)
        return Answered(told["answers"], told["cpu"], told["wall"], told["logged"], told["log"])


@contextmanager
def running(program: Program, variables: dict[str, str], handler: str = "handler") -> Iterator[Function]:
    """A function whose process has started and waits for events."""
    process = subprocess.Popen(
        [sys.executable, "-S", str(_INVOKE), program.module, handler],
        env=variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield Function(process, program.module)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
