"""The client's example apps, each run as it stands, with users in a real browser."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from playwright.sync_api import expect

from flowaccount_connect.connect import errors
from flowaccount_connect.connect.endings import Ending
from tests.e2e.addresses import APP_RETURN_URL
from tests.e2e.conftest import Simulator
from tests.e2e.test_readme import environment_of
from tests.support import programs, typescript
from tools.local import ports, service
from tools.local.stack import Stack
from tools.simulator import people

EXAMPLES = Path(__file__).parents[2] / "clients" / "python" / "examples"
BUSINESS, OTHER_BUSINESS = "N1000001", "N1000002"
APP = APP_RETURN_URL.removesuffix("/flowaccount-connected")
ANOTHER_PORT = ports.choose(4591)
"""Where an example runs whose return URL the stack does not allow."""
TENANT = "ร้าน <b>somchai</b>"
"""A tenant whose id a page has to escape."""

COMMANDS = {
    "flask": [sys.executable, "-m", "flask", "--app", str(EXAMPLES / "flask_app.py"), "run", "--port", "{port}"],
    "django": [sys.executable, str(EXAMPLES / "django_app.py"), "runserver", "127.0.0.1:{port}", "--noreload"],
    "fastapi": [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "fastapi_app:app", "--port", "{port}"],
    "express": ["node", str(typescript.BUILT / "examples" / "express.js")],
}
"""How each example is started. Express takes its port from the environment."""

BUTTON = 'button:has-text("Connect FlowAccount")'
AGAIN = "expired, or was used already"
ENDINGS = {
    Ending.WRONG_BUSINESS: "not the expected business",
    Ending.ACCESS_DENIED: "because you cancelled",
    Ending.AUTHORIZATION_FAILED: "try again in a few minutes",
    Ending.ATTEMPT_EXPIRED: AGAIN,
    Ending.ATTEMPT_UNKNOWN: AGAIN,
    Ending.ATTEMPT_USED: AGAIN,
    Ending.CODE_REJECTED: "try again in a few minutes",
    Ending.INCOMPLETE_GRANT: "Our team knows",
    Ending.CONFIGURATION_ERROR: "Our team knows",
    Ending.TEMPORARILY_UNAVAILABLE: "try again in a few minutes",
    errors.LinkExpired.code: AGAIN,
    errors.LinkUsed.code: AGAIN,
    "<script>alert(1)</script>": AGAIN,
}
"""What a user reads after each `error` that the return URL can bring, and after one that somebody made up."""


@pytest.fixture(scope="module", params=COMMANDS)
def framework(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if name == "express":
        typescript.run(typescript.package(), "npm", "run", "build")
    return name


def running(framework: str, up: Stack, folder: Path, return_url: str) -> AbstractContextManager[Path]:
    """One of the examples, running where its return URL is, for as long as a block runs; gives its log."""
    port = str(urlsplit(return_url).port)
    environment = environment_of(up) | {
        "FLOWACCOUNT_URL": str(up.simulator_url),
        "RETURN_URL": return_url,
        "SECRET_KEY": os.urandom(32).hex(),
        "PORT": port,
        "NODE_ENV": "production",
        "PYTHONPATH": str(EXAMPLES.parent),
    }
    command = [word.format(port=port) for word in COMMANDS[framework]]
    return programs.serving(command, f"http://localhost:{port}", folder, environment)


@pytest.fixture(scope="module")
def example(framework: str, up: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The example of a framework, running; the framework."""
    with running(framework, up, tmp_path_factory.mktemp(framework), APP_RETURN_URL):
        yield framework


@pytest.fixture
def nobody(up: Stack) -> None:
    """No business is connected, and none was."""
    for business in (BUSINESS, OTHER_BUSINESS):
        # Nor was a token of it reported as rejected within the last minute.
        for kind in ("CONNECTION", "DEMAND"):
            key = {"pk": {"S": f"{kind}#{business}"}, "sk": {"S": kind}}
            service.client(up, "dynamodb").delete_item(TableName=up.table, Key=key)


