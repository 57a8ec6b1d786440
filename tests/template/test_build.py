"""What `sam build` makes: bytecode that Lambda takes as it is, for all of it, and nothing unneeded."""

import ast
import hashlib
import json
import marshal
import os
import platform
import re
import shutil
import ssl
import struct
import subprocess
import sys
from pathlib import Path
from types import CodeType
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from botocore.model import ServiceModel
from samcli.yamlhelper import yaml_parse

from flowaccount_connect.runtime import aws
from tests.template.conftest import ROOT
from tests.template.test_template import FUNCTIONS
from tools.local import built_for, deployment
from tools.local.places import BUILD

LAYERS = ("DependenciesLayer", "ConnectorLayer")
UNCHECKED_HASH = 0b01
"""PEP 552: bit 0, the bytecode is recognised by a hash; bit 1 would mean that Python checks it."""


def modules(folder: Path) -> list[Path]:
    """All Python sources below a folder; there must be some."""
    found = sorted(folder.rglob("*.py"))
    assert found, f"no Python below {folder}"
    return found


def bytecode_of(module: Path) -> Path:
    """Where Python 3.13 looks for a module's bytecode."""
    return module.parent / "__pycache__" / f"{module.stem}.cpython-313.pyc"


@pytest.mark.parametrize("artefact", [*LAYERS, *FUNCTIONS.values()])
def test_every_module_has_bytecode_that_is_never_checked(built: Path, artefact: str) -> None:
    for module in modules(built / artefact):
        header = bytecode_of(module).read_bytes()[:8]
        (flags,) = struct.unpack("<I", header[4:])
        assert flags == UNCHECKED_HASH, module


@pytest.mark.parametrize(
    ("artefact", "place"),
    [
        ("DependenciesLayer", "/opt/python/boto3/__init__.py"),
        ("ConnectorLayer", "/opt/python/flowaccount_connect/__init__.py"),
        ("RefreshFunction", "/var/task/app.py"),
    ],
)
def test_tracebacks_name_the_place_on_lambda(built: Path, artefact: str, place: str) -> None:
    module = built / artefact / place.removeprefix("/opt/").removeprefix("/var/task/")
    code = marshal.loads(bytecode_of(module).read_bytes()[16:])  # noqa: S302 - our own build
    assert isinstance(code, CodeType)
    assert code.co_filename == place


@pytest.mark.parametrize("function", FUNCTIONS.values())
def test_a_function_has_its_own_handler_and_no_other_files(built: Path, function: str) -> None:
    artefact = built / function
    sources = {path.name for path in artefact.iterdir()} - {"__pycache__"}
    assert "app.py" in sources
    assert all(source.endswith(".py") for source in sources)
    assert "handler" in (artefact / "app.py").read_text()


SERVICES = ("dynamodb", "events", "kms", "lambda", "secretsmanager", "sns", "sqs")


def whole(service: str) -> ServiceModel:
    """A service as boto3 describes it."""
    loader = botocore.session.get_session().get_component("data_loader")
    return ServiceModel(loader.load_service_model(service, "service-2"), service)


def cut(built: Path, service: str) -> ServiceModel:
    """A service as the layer describes it."""
    (model,) = (built / "DependenciesLayer" / "python" / "botocore" / "data" / service).glob("*/service-2.json")
    return ServiceModel(json.loads(model.read_text()), service)


CLIENTS = {"client", "_client", "bus", "_kms", "_sqs", "sns"}
"""What the code names a client of AWS."""


def called() -> set[str]:
    """The names that the functions and their package read of a client of AWS: `self._client.get_item`."""
    sources = [*(ROOT / "layers" / "connector").rglob("*.py"), *(ROOT / "functions").glob("*/*.py")]
    nodes = [node for path in sources for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute)
        if (node.value.id if isinstance(node.value, ast.Name) else node.value.attr) in CLIENTS
    }


@pytest.mark.parametrize("service", SERVICES)
def test_the_layer_has_the_operations_that_are_called_and_no_others(built: Path, service: str) -> None:
    known, used = whole(service).operation_names, called()
    assert set(cut(built, service).operation_names) == {name for name in known if xform_name(name) in used}


def test_the_layer_has_the_services_in_use_and_no_others(built: Path) -> None:
    data = built / "DependenciesLayer" / "python" / "botocore" / "data"
    assert {path.name for path in data.iterdir() if path.is_dir()} == set(SERVICES)
    assert not list(data.rglob("*.gz"))


def shapes(model: ServiceModel, operation: str) -> dict[str, object]:
    """All shapes that an operation reaches, each with what botocore reads of it."""
    made = model.operation_model(operation)
    waiting = [shape for shape in (made.input_shape, made.output_shape, *made.error_shapes) if shape is not None]
    found: dict[str, object] = {}
    while waiting:
        shape = waiting.pop()
        if shape.name in found:
            continue
        inner = [*getattr(shape, "members", {}).values()]
        inner += [getattr(shape, name) for name in ("member", "key", "value") if hasattr(shape, name)]
        found[shape.name] = (shape.type_name, shape.serialization, shape.metadata, [one.name for one in inner])
        waiting += inner
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_cut_says_the_same_of_each_operation(built: Path, service: str) -> None:
    all_of_it, ours = whole(service), cut(built, service)
    assert ours.metadata == all_of_it.metadata
    for name in ours.operation_names:
        there, here = all_of_it.operation_model(name), ours.operation_model(name)
        assert shapes(ours, name) == shapes(all_of_it, name)
        assert here.http == there.http
        assert here.idempotent_members == there.idempotent_members


