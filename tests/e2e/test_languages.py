"""The pages of other languages: their programs run as they stand, after `eval "$(make env)"`."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from tests.e2e import callers
from tests.e2e.addresses import APP_RETURN_URL
from tests.e2e.conftest import Simulator, disconnect
from tests.support import pages, programs
from tools.local import env, service
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor
from tools.simulator import people

BUSINESS = "N1000004"
APP = APP_RETURN_URL.removesuffix("/flowaccount-connected")
FOLDER = "docs/languages"
PERMISSIONS = f"{FOLDER}/README.md"


@dataclass(frozen=True)
class Language:
    """A page: its files, each with a word that only its block has, and what must be installed to run it."""

    page: str
    fence: str
    files: dict[str, str]
    needs: dict[str, str]
    """Commands, each with the Debian package that brings it."""
    libraries: dict[str, str] = field(default_factory=dict)
    """Files, each with the Debian package that brings it."""
    environment: dict[str, str] = field(default_factory=dict)
    """Where Debian's packages put the libraries; a reader's come from the language's own registry."""


JARS = [f"/usr/share/java/jackson-{name}.jar" for name in ("annotations", "core", "databind")]
GO = "/usr/share/gocode"

LANGUAGES = {
    "php": Language("php.md", "php", {"flowaccount.php": "CURLOPT_AWS_SIGV4"}, {"php": "php-cli"}),
    "go": Language(
        "go.md",
        "go",
        {"main.go": "package main"},
        {"go": "golang-go"},
        {f"{GO}/src/github.com/aws/aws-sdk-go-v2/config": "golang-github-aws-aws-sdk-go-v2-dev"},
        {"GO111MODULE": "off", "GOPATH": GO, "GOCACHE": str(pages.ROOT / ".local" / "go")},
    ),
    "java": Language(
        "java.md",
        "java",
        {"Signature.java": "javax.crypto", "Flowaccount.java": "ObjectMapper"},
        {"javac": "openjdk-17-jdk-headless", "java": "openjdk-17-jre-headless"},
        dict.fromkeys(JARS, "libjackson2-databind-java"),
        {"CLASSPATH": ":".join(JARS)},
    ),
}


def require(language: Language) -> None:
    """Fail with what to install, as the other prerequisites of the tests do."""
    missing = {package for command, package in language.needs.items() if shutil.which(command) is None}
    missing |= {package for path, package in language.libraries.items() if not Path(path).exists()}
    if language.page == "php.md" and not missing:
        modules = subprocess.run(["php", "-m"], capture_output=True, text=True, check=True).stdout.split()
        missing |= {"php-curl"} - {f"php-{module}" for module in modules}
    assert not missing, f"{', '.join(sorted(missing))} is missing. {language.page} is tested with it: install it."


def policy(up: Stack, number: int) -> str:
    """A policy of the page about permissions, for this stack: the first is a program's, the last an access key's."""
    text = pages.blocks(PERMISSIONS, "json")[number]
    for name, value in {"region": up.region, "account": "000000000000", "api": up.api_id}.items():
        text = text.replace(f"{{{name}}}", value)
    return text


