"""The npm package, packed and installed as an integrator would, against the deployed stack, by `node --test`."""

import base64
import hashlib
import hmac
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e import callers
from tests.e2e.addresses import APP_RETURN_URL, RETURN_URL
from tests.e2e.conftest import Simulator, disconnect
from tests.support import pages, programs, typescript
from tools.local import env, service
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor
from tools.simulator import people

READY, DEAD = "N1000002", "N1000003"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed, and its tests against a stack beside it."""
    folder = tmp_path_factory.mktemp("installed")
    typescript.install(typescript.pack(tmp_path_factory.mktemp("packed")), folder)
    typescript.run(typescript.package(), "npm", "run", "compile")
    shutil.copytree(typescript.package() / "build" / "tests" / "stack", folder / "tests")
    (folder / "tests" / "package.json").write_text('{"type": "module"}')
    return folder


@pytest.fixture
def variables(up: Stack) -> dict[str, str]:
    """What `make env` gives, and nothing else of this process."""
    return {"PATH": typescript.PATH, **env.exports(up), "RETURN_URL": RETURN_URL}


@pytest.fixture
def businesses(up: Stack, simulator: Simulator, set_item: Any) -> None:
    """One business that was connected a while ago, and one that only a new consent brings back."""
    for business, tenant in ((READY, "tenant-2"), (DEAD, "tenant-9")):
        disconnect(up, business)
        (consent,) = simulator.post("consents", {"business": business})["consents"]
        body = {"refresh_token": consent["refresh_token"], "tenant": tenant}
        assert service.call(up, "POST", f"/connections/{business}", body=body).status_code == 200
    now = int(time.time())
    set_item(READY, requested_at=now - 600)
    set_item(DEAD, requested_at=now - 90_000, access_expires_at=now - 10, refresh_at=now - 5, deadline=now - 5)
    simulator.withdraw(DEAD)


@pytest.fixture
def nobody(up: Stack) -> Iterator[dict[str, str]]:
    """The keys of a user without any permission."""
    with callers.user(up) as (key, secret):
        yield {"OTHER_KEY": key, "OTHER_SECRET": secret}


def webhook() -> str:
    """A webhook of this moment, signed by the Standard Webhooks specification."""
    key, body = bytes(range(24)), json.dumps({"type": "connection.connected", "tenant": "ร้านกาแฟ"}, ensure_ascii=False)
    at = str(int(time.time()))
    signature = base64.b64encode(hmac.digest(key, f"msg_1.{at}.{body}".encode(), hashlib.sha256)).decode()
    headers = {"webhook-id": "msg_1", "webhook-timestamp": at, "webhook-signature": f"v1,{signature}"}
    return json.dumps({"body": body, "headers": headers, "secret": f"whsec_{base64.b64encode(key).decode()}"})


def test_the_installed_package_does_everything_against_the_stack(
    installed: Path, variables: dict[str, str], businesses: None, nobody: dict[str, str]
) -> None:
    given = {**variables, **nobody, "READY": READY, "DEAD": DEAD, "WEBHOOK": webhook()}
    written = typescript.run(installed, "node", "--test", "--test-reporter=tap", "tests/stack.test.js", env=given)
    counts = {name: int(count) for name, count in re.findall(r"^# (\w+) (\d+)$", written, re.MULTILINE)}
    there = len(re.findall(r"^test\(", (typescript.SOURCES / "tests/stack/stack.test.ts").read_text(), re.MULTILINE))
    assert (counts["pass"], counts["fail"], counts["skipped"]) == (there, 0, 0), written


def test_the_programs_of_its_readme_run_as_they_stand(
    up: Stack, simulator: Simulator, installed: Path, variables: dict[str, str]
) -> None:
    business, page = "N1000006", "clients/typescript/README.md"
    for name in ("app.mjs", "company.mjs"):
        (installed / name).write_text(pages.block(page, "js", f"// {name}"))
    disconnect(up, business)
    site = APP_RETURN_URL.removesuffix("/flowaccount-connected")
    with programs.serving(["node", "app.mjs"], site, installed, variables | {"RETURN_URL": APP_RETURN_URL}) as log:
        pressed = requests.post(f"{site}/connect-flowaccount", allow_redirects=False, timeout=40)
        owner = next(name for name, user in people.USERS.items() if business in user.businesses)
        arrived = HttpVisitor().connect(pressed.headers["Location"], user=owner, business=business)
        assert (arrived.status, arrived.html) == (200, f"FlowAccount is connected: {business}"), log.read_text()
        assert requests.get(f"{APP_RETURN_URL}?confirmation=made.up", timeout=40).status_code == 409
    written = typescript.run(installed, "node", "company.mjs", business, env=variables)
    assert written == f"{people.business(business).thai}\n"