@dataclass
class Owner:
    """A user of the app, in a browser of their own."""

    page: Any
    app: str = APP

    def sign_in(self, tenant: str) -> None:
        """Sign in at the app."""
        self.page.goto(self.app)
        self.page.fill("input[name=tenant]", tenant)
        self.page.click("button")
        self.page.wait_for_selector(BUTTON)

    def press(self) -> None:
        """Press the button, and sign in at FlowAccount."""
        self.page.click(BUTTON)
        self.page.click('[data-user="somchai"]')

    def choose(self, business: str) -> None:
        """Choose a business at FlowAccount, and come back to the app."""
        self.page.click(f'[data-business="{business}"]')

    def arrives(self, words: str) -> None:
        """Wait for a page of the app with these words, and the button as the next step."""
        self.page.wait_for_url(f"{self.app}/**")
        self.page.wait_for_selector(f"text={words}")
        expect(self.page.locator(BUTTON)).to_have_count(1)

    def visit(self, **query: str) -> int:
        """Open the return URL with these parameters; the status of where it leads."""
        return int(self.page.goto(f"{APP_RETURN_URL}?{urlencode(query)}").status)


@contextmanager
def visiting(chromium: Any) -> Iterator[Owner]:
    assert chromium is not None, "install Chromium"
    context = chromium.new_context(locale="th-TH")
    try:
        yield Owner(context.new_page())
    finally:
        context.close()


@pytest.fixture
def owner(chromium: Any) -> Iterator[Owner]:
    with visiting(chromium) as one:
        yield one


def returned(owner: Owner) -> list[dict[str, str]]:
    """The parameters with which the browser came back to the return URL, each time; filled as it goes on."""
    came: list[dict[str, str]] = []

    def note(request: Any) -> None:
        if request.url.startswith(APP_RETURN_URL):
            came.append({name: values[0] for name, values in parse_qs(urlsplit(request.url).query).items()})

    owner.page.on("request", note)
    return came


def shown(up: Stack, business: str = BUSINESS) -> tuple[str, str]:
    """Tenant and status of a connection."""
    connection = service.call(up, "GET", f"/connections/{business}").json()
    return connection["tenant"], connection["status"]


def test_the_button_connects_once_however_often_it_is_pressed_or_the_way_back_reloaded(
    example: str, up: Stack, simulator: Simulator, owner: Owner, nobody: None
) -> None:
    came = returned(owner)
    owner.sign_in(TENANT)
    owner.arrives("FlowAccount is not connected yet.")
    assert TENANT in owner.page.inner_text("body")
    owner.page.evaluate("() => { const [form] = document.forms; form.submit(); setTimeout(() => form.submit(), 5); }")
    owner.page.click('[data-user="somchai"]')
    owner.choose(BUSINESS)
    owner.arrives(f"FlowAccount is connected: {people.business(BUSINESS).thai}")
    assert (owner.page.url, shown(up)) == (f"{APP}/", (TENANT, "active"))
    for _ in range(2):
        assert owner.visit(**came[0]) == 200
        owner.arrives(f"FlowAccount is connected: {people.business(BUSINESS).thai}")
    assert owner.visit(error="already_connected", state=came[0]["state"]) == 200
    assert len(simulator.posts("authorization_code")) == 1


def test_whoever_cancels_can_try_again(
    example: str, up: Stack, simulator: Simulator, owner: Owner, nobody: None
) -> None:
    owner.sign_in(f"{example}-cancels")
    owner.press()
    owner.page.click("#cancel")
    owner.arrives("because you cancelled")
    owner.press()
    owner.choose(BUSINESS)
    owner.arrives(people.business(BUSINESS).thai)
    assert shown(up) == (f"{example}-cancels", "active")


