"""The local stack: bring it up, read its addresses and names, end it."""

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tools.local import deployment, emulator, gaps, ports, processes, stand_in, user
from tools.local.deployment import API_ID, STACK_NAME
from tools.local.errors import LocalError
from tools.local.places import LOCAL, ROOT, STACK_FILE, STATE, STATE_FILE, shown
from tools.local.settings import Settings
from tools.local.steps import Steps

FUNCTIONS = ("authorize", "callback", "sweep", "refresh", "salvage", "token", "connections", "publish")
NOTIFY = "notify"
"""The function and the queue that exist only where a receiver is configured (`notifies`)."""
QUEUES = ("refresh", "salvage", "unpublished", "dead-letters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The addresses and names of a running stack: the contents of ``.local/stack.json``."""

    stack_name: str
    api_url: str
    authorize_url: str
    callback_url: str
    aws_endpoint_url: str
    region: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    """The key's secret. Its IAM user has the rights in `tools/local/user.py`, which the emulator enforces."""
    table: str
    functions: dict[str, str]
    """Physical name by short name."""
    queues: dict[str, str]
    """URL by short name."""
    event_bus: str
    """The name of the event bus."""
    secret: str
    """The client secret's name in Secrets Manager."""
    simulator_url: str | None
    """``None`` if the stack uses another authorization server."""
    client_id: str
    api_id: str
    key_id: str
    return_urls: list[str]
    logs: dict[str, str]
    """Log file by program."""


@dataclass(slots=True)
class _State:
    """What `up` stores for the next `up` and for `down`. It has secrets, so its file has mode 600."""

    emulator: processes.Process | None = None
    emulator_port: int | None = None
    simulator: processes.Process | None = None
    simulator_port: int | None = None
    simulator_secret: str = ""
    simulator_made_from: str = ""
    deployed_from: str = ""
    key: tuple[str, str] | None = None


def up(settings: Settings, steps: Steps | None = None) -> Stack:
    """Brings the stack up with these settings. Parts whose settings and sources have not changed stay as they are.

    The stack runs in the background. Raises ``LocalError`` with one line that says what to do. Then everything that
    this call has started is ended.
    """
    steps = steps or Steps()
    with _only_one(), _in_turn(steps):
        before = _read_state()
        state = _read_state()
        try:
            return _up(settings, state, steps)
        except (BotoCoreError, ClientError) as error:
            _end_what_is_new(before, state)
            reason = " ".join(str(error).split())
            raise LocalError(f"The AWS emulator refused: {reason} (more in {shown(emulator.LOG)})") from error
        except BaseException:
            _end_what_is_new(before, state)
            raise


def down() -> bool:
    """Ends what `up` started and removes its files. Returns whether anything was running."""
    with _only_one():
        state = _read_state()
        running = [process for process in (state.simulator, state.emulator) if process]
        alive = any(processes.is_alive(process) for process in running)
        for process in running:
            processes.stop(process)
        emulator.clear()
        STACK_FILE.unlink(missing_ok=True)
        STATE_FILE.unlink(missing_ok=True)
        return alive


def read() -> Stack:
    """The stack that is up. Raises ``LocalError`` if none is."""
    try:
        return Stack(**json.loads(STACK_FILE.read_text()))
    except FileNotFoundError:
        raise LocalError("The stack is not up: run `make up` first.") from None
    except (ValueError, TypeError):
        raise LocalError("The stack was started by another release: run `make down`, then `make up`.") from None


def running() -> Stack | None:
    """The stack that an earlier `make up` left running, or `None`."""
    state = _read_state()
    port = state.emulator_port
    if not (state.emulator and port and processes.is_alive(state.emulator) and emulator.is_healthy(port)):
        return None
    try:
        return read()
    except LocalError:
        return None


def _up(settings: Settings, state: _State, steps: Steps) -> Stack:
    """The steps of `up`. Each step skips what is up to date."""
    if settings.server:
        ports.require_answer("AUTHORIZE_ENDPOINT", settings.server.authorize_endpoint)
        ports.require_answer("TOKEN_ENDPOINT", settings.server.token_endpoint)
    port = _ensure_emulator(settings, state, steps)
    api_url = f"{emulator.url(port)}/_aws/execute-api/{API_ID}/live"
    callback_url = settings.redirect_uri or f"{api_url}/callback"
    simulator_url = _ensure_simulator(settings, state, steps, callback_url)

    parameters = _parameters(settings, simulator_url, callback_url)
    table = parameters.get("ConnectionsTable") or f"{STACK_NAME}-connections"
    made_from = _digest(deployment.sources(), sorted(parameters.items()), asdict(settings.experiment))
    if state.deployed_from == made_from:
        steps.note("the stack is deployed already, from the same sources and settings")
    else:
        if not deployment.is_built():
            with steps.step("building the functions and layers (sam build)"):
                deployment.build()
        with steps.step("deploying the stack (sam deploy)"):
            deployment.deploy(port, parameters)
            gaps.fill(port, table, settings.experiment)
            # As `make deploy` does.
            emulator.client("dynamodb", port).update_table(TableName=table, DeletionProtectionEnabled=True)
        state.deployed_from = made_from
    secret = f"{STACK_NAME}/client-secret"
    _put_client_secret(port, secret, settings.server.client_secret if settings.server else state.simulator_secret)
    state.key = user.ensure(port, state.key)
    stack = Stack(
        stack_name=STACK_NAME,
        api_url=api_url,
        authorize_url=f"{api_url}/authorize",
        callback_url=callback_url,
        aws_endpoint_url=emulator.url(port),
        region=emulator.REGION,
        access_key_id=state.key[0],
        secret_access_key=state.key[1],
        table=table,
        functions={name: f"{STACK_NAME}-{name}" for name in (*FUNCTIONS, *([NOTIFY] if _notifies(parameters) else []))},
        queues={
            name: f"{emulator.url(port)}/{emulator.ACCOUNT}/{STACK_NAME}-{name}"
            for name in (*QUEUES, *([NOTIFY, "undelivered"] if _notifies(parameters) else []))
        },
        event_bus=STACK_NAME,
        secret=secret,
        simulator_url=simulator_url,
        client_id=parameters["ClientId"],
        api_id=API_ID,
        key_id=f"alias/{STACK_NAME}",
        return_urls=parameters["AllowedReturnUrls"].split(","),
        logs={"emulator": str(emulator.LOG)} | ({"simulator": str(stand_in.LOG)} if simulator_url else {}),
    )
    _write_private(STACK_FILE, asdict(stack))
    _write_state(state)
    return stack


def _ensure_emulator(settings: Settings, state: _State, steps: Steps) -> int:
    """The port of a running emulator: the present one if it is healthy, else that of a new, empty one."""
    port = state.emulator_port
    wanted = settings.port in (None, port)
    if state.emulator and port and wanted and processes.is_alive(state.emulator) and emulator.is_healthy(port):
        return port
    if state.emulator:
        processes.stop(state.emulator)
    if settings.port and not ports.is_free(settings.port):
        raise LocalError(
            f"Port {settings.port} is taken: choose another one (make up PORT=…), or leave PORT out for a free one."
        )
    port = settings.port or ports.choose(emulator.DEFAULT_PORT)
    with steps.step(f"starting the AWS emulator on port {port}"):
        state.emulator = emulator.start(port)
    state.emulator_port, state.deployed_from, state.key = port, "", None
    _write_state(state)
    return port


def _ensure_simulator(settings: Settings, state: _State, steps: Steps, callback_url: str) -> str | None:
    """The URL of a stand-in that knows our callback; ``None`` if the settings name another server."""
    if settings.server:
        if state.simulator:
            processes.stop(state.simulator)
            state.simulator = None
        return None
    options: dict[str, object] = {"environment": settings.path}
    if settings.parameters.get("RefreshTokenLifetime", "").isdigit():
        options["refresh_token_lifetime"] = int(settings.parameters["RefreshTokenLifetime"])
    if settings.experiment.access_token_lifetime:
        options["access_token_lifetime"] = settings.experiment.access_token_lifetime
    made_from = _digest(deployment.digest_of(ROOT, "tools/simulator"), callback_url, sorted(options.items()))
    port = state.simulator_port
    if not (
        state.simulator and port and processes.is_alive(state.simulator) and state.simulator_made_from == made_from
    ):
        if state.simulator:
            processes.stop(state.simulator)
        # If possible the same port again, because another one needs another deployment.
        port = ports.choose(port, stand_in.DEFAULT_PORT)
        state.simulator_secret = state.simulator_secret or secrets.token_urlsafe(32)
        with steps.step(f"starting the stand-in for FlowAccount on port {port}"):
            state.simulator = stand_in.start(port, stand_in.CLIENT_ID, state.simulator_secret, [callback_url], options)
        state.simulator_port, state.simulator_made_from = port, made_from
        _write_state(state)
    return f"http://{ports.HOST}:{port}"


def _parameters(settings: Settings, simulator_url: str | None, callback_url: str) -> dict[str, str]:
    """The template's parameters."""
    if settings.server:
        authorize, token = settings.server.authorize_endpoint, settings.server.token_endpoint
        client_id = settings.server.client_id
    else:
        authorize, token = f"{simulator_url}/connect/authorize", f"{simulator_url}/{settings.path}/token"
        client_id = stand_in.CLIENT_ID
    return {
        "DirectConnect": "allowed",
        "AccessLogs": "enabled",
    } | {
        **settings.parameters,
        "AuthorizeEndpoint": authorize,
        "TokenEndpoint": token,
        "ClientId": client_id,
        "RedirectUri": callback_url,
    }


def _notifies(parameters: Mapping[str, str]) -> bool:
    """Whether the stack has a receiver outside AWS."""
    return any(parameters.get(name) for name in ("WebhookUrl", "SlackSecretName", "LineSecretName", "AlarmEmail"))


def _put_client_secret(port: int, name: str, value: str) -> None:
    """Puts the client secret into Secrets Manager, unless it is the stored one."""
    client = emulator.client("secretsmanager", port)
    document = json.dumps({"client_secret": value})
    if client.get_secret_value(SecretId=name)["SecretString"] != document:
        client.put_secret_value(SecretId=name, SecretString=document)


def _end_what_is_new(before: _State, now: _State) -> None:
    """After a failure: ends what this call started. Processes that ran before go on."""
    if now.simulator and now.simulator != before.simulator:
        processes.stop(now.simulator)
        now.simulator = None
    if now.emulator and now.emulator != before.emulator:
        processes.stop(now.emulator)
        now.emulator, now.emulator_port = None, None
        STACK_FILE.unlink(missing_ok=True)
    now.deployed_from = ""
    _write_state(now)


def _digest(*what: object) -> str:
    """A digest of a value."""
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _read_state() -> _State:
    """The state that an earlier `up` stored. An empty one if the file is missing or comes from another version."""
    try:
        kept: dict[str, Any] = json.loads(STATE_FILE.read_text())
        for name in ("emulator", "simulator"):
            kept[name] = processes.Process(**kept[name]) if kept[name] else None
        kept["key"] = tuple(kept["key"]) if kept["key"] else None
        return _State(**kept)
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return _State()


def _write_state(state: _State) -> None:
    """Stores the state. Called after each start, because `down` ends only the processes in the state."""
    _write_private(STATE_FILE, asdict(state))


def _write_private(path: Path, contents: dict[str, Any]) -> None:
    """Writes JSON that only its owner may read. An interrupted call leaves the old file whole."""
    STATE.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(contents, file, indent=2)
        file.write("\n")
    unfinished.rename(path)


@contextmanager
def _only_one() -> Iterator[None]:
    """Keeps two commands from bringing up or ending the same stack at the same time. Raises ``LocalError``."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalError(
                "Another `make up`, `make run` or `make down` is running here: wait for its end."
            ) from None
        yield


@contextmanager
def _in_turn(steps: Steps) -> Iterator[None]:
    """Stacks with folders of their own come up one after the other: they are built in one place, and share ports."""
    with (LOCAL / "lock-of-all").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            steps.note("another stack is coming up: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
