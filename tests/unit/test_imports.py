"""Pure rules import the standard library only, and no function pays for what it does not use."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "layers" / "connector" / "flowaccount_connect"
NAME = "flowaccount_connect"
PURE = [
    "error_code",
    "authorization_request",
    "connection",
    "cursor",
    "events",
    "http_request",
    "identifiers",
    "pages",
    "problems",
    "return_urls",
    "schedule",
    "settings",
    "token_response",
]
ENVIRONMENT = {
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
}


def imported(module: str) -> set[str]:
    """The modules that `module` imports, anywhere in it."""
    return imports_of(PACKAGE / f"{module}.py")


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the package"
            # `from flowaccount_connect import x` imports the module x.
            names |= {f"{NAME}.{alias.name}" for alias in node.names} if node.module == NAME else {node.module or ""}
    return names


def reached(module: str) -> set[str]:
    """All modules that importing `module` can reach, by way of the package's own."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        for name in imported(waiting.pop()) - found:
            found.add(name)
            inner = name.removeprefix(f"{NAME}.")
            if name.startswith(f"{NAME}.") and (PACKAGE / f"{inner}.py").exists():
                waiting.append(inner)
    return found


def test_the_package_itself_imports_nothing() -> None:
    assert imported("__init__") == set()


@pytest.mark.parametrize("module", PURE)
def test_pure_rules_import_the_standard_library_only(module: str) -> None:
    outside = {name for name in reached(module) if name.partition(".")[0] not in (*sys.stdlib_module_names, NAME)}
    assert outside == set()
    inner = {name.removeprefix(f"{NAME}.") for name in reached(module) if name.startswith(f"{NAME}.")}
    assert inner <= {*PURE, "__version__"}


def test_the_check_would_see_an_import() -> None:
    assert "requests" in reached("token_endpoint")
    assert any(name.startswith("cryptography") for name in reached("sealing"))


def test_no_function_is_made_of_the_sdk() -> None:
    """But for credentials where the environment has none: `aws_client`, when it is asked for them."""
    for path in PACKAGE.glob("*.py"):
        names = {name for name in imported(path.stem) if name.partition(".")[0] in ("boto3", "botocore")}
        assert names <= {"botocore.session"} if path.stem == "aws_client" else not names or path.stem == "client"


def test_the_client_needs_none_of_what_the_functions_are_made_of_and_no_function_needs_it() -> None:
    found = reached("client")
    assert {name for name in found if name.startswith(f"{NAME}.")} == {f"{NAME}.identifiers", f"{NAME}.return_urls"}
    others = {name.partition(".")[0] for name in found} - sys.stdlib_module_names - {NAME}
    assert others == {"botocore", "requests", "urllib3"}
    handlers = (PACKAGE.parents[2] / "functions").glob("*/*.py")
    for path in {*PACKAGE.glob("*.py"), *handlers} - {PACKAGE / "client.py"}:
        assert f"{NAME}.client" not in imports_of(path), path


@pytest.mark.parametrize("builder", ["authorize", "sweep", "publish", "confirmation"])
def test_who_needs_them_not_imports_neither_requests_nor_cryptography(builder: str) -> None:
    code = (
        # botocore takes pyOpenSSL, and with it cryptography, where a developer's tools brought it; the layer has none.
        "import sys; sys.modules['OpenSSL'] = None; "
        f"from {NAME} import wiring, http_request, pages, observability; wiring.{builder}(); "
        "print(sorted({'requests', 'cryptography'} & sys.modules.keys()))"
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
