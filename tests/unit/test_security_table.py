"""Every row of `docs/security.md` names tests that attack it, and every test and module it names is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ROOT / "layers/connector/flowaccount_connect"
TEXT = (ROOT / "docs/security.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("|") and not re.match(r"\|(-|\s*Threat\s*\|)", line)
]


def named_in(path: Path) -> set[str]:
    """The test functions of a file."""
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_there_is_a_table_of_whole_rows() -> None:
    assert len(ROWS) > 25
    assert {len(row) for row in ROWS} == {4}


def test_every_row_says_where_and_names_a_test_that_is_there() -> None:
    wrong = []
    for threat, _, where, attacked in ROWS:
        for module in re.findall(r"`([^`]+)`", where):
            if not (PRODUCT / module).is_file() and not (ROOT / module).is_file():
                wrong += [f"{threat}: no module {module}"]
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", attacked)
        if not named or not re.search(r"`[^`]+`", where):
            wrong.append(f"{threat}: names no test, or no module")
        for file, test in named:
            path = ROOT / "tests" / file
            if not path.is_file() or test not in named_in(path):
                wrong.append(f"{threat}: no test {file}::{test}")
        if re.sub(r"`[\w/]+\.py::test_\w+`|[, ]", "", attacked):
            wrong.append(f"{threat}: what is not the name of a test stands among the tests")
    assert wrong == []


def test_the_threats_of_the_best_current_practice_are_all_there() -> None:
    for section in range(1, 18):
        assert re.search(rf"\(?4\.{section}\b", TEXT), f"RFC 9700 section 4.{section}"


def test_every_attack_is_named_by_a_row() -> None:
    attacks = {f"e2e/test_attacks.py::{name}" for name in named_in(ROOT / "tests/e2e/test_attacks.py")}
    assert {attack for attack in attacks if attack not in TEXT} == set()
