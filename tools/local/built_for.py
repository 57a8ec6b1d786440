"""Names in the built template the processor that its layers are for.

template.yaml says x86_64. Neither `sam build` nor AWS compares that with the built packages. Functions with packages
for another processor would be deployed, and would fail at every start. `make build` runs this after `sam build`.
"""

import os
import platform
from pathlib import Path

from samcli.yamlhelper import yaml_dump, yaml_parse

from tools.local.places import BUILD, ROOT


def name_processor(root: Path, built_for: str) -> None:
    """Has the template that was built below `root` name one processor, wherever it names one.

    `built_for` is a `LAYER_ARCHITECTURE`: `x86_64`, `arm64`, or `native` for this machine's own.
    """
    if built_for == "native":
        built_for = "arm64" if platform.machine().lower() in ("aarch64", "arm64") else "x86_64"
    path = root / BUILD / "template.yaml"
    template = yaml_parse(path.read_text())
    template["Globals"]["Function"]["Architectures"] = [built_for]
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::LayerVersion":
            resource["Properties"]["CompatibleArchitectures"] = [built_for]
    path.write_text(yaml_dump(template))


if __name__ == "__main__":
    name_processor(ROOT, os.environ.get("LAYER_ARCHITECTURE", "x86_64"))
