import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";

import { FlowAccountConnect, NotConfigured, TemporarilyUnavailable, type AwsCredentials } from "../src/index.js";
import { FakeStack, failure, ID, KEYS, REGION } from "./fake.js";

const MINE = /^(AWS_|FLOWACCOUNT_)/;
const before = { ...process.env };

beforeEach(() => {
  for (const name of Object.keys(process.env)) if (MINE.test(name)) delete process.env[name];
  Object.assign(process.env, {
    AWS_EC2_METADATA_DISABLED: "true",
    AWS_CONFIG_FILE: "/nowhere/config",
    AWS_SHARED_CREDENTIALS_FILE: "/nowhere/credentials",
  });
});

afterEach(() => {
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, before);
});

test("everything comes from the environment where nothing is given", async (t) => {
  const stack = await FakeStack.start(t);
  Object.assign(process.env, {
    FLOWACCOUNT_CONNECT_URL: `${stack.url}/`,
    AWS_REGION: REGION,
    AWS_ACCESS_KEY_ID: KEYS.accessKeyId,
    AWS_SECRET_ACCESS_KEY: KEYS.secretAccessKey,
    AWS_SESSION_TOKEN: KEYS.sessionToken,
  });
  assert.equal((await new FlowAccountConnect().accessToken(ID)).generation, 1);
});

test("a profile is read as the AWS SDK reads it", async (t) => {
  const stack = await FakeStack.start(t);
  const file = join(mkdtempSync(join(tmpdir(), "profile-")), "credentials");
  writeFileSync(
    file,
    `[app]\naws_access_key_id=${KEYS.accessKeyId}\naws_secret_access_key=${KEYS.secretAccessKey}\naws_session_token=${KEYS.sessionToken}\n`,
  );
  Object.assign(process.env, { AWS_SHARED_CREDENTIALS_FILE: file, AWS_PROFILE: "app", AWS_DEFAULT_REGION: REGION });
  assert.equal((await new FlowAccountConnect({ url: stack.url }).accessToken(ID)).generation, 1);
});

test("a variable that is empty counts as absent", async (t) => {
  const stack = await FakeStack.start(t);
  Object.assign(process.env, { AWS_REGION: "", AWS_DEFAULT_REGION: REGION });
  assert.equal((await new FlowAccountConnect({ url: stack.url, credentials: KEYS }).accessToken(ID)).generation, 1);
});

test("no credentials anywhere: raised at once, with what to do", async (t) => {
  const stack = await FakeStack.start(t);
  const connect = new FlowAccountConnect({ url: stack.url, region: REGION });
  const error = await failure(connect.accessToken(ID), NotConfigured);
  assert.match(error.message, /AWS_PROFILE/);
  assert.equal(stack.seen.length, 0);
});

test("credentials that would break a header are refused without showing them", async (t) => {
  const stack = await FakeStack.start(t);
  for (const wrong of [
    { sessionToken: "secret-with\nbreak" },
    { accessKeyId: "secret- space" },
    { secretAccessKey: "" },
    { accessKeyId: "secret-กุญแจ" },
  ]) {
    const error = await failure(stack.client({ credentials: { ...KEYS, ...wrong } }).connection(ID), NotConfigured);
    assert.ok(error.message.includes(Object.keys(wrong)[0] ?? "?"));
  }
  assert.equal(stack.seen.length, 0);
});

/** What is wrong in the environment, and the word that the message must have. */
const MISCONFIGURED: Record<string, Record<string, string>> = {
  "a profile that is missing": { AWS_PROFILE: "secret-profile" },
  "a profile whose program fails": { AWS_PROFILE: "failing" },
  "a profile whose program writes no JSON": { AWS_PROFILE: "garbled" },
  "a profile whose role has no source": { AWS_PROFILE: "rootless" },
  "container credentials at a foreign host": { AWS_CONTAINER_CREDENTIALS_FULL_URI: "http://secret-host.example/x" },
  "container credentials at no URL": { AWS_CONTAINER_CREDENTIALS_FULL_URI: "secret-no url" },
  "a web identity whose token is missing": {
    AWS_ROLE_ARN: "arn:aws:iam::111122223333:role/app",
    AWS_WEB_IDENTITY_TOKEN_FILE: "/nowhere/secret-token",
  },
};

const PROFILES = `
[profile failing]
credential_process = sh -c "echo secret-output; exit 3"
[profile garbled]
credential_process = echo secret-output
[profile rootless]
role_arn = arn:aws:iam::111122223333:role/secret-app
source_profile = nobody
`;

for (const [name, variables] of Object.entries(MISCONFIGURED)) {
  test(`misconfigured, said at once and without a secret: ${name}`, async (t) => {
    const stack = await FakeStack.start(t);
    const file = join(mkdtempSync(join(tmpdir(), "config-")), "config");
    writeFileSync(file, PROFILES);
    Object.assign(process.env, { AWS_CONFIG_FILE: file, AWS_REGION: REGION, ...variables });
    // With all patience: what time does not help is not waited for.
    const connect = new FlowAccountConnect({ url: stack.url, patience: 600 });
    await failure(connect.accessToken(ID), NotConfigured);
    assert.equal(stack.seen.length, 0);
  });
}

