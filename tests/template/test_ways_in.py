"""The page on deploying: what it wraps the stack in is what Terraform reads, and names what the template has."""

import re

import hcl2
import pytest

from tests.support import pages
from tests.template.conftest import ROOT
from tests.template.test_template import Template
from tools import deployed
from tools.deploy.publish import Published

PAGE = (ROOT / "docs" / "deploying.md").read_text()
RELEASED = Published("BUCKET", "ap-southeast-1", f"flowaccount-connect/{deployed.version()}/template.yaml")


def block(language: str) -> str:
    """The one block of a language."""
    return pages.block("docs/deploying.md", language, "")


def test_terraform_reads_it_and_its_parameters_are_the_templates(template: Template) -> None:
    resources = {kind.strip('"'): named for one in hcl2.loads(block("hcl"))["resource"] for kind, named in one.items()}
    (stack,) = resources["aws_cloudformation_stack"].values()
    assert set(stack["parameters"]) <= set(template["Parameters"])
    assert stack["template_url"].strip('"') == RELEASED.template_url
    assert [word.strip('"') for word in stack["capabilities"]] == ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
    (protected,) = re.findall(r'outputs\["(\w+)"\]', block("hcl"))
    assert protected in template["Outputs"]


def test_the_stack_of_cdk_names_what_the_template_has(template: Template) -> None:
    source = block("typescript")
    assert RELEASED.template_url in source
    given = re.search(r"parameters: \{(.*?)\}", source, re.DOTALL)
    assert given is not None
    assert set(re.findall(r"^\s+(\w+):", given[1], re.MULTILINE)) <= set(template["Parameters"])
    assert set(re.findall(r"Outputs\.(\w+)", source)) <= set(template["Outputs"])


@pytest.mark.parametrize(
    ("bucket", "region", "url"),
    [
        ("releases", "ap-southeast-1", "https://releases.s3.ap-southeast-1.amazonaws.com/key"),
        ("my.releases", "eu-west-1", "https://s3.eu-west-1.amazonaws.com/my.releases/key"),
        ("releases", "cn-north-1", "https://releases.s3.cn-north-1.amazonaws.com.cn/key"),
    ],
)
def test_a_release_has_an_address_that_its_certificate_fits(bucket: str, region: str, url: str) -> None:
    assert Published(bucket, region, "key").template_url == url


@pytest.mark.parametrize(
    ("region", "host"),
    [("ap-southeast-7", "console.aws.amazon.com"), ("cn-north-1", "console.amazonaws.cn")],
)
def test_a_link_opens_the_console_of_its_partition(region: str, host: str) -> None:
    assert Published("releases", region, "key").link().startswith(f"https://{region}.{host}/cloudformation/")


def test_a_link_may_bring_values_of_parameters() -> None:
    link = RELEASED.link(ClientId="a b&c", Environment="sandbox")
    assert link.endswith("&stackName=flowaccount-connect&param_ClientId=a+b%26c&param_Environment=sandbox")
    assert RELEASED.policy()["Statement"][0]["Resource"] == "arn:aws:s3:::BUCKET/flowaccount-connect/*"


def test_the_commands_of_the_page_exist(template: Template) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = set(re.findall(r"(?:`|^ *)make ([a-z]+)", PAGE, re.MULTILINE))
    assert {"deploy", "secret", "publish", "build"} <= called <= targets
    for name in re.findall(r"PARAMETERS=(\w+)=", PAGE):
        assert name in template["Parameters"], name
    for path in re.findall(r"`((?:tools|docs|\.github)/[\w./-]+)`", PAGE):
        assert (ROOT / path).is_file(), path
