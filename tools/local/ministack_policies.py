"""Adds to the emulator what AWS's policy checks and filters do and the emulator's do not.

- `dynamodb:LeadingKeys`: the partition keys of the items that a call names. Without it every statement on the table
  would allow every item.
- `kms:EncryptionContext:…`: the context of a call of KMS.
- A batch of messages needs the permission of a single message.
- A mail address has to confirm a subscription. No mail is sent here, so the token of the confirmation is the address.
- `aws:SecureTransport` is true: on AWS every call of ours is by TLS, and what listens here is on loopback.
- A stream's filter that asks for an absent attribute also accepts a record without the attribute around it.

It also unpacks each layer once. The emulator unpacks it for each process of a function, which takes most of a cold
start. And it removes the folders of ended workers on a thread of its own. The emulator removes them on the thread that
answers all callers.

Runs in the emulator's own interpreter, in place of its command.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import subprocess
import tempfile
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ministack import app
from ministack.core import iam_actions, iam_evaluator, lambda_runtime
from ministack.services import lambda_svc, sns

_extract_action = iam_actions.extract_iam_action
_item_context = iam_actions.dynamodb_service_context
_tag_context = iam_actions.request_tag_context
_transaction_checks = iam_actions.dynamodb_transaction_checks
_enforce = iam_evaluator.enforce
_pin_request_origin = iam_evaluator.pin_request_origin
_subscriptions = sns._list_subscriptions_by_topic  # noqa: SLF001 - there is no other place
_confirm = sns._confirm_subscription  # noqa: SLF001
_passes = lambda_svc._match_esm_filter  # noqa: SLF001 - there is no other place

_PARTITION_KEY = "pk"
_BATCHES = {"sqs:SendMessageBatch": "sqs:SendMessage", "sqs:DeleteMessageBatch": "sqs:DeleteMessage"}


class _Table(str):
    """The ARN of a table, with the keys of one item of a transaction. Each item is checked separately."""

    keys: list[str]


def leading_keys(request: dict[str, Any]) -> list[str]:
    """The partition keys that a call, or one item of a transaction, names."""
    named = [request.get("Key"), request.get("Item")]
    for table in (request.get("RequestItems") or {}).values():
        named += table.get("Keys", []) if isinstance(table, dict) else []
    found = [item[_PARTITION_KEY]["S"] for item in named if item and _PARTITION_KEY in item]
    asked = re.match(rf"\s*{_PARTITION_KEY}\s*=\s*(:\w+)", request.get("KeyConditionExpression") or "")
    if asked:
        found.append(request["ExpressionAttributeValues"][asked[1]]["S"])
    return found


def action(*request: Any) -> str | None:
    """The action of a request. AWS requires the same permission for a batch of messages as for one message."""
    found: str | None = _extract_action(*request)
    return _BATCHES.get(found or "", found)


def item_context(body: bytes) -> dict[str, Any]:
    """The condition keys of a call of DynamoDB."""
    context: dict[str, Any] = _item_context(body)
    keys = leading_keys(json.loads(body or b"{}"))
    return {**context, "dynamodb:LeadingKeys": keys} if keys else context


def tag_context(service: str, iam_action: str, body: bytes, params: dict[str, Any]) -> dict[str, Any]:
    """The condition keys of a call of any service, with the encryption context for KMS."""
    context: dict[str, Any] = _tag_context(service, iam_action, body, params)
    given = json.loads(body or b"{}").get("EncryptionContext") or {} if service == "kms" else {}
    return context | {f"kms:EncryptionContext:{name}": value for name, value in given.items()}


def transaction_checks(iam_action: str, body: bytes, region: str, account: str) -> list[tuple[str, str]]:
    """The permissions that a transaction needs: each item's action on its table, with its own keys and with all keys.

    AWS does not document whether it checks `dynamodb:LeadingKeys` for each item or for the whole call. Both must pass.
    """
    items = json.loads(body or b"{}").get("TransactItems", []) if "Transact" in iam_action else []
    all_keys = [key for item in items for detail in item.values() for key in leading_keys(detail)]
    checks: list[tuple[str, str]] = []
    for item in items:
        own = [key for detail in item.values() for key in leading_keys(detail)]
        for needed, arn in _transaction_checks(iam_action, json.dumps({"TransactItems": [item]}), region, account):
            for keys in (own, all_keys):
                table = _Table(arn)
                table.keys = keys
                checks.append((needed, table))
    return checks


def enforce(*call: Any, resource_arn: str = "*", service_context: dict[str, Any] | None = None) -> Any:
    """The emulator's check, with the missing condition keys. A refusal is logged without the resource and its key."""
    context = dict(service_context or {})
    if isinstance(resource_arn, _Table):
        context["dynamodb:LeadingKeys"] = resource_arn.keys
    refused = _enforce(*call, resource_arn=resource_arn, service_context=context)
    if refused:
        # Only the kind of a key is logged, since the id of a link is secret.
        kinds = {re.sub("#.*", "#*", key) for key in context.get("dynamodb:LeadingKeys", [])}
        who, what = getattr(refused, "principal_arn", "").rpartition("/")[2], " ".join([call[1], *sorted(kinds)])
        logging.getLogger("ministack").warning("%s is not allowed %s", who, what)
    return refused