test("a web identity that STS refuses is a mistake in the configuration; STS out of reach is a matter of time", async (t) => {
  const stack = await FakeStack.start(t);
  const file = join(mkdtempSync(join(tmpdir(), "identity-")), "token");
  writeFileSync(file, "secret-identity");
  const sts = createServer((_, response) => {
    const error = "<Error><Type>Sender</Type><Code>InvalidIdentityToken</Code><Message>secret-words</Message></Error>";
    response.writeHead(400, { "content-type": "text/xml" }).end(`<ErrorResponse>${error}</ErrorResponse>`);
  });
  await new Promise<void>((listening) => sts.listen(0, "127.0.0.1", listening));
  t.after(() => sts.close());
  const url = `http://127.0.0.1:${(sts.address() as AddressInfo).port}`;
  Object.assign(process.env, {
    AWS_REGION: REGION,
    AWS_ROLE_ARN: "arn:aws:iam::111122223333:role/app",
    AWS_WEB_IDENTITY_TOKEN_FILE: file,
    AWS_ENDPOINT_URL_STS: url,
  });
  const connect = new FlowAccountConnect({ url: stack.url, patience: 0 });
  assert.match((await failure(connect.accessToken(ID), NotConfigured)).message, /InvalidIdentityToken/);
  sts.closeAllConnections();
  await new Promise((closed) => sts.close(closed));
  assert.equal((await failure(connect.accessToken(ID), TemporarilyUnavailable)).code, "credentials_unavailable");
  assert.equal(stack.seen.length, 0);
});

test("a provider is asked once, by all who come, and again shortly before the credentials expire", async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: Date.now() });
  const stack = await FakeStack.start(t);
  let asked = 0;
  const credentials = async (): Promise<AwsCredentials> => {
    asked += 1;
    return { ...KEYS, expiration: new Date(Date.now() + 3_600_000) };
  };
  const connect = stack.client({ credentials });
  await Promise.all([1, 2, 3].map(() => connect.connection(ID)));
  assert.equal(asked, 1);
  t.mock.timers.tick(3_310_000);
  await connect.connection(ID);
  await connect.connection(ID);
  assert.equal(asked, 2);
});

test("a provider that fails: the network is a matter of time, all else is a mistake, and the next call asks again", async (t) => {
  const stack = await FakeStack.start(t);
  const errors = [
    Object.assign(new Error("secret-1"), { code: "ECONNRESET" }),
    Object.assign(new Error("secret-2"), { name: "InvalidIdentityToken", $metadata: { httpStatusCode: 400 } }),
    Object.assign(new Error("secret-3"), { name: "InternalError", $metadata: { httpStatusCode: 500 } }),
    Object.assign(new Error("secret-4"), { code: "ENOENT" }),
  ];
  const credentials = async (): Promise<AwsCredentials> => {
    const error = errors.shift();
    if (error) throw error;
    return KEYS;
  };
  const connect = stack.client({ credentials });
  assert.equal((await failure(connect.connection(ID), TemporarilyUnavailable)).code, "credentials_unavailable");
  assert.match((await failure(connect.connection(ID), NotConfigured)).message, /InvalidIdentityToken/);
  await failure(connect.connection(ID), TemporarilyUnavailable);
  await failure(connect.connection(ID), NotConfigured);
  assert.equal((await connect.connection(ID)).supportCode, ID);
});

test("the region: the option, then the one in the URL, then the environment and the profile; a wrong one is refused", async () => {
  const scopes: string[] = [];
  const spy: typeof fetch = async (_, init) => {
    scopes.push(/\/\d{8}\/([^/]+)\//.exec(new Headers(init?.headers).get("authorization") ?? "")?.[1] ?? "none");
    return new Response(null, { status: 204 });
  };
  const disconnect = (url: string, region?: string) =>
    new FlowAccountConnect({
      url,
      credentials: KEYS,
      fetch: spy,
      ...(region === undefined ? {} : { region }),
    }).disconnect(ID);
  const aws = "https://a1b2c3.execute-api.ap-southeast-7.amazonaws.com/live";
  const file = join(mkdtempSync(join(tmpdir(), "profile-")), "config");
  writeFileSync(file, "[profile app]\nregion = ap-southeast-3\n");
  await failure(disconnect("https://connect.example/live"), NotConfigured);
  Object.assign(process.env, { AWS_CONFIG_FILE: file, AWS_PROFILE: "app" });
  await disconnect("https://connect.example/live");
  Object.assign(process.env, { AWS_REGION: "eu-west-1" });
  await disconnect(aws);
  await disconnect(aws.replace("a1b2c3", "a1b2c3-vpce-0f"));
  await disconnect("https://vpce-0f-1a.execute-api.ap-southeast-7.vpce.amazonaws.com/live");
  await disconnect("https://connect.example/live");
  await disconnect(aws, "us-east-1");
  assert.equal(scopes.shift(), "ap-southeast-3");
  assert.deepEqual(scopes, ["ap-southeast-7", "ap-southeast-7", "ap-southeast-7", "eu-west-1", "us-east-1"]);
  assert.throws(() => disconnect(aws, "us\neast"), NotConfigured);
});
