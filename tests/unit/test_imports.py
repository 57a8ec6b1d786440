"""The house: folders by concern, imports one way, and no function pays for what it does not use."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "layers" / "connector" / "flowaccount_connect"
CLIENT = ROOT / "clients" / "python" / "flowaccount_connect_client"
NAME = "flowaccount_connect"

CORE = {"rotation", "oauth", "storage", "domain"}
USE_CASES = {"connect", "scheduling", "tokens", "connections", "publishing"}
ARROWS = {
    "domain": set(),
    "oauth": {"domain"},
    "storage": {"domain"},
    "rotation": {"oauth", "storage", "domain"},
    **dict.fromkeys(sorted({*USE_CASES, "notifying"}), CORE),
    "http": {*USE_CASES, *CORE},
    "runtime": {*USE_CASES, "notifying", *CORE},
}
"""Each folder, and the folders that it may import besides itself."""

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "unit",
    "AWS_SECRET_ACCESS_KEY": "unit",
    "AWS_DEFAULT_REGION": "ap-southeast-1",
    "POWERTOOLS_METRICS_NAMESPACE": "FlowAccountConnect",
    "POWERTOOLS_SERVICE_NAME": "unit",
    "ENVIRONMENT": "sandbox",
    "STACK": "connect",
    "TABLE_NAME": "table",
    "AUTHORIZE_ENDPOINT": "https://auth.example/connect/authorize",
    "CLIENT_ID": "client",
    "REFRESH_QUEUE_URL": "https://sqs.example/1/refresh",
    "EVENT_BUS_NAME": "bus",
    "UNPUBLISHED_QUEUE_URL": "https://sqs.example/1/unpublished",
    "NOTIFY_QUEUE_URL": "https://sqs.example/1/notify",
    "UNDELIVERED_QUEUE_URL": "https://sqs.example/1/undelivered",
}


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it, by their full names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the package"
            module = node.module or ""
            names.add(module)
            names |= {f"{module}.{alias.name}" for alias in node.names if module.partition(".")[0] == NAME}
    return names


def folders_of(path: Path) -> set[str]:
    """The folders of the service that a file imports."""
    parts = [name.split(".") for name in imports_of(path)]
    return {part[1] for part in parts if part[0] == NAME and len(part) > 1} & ARROWS.keys()


def test_every_folder_has_its_arrows() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == ARROWS.keys()
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py"}


@pytest.mark.parametrize("folder", ARROWS)
def test_imports_go_one_way(folder: str) -> None:
    wrong = {
        f"{path.relative_to(PACKAGE)} imports {other}"
        for path in (PACKAGE / folder).glob("**/*.py")
        for other in folders_of(path) - ARROWS[folder] - {folder}
    }
    assert wrong == set()


@pytest.mark.parametrize("folder", ARROWS)
def test_no_modules_of_a_folder_import_each_other_in_a_circle(folder: str) -> None:
    modules = {f"{NAME}.{folder}.{path.stem}": path for path in (PACKAGE / folder).glob("*.py")}
    inner = {name: imports_of(path) & modules.keys() for name, path in modules.items()}
    while free := {name for name, needs in inner.items() if not needs & inner.keys()}:
        inner = {name: needs for name, needs in inner.items() if name not in free}
    assert inner == {}


def test_pure_rules_import_the_standard_library_only() -> None:
    for path in (PACKAGE / "domain").glob("*.py"):
        outside = {name for name in imports_of(path) if name.partition(".")[0] not in (*sys.stdlib_module_names, NAME)}
        assert outside == set(), path


def test_clients_of_aws_are_made_in_one_place() -> None:
    for path in (*PACKAGE.glob("**/*.py"), *(ROOT / "functions").glob("*/*.py")):
        sdk = {name for name in imports_of(path) if name.partition(".")[0] in ("boto3", "botocore")}
        assert not sdk or path == PACKAGE / "runtime" / "aws.py", path


def test_each_folder_begins_with_what_it_is_for() -> None:
    for folder in ARROWS:
        assert ast.get_docstring(ast.parse((PACKAGE / folder / "__init__.py").read_text("utf-8"))), folder


def test_only_handlers_import_http_and_runtime() -> None:
    handlers = list((ROOT / "functions").glob("*/app.py"))
    assert all(folders_of(path) >= {"runtime"} for path in handlers)


def test_the_client_imports_nothing_of_the_service_and_the_service_nothing_of_the_client() -> None:
    for path in CLIENT.glob("**/*.py"):
        assert not {name for name in imports_of(path) if name.partition(".")[0] == NAME}, path
    for path in (*PACKAGE.glob("**/*.py"), *(ROOT / "functions").glob("*/*.py")):
        assert not {
            name for name in imports_of(path) if name.partition(".")[0] in ("flowaccount_connect_client", "tools")
        }


@pytest.mark.parametrize("builder", ["authorize", "sweep", "publish", "confirmation"])
def test_who_needs_them_not_imports_neither_requests_nor_cryptography(builder: str) -> None:
    code = (
        # botocore takes pyOpenSSL, and with it cryptography, where a developer's tools brought it; the layer has none.
        "import sys; sys.modules['OpenSSL'] = None; "
        f"from {NAME}.http import request, pages; from {NAME}.runtime import bootstrap, observability; "
        f"bootstrap.{builder}(); print(sorted({{'requests', 'cryptography'}} & sys.modules.keys()))"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**ENVIRONMENT, "PYTHONPATH": str(PACKAGE.parent), "PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.stdout.strip(), run.returncode) == ("[]", 0), run.stderr
