"""What template.yaml deploys: its release, its parameters, its resources, its table."""

from pathlib import Path
from typing import Any

import yaml

TEMPLATE = Path(__file__).resolve().parents[1] / "template.yaml"

_CREATED = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's tags, which are left as they are: nothing of the schema hangs on one."""


def _tag(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {suffix: loader.construct_sequence(node, deep=True)}
    if isinstance(node, yaml.MappingNode):
        return {suffix: loader.construct_mapping(node, deep=True)}
    raise TypeError(f"{node.tag} is no tag of a template")


_Loader.add_multi_constructor("!", _tag)


def _template() -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(TEMPLATE.read_text(), _Loader)  # noqa: S506 - a SafeLoader
    return found


def version() -> str:
    """The release that the template deploys."""
    return str(_template()["Outputs"]["Version"]["Value"])


def parameters() -> dict[str, dict[str, Any]]:
    """What the template declares of its parameters, by name."""
    found: dict[str, dict[str, Any]] = _template()["Parameters"]
    return found


def resources() -> dict[str, dict[str, Any]]:
    """The template's resources, by name."""
    found: dict[str, dict[str, Any]] = _template()["Resources"]
    return found


def by_default(**given: str) -> dict[str, dict[str, Any]]:
    """The resources that a stack has if every parameter that is not given is left at its default."""
    template = _template()

    def holds(condition: Any) -> bool:
        match condition:
            case {"Not": [inner]}:
                return not holds(inner)
            case {"And": inner}:
                return all(map(holds, inner))
            case {"Or": inner}:
                return any(map(holds, inner))
            case {"Condition": name}:
                return holds(template["Conditions"][name])
            case {"Equals": [{"Join": ["", {"Ref": name}]} | {"Select": [0, {"Ref": name}]} | {"Ref": name}, value]}:
                return bool(given.get(name, template["Parameters"][name].get("Default")) == value)
        raise TypeError(f"{condition} is more than this knows: add it")

    conditions = {name: holds(condition) for name, condition in template["Conditions"].items()}
    return {name: one for name, one in resources().items() if conditions.get(one.get("Condition", ""), True)}


def memory() -> dict[str, int]:
    """The memory of each function, in MB, by what its name ends on."""
    functions = [one["Properties"] for one in resources().values() if one["Type"] == "AWS::Serverless::Function"]
    of_all = _template()["Globals"]["Function"]["MemorySize"]
    return {one["FunctionName"]["Sub"].rpartition("-")[2]: one.get("MemorySize", of_all) for one in functions}


def table() -> dict[str, Any]:
    """What CreateTable takes of the template's one table: keys, indexes, billing."""
    (properties,) = (r["Properties"] for r in resources().values() if r["Type"] == "AWS::DynamoDB::Table")
    return {name: properties[name] for name in _CREATED}