ENDPOINTS = """
import json, sys
import boto3
services, regions = json.loads(sys.argv[1])
sys.stdout.write(json.dumps({
    region: [boto3.client(service, region_name=region).meta.endpoint_url for service in services] for region in regions
}))
"""


def test_what_is_cut_knows_where_the_services_are_in_every_partition(built: Path) -> None:
    partitions = botocore.session.get_session().get_component("data_loader").load_data("partitions")["partitions"]
    regions = [next(iter(sorted(partition["regions"]))) for partition in partitions]
    assert len(regions) > 5
    asked = json.dumps([SERVICES, [*regions, "ap-southeast-1"]])
    found = []
    for path in (str(built / "DependenciesLayer" / "python"), os.pathsep.join(sys.path)):
        run = subprocess.run(
            [sys.executable, "-S", "-W", "ignore", "-c", ENDPOINTS, asked],
            env={"PYTHONPATH": path, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "HOME": "/nonexistent"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        found.append(json.loads(run.stdout))
    assert found[0] == found[1]
    assert "https://dynamodb.ap-southeast-1.amazonaws.com" in found[0]["ap-southeast-1"]


def test_the_layer_has_the_authorities_that_sign_for_aws_by_themselves(built: Path) -> None:
    """https://www.amazontrust.com/repository/ lists them."""
    certifi = built / "DependenciesLayer" / "python" / "certifi"
    ours, everybody = (
        ssl.create_default_context(cafile=str(certifi / name)).get_ca_certs(binary_form=True)
        for name in (aws.AMAZON_ROOTS, "cacert.pem")
    )
    # Fingerprints as Amazon publishes them (SHA-256).
    assert {hashlib.sha256(root).hexdigest()[:16] for root in ours} == {
        "8ecde6884f3d87b1",  # Amazon Root CA 1
        "1ba5b2aa8c65401a",  # Amazon Root CA 2
        "18ce6cfe7bf14e60",  # Amazon Root CA 3
        "e35d28419ed02025",  # Amazon Root CA 4
        "568d6905a2c88708",  # Starfield Services Root Certificate Authority - G2
    }
    assert set(ours) < set(everybody)


def test_the_layer_leaves_out_what_is_never_loaded_and_keeps_licences(built: Path) -> None:
    layer = built / "DependenciesLayer" / "python"
    assert not list(layer.rglob("*.pyi"))
    assert not [path for path in layer.rglob("tests") if path.is_dir()]
    assert not (layer / "bin").exists()
    packages = sorted(path.name.split("-")[0] for path in layer.glob("*.dist-info"))
    licensed = sorted({path.relative_to(layer).parts[0].split("-")[0] for path in layer.rglob("LICEN*")})
    assert {"boto3", "botocore", "cryptography", "requests", "urllib3"} <= set(licensed)
    assert {"boto3", "botocore", "cryptography", "requests", "urllib3"} <= set(packages)


def test_the_layers_stay_below_lambdas_limit(built: Path) -> None:
    """250 MB unzipped, for a function and all of its layers; what counts sooner is the time to load them."""
    size = sum(path.stat().st_size for layer in LAYERS for path in (built / layer).rglob("*") if path.is_file())
    assert size < 50 * 1024 * 1024


def built_template(folder: Path) -> dict[str, Any]:
    """What `sam build` left below a folder to be deployed."""
    template: dict[str, Any] = yaml_parse((folder / BUILD / "template.yaml").read_text())
    return template


@pytest.mark.parametrize(("processor", "architecture"), [("x86_64", "x86_64"), ("arm64", "arm64"), ("native", None)])
def test_what_was_built_for_one_processor_can_be_deployed_for_no_other(
    built: Path, tmp_path: Path, processor: str, architecture: str | None
) -> None:
    (tmp_path / BUILD).mkdir(parents=True)
    shutil.copy(built / "template.yaml", tmp_path / BUILD)
    before = built_template(tmp_path)
    built_for.name_processor(tmp_path, processor)
    now = built_template(tmp_path)
    only = architecture or {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]
    assert now["Globals"]["Function"]["Architectures"] == [only]
    assert [now["Resources"][layer]["Properties"]["CompatibleArchitectures"] for layer in LAYERS] == [[only]] * 2
    text = {name: str(one).replace("arm64", "x86_64") for name, one in (("before", before), ("now", now))}
    assert text["before"] == text["now"], "nothing else changes"


def test_every_build_is_told_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = subprocess.run(["make", "-n", "build"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(r"sam build\n.*-m tools.local\.built_for\n", planned), planned
    asked = []
    monkeypatch.setattr(deployment, "_sam", lambda *_: (tmp_path / BUILD).mkdir(parents=True))
    monkeypatch.setattr(built_for, "name_processor", lambda *given: asked.append(given))
    monkeypatch.setattr(deployment, "sources", lambda _: "these")
    deployment.build(tmp_path)
    assert asked == [(tmp_path, "native")]


AARCH64 = 0xB7
"""`e_machine` of an ELF file for Arm."""


def test_a_layer_for_arm_is_for_arm_whatever_builds_it(tmp_path: Path) -> None:
    environment = os.environ | {"LAYER_ARCHITECTURE": "arm64", "LAYER_CACHE": str(ROOT / ".local" / "cache")}
    build = [sys.executable, str(ROOT / "layers" / "dependencies" / "build.py"), str(tmp_path / "python")]
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    compiled = sorted(tmp_path.rglob("*.so*"))
    assert [path for path in compiled if "cryptography" in path.parts]
    for path in compiled:
        header = path.read_bytes()[:20]
        assert (header[:4], struct.unpack("<H", header[18:20])[0]) == (b"\x7fELF", AARCH64), path
