"""Imports refresh tokens from a CSV file, one by one, with a report that lets a second run go on where the first ended.

The report is one line of JSON for each attempt, on disk before the next begins. No token is ever in it.
"""

import csv
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from flowaccount_connect_client import Api, ConnectionNotFound, Problem, TemporarilyUnavailable
from flowaccount_connect_client.rules import is_connection_id

COLUMNS = ("connection_id", "refresh_token")
DONE = frozenset({"imported", "already_connected"})
"""Outcomes that are not tried again."""


class InvalidFile(Exception):
    """The CSV or the report is not what it must be; the message says where. No token is in it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One token to import, and the line it stands on."""

    line: int
    connection_id: str
    refresh_token: str = field(repr=False)


def read(lines: Iterable[str]) -> list[Row]:
    """The rows of a CSV with the columns connection_id and refresh_token. Raises `InvalidFile` before any is sent."""
    reader = csv.DictReader(lines, strict=True)
    rows: list[Row] = []
    seen: dict[str, int] = {}
    try:
        if sorted(name or "" for name in reader.fieldnames or ()) != sorted(COLUMNS):
            raise InvalidFile(f"The first line must name the columns {','.join(COLUMNS)}, and no others.")
        for fields in reader:
            line = reader.line_num
            if None in fields or None in fields.values():
                raise InvalidFile(f"Line {line}: there must be two values, connection_id and refresh_token.")
            connection_id, token = fields["connection_id"].strip(), fields["refresh_token"].strip()
            if not is_connection_id(connection_id):
                raise InvalidFile(f"Line {line}: the connection_id is no supportCode.")
            if not (token and token.isascii() and token.isprintable() and " " not in token):
                raise InvalidFile(f"Line {line}: the refresh_token must be visible ASCII characters.")
            if connection_id in seen:
                raise InvalidFile(f"Line {line}: {connection_id} is on line {seen[connection_id]} already.")
            seen[connection_id] = line
            rows.append(Row(line, connection_id, token))
    except (csv.Error, UnicodeDecodeError):
        raise InvalidFile(f"Line {reader.line_num + 1} is no CSV in UTF-8.") from None
    return rows


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
    api: Api, rows: Iterable[Row], before: dict[str, str], report: Path, *, clock: Callable[[], float] = time.time
) -> Iterator[tuple[Row, str, str]]:
    """Import each row that `before` does not tell to be done; yields it with its outcome and what is to be said of it.

    `imported`, `already_connected`, `pending` (stored, and being proved by the stack), `refused`, `failed`,
    or `done_before`.
    """
    with _appending(report) as out:
        for row in rows:
            if before.get(row.connection_id) in DONE:
                yield row, "done_before", ""
                continue
            outcome, told = _import(api, row, pending=before.get(row.connection_id) == "pending")
            entry = {"at": int(clock()), "connection_id": row.connection_id, "line": row.line, "outcome": outcome}
            out.write(json.dumps(entry | ({"told": told} if told else {})) + "\n")
            out.flush()
            os.fsync(out.fileno())
            yield row, outcome, told


def _import(api: Api, row: Row, *, pending: bool) -> tuple[str, str]:
    path = f"/connections/{row.connection_id}"
    try:
        if pending:
            # Stored by an earlier run: the token must not be sent about again before it is known what came of it.
            try:
                status = api.call("GET", path).get("status")
            except ConnectionNotFound:
                status = None
            if status in ("active", "in_doubt"):
                return "imported", ""
            if status == "importing":
                return "pending", "the stack is still proving it"
        answer = api.call("POST", path, {"refresh_token": row.refresh_token})
    except TemporarilyUnavailable as error:
        return "failed", f"{error.code}; a later run tries again"
    except Problem as error:
        if error.code == "already_connected":
            return "already_connected", ""
        if error.code == "import_under_way":
            return "pending", "the stack is still proving it"
        return "refused", error.code if error.detail is None else f"{error.code}: {error.detail}"
    if isinstance(answer, dict) and answer.get("status") == "importing":
        return "pending", "the stack is still proving it"
    return "imported", ""


def _appending(report: Path) -> TextIO:
    """The report, for its owner's eyes; a line that an earlier run left half written is ended."""
    descriptor = os.open(report, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    out = os.fdopen(descriptor, "r+", encoding="utf-8")
    size = out.seek(0, os.SEEK_END)
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        out.write("\n")
    return out
