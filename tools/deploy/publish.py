"""`make publish BUCKET=…`: template and code in a bucket of the publisher's, and the link by which others deploy them.

A bucket serves the stacks of its own region: Lambda takes code from there only. Nothing is made public here: who may
read the bucket is up to its policy; what such a policy must say is printed.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tools import deployed
from tools.deploy import checks, sam
from tools.deploy.checks import Clients
from tools.deploy.session import session
from tools.local.errors import LocalError
from tools.local.places import BUILD, ROOT

PREFIX = "flowaccount-connect"
"""Where in the bucket everything is, one folder below it for each release."""


@dataclass(frozen=True, slots=True)
class Published:
    """What was put into the bucket."""

    bucket: str
    region: str
    template: str
    """The template's key in the bucket."""

    @property
    def template_url(self) -> str:
        """The template's address, as CloudFormation takes it. A bucket with dots in its name has no certificate."""
        host = f"s3.{self.region}.amazonaws.com{'.cn' if self.region.startswith('cn-') else ''}"
        at = f"{host}/{self.bucket}" if "." in self.bucket else f"{self.bucket}.{host}"
        return f"https://{at}/{self.template}"

    def link(self, **given: str) -> str:
        """The quick-create link, with values for parameters of the template.

        https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cfn-console-create-stacks-quick-create-links.html
        """
        query = {"templateURL": self.template_url, "stackName": PREFIX}
        query |= {f"param_{name}": value for name, value in given.items()}
        host = "console.amazonaws.cn" if self.region.startswith("cn-") else "console.aws.amazon.com"
        console = f"https://{self.region}.{host}/cloudformation/home?region={self.region}"
        return f"{console}#/stacks/create/review?{urlencode(query)}"

    def policy(self) -> dict[str, Any]:
        """What the bucket's policy must say where accounts other than the publisher's are to deploy from it."""
        partition = boto3.Session().get_partition_for_region(self.region)
        return {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "ReadReleases",
                    "Effect": "Allow",
                    "Principal": {"AWS": ["<account id>"]},
                    "Action": "s3:GetObject",
                    "Resource": f"arn:{partition}:s3:::{self.bucket}/{PREFIX}/*",
                }
            ],
        }


def publish(clients: Clients, bucket: str, region: str) -> Published:
    """Puts what was built into the bucket. Raises `LocalError`, and what boto3 raises."""
    folder = f"{PREFIX}/{deployed.version()}"
    packaged = ROOT / BUILD / "published.yaml"
    where = ["--s3-bucket", bucket, "--s3-prefix", folder, "--region", region]
    sam.run("package", *where, "--output-template-file", str(packaged))
    key = f"{folder}/template.yaml"
    clients("s3").put_object(Bucket=bucket, Key=key, Body=packaged.read_bytes(), ContentType="application/yaml")
    return Published(bucket, region, key)


def region_of(clients: Clients, bucket: str) -> str:
    """The region that a bucket is in. Raises `LocalError` where it is not there, or is somebody else's."""
    try:
        found = clients("s3").get_bucket_location(Bucket=bucket)["LocationConstraint"]
    except ClientError as error:
        code = error.response["Error"]["Code"]
        raise LocalError(f"The bucket {bucket} cannot be used ({code}): make one, aws s3 mb s3://{bucket}") from None
    # S3's own words for the two oldest regions.
    return {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}.get(found, str(found))


def run(variables: Mapping[str, str]) -> None:
    """Checks, builds, publishes, and prints the link. Raises `LocalError`."""
    bucket = variables.get("BUCKET", "").strip()
    if not bucket:
        raise LocalError("Which bucket? make publish BUCKET=…; a bucket serves the stacks of its own region.")
    clients: Clients = partial(session(os.environ).client)
    region = region_of(clients, bucket)
    found = [*checks.tools(), *checks.account(clients, region)]
    if wrong := [finding.text for finding in found if finding.wrong]:
        raise LocalError("\n       ".join(wrong))
    processor = variables.get("LAYER_ARCHITECTURE") or "x86_64"
    sam.build(processor)
    published = publish(clients, bucket, region)
    print(f"\nPublished for {processor} in {region}: {published.template_url}")
    print(f"\nThe link that deploys it; `param_ClientId=…` and others may be added:\n  {published.link()}")
    print("\nOther accounts can use it once the bucket's policy says so:")
    print(json.dumps(published.policy(), indent=2))


def main() -> None:
    """Publishes by the variables of `make publish NAME=value`."""
    try:
        run(os.environ)
    except (LocalError, BotoCoreError, ClientError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
