"""The command `flowaccount-connect`: connections of a stack, seen and managed from a terminal."""

import argparse
import dataclasses
import errno
import io
import json
import os
import queue
import sys
import time
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flowaccount_connect_client import (
    AccessDenied,
    ConnectionNotFound,
    FlowAccountConnect,
    FlowAccountConnectError,
    HistoryEntry,
    InvalidArgument,
    NotConfigured,
    Problem,
    ReauthorizationRequired,
    TemporarilyUnavailable,
    __version__,
)
from flowaccount_connect_client.cli import csv_import, doctor, loopback, tables, target
from flowaccount_connect_client.rules import is_connection_id

OK, FAILED, USAGE, NOT_FOUND, REAUTHORIZATION, LATER, DENIED = range(7)
INTERRUPTED = 130

_EXITS: tuple[tuple[type[FlowAccountConnectError], int], ...] = (
    (ConnectionNotFound, NOT_FOUND),
    (ReauthorizationRequired, REAUTHORIZATION),
    (TemporarilyUnavailable, LATER),
    (AccessDenied, DENIED),
    (NotConfigured, DENIED),
    (InvalidArgument, USAGE),
)

_EPILOG = """exit codes: 0 done; 1 it failed, or not all of an import went through; 2 wrong usage; 3 no such connection;
4 only a new consent helps; 5 only time helps; 6 not allowed, or not configured; 130 interrupted. Of doctor: 0 all is
right; 1 there is something to do; 2 not everything could be looked at"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # A console that knows no Thai shows question marks.
    given = _parser().parse_args(arguments)
    try:
        run: Callable[[argparse.Namespace], int] = given.run
        code = run(given)
        sys.stdout.flush()
        return code
    except FlowAccountConnectError as error:
        return _fail(_words(error), next((code for kind, code in _EXITS if isinstance(error, kind)), FAILED))
    except csv_import.InvalidFile as error:
        return _fail(str(error), USAGE)
    except OSError as error:
        if isinstance(error, BrokenPipeError) or (error.errno == errno.EINVAL and error.filename is None):
            # Who reads has seen enough, as `head` does; Windows says EINVAL then. Python would try to write the rest
            # when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return OK
        return _fail(f"{error.filename or 'a file'}: {error.strerror}", USAGE)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)


def _fail(text: str, code: int) -> int:
    print(f"flowaccount-connect: {tables.cell(text).text}", file=sys.stderr)
    return code


def _words(error: FlowAccountConnectError) -> str:
    """An error with what mends it."""
    if isinstance(error, ReauthorizationRequired):
        ways = [
            f"flowaccount-connect reconnect {error.expected_connection}" if error.expected_connection else None,
            error.reconnect_url,
        ]
        return f"{error} To connect it again: {' or '.join(filter(None, ways)) or 'make a new link'}"
    if isinstance(error, TemporarilyUnavailable):
        return f"{error} Try again in {error.retry_after} s."
    if isinstance(error, Problem) and (why := error.ending or error.reason):
        return f"{error} ({why})"
    return str(error)


# ---- seeing -----------------------------------------------------------------------------------------------


def _status(api: FlowAccountConnect, given: argparse.Namespace) -> int:
    found = sorted(
        api.connections(status=given.status, tenant=given.tenant),
        key=lambda one: (one.deadline or float("inf"), one.support_code),
    )
    if given.json:
        return _json([dataclasses.asdict(one) for one in found])
    if not found:
        print("no connections")
        return OK
    now = time.time()
    rows = [
        [
            tables.cell(one.support_code),
            tables.status(one.status, at_risk=tables.is_at_risk(one)),
            tables.left(one.deadline, now),
            tables.left(one.access_expires_at, now),
            tables.left(one.consent_ends_at, now),
            tables.cell(one.tenant),
            tables.cell(one.reason),
        ]
        for one in found
    ]
    tables.show(["connection", "status", "refresh token", "access token", "consent", "tenant", "reason"], rows)
    return OK


def _show(api: FlowAccountConnect, given: argparse.Namespace) -> int:
    found = api.connection(given.id)
    if given.json:
        return _json(dataclasses.asdict(found))
    rows = []
    for name, value in dataclasses.asdict(found).items():
        timed = name.endswith(("_at", "_since")) or name in ("deadline", "since")
        shown = tables.moment(value) if timed else tables.cell(value)
        rows.append(
            [tables.cell(name), tables.status(value, at_risk=tables.is_at_risk(found)) if name == "status" else shown]
        )
    tables.show(["", ""], rows)
    return OK


def _history(api: FlowAccountConnect, given: argparse.Namespace) -> int:
    found = list(api.history(given.id))
    if given.json:
        return _json([dataclasses.asdict(one) for one in found])
    if not found:
        print("nothing in the last 90 days")
        return OK
    tables.show(["at", "what", "status", "generation", "attempt", "reason"], list(map(_entry, found)))
    return OK


def _entry(one: HistoryEntry) -> list[tables.Cell]:
    rest = map(tables.cell, (one.generation, one.attempt_id, one.reason))
    return [tables.moment(one.at), tables.cell(one.kind), tables.status(one.status), *rest]


def _token(api: FlowAccountConnect, given: argparse.Namespace) -> int:
    token = api.access_token(given.id, min_ttl=given.min_ttl)
    facts: dict[str, object] = {
        "support_code": given.id,
        "status": token.status,
        "generation": token.generation,
        "environment": token.environment,
        "expires_in": int(token.expires_at - time.time()),
    }
    if given.json:
        return _json(facts | ({"access_token": token.value} if given.reveal else {}))
    if given.reveal:
        print(token.value)
        return OK
    facts |= {"access_token": "hidden (--reveal prints it, and nothing else)"}
    rows = [
        [tables.cell(name), tables.status(value) if name == "status" else tables.cell(value)]
        for name, value in facts.items()
    ]
    tables.show(["", ""], rows)
    return OK


# ---- the stack --------------------------------------------------------------------------------------------

_NOT_LOOKED_AT = 2
_MARKS = {
    doctor.State.RIGHT: tables.Cell("ok       ", "green"),
    doctor.State.WRONG: tables.Cell("to do    ", "bold red"),
    doctor.State.UNKNOWN: tables.Cell("unknown  ", "yellow"),
}


def _doctor(given: argparse.Namespace) -> int:
    """What is right about the stack and what is not. Exit code 0: all; 1: something to do; 2: it could not look."""
    if given.url:
        return _fail("doctor looks at a whole stack: name it with --stack", USAGE)
    try:
        account = target.account(stack_name=given.stack_name, local=given.local)
    except NotConfigured as error:
        return _fail(str(error), _NOT_LOOKED_AT)
    found = []
    for one in doctor.examine(account):
        found.append(one)
        if not given.json:
            tables.line([_MARKS[one.state], tables.cell(f"{one.check:15}"), tables.cell(one.text)])
            if one.fix:
                tables.line([tables.cell(f"{'':24}{one.fix}", "bold")])
            sys.stdout.flush()
    to_do, unseen = (sum(one.state is state for one in found) for state in (doctor.State.WRONG, doctor.State.UNKNOWN))
    code = FAILED if to_do else _NOT_LOOKED_AT if unseen else OK
    if given.json:
        _json(
            {"stack": account.name, "to_do": to_do, "unknown": unseen, "checks": list(map(dataclasses.asdict, found))}
        )
    else:
        rest = f", {unseen} could not be looked at" if unseen else ""
        print(f"{to_do or 'nothing'} to do{rest}")
    return code


# ---- managing ---------------------------------------------------------------------------------------------


def _disconnect(api: FlowAccountConnect, given: argparse.Namespace) -> int:
    if not given.yes:
        if not sys.stdin.isatty():
            return _fail("this asks before it disconnects, and there is no terminal: repeat with --yes", USAGE)
        try:
            answer = input(f"Disconnect {given.id}? Its tokens are deleted, and its user has to connect again. [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            return _fail("nothing was done", FAILED)
    api.disconnect(given.id)
    return _result(given, {"disconnected": given.id}, f"{given.id} is disconnected")


def _import(api: FlowAccountConnect, given: argparse.Namespace) -> int:
    name = "import" if given.file == "-" else given.file
    rows = csv_import.read(sys.stdin.buffer.read() if given.file == "-" else Path(given.file).read_bytes())
    report = Path(given.report or f"{name}.report.jsonl")
    before = csv_import.outcomes(report)
    counts: dict[str, int] = {}
    for number, (row, outcome, reason) in enumerate(csv_import.run(api, rows, before, report), 1):
        counts[outcome] = counts.get(outcome, 0) + 1
        if outcome != "done_before":
            line = f"{number}/{len(rows)}  {row.connection_id}  {outcome}" + (f"  {reason}" if reason else "")
            print(tables.cell(line).text, file=sys.stderr, flush=True)
    summary = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "nothing to import"
    _result(given, counts, summary)
    print(f"The report is {report}; the same command goes on where this one ended.", file=sys.stderr)
    return OK if set(counts) <= csv_import.DONE | {"done_before"} else FAILED


def _connect(api: FlowAccountConnect, given: argparse.Namespace) -> int:
    try:
        with loopback.listening(given.port) as back:
            return _connected(api, given, back)
    except OSError as error:
        if error.filename is not None:
            raise
        return _fail(f"cannot listen on 127.0.0.1:{given.port} ({error.strerror}); --port chooses another", USAGE)


def _reconnect(api: FlowAccountConnect, given: argparse.Namespace) -> int:
    given.tenant, given.expected = api.connection(given.id).tenant, given.id
    if given.tenant is None:
        return _fail(f"{given.id} belongs to no tenant: connect TENANT --expected {given.id} gives it one", USAGE)
    return _connect(api, given)


def _connected(api: FlowAccountConnect, given: argparse.Namespace, back: loopback.ReturnUrl) -> int:
    try:
        made = api.connect_link(given.tenant, back.url, expected_connection=given.expected, state=back.state)
    except Problem as error:
        if error.code != "return_url_not_allowed":
            raise
        return _fail(f"{back.url} is not allowed as a return URL: add it to the stack's AllowedReturnUrls.", DENIED)
    print(made.connect_url, file=sys.stderr if given.json else sys.stdout, flush=True)
    if given.open:
        webbrowser.open(made.connect_url)
    print("Open it in a browser on this machine. Waiting until you come back from FlowAccount …", file=sys.stderr)
    try:
        came = back.came.get(timeout=max(0.0, min(given.wait, made.expires_at - time.time())))
    except queue.Empty:
        return _fail("nobody came back in time; run it again for a new link", FAILED)
    if "confirmation" not in came or "error" in came:
        return _fail(f"nothing is connected ({came.get('error') or 'the browser brought no confirmation'})", FAILED)
    connected = api.confirm(came["confirmation"], given.tenant)
    if given.json:
        return _json(dataclasses.asdict(connected))
    print(f"{connected.support_code} is connected", file=sys.stderr)
    return OK


# ---- webhooks ---------------------------------------------------------------------------------------------


def _webhook_test(given: argparse.Namespace) -> int:
    answers = target.invoke("notify", {"test": "webhooks"}, stack_name=given.stack_name, local=given.local)["receivers"]
    if not answers:
        return _fail("the stack has no webhooks: set its parameter WebhookUrl", DENIED)
    if given.json:
        _json(answers)
    else:
        rows = [
            [
                tables.cell(one["receiver"]),
                tables.cell("taken" if one["taken"] else "not taken"),
                tables.cell(one["status"] or one["error"]),
            ]
            for one in answers
        ]
        tables.show(["receiver", "", "answer"], rows)
    return OK if all(one["taken"] for one in answers) else FAILED


# ---- the page for support staff ---------------------------------------------------------------------------


def _console(api: FlowAccountConnect, given: argparse.Namespace) -> int:
    try:
        from flowaccount_connect_client.console import app, serving, stack  # noqa: PLC0415 - comes with the extra `console`
    except ImportError:
        return _fail("the console needs Flask: pip install 'flowaccount-connect[console]'", DENIED)
    look: Callable[[], stack.Facts] | None = None
    if given.local or given.stack_name:
        tables_, table = target.tables(stack_name=given.stack_name, local=given.local)

        def look() -> stack.Facts:
            return stack.look(tables_, table)

    try:
        server, address = serving.server(app.make(app.Console(api, look, given.return_url)), given.port)
    except OSError as error:
        return _fail(f"cannot listen on 127.0.0.1:{given.port} ({error.strerror}); --port chooses another", USAGE)
    print(address, flush=True)
    print(
        "Open it in a browser on this machine. Whoever knows the address acts with your AWS credentials. "
        "Ctrl-C ends the console.",
        file=sys.stderr,
    )
    if given.open:
        webbrowser.open(address)
    with server:
        server.serve_forever()
    return OK


# ---- what they share --------------------------------------------------------------------------------------


def _json(value: object) -> int:
    is_unicode = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    print(json.dumps(value, indent=2, ensure_ascii=not is_unicode))
    return OK


def _result(given: argparse.Namespace, value: Mapping[str, object], text: str) -> int:
    if given.json:
        return _json(value)
    print(text)
    return OK


def _id(text: str) -> str:
    if not is_connection_id(text):
        raise argparse.ArgumentTypeError("a connection's id is its supportCode: letters, digits, '.', '_', '-'")
    return text


def _number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text[:6]) <= most):
            raise argparse.ArgumentTypeError(f"a number from {least} to {most}")
        return int(text)

    return read


def _common() -> argparse.ArgumentParser:
    """The options that may stand before and behind a command."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--version", action="version", version=f"flowaccount-connect {__version__}")
    common.add_argument("--json", action="store_true", help="for programs")
    where = common.add_mutually_exclusive_group()
    where.add_argument(
        "--url", help="the API's base URL (the stack's output ApiUrl); FLOWACCOUNT_CONNECT_URL otherwise"
    )
    where.add_argument("--stack-name", "--stack", help="find the stack at CloudFormation, by its name")
    where.add_argument("--local", action="store_true", help="the local stack (make up)")
    return common


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flowaccount-connect",
        description="Connections of a FlowAccount Connect stack.",
        epilog=_EPILOG,
        parents=[_common()],
    )
    parser.set_defaults(json=False, url=None, stack_name=None, local=False, patience=target.PATIENCE)
    commands = parser.add_subparsers(required=True, metavar="command")

    def of_stack(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        about = f"{text[0].upper()}{text[1:]}."
        made = commands.add_parser(name, help=text, description=about, epilog=_EPILOG, parents=[_common()])
        made.set_defaults(run=run)
        return made

    def command(name: str, run: Callable[..., int], text: str) -> argparse.ArgumentParser:
        def with_api(given: argparse.Namespace) -> int:
            api = target.api(url=given.url, stack_name=given.stack_name, local=given.local, patience=given.patience)
            return run(api, given)

        return of_stack(name, with_api, text)

    status = command("status", _status, "all connections, soonest deadline first")
    status.add_argument("--status", help="only those of this status")
    status.add_argument("--tenant", help="only those of this tenant of your app's")
    show = command("show", _show, "one connection")
    history = command("history", _history, "what happened to a connection, newest first")
    token = command("token", _token, "a connection's access token; hidden unless --reveal")
    token.add_argument("--reveal", action="store_true", help="print the token, and nothing else")
    token.add_argument("--min-ttl", type=_number(0, 3_600), default=300, help="seconds it should have left (0 to 3600)")
    disconnect = command("disconnect", _disconnect, "end a connection; its tokens are deleted at once")
    disconnect.add_argument("--yes", action="store_true", help="do not ask")
    for one in (show, history, token, disconnect):
        one.add_argument("id", type=_id, help="the connection's id, FlowAccount's supportCode")
    imported = command("import", _import, "refresh tokens of an older integration, from a CSV")
    imported.add_argument("file", help="columns connection_id,refresh_token and, perhaps, tenant; - is standard input")
    imported.add_argument("--report", help="where to write the outcome of each; <file>.report.jsonl otherwise")
    connect = command("connect", _connect, "a business of your own: prints a link, waits for you, and confirms")
    connect.add_argument("tenant", help="the tenant of your app's that it is for")
    connect.add_argument("--expected", type=_id, metavar="ID", help="the business it has to be")
    again = command("reconnect", _reconnect, "a business that needs a new consent, as connect does")
    again.add_argument("id", type=_id, help="the connection's id, FlowAccount's supportCode")
    for one in (connect, again):
        one.add_argument("--open", action="store_true", help="open the link in this machine's browser")
        one.add_argument("--wait", type=_number(1, 86_400), default=900, help="seconds to wait for you")
        one.add_argument(
            "--port",
            type=_number(1, 65_535),
            default=loopback.PORT,
            help=f"where your browser comes back to, on this machine; http://127.0.0.1:PORT{loopback.PATH} "
            "must be one of the stack's AllowedReturnUrls",
        )
    of_stack("doctor", _doctor, "what is right about the deployed stack, what is not, and what mends it")
    console = command("console", _console, "a page on this machine: connections, their history, links, the stack")
    console.set_defaults(patience=target.SHORT_PATIENCE)
    console.add_argument("--open", action="store_true", help="open it in this machine's browser")
    console.add_argument("--port", type=_number(0, 65_535), default=0, help="a fixed port; a free one otherwise")
    console.add_argument("--return-url", default="", help="your app's return URL, filled in where a link is made")
    webhook = commands.add_parser("webhook", help="webhooks that the stack sends", parents=[_common()], epilog=_EPILOG)
    kinds = webhook.add_subparsers(required=True, metavar="command")
    about = "Send the signed event webhook.test to each receiver. Needs lambda:InvokeFunction on <stack>-notify:live."
    test = kinds.add_parser("test", help="send one now", description=about, parents=[_common()], epilog=_EPILOG)
    test.set_defaults(run=_webhook_test)
    return parser


if __name__ == "__main__":
    sys.exit(main())
