"""Serves the console on this machine: on loopback, for one host name, under a random path."""

import hmac
import secrets
import socket
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

HOST = "127.0.0.1"


class _Quiet(WSGIRequestHandler):
    """Writes no log: a path holds the secret."""

    def log_request(self, *_: object, **__: object) -> None:
        """Nothing."""

    def log(self, *_: object, **__: object) -> None:
        """Nothing."""


class Guarded:
    """The application below a random path. Everything else is not found.

    Another website that makes its name point to this machine (DNS rebinding) sends its own name as `Host`.
    """

    def __init__(self, application: Any, secret: str) -> None:
        self._application = application
        self._secret = secret

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """The answer to one request, by WSGI (PEP 3333)."""
        first, _, rest = environ.get("PATH_INFO", "").removeprefix("/").partition("/")
        known = hmac.compare_digest(first.encode("latin-1", "replace"), self._secret.encode())
        if not (known and environ.get("HTTP_HOST") == f"{HOST}:{environ['SERVER_PORT']}"):
            start_response(f"{HTTPStatus.NOT_FOUND.value} Not Found", [("Content-Type", "text/plain")])
            return [b"Not found. The whole address is in the terminal.\n"]
        inner = {**environ, "SCRIPT_NAME": f"/{first}", "PATH_INFO": f"/{rest}"}
        answer: Iterable[bytes] = self._application(inner, start_response)
        return answer


def server(application: Any, port: int) -> tuple[BaseWSGIServer, str]:
    """A server for the application, and its address. `port` 0 takes a free one. Raises `OSError` if it is taken."""
    secret = secrets.token_urlsafe(24)
    guarded = Guarded(application, secret)
    with socket.create_server((HOST, port)) as bound:
        # werkzeug ends the process where a port is taken. So it gets a port that is bound.
        number: int = bound.getsockname()[1]
        made = make_server(HOST, number, guarded, threaded=True, request_handler=_Quiet, fd=bound.fileno())
    return made, f"http://{HOST}:{number}/{secret}/"
