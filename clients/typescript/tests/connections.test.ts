import assert from "node:assert/strict";
import { test } from "node:test";

import {
  ConnectionNotFound,
  InvalidAnswer,
  InvalidArgument,
  Problem,
  ReauthorizationRequired,
  TemporarilyUnavailable,
  type Connection,
} from "../src/index.js";
import { connectionFields, FakeStack, failure, ID, json, problem, type Reply, running } from "./fake.js";

async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const found: Item[] = [];
  for await (const item of items) found.push(item);
  return found;
}

test("a connection, as it is", async (t) => {
  const stack = await FakeStack.start(t);
  stack.connections.set(
    ID,
    connectionFields(ID, {
      status: "in_doubt",
      in_doubt_since: 1_795_270_000,
      consent_ends_at: 1_797_862_000,
      added_by_a_newer_stack: 1,
    }),
  );
  const expected: Connection = {
    supportCode: ID,
    environment: "sandbox",
    status: "in_doubt",
    tenant: "tenant-7",
    generation: 3,
    connectedAt: new Date("2026-11-21T02:00:00Z"),
    requestedAt: new Date("2026-11-21T14:00:00Z"),
    accessExpiresAt: new Date("2026-11-22T14:00:00Z"),
    deadline: new Date("2026-11-22T14:00:00Z"),
    refreshAt: new Date("2026-11-21T19:56:40Z"),
    consentEndsAt: new Date("2026-12-21T14:06:40Z"),
    inDoubtSince: new Date("2026-11-21T14:06:40Z"),
    atRiskSince: null,
    reason: null,
    since: null,
  };
  assert.deepEqual(await stack.client().connection(ID), expected);
  await failure(stack.client().connection("N0"), ConnectionNotFound);
});

test("a connection whose item the stack cannot read is listed like any other", async (t) => {
  const stack = await FakeStack.start(t);
  const unreadable = { status: "unreadable", environment: null, generation: 0, connected_at: null };
  stack.connections.set("N2", connectionFields("N2", unreadable));
  const listed = await all(stack.client().connections());
  assert.deepEqual(
    listed.map((each) => [each.supportCode, each.status, each.environment]),
    [
      [ID, "active", "sandbox"],
      ["N2", "unreadable", null],
    ],
  );
});

test("all connections, page by page, as they are needed", async (t) => {
  const stack = await FakeStack.start(t);
  for (let n = 0; n < 24; n += 1)
    stack.connections.set(`N${n}`, connectionFields(`N${n}`, { tenant: n % 2 ? "ร้าน สมชาย*!'()" : "other" }));
  const connect = stack.client();
  assert.deepEqual(
    (await all(connect.connections({ pageSize: 10 }))).map((each) => each.supportCode),
    [...stack.connections.keys()],
  );
  assert.deepEqual(
    stack.seen.map((seen) => seen.query),
    [{ limit: "10" }, { limit: "10", next: "10" }, { limit: "10", next: "20" }],
  );
  for await (const first of connect.connections({ pageSize: 10 })) {
    assert.equal(first.supportCode, ID);
    break;
  }
  assert.equal(stack.seen.length, 4, "no page is fetched that nobody looks at");
  const filtered = await all(connect.connections({ status: "active", tenant: "ร้าน สมชาย*!'()", pageSize: 5 }));
  assert.equal(filtered.length, 12);
  assert.deepEqual(stack.seen.at(-1)?.query, { status: "active", tenant: "ร้าน สมชาย*!'()", limit: "5", next: "10" });
});

test("a list that fails half way says so, after what came before", async (t) => {
  const stack = await FakeStack.start(t);
  stack.replies.push(
    json(200, { connections: [connectionFields(ID)], next: "x" }),
    problem(503, "store_unavailable", {}, { "retry-after": "9" }),
  );
  const found: string[] = [];
  const listing = async () => {
    for await (const each of stack.client().connections()) found.push(each.supportCode);
  };
  assert.equal((await failure(listing(), TemporarilyUnavailable)).retryAfter, 9);
  assert.deepEqual(found, [ID]);
  stack.replies.push(json(200, { connections: {}, next: null }));
  await failure(all(stack.client().connections()), InvalidAnswer);
});

test("a list that leads to the same page again ends", async (t) => {
  const stack = await FakeStack.start(t);
  const page = json(200, { connections: [connectionFields(ID)], next: "x" });
  stack.replies.push(page, page, page);
  await failure(all(stack.client().connections()), InvalidAnswer);
  assert.equal(stack.seen.length, 2);
});

test("a history of nothing: none has happened yet, or the connection is unknown", async (t) => {
  const stack = await FakeStack.start(t);
  assert.deepEqual(await all(stack.client().history(ID)), []);
  await failure(all(stack.client().history("N0")), ConnectionNotFound);
});

test("a history, page by page", async (t) => {
  const stack = await FakeStack.start(t);
  for (let n = 0; n < 5; n += 1) {
    stack.history.push({
      id: `e${n}`,
      kind: "refreshed",
      at: 1_795_226_400 + n,
      status: "active",
      generation: n,
      attempt_id: "a",
      tenant: null,
      reason: null,
      since: null,
      deadline: 1_795_356_000,
      consent_ends_at: 1_795_356_001,
      retries: 0,
      recovered_from: null,
    });
  }
  const entries = await all(stack.client().history(ID, { pageSize: 2 }));
  assert.deepEqual(
    entries.map((each) => each.id),
    ["e0", "e1", "e2", "e3", "e4"],
  );
  assert.deepEqual(entries[0], {
    id: "e0",
    kind: "refreshed",
    at: new Date("2026-11-21T02:00:00Z"),
    status: "active",
    generation: 0,
    attemptId: "a",
    tenant: null,
    reason: null,
    since: null,
    deadline: new Date("2026-11-22T14:00:00Z"),
    consentEndsAt: new Date("2026-11-22T14:00:01Z"),
    retries: 0,
    recoveredFrom: null,
  });
});

