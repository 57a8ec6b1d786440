"""The command `flowaccount-connect`: connections of a stack, seen and managed from a terminal."""

import argparse
import json
import shlex
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from flowaccount_connect_client import (
    AccessDenied,
    Api,
    ConnectionNotFound,
    FlowAccountConnectError,
    NotConfigured,
    ReauthorizationRequired,
    TemporarilyUnavailable,
)
from flowaccount_connect_client.cli import csv_import, tables, target
from flowaccount_connect_client.cli.loopback import NotLoopback, ReturnUrl
from flowaccount_connect_client.cli.tables import Cell
from flowaccount_connect_client.rules import is_connection_id

OK, FAILED, USAGE, NOT_FOUND, REAUTHORIZATION, LATER, DENIED = range(7)
INTERRUPTED = 130

_EXITS: tuple[tuple[type[FlowAccountConnectError], int], ...] = (
    (ConnectionNotFound, NOT_FOUND),
    (ReauthorizationRequired, REAUTHORIZATION),
    (TemporarilyUnavailable, LATER),
    (AccessDenied, DENIED),
    (NotConfigured, DENIED),
)

_EPILOG = """exit codes: 0 done; 1 it failed, or not all of an import went through; 2 wrong usage; 3 no such connection;
4 only a new consent helps; 5 only time helps; 6 not allowed, or not configured; 130 interrupted"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        run: Callable[[Api, argparse.Namespace], int] = given.run
        return run(target.api(url=given.url, stack_name=given.stack_name, local=given.local), given)
    except FlowAccountConnectError as error:
        return _fail(_words(error), next((code for kind, code in _EXITS if isinstance(error, kind)), FAILED))
    except csv_import.InvalidFile as error:
        return _fail(str(error), USAGE)
    except OSError as error:
        return _fail(f"{error.filename or 'a file'}: {error.strerror}", USAGE)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)


def _fail(text: str, code: int) -> int:
    print(f"flowaccount-connect: {tables.cell(text).text}", file=sys.stderr)
    return code


def _words(error: FlowAccountConnectError) -> str:
    """An error with what mends it."""
    if isinstance(error, ReauthorizationRequired):
        how = f" Reconnect: {error.reconnect_url}" if error.reconnect_url else ""
        if error.tenant and error.expected_connection:
            wanted = shlex.join(["connect", error.tenant, "--expected", error.expected_connection, "--return-url"])
            how += f" With a link: flowaccount-connect {wanted} …"
        return f"{error}{how}"
    if isinstance(error, AccessDenied):
        return f"{error} These AWS credentials need execute-api:Invoke on this route."
    if isinstance(error, TemporarilyUnavailable):
        return f"{error} Try again in {error.retry_after} s."
    return str(error)


# ---- seeing -----------------------------------------------------------------------------------------------


def _status(api: Api, given: argparse.Namespace) -> int:
    found = sorted(
        _pages(api, "/connections", "connections", {"status": given.status} if given.status else {}),
        key=lambda one: (one.get("deadline") or float("inf"), str(one.get("support_code"))),
    )
    if given.json:
        return _json(found)
    now = time.time()
    rows = [
        [
            tables.cell(one.get("support_code")),
            tables.status(one.get("status")),
            tables.left(one.get("deadline"), now),
            tables.left(one.get("access_expires_at"), now),
            tables.cell(one.get("tenant")),
            tables.cell(one.get("reason")),
        ]
        for one in found
    ]
    if not rows:
        print("no connections")
        return OK
    tables.show(["connection", "status", "refresh token", "access token", "tenant", "reason"], rows)
    return OK


def _show(api: Api, given: argparse.Namespace) -> int:
    found: dict[str, Any] = api.call("GET", f"/connections/{given.id}")
    if given.json:
        return _json(found)
    rows = []
    for name, value in found.items():
        timed = name.endswith(("_at", "_since")) or name in ("deadline", "since")
        shown = tables.status(value) if name == "status" else tables.moment(value) if timed else tables.cell(value)
        rows.append([tables.cell(name), shown])
    tables.show(["", ""], rows)
    return OK


def _history(api: Api, given: argparse.Namespace) -> int:
    found = list(_pages(api, f"/connections/{given.id}/history", "entries", {}))
    if given.json:
        return _json(found)
    columns = ("kind", "status", "generation", "attempt_id", "reason")
    rows: list[list[Cell]] = [
        [
            tables.moment(one.get("at")),
            *(tables.status(one.get(name)) if name == "status" else tables.cell(one.get(name)) for name in columns),
        ]
        for one in found
    ]
    tables.show(["at", "what", "status", "generation", "attempt", "reason"], rows)
    return OK


def _token(api: Api, given: argparse.Namespace) -> int:
    token = api.access_token(given.id, min_ttl=given.min_ttl)
    told = {
        "support_code": given.id,
        "status": token.status,
        "generation": token.generation,
        "environment": token.environment,
        "expires_in": int(token.expires_at - time.time()),
    }
    if given.json:
        return _json(told | ({"access_token": token.value} if given.reveal else {}))
    if given.reveal:
        print(token.value)
        return OK
    tables.show(["", ""], [[tables.cell(name), tables.cell(value)] for name, value in told.items()])
    print("access_token  hidden (--reveal prints it, and nothing else)")
    return OK


# ---- managing ---------------------------------------------------------------------------------------------


def _disconnect(api: Api, given: argparse.Namespace) -> int:
    if not given.yes:
        if not sys.stdin.isatty():
            return _fail("nobody is there to ask: repeat with --yes if it is meant", USAGE)
        answer = input(f"Disconnect {given.id}? Its tokens are gone at once, its user has to connect again. [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            return _fail("nothing was done", FAILED)
    api.call("DELETE", f"/connections/{given.id}")
    print(f"{given.id} is disconnected")
    return OK


def _import(api: Api, given: argparse.Namespace) -> int:
    if given.file == "-":
        rows, name = csv_import.read(sys.stdin), "import"
    else:
        with Path(given.file).open(encoding="utf-8-sig", newline="") as lines:
            rows, name = csv_import.read(lines), given.file
    report = Path(given.report or f"{name}.report.jsonl")
    before = csv_import.outcomes(report)
    counts: dict[str, int] = {}
    for number, (row, outcome, told) in enumerate(csv_import.run(api, rows, before, report), 1):
        counts[outcome] = counts.get(outcome, 0) + 1
        if outcome != "done_before":
            line = f"{number}/{len(rows)}  {row.connection_id}  {outcome}" + (f"  {told}" if told else "")
            print(tables.cell(line).text, file=sys.stderr, flush=True)
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "nothing to import")
    print(f"The report is {report}; the same command goes on where this one ended.", file=sys.stderr)
    return OK if set(counts) <= csv_import.DONE | {"done_before"} else FAILED


def _connect(api: Api, given: argparse.Namespace) -> int:
    try:
        listening = ReturnUrl(given.return_url)
    except (NotLoopback, OSError) as error:
        return _fail(f"cannot wait at the return URL: {error}", USAGE)
    with listening:
        made = api.connect_link(given.tenant, given.return_url, expected_connection=given.expected or None)
        print(made["connect_url"], flush=True)
        if given.open:
            webbrowser.open(made["connect_url"])
        print("Open it in a browser on this machine. Waiting for you to come back from FlowAccount …", file=sys.stderr)
        brought = listening.wait(min(time.time() + given.wait, float(made["expires_at"])))
    if brought is None:
        return _fail("nobody came back in time; run it again for a new link", FAILED)
    if "confirmation" not in brought or "error" in brought:
        return _fail(f"nothing is connected: {tables.cell(brought.get('error', 'no confirmation')).text}", FAILED)
    confirmed = api.confirm(brought["confirmation"], given.tenant)
    print(f"{confirmed['support_code']} is connected", file=sys.stderr)
    return OK


# ---- what they share --------------------------------------------------------------------------------------


def _pages(api: Api, path: str, name: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
    """All of a list that comes in pages."""
    more: dict[str, str] = {}
    while True:
        page = api.call("GET", path, query=query | more)
        yield from page[name]
        if not page.get("next"):
            return
        more = {"next": page["next"]}


def _json(value: object) -> int:
    print(json.dumps(value, indent=2, ensure_ascii=False))
    return OK


def _id(text: str) -> str:
    if not is_connection_id(text):
        raise argparse.ArgumentTypeError("a connection's id is its supportCode: letters, digits, '.', '_', '-'")
    return text


def _ttl(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:5]) <= 3_600):
        raise argparse.ArgumentTypeError("0 to 3600 seconds")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flowaccount-connect", description="Connections of a FlowAccount Connect stack.", epilog=_EPILOG
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--url", help="the API's base URL (the stack's output ApiUrl); FLOWACCOUNT_CONNECT_URL otherwise"
    )
    where.add_argument("--stack-name", help="look the URL up at CloudFormation, by the stack's name")
    where.add_argument("--local", action="store_true", help="the local stack (make up)")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, run: Callable[..., int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_EPILOG)
        made.set_defaults(run=run)
        return made

    status = command("status", _status, "all connections, soonest deadline first")
    status.add_argument("--status", help="only those of this status")
    show = command("show", _show, "one connection")
    history = command("history", _history, "what happened to a connection, newest first")
    token = command("token", _token, "a connection's access token; hidden unless --reveal")
    token.add_argument("--reveal", action="store_true", help="print the token, and nothing else")
    token.add_argument("--min-ttl", type=_ttl, default=300, help="seconds it should have left (0 to 3600)")
    disconnect = command("disconnect", _disconnect, "end a connection; its tokens are gone at once")
    disconnect.add_argument("--yes", action="store_true", help="do not ask")
    for one in (show, history, token, disconnect):
        one.add_argument("id", type=_id, help="the connection's id, FlowAccount's supportCode")
    for one in (status, show, history, token):
        one.add_argument("--json", action="store_true", help="for programs")
    imported = command("import", _import, "refresh tokens of an older integration, from a CSV")
    imported.add_argument("file", help="columns connection_id,refresh_token; - is standard input")
    imported.add_argument("--report", help="where to write what came of each; <file>.report.jsonl otherwise")
    connect = command("connect", _connect, "a business of your own: prints a link, waits for you, and confirms")
    connect.add_argument("tenant", help="your own name for whom it belongs to")
    connect.add_argument(
        "--return-url", required=True, help="an allowed return URL on this machine, as in http://localhost:8000/done"
    )
    connect.add_argument("--expected", type=_id, metavar="ID", help="the business it has to be")
    connect.add_argument("--open", action="store_true", help="open the link in this machine's browser")
    connect.add_argument("--wait", type=int, default=900, help="seconds to wait for you")
    return parser


if __name__ == "__main__":
    sys.exit(main())