def test_each_error_that_comes_back_has_words_and_a_next_step(example: str, owner: Owner, up: Stack) -> None:
    came = returned(owner)
    owner.sign_in("tenant-errs")
    owner.press()
    owner.page.click("#cancel")
    owner.arrives("because you cancelled")
    (state,) = {one["state"] for one in came}
    endings = {*Ending} - {Ending.CONNECTED, Ending.TO_BE_CONFIRMED, Ending.BUSY}
    assert endings < set(ENDINGS)
    for error, words in ENDINGS.items():
        assert owner.visit(error=str(error), state=state) == 409
        owner.arrives(words)
        assert str(error) not in owner.page.content()
    for confirmation, words in (("", AGAIN), ("made.up", AGAIN), (came[0]["confirmation"], "because you cancelled")):
        assert owner.visit(confirmation=confirmation, state=state) == 409
        owner.arrives(words)


def test_a_consent_that_was_withdrawn_is_asked_for_again_and_for_that_business_only(
    example: str, up: Stack, simulator: Simulator, owner: Owner, nobody: None, set_item: Any
) -> None:
    owner.sign_in(f"{example}-again")
    owner.press()
    owner.choose(BUSINESS)
    owner.arrives(people.business(BUSINESS).thai)
    now = int(time.time())
    set_item(BUSINESS, requested_at=now - 90_000, access_expires_at=now - 10, refresh_at=now - 5, deadline=now - 5)
    simulator.post("faults", [{"path": "company", "fault": "status", "status": 401, "processed": False}])
    simulator.fault("error", code="invalid_grant", status=400)
    owner.page.goto(APP)
    owner.arrives("FlowAccount needs your consent again")
    owner.press()
    owner.choose(OTHER_BUSINESS)
    owner.page.click(f'a[href^="{APP_RETURN_URL}"]')  # The stack's page about it leads back.
    owner.arrives("not the expected business")
    owner.press()
    owner.choose(BUSINESS)
    owner.arrives(f"FlowAccount is connected: {people.business(BUSINESS).thai}")
    assert shown(up) == (f"{example}-again", "active")


def test_what_others_send_connects_nothing(
    example: str, up: Stack, simulator: Simulator, owner: Owner, nobody: None, chromium: Any
) -> None:
    owner.sign_in("the-victim")
    with visiting(chromium) as attacker:
        attacker.sign_in("the-attacker")
        with attacker.page.expect_request("**/authorize*") as sent:
            attacker.page.click(BUTTON)
        theirs = returned(owner)
        owner.page.goto(sent.value.url)
        owner.page.click('[data-user="somchai"]')
        owner.choose(BUSINESS)
        owner.arrives("made for another account")
        # Not even if the attacker opens in a browser of their own what the victim's came back with.
        assert attacker.visit(**theirs[0]) == 409
        attacker.arrives("made for another account")
    # An error that somebody made up.
    for state in ("", "x", "é"):
        owner.visit(error="access_denied", state=state)
        owner.arrives(AGAIN)
    # A form of another site, with the cookies of the victim.
    cookies = {one["name"]: one["value"] for one in owner.page.context.cookies(APP)}
    for form in ({}, {"csrf_token": "x"}, {"csrfmiddlewaretoken": "x"}):
        posted = requests.post(
            f"{APP}/connect-flowaccount", cookies=cookies, data=form, allow_redirects=False, timeout=9
        )
        assert posted.status_code in (400, 403)
        assert "Location" not in posted.headers
    # Nobody is signed in.
    signed_out = requests.get(APP_RETURN_URL, params=theirs[0], allow_redirects=False, timeout=9)
    assert (signed_out.status_code, "Please sign in" in signed_out.text) == (401, True)
    assert service.connection_item(up, BUSINESS) is None


def test_a_return_url_that_the_stack_refuses_is_named_to_the_team_and_not_to_the_user(
    framework: str, up: Stack, owner: Owner, tmp_path: Path
) -> None:
    owner.app = f"http://localhost:{ANOTHER_PORT}"
    with running(framework, up, tmp_path, f"{owner.app}/flowaccount-connected") as log:
        owner.sign_in("tenant-1")
        owner.page.click(BUTTON)
        owner.arrives("Our team knows")
        assert "return_url" not in owner.page.content()
    for word in ("return_url_not_allowed", "AllowedReturnUrls", f"{owner.app}/flowaccount-connected"):
        assert word in log.read_text()
