"""The texts for an app's users have one for each way in which a connect can end."""

import re
from pathlib import Path

import pytest

from flowaccount_connect.connect import errors
from flowaccount_connect.connect.endings import Ending, LateEnding

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "messages.md"
EXAMPLES = [*(ROOT / "clients/python/examples").glob("*.py"), *(ROOT / "clients/typescript/examples").glob("*.js")]

OF_THE_RETURN_URL = {*Ending} - {Ending.CONNECTED, Ending.TO_BE_CONFIRMED, Ending.BUSY}
OF_A_LINK = {kind.code for kind in (errors.LinkUsed, errors.LinkExpired, errors.AlreadyConnected)}
OF_A_CONFIRMATION = {*LateEnding} | {kind.code for kind in (errors.UnknownConfirmation, errors.NotFinished)}


def rows() -> list[tuple[str, str, str]]:
    """The words of each row of the table, and its texts."""
    return re.findall(r"^\| (`.+`) \| (.+) \| (.+) \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE)


def test_there_is_a_text_for_each_ending_in_both_languages_and_no_other() -> None:
    words = [word for row in rows() for word in re.findall(r"`(\w+)`", row[0])]
    assert sorted(words) == sorted({str(word) for word in OF_THE_RETURN_URL | OF_A_LINK | OF_A_CONFIRMATION})
    assert all(re.search("[\u0e01-\u0e3a]", thai) and english.isascii() for _, thai, english in rows())


def test_no_text_sends_a_link_that_connects() -> None:
    quoted = [line for line in DOCUMENT.read_text("utf-8").splitlines() if line.startswith(">")]
    assert sum("{link}" in line for line in quoted) == 8
    assert not [line for line in quoted if "connect_url" in line or "authorize" in line]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_apps_say_the_same(example: Path) -> None:
    app = example.read_text("utf-8")
    assert [english for words, _, english in rows() if f'"{english}"' not in app] == [
        "FlowAccount is connected already."
    ]
