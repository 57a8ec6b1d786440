"""The Thai README and its pages are in step with the English ones."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BLOCK = re.compile(r"^( *)```.*?^\1```$", re.DOTALL | re.MULTILINE)


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def blocks(text: str) -> list[str]:
    return [found[0] for found in BLOCK.finditer(text)]


def shape(text: str) -> list[str]:
    """The levels of the headings, and where the blocks of code, the rows of tables and the items of lists stand."""
    lines = BLOCK.sub("```", text).splitlines()
    marks = (re.match(r"#+ |```|\||\d+\. |- |!\[", line.strip()) for line in lines)
    return [found[0] for found in marks if found]


def test_the_thai_readme_has_the_same_headings_code_and_tables() -> None:
    english, thai = read("README.md"), read("README.th.md")
    assert blocks(thai) == blocks(english)
    assert len(blocks(english)) >= 6
    assert shape(thai) == shape(english)


@pytest.mark.parametrize("name", ["README.th.md", "docs/th/runbook.md", "docs/th/messages.md"])
def test_every_link_of_a_thai_page_leads_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", read(name)):
        path, _, anchor = target.partition("#")
        page = (ROOT / name).parent / path if path else ROOT / name
        assert page.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}, target


def test_every_alarm_has_its_line_in_the_thai_runbook() -> None:
    names = set(re.findall(r'AlarmName: !Sub "\$\{AWS::StackName\}-([a-z-]+)"', read("template.yaml")))
    thai = set(re.findall(r"^\| \[`([a-z-]+)`\]", read("docs/th/runbook.md"), re.MULTILINE))
    assert len(names) > 12
    assert {name for name in names if not name.endswith("-errors") or name == "api-errors"} == thai


def test_the_thai_texts_for_users_are_the_same_on_both_pages() -> None:
    quoted = [line for line in read("docs/th/messages.md").splitlines() if line.startswith("> ") and len(line) > 10]
    assert len(quoted) > 10
    both = read("docs/messages.md").splitlines()
    assert [line for line in quoted if line not in both] == []
