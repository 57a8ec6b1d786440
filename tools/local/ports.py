"""Ports and endpoints: which one is free, which one answers."""

import http.client
import socket
from urllib.parse import urlsplit

from tools.local.errors import LocalError

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback interface now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    # Binding can succeed although a server listens on all interfaces, so try to connect too.
    return not answers(HOST, port, 0.2)


def choose(*preferred: int | None) -> int:
    """The first of the preferred ports that is free, else any free one."""
    for port in preferred:
        if port and is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def answers(host: str, port: int, patience: float) -> bool:
    """Whether a server accepts a TCP connection within ``patience`` seconds."""
    try:
        with socket.create_connection((host, port), patience):
            return True
    except OSError:
        return False


def http_status(port: int, path: str) -> int | None:
    """The status of a GET to a server on this machine; ``None`` while it does not speak HTTP."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def require_answer(name: str, url: str, patience: float = 5.0) -> None:
    """Raises ``LocalError`` unless the endpoint accepts a TCP connection. ``name`` is the name of the setting."""
    parts = urlsplit(url)
    try:
        port = parts.port or {"https": 443, "http": 80}[parts.scheme]
        host = parts.hostname or ""
    except (KeyError, ValueError):
        raise LocalError(f"{name} is not a URL: {url}") from None
    if not host or not answers(host, port, patience):
        raise LocalError(
            f"{name} does not answer: no connection to {host}:{port} within {patience:.0f} s. Is it running?"
        )
