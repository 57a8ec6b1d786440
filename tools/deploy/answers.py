"""What a deployment is asked for: given on the command line, kept from the last time, or asked at the terminal."""

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from tools.local import parameters
from tools.local.errors import LocalError

NAMES = {
    "ENVIRONMENT": "Environment",
    "CLIENT_ID": "ClientId",
    "EMAIL": "AlarmEmail",
    "RETURN_URLS": "AllowedReturnUrls",
}
"""The variables of `make deploy`, and the parameters that they set. `PARAMETERS` sets any other, by its own name."""

QUESTIONS = {
    "ENVIRONMENT": "Which FlowAccount: sandbox, to try it out, or production. A second stack serves the other one.",
    "CLIENT_ID": "The client id that FlowAccount gave you. It is no secret; the client secret is put in later.",
    "EMAIL": "Who gets an e-mail for each alarm. Empty: nobody; the alarms still go to a topic.",
    "RETURN_URLS": "Where browsers return to after connecting: complete URLs of your app, separated by commas. "
    "Empty: connecting ends on a page of this stack.",
}
"""What is asked where `CLIENT_ID` is not given, with its meaning. The first answer decides the others' defaults."""


@dataclass(frozen=True, slots=True)
class Answers:
    """A whole deployment."""

    section: str
    """The section of samconfig.toml that keeps it."""
    stack: str
    parameters: Mapping[str, str]
    """The template's parameters that are not left at their defaults."""


def collect(variables: Mapping[str, str], config: Path, ask: Callable[[str], str] | None) -> Answers:
    """The answers. With `CLIENT_ID` nothing is asked; nor is it where nobody is there to answer (`ask` is `None`).

    Raises `LocalError` for a value that the template does not accept, and where the client id is not known.
    """
    given = {parameter: variables[name].strip() for name, parameter in NAMES.items() if name in variables}
    others = dict(_pair(word) for word in shlex.split(variables.get("PARAMETERS", "")))
    given |= others
    chosen_section = variables.get("CONFIG") or _section_of(config, variables.get("STACK"))
    section = chosen_section or given.get("Environment") or "sandbox"
    kept = _kept(config, section)
    if not given.get("ClientId") and ask is not None:
        for name, meaning in QUESTIONS.items():
            parameter = NAMES[name]
            if parameter not in given:
                given[parameter] = _asked(ask, name, meaning, kept.get("parameters", {}).get(parameter))
            if name == "ENVIRONMENT" and not chosen_section:
                section = given[parameter]
                kept = kept if section == kept["section"] else _kept(config, section)
    chosen = {**kept.get("parameters", {}), **given}
    chosen.setdefault("Environment", section if section in ("sandbox", "production") else "sandbox")
    if not chosen.get("ClientId"):
        raise LocalError("The client id is not known: make deploy CLIENT_ID=…")
    names = {parameter: name for name, parameter in NAMES.items()}
    parameters.check(chosen, {names.get(parameter, parameter): parameter for parameter in chosen})
    plain = "flowaccount-connect" if section in ("sandbox", "default") else f"flowaccount-connect-{section}"
    return Answers(section, variables.get("STACK") or kept.get("stack") or plain, chosen)


def keep(answers: Answers, config: Path, region: str) -> None:
    """Writes the answers into samconfig.toml, for the next `make deploy` and for sam's own commands."""
    document = tomlkit.parse(config.read_text()) if config.exists() else tomlkit.document()
    document.setdefault("version", 0.1)
    section = document.setdefault(answers.section, tomlkit.table(is_super_table=True))
    section.setdefault("global", tomlkit.table(is_super_table=True)).setdefault("parameters", tomlkit.table())
    section["global"]["parameters"]["stack_name"] = answers.stack
    deploy = section.setdefault("deploy", tomlkit.table(is_super_table=True)).setdefault("parameters", tomlkit.table())
    for name, value in {"capabilities": "CAPABILITY_IAM", "fail_on_empty_changeset": False, "resolve_s3": True}.items():
        deploy.setdefault(name, value)
    deploy["region"] = region
    deploy["parameter_overrides"] = " ".join(parameters.overrides(answers.parameters))
    config.write_text(tomlkit.dumps(document))


def kept_region(config: Path, section: str) -> str | None:
    """The region that a section of samconfig.toml has; `None` where it has none."""
    return _region(_sections(config).get(section, {}))


def regions_of(config: Path, stack: str) -> list[str]:
    """The regions in which samconfig.toml has a stack of this name."""
    found = (_region(one) for one in _sections(config).values() if _named(one) == stack)
    return [region for region in found if region]


def _region(section: dict[str, Any]) -> str | None:
    return section.get("deploy", {}).get("parameters", {}).get("region") or None


def _sections(config: Path) -> dict[str, dict[str, Any]]:
    """The sections that keep a deployment; `default` is for sam's own commands."""
    return {name: one for name, one in _all(config).items() if isinstance(one, dict) and name != "default"}


def _all(config: Path) -> dict[str, Any]:
    return tomlkit.parse(config.read_text()).unwrap() if config.exists() else {}


def _section_of(config: Path, stack: str | None) -> str | None:
    """The section that keeps a stack of this name."""
    return next((name for name, one in _sections(config).items() if stack and _named(one) == stack), None)


def _named(section: dict[str, Any]) -> str | None:
    """The stack of a section."""
    places = (section.get(command, {}).get("parameters", {}).get("stack_name") for command in ("deploy", "global"))
    return next(filter(None, places), None)


def _kept(config: Path, section: str) -> dict[str, Any]:
    """What samconfig.toml has of a section: its name, the stack, the parameters."""
    found = _all(config).get(section, {})
    words = found.get("deploy", {}).get("parameters", {}).get("parameter_overrides", "")
    pairs = dict(_pair(word) for word in shlex.split(words if isinstance(words, str) else " ".join(words)))
    return {"section": section, "stack": _named(found), "parameters": pairs}


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise LocalError(f"{word} is no parameter: write Name=value.")
    return name, value


def _asked(ask: Callable[[str], str], name: str, meaning: str, before: str | None) -> str:
    """An answer that the template accepts; Enter takes the one of the last time."""
    default = before or ("sandbox" if name == "ENVIRONMENT" else "")
    while True:
        answer = ask(f"{meaning}\n{name}{f' [{default}]' if default else ''}: ").strip() or default
        try:
            parameters.check({NAMES[name]: answer}, {name: NAMES[name]})
        except LocalError as error:
            print(f"  {error}")
        else:
            return answer


def samconfig(root: Path) -> Path:
    """Where the answers are kept."""
    return Path(os.environ.get("SAM_CONFIG_FILE") or root / "samconfig.toml")
