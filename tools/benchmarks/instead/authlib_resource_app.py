"""With Authlib and boto3's resource of DynamoDB."""

from collections.abc import Mapping
from typing import Any

from . import acts, resource_vault
from .authlib_app import ask


def token(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """GET /connections/{id}/token."""
    return acts.token(event, resource_vault)


def refresh(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """The refresh queue."""
    return acts.refresh(event, resource_vault, ask)