@pytest.fixture
def role(up: Stack) -> Iterator[dict[str, str]]:
    """The variables of a program with a role that has the permissions of the page, and no more."""
    with callers.role(up, policy(up, 0)) as keys:
        yield dict(zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"), keys, strict=True))


@pytest.fixture(params=["access key", "role"])
def given(up: Stack, role: dict[str, str], request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of a page's program: what `make env` gives, with the access key or with the role."""
    found = {"PATH": os.environ["PATH"], **env.exports(up), "RETURN_URL": APP_RETURN_URL}
    return found | (role if request.param == "role" else {})


def written(language: Language, folder: Path) -> str:
    """Write the page's program into a folder; returns the page's own commands."""
    require(language)
    for name, word in language.files.items():
        (folder / name).write_text(pages.block(f"{FOLDER}/{language.page}", language.fence, word), "utf-8")
    (commands,) = pages.blocks(f"{FOLDER}/{language.page}", "sh")
    return commands


OWNER = next(name for name, user in people.USERS.items() if BUSINESS in user.businesses)


def test_a_pages_app_connects_a_business_and_reads_its_name(
    up: Stack, simulator: Simulator, given: dict[str, str], tmp_path: Path
) -> None:
    language = LANGUAGES["php"]
    commands = written(language, tmp_path)
    disconnect(up, BUSINESS)
    with programs.serving(["sh", "-euc", commands], APP, tmp_path, given | {"HOME": str(tmp_path)}) as program:
        assert 'action="/connect-flowaccount"' in requests.get(APP, timeout=30).text
        pressed = requests.post(f"{APP}/connect-flowaccount", allow_redirects=False, timeout=40)
        assert pressed.status_code == 303, program.read_text()
        arrived = HttpVisitor().connect(pressed.headers["Location"], user=OWNER, business=BUSINESS)
        assert (arrived.status, arrived.html) == (200, f"FlowAccount is connected: {BUSINESS}"), program.read_text()
        shown = service.call(up, "GET", f"/connections/{BUSINESS}").json()
        assert (shown["status"], shown["tenant"]) == ("active", "tenant-7")
        company = requests.get(f"{APP}/company?id={BUSINESS}", timeout=40)
        assert company.content.decode("utf-8") == people.business(BUSINESS).thai, program.read_text()
        assert requests.get(f"{APP}/company?id=N404404", timeout=40).status_code >= 500
        token = service.call(up, "GET", f"/connections/{BUSINESS}/token").json()["access_token"]
        assert token not in program.read_text()


@pytest.mark.parametrize("name", ["go", "java"])
def test_a_pages_commands_connect_a_business_and_read_its_name(
    up: Stack, simulator: Simulator, given: dict[str, str], name: str, tmp_path: Path
) -> None:
    language = LANGUAGES[name]
    lines = written(language, tmp_path).splitlines()
    first = next(number for number, line in enumerate(lines) if " link " in line)
    calls = {word: next(line for line in lines if f" {word} " in line) for word in ("link", "confirm", "company")}
    environment = given | {"HOME": str(tmp_path), "LC_ALL": "C"} | language.environment

    def run(word: str, **more: str) -> subprocess.CompletedProcess[str]:
        script = "\n".join([*lines[:first], calls[word]])
        return subprocess.run(
            ["sh", "-euc", script],
            cwd=tmp_path,
            env=environment | more,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    disconnect(up, BUSINESS)
    link = run("link")
    assert link.returncode == 0, link.stderr
    visitor = HttpVisitor()
    back = visitor.get(visitor.consent(link.stdout.strip(), user=OWNER, business=BUSINESS)).headers["Location"]
    confirmation = dict(parse_qsl(urlsplit(back).query))["confirmation"]
    confirmed = run("confirm", CONFIRMATION=confirmation)
    assert (confirmed.returncode, confirmed.stdout) == (0, f"{BUSINESS}\n"), confirmed.stderr
    shown = service.call(up, "GET", f"/connections/{BUSINESS}").json()
    assert (shown["status"], shown["tenant"]) == ("active", "tenant-7")
    company = run("company", ID=BUSINESS)
    assert (company.returncode, company.stdout) == (0, f"{people.business(BUSINESS).thai}\n"), company.stderr
    nobody = run("company", ID="N404404")
    assert nobody.returncode != 0
    assert "connection_not_found" in nobody.stderr


def test_the_pages_variants_with_an_sdk_are_at_least_of_the_language() -> None:
    require(LANGUAGES["php"])
    code = pages.block(f"{FOLDER}/php.md", "php", "SignatureV4")
    subprocess.run(["php", "-l"], input=code, text=True, check=True, capture_output=True)


def test_an_access_key_for_one_route_reads_tokens_and_does_nothing_else(
    up: Stack, simulator: Simulator, connection: str
) -> None:
    with callers.user(up, policy(up, -1)) as keys:
        assert service.call(up, "GET", f"/connections/{connection}/token", credentials=keys).status_code == 200
        rejected = {"rejected_generation": 1}
        told = service.call(up, "POST", f"/connections/{connection}/token", body=rejected, credentials=keys)
        assert told.json()["code"] == "refreshed_just_now"
        for method, path, body in (
            ("DELETE", f"/connections/{connection}", None),
            ("GET", f"/connections/{connection}", None),
            ("POST", "/connect-links", {"tenant": "t", "return_url": APP_RETURN_URL}),
        ):
            assert service.call(up, method, path, body=body, credentials=keys).status_code == 403, path
