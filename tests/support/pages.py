"""The code of the documents, as a reader copies it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of one language on a page, in their order; `page` is a path from the repository's root."""
    text = (ROOT / page).read_text("utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, code in found]


def block(page: str, language: str, word: str) -> str:
    """The one code block of a language on a page that has `word` in it."""
    (found,) = [code for code in blocks(page, language) if word in code]
    return found
