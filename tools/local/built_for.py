"""Tells the built template which processor its layers are for, so that it can be deployed for no other.

`sam build` does not compare the parameter `Architecture` with what it built, and neither does AWS: functions whose
packages are for another processor would be made, and then fail at every start. `make build` runs this after it.
"""

import os
import platform
from pathlib import Path

from samcli.yamlhelper import yaml_dump, yaml_parse

from tools.local.places import BUILD, ROOT


def narrow(root: Path, built_for: str) -> None:
    """Leaves the template that was built below `root` no other processor to be deployed for.

    `built_for` is a `LAYER_ARCHITECTURE`: `x86_64`, `arm64`, or `native` for this machine's own.
    """
    if built_for == "native":
        built_for = "arm64" if platform.machine().lower() in ("aarch64", "arm64") else "x86_64"
    path = root / BUILD / "template.yaml"
    template = yaml_parse(path.read_text())
    template["Parameters"]["Architecture"] |= {"AllowedValues": [built_for], "Default": built_for}
    path.write_text(yaml_dump(template))


if __name__ == "__main__":
    narrow(ROOT, os.environ.get("LAYER_ARCHITECTURE", "x86_64"))
