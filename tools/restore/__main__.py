"""`python -m tools.restore TABLE`: put the connections of a restored table back, in doubt. See docs/runbook.md."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from flowaccount_connect.storage.dynamodb import Client, StoreUnavailable
from flowaccount_connect_client import NotConfigured
from flowaccount_connect_client.cli import tables, target
from flowaccount_connect_client.cli.main import DENIED, FAILED, INTERRUPTED, LATER, OK, USAGE
from tools.restore import restoring


def main(arguments: Sequence[str] | None = None) -> int:
    """Restore one table; returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        return _mark_restored(*target.tables(stack_name=given.stack_name, local=given.local), given)
    except NotConfigured as error:
        return _fail(str(error), DENIED)
    except restoring.NotRestored as error:
        return _fail(str(error), USAGE)
    except StoreUnavailable as error:
        return _fail(*_of_the_table(str(error)))
    except OSError as error:
        return _fail(f"{error.filename or 'a file'}: {error.strerror}", USAGE)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)


def _fail(text: str, code: int) -> int:
    print(f"restore: {tables.cell(text).text}", file=sys.stderr)
    return code


def _of_the_table(code: str) -> tuple[str, int]:
    """A sentence for an error code of DynamoDB, and the exit code."""
    if code.startswith("AccessDenied"):
        return (
            "These AWS credentials need dynamodb:DescribeTable on both tables, dynamodb:Scan on the restored one, "
            "dynamodb:GetItem and dynamodb:PutItem on the stack's, and the use of the key.",
            DENIED,
        )
    return f"DynamoDB failed ({code}). Items that were put back stay. The same command goes on from there.", LATER


def _mark_restored(client: Client, table: str, given: argparse.Namespace) -> int:
    now = int(time.time())
    restored_to = restoring.backup_time(client, given.table, table, given.restored_to, now=now)
    disconnected: frozenset[str] = frozenset()
    if given.disconnected:
        with Path(given.disconnected).open(encoding="utf-8-sig") as lines:
            try:
                disconnected = restoring.connection_ids(lines)
            except UnicodeDecodeError:
                parser.error(f"{given.disconnected} is not UTF-8: save it as UTF-8, or write it by the runbook's query.")
        if not disconnected:
            raise restoring.NotRestored(
                f"{given.disconnected} is empty: check that its query had ended. If no connection was disconnected, "
                "leave --disconnected out."
            )
        print(f"Disconnected since: {len(disconnected)}, by {given.disconnected}.", file=sys.stderr)
    moment = tables.moment(restored_to).text
    print(f"From {given.table}, as of {moment}, into {table}.", file=sys.stderr)
    if not (given.dry_run or given.yes):
        if not sys.stdin.isatty():
            return _fail("no terminal to ask: repeat with --yes, or look first with --dry-run", USAGE)
        print("Each connection's token is sent once. If it was spent after the backup, its connection ends.")
        if input("With ReplayPolicy=never, each of them ends. Go on? [y/N] ").strip().lower() not in ("y", "yes"):
            return _fail("nothing was done", FAILED)
    work = restoring.Restore(
        client=client,
        source=given.table,
        into=table,
        restored_to=restored_to,
        now=now,
        disconnected=disconnected,
        histories=given.histories,
        dry_run=given.dry_run,
    )
    with tables.progress("put back") as say:
        counts, imports, seen = restoring.watched(work.run(), lambda so_far: say(so_far.total()))
    rows = [
        [tables.cell(outcome.value), tables.cell(counts[outcome])] for outcome in restoring.Outcome if counts[outcome]
    ]
    tables.show(["would become" if given.dry_run else "became", "items"], rows)
    for name in imports:
        print(f"{name}: import its token again, since it was not proved before the backup", file=sys.stderr)
    for name in sorted(disconnected - seen):
        print(f"{name}: not in the backup, so it needs no disconnect", file=sys.stderr)
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.restore",
        description="Put the connections of a restored table into the stack's, in doubt.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--stack-name", help="the stack, by its name at CloudFormation")
    where.add_argument("--local", action="store_true", help="the local stack (make up)")
    parser.add_argument("table", help="the restored table's name; it is only read")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--disconnected", metavar="FILE", help="ids disconnected since the backup, one a line")
    parser.add_argument("--histories", action="store_true", help="put the connections' histories back, too")
    parser.add_argument("--restored-to", metavar="TIME", help="the time of the backup, if AWS does not know it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
