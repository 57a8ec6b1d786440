"""The template in the two forms the tests look at, and what `sam build` makes of it."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from samtranslator.translator.transform import transform

ROOT = Path(__file__).resolve().parent.parent.parent


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms (``!Ref``, ``!Sub`` …) into their long ones."""


def _long_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    """One short form as CloudFormation would write it in full."""
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _long_form)


class _ManagedPolicies:
    """SAM wants to know AWS's managed policies; this template must not use any."""

    def load(self) -> dict[str, str]:
        return {}


def read(text: str) -> dict[str, Any]:
    """A template as it is written."""
    loaded: dict[str, Any] = yaml.load(text, _Loader)  # noqa: S506 - a subclass of SafeLoader
    return loaded


@pytest.fixture(scope="session")
def template() -> dict[str, Any]:
    """The template as it is written."""
    return read((ROOT / "template.yaml").read_text())


def translate(**parameters: str) -> dict[str, Any]:
    """The template as CloudFormation gets it after the SAM transform, with these parameters."""
    source = read((ROOT / "template.yaml").read_text())
    for resource in source["Resources"].values():
        for name in ("CodeUri", "ContentUri"):
            if name in resource.get("Properties", {}):
                resource["Properties"][name] = f"s3://bucket/{resource['Properties'][name].strip('/')}"
    source["Globals"]["Function"]["CodeUri"] = "s3://bucket/functions"
    with pytest.MonkeyPatch.context() as patch:
        # The transform asks for the region that it is to happen in.
        patch.setenv("AWS_DEFAULT_REGION", "ap-southeast-1")
        result: dict[str, Any] = transform(source, parameters, _ManagedPolicies())
    return result


@pytest.fixture(scope="session")
def translated() -> dict[str, Any]:
    """The template after the SAM transform, with the parameters' defaults."""
    return translate()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `sam build` makes, in a folder of the test's own, for this machine's processor."""
    folder = tmp_path_factory.mktemp("build")
    cache = ROOT / ".local" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["sam", "build", "--build-dir", str(folder), "--template-file", str(ROOT / "template.yaml")],
        cwd=ROOT,
        env=os.environ
        | {"LAYER_ARCHITECTURE": "native", "LAYER_CACHE": str(cache), "AWS_DEFAULT_REGION": "ap-southeast-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder
