"""Sets by API calls what the emulator does not take from the template. So the template needs no change for it.

Each value is read from the processed template, so no value is written in two places; unless an experiment is to have
another one than the template.
"""

import json
from typing import Any

from tools.local import emulator
from tools.local.deployment import API_ID, STACK_NAME
from tools.local.settings import Experiment


def fill(port: int, table: str, experiment: Experiment) -> None:
    """Sets the missing properties of the stack that was just deployed. A repetition changes nothing."""
    resources = _resources(port)
    _table(port, table, resources["Table"]["Properties"])
    _refresh_queue(port, experiment.workers)
    _schedule(port, enabled=experiment.schedule)
    _gateway_responses(port, resources["Api"]["Properties"]["Body"])
    _throttles(port, experiment.public_rate_limit)


def _resources(port: int) -> dict[str, Any]:
    """The resources of the stack as the SAM transform left them."""
    answer = emulator.client("cloudformation", port).get_template(StackName=STACK_NAME, TemplateStage="Processed")
    body = answer["TemplateBody"]
    resources: dict[str, Any] = (body if isinstance(body, dict) else json.loads(body))["Resources"]
    return resources


def _table(port: int, table: str, properties: dict[str, Any]) -> None:
    """Time to live and point-in-time recovery."""
    database = emulator.client("dynamodb", port)
    wanted = properties["TimeToLiveSpecification"]
    now = database.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    if now["TimeToLiveStatus"] != "ENABLED":
        database.update_time_to_live(TableName=table, TimeToLiveSpecification=wanted)
    database.update_continuous_backups(
        TableName=table, PointInTimeRecoverySpecification=properties["PointInTimeRecoverySpecification"]
    )


def _refresh_queue(port: int, concurrency: int) -> None:
    """The number of workers for the refresh queue. The emulator leaves it a text, which stops its poller."""
    functions = emulator.client("lambda", port)
    mappings = functions.list_event_source_mappings(FunctionName=f"{STACK_NAME}-refresh:live")["EventSourceMappings"]
    for mapping in mappings:
        functions.update_event_source_mapping(UUID=mapping["UUID"], ScalingConfig={"MaximumConcurrency": concurrency})


def _gateway_responses(port: int, body: dict[str, Any]) -> None:
    """The gateway's own errors. The emulator's import of an OpenAPI body omits them; a new deployment applies them.

    The emulator knows only one request id in them: the one that a client can set on AWS.
    """
    gateway = emulator.client("apigateway", port)
    for kind, response in body["x-amazon-apigateway-gateway-responses"].items():
        gateway.put_gateway_response(
            restApiId=API_ID,
            responseType=kind,
            responseParameters=response.get("responseParameters", {}),
            responseTemplates={
                kind: text.replace("$context.extendedRequestId", "$context.requestId")
                for kind, text in response.get("responseTemplates", {}).items()
            },
        )
    gateway.create_deployment(restApiId=API_ID, stageName="live")


def _schedule(port: int, *, enabled: bool) -> None:
    """Whether the schedule ticks. What is updated is replaced, so everything else is given again."""
    scheduler = emulator.client("scheduler", port)
    for one in scheduler.list_schedules()["Schedules"]:
        if f":{STACK_NAME}-sweep:" in one["Target"]["Arn"]:
            found = scheduler.get_schedule(Name=one["Name"], GroupName=one["GroupName"])
            kept = ("Name", "GroupName", "ScheduleExpression", "FlexibleTimeWindow", "Target")
            same = {key: found[key] for key in kept if key in found}
            scheduler.update_schedule(**same, State="ENABLED" if enabled else "DISABLED")


def _throttles(port: int, limit: int | None) -> None:
    """The limits of single routes. The template writes their paths in API Gateway's form (`/~1authorize`)."""
    gateway = emulator.client("apigateway", port)
    for method, limits in gateway.get_stage(restApiId=API_ID, stageName="live")["methodSettings"].items():
        if "~1" in method:
            rate, burst = limit or limits["throttlingRateLimit"], limit or limits["throttlingBurstLimit"]
            wanted = {"rateLimit": rate, "burstLimit": burst}
            changes = [
                {"op": "replace", "path": f"{method}/throttling/{name}", "value": str(value)}
                for name, value in wanted.items()
            ]
            gateway.update_stage(restApiId=API_ID, stageName="live", patchOperations=changes)
