"""The user's consent: shows the address of the login, and reads the address that the browser ended on."""

from typing import Protocol, TextIO
from urllib.parse import parse_qs, urlsplit

from rich.console import Console
from rich.markup import escape

WAY_BACK = (
    "Then paste the whole address that the browser ended on; the page need not load. Stuck on a page? Only Enter."
)


class Stuck(Exception):
    """The login ended on a page of the server, with no way back, as the user reports."""


class Consents(Protocol):
    """Somebody who logs in and consents, or cancels."""

    def ask(self, url: str, *, why: str, cancel: bool = False) -> str | None:
        """Have `url` opened; the address that the browser was sent back to, or `None` if nobody answers.

        Raises `Stuck` where the browser was not sent back.
        """


class PersonAtBrowser:
    """A person who reads on the terminal what to do, and pastes where the browser ended."""

    def __init__(self, console: Console, typed: TextIO) -> None:
        """`typed`: where the pasted addresses come from."""
        self._console = console
        self._typed = typed

    def ask(self, url: str, *, why: str, cancel: bool = False) -> str | None:
        """Print what to do, and read lines until one is an address of this login."""
        do = "[bold]CANCEL there[/] (do not log in and allow)" if cancel else "log in and allow the access"
        self._console.print(f"\n[bold]Your turn:[/] {escape(why)}\nOpen this address and {do}:\n", soft_wrap=True)
        self._console.print(url, soft_wrap=True, markup=False, highlight=False)
        self._console.print(f"\n[dim]{WAY_BACK}[/]", soft_wrap=True)
        for line in iter(self._typed.readline, ""):
            address = line.strip()
            if not address:
                raise Stuck
            landed = parameters_of(address)
            if not {"code", "error"} & landed.keys():
                wrong = "That carries neither a code nor an error."
            elif landed.get("state") != parameters_of(url)["state"]:
                wrong = "That does not carry the `state` that was sent: it belongs to another login."
            else:
                return address
            self._console.print(f"{wrong} Paste the address that the browser ended on.")
        return None


def parameters_of(address: str) -> dict[str, list[str]]:
    """The parameters of the address a browser landed on, without its fragment."""
    try:
        return parse_qs(urlsplit(address).query[:65_536], keep_blank_values=True)
    except ValueError:
        return {}
