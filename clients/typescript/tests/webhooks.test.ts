import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { test } from "node:test";

import { Webhook } from "standardwebhooks";

import { FlowAccountConnectError, InvalidArgument, InvalidSignature, NotConfigured, webhooks } from "../src/index.js";

const BODY = JSON.stringify({ "detail-type": "connection.at_risk", detail: { id: "e-1", tenant: "ร้านสมชาย" } });
const SECRET = secret();

function secret(size = 32): string {
  return `whsec_${randomBytes(size).toString("base64")}`;
}

/** Headers as the specification's own library makes them. */
function signed(key = SECRET, body = BODY, at = new Date()): Record<string, string> {
  return {
    "webhook-id": "msg-1",
    "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
    "webhook-signature": new Webhook(key).sign("msg-1", at, body),
  };
}

test("what the specification's library signs is read, in whatever form headers and body come", () => {
  const expected: unknown = JSON.parse(BODY);
  const headers = signed();
  assert.deepEqual(webhooks.verify(BODY, headers, SECRET), expected);
  assert.deepEqual(webhooks.verify(Buffer.from(BODY), new Headers(headers), [SECRET]), expected);
  const upper = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toUpperCase(), value]));
  assert.deepEqual(webhooks.verify(new TextEncoder().encode(BODY), upper, SECRET.replace("whsec_", "")), expected);
});

test("the specification's own example is good, apart from its age", (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: 1_614_265_330_000 });
  const headers = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
  };
  assert.deepEqual(webhooks.verify('{"test": 2432232314}', headers, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), {
    test: 2432232314,
  });
});

test("while a secret is replaced, either is good: of the receiver's, and of the sender's", () => {
  const other = secret();
  assert.ok(webhooks.verify(BODY, signed(other), [SECRET, other]));
  const two = signed();
  two["webhook-signature"] = `v1a,nothing ${signed(other)["webhook-signature"]} ${two["webhook-signature"]}`;
  assert.ok(webhooks.verify(BODY, two, SECRET));
});

test("what was changed, or signed by another, is refused", () => {
  const good = signed();
  const signature = good["webhook-signature"] ?? "";
  const wrong: [string, string, Record<string, string>][] = [
    ["the body", `${BODY} `, good],
    ["the id", BODY, { ...good, "webhook-id": "msg-2" }],
    ["the time", BODY, { ...good, "webhook-timestamp": String(Math.floor(Date.now() / 1000) - 9) }],
    ["the secret", BODY, signed(secret())],
    ["the version", BODY, { ...good, "webhook-signature": signature.replace("v1,", "v2,") }],
    ["a cut signature", BODY, { ...good, "webhook-signature": signature.slice(0, 20) }],
    ["an empty signature", BODY, { ...good, "webhook-signature": "v1," }],
    [
      "another algorithm",
      BODY,
      { ...good, "webhook-signature": `v1,${createHmac("sha1", "k").update(BODY).digest("base64")}` },
    ],
  ];
  for (const [what, body, headers] of wrong)
    assert.throws(() => webhooks.verify(body, headers, SECRET), InvalidSignature, what);
  for (const name of Object.keys(good)) {
    const { [name]: _, ...without } = good;
    assert.throws(() => webhooks.verify(BODY, without, SECRET), InvalidSignature, name);
    assert.throws(() => webhooks.verify(BODY, { ...good, [name]: ["a", "b"] }, SECRET), InvalidSignature, name);
  }
});

test("what is older or newer than five minutes, or than one asks, is refused", () => {
  const at = (seconds: number) => signed(SECRET, BODY, new Date(Date.now() + seconds * 1000));
  for (const seconds of [-290, 290]) assert.ok(webhooks.verify(BODY, at(seconds), SECRET));
  for (const seconds of [-310, 310]) assert.throws(() => webhooks.verify(BODY, at(seconds), SECRET), InvalidSignature);
  assert.ok(webhooks.verify(BODY, at(-310), SECRET, { tolerance: 400 }));
  for (const time of ["", "soon", "-1", "1e9", "NaN", "9".repeat(400)]) {
    assert.throws(() => webhooks.verify(BODY, { ...signed(), "webhook-timestamp": time }, SECRET), InvalidSignature);
  }
});

test("a secret that is none is a mistake in the configuration, and is not shown", () => {
  for (const wrong of ["", "whsec_", "whsec_c2hvcnQ=", "whsec_***************************************", []]) {
    assert.throws(() => webhooks.verify(BODY, signed(), wrong), NotConfigured);
  }
  const typo = `${secret()}!`;
  assert.throws(
    () => webhooks.verify(BODY, signed(), [SECRET, typo]),
    (error) => error instanceof FlowAccountConnectError && !error.message.includes(typo.slice(6, -1)),
  );
});

test("a body that is signed and no event is refused as such", () => {
  for (const body of ["{", "[]", "7", "null"])
    assert.throws(() => webhooks.verify(body, signed(SECRET, body), SECRET), /holds no event/);
});

test("a body that a parser has read already is the app's mistake, and named", () => {
  for (const body of [{ type: "connection.connected" }, undefined, null]) {
    assert.throws(() => webhooks.verify(body as unknown as string, signed(), SECRET), InvalidArgument);
  }
});

test("a secret may come with the line end of its file", () => {
  assert.ok(webhooks.verify(BODY, signed(), `${SECRET}\n`));
});
