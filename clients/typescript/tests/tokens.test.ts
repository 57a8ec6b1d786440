import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";

import {
  ConnectionNotFound,
  InvalidAnswer,
  InvalidArgument,
  ReauthorizationRequired,
  TemporarilyUnavailable,
} from "../src/index.js";
import { AccessToken } from "../src/results.js";
import { TokenCache } from "../src/tokens.js";
import { FakeStack, failure, ID, json, KEYS, problem, running } from "./fake.js";

test("a token comes with what goes with it, and is kept", async (t) => {
  const { stack, connect } = await running(t);
  const token = await connect.accessToken(ID);
  assert.equal(token.value, "secret-access-1");
  assert.deepEqual(
    [token.supportCode, token.environment, token.generation, token.status],
    [ID, "sandbox", 1, "active"],
  );
  assert.ok(Math.abs(token.expiresAt.getTime() - Date.now() - 86_400_000) < 60_000);
  assert.equal(await connect.accessToken(ID), token);
  assert.deepEqual(
    stack.seen.map((seen) => [seen.method, seen.path, seen.query]),
    [["GET", `/connections/${ID}/token`, { min_ttl: "300" }]],
  );
});

test("a token is fetched anew before it has less life than was asked for", async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: Date.now() });
  const { stack, connect } = await running(t);
  stack.expiresIn = 1000;
  await connect.accessToken(ID);
  t.mock.timers.tick(699_000);
  await connect.accessToken(ID);
  assert.equal(stack.seen.length, 1);
  t.mock.timers.tick(2_000);
  await connect.accessToken(ID);
  assert.equal(stack.seen.length, 2);
});

test("while the stack is unavailable, a kept token is served as long as it lives, without waiting", async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: Date.now() });
  const { stack, connect } = await running(t, { patience: 600 });
  stack.expiresIn = 1000;
  const kept = await connect.accessToken(ID);
  t.mock.timers.tick(800_000);
  stack.replies.push(problem(503, "token_unavailable", {}, { "retry-after": "60" }));
  assert.equal(await connect.accessToken(ID), kept);
  t.mock.timers.tick(196_000);
  stack.replies.push(problem(503, "token_unavailable", {}, { "retry-after": "0" }));
  assert.notEqual(await connect.accessToken(ID), kept);
});

test("a token whose connection is in danger is asked for again after half a minute, and somebody is told", async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: Date.now() });
  const stack = await FakeStack.start(t);
  const told: string[] = [];
  const connect = stack.client({
    onDanger: (token) => {
      told.push(token.status);
      throw new Error("an app's own trouble");
    },
  });
  stack.status = "refresh_failing";
  assert.ok((await connect.accessToken(ID)).inDanger);
  await connect.accessToken(ID);
  assert.deepEqual([told, stack.seen.length], [["refresh_failing", "refresh_failing"], 1]);
  t.mock.timers.tick(31_000);
  stack.status = "active";
  assert.ok(!(await connect.accessToken(ID)).inDanger);
  assert.deepEqual([told.length, stack.seen.length], [2, 2]);
});

test("an async onDanger that fails is logged, and ends nothing", async (t) => {
  const stack = await FakeStack.start(t);
  const warned: string[] = [];
  const unhandled: unknown[] = [];
  process.on("unhandledRejection", (reason) => unhandled.push(reason));
  const onDanger = async () => {
    throw new Error("an app's own trouble");
  };
  const connect = stack.client({ onDanger, logger: { warn: (text) => warned.push(text) } });
  stack.status = "refresh_failing";
  await connect.accessToken(ID);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(warned.some((text) => text.includes("onDanger failed")));
  assert.deepEqual(unhandled, []);
});

test("a token with less life than was asked for is kept for half a minute, for those who ask for no more", async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: Date.now() });
  const { stack, connect } = await running(t);
  stack.expiresIn = 100;
  await connect.accessToken(ID, { minTtl: 0 });
  await connect.accessToken(ID, { minTtl: 300 });
  assert.equal(stack.seen.length, 2, "the first answer promised nothing of 300 seconds");
  await connect.accessToken(ID, { minTtl: 300 });
  assert.equal(stack.seen.length, 2);
  t.mock.timers.tick(31_000);
  await connect.accessToken(ID, { minTtl: 300 });
  assert.equal(stack.seen.length, 3);
});

test("a token that is about to end is not served from the cache", async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: Date.now() });
  const { stack, connect } = await running(t);
  stack.expiresIn = 20;
  await connect.accessToken(ID, { minTtl: 0 });
  t.mock.timers.tick(16_000);
  await connect.accessToken(ID, { minTtl: 0 });
  assert.equal(stack.seen.length, 2);
});