test("a link, and its confirmation", async (t) => {
  const { stack, connect } = await running(t);
  const link = await connect.connectLink({
    tenant: "tenant-7",
    returnUrl: "https://app.example/done",
    expectedConnection: ID,
    state: "s",
  });
  assert.deepEqual(link, { connectUrl: `${stack.url}/authorize?link=8x`, expiresAt: new Date(1_795_312_800_000) });
  await connect.connectLink({ tenant: "ร้าน", returnUrl: "https://app.example/done", externalBrowser: true });
  assert.equal((await connect.confirm({ confirmation: "../c?", tenant: "tenant-7" })).tenant, "tenant-7");
  assert.deepEqual(
    stack.seen.map((seen) => `${seen.method} ${seen.path}`),
    ["POST /connect-links", "POST /connect-links", "POST /connect-links/confirm"],
  );
  assert.deepEqual(stack.bodies, [
    { tenant: "tenant-7", return_url: "https://app.example/done", expected_connection: ID, state: "s" },
    { tenant: "ร้าน", return_url: "https://app.example/done", external_browser: true },
    { confirmation: "../c?", tenant: "tenant-7" },
  ]);
});

test("a fresh link for a connection is for its tenant and for that business, whoever asks for it", async (t) => {
  const stack = await FakeStack.start(t);
  stack.connections.set(ID, connectionFields(ID));
  const connect = stack.client();
  const whole = { tenant: "tenant-7", expected_connection: ID };
  const lost = async (reconnect: unknown) => {
    stack.replies.push(problem(409, "reauthorization_required", { reconnect }));
    return failure(connect.accessToken(ID), ReauthorizationRequired);
  };
  for (const [calls, connection] of [
    [2, ID],
    [1, whole],
    [2, { ...whole, tenant: null }],
    [1, await lost(whole)],
    [2, await lost({ expected_connection: ID })],
  ] as const) {
    const before = stack.seen.length;
    const link = await connect.reconnectLink(connection, {
      returnUrl: "https://app.example/done",
      state: "s",
      externalBrowser: true,
    });
    assert.equal(link.connectUrl, `${stack.url}/authorize?link=8x`);
    assert.equal(stack.seen.length - before, calls);
    assert.deepEqual(stack.seen.at(-1)?.body, {
      ...whole,
      return_url: "https://app.example/done",
      state: "s",
      external_browser: true,
    });
  }
  stack.connections.set(ID, connectionFields(ID, { tenant: null }));
  const before = stack.seen.length;
  const refused = connect.reconnectLink(ID, { returnUrl: "https://app.example/done" });
  assert.match((await failure(refused, InvalidArgument)).message, /no tenant/);
  const unnamed = connect.reconnectLink(await lost(null), { returnUrl: "https://app.example/done" });
  assert.match((await failure(unnamed, InvalidArgument)).message, /supportCode/);
  assert.equal(stack.seen.length - before, 2, "no link is asked for");
});

test("a new consent makes the client ask for the new token", async (t) => {
  const { stack, connect } = await running(t);
  await connect.accessToken(ID);
  stack.generation = 5;
  await connect.confirm({ confirmation: "c", tenant: "tenant-7" });
  assert.equal((await connect.accessToken(ID)).generation, 5);
});

test("a connection is ended, and its token is not kept", async (t) => {
  const { stack, connect } = await running(t);
  await connect.accessToken(ID);
  assert.equal(await connect.disconnect(ID), undefined);
  await failure(connect.accessToken(ID), ConnectionNotFound);
  stack.replies.push(problem(409, "connected_meanwhile"));
  assert.equal((await failure(connect.disconnect(ID), Problem)).code, "connected_meanwhile");
  for (const body of ["", "<html>a login page</html>"]) {
    stack.replies.push((response) => response.writeHead(200).end(body));
    await failure(connect.disconnect(ID), InvalidAnswer);
  }
});

test("an import is sent once, whatever comes back", async (t) => {
  const { stack, connect } = await running(t, { patience: 60 });
  assert.equal(
    (await connect.importConnection(ID, { refreshToken: "secret-refresh", tenant: "tenant-7" })).status,
    "importing",
  );
  assert.deepEqual(stack.seen[0]?.body, { refresh_token: "secret-refresh", tenant: "tenant-7" });
  const cut: Reply = (response) => void response.socket?.destroy();
  stack.replies.push(cut);
  await failure(connect.importConnection(ID, { refreshToken: "secret-refresh" }), TemporarilyUnavailable);
  stack.replies.push(problem(503, "store_unavailable", {}, { "retry-after": "1" }));
  await failure(connect.importConnection(ID, { refreshToken: "secret-refresh" }), TemporarilyUnavailable);
  assert.equal(stack.seen.length, 3);
  stack.replies.push(problem(409, "import_refused", { reason: "wrong_connection" }));
  const error = await failure(connect.importConnection(ID, { refreshToken: "secret-refresh" }), Problem);
  assert.deepEqual([error.code, error.reason], ["import_refused", "wrong_connection"]);
});
