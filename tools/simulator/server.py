"""The socket side: HTTP/1.1 with keep-alive, a thread a connection, and control over how answers leave.

It is the standard library's server rather than Flask's own, because a fault must be able to cut an answer in
half, to reset a connection, and to tell the ledger whether the last byte was handed to the socket.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, cast

from tools.simulator.faults import Answer
from tools.simulator.gateway import Exchange, Gateway, reason_phrase

HOST = "127.0.0.1"
"""Loopback only: this is for one machine."""

MAX_BODY = 4_000_000
"""Bytes of a request body that are read."""

IDLE_SECONDS = 120
"""Real seconds after which a connection without requests is closed."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True

    def handle_any(self) -> None:
        """Read a request, have it answered, send the answer, write a line about it."""
        body = self._read_body()
        if body is None:
            return
        path, _, query = self.path.partition("?")
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        exchange = Exchange(self.command, path, query, headers, body, self.client_address[0])
        answer, record = cast("Server", self.server).gateway.handle(exchange)
        gone = self._receiver_gone()
        if record is not None and answer.sent == "whole" and not answer.drip:
            # Noted ahead, and taken back if it fails: a test may ask as soon as it has the answer.
            record.note_delivery(True, gone, answer.carries_tokens)
        complete = self._send(answer)
        if record is not None:
            record.note_delivery(complete, gone, answer.carries_tokens)
        self._log(path, {"nothing": "closed", "reset": "reset"}.get(answer.sent, str(answer.status)))

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = do_HEAD = do_OPTIONS = handle_any  # noqa: N815 - as it must be

    def _read_body(self) -> bytes | None:
        """The request's body; None if it cannot be read and that was answered already."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            self.send_error(411)
            return None
        if int(length) > MAX_BODY:
            self.send_error(413)
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return None
        return body

    def _receiver_gone(self) -> bool:
        """Whether the peer has closed its side, so that what is sent now reaches nobody."""
        waiting = select.poll()
        waiting.register(self.connection, select.POLLIN)
        try:
            # Asked first: on a socket with a timeout, recv would wait for data whatever its flags say.
            return bool(waiting.poll(0)) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def _send(self, answer: Answer) -> bool:
        """Let *answer* leave as it says; whether every byte of it was handed to the socket."""
        if answer.sent == "nothing":
            self.close_connection = True
            return False
        if answer.sent == "reset":
            self._reset()
            return False
        body = b"" if self.command == "HEAD" or answer.status in (204, 304) else answer.body
        lines = [
            f"HTTP/1.1 {answer.status} {reason_phrase(answer.status)}",
            f"Date: {formatdate(usegmt=True)}",
        ]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        if answer.status != 204:
            lines.append(f"Content-Length: {len(answer.body)}")
        if self.close_connection:
            lines.append("Connection: close")
        message = "\r\n".join([*lines, "", ""]).encode("latin-1")
        message += body[: len(body) // 2] if answer.sent == "half" else body
        try:
            if answer.drip:
                for byte in message:
                    self.wfile.write(bytes([byte]))
                    time.sleep(answer.drip)
            else:
                self.wfile.write(message)
        except OSError:
            self.close_connection = True
            return False
        if answer.sent == "half":
            self.close_connection = True
            return False
        return True

    def _reset(self) -> None:
        """End the connection with a RST: no lingering, and the descriptor closed under everybody's feet."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def _log(self, path: str, result: str) -> None:
        """One line for the access log. The query stays out: codes and states travel in it."""
        shown = "".join(character if "!" <= character <= "~" else "?" for character in path[:120])
        print(f"{self.command} {shown} {result}", file=sys.stderr, flush=True)

    def log_message(self, *_: Any) -> None:
        """Nothing: what the base class would print may quote a request line with its query."""

    def version_string(self) -> str:
        """The Server header of the answers that the base class makes."""
        return "simulator"


class Server(ThreadingHTTPServer):
    """Listens on loopback, one daemon thread a connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024
    allow_reuse_address = True

    def __init__(self, port: int, gateway: Gateway) -> None:
        self.gateway = gateway
        super().__init__((HOST, port), Handler)

    @property
    def url(self) -> str:
        """Where the server is reached."""
        return f"http://{HOST}:{self.server_port}"

    def server_bind(self) -> None:
        """Bind without asking the resolver for this machine's name, as the base class would."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, int(self.server_address[1])

    def handle_error(self, *_: Any) -> None:
        """Name what went wrong with a connection, without a traceback and what that might quote."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"connection failed: {type(error).__name__}", file=sys.stderr, flush=True)
