"""The user's consent: shows the login's address, and gets hold of where the browser was sent back to.

Where the redirect URI is a plain http one on this machine, a listener receives the browser there. Where it is not, or
where the user prefers, the address the browser ended up on is pasted. Who is stuck on the server's page presses Enter.
"""

import queue
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol, TextIO
from urllib.parse import parse_qs, urlsplit

from rich.console import Console
from rich.markup import escape

from flowaccount_connect.runtime.settings import InvalidSetting
from tools.probe.target import is_loopback

_PAGE = (
    b"<!doctype html><html lang=en><meta charset=utf-8><title>Probe</title>"
    b"<p>The probe has got this. You can close this page and go back to the terminal."
)


class Stuck(Exception):
    """The login ended on a page of the server, with no way back: the user said so."""


class Consents(Protocol):
    """Somebody who logs in and consents, or cancels."""

    def ask(self, url: str, *, why: str, cancel: bool = False) -> str | None:
        """Have `url` opened; the address that the browser was sent back to, or `None` if it was not in time.

        Raises `Stuck` where the user knows that it never will be.
        """


class BrowserConsents:
    """A person at a browser, told on the terminal what to do."""

    def __init__(
        self,
        redirect_uri: str,
        console: Console,
        *,
        patience: float,
        opens: bool = False,
        typed: TextIO | None = None,
    ) -> None:
        """`patience`: seconds that a person may take. `opens`: whether to open the browser too. `typed`: where a pasted
        address comes from; standard input if that is a terminal."""
        self._redirect_uri = redirect_uri
        self._console = console
        self._patience = patience
        self._opens = opens
        self._arrived: queue.Queue[str | None] = queue.Queue()
        self._states: set[str] = set()
        self._listens = urlsplit(redirect_uri).scheme == "http" and is_loopback(redirect_uri)
        self._typed = typed or (sys.stdin if sys.stdin is not None and sys.stdin.isatty() else None)
        if not self._listens and self._typed is None:
            raise InvalidSetting(
                "REDIRECT_URI is not on this machine, so the address has to be pasted: run the probe on a terminal"
            )

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Listen for as long as the block.

        Where the redirect URI's port is taken the address has to be pasted. Raises `InvalidSetting` without a terminal.
        """
        server = None
        if self._listens:
            try:
                server = _listener(self._redirect_uri, self._arrived)
            except OSError as error:
                words = f"REDIRECT_URI: cannot listen at {self._redirect_uri} ({error.strerror})"
                if self._typed is None:
                    raise InvalidSetting(words) from None
                self._console.print(f"{escape(words)}; paste the addresses instead.", soft_wrap=True)
                self._listens = False
        if self._typed is not None:
            threading.Thread(target=self._read, args=(self._typed,), daemon=True).start()
        if server is None:
            yield
            return
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()

    def ask(self, url: str, *, why: str, cancel: bool = False) -> str | None:
        """Print what to do and wait for the browser, for what is typed, or for the end of the user's time."""
        while not self._arrived.empty():
            self._arrived.get_nowait()
        do = "[bold]CANCEL there[/] (do not log in and allow)" if cancel else "log in and allow the access"
        self._console.print(f"\n[bold]Your turn:[/] {escape(why)}\nOpen this address and {do}:\n", soft_wrap=True)
        self._console.print(url, soft_wrap=True, markup=False, highlight=False)
        if self._opens:
            webbrowser.open(url)
        self._console.print(f"\n[dim]{escape(self._way_back())}[/]", soft_wrap=True)
        return self._landed(_state_of(url))

    def _landed(self, state: str) -> str | None:
        """Where the browser landed with this `state`.

        What comes with another one is passed over, and returned only if nothing better comes: some servers lose it.
        What belongs to an earlier consent is no sign of that.
        """
        earlier = frozenset(self._states)
        self._states.add(state)
        deadline = time.monotonic() + self._patience
        stray = None
        while (left := deadline - time.monotonic()) > 0:
            try:
                address = self._arrived.get(timeout=left)
            except queue.Empty:
                break
            if address is None and stray is None:
                raise Stuck
            if address is None:
                break
            came = _state_of(address)
            if came == state:
                return address
            if came in earlier:
                self._console.print("That belongs to an earlier consent; still waiting for this one.")
                continue
            stray = address
            enter = "" if self._typed is None else " Only Enter if nothing else comes."
            self._console.print(f"That is not the `state` that was sent: still waiting for the right one.{enter}")
        return stray

    def _way_back(self) -> str:
        minutes = f"for {self._patience / 60:.0f} min" if self._patience >= 120 else f"for {self._patience:.0f} s"
        stuck = "Only Enter if you are stuck on a page of the server."
        if not self._listens:
            return f"Then paste the whole address that the browser ended up on, and press Enter. {stuck}"
        return f"Waiting {minutes} at {self._redirect_uri}." + (f" {stuck}" if self._typed is not None else "")

    def _read(self, typed: TextIO) -> None:
        for line in typed:
            address = line.strip()
            if address and not _same_place(address, self._redirect_uri):
                self._console.print(
                    f"That is not an address of {escape(self._redirect_uri)}; paste the one it ended on."
                )
            elif address and not leads_somewhere(address):
                self._console.print("That carries neither a code nor an error; paste the whole address.")
            else:
                self._arrived.put(address or None)


def leads_somewhere(address: str) -> bool:
    """Whether an address carries what a login ends with: a code or an error."""
    return bool({"code", "error"} & parameters_of(address).keys())


def _same_place(address: str, other: str) -> bool:
    """Whether two addresses differ in no more than query and fragment."""
    return _place(address) == _place(other)


def _place(address: str) -> tuple[str, str | None, int | None, str] | None:
    try:
        parts = urlsplit(address)
        usual = {"http": 80, "https": 443}.get(parts.scheme)
        return parts.scheme, parts.hostname, parts.port or usual, parts.path or "/"
    except ValueError:
        return None


def _state_of(address: str) -> str:
    return parameters_of(address).get("state", [""])[0]


def _listener(redirect_uri: str, arrived: "queue.Queue[str | None]") -> ThreadingHTTPServer:
    """Listens where browsers are sent back to. Raises `OSError` if that is not possible."""
    parts = urlsplit(redirect_uri)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Take what came to the redirect URI with a code or an error; browsers ask for icons too."""
            address = f"{parts.scheme}://{parts.netloc}{self.path}"
            if not self.path.startswith("/") or not _same_place(address, redirect_uri) or not leads_somewhere(address):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(_PAGE)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            self.wfile.write(_PAGE)
            arrived.put(address)

        def log_message(self, *_: object) -> None:
            """Nothing: these addresses hold codes."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if parts.hostname == "::1" else socket.AF_INET

        def handle_error(self, *_: object) -> None:
            """Nothing: whatever somebody sent, it was no login's end."""

    host = "127.0.0.1" if parts.hostname in (None, "localhost") else parts.hostname
    return Server((host, parts.port or 80), Handler)


def parameters_of(address: str) -> dict[str, list[str]]:
    """The parameters of the address a browser landed on: its query's, and those in its fragment that matter."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return {}
    in_fragment = parse_qs(parts.fragment[:65_536])
    return {name: in_fragment[name] for name in ("code", "error", "state") if name in in_fragment} | parse_qs(
        parts.query[:65_536], keep_blank_values=True
    )
