"""The template's own constraints on its parameters, checked before anything is started."""

import difflib
import re
from collections.abc import Mapping
from typing import Any

from tools import deployed
from tools.local.errors import LocalError


def check(values: Mapping[str, str], names: Mapping[str, str]) -> None:
    """Raises ``LocalError`` for the first value that the template does not accept. The message has the setting's name.

    ``names`` has the parameter that each setting sets.
    """
    declared = deployed.parameters()
    for parameter in values:
        if parameter not in declared:
            close = difflib.get_close_matches(parameter, declared, 1)
            raise LocalError(
                f"{parameter} is no parameter of the stack.{f' Did you mean {close[0]}?' if close else ''}"
            )
    for name, parameter in names.items():
        if parameter in values and not _accepts(declared[parameter], values[parameter]):
            raise LocalError(f"{name}={values[parameter]} is not accepted: {_expectation(declared[parameter])}")


def overrides(values: Mapping[str, str]) -> list[str]:
    """The parameters as sam's `--parameter-overrides` reads them."""
    escaped = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in values.items()}
    return [f'{name}="{value}"' for name, value in sorted(escaped.items())]


def defaults() -> dict[str, str]:
    """The template's defaults, of the parameters that have one."""
    return {name: str(one["Default"]) for name, one in deployed.parameters().items() if "Default" in one}


def _accepts(declared: dict[str, Any], value: str) -> bool:
    """Whether CloudFormation would accept the value; and no list with an empty entry, which means nothing."""
    if "AllowedValues" in declared and value not in map(str, declared["AllowedValues"]):
        return False
    if declared["Type"] == "Number":
        if not re.fullmatch(r"[0-9]{1,12}", value):
            return False
        return bool(declared.get("MinValue", 0) <= int(value) <= declared.get("MaxValue", int(value)))
    entries = value.split(",") if declared["Type"] == "CommaDelimitedList" else [value]
    if len(entries) > 1 and "" in entries:
        return False
    return all(re.fullmatch(declared.get("AllowedPattern", ".*"), entry) for entry in entries)


def _expectation(declared: dict[str, Any]) -> str:
    """A sentence that describes the accepted values."""
    if "AllowedValues" in declared:
        return f"one of {', '.join(map(str, declared['AllowedValues']))}."
    return str(declared["ConstraintDescription"])
