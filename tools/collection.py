"""Makes a Postman collection of the API's description, which Bruno and Insomnia import too: `make docs`.

Each request is signed (AWS Signature Version 4) with the keys in the collection's variables. Its body is the example in
the description.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

DESCRIPTION = Path(__file__).parents[1] / "docs" / "openapi.yaml"

SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
VARIABLES = {
    "url": "The stack's output ApiUrl; FLOWACCOUNT_CONNECT_URL of `make env`",
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
    "region": "AWS_REGION",
    "id": "A connection's supportCode",
}
SIGNATURE = {
    "accessKey": "{{access_key_id}}",
    "secretKey": "{{secret_access_key}}",
    "sessionToken": "{{session_token}}",
    "region": "{{region}}",
    "service": "execute-api",
}

Described = dict[str, Any]


def collection(described: Described) -> Described:
    """The collection: a folder for each tag, a request for each operation."""
    operations = [
        (path, method, operation, item.get("parameters", []))
        for path, item in described["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]
    return {
        "info": {
            "name": described["info"]["title"],
            "description": described["info"]["description"],
            "schema": SCHEMA,
        },
        "auth": {
            "type": "awsv4",
            "awsv4": [{"key": key, "value": value, "type": "string"} for key, value in SIGNATURE.items()],
        },
        "variable": [{"key": key, "value": "", "description": text} for key, text in VARIABLES.items()],
        "item": [
            {
                "name": tag["name"],
                "description": tag["description"],
                "item": [request(described, *one) for one in operations if one[2]["tags"] == [tag["name"]]],
            }
            for tag in described["tags"]
        ],
    }


def request(described: Described, path: str, method: str, operation: Described, shared: list[Described]) -> Described:
    """One request. What it may have and needs not is switched off."""
    parameters = [resolved(described, one) for one in [*shared, *operation.get("parameters", [])]]
    query = [
        {"key": one["name"], "value": "", "description": one.get("description", ""), "disabled": True}
        for one in parameters
        if one["in"] == "query"
    ]
    parts = [part.replace("{", "{{").replace("}", "}}") for part in path.strip("/").split("/")]
    made: Described = {
        "method": method.upper(),
        "url": {"raw": "/".join(["{{url}}", *parts]), "host": ["{{url}}"], "path": parts, "query": query},
        "header": [],
        "description": operation.get("description", ""),
    }
    if operation.get("security") == []:
        made["auth"] = {"type": "noauth"}
    if "requestBody" in operation:
        example = operation["requestBody"]["content"]["application/json"]["example"]
        made["header"] = [{"key": "Content-Type", "value": "application/json"}]
        made["body"] = {"mode": "raw", "raw": json.dumps(example, indent=2), "options": {"raw": {"language": "json"}}}
    return {"name": operation["summary"], "request": made}


def resolved(described: Described, parameter: Described) -> Described:
    """A parameter, also where it is shared."""
    name = parameter.get("$ref", "").rpartition("/")[2]
    found: Described = described["components"]["parameters"][name] if name else parameter
    return found


def main(target: Path) -> None:
    """Write the collection into `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    made = collection(yaml.safe_load(DESCRIPTION.read_text("utf-8")))
    target.write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
