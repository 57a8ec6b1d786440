"""A client of the running simulator: what a browser, the broker and a test at the controls would send."""

from __future__ import annotations

import html
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs, urlsplit

import requests

ROOT = Path(__file__).parents[2]
CLIENT_ID = "flowaccount-connect-local"
CLIENT_SECRET = "a secret that no log may show"
CALLBACK = "http://127.0.0.1:9/callback"
DAY = 86_400
TIMEOUT = 10


def process(*arguments: str, log: BinaryIO | int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """The program. Its access log goes to *log*."""
    command = [sys.executable, "-m", "tools.simulator", "--redirect-uri", CALLBACK, *arguments]
    environment = os.environ | {"SIMULATOR_CLIENT_SECRET": CLIENT_SECRET}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)


def url_of(running: subprocess.Popen[str]) -> str:
    """The URL that the program says when it is ready."""
    assert running.stdout is not None
    line = running.stdout.readline()
    assert line.startswith("simulator ready: http://127.0.0.1:"), line
    return line.split()[-1]


@contextmanager
def started(*arguments: str, log: BinaryIO | int = subprocess.DEVNULL) -> Iterator[Driver]:
    """A simulator of one's own."""
    with process(*arguments, log=log) as running:
        driver = Driver(url_of(running))
        try:
            yield driver
        finally:
            driver.http.close()
            running.terminate()


class Driver:
    """One simulator, and the requests that tests make of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = requests.Session()

    # The controls

    def control(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """What the control API answers, its status checked."""
        answer = self.http.request(method, f"{self.url}/_control/{path}", json=body, timeout=TIMEOUT)
        assert answer.status_code == status, answer.text
        return answer.json()

    def set(self, **changes: Any) -> None:
        """Change settings."""
        self.control("POST", "settings", changes)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.control("POST", "clock", {"advance": seconds})

    def order(self, fault: str, path: str = "token", **options: Any) -> None:
        """Order a fault for the next request."""
        self.control("POST", "faults", [{"path": path, "fault": fault, **options}])

    def ledger(self, kind: str = "refresh_token") -> list[dict[str, Any]]:
        """The ledger's entries of one kind, oldest first."""
        entries: list[dict[str, Any]] = self.control("GET", "ledger")["entries"]
        return [entry for entry in entries if entry["kind"] == kind]

    def last_request(self) -> dict[str, Any]:
        """The newest record of a request."""
        record: dict[str, Any] = self.control("GET", "requests")["requests"][-1]
        return record

    def consent(self, business: str = "N1000001") -> str:
        """A refresh token as if a user had consented."""
        token: str = self.control("POST", "consents", {"business": business})["consents"][0]["refresh_token"]
        return token

    def client(self, secret: str | None = None, *redirect_uris: str, client_id: str = CLIENT_ID) -> None:
        """Register a client, or change one."""
        changes = {"client_secret": secret, "redirect_uris": [*redirect_uris]}
        given = {name: value for name, value in changes.items() if value}
        self.control("POST", "clients", {"client_id": client_id} | given)

    def connection(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(("127.0.0.1", urlsplit(self.url).port or 0), timeout=TIMEOUT)

    # The browser

    def authorize(self, **changes: str | list[str] | None) -> requests.Response:
        """The authorize endpoint; None leaves a parameter out."""
        parameters: dict[str, str | list[str] | None] = {
            "response_type": "code",
            "scope": "flowaccount-api offline_access",
            "client_id": CLIENT_ID,
            "redirect_uri": CALLBACK,
            "state": "a state that no log may show",
        }
        return self.http.get(
            f"{self.url}/connect/authorize",
            params=parameters | changes,
            timeout=TIMEOUT,
            allow_redirects=False,
        )

    def log_in(self, user: str = "somchai", **changes: str | list[str] | None) -> str:
        """Log in with one click; the id of the attempt."""
        page = self.authorize(**changes)
        assert page.status_code == 200, page.text
        attempt = attempt_in(page)
        answer = self.post("/connect/login", attempt=attempt, user=user)
        assert answer.status_code == 303
        return attempt

    def choose(self, attempt: str, business: str = "N1000001") -> dict[str, str]:
        """Choose a business; the parameters of the callback."""
        answer = self.post("/connect/consent", attempt=attempt, business=business)
        assert answer.status_code == 302, answer.text
        return parameters_of(answer.headers["Location"])

    def code(self, **changes: str | list[str] | None) -> str:
        """A code for the first business of the first user."""
        return self.choose(self.log_in("somchai", **changes))["code"]

    def post(self, path: str, **form: str) -> requests.Response:
        """A form, redirects not followed."""
        return self.http.post(f"{self.url}{path}", data=form, timeout=TIMEOUT, allow_redirects=False)

    # The broker

    def token(self, environment: str = "test", **form: str | None) -> requests.Response:
        """The token endpoint; None leaves a parameter out."""
        fields = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET} | form
        return self.http.post(f"{self.url}/{environment}/token", data=fields, timeout=TIMEOUT)

    def exchange(self, code: str, **changes: str | None) -> dict[str, Any]:
        """Exchange a code; the body of the answer."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        body: dict[str, Any] = self.token("test", **(form | changes)).json()
        return body

    def answer(self, token: str, environment: str = "test", **changes: str | None) -> requests.Response:
        """Use a refresh token."""
        return self.token(environment, **(form_of(token) | changes))

    def refresh(self, token: str, **changes: str | None) -> dict[str, Any]:
        """Use a refresh token; the body of the answer."""
        body: dict[str, Any] = self.answer(token, "test", **changes).json()
        return body

    def works(self, token: str) -> bool:
        """Whether a refresh token is taken. It is spent by this."""
        return "access_token" in self.refresh(token)

    def company(self, access_token: str, environment: str = "test") -> requests.Response:
        """The business API."""
        headers = {"Authorization": f"Bearer {access_token}"}
        return self.http.get(f"{self.url}/{environment}/company/info", headers=headers, timeout=TIMEOUT)


def form_of(token: str) -> dict[str, str]:
    """What a refresh sends."""
    who = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    return who | {"grant_type": "refresh_token", "refresh_token": token}


def attempt_in(page: requests.Response) -> str:
    """The id of the attempt, from a page's hidden field."""
    found = re.search(r'name="attempt" value="([^"]+)"', page.text)
    assert found, page.text
    return html.unescape(found[1])


def parameters_of(location: str) -> dict[str, str]:
    """The query of a redirect, each parameter of which must be there once."""
    parameters = parse_qs(urlsplit(location).query, keep_blank_values=True, strict_parsing=True)
    assert all(len(values) == 1 for values in parameters.values()), location
    return {name: values[0] for name, values in parameters.items()}
