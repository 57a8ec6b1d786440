"""What the audit lets through: only what is accepted with a reason, and no licence that may not be shipped."""

from typing import Any

import pytest

from tools.audit.__main__ import unlicensed
from tools.audit.accepted import FINDINGS, Accepted, Finding, unaccepted, unfounded

ACCEPTED = (Accepted("C1", "*Logs", "because"),)


def test_a_finding_passes_only_where_its_check_is_accepted() -> None:
    good, elsewhere, another = Finding("C1", "ApiLogs", ""), Finding("C1", "Table", ""), Finding("C2", "ApiLogs", "")
    assert unaccepted([good, elsewhere, another], ACCEPTED) == [elsewhere, another]


def test_what_nothing_finds_any_more_has_to_leave_the_list() -> None:
    assert unfounded([Finding("C1", "Table", "")], ACCEPTED) == list(ACCEPTED)
    assert unfounded([Finding("C1", "ApiLogs", "")], ACCEPTED) == []


def test_everything_accepted_has_a_reason() -> None:
    assert all(len(one.reason) > 8 for one in FINDINGS)


@pytest.mark.parametrize(
    ("licences", "told"),
    [
        ([{"license": {"id": "MIT"}}], None),
        ([{"expression": "Apache-2.0 OR BSD-3-Clause"}], None),
        ([{"license": {"name": "License :: OSI Approved :: BSD License"}}], None),
        ([], "none named"),
        ([{"license": {"id": "GPL-3.0-only"}}], "GPL-3.0-only"),
        ([{"license": {"id": "MIT"}}, {"license": {"id": "AGPL-3.0-only"}}], "AGPL-3.0-only, MIT"),
        ([{"expression": "(MIT AND GPL-2.0-only)"}], "GPL-2.0-only, MIT"),
    ],
)
def test_only_known_licences_may_be_shipped(licences: list[dict[str, Any]], told: str | None) -> None:
    found = unlicensed([{"name": "package", "version": "1", "licenses": licences}])
    assert [one.message for one in found] == ([told] if told else [])
