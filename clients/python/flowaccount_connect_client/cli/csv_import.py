"""Imports refresh tokens from a CSV file, one by one, with a report that lets a second run go on where the first ended.

The report is one line of JSON for each attempt, on disk before the next begins. No token is ever in it.
"""

import codecs
import csv
import io
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from flowaccount_connect_client import ConnectionNotFound, FlowAccountConnect, Problem, TemporarilyUnavailable
from flowaccount_connect_client.rules import is_connection_id

COLUMNS = ("connection_id", "refresh_token")
TENANT = "tenant"
"""A third column, if you like: whom the business belongs to in your app."""

DONE = frozenset({"imported", "already_connected"})
"""Outcomes that are not tried again."""


_THAI = re.compile("[\u0e01-\u0e5b]")


class InvalidFile(Exception):
    """The CSV or the report is not what it must be; the message names the line. No token is in it."""


@dataclass(frozen=True)
class Row:
    """One token to import, and the line it stands on."""

    line: int
    connection_id: str
    refresh_token: str = field(repr=False)
    tenant: str | None = None


def read(content: bytes) -> list[Row]:
    """The rows of a CSV with the columns connection_id, refresh_token and, perhaps, tenant.

    Read as spreadsheets write it: in UTF-8 or UTF-16 with or without a byte order mark, or in the Thai code page 874;
    with commas, semicolons or tabs; with a line `sep=` in front. Raises `InvalidFile` before anything is sent.
    """
    lines = io.StringIO(_text(content), newline="")
    before = 0
    first = lines.readline()
    if first.lower().startswith("sep="):
        before, first = 1, lines.readline()
    delimiter = next((sign for sign in ";\t," if sign in first), ",")
    reader = csv.DictReader(_joined(first, lines), strict=True, delimiter=delimiter, skipinitialspace=True)
    rows: list[Row] = []
    seen: dict[str, int] = {}
    try:
        if sorted({name or "" for name in reader.fieldnames or ()} - {TENANT}) != sorted(COLUMNS):
            raise InvalidFile(f"The first line must name the columns {','.join(COLUMNS)} and, perhaps, {TENANT}.")
        for fields in reader:
            line = reader.line_num + before
            row = _row(line, fields)
            if row.connection_id in seen:
                raise InvalidFile(f"Line {line}: {row.connection_id} is on line {seen[row.connection_id]} already.")
            seen[row.connection_id] = line
            rows.append(row)
    except csv.Error:
        raise InvalidFile(f"Line {reader.line_num + before + 1} is no CSV.") from None
    return rows


def _row(line: int, fields: dict[str, str]) -> Row:
    if None in fields or None in fields.values():
        raise InvalidFile(f"Line {line} must have as many values as the first line has columns.")
    values = {name: value.strip() for name, value in fields.items()}
    if not is_connection_id(values["connection_id"]):
        raise InvalidFile(f"Line {line}: the connection_id is no supportCode.")
    token = values["refresh_token"]
    if not (token and token.isascii() and token.isprintable() and " " not in token):
        raise InvalidFile(f"Line {line}: the refresh_token must be visible ASCII characters.")
    return Row(line, values["connection_id"], token, values.get(TENANT) or None)


def _joined(first: str, rest: TextIO) -> Iterator[str]:
    yield first
    yield from rest


def _text(content: bytes) -> str:
    """The text of a file. UTF-16 is known by its mark, or by the zero of an ASCII sign."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]
    elif b"\0" in content[:2]:
        encodings = ["utf-16-be" if content[:1] == b"\0" else "utf-16-le"]
    else:
        encodings = ["utf-8-sig", "cp874"]
    found = [text for encoding in encodings if (text := _decoded(content, encoding)) is not None]
    if not found:
        raise InvalidFile("The file is neither in UTF-8 nor UTF-16 nor the Thai code page 874.")
    if len(found) > 1 and not (content.isascii() or content.startswith(codecs.BOM_UTF8) or _THAI.search(found[0])):
        # A few Thai letters of the code page are letters of another script in UTF-8. A wrong guess is a wrong tenant.
        raise InvalidFile("The file's encoding is not certain: save it as UTF-8 with a byte order mark (CSV UTF-8).")
    return found[0]


def _decoded(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None


def outcomes(report: Path) -> dict[str, str]:
    """The newest outcome by connection of an earlier run's report; none if there is no such file.

    Raises `InvalidFile`.
    """
    found: dict[str, str] = {}
    try:
        lines = report.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return found
    except (OSError, UnicodeDecodeError):
        raise InvalidFile(f"The report {report} cannot be read.") from None
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            found[entry["connection_id"]] = entry["outcome"]
        except (ValueError, KeyError, TypeError):
            if number < len(lines):
                raise InvalidFile(f"Line {number} of {report} is none of a report: is this another file?") from None
            # The last line of a run that was killed while it wrote.
    return found


def run(
    api: FlowAccountConnect,
    rows: Iterable[Row],
    before: dict[str, str],
    report: Path,
    *,
    clock: Callable[[], float] = time.time,
) -> Iterator[tuple[Row, str, str]]:
    """Import each row that `before` does not list as done; yields it with its outcome and the reason.

    `imported`, `already_connected`, `pending` (stored, and being proved by the stack), `refused`, `failed`,
    or `done_before`.
    """
    with _appending(report) as out:
        for row in rows:
            if before.get(row.connection_id) in DONE:
                yield row, "done_before", ""
                continue
            outcome, reason = _import(api, row, pending=before.get(row.connection_id) == "pending")
            entry = {"at": int(clock()), "connection_id": row.connection_id, "line": row.line, "outcome": outcome}
            out.write(json.dumps(entry | ({"reason": reason} if reason else {})) + "\n")
            out.flush()
            os.fsync(out.fileno())
            yield row, outcome, reason


_PROVING = ("pending", "the stack is still proving it")


def _import(api: FlowAccountConnect, row: Row, *, pending: bool) -> tuple[str, str]:
    try:
        if pending:
            # Stored by an earlier run: the token is not sent again before its outcome is known.
            try:
                status = api.connection(row.connection_id).status
            except ConnectionNotFound:
                status = ""
            if status in ("active", "in_doubt"):
                return "imported", ""
            if status == "importing":
                return _PROVING
        made = api.import_(row.connection_id, row.refresh_token, tenant=row.tenant)
    except TemporarilyUnavailable as error:
        return "failed", f"{error.code}; a later run tries again"
    except Problem as error:
        if error.code == "already_connected":
            return "already_connected", ""
        if error.code == "import_under_way":
            return _PROVING
        return "refused", f"{error.code} ({error.reason})" if error.reason else f"{error.code}: {error.detail}"
    return _PROVING if made.status == "importing" else ("imported", "")


def _appending(report: Path) -> TextIO:
    """The report, for its owner's eyes; a line that an earlier run left half written is taken out."""
    out = open(report, "a+b", opener=lambda path, flags: os.open(path, flags, 0o600))  # noqa: SIM115 - run closes it
    out.seek(0)
    out.truncate(out.read().rfind(b"\n") + 1)
    out.seek(0, os.SEEK_END)
    return io.TextIOWrapper(out, encoding="utf-8", newline="\n")
