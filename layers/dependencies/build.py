"""Builds the layer of third-party packages: fetches them for the functions' processor, trims and compiles them.

`sam build` ships no bytecode, and it sets the date of each file to 1980. Python checks ordinary bytecode against the
date of its source, so it would compile again at each cold start. It loads bytecode with an unchecked hash (PEP 552)
without a check.

Environment: ``LAYER_ARCHITECTURE`` (``x86_64``, ``arm64`` or ``native``), ``LAYER_CACHE`` (a folder).
"""

import compileall
import gzip
import hashlib
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"

# The operations that the functions call, by service. botocore has more than 400 services, some with 300 operations.
# A call of an operation that is not in this list fails, so a test compares the list with the functions' code.
OPERATIONS = {
    "dynamodb": ("BatchGetItem", "GetItem", "PutItem", "Query", "TransactWriteItems", "UpdateItem"),
    "events": ("PutEvents",),
    "kms": ("Decrypt", "GenerateDataKey"),
    "lambda": ("Invoke",),
    "secretsmanager": ("GetSecretValue",),
    "sns": ("Publish",),
    "sqs": ("ChangeMessageVisibility", "GetQueueAttributes", "SendMessage", "SendMessageBatch"),
}

# The authorities that sign for AWS (https://www.amazontrust.com/repository/), by their labels in certifi's file.
AMAZON_ROOTS = (
    "Amazon Root CA 1",
    "Amazon Root CA 2",
    "Amazon Root CA 3",
    "Amazon Root CA 4",
    "Starfield Services Root Certificate Authority - G2",
)

# Lambda's Python 3.13 runs on Amazon Linux 2023 (glibc 2.34); every package here has a wheel for glibc 2.28.
PLATFORMS = {
    "x86_64": ["--python-platform", "x86_64-manylinux_2_28"],
    "arm64": ["--python-platform", "aarch64-manylinux_2_28"],
    "native": [],
}

# Files that are never loaded at run time: boto3's resources (we use clients), data of waiters, paginators and examples,
# parts of cffi that only builds need (cryptography imports the compiled _cffi_backend alone), what guesses a character
# set (only bytes are read), type stubs, the packages' own tests, and scripts.
UNUSED = (
    "bin",
    "boto3/data",
    "boto3/examples",
    "botocore/data/*/*/examples-1.json*",
    "botocore/data/*/*/paginators-1*.json*",
    "botocore/data/*/*/waiters-2.json*",
    "cffi",
    "charset_normalizer",
    "pycparser",
    "**/*.pyi",
    "**/py.typed",
    "**/tests",
    "**/__pycache__",
)


def fetch(target: Path, architecture: str) -> None:
    """Installs the pinned packages into ``target``: wheels only, hashes checked, for ``architecture``.

    Raises ``SystemExit`` with one line when uv is missing or fails.
    """
    if shutil.which("uv") is None:
        sys.exit("uv is not on PATH: it fetches the packages for the functions' processor (pip install uv).")
    command = ["uv", "pip", "install", "--quiet", "--target", str(target), "--python", sys.executable]
    command += [
        "--python-version",
        "3.13",
        *PLATFORMS[architecture],
        "--only-binary",
        ":all:",
        "--require-hashes",
    ]
    command += ["--link-mode", "copy", "-r", str(REQUIREMENTS)]
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit("The packages of the dependency layer could not be fetched. uv printed the reason above.")


def trim(target: Path) -> None:
    """Removes the files that the functions never load. Keeps every licence."""
    for pattern in UNUSED:
        for path in list(target.glob(pattern)):
            remove(path)
    for information in target.glob("*.dist-info"):
        for path in list(information.rglob("*")):
            if path.is_file() and not is_licence(path):
                path.unlink()


def cut_data(data: Path) -> None:
    """Cuts botocore's data to the services and operations in use. Making a client reads it for a third of its time.

    The result is not compressed, because unpacking takes longer than reading. It has only the newest version of each
    service's interface.
    """
    for path in list(data.iterdir()):
        if path.is_dir() and path.name not in OPERATIONS:
            remove(path)
    for service, operations in OPERATIONS.items():
        *older, newest = sorted((data / service).iterdir())
        for path in older:
            remove(path)
        for packed in newest.glob("*.json.gz"):
            content = json.loads(gzip.decompress(packed.read_bytes()))
            packed.unlink()
            cut = cut_model(content, operations) if packed.name == "service-2.json.gz" else content
            write(packed.with_suffix(""), cut)
    endpoints = json.loads((data / "endpoints.json").read_bytes())
    for partition in endpoints["partitions"]:
        partition["services"] = {name: at for name, at in partition["services"].items() if name in OPERATIONS}
    write(data / "endpoints.json", endpoints)