/** The next answer of a stack is a token, once `go` is called. */
function held(stack: FakeStack): { go: () => void; asked: Promise<void> } {
  let go = () => {};
  let arrived = () => {};
  const released = new Promise<void>((release) => (go = release));
  const asked = new Promise<void>((arrive) => (arrived = arrive));
  const reply = json(200, stack.token());
  stack.replies.push((response, seen) => {
    arrived();
    void released.then(() => reply(response, seen));
  });
  return { asked, go: () => go() };
}

test("fifty callers share one request", async (t) => {
  const { stack, connect } = await running(t);
  const slow = held(stack);
  const all = Array.from({ length: 50 }, () => connect.accessToken(ID));
  await slow.asked;
  slow.go();
  assert.equal(new Set(await Promise.all(all)).size, 1);
  assert.equal(stack.seen.length, 1);
});

test("fifty callers share one failure, and the next call asks again", async (t) => {
  const { stack, connect } = await running(t);
  stack.replies.push(problem(404, "connection_not_found"));
  const all = await Promise.allSettled(Array.from({ length: 50 }, () => connect.accessToken(ID)));
  assert.ok(all.every((each) => each.status === "rejected" && each.reason instanceof ConnectionNotFound));
  assert.equal(stack.seen.length, 1);
  assert.equal((await connect.accessToken(ID)).generation, 1);
});

test("who aborts is alone with it, even who asked first", async (t) => {
  const { stack, connect } = await running(t);
  const slow = held(stack);
  const impatient = new AbortController();
  const first = connect.accessToken(ID, { signal: impatient.signal });
  const others = Array.from({ length: 49 }, () => connect.accessToken(ID, { signal: new AbortController().signal }));
  await slow.asked;
  const why = new Error("the user went away");
  impatient.abort(why);
  await assert.rejects(first, (error) => error === why);
  slow.go();
  assert.ok((await Promise.all(others)).every((token) => token.value === "secret-access-1"));
  assert.equal(stack.seen.length, 1);
});

test("a request that nobody waits for is given up, and who comes then asks anew", async (t) => {
  const { stack, connect } = await running(t, { timeout: 3600 });
  const closed = new Promise<void>((close) => stack.replies.push((response) => response.on("close", close)));
  const impatient = new AbortController();
  const both = [1, 2].map(() => connect.accessToken(ID, { signal: impatient.signal }));
  while (stack.seen.length === 0) await new Promise((later) => setTimeout(later, 5));
  impatient.abort();
  assert.deepEqual(
    (await Promise.allSettled(both)).map((each) => each.status),
    ["rejected", "rejected"],
  );
  assert.equal((await connect.accessToken(ID)).generation, 1);
  await closed;
  assert.equal(stack.seen.length, 2);
});

test("an aborted signal sends nothing", async (t) => {
  const stack = await FakeStack.start(t);
  const signal = AbortSignal.abort(new Error("too late"));
  await assert.rejects(stack.client().accessToken(ID, { signal }), /too late/);
  await assert.rejects(stack.client().connection(ID, { signal }), /too late/);
  assert.equal(stack.seen.length, 0);
  const connect = stack.client();
  await connect.accessToken(ID);
  await assert.rejects(connect.accessToken(ID, { signal }), /too late/, "nor is what is kept served");
});

test("ten thousand tokens are kept; those that were not used for the longest time go first", async () => {
  const cache = new TokenCache();
  let fetched = 0;
  const get = (id: string) =>
    cache.get(id, { minTtl: 300 }, async () => {
      fetched += 1;
      return new AccessToken("t", {
        supportCode: id,
        environment: "sandbox",
        generation: 1,
        status: "active",
        expiresAt: new Date(Date.now() + 9e6),
      });
    });
  for (let n = 0; n < 10_000; n += 1) await get(`N${n}`);
  await get("N0"); // Used again, it is not the next to go.
  await get("N10000");
  assert.equal(fetched, 10_001);
  await get("N0");
  assert.equal(fetched, 10_001);
  await get("N1");
  assert.equal(fetched, 10_002);
});

test("a rejected token is reported by its generation, once for all, and never served again", async (t) => {
  const { stack, connect } = await running(t);
  const token = await connect.accessToken(ID);
  const all = await Promise.all([
    ...Array.from({ length: 20 }, () => connect.reportRejected(token)),
    connect.accessToken(ID),
  ]);
  assert.deepEqual(new Set(all.map((each) => each.generation)), new Set([2]));
  assert.deepEqual(
    stack.seen.slice(1).map((seen) => [seen.method, seen.body]),
    [["POST", { rejected_generation: 1 }]],
  );
  assert.equal((await connect.reportRejected(token)).generation, 2, "another has brought the next one already");
  assert.equal(stack.seen.length, 2);
});

