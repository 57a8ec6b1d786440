"""The functions as Lambda runs them: their own modules, over a stack in memory, with everything they log."""

import importlib.util
import io
import itertools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from flowaccount_connect.domain.ids import fingerprint
from flowaccount_connect.runtime import aws, observability
from tests.unit.fakes import CONNECTION, Context
from tests.unit.worlds import World

ROOT = Path(__file__).parents[2]
RETURN_URL = "https://app.example.com/accounting/done"
CLIENT_SECRET = "client-secret-CANARY"
TOKENS = {
    "access_token": "access-CANARY-2",
    "refresh_token": "refresh-CANARY-2",
    "expires_in": 86_400,
    "token_type": "Bearer",
    "supportCode": CONNECTION,
}
"""What the token endpoint answers."""

_numbers = itertools.count()

type Event = dict[str, Any]


def event(name: str) -> Event:
    """A sample event."""
    made: Event = json.loads((ROOT / "events" / f"{name}.json").read_text("utf-8"))
    return made


def with_query(of: Event, **query: list[str] | None) -> Event:
    """The event with other query parameters; `None` takes one away."""
    many = dict(of["multiValueQueryStringParameters"] or {}) | query
    kept = {name: values for name, values in many.items() if values is not None}
    single = {name: values[-1] for name, values in kept.items()}
    return of | {"multiValueQueryStringParameters": kept or None, "queryStringParameters": single or None}


def with_headers(of: Event, **headers: str | None) -> Event:
    """The event with other headers; `None` takes one away."""
    kept = {name: value for name, value in (of["headers"] | headers).items() if value is not None}
    return of | {"headers": kept, "multiValueHeaders": {name: [value] for name, value in kept.items()}}


def state_of(callback: Event) -> str:
    """The `state` that a sample callback brings back."""
    return str(callback["multiValueQueryStringParameters"]["state"][0])


def browser_of(callback: Event) -> str:
    """The secret in the cookie of a sample callback."""
    name = f"__Host-connect-{fingerprint(state_of(callback))[:16]}"
    cookies: dict[str, str] = dict(pair.split("=", 1) for pair in callback["headers"]["Cookie"].split("; "))
    return cookies[name]


def sent(began: dict[str, Any]) -> dict[str, str]:
    """What a browser was sent to FlowAccount with: the query of the address."""
    assert began["statusCode"] == 302
    return dict(parse_qsl(urlsplit(began["headers"]["Location"]).query))


def returning(began: dict[str, Any], **query: list[str] | None) -> Event:
    """The request of that browser as it comes back from FlowAccount, with its cookie and perhaps another query."""
    cookie = began["multiValueHeaders"]["Set-Cookie"][0].partition(";")[0]
    return with_headers(with_query(event("callback"), state=[sent(began)["state"]], **query), Cookie=cookie)


SECRETS = (
    "CANARY",
    "access-1",
    "refresh-1",
    state_of(event("callback")),
    browser_of(event("callback")),
    event("callback")["queryStringParameters"]["code"],
)
"""What no log may show."""


class Functions:
    """Makes and calls the functions of one stack."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self._printed = ""
        self._logged = io.StringIO()
        self._made: dict[str, ModuleType] = {}
        world.secrets.text = json.dumps({"client_secret": CLIENT_SECRET})
        clients = {
            "dynamodb": world.table,
            "kms": world.kms,
            "secretsmanager": world.secrets,
            "sqs": world.sqs,
            "lambda": world.lambdas,
            "events": world.events,
        }
        monkeypatch.setattr(aws, "client", lambda service, **_: clients[service])
        self.set(
            ENVIRONMENT="sandbox",
            STACK="connect",
            TABLE_NAME="table",
            AUTHORIZE_ENDPOINT="https://sandbox-auth.flowaccount.com/connect/authorize",
            TOKEN_ENDPOINT="http://127.0.0.1:1/test/token",
            CLIENT_ID="client",
            DIRECT_CONNECT="allowed",
            CLIENT_SECRET_NAME="secret",
            KEY_ID="key",
            ALLOWED_RETURN_URLS=f"{RETURN_URL} http://localhost:3000/done?from=settings",
            SALVAGE_QUEUE_URL="https://sqs.example/salvage",
            REFRESH_QUEUE_URL="https://sqs.example/refresh",
            REFRESH_FUNCTION="refresh:live",
            EVENT_BUS_NAME="connect",
            UNPUBLISHED_QUEUE_URL="https://sqs.example/unpublished",
            REFRESHES_PER_MINUTE="6000",
        )
        for handler in observability.logger.handlers:
            assert isinstance(handler, logging.StreamHandler)
            monkeypatch.setattr(handler, "stream", self._logged)
        # Whatever else logs anything is heard as well.
        self._others = logging.StreamHandler(self._logged)
        logging.getLogger().addHandler(self._others)
        monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)

    def close(self) -> None:
        """End what `__init__` began."""
        logging.getLogger().removeHandler(self._others)

    def set(self, **variables: str) -> None:
        """Set environment variables for functions that are made from here on."""
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def module(self, name: str) -> ModuleType:
        """The module of a function, made as at a cold start."""
        if name not in self._made:
            path = ROOT / "functions" / name / "app.py"
            spec = importlib.util.spec_from_file_location(f"unit_{name}_{next(_numbers)}", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            self._made[name] = module
        return self._made[name]

    def forget(self, name: str) -> None:
        """Let the next call of a function be a cold start."""
        self._made.pop(name, None)

    def call(self, name: str, event_: Event, *, seconds: float | None = None) -> Any:
        """Invoke a function, which has `seconds`, or almost what template.yaml gives it."""
        if seconds is None:
            seconds = {"publish": 60.0, "refresh": 45.0, "sweep": 50.0}.get(name, 28.0)
        handler: Callable[[Event, Context], Any] = self.module(name).handler
        return handler(event_, Context(seconds))

    def logs(self) -> str:
        """All that was written to standard output, standard error, or any log."""
        output = self._capsys.readouterr()
        self._printed += output.out + output.err
        return self._printed + self._logged.getvalue()

    def lines(self) -> list[dict[str, Any]]:
        """The structured lines of the functions' own log."""
        found = [line for line in self._logged.getvalue().splitlines() if line.startswith('{"level"')]
        return [json.loads(line) for line in found]


def problem(answer: dict[str, Any]) -> tuple[int, str]:
    """Status and code of a problem, once it has been seen to be one."""
    assert answer["headers"]["Content-Type"] == "application/problem+json"
    body = json.loads(answer["body"])
    assert body["status"] == answer["statusCode"]
    assert body["request_id"]
    return answer["statusCode"], body["code"]


def page(answer: dict[str, Any]) -> tuple[int, str]:
    """Status and kind of a page, once it has been seen to be one."""
    assert answer["headers"]["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer["headers"]["Content-Security-Policy"]
    kind = answer["body"].partition('data-page="')[2].partition('"')[0]
    return answer["statusCode"], kind
