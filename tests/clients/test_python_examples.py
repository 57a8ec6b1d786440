"""The Python examples of the documents, checked as an app's author checks them: mypy and pyright, both strict."""

import ast
import builtins
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import typescript

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "python"
PYRIGHT = ROOT / ".local" / "pyright"
DOCUMENTS = ("README.md", "docs/python.md", "docs/managing.md", "clients/python/README.md")

GIVEN = {
    "requests": "import requests",
    "FlowAccountAuth": "from flowaccount_connect_client import FlowAccountAuth",
    "FlowAccountConnect": "from flowaccount_connect_client import FlowAccountConnect",
    "app": "from flask import Flask\napp = Flask(__name__)",
    "flowaccount": "from flowaccount_connect_client import FlowAccountConnect\nflowaccount = FlowAccountConnect()",
    "tenant": "def tenant() -> str: raise NotImplementedError",
    "error": "from flowaccount_connect_client import ReauthorizationRequired\n"
    "error = ReauthorizationRequired('reauthorization_required', 409, 'Connect again.')",
    "RETURN_URL": "RETURN_URL = 'https://app.example.com/flowaccount-connected'",
    "url": "url: str = ''",
    "invoice": "invoice: dict[str, object] = {}",
    "confirmation": "confirmation: str = ''",
    "refresh_token": "refresh_token: str = ''",
    "means_withdrawn": "def means_withdrawn(message: str) -> bool: raise NotImplementedError",
    "handle": "def handle(event: dict[str, object]) -> None: raise NotImplementedError",
    "my_app": "class App:\n    def company_name(self, id_: str) -> str: raise NotImplementedError\nmy_app = App()",
}
"""What an example takes as given: what the example before it imports, or what only the reader's app can have."""


def examples() -> Iterator[tuple[str, str]]:
    """Each Python block of the documents, by the place where it stands."""
    for name in DOCUMENTS:
        text = (ROOT / name).read_text("utf-8")
        for match in re.finditer(r"^( *)```python\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 2
            yield f"{name.replace('/', '_').removesuffix('.md')}_{line}", textwrap.dedent(match[2])


EXAMPLES = dict(examples())


def free_names(source: str) -> set[str]:
    """The names that a source uses and does not make, in a scope of its own or not."""
    used: set[str] = set()
    made = set(dir(builtins))
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name) | ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                made.add(name)
            case ast.ClassDef(name=name):
                made.add(name)
            case ast.alias(name=name, asname=asname):
                made.add((asname or name).partition(".")[0])
            case ast.ExceptHandler(name=str(name)):
                made.add(name)
    return used - made


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module for each example, and before it what it takes as given."""
    folder = tmp_path_factory.mktemp("examples")
    for name, example in EXAMPLES.items():
        # Each line once: an import twice is a finding.
        lines = dict.fromkeys("\n".join(GIVEN[one] for one in sorted(free_names(example))).splitlines())
        given = "\n".join(line for line in lines if line not in example)
        (folder / f"{name}.py").write_text(f"{given}\n{example}", "utf-8")
    return folder


def test_there_are_examples_and_each_says_where_its_names_come_from() -> None:
    assert len(EXAMPLES) >= 8
    assert {one for example in EXAMPLES.values() for one in free_names(example)} <= set(GIVEN)


def test_mypy_finds_nothing(sources: Path) -> None:
    # Functions of an example need no annotations; what is in them is checked all the same.
    command = [sys.executable, "-m", "mypy", "--strict", "--allow-untyped-defs"]
    environment = os.environ | {"MYPYPATH": str(CLIENT), "MYPY_CACHE_DIR": str(ROOT / ".local" / "mypy-examples")}
    run = subprocess.run(
        [*command, "--config-file", os.devnull, *sorted(map(str, sources.glob("*.py")))],
        cwd=sources, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def pyright() -> Path:
    """Pyright's own program. It comes from npm, and is kept between runs."""
    PYRIGHT.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name("pyright") / "package.json", PYRIGHT)
    typescript.run(PYRIGHT, "npm", "install", "--ignore-scripts", "--prefer-offline", "--no-package-lock")
    return PYRIGHT / "node_modules" / "pyright" / "index.js"


def test_pyright_finds_nothing(pyright: Path, sources: Path) -> None:
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(CLIENT)], "include": ["."]}
    (sources / "pyrightconfig.json").write_text(json.dumps(settings))
    command = ["node", str(pyright), "--outputjson", "--pythonpath", sys.executable, "--project", str(sources)]
    run = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False)
    report = json.loads(run.stdout)
    found = [
        f"{Path(one['file']).name}:{one['range']['start']['line'] + 1}: {one['message']}"
        for one in report["generalDiagnostics"]
        if one["severity"] == "error"
    ]
    assert found == [], "\n".join(found)
    assert report["summary"]["filesAnalyzed"] == len(EXAMPLES)


def test_each_public_name_of_the_client_has_a_type_that_all_checkers_agree_on(pyright: Path) -> None:
    command = ["node", str(pyright), "--outputjson", "--ignoreexternal", "--pythonpath", sys.executable]
    run = subprocess.run(
        [*command, "--verifytypes", "flowaccount_connect_client"],
        env=os.environ | {"PYTHONPATH": str(CLIENT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    symbols = json.loads(run.stdout)["typeCompleteness"]["symbols"]
    unclear = {one["name"] for one in symbols if one["isExported"] and not one["isTypeKnown"]}
    # httpx hands its classes on in a way that this check does not follow.
    assert unclear <= {"flowaccount_connect_client.httpx_auth.FlowAccountAuth"}
    assert len(symbols) > 200