test("who only wants a token does not suffer from a report that fails", async (t) => {
  const { stack, connect } = await running(t);
  const token = await connect.accessToken(ID);
  stack.replies.push(problem(503, "refreshed_just_now", {}, { "retry-after": "41" }));
  const report = connect.reportRejected(token);
  const other = connect.accessToken(ID);
  const error = await failure(report, TemporarilyUnavailable);
  assert.deepEqual([error.code, error.retryAfter], ["refreshed_just_now", 41]);
  assert.equal((await other).generation, 1);
});

test("a report that meets a request from before waits for it, and then asks for another token", async (t) => {
  const { stack, connect } = await running(t);
  stack.expiresIn = 1000;
  const token = await connect.accessToken(ID);
  const slow = held(stack);
  const ordinary = connect.accessToken(ID, { minTtl: 3600 });
  await slow.asked;
  const report = connect.reportRejected(token);
  slow.go();
  assert.equal((await ordinary).generation, 1);
  assert.equal((await report).generation, 2);
});

test("what was on its way when the connection was ended is not kept", async (t) => {
  const { stack, connect } = await running(t);
  const slow = held(stack);
  const before = connect.accessToken(ID);
  await slow.asked;
  await connect.disconnect(ID);
  slow.go();
  await before;
  await failure(connect.accessToken(ID), ConnectionNotFound);
});

test("a new consent is needed: why, since when, and where", async (t) => {
  const stack = await FakeStack.start(t);
  stack.replies.push(
    problem(409, "reauthorization_required", {
      reason: "expired",
      since: 1_795_312_800,
      reconnect: { tenant: "tenant-7", expected_connection: ID },
      reconnect_url: "https://app.example/again",
    }),
  );
  const error = await failure(stack.client().accessToken(ID), ReauthorizationRequired);
  assert.deepEqual(
    [error.reason, error.since, error.expectedConnection, error.tenant, error.reconnectUrl],
    ["expired", new Date(1_795_312_800_000), ID, "tenant-7", "https://app.example/again"],
  );
  assert.deepEqual([error.status, error.code, error.requestId], [409, "reauthorization_required", "r-1"]);
});

test("an answer that gives no proper token of this connection is none", async (t) => {
  const { stack, connect } = await running(t);
  const wrong: Record<string, unknown>[] = [
    { access_token: "" },
    { access_token: 7 },
    { expires_in: 1e300 },
    { access_token: "secret-\nx" },
    { access_token: "secret-ไทย" },
    { expires_in: "soon" },
    { generation: 1.5 },
    { generation: null },
    { support_code: "N7654321" },
    { status: null },
  ];
  for (const changed of wrong) {
    stack.replies.push(json(200, { ...stack.token(), ...changed }));
    const error = await failure(connect.accessToken(ID), InvalidAnswer);
    assert.ok(error.message.includes(Object.keys(changed)[0] ?? "?"), error.message);
  }
});

test("an id that leads elsewhere is refused before anything is sent", async (t) => {
  const stack = await FakeStack.start(t);
  const noText = [undefined, null, 7, ["N1"]] as unknown as string[];
  for (const id of ["", ".", "..", "a/b", "N1?x=1", "N1#", "%2e", "ก", "N".repeat(65), ...noText]) {
    await failure(stack.client().accessToken(id), InvalidArgument);
    assert.throws(() => stack.client().flowaccountFetch(id), InvalidArgument);
  }
  for (const minTtl of [-1, 3601, NaN, "soon" as unknown as number])
    await failure(stack.client().accessToken(ID, { minTtl }), InvalidArgument);
  assert.equal(stack.seen.length, 0);
});

test("a connection in danger is logged as a warning, and nothing that is logged or inspected has a token", async (t) => {
  const stack = await FakeStack.start(t);
  const lines: string[] = [];
  const note = (line: string) => void lines.push(line);
  stack.status = "refresh_failing";
  stack.replies.push(problem(503, "token_unavailable", {}, { "retry-after": "0" }));
  const connect = stack.client({ logger: { debug: note, warn: (line) => note(`warning: ${line}`) }, patience: 10 });
  const token = await connect.accessToken(ID);
  await connect.accessToken(ID);
  assert.equal(lines.filter((line) => line.startsWith("warning:") && line.includes("refresh_failing")).length, 1);
  assert.ok(lines.some((line) => line.includes("503")));
  const shown = [
    ...lines,
    inspect(connect, { depth: 9, showHidden: true }),
    inspect(token, { showHidden: true }),
    JSON.stringify({ connect, token }),
    `${token}`,
  ].join("\n");
  assert.ok(shown.includes(ID));
  for (const secret of ["secret-access", KEYS.secretAccessKey, KEYS.sessionToken])
    assert.ok(!shown.includes(secret), shown);
});
