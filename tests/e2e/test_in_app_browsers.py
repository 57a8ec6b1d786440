"""Connecting in the browsers that people use, also those inside LINE, Facebook and Instagram.

Chromium plays them as far as it can: their names, their screens, their cookies apart from those of all others.
"""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize

from flowaccount_connect.domain.ids import fingerprint
from tests.e2e.app_site import AppSite
from tests.e2e.conftest import Simulator, delete_connections
from tests.e2e.links import link_in
from tests.support.browsers import AGENTS
from tools.local import service
from tools.local.stack import Stack

PHONE: ViewportSize = {"width": 360, "height": 740}
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
BUSINESS = "N1000001"
APPENDED = "&fbclid=IwAR0x&utm_source=line&_gl=1*abc&gclid=x"


@pytest.fixture(autouse=True)
def nobodys(up: Stack) -> None:
    """The business belongs to nobody yet."""
    delete_connections(up, BUSINESS)


@pytest.fixture
def contexts(chromium: Any) -> Iterator[Any]:
    """Makes browsers with cookies of their own."""
    assert isinstance(chromium, Browser), "install a Chromium: people connect in browsers"
    made: list[BrowserContext] = []

    def make(agent: str, screen: ViewportSize = PHONE) -> BrowserContext:
        phone = screen is PHONE
        made.append(
            chromium.new_context(
                user_agent=AGENTS[agent], viewport=screen, has_touch=phone, is_mobile=phone, locale="th-TH"
            )
        )
        return made[-1]

    yield make
    for context in made:
        context.close()


def make_link(up: Stack, app: AppSite, tenant: str, **fields: object) -> str:
    """The URL that the app sends its user to."""
    body = {"tenant": tenant, "return_url": app.return_url, "state": "s"} | fields
    answer = service.call(up, "POST", "/connect-links", body=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["connect_url"])


def attempts(up: Stack, connect_url: str) -> int:
    """How many attempts began with a link."""
    items = service.client(up, "dynamodb").scan(
        TableName=up.table,
        FilterExpression="link = :link",
        ExpressionAttributeValues={":link": {"S": fingerprint(link_in(connect_url))}},
        ConsistentRead=True,
    )["Items"]
    return len(items)


def log_in(page: Page, url: str) -> None:
    page.goto(url)
    page.click('[data-user="somchai"]')
    page.wait_for_selector(f'[data-business="{BUSINESS}"]')


def come_back(page: Page, app: AppSite) -> dict[str, list[str]]:
    """Choose the business; what the browser brings to the app."""
    page.click(f'[data-business="{BUSINESS}"]')
    page.wait_for_url(f"{app.return_url}**")
    return parse_qs(urlsplit(page.url).query)


def confirmed(up: Stack, brought: dict[str, list[str]], tenant: str) -> bool:
    body = {"confirmation": brought["confirmation"][0], "tenant": tenant}
    return service.call(up, "POST", "/connect-links/confirm", body=body).status_code == 200


@pytest.mark.parametrize(
    ("agent", "screen"),
    [
        *((agent, PHONE) for agent in ("LINE on iOS", "LINE on Android", "Facebook on iOS", "Facebook on Android")),
        *(
            (agent, PHONE)
            for agent in ("Messenger on iOS", "Instagram on iOS", "Instagram on Android", "Safari on iOS")
        ),
        *((agent, DESKTOP) for agent in ("Firefox", "LINE on Windows")),
    ],
)
def test_a_business_is_connected_in_the_browser_where_the_link_was_tapped(
    up: Stack, simulator: Simulator, app: AppSite, contexts: Any, agent: str, screen: ViewportSize
) -> None:
    tenant = f"tenant in {agent}"
    page: Page = contexts(agent, screen).new_page()
    # Safari and the browsers that follow it send no cookie to a third party.
    controls = {"enableThirdPartyCookieRestriction": True}
    unlike = {"disableThirdPartyCookieMetadata": True, "disableThirdPartyCookieHeuristics": True}
    page.context.new_cdp_session(page).send("Network.setCookieControls", controls | unlike)
    url = make_link(up, app, tenant, external_browser="LINE" in agent) + APPENDED
    log_in(page, url)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    brought = come_back(page, app)
    assert brought.keys() == {"confirmation", "state"}
    assert confirmed(up, brought, tenant)
    page.goto(url)
    assert page.locator("main").get_attribute("data-page") == "already_connected"
    assert not [one for one in page.context.cookies() if one.get("name", "").startswith("__Host-connect-")]


def test_who_comes_back_in_another_browser_learns_how_to_go_on_and_the_first_one_still_can(
    up: Stack, simulator: Simulator, app: AppSite, contexts: Any
) -> None:
    tenant = "tenant of two browsers"
    line: Page = contexts("LINE on iOS").new_page()
    log_in(line, make_link(up, app, tenant))
    # FlowAccount's redirect, which the system opens in another browser.
    chosen: dict[str, str | float | bool] = {
        "attempt": line.locator('[name="attempt"]').first.input_value(),
        "business": BUSINESS,
    }
    back = line.request.post(urljoin(line.url, "/connect/consent"), form=chosen, max_redirects=0).headers["location"]
    safari: Page = contexts("Safari on iOS").new_page()
    safari.goto(back)
    assert safari.locator("main").get_attribute("data-page") == "attempt_unknown"
    assert "Safari หรือ Chrome" in safari.locator("section[lang=th] p").first.inner_text()
    assert simulator.posts("authorization_code") == []
    line.goto(back)
    assert confirmed(up, parse_qs(urlsplit(line.url).query), tenant)


@pytest.mark.parametrize("way", ["link", "rules"])
def test_a_browser_that_fetches_the_link_ahead_begins_nothing_and_its_user_gets_to_flowaccount(
    up: Stack, simulator: Simulator, app: AppSite, contexts: Any, way: str
) -> None:
    url = make_link(up, app, "tenant of a prefetch")
    rules = json.dumps({"prefetch": [{"source": "list", "urls": [url], "eagerness": "immediate"}]})
    ahead = {
        "link": f'<link rel="prefetch" href="{url}">',
        "rules": f'<script type="speculationrules">{rules}</script>',
    }
    app.pages["/shop"] = f'<!doctype html><title>Shop</title>{ahead[way]}<a href="{url}">connect</a>'
    page: Page = contexts("Chrome on Android").new_page()
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    purposes: list[str] = []
    network.on(
        "Network.requestWillBeSentExtraInfo",
        lambda sent: purposes.extend(v for k, v in sent["headers"].items() if k.lower() in ("sec-purpose", "purpose")),
    )
    page.goto(f"{app.url}/shop")
    page.wait_for_timeout(1_500)
    assert attempts(up, url) == 0
    page.click("a")
    page.wait_for_selector('[data-user="somchai"]')
    assert attempts(up, url) == 1
    if way == "link":
        assert [value for value in purposes if "prefetch" in value]
