"""`make deploy CLIENT_ID=…`: checks, shows the plan, builds, deploys, and says what is left to do."""

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial

from botocore.exceptions import BotoCoreError, ClientError

from tools.deploy import afterwards, checks, sam
from tools.deploy.answers import NAMES, Answers, collect, keep, kept_region, samconfig
from tools.deploy.checks import Clients
from tools.deploy.session import session
from tools.local.errors import LocalError
from tools.local.parameters import overrides
from tools.local.places import ROOT
from tools.local.settings import names_given_to_make

PATIENCE = 240
"""How many minutes sam looks on; the slowest kind of `Deployment` takes three and a half hours."""


def plan(clients: Clients, answers: Answers, region: str) -> list[checks.Finding]:
    """What was found before, and what will be deployed. Raises `LocalError` where something stands in the way."""
    found = [*checks.tools(), *checks.name(answers.stack), *checks.account(clients, region)]
    if not any(finding.wrong for finding in found):
        found += checks.before(clients, answers)
    wrong = [finding.text for finding in found if finding.wrong]
    if wrong:
        raise LocalError("\n       ".join(wrong))
    return [
        *found,
        *(checks.Finding(f"{name} = {value}") for name, value in sorted(answers.parameters.items()) if value),
    ]


def run(variables: Mapping[str, str], ask: Callable[[str], str] | None) -> None:
    """The whole deployment. Asks only where no `CLIENT_ID` is given. Raises `LocalError`, and what boto3 raises."""
    config = samconfig(ROOT)
    answers = collect(variables, config, ask)
    here = session(os.environ, kept_region(config, answers.section))
    region, clients = here.region_name, partial(here.client)
    print("The plan:")
    for finding in plan(clients, answers, region):
        print(f"  {finding.text}")
    if (
        not variables.get("CLIENT_ID")
        and ask is not None
        and ask("Deploy this? [Y/n] ").strip().lower() not in ("", "y", "yes")
    ):
        raise LocalError("Nothing was deployed.")
    keep(answers, config, region)
    sam.build(variables.get("LAYER_ARCHITECTURE") or "x86_64")
    where = ["--config-file", str(config), "--config-env", answers.section, "--region", region]
    how = ["--no-confirm-changeset", "--max-wait-duration", str(PATIENCE)]
    what = ["--stack-name", answers.stack, "--parameter-overrides", *overrides(answers.parameters)]
    sam.run("deploy", *where, *how, *what)
    out = afterwards.outputs(clients, answers.stack)
    afterwards.protect(clients, out["TableName"])
    print(f"\n{answers.stack} is deployed. What is left to do:")
    for number, step in enumerate(afterwards.left_to_do(clients, answers, out), 1):
        print(f"  {number}. {step}")


OTHERS = ("PARAMETERS", "CONFIG", "STACK", "LAYER_ARCHITECTURE")
"""What else can stand on make's command line."""


def given(variables: Mapping[str, str]) -> dict[str, str]:
    """What was given as `make deploy NAME=value`. What merely stands in the environment (`EMAIL`, say) is not meant.

    Raises `LocalError` for a name that means nothing, and for a `$`, which make takes for the beginning of a variable's
    name.
    """
    if "$" in variables.get("MAKEFLAGS", ""):
        raise LocalError("make swallows a $ on its command line: answer the questions instead (make deploy).")
    found = names_given_to_make(variables)
    for name in found:
        if name not in (*NAMES, *OTHERS):
            known = ", ".join((*NAMES, *OTHERS))
            raise LocalError(f"{name} is not known here; these are: {known}. Any parameter: PARAMETERS='{name}=…'")
    architecture = variables.get("LAYER_ARCHITECTURE")
    return {name: variables[name] for name in found} | ({"LAYER_ARCHITECTURE": architecture} if architecture else {})


def main() -> None:
    """Deploys by the variables of `make deploy NAME=value`."""
    try:
        run(given(os.environ), input if sys.stdin.isatty() else None)
    except (LocalError, BotoCoreError, ClientError) as error:
        sys.exit(f"error: {error}")
    except (KeyboardInterrupt, EOFError):
        sys.exit("interrupted; a deployment that has begun goes on in AWS")


if __name__ == "__main__":
    main()
