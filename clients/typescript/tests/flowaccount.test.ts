import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";

import { HostNotAllowed, InvalidArgument, ReauthorizationRequired } from "../src/index.js";
import { FakeFlowAccount, failure, ID, json, problem, running } from "./fake.js";

async function both(t: TestContext) {
  const [{ stack, connect }, flowaccount] = [await running(t), await FakeFlowAccount.start(t)];
  return { stack, flowaccount, connect, call: connect.flowaccountFetch(ID, { allowedOrigins: [flowaccount.url] }) };
}

test("a request to FlowAccount carries the token", async (t) => {
  const { flowaccount, call } = await both(t);
  const answer = await call(`${flowaccount.url}/v1/company/info`);
  assert.equal(((await answer.json()) as { data: { compnayName: string } }).data.compnayName, "Somchai Trading");
  assert.deepEqual(flowaccount.seen, [{ authorization: "Bearer secret-access-1", body: "", path: "/v1/company/info" }]);
});

test("no other origin gets one, and nothing is sent to it", async (t) => {
  const { stack, flowaccount, connect, call } = await both(t);
  const other = await FakeFlowAccount.start(t);
  for (const url of [
    other.url,
    flowaccount.url.replace("127.0.0.1", "localhost"),
    "https://openapi.flowaccount.com.evil.example/",
    "https://openapi.flowaccount.com/",
  ]) {
    await failure(call(url), HostNotAllowed);
    await failure(call(new URL(url)), HostNotAllowed);
    await failure(call(new Request(url)), HostNotAllowed);
  }
  await failure(connect.flowaccountFetch(ID)("http://openapi.flowaccount.com/v1"), HostNotAllowed);
  assert.deepEqual([stack.seen, other.seen, flowaccount.seen], [[], [], []]);
  for (const origin of ["http://flowaccount.example", "flowaccount.example", "", "https://flowaccount.example/v1"]) {
    assert.throws(() => connect.flowaccountFetch(ID, { allowedOrigins: [origin] }), InvalidArgument);
  }
});

test("a redirect to another origin does not take the token along, and its 401 says nothing of the token", async (t) => {
  const { stack, flowaccount, connect } = await both(t);
  const other = await FakeFlowAccount.start(t);
  const call = connect.flowaccountFetch(ID, { allowedOrigins: [flowaccount.url, other.url] });
  flowaccount.reply = (response) => response.writeHead(302, { location: `${other.url}/elsewhere` }).end();
  assert.equal((await call(`${flowaccount.url}/v1/file`)).status, 401);
  assert.deepEqual(other.carried, [undefined]);
  assert.deepEqual(stack.bodies, [undefined], "a token is asked for, and none is reported");
});

for (const [name, input] of [
  ["text", (url: string) => [url, { method: "POST", body: "x=1", headers: { "x-own": "1" } }]],
  ["a form", (url: string) => [new URL(url), { method: "POST", body: new URLSearchParams({ x: "1" }) }]],
  ["nothing, in a Request", (url: string) => [new Request(url), undefined]],
] as const) {
  test(`after a 401 the token is reported and the request repeated once: ${name}`, async (t) => {
    const { stack, flowaccount, call } = await both(t);
    flowaccount.good = "secret-access-2";
    const [target, init] = input(`${flowaccount.url}/v1/x`);
    const answer = await call(target as string, init as RequestInit);
    assert.equal(answer.status, 200);
    assert.deepEqual(stack.bodies, [undefined, { rejected_generation: 1 }]);
    assert.deepEqual(flowaccount.carried, ["Bearer secret-access-1", "Bearer secret-access-2"]);
    assert.equal(flowaccount.seen[0]?.body, flowaccount.seen[1]?.body);
  });
}

test("a second 401 is the answer", async (t) => {
  const { stack, flowaccount, call } = await both(t);
  flowaccount.good = "another";
  assert.equal((await call(`${flowaccount.url}/v1/x`)).status, 401);
  assert.equal(flowaccount.seen.length, 2);
  assert.equal(stack.seen.length, 2);
});

test("where the stack answers with the refused token again, nothing is repeated", async (t) => {
  const { stack, flowaccount, connect, call } = await both(t);
  flowaccount.good = "another";
  await connect.accessToken(ID);
  stack.replies.push(json(200, stack.token()));
  assert.equal((await call(`${flowaccount.url}/v1/x`)).status, 401);
  assert.equal(flowaccount.seen.length, 1);
});

test("a body that can be read once is not repeated; its token is reported all the same", async (t) => {
  const { stack, flowaccount, connect, call } = await both(t);
  flowaccount.good = "secret-access-2";
  const stream = () => new Blob(["streamed"]).stream();
  const answer = await call(`${flowaccount.url}/v1/x`, { method: "POST", body: stream(), duplex: "half" });
  assert.deepEqual([answer.status, flowaccount.seen.map((seen) => seen.body)], [401, ["streamed"]]);
  assert.equal((await connect.accessToken(ID)).generation, 2);
  flowaccount.good = "secret-access-3";
  const given = new Request(`${flowaccount.url}/v1/x`, { method: "POST", body: "once" });
  assert.equal((await call(given)).status, 401);
  assert.equal(stack.generation, 3);
});

test("where the stack has no other token yet, FlowAccount's 401 is the answer; where there is none any more, that is raised", async (t) => {
  const { stack, flowaccount, connect, call } = await both(t);
  flowaccount.good = "another";
  await connect.accessToken(ID);
  stack.replies.push(problem(503, "refreshed_just_now", {}, { "retry-after": "30" }));
  const answer = await call(`${flowaccount.url}/v1/x`);
  assert.deepEqual([answer.status, await answer.json()], [401, { status: false, message: "Unauthorized" }]);
  stack.replies.push(json(200, stack.token()), problem(409, "reauthorization_required"));
  await failure(call(`${flowaccount.url}/v1/x`), ReauthorizationRequired);
});

test("a 200 that means a withdrawn consent is reported by its answer", async (t) => {
  const { stack, flowaccount, connect, call } = await both(t);
  flowaccount.reply = json(200, { status: false, message: "The consent was withdrawn." });
  const answer = await call(`${flowaccount.url}/v1/x`);
  assert.equal(((await answer.json()) as { status: boolean }).status, false);
  assert.equal((await connect.reportRejected(answer)).generation, 2);
  assert.equal((await connect.reportRejected(answer)).generation, 2, "that token was replaced already");
  assert.deepEqual(stack.bodies, [undefined, { rejected_generation: 1 }]);
  for (const other of [new Response(), {}, undefined, { supportCode: ID, generation: 1 }]) {
    await assert.rejects(connect.reportRejected(other as Response), InvalidArgument);
  }
  assert.equal(stack.seen.length, 2);
});

test("a signal ends the request, before and after the token has come", async (t) => {
  const { stack, flowaccount, call } = await both(t);
  await assert.rejects(call(flowaccount.url, { signal: AbortSignal.abort(new Error("gone")) }), /gone/);
  assert.deepEqual(flowaccount.seen, []);
  const controller = new AbortController();
  flowaccount.reply = () => controller.abort(new Error("gone later"));
  await assert.rejects(call(new Request(flowaccount.url, { signal: controller.signal })), /gone later/);
  assert.equal(stack.seen.length, 1);
});
