"""`make run`: brings the stack up, shows one connection from consent to token, and runs until Ctrl-C."""

import sys
import time
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from rich.console import Console
from rich.markup import escape

from tools.local import processes, service, settings, stack
from tools.local.errors import LocalError
from tools.local.stack import Stack
from tools.local.steps import Steps
from tools.local.visit import Visitor, chromium, visitor

USER, BUSINESS = "somchai", "N1000001"
REFRESH_AFTER = 5
"""Seconds after which the demo's connections fall due, so that a person can watch the rotation."""
_SOON = 60
"""The demo waits for a refresh that is due within this time, in seconds."""


class Story:
    """Prints what happens, step by step. Secrets are shortened."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._chapter = 0

    def chapter(self, title: str) -> None:
        """A numbered heading."""
        self._chapter += 1
        self._console.print(f"\n[bold]{self._chapter}  {escape(title)}[/]")

    def line(self, label: str, value: object) -> None:
        """One fact: a label and a value."""
        self._console.print(f"   [dim]{escape(label):<22}[/] {escape(str(value))}", soft_wrap=True)

    def say(self, text: str) -> None:
        """A sentence."""
        self._console.print(f"   {escape(text)}", soft_wrap=True)


def main() -> None:
    """Run `make run`, and end what it started."""
    processes.interrupt_when_ended()
    console = Console(highlight=False)
    try:
        found = _running(console)
        up = found or stack.up(_for_the_demo(settings.read()), Steps(console))
    except LocalError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; everything that was started has ended")
    try:
        story = Story(console)
        if up.simulator_url:
            _job(up, story)
        _stay(up, story, console)
    except KeyboardInterrupt:
        pass
    except LocalError as error:
        sys.exit(f"error: {error}")
    finally:
        if found is None:
            stack.down()
    console.print("\nthe stack of `make up` stays up" if found else "\neverything has ended")


def _running(console: Console) -> Stack | None:
    """The stack of an earlier `make up`, used as it is. Raises `LocalError` if the command line has settings."""
    found = stack.running()
    if found is None:
        return None
    if given := settings.given_on_the_command_line():
        raise LocalError(
            f"A stack is up already, with settings of its own. Run `make down` first to use {', '.join(given)}, "
            "or `make run` alone to use the stack that is up."
        )
    console.print("A stack is up (make up): it is used as it is, and stays up.")
    return found


def _for_the_demo(wanted: settings.Settings) -> settings.Settings:
    """The settings, with connections that fall due within seconds unless a setting says otherwise."""
    if "RefreshAfter" in wanted.parameters:
        return wanted
    return replace(wanted, parameters={**wanted.parameters, "RefreshAfter": str(REFRESH_AFTER)})


def _job(up: Stack, story: Story) -> None:
    """Connect, show what is stored, rotate, read a token, use it."""
    story.chapter("A business owner clicks “Connect FlowAccount”")
    begun = requests.get(up.authorize_url, allow_redirects=False, timeout=30)
    if begun.status_code != 302:
        raise LocalError(f"authorize answered {begun.status_code}. Its log group says why.")
    login = urlsplit(begun.headers["Location"])
    story.line("GET", up.authorize_url)
    story.line("302 to", f"{login.scheme}://{login.netloc}{login.path}")
    for name, value in parse_qsl(login.query):
        story.line(f"  {name}", _hidden(value) if name == "state" else value)
    story.line(
        "browser bound by",
        f"{begun.headers['Set-Cookie'].partition('=')[0]}=…; Secure; HttpOnly; SameSite=Lax",
    )

    real = "in headless Chromium" if chromium() else "over plain HTTP, since no Chromium is installed here"
    story.chapter(f"The owner logs in and picks a business, {real}")
    with visitor(lambda title: story.line("page", title)) as owner:
        _connect(up, story, owner)

    story.chapter("What is stored now")
    item = service.connection_item(up, BUSINESS)
    if item is None:
        raise LocalError(f"no connection was stored. The log of {up.functions['callback']} says why.")
    _show(story, item)

    _refresh(up, story, item)
    rotated = service.until_generation(up, BUSINESS, int(item["generation"]["N"]) + 1, patience=40)
    story.line("generation", f"{item['generation']['N']} → {rotated['generation']['N']}")
    _show(story, rotated)

    story.chapter("A service asks for a valid access token, signed with its AWS credentials")
    answer = service.call(up, "GET", f"/connections/{BUSINESS}/token")
    if answer.status_code != 200:
        raise LocalError(f"token answered {answer.status_code}: {answer.text}")
    token = answer.json()
    story.line("GET", f"{up.api_url}/connections/{BUSINESS}/token")
    for name, value in token.items():
        story.line(f"  {name}", _hidden(value) if name == "access_token" else value)

    story.chapter("… and reads the company's name with it")
    path = "test" if token["environment"] == "sandbox" else "v1"
    company = requests.get(
        f"{up.simulator_url}/{path}/company/info",
        headers={"Authorization": f"Bearer {token['access_token']}"},
        timeout=30,
    ).json()
    # The misspelling is FlowAccount's own.
    story.line("company", company["data"]["compnayName"])


def _refresh(up: Stack, story: Story, item: dict[str, Any]) -> None:
    """By the schedule if the connection falls due soon, else on demand."""
    wait = int(item["refresh_at"]["N"]) - time.time()
    if wait > _SOON:
        story.chapter("It falls due in hours, so the function refresh is invoked now")
        asked = {"connection_id": BUSINESS, "generation": int(item["generation"]["N"])}
        story.line("refresh", service.invoke(up, "refresh", asked)["outcome"])
        return
    story.chapter("The schedule ticks: sweep finds what is due, refresh rotates it")
    time.sleep(max(0.0, wait + 0.1))
    tick = service.invoke(up, "sweep", {})
    story.line("sweep", f"{tick['due']} due, {tick['dispatched']} dispatched")


def _connect(up: Stack, story: Story, owner: Visitor) -> None:
    arrived = owner.connect(up.authorize_url, user=USER, business=BUSINESS)
    if arrived.page != "connected":
        raise LocalError(f"the connect ended with {arrived.status} on the page {arrived.page}")
    story.line("came back to", f"{arrived.url.partition('?')[0]}?code=…&state=…")
    story.line("the code went to", f"{up.simulator_url}/…/token, once, from callback")


def _show(story: Story, item: dict[str, Any]) -> None:
    now = time.time()
    story.line("connection", item["pk"]["S"].removeprefix("CONNECTION#"))
    story.line("status", item["status"]["S"])
    story.line("generation", item["generation"]["N"])
    story.line("tokens", f"{len(item['tokens']['B'])} bytes of ciphertext")
    story.line("refreshed next in", f"{max(int(item['refresh_at']['N']) - now, 0):.0f} s")
    story.line("refresh token dies in", f"{(int(item['deadline']['N']) - now) / 3600:.1f} h")


def _stay(up: Stack, story: Story, console: Console) -> None:
    """Until Ctrl-C: print every rotation. The schedule ticks once a minute."""
    story.chapter("Your turn")
    story.line("connect a business", up.authorize_url)
    story.say("The schedule ticks once a minute. Ctrl-C ends everything.")
    database, seen = service.client(up, "dynamodb"), dict[str, tuple[str, str]]()
    while True:
        # A demo has few items, so it may scan. The product never scans.
        for item in database.scan(TableName=up.table)["Items"]:
            name = item["pk"]["S"].removeprefix("CONNECTION#")
            if item["sk"]["S"] != "CONNECTION":
                continue
            state = (item["generation"]["N"], item["status"]["S"])
            if seen.get(name) not in (None, state):
                console.print(f"   {time.strftime('%H:%M:%S')}  {name}  {state[1]}, generation {state[0]}")
            seen[name] = state
        time.sleep(2)


def _hidden(secret: str) -> str:
    return f"… ({len(secret)} characters, not shown)"


if __name__ == "__main__":
    main()
