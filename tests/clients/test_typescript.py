"""The npm package: its own tests, and what `npm pack` makes of it, installed where nothing else is.

It needs node and npm. What npm installs and builds is under `.local`.
"""

import json
import re
from pathlib import Path

import pytest

from tests.support import typescript
from tests.support.typescript import ROOT, SOURCES, run

IMPORT = """
import * as all from "flowaccount-connect";
const connect = new all.FlowAccountConnect({ url: "https://a1.execute-api.ap-southeast-1.amazonaws.com/live" });
const problem = await connect.accessToken("..").catch((error) => error);
const { FakeFlowAccountConnect } = await import("flowaccount-connect/testing");
const fake = typeof new FakeFlowAccountConnect().visit;
console.log(JSON.stringify([Object.keys(all).sort(), connect.url, problem instanceof all.InvalidArgument, fake]));
"""

TYPED = """
import { AccessDenied, FlowAccountConnect, webhooks, type Connection, type Denial } from "flowaccount-connect";

const credentials = async () => ({ accessKeyId: "a", secretAccessKey: "b" });
const connect = new FlowAccountConnect({ credentials, logger: console });
for await (const connection of connect.connections({ status: "active" })) {
  const whole: Connection = connection;
  const deadline: Date | null = whole.deadline;
  console.log(deadline);
}
const answer: Response = await connect.flowaccountFetch("N1")("https://openapi.flowaccount.com/v1/company/info");
const token: string = (await connect.reportRejected(answer)).value;
const event = webhooks.verify<{ detail: { id: string } }>("", {}, ["whsec_"]);
export const why = (error: unknown): Denial | undefined => (error instanceof AccessDenied ? error.denial : undefined);
console.log(token, event.detail.id);
// @ts-expect-error A connection's tokens are no part of it.
console.log((await connect.connection("N1")).refreshToken);
"""


@pytest.fixture(scope="module")
def package() -> Path:
    """The package's sources beside the packages that they need."""
    return typescript.package()


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What would be published."""
    return typescript.pack(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="module")
def installed(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which nothing but the package is installed."""
    return typescript.install(tarball, tmp_path_factory.mktemp("installed"))


def test_its_own_tests_pass(package: Path) -> None:
    said = run(package, "npm", "test")
    counts = {name: int(count) for name, count in re.findall(r"^(?:#|ℹ) (\w+) (\d+)$", said, re.MULTILINE)}  # noqa: RUF001
    assert counts["tests"] == counts["pass"] > 100, said


def test_the_package_has_its_code_types_readme_and_license_only(package: Path, tarball: Path) -> None:
    files = set(run(package, "tar", "-tzf", str(tarball)).split())
    modules = {path.stem for path in (SOURCES / "src").iterdir()}
    expected = {"package.json", "README.md", "LICENSE"} | {
        f"dist/{module}{end}" for module in modules for end in (".js", ".d.ts")
    }
    assert files == {f"package/{name}" for name in expected}
    assert (SOURCES / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_it_needs_the_credentials_and_the_signer_of_aws_in_exact_versions_and_nothing_else() -> None:
    described = json.loads((SOURCES / "package.json").read_text())
    assert set(described["dependencies"]) == {
        "@aws-crypto/sha256-js",
        "@aws-sdk/credential-providers",
        "@smithy/core",
        "@smithy/signature-v4",
    }
    versions = [*described["dependencies"].values(), *described["devDependencies"].values()]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)


def test_it_is_imported_where_nothing_else_is_installed(installed: Path) -> None:
    (installed / "import.mjs").write_text(IMPORT)
    names, url, is_refused, fake = json.loads(run(installed, "node", "import.mjs"))
    assert names == [
        "AccessDenied",
        "ConnectionNotFound",
        "FLOWACCOUNT",
        "FlowAccountConnect",
        "FlowAccountConnectError",
        "HostNotAllowed",
        "InvalidAnswer",
        "InvalidArgument",
        "InvalidSignature",
        "NotConfigured",
        "Problem",
        "ReauthorizationRequired",
        "TemporarilyUnavailable",
        "webhooks",
    ]
    assert url == "https://a1.execute-api.ap-southeast-1.amazonaws.com/live"
    assert (is_refused, fake) == (True, "function")


def test_its_types_are_whole_for_a_strict_program(package: Path, installed: Path) -> None:
    (installed / "typed.mts").write_text(TYPED)
    tools = package / "node_modules"
    types = ("--types", "node", "--typeRoots", str(tools / "@types"))
    target = ("--module", "NodeNext", "--target", "ES2022", "--lib", "ES2023")
    run(installed, str(tools / ".bin" / "tsc"), "--noEmit", "--strict", *target, *types, "typed.mts")


def test_the_page_on_deploying_has_a_stack_of_cdk_that_is_typescript(package: Path) -> None:
    (snippet,) = re.findall(r"```typescript\n(.*?)```", (ROOT / "docs" / "deploying.md").read_text(), re.DOTALL)
    check = """
        import ts from "typescript";
        const options = { reportDiagnostics: true, compilerOptions: { module: "ESNext", target: "ES2022" } };
        const { diagnostics } = ts.transpileModule(process.argv[1], options);
        console.log(JSON.stringify(diagnostics.map((one) => one.messageText)));
    """
    assert run(package, "node", "--input-type=module", "-e", check, snippet).strip() == "[]"
    assert run(package, "node", "--input-type=module", "-e", check, snippet.replace("class", "klass")).strip() != "[]"
