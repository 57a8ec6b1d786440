"""`make docs`: the Python client's reference, made of its docstrings."""

import html
import re
import subprocess
from pathlib import Path

import pytest

import flowaccount_connect_client

ROOT = Path(__file__).parents[2]
MODULES = ("errors", "httpx_auth", "testing", "webhooks")


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Each page that `make docs` makes, by its module."""
    subprocess.run(["make", "docs"], cwd=ROOT, capture_output=True, check=True)
    made = ROOT / ".local" / "docs"
    found = {name: made / "flowaccount_connect_client" / f"{name}.html" for name in MODULES}
    found["flowaccount_connect_client"] = made / "flowaccount_connect_client.html"
    return {name: path.read_text("utf-8") for name, path in found.items()}


def docstring_of(page: str, id_: str) -> str:
    """The docstring below a heading, as HTML."""
    # Up to the next heading.
    section = re.split(r'<(?:section|div) id="', page.partition(f' id="{id_}"')[2], maxsplit=1)[0]
    found = re.search(r'<div class="docstring">(.*?)</div>', section, re.DOTALL)
    return found[1] if found else ""


def test_every_name_that_an_app_imports_is_there_with_its_docstring(pages: dict[str, str]) -> None:
    page = pages["flowaccount_connect_client"]
    classes = [name for name in flowaccount_connect_client.__all__ if not name.isupper()]
    assert [name for name in classes if not docstring_of(page, name)] == []
    for method in ("access_token", "report_rejected", "connect_link", "confirm", "connections", "history", "import_"):
        assert docstring_of(page, f"FlowAccountConnect.{method}")
    assert docstring_of(pages["webhooks"], "verify")
    assert docstring_of(pages["testing"], "FakeFlowAccountConnect.visit")


def test_what_is_drawn_or_code_keeps_its_lines(pages: dict[str, str]) -> None:
    for name, line in (
        ("errors", "├─ NotConfigured "),
        ("errors", "   └─ AccessDenied "),
        ("webhooks", "event = webhooks.verify("),
        ("testing", 'flowaccount_connect.require_consent("N1234567")'),
        ("httpx_auth", "httpx.get("),
    ):
        module = re.search(r'<div class="docstring">(.*?)</div>', pages[name], re.DOTALL)
        assert module
        code = "".join(re.findall(r"<pre><code>(.*?)</code></pre>", module[1], re.DOTALL))
        assert line in html.unescape(code), name
