"""The session of AWS that a command works with, and so the region."""

from collections.abc import Mapping

import boto3

from tools.local.errors import LocalError


def given_region(variables: Mapping[str, str]) -> str | None:
    """The region that the environment names."""
    return variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION") or None


def session(variables: Mapping[str, str], kept: str | None = None) -> boto3.Session:
    """A session in the region of `AWS_REGION` or `AWS_DEFAULT_REGION`, else in the `kept` one, else in the profile's.

    boto3 itself does not read `AWS_REGION`. Raises `LocalError` if no region is known, and for another one than is
    kept: it would find no stack there, and make a second one.
    """
    given = given_region(variables)
    if given and kept and given != kept:
        raise LocalError(
            f"samconfig.toml has this stack in {kept}, and AWS_REGION is {given}: export AWS_REGION={kept}. "
            "A stack in another region is given a section of its own: CONFIG=…"
        )
    made = boto3.Session(region_name=given or kept)
    if not made.region_name:
        raise LocalError("Which region? export AWS_REGION=ap-southeast-1, or aws configure.")
    return made
