"""Looks at template, sources and shipped packages with other people's tools: ``python -m tools.audit``.

cfn-lint with its serverless rules, checkov, bandit, pip-audit; a software bill of materials of what is shipped
(``.local/audit/sbom.json``, CycloneDX), and its licences. Exit code 1 if anything is found that `accepted` gives no
reason for. Where no vulnerability database can be reached it says so, and fails if the variable ``CI`` is set.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from samcli.yamlhelper import yaml_parse

from tools.audit.accepted import CLASSIFIERS, LICENCES, Finding, unaccepted, unfounded
from tools.local import bootstrap
from tools.local.places import LOCAL, ROOT

TOOLS, CHECKOV, SHIPPED = LOCAL / "audit-tools", LOCAL / "audit-checkov", LOCAL / "audit-shipped"
SBOM = LOCAL / "audit" / "sbom.json"
TEMPLATE = LOCAL / "audit" / "template.json"
REQUIREMENTS = ROOT / "layers" / "dependencies" / "requirements.txt"
ENVIRONMENTS = (
    ("audit-tools", "requirements/audit.txt", "the audit's tools"),
    ("audit-checkov", "requirements/checkov.txt", "checkov"),
    ("audit-shipped", "layers/dependencies/requirements.txt", "what is shipped"),
)


class Unreachable(Exception):
    """No vulnerability database answers here."""


def main() -> int:
    """Runs everything; the exit code."""
    bootstrap.main(ENVIRONMENTS)
    SBOM.parent.mkdir(parents=True, exist_ok=True)
    found: list[Finding] = []
    for name, look in (("cfn-lint", _cfn_lint), ("checkov", _checkov), ("bandit", _bandit)):
        new = look()
        print(f"{name:12} {_verdict(new, unaccepted(new))}")
        found += new
    bad, stale = unaccepted(found), unfounded(found)
    checks: tuple[tuple[str, Callable[[], list[Finding]]], ...] = (("pip-audit", _pip_audit), ("licences", _licences))
    for name, check in checks:
        try:
            more = check()
            print(f"{name:12} {_verdict(more, more)}")
        except Unreachable:
            print(f"{name:12} not looked at: no vulnerability database can be reached from here")
            more = [Finding(name, "-", "could not look")] if os.environ.get("CI") else []
        bad += more
    print(f"{'sbom':12} {SBOM.relative_to(ROOT)}")
    for finding in bad:
        print(f"error: {finding.check} {finding.where}: {finding.message}", file=sys.stderr)
    for one in stale:
        print(f"error: {one.check} {one.where} is accepted, but nothing finds it: take it out", file=sys.stderr)
    return 1 if bad or stale else 0


def _verdict(found: list[Finding], bad: list[Finding]) -> str:
    if bad:
        return f"{len(bad)} to be looked at"
    return f"fine; {len(found)} findings accepted with a reason" if found else "fine"


def _output(command: list[str], **environment: str) -> str:
    """What a tool says. It may exit with 1, since it is its findings that we want."""
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        sys.exit(f"error: {Path(command[0]).name} said nothing but: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _cfn_lint() -> list[Finding]:
    command = [str(TOOLS / "bin" / "cfn-lint"), "--template", "template.yaml", "--format", "json"]
    told = json.loads(_output([*command, "--regions", "ap-southeast-1", "--append-rules", "cfn_lint_serverless.rules"]))
    return [Finding(one["Rule"]["Id"], str(one["Location"]["Path"][1]), one["Message"]) for one in told]


def _checkov() -> list[Finding]:
    # It does not know YAML's merge keys, and says nothing at all then: so it gets the template with them written out.
    TEMPLATE.write_text(json.dumps(yaml_parse((ROOT / "template.yaml").read_text()), indent=1))
    command = [str(CHECKOV / "bin" / "checkov"), "--file", str(TEMPLATE), "--framework", "cloudformation"]
    command += ["--output", "json", "--quiet", "--compact", "--skip-download"]
    told = json.loads(_output(command, HOME=str(SBOM.parent), LOG_LEVEL="ERROR"))
    failed = told["results"]["failed_checks"]
    return [Finding(one["check_id"], one["resource"].rpartition(".")[2], one["check_name"]) for one in failed]


def _bandit() -> list[Finding]:
    told = json.loads(_output([str(TOOLS / "bin" / "bandit"), "-q", "-r", "functions", "layers", "-f", "json"]))
    return [
        Finding(one["test_id"], one["filename"].removeprefix("./"), f"line {one['line_number']}: {one['issue_text']}")
        for one in told["results"]
    ]


def _pip_audit() -> list[Finding]:
    command = [str(TOOLS / "bin" / "pip-audit"), "--disable-pip", "--require-hashes", "-r", str(REQUIREMENTS)]
    try:
        told = json.loads(_output([*command, "--format", "json", "--progress-spinner", "off", "--timeout", "10"]))
    except SystemExit:
        raise Unreachable from None
    packages = told["dependencies"]
    if any("skip_reason" in package for package in packages):
        raise Unreachable
    return [
        Finding(vulnerability["id"], f"{package['name']} {package['version']}", "known vulnerability")
        for package in packages
        for vulnerability in package["vulns"]
    ]


def _licences() -> list[Finding]:
    """Makes the bill of materials, and looks at the licences in it."""
    command = [str(TOOLS / "bin" / "cyclonedx-py"), "environment", "--pyproject", "pyproject.toml"]
    SBOM.write_text(_output([*command, "--output-reproducible", str(SHIPPED / "bin" / "python")]))
    return unlicensed(json.loads(SBOM.read_text())["components"])


def unlicensed(components: Iterable[dict[str, Any]]) -> list[Finding]:
    """The components that may not be shipped, or say nothing of their licence."""
    bad = []
    for component in components:
        named = {name for entry in component.get("licenses", []) for name in _names(entry)}
        if not named or not named <= LICENCES:
            told = ", ".join(sorted(named)) or "none named"
            bad.append(Finding("licence", f"{component['name']} {component['version']}", told))
    return bad


def _names(entry: dict[str, Any]) -> list[str]:
    if "expression" in entry:
        return re.split(r"[\s()]+(?:AND|OR|WITH)[\s()]+", str(entry["expression"]).strip("() "))
    name = entry["license"].get("id") or entry["license"].get("name", "")
    return [CLASSIFIERS.get(name, name)]


if __name__ == "__main__":
    sys.exit(main())
