"""What the tools find and we accept, each with its reason. What they do not find any more has to leave this list."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a tool does not like."""

    check: str
    where: str
    """A resource's logical id, or a file."""
    message: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """A check that is not followed in some places. `where` is a pattern of `fnmatch`."""

    check: str
    where: str
    reason: str


FINDINGS = (
    # checkov
    Accepted("CKV_AWS_33", "Key", "Any principal, but of this account only, and through DynamoDB only."),
    Accepted(
        "CKV_AWS_149",
        "ClientSecret",
        "With Secrets Manager's own key it is readable for exactly the roles that may read the secret. A key of ours "
        "would be a second way to lock the stack out of FlowAccount.",
    ),
    Accepted("CKV_AWS_73", "Api", "No tracing: a trace keeps the URLs of requests, and /callback's holds a code."),
    Accepted("CKV_AWS_76", "Api", "They are there, by a parameter: an account without a logs role cannot deploy them."),
    Accepted("CKV_AWS_120", "Api", "A cache of answers would be a cache of access tokens."),
    Accepted(
        "CKV_AWS_158",
        "*Logs",
        "CloudWatch Logs encrypts by itself; nothing secret is logged, which the tests hold.",
    ),
    Accepted(
        "CKV_AWS_116",
        "*Function",
        "Its dead letters are its trigger's: the queues', the stream's and the schedule's own. A lost asynchronous "
        "invocation of refresh or sweep is repeated by the next tick.",
    ),
    Accepted(
        "CKV_AWS_117",
        "*Function",
        "It talks to AWS and to FlowAccount only, and nothing reaches it.",
    ),
    Accepted(
        "CKV_AWS_115",
        "*Function",
        "The queues' MaximumConcurrency and the gateway's throttles bound it. A reservation takes capacity from "
        "the account whether it is used or not.",
    ),
    Accepted("CKV_AWS_173", "*Function", "Names and numbers, no secret; Lambda encrypts them by itself."),
    Accepted(
        "CKV_AWS_26",
        "AlarmTopic",
        "Its messages name connections and deadlines, nothing secret; under SNS's own key CloudWatch and EventBridge "
        "could not send to it.",
    ),
    Accepted("CKV_AWS_27", "*", "SqsManagedSseEnabled encrypts it, which this check does not know."),
    # cfn-lint's serverless rules
    Accepted("WS1000", "*Function", "No tracing: a trace keeps the URLs of requests, and /callback's holds a code."),
    Accepted("WS2002", "Api", "As above."),
    Accepted("WS1004", "*Function", "Each has one, by LoggingConfig, which this check does not know."),
    Accepted("ES2000", "Api", "As CKV_AWS_76: behind a condition, which this check does not see."),
    Accepted(
        "ES2003",
        "Api",
        "The routes that anybody can reach are throttled. The others need a signature of the account's own services, "
        "whose calls must not be refused because of each other.",
    ),
    Accepted("ES6000", "*DeadLetters", "It is where letters end: each has an alarm instead."),
    Accepted("ES6000", "Unpublished", "What is in it comes back until it is published: it has no dead."),
    Accepted(
        "ES4000",
        "*Rule",
        "A mail that cannot be sent for a day is lost, and no more: what it tells is in the table, and alarmed.",
    ),
    # bandit
    Accepted("B105", "functions/token/app.py", "The token type's name, no password."),
    Accepted("B105", "layers/connector/flowaccount_connect/connect/callback.py", "An empty text."),
    Accepted("B404", "layers/dependencies/build.py", "The build starts uv; no function has this file."),
    Accepted("B603", "layers/dependencies/build.py", "A list of our own making, no shell."),
)

LICENCES = frozenset({"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0"})
"""What may be shipped with this under Apache-2.0, as it is: permissive ones, and file-level copyleft unmodified."""

CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""The older words of packages that do not name their licence by its SPDX identifier."""


def unaccepted(findings: Iterable[Finding], accepted: Sequence[Accepted] = FINDINGS) -> list[Finding]:
    """The findings that nobody has given a reason for."""
    return [finding for finding in findings if not any(_covers(one, finding) for one in accepted)]


def unfounded(findings: Sequence[Finding], accepted: Sequence[Accepted] = FINDINGS) -> list[Accepted]:
    """What is accepted without being found: the reason has outlived what it was for."""
    return [one for one in accepted if not any(_covers(one, finding) for finding in findings)]


def _covers(accepted: Accepted, finding: Finding) -> bool:
    return accepted.check == finding.check and fnmatchcase(finding.where, accepted.where)
