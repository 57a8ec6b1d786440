import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";

import { FlowAccountConnect, Problem, ReauthorizationRequired, TemporarilyUnavailable } from "../src/index.js";
import { FakeFlowAccountConnect } from "../src/testing.js";
import { failure, ID } from "./fake.js";

const RETURN_URL = "https://app.example/done?page=3";

function started(t: TestContext): FakeFlowAccountConnect {
  const fake = new FakeFlowAccountConnect();
  t.after(fake.start());
  return fake;
}

test("an app's own client meets the fake, and nothing of it stays behind", async () => {
  const [before, environment] = [globalThis.fetch, { ...process.env }];
  const fake = new FakeFlowAccountConnect();
  const stop = fake.start();
  try {
    fake.add(ID);
    assert.ok(fake.accepts(`Bearer ${(await new FlowAccountConnect().accessToken(ID)).value}`, ID));
    assert.deepEqual(fake.requests, [["GET", `/connections/${ID}/token`]]);
  } finally {
    stop();
  }
  assert.equal(globalThis.fetch, before);
  assert.deepEqual({ ...process.env }, environment);
});

test("tokens expire, are in danger, are refused, and end", async (t) => {
  const fake = started(t);
  const connect = new FlowAccountConnect({ patience: 0 });
  fake.add(ID, { tenant: "tenant-1" });
  const first = await connect.accessToken(ID);
  fake.expire(ID);
  const second = await connect.accessToken(ID);
  assert.deepEqual([first.generation, second.generation], [1, 2]);
  assert.equal((await connect.reportRejected(second)).generation, 3);
  fake.endanger(ID);
  assert.ok((await connect.accessToken(ID)).inDanger);
  fake.requireConsent(ID, "expired");
  const lost = await failure(connect.accessToken(ID), ReauthorizationRequired);
  assert.deepEqual([lost.reason, lost.tenant, lost.expectedConnection], ["expired", "tenant-1", ID]);
  fake.fail(503, "store_unavailable", { retryAfter: 7 });
  assert.equal((await failure(connect.accessToken(ID), TemporarilyUnavailable)).retryAfter, 7);
  const kinds: string[] = [];
  for await (const entry of connect.history(ID)) kinds.push(entry.kind);
  assert.deepEqual(kinds, ["reauthorization_required", "refreshed", "refreshed", "connected"]);
});

test("a whole connect, and each way in which it fails", async (t) => {
  const fake = started(t);
  const connect = new FlowAccountConnect();
  const link = async (expectedConnection?: string) =>
    (
      await connect.connectLink({
        tenant: "tenant-1",
        returnUrl: RETURN_URL,
        state: "s",
        ...(expectedConnection === undefined ? {} : { expectedConnection }),
      })
    ).connectUrl;
  const confirmed = (back: string, tenant = "tenant-1") =>
    connect.confirm({ confirmation: new URL(back).searchParams.get("confirmation"), tenant });
  const back = fake.visit(await link(), { business: ID });
  assert.deepEqual([...new URL(back).searchParams.keys()], ["page", "confirmation", "state"]);
  for (const _ of [1, 2]) assert.equal((await confirmed(back)).supportCode, ID);
  assert.equal((await connect.connection(ID)).tenant, "tenant-1");
  const code = async (url: string, tenant?: string) => {
    const { code, ending } = await failure(confirmed(url, tenant), Problem);
    return [code, ending];
  };
  assert.deepEqual(await code(fake.visit(await link(), { ending: "access_denied" })), ["connect_failed", "access_denied"]);
  assert.deepEqual(await code(fake.visit(await link("N7"), { business: "N8" })), ["connect_failed", "wrong_business"]);
  assert.deepEqual(await code(fake.visit(await link()), "tenant-2"), ["tenant_mismatch", "tenant_mismatch"]);
  assert.deepEqual(await code(`${RETURN_URL}&confirmation=x`), ["unknown_confirmation", null]);
  assert.deepEqual(await code(RETURN_URL), ["unknown_confirmation", null]);
});

test("connections are listed, imported and ended", async (t) => {
  const fake = started(t);
  const connect = new FlowAccountConnect();
  await connect.importConnection(ID, { refreshToken: "old", tenant: "tenant-1" });
  assert.equal((await failure(connect.importConnection(ID, { refreshToken: "old" }), Problem)).code, "already_connected");
  fake.add("N2");
  const listed: string[] = [];
  for await (const { supportCode } of connect.connections({ tenant: "tenant-1" })) listed.push(supportCode);
  assert.deepEqual(listed, [ID]);
  await connect.disconnect(ID);
  assert.equal((await failure(connect.accessToken(ID), Problem)).code, "connection_not_found");
});
