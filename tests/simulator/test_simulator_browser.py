"""The pages in a real browser: the way back to the client, 320 px, and nothing the policy has to block."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from flask import Flask, redirect, request
from playwright.sync_api import Browser, Page, sync_playwright
from werkzeug.serving import make_server

from tests.simulator.driver import CLIENT_ID, Driver
from tools.local import visit


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium or Chrome, or Playwright's own where there is none."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=visit.chromium(),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    """A page 320 px wide."""
    context = browser.new_context(viewport={"width": 320, "height": 640})
    yield context.new_page()
    context.close()


@pytest.fixture
def client_of(sim: Driver) -> Iterator[str]:
    """A client whose callback sends the browser on to another origin, as the broker does; its URL."""
    app = Flask(__name__)
    app.add_url_rule(
        "/callback", view_func=lambda: redirect(request.host_url.replace("127.0.0.1", "localhost") + "done", 303)
    )
    app.add_url_rule("/done", "done", lambda: "")
    # With threads, since Chromium also opens connections on which it may never send anything.
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    callback = f"http://127.0.0.1:{server.port}/callback"
    sim.client(None, callback)
    yield callback
    server.shutdown()


def login_url(sim: Driver, callback: str) -> str:
    """Where the client sends the browser."""
    return (
        f"{sim.url}/connect/authorize?response_type=code&scope=flowaccount-api%20offline_access"
        f"&client_id={CLIENT_ID}&redirect_uri={callback}&state=s"
    )


def test_the_browser_gets_back_to_the_client_and_on(sim: Driver, phone: Page, client_of: str) -> None:
    complaints: list[str] = []
    phone.on("console", lambda message: complaints.append(message.text))
    phone.goto(login_url(sim, client_of))
    phone.wait_for_selector('body[data-page="sign-in"]')
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    phone.click('[data-user="suda"]')
    phone.wait_for_selector('body[data-page="businesses"]')
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    phone.click('[data-business="N1000004"]')
    phone.wait_for_url("http://localhost:*/done")
    assert sim.ledger("code")[0]["business"] == "N1000004"
    assert complaints == []


def test_the_form_by_hand_and_the_cancel_button_work(sim: Driver, phone: Page, client_of: str) -> None:
    phone.goto(login_url(sim, client_of))
    phone.fill("#username", "anong")
    phone.fill("#password", "flowaccount-demo")
    phone.click("#sign-in")
    phone.click("#switch-user")
    phone.click('[data-user="anong"]')
    phone.click("#cancel")
    phone.wait_for_url("http://localhost:*/done**")
    assert sim.ledger("code") == []


def test_the_style_sheet_applies(sim: Driver, phone: Page, client_of: str) -> None:
    phone.goto(login_url(sim, client_of))
    assert phone.locator("main").evaluate("element => getComputedStyle(element).borderRadius") == "12px"
