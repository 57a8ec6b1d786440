"""The client's distribution: what its wheel holds, what it needs, and that it works on the oldest Python it names."""

import dataclasses
import glob
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowaccount_connect_client import Connection, HistoryEntry

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "python"
UV = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))

NAMES = (
    *("client", "client_async", "client_errors", "client_fake", "client_httpx", "client_webhooks"),
    *("console", "doctor", "terminal"),
)
TESTS = [f"tests/unit/test_{name}.py" for name in NAMES]

APP_TEST = """
from flowaccount_connect_client import FlowAccountConnect, ReauthorizationRequired

def app():
    try:
        FlowAccountConnect().access_token("N1")
    except ReauthorizationRequired:
        return "please connect again"
    return "connected"

def test_the_app(flowaccount_connect):
    flowaccount_connect.add("N1")
    assert app() == "connected"
    flowaccount_connect.require_consent("N1")
    assert app() == "please connect again"
"""


def run(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command; its output is shown where it fails."""
    done = subprocess.run(
        list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options
    )  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=CLIENT)
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_holds_the_client_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {
        "flowaccount_connect_client",
        "flowaccount_connect-0.3.0.dist-info",
    }
    here = {str(path.relative_to(CLIENT)) for path in CLIENT.glob("flowaccount_connect_client/**/*.py")}
    assert {name for name in names if name.endswith(".py")} == here
    assert "flowaccount_connect_client/py.typed" in names
    assert {Path(name).suffix for name in names if "dist-info" not in name} == {".py", ".typed", ".html", ".css", ".js"}


def test_its_metadata_names_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = message_from_string(archive.read("flowaccount_connect-0.3.0.dist-info/METADATA").decode())
        entries = archive.read("flowaccount_connect-0.3.0.dist-info/entry_points.txt").decode()
    assert (metadata["Name"], metadata["Requires-Python"]) == ("flowaccount-connect", ">=3.10")
    needed = {one.partition(";")[0].strip().partition(">")[0] for one in metadata.get_all("Requires-Dist", [])}
    assert needed == {"botocore", "requests", "rich", "httpx", "flask"}
    assert metadata.get_all("Provides-Extra") == ["cli", "console", "httpx"]
    assert "flowaccount-connect = flowaccount_connect_client.cli.main:main" in entries
    assert "flowaccount_connect_client.pytest_plugin" in entries


@pytest.mark.parametrize(("kind", "schema"), [(Connection, "Connection"), (HistoryEntry, "Entry")])
def test_its_results_have_every_member_that_the_api_describes(kind: type, schema: str) -> None:
    described = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())["components"]["schemas"]
    read: dict[str, Any] = {one.name: one.type for one in dataclasses.fields(kind)}
    for name, member in described[schema]["properties"].items():
        assert name in read
        meant = described.get(member.get("$ref", "").rpartition("/")[2], member)
        if "null" in str(meant.get("type")) or None in meant.get("enum", ()) or "'null'" in str(meant.get("oneOf")):
            assert isinstance(None, read[name]), f"{name} may be null"


def oldest() -> str:
    """The oldest Python that the client names, where this machine has it or uv can bring it."""
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]
    version = str(project["requires-python"]).removeprefix(">=")
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    here = sorted(glob.glob(f"{pyenv}/versions/{version}.*/bin/python"))
    return here[-1] if here else version


@pytest.mark.timeout(600)
def test_it_works_on_the_oldest_python_that_it_names(wheel: Path, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    run(UV, "venv", "-q", "--no-config", "--python", oldest(), tmp_path / "venv")
    also = ["pytest", "pytest-timeout", "hypothesis", "cryptography"]
    package = f"flowaccount-connect[cli,console,httpx] @ {wheel.as_uri()}"
    pins = ("-c", ROOT / "requirements" / "client.txt")
    run(UV, "pip", "install", "-q", "--no-config", "--python", python, *pins, package, *also)
    assert run(python, "-c", "import sys; print(sys.version_info[:2])").stdout == "(3, 10)\n"
    clean = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}

    # The wheel is tested, not this folder.
    options = ("-q", "-o", "pythonpath=.", "-o", f"cache_dir={tmp_path}", "--timeout=90")
    tests = run(python, "-m", "pytest", *options, *TESTS, cwd=ROOT, env=clean)
    assert "passed" in tests.stdout
    assert "failed" not in tests.stdout
    tool = run(tmp_path / "venv" / "bin" / "flowaccount-connect", "--version", env=clean)
    assert tool.stdout == "flowaccount-connect 0.3.0\n"

    # An app's own tests find the fixture without a line of configuration.
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "test_app.py").write_text(APP_TEST)
    assert "1 passed" in run(python, "-m", "pytest", "-q", "--rootdir", ".", cwd=tmp_path / "app", env=clean).stdout
