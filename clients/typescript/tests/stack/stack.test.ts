/**
 * The installed package against a stack that runs: that of `make up`, after `eval "$(make env)"`.
 *
 * Besides, the environment names two businesses: READY, connected more than a minute ago, and DEAD, which only a new
 * consent brings back; the keys of a user without any permission (OTHER_KEY, OTHER_SECRET); and a signed WEBHOOK.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  AccessDenied,
  ConnectionNotFound,
  FlowAccountConnect,
  type FlowAccountConnectOptions,
  InvalidSignature,
  NotConfigured,
  Problem,
  ReauthorizationRequired,
  TemporarilyUnavailable,
  webhooks,
} from "flowaccount-connect";

import { Browser } from "./browser.js";

function env(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is missing in the environment`);
  return value;
}

const FLOWACCOUNT = env("FLOWACCOUNT_URL");
const COMPANY = `${FLOWACCOUNT}/test/company/info`;
const RETURN_URL = env("RETURN_URL");
const [READY, DEAD] = [env("READY"), env("DEAD")];
const [NEW, OLDER] = ["N1000001", "N1000005"];

/** A client that counts its requests to the stack. */
function counting(options: FlowAccountConnectOptions = {}): { connect: FlowAccountConnect; sent: string[] } {
  const sent: string[] = [];
  const counted: typeof fetch = (input, init) => {
    sent.push(`${init?.method ?? "GET"} ${new URL(input instanceof Request ? input.url : input).pathname}`);
    return fetch(input, init);
  };
  return { connect: new FlowAccountConnect({ ...options, fetch: counted }), sent };
}

