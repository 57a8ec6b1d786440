"""The real `sam build` and `sam deploy`, against the emulator."""

import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tools.local import built_for, emulator
from tools.local.errors import LocalError
from tools.local.parameters import overrides
from tools.local.places import BUILD, CACHE, LOCAL, LOGS, ROOT, TOOLS, shown

STACK_NAME = "flowaccount-connect"

# The emulator gives a REST API the id in this tag. AWS does not, so the tag belongs to this deployment and not to the
# template. With a fixed id the callback URL is known before the API exists.
API_ID = "flowaccountconnect"
_BUCKET = f"{STACK_NAME}-artifacts"


def sources(root: Path = ROOT) -> str:
    """A digest of all sources that are deployed.

    `root` is the folder of the sources. Tests give the folder of another release.
    """
    return digest_of(root, "template.yaml", "samconfig.toml", "functions", "layers")


def digest_of(root: Path, *names: str) -> str:
    """A digest of files below `root`, and of all files in folders there."""
    named = [root / name for name in names]
    within = [file for folder in named for file in folder.rglob("*")]
    digest = hashlib.sha256()
    for path in sorted([*named, *within]):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(root)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def is_built(root: Path = ROOT) -> bool:
    """Whether a build exists that was made from the present sources."""
    try:
        return (root / BUILD / "made-from").read_text() == sources(root)
    except OSError:
        return False


def build(root: Path = ROOT) -> None:
    """Runs `sam build` for this machine's processor, with a cache of layers. Raises ``LocalError``."""
    made_from = sources(root)
    CACHE.mkdir(parents=True, exist_ok=True)
    environment = _environment() | {"LAYER_ARCHITECTURE": "native", "LAYER_CACHE": str(CACHE)}
    _sam(["build"], root, environment, LOGS / "build.log", "The build failed")
    built_for.name_processor(root, environment["LAYER_ARCHITECTURE"])
    # sam deletes this file when it builds again.
    (root / BUILD / "made-from").write_text(made_from)


def deploy(
    port: int, parameters: Mapping[str, str], root: Path = ROOT, *, name: str = STACK_NAME, api_id: str = API_ID
) -> None:
    """Runs `sam deploy` with these parameters against the emulator on ``port``. Raises ``LocalError``."""
    _ensure_bucket(port)
    command = ["deploy", "--stack-name", name]
    command += ["--no-resolve-s3", "--s3-bucket", _BUCKET, "--no-confirm-changeset", "--no-progressbar"]
    command += ["--tags", f"ms-custom-id={api_id}", "--parameter-overrides"]
    command += overrides(parameters)
    environment = _environment() | {
        "AWS_ENDPOINT_URL": emulator.url(port),
        "AWS_ACCESS_KEY_ID": emulator.ADMINISTRATOR["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": emulator.ADMINISTRATOR["aws_secret_access_key"],
        "SAM_CLI_POLL_DELAY": "0.3",
    }
    _sam(command, root, environment, LOGS / "deploy.log", "The deployment failed")


def _ensure_bucket(port: int) -> None:
    """Makes the bucket that sam uploads to, unless it exists."""
    storage = emulator.client("s3", port)
    if _BUCKET not in [bucket["Name"] for bucket in storage.list_buckets()["Buckets"]]:
        storage.create_bucket(Bucket=_BUCKET, CreateBucketConfiguration={"LocationConstraint": emulator.REGION})


def _environment() -> dict[str, str]:
    """The environment of sam: this machine's, without any variable that could lead to a real AWS account."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SAM_"))}
    return kept | {
        "PATH": f"{TOOLS}:{os.environ.get('PATH', '/usr/bin:/bin')}",
        "AWS_DEFAULT_REGION": emulator.REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAM_CLI_TELEMETRY": "0",
        "__SAM_CLI_APP_DIR": str(LOCAL / "sam"),
    }


def _sam(arguments: list[str], root: Path, environment: Mapping[str, str], log: Path, failure: str) -> None:
    """Runs one sam command in a folder of sources, with its output into ``log``. Raises ``LocalError``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        done = subprocess.run(
            [str(TOOLS / "sam"), *arguments],
            env=environment,
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        reason = _reason(log.read_text(errors="replace"))
        raise LocalError(f"{failure}{f': {reason}' if reason else ''} (more in {shown(log)})")


def _reason(output: str) -> str:
    """The last error that sam printed, on one line."""
    errors = [line for line in output.splitlines() if line.startswith(("Error:", "Build Failed", "make:"))]
    return " ".join(errors[-1].split())[:300] if errors else ""