def cut_model(model: dict[str, Any], operations: Iterable[str]) -> dict[str, Any]:
    """A service's model with only `operations` and the shapes that they use, without documentation."""
    kept = {name: model["operations"][name] for name in operations}
    shapes: dict[str, Any] = {}
    waiting = list(shapes_in(kept))
    while waiting:
        name = waiting.pop()
        if name not in shapes:
            shapes[name] = model["shapes"][name]
            waiting += shapes_in(shapes[name])
    cut: dict[str, Any] = without_documentation(model | {"operations": kept, "shapes": shapes})
    return cut


def shapes_in(part: object) -> Iterator[str]:
    """The names of the shapes that a part of a model refers to."""
    if isinstance(part, dict):
        if isinstance(part.get("shape"), str):
            yield part["shape"]
        for value in part.values():
            yield from shapes_in(value)
    elif isinstance(part, list):
        for value in part:
            yield from shapes_in(value)


def without_documentation(part: Any) -> Any:
    """A part of a model without its documentation texts. A shape's member named `documentation` stays."""
    if isinstance(part, dict):
        texts = ("documentation", "documentationUrl")
        return {
            name: without_documentation(value)
            for name, value in part.items()
            if not (name in texts and isinstance(value, str))
        }
    return [without_documentation(value) for value in part] if isinstance(part, list) else part


def write(path: Path, content: object) -> None:
    """Writes JSON without spaces."""
    path.write_text(json.dumps(content, separators=(",", ":")))


def cut_authorities(certifi: Path) -> None:
    """Writes Amazon's authorities beside certifi's file. Each new connection to AWS reads this smaller file."""
    found = re.findall(
        r'# Label: "(.*)"\n(?:#.*\n)*(-----BEGIN[^#]*-----END CERTIFICATE-----\n)', (certifi / "cacert.pem").read_text()
    )
    certificates = dict(found)
    (certifi / "amazon-roots.pem").write_text("".join(certificates[name] for name in AMAZON_ROOTS))


def is_licence(path: Path) -> bool:
    """Whether a file of a package's metadata must stay: a licence, or the file with its version."""
    name = path.name.upper()
    return name == "METADATA" or name.startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS"))


def remove(path: Path) -> None:
    """Removes a file or a folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def compile_all(target: Path) -> None:
    """Compiles every module below ``target``. Tracebacks will show its path on Lambda."""
    done = compileall.compile_dir(
        target,
        quiet=1,
        force=True,
        workers=0,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        stripdir=str(target),
        prependdir="/opt/python",
    )
    if not done:
        sys.exit("A package of the dependency layer does not compile. Its name is above.")


def build(target: Path, architecture: str) -> None:
    """Builds the whole layer into ``target``, which must not exist."""
    fetch(target, architecture)
    trim(target)
    cut_data(target / "botocore" / "data")
    cut_authorities(target / "certifi")
    compile_all(target)


def fingerprint(architecture: str) -> str:
    """A key of the layer's inputs: requirements, this program, architecture, interpreter."""
    digest = hashlib.sha256(f"{architecture} {sys.version} {sys.platform}".encode())
    digest.update(REQUIREMENTS.read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()[:20]


def main() -> None:
    """Builds into the folder given as argument, from the cache if ``LAYER_CACHE`` is set."""
    if sys.version_info[:2] != (3, 13):
        sys.exit("Build the layer with Python 3.13, the version of the Lambda runtime. Bytecode fits one version only.")
    architecture = os.environ.get("LAYER_ARCHITECTURE", "x86_64")
    if architecture not in PLATFORMS:
        sys.exit(f"LAYER_ARCHITECTURE is {architecture!r}; it must be one of {', '.join(PLATFORMS)}.")
    target = Path(sys.argv[1]).resolve()
    cache = os.environ.get("LAYER_CACHE")
    if not cache:
        build(target, architecture)
        return
    kept = Path(cache) / f"dependencies-{fingerprint(architecture)}"
    if not kept.is_dir():
        # Built under another name first, so that an interrupted build is not used as a finished one.
        unfinished = kept.with_name(f"{kept.name}.{os.getpid()}")
        try:
            build(unfinished, architecture)
            unfinished.rename(kept)
        except OSError:
            # Another build was first, and its folder serves.
            if not kept.is_dir():
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(kept, target)


if __name__ == "__main__":
    main()
