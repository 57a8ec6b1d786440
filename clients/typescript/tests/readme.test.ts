/** The README's examples: the first runs as it stands, and all name what exists. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { promisify } from "node:util";

import * as errors from "../src/errors.js";
import * as connecting from "../src/index.js";
import { FakeFlowAccount, FakeStack, ID, KEYS, problem, REGION } from "./fake.js";

const README = readFileSync("README.md", "utf8");

test("the first example runs", async (t) => {
  const [stack, flowaccount] = [await FakeStack.start(t), await FakeFlowAccount.start(t)];
  const [, example = ""] = /```js\n(\/\/ company\.mjs.*?)```/s.exec(README) ?? [];
  writeFileSync("build/company.mjs", example); // Beside package.json, whose name it imports.
  const env = {
    ...process.env,
    FLOWACCOUNT_CONNECT_URL: stack.url,
    FLOWACCOUNT_URL: flowaccount.url,
    AWS_REGION: REGION,
    AWS_ACCESS_KEY_ID: KEYS.accessKeyId,
    AWS_SECRET_ACCESS_KEY: KEYS.secretAccessKey,
    AWS_SESSION_TOKEN: KEYS.sessionToken,
  };
  const run = () => promisify(execFile)(process.execPath, ["build/company.mjs", ID], { env });
  flowaccount.good = "secret-access-2";
  assert.deepEqual(await run(), { stdout: "Somchai Trading\n", stderr: "" });
  stack.replies.push(problem(409, "reauthorization_required", { reason: "expired" }));
  assert.deepEqual(await run(), { stdout: "The user must connect again (expired).\n", stderr: "" });
});

test("every method that the README calls is one, and every error is in its table", () => {
  const called = [...README.matchAll(/connect\.(\w+)\(/g)].map(([, name = ""]) => name);
  const methods = Object.getOwnPropertyNames(connecting.FlowAccountConnect.prototype).filter(
    (name) => name !== "constructor",
  );
  assert.deepEqual([...new Set(called)].sort(), methods.sort());
  const listed = [...README.matchAll(/^\| `(\w+)` \|/gm)].map(([, name = ""]) => name);
  const raised = Object.keys(errors).filter((name) => !["FlowAccountConnectError", "InvalidSignature"].includes(name));
  assert.deepEqual(listed.sort(), raised.sort());
  assert.ok(Object.keys(errors).every((name) => name in connecting));
});