def origin(source_ip: str, _: bool) -> None:
    """Where a request comes from, by TLS."""
    _pin_request_origin(source_ip, True)


def passes(record: dict[str, Any], pattern: dict[str, Any]) -> bool:
    """Whether a record passes a filter's pattern. An absent attribute counts as an empty one."""
    around: dict[str, Any] = {name: {} for name, wanted in pattern.items() if isinstance(wanted, dict)}
    found: bool = _passes(around | record, pattern)
    return found


def subscriptions(params: Any) -> tuple[int, dict[str, str], bytes]:
    """The subscriptions of a topic. In the place of its ARN a mail address that has not confirmed shows that."""
    status, headers, body = _subscriptions(params)
    for one in _mails(params):
        if not one.get("mail_confirmed"):
            body = body.replace(one["arn"].encode(), b"PendingConfirmation")
    return status, headers, body


def confirm(params: Any) -> Any:
    """Confirms a subscription."""
    for one in _mails(params):
        if sns._p(params, "Token") == one["endpoint"]:  # noqa: SLF001
            one |= {"token": one["endpoint"], "mail_confirmed": True}
    return _confirm(params)


def _mails(params: Any) -> list[dict[str, Any]]:
    topic, _ = sns._get_topic(sns._p(params, "TopicArn"))  # noqa: SLF001
    return [one for one in (topic or {}).get("subscriptions", []) if one["protocol"] == "email"]


class Unpacked(zipfile.ZipFile):
    """An archive that is unpacked into a folder of all functions, once; where it is wanted there is a link to that."""

    @property
    def _folder(self) -> Path:
        content = repr([(one.filename, one.CRC) for one in self.infolist()])
        return Path(tempfile.gettempdir(), f"unpacked-{hashlib.sha256(content.encode()).hexdigest()}")

    def namelist(self) -> list[str]:
        """The names of what is still to be unpacked."""
        return [] if self._folder.exists() else super().namelist()

    def extractall(self, path: Any = None, *_: Any) -> None:
        """Unpack everything into an empty folder."""
        if not self._folder.exists():
            new = tempfile.mkdtemp()
            super().extractall(new)
            # If another thread was first, its folder serves.
            with contextlib.suppress(OSError):
                os.rename(new, self._folder)
        os.rmdir(path)
        os.symlink(self._folder, path)


def discard(worker: Any) -> None:
    """Remove a worker's folder on a thread of its own. A worker that starts again makes another folder."""
    folder, worker._tmpdir = worker._tmpdir, None  # noqa: SLF001 - of the emulator's own
    if folder:
        threading.Thread(target=subprocess.run, args=(["/bin/rm", "-rf", folder],), daemon=True).start()


if __name__ == "__main__":
    lambda_runtime.zipfile = SimpleNamespace(**vars(zipfile) | {"ZipFile": Unpacked})
    lambda_runtime.Worker._discard_tmpdir = discard  # noqa: SLF001
    iam_actions.extract_iam_action = action
    iam_actions.dynamodb_service_context = item_context
    iam_actions.request_tag_context = tag_context
    iam_actions.dynamodb_transaction_checks = transaction_checks
    iam_evaluator.enforce = enforce
    app.pin_request_origin = origin
    lambda_svc._match_esm_filter = passes  # noqa: SLF001
    sns._list_subscriptions_by_topic = subscriptions  # noqa: SLF001
    sns._confirm_subscription = confirm  # noqa: SLF001
    app.main()
