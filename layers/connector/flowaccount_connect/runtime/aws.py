"""boto3's low-level clients, made in this one place, with the limits that the time budgets count on.

All clients share one botocore session: a further client costs a fifth of the first. The session has two handlers
instead of botocore's 127, which are mostly for other services: the one that gives each transaction its idempotency
token, and `check_answer`.

How long one call may take:
- At worst two attempts, each with a second to connect and two seconds to wait for bytes, and up to a second between
  them: 7 seconds, which is `LONGEST_WRITE` in `rotation/time_left.py`.
- boto3 has no deadline for a whole call: a resolver that does not answer, or an answer that arrives in drops, takes
  longer. `RES_OPTIONS` in the template limits the resolver to two seconds for an attempt. A write after an exchange may
  take 14 seconds, twice its budget, before the pending commit loses its turn. What takes longer still ends with the
  invocation, like any crash: the lease outlives the invocation, and a later attempt takes over.
- A connection that died while the sandbox was frozen fails the first attempt at once; the second one opens another.
"""

import json
import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import boto3
import botocore.session
import certifi
from botocore.config import Config
from botocore.handlers import generate_idempotent_uuid

from flowaccount_connect import __version__
from flowaccount_connect.runtime.settings import CONNECTIONS

CONNECT_TIMEOUT = 1.0
"""Seconds that opening a connection may take, for each address of the service."""

READ_TIMEOUT = 2.0
"""Seconds without a byte of the answer after which an attempt fails."""

ATTEMPTS = 2
"""How often a call is tried in all, where the failure may pass (botocore's retry mode "standard")."""

AMAZON_ROOTS = "amazon-roots.pem"
"""Beside certifi's file: the authorities that sign for AWS. The build of the layer cuts it."""

ALWAYS = {
    "BatchGetItem": {"Responses"},
    "Decrypt": {"Plaintext"},
    "GenerateDataKey": {"CiphertextBlob", "Plaintext"},
    "GetQueueAttributes": {"Attributes"},
    "PutEvents": {"Entries"},
    "Query": {"Items", "ScannedCount"},
    "SendMessage": {"MessageId"},
}
"""What an answer always has, by operation. Those of the other operations can be empty."""

# At DEBUG, which an operator can set for a function, it would log the answers of KMS and Secrets Manager.
logging.getLogger("botocore").setLevel(logging.WARNING)


class NoAnswer(Exception):
    """A service answered with success, but the body is not what the service sent. A write may have happened or not."""


def client(service: str, *, read_timeout: float = READ_TIMEOUT, attempts: int = ATTEMPTS) -> Any:
    """A low-level client of `service`, safe for several threads. `read_timeout` is in seconds."""
    config = Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=read_timeout,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=CONNECTIONS,
        parameter_validation=False,
        user_agent=f"flowaccount-connect/{__version__}",
    )

    return shared_session().client(service, config=config, verify=_authorities())  # type: ignore[call-overload]


def check_answer(*, http_response: Any = None, parsed: Any = None, model: Any = None, **_: Any) -> None:
    """Refuse a success whose body is not what the service sent. botocore calls it after the last attempt.

    botocore reads a body that is not JSON as an answer without members, and returns the last one even if its checksum
    is wrong: without this check, a page of a proxy would read as "no such item". DynamoDB sends a checksum with each
    answer. All other answers are JSON objects, except streams, the XML of SNS, which botocore refuses to misread, and
    answers without members, such as that of ChangeMessageVisibility: their body is empty. An object without what such
    an answer `ALWAYS` has is none either. Raises `NoAnswer`.
    """
    is_xml = model.service_model.protocol == "query"
    is_empty = model.output_shape is None
    if http_response.status_code >= 300 or model.has_streaming_output or is_xml or is_empty:
        return
    checksum = http_response.headers.get("x-amz-crc32")
    is_whole = checksum == str(crc32(http_response.content)) if checksum else _is_object(http_response.content)
    if not is_whole or not ALWAYS.get(model.name, set()) <= parsed.keys():
        raise NoAnswer


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False


@lru_cache(1)
def shared_session() -> boto3.Session:
    """The one session of all clients, made with the first of them."""
    shared = botocore.session.Session(include_builtin_handlers=False)
    shared.register("before-parameter-build", generate_idempotent_uuid)  # type: ignore[arg-type]
    shared.register("after-call", check_answer)
    return boto3.Session(botocore_session=shared)


def _authorities() -> str | None:
    """The file of authorities that a service's certificate is verified against; `None`: as boto3 is configured.

    boto3 reads the whole file for each new connection. In AWS's main partition Amazon's own authorities sign for all
    services, and five are read in a tenth of the time that certifi's take. Other partitions keep all of certifi's.
    """
    session = shared_session()
    cut = Path(certifi.__file__).with_name(AMAZON_ROOTS)
    is_configured = not {"AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"}.isdisjoint(os.environ)
    if is_configured or session.get_partition_for_region(session.region_name) != "aws":
        return None
    return str(cut) if cut.is_file() else None