/** One request to the stand-in's control. */
async function control<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
  const answer = await fetch(`${FLOWACCOUNT}/_control/${path}`, {
    method,
    headers: { "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  return (await answer.json()) as Answer;
}

/** How many refreshes of a business have reached the stand-in. */
async function refreshes(business: string): Promise<number> {
  const { requests } = await control<{ requests: { kind: string; grant: string; business: string }[] }>("GET", "requests");
  return requests.filter((one) => one.kind === "token" && one.grant === "refresh_token" && one.business === business).length;
}

async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const found: Item[] = [];
  for await (const item of items) found.push(item);
  return found;
}

async function nameOf(answer: Response): Promise<string> {
  return ((await answer.json()) as { data: { compnayName: string } }).data.compnayName;
}

test("a whole connect: link, browser, confirmation, the company's name", async () => {
  const connect = new FlowAccountConnect();
  await connect.disconnect(NEW).catch((error: unknown) => assert.ok(error instanceof ConnectionNotFound));
  const link = await connect.connectLink({ tenant: "tenant-7", returnUrl: RETURN_URL, state: "page-3" });
  assert.ok(link.expiresAt.getTime() > Date.now());
  // A disconnect ends all consents of its second, and of the one that follows.
  await new Promise((later) => setTimeout(later, 2000));
  const back = await new Browser().connect(link.connectUrl, "somchai", NEW);
  assert.equal(back.origin + back.pathname, RETURN_URL);
  assert.equal(back.searchParams.get("state"), "page-3");
  const confirmation = back.searchParams.get("confirmation") ?? "";
  const confirmed = await connect.confirm({ confirmation, tenant: "tenant-7" });
  assert.deepEqual([confirmed.supportCode, confirmed.tenant, confirmed.status], [NEW, "tenant-7", "active"]);
  assert.ok(confirmed.connectedAt instanceof Date && confirmed.deadline instanceof Date);
  assert.deepEqual(await connect.confirm({ confirmation, tenant: "tenant-7" }), confirmed, "a repetition says the same");
  const answer = await connect.flowaccountFetch(NEW)(COMPANY);
  assert.equal(answer.status, 200);
  assert.ok((await nameOf(answer)).length > 3);
});

test("who cancels, and a confirmation that is none, of another tenant, or not yet one", async () => {
  const connect = new FlowAccountConnect();
  const wanted = { tenant: "tenant-8", returnUrl: RETURN_URL, expectedConnection: "N1000002" };
  const cancelled = await connect.connectLink(wanted);
  const back = await new Browser().connect(cancelled.connectUrl, "somchai");
  assert.equal(back.searchParams.get("error"), "access_denied");
  const confirmation = back.searchParams.get("confirmation") ?? "";
  await assert.rejects(
    connect.confirm({ confirmation, tenant: "tenant-8" }),
    (error) => error instanceof Problem && error.code === "connect_failed" && error.ending === "access_denied",
  );
  await assert.rejects(
    connect.confirm({ confirmation: "made.up", tenant: "tenant-8" }),
    (error) => error instanceof Problem && error.code === "unknown_confirmation" && error.status === 404,
  );
  await assert.rejects(
    connect.connectLink({ ...wanted, returnUrl: "https://elsewhere.example/" }),
    (error) => error instanceof Problem && error.code === "return_url_not_allowed",
  );
});

test("fifty callers, one request; then none", async () => {
  const { connect, sent } = counting();
  const tokens = await Promise.all(Array.from({ length: 50 }, () => connect.accessToken(READY)));
  assert.equal(new Set(tokens).size, 1);
  assert.deepEqual(sent, [`GET /live/connections/${READY}/token`].map((path) => path.replace("/live", new URL(connect.url).pathname)));
  assert.equal(await connect.accessToken(READY), tokens[0]);
  assert.equal(sent.length, 1);
  assert.ok(!JSON.stringify(tokens[0]).includes(tokens[0]?.value ?? "-"));
});

test("one caller's abort is its own", async () => {
  const { connect, sent } = counting();
  const impatient = new AbortController();
  const first = connect.accessToken(READY, { signal: impatient.signal });
  const second = connect.accessToken(READY);
  impatient.abort(new Error("the user went away"));
  await assert.rejects(first, /the user went away/);
  assert.equal((await second).supportCode, READY);
  assert.equal(sent.length, 1);
});

test("after a 401 of FlowAccount's: one refresh, and the request succeeds", async () => {
  const connect = new FlowAccountConnect();
  const before = await connect.accessToken(READY);
  const count = await refreshes(READY);
  await control("POST", "faults", [{ path: "company", fault: "status", status: 401, processed: false }]);
  const answers = await Promise.all([1, 2, 3].map(() => connect.flowaccountFetch(READY)(COMPANY)));
  assert.deepEqual(answers.map((answer) => answer.status), [200, 200, 200]);
  const after = await connect.accessToken(READY);
  assert.equal(after.generation, before.generation + 1);
  assert.notEqual(after.value, before.value);
  assert.equal(await refreshes(READY), count + 1);
  // The token that was replaced already is reported once more: nothing is refreshed.
  assert.equal((await new FlowAccountConnect().reportRejected(before)).generation, after.generation);
  await assert.rejects(
    new FlowAccountConnect({ patience: 0 }).reportRejected(after),
    (error) =>
      error instanceof TemporarilyUnavailable && error.code === "refreshed_just_now" && error.retryAfter <= 60,
  );
  assert.equal(await refreshes(READY), count + 1);
});

test("a connection that only a new consent brings back says how", async () => {
  await assert.rejects(new FlowAccountConnect().accessToken(DEAD), (error) => {
    assert.ok(error instanceof ReauthorizationRequired);
    assert.deepEqual([error.reason, error.expectedConnection, error.tenant], ["rejected", DEAD, "tenant-9"]);
    assert.ok(error.since instanceof Date);
    const sent = JSON.parse(JSON.stringify(error)) as { expectedConnection: string };
    assert.equal(sent.expectedConnection, DEAD);
    return true;
  });
});

test("what AWS refuses is named", async () => {
  const given = { accessKeyId: env("AWS_ACCESS_KEY_ID"), secretAccessKey: env("AWS_SECRET_ACCESS_KEY") };
  const other = { accessKeyId: env("OTHER_KEY"), secretAccessKey: env("OTHER_SECRET") };
  const refused = async (options: FlowAccountConnectOptions) => {
    const error: unknown = await new FlowAccountConnect(options).connection(READY).catch((raised: unknown) => raised);
    assert.ok(error instanceof AccessDenied);
    assert.ok(!`${error.message} ${JSON.stringify(error)}`.includes(given.secretAccessKey));
    return error.denial;
  };
  assert.equal(await refused({ credentials: { ...given, secretAccessKey: "mistyped" } }), "keys");
  assert.equal(await refused({ credentials: { ...given, accessKeyId: "AKIAMISTYPED" } }), "keys");
  assert.equal(await refused({ credentials: other }), "permission");
  await assert.rejects(new FlowAccountConnect().connection("N4040404"), ConnectionNotFound);
  await assert.rejects(all(new FlowAccountConnect().history("N4040404")), ConnectionNotFound);
  assert.throws(() => new FlowAccountConnect({ url: "http://elsewhere.example/live" }), NotConfigured);
});

test("import, list, history, disconnect", async () => {
  const connect = new FlowAccountConnect();
  await connect.disconnect(OLDER).catch((error: unknown) => assert.ok(error instanceof ConnectionNotFound));
  await new Promise((later) => setTimeout(later, 2000));
  const made = await control<{ consents: { refresh_token: string }[] }>("POST", "consents", { business: OLDER });
  const refreshToken = made.consents[0]?.refresh_token ?? "";
  const imported = await connect.importConnection(OLDER, { refreshToken, tenant: "tenant-5" });
  assert.deepEqual([imported.supportCode, imported.status, imported.tenant], [OLDER, "active", "tenant-5"]);
  await assert.rejects(
    connect.importConnection(OLDER, { refreshToken }),
    (error) => error instanceof Problem && error.code === "already_connected" && !error.message.includes(refreshToken),
  );
  assert.deepEqual(
    (await all(connect.connections({ tenant: "tenant-5" }))).map((each) => each.supportCode),
    [OLDER],
  );
  const active = await all(connect.connections({ status: "active", pageSize: 1 }));
  assert.ok([OLDER, READY].every((id) => active.some((each) => each.supportCode === id)));
  const kinds = async () => (await all(connect.history(OLDER, { pageSize: 2 }))).map((each) => each.kind);
  for (let seconds = 0; seconds < 60 && !(await kinds()).includes("connected"); seconds += 1) {
    await new Promise((later) => setTimeout(later, 1000)); // The history follows a few seconds behind.
  }
  assert.ok((await kinds()).includes("connected"));
  assert.equal((await connect.accessToken(OLDER)).supportCode, OLDER);
  await connect.disconnect(OLDER);
  await connect.disconnect(OLDER);
  await assert.rejects(connect.accessToken(OLDER), ConnectionNotFound);
  assert.equal((await connect.connection(OLDER)).status, "disconnected");
});

test("a webhook, signed elsewhere", () => {
  const { body, headers, secret } = JSON.parse(env("WEBHOOK")) as Record<"body" | "secret", string> & {
    headers: Record<string, string>;
  };
  assert.deepEqual(webhooks.verify(body, headers, secret), JSON.parse(body));
  assert.throws(() => webhooks.verify(`${body} `, headers, secret), InvalidSignature);
});
