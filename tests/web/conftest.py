"""The browser in which pages are looked at."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tools.local.visit import browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as launched:
        assert launched is not None, "install a Chromium: what people see, and what protects them, is tested in one"
        yield launched
