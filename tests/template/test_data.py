"""What docs/data.md says of who may do what is what the template gives; its audit finds everybody else."""

import json
import re
from typing import Any

from tests.template.conftest import ROOT
from tests.template.test_template import FUNCTIONS, Template, as_list, of_type, statements

PAGE = (ROOT / "docs" / "data.md").read_text("utf-8")


def allowed(template: Template, action: str) -> set[str]:
    """The functions whose role allows an action."""

    def allows(role: Any) -> bool:
        return any(action in as_list(statement["Action"]) for statement in statements(role))

    roles = of_type(template, "AWS::IAM::Role")
    return {
        name.removesuffix("Role") for name, role in roles.items() if "Policies" in role["Properties"] and allows(role)
    }


def excluded(pattern: str) -> set[str]:
    """The functions that a query of the page leaves out."""
    (names,) = re.findall(pattern + r"\(([A-Za-z|]+)\)Role-", PAGE)
    return set(names.split("|"))


def test_the_audit_of_the_key_leaves_out_those_who_may_use_it_so_and_nobody_else(template: Template) -> None:
    assert excluded(r"Decrypt \.\*:assumed-role/flowaccount-connect-") == allowed(template, "kms:Decrypt")
    assert excluded(r"GenerateDataKey \.\*:assumed-role/flowaccount-connect-") == allowed(
        template, "kms:GenerateDataKey"
    )


def test_the_audit_of_the_table_leaves_out_the_stacks_own_functions_and_nobody_else() -> None:
    own = {logical_id.removesuffix("Function") for logical_id in FUNCTIONS.values()}
    assert excluded(r"':assumed-role/flowaccount-connect-") == own


def test_data_events_are_switched_on_beside_the_management_events_and_for_the_stream_too() -> None:
    (selectors,) = re.findall(r"--advanced-event-selectors '(\[.*?\])'", PAGE, re.DOTALL)
    fields = [{one["Field"]: one.get("Equals") for one in made["FieldSelectors"]} for made in json.loads(selectors)]
    assert [(one["eventCategory"], one.get("resources.type")) for one in fields] == [
        (["Management"], None),
        (["Data"], ["AWS::DynamoDB::Table"]),
        (["Data"], ["AWS::DynamoDB::Stream"]),
    ]
