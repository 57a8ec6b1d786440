/** What comes back from the network: whole, broken, refused, late. */

import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { createServer } from "node:net";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import {
  AccessDenied,
  FlowAccountConnect,
  FlowAccountConnectError,
  InvalidAnswer,
  NotConfigured,
  Problem,
  TemporarilyUnavailable,
  type Denial,
} from "../src/index.js";
import { connectionFields, FakeStack, failure, ID, json, KEYS, problem, REGION, running, type Reply } from "./fake.js";

const WHOLE = JSON.stringify({ ...connectionFields(ID), reason: "secret-of-the-body" });

/** Writes bytes of its own making in place of an answer. */
function raw(text: string, end: (response: ServerResponse) => void): Reply {
  return (response) => {
    response.socket?.write(text);
    end(response);
  };
}

const drop = (response: ServerResponse) => void response.socket?.destroySoon();
const reset = (response: ServerResponse) => void response.socket?.resetAndDestroy();

const UNREACHABLE: Record<string, Reply> = {
  "dropped before the answer": raw("", drop),
  "reset before the answer": raw("", reset),
  "cut in the headers": raw("HTTP/1.1 200 OK\r\nContent-Ty", drop),
  "cut in the body": raw(`HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n${WHOLE}`, drop),
  "reset in the body": raw(`HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n${WHOLE}`, reset),
  "cut between chunks": raw(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"sec\r\n`, drop),
  "stalled before the answer": raw("", () => {}),
  "stalled in the body": raw(`HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n${WHOLE}`, () => {}),
};

for (const [name, reply] of Object.entries(UNREACHABLE)) {
  test(`an answer that is ${name} is a matter of time, and is asked for again`, async (t) => {
    const stack = await FakeStack.start(t);
    stack.replies.push(reply);
    const error = await failure(stack.client({ timeout: 0.3 }).connection(ID), TemporarilyUnavailable);
    assert.deepEqual([error.code, error.status], ["unreachable", 0]);
    stack.replies.push(reply);
    assert.equal((await stack.client({ timeout: 0.3, patience: 20 }).connection(ID)).supportCode, ID);
    assert.equal(stack.seen.length, 3);
  });
}

const GARBLED: Record<string, Reply> = {
  HTML: (response) => response.writeHead(200, { "content-type": "text/html" }).end("<html>secret-page</html>"),
  "half JSON": (response) => response.writeHead(200).end(WHOLE.slice(0, -20)),
  empty: (response) => response.writeHead(200).end(),
  "a list": json(200, ["secret-list"]),
  null: json(200, null),
  "another API's": json(200, { access_token: "secret-other" }),
  "falsely gzipped": (response) => response.writeHead(200, { "content-encoding": "gzip" }).end(WHOLE),
  "gzipped, and cut": (response) =>
    response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync(WHOLE).subarray(0, 60)),
  "wrongly chunked": raw(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n${WHOLE}`, drop),
  "false brotli": raw("HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n{}", drop),
  "false deflate": raw("HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: 2\r\n\r\n{}", drop),
  "full of headers": raw(`HTTP/1.1 200 OK\r\nX: ${"x".repeat(99_999)}\r\n\r\n{}`, drop),
  "of no status": raw("HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n", drop),
  "without content": (response) => response.writeHead(204).end(),
  "no HTTP": raw("SSH-2.0-OpenSSH_9.2\r\n", drop),
  "a redirect": (response) => response.writeHead(302, { location: "https://evil.example/" }).end(),
  "without end": (response) => {
    const more = () => {
      while (response.write("secret-".repeat(4096)));
    };
    response.writeHead(200).on("drain", more);
    more();
  },
  "a 404 of something else": (response) => response.writeHead(404).end("<h1>secret-404</h1>"),
  "a 418": json(418, { code: "Secret-Code not ours" }),
};

for (const [name, reply] of Object.entries(GARBLED)) {
  test(`an answer that is ${name} is not the stack's, and that is raised at once`, async (t) => {
    const stack = await FakeStack.start(t);
    stack.replies.push(reply);
    const error = await failure(stack.client({ patience: 60 }).connection(ID), InvalidAnswer);
    assert.match(error.message, /check the URL/);
    assert.equal(stack.seen.length, 1);
  });
}

test("gzip and a byte order mark are read", async (t) => {
  const stack = await FakeStack.start(t);
  stack.replies.push((response) =>
    response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync(`\uFEFF${WHOLE}`)),
  );
  assert.equal((await stack.client().connection(ID)).reason, "secret-of-the-body");
});

test("nobody listens: unreachable", async (t) => {
  const { stack, connect } = await running(t);
  stack.stop();
  assert.match((await failure(connect.connection(ID), TemporarilyUnavailable)).message, /ECONNREFUSED/);
});

test("a server without TLS behind https is a wrong URL, not a matter of time", async (t) => {
  const server = createServer((socket) => socket.on("error", () => {}).end("HTTP/1.1 400 Bad Request\r\n\r\n"));
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  t.after(() => server.close());
  const url = `https://127.0.0.1:${(server.address() as { port: number }).port}/live`;
  const error = await failure(
    new FlowAccountConnect({ url, region: REGION, credentials: KEYS, patience: 60 }).connection(ID),
    InvalidAnswer,
  );
  assert.match(error.message, /certificate/);
});

for (const [status, code, header, after] of [
  [429, "too_many_requests", "2", 2],
  [503, "token_unavailable", "17", 17],
  [503, "store_unavailable", "Fri, 01 Jan 2027 00:00:00 GMT", 5],
  [502, "bad", "", 5],
  [500, "internal_error", "", 5],
  [504, "timeout", "", 5],
] as const) {
  test(`${status} ${code} with Retry-After "${header}" is temporary`, async (t) => {
    const stack = await FakeStack.start(t);
    stack.replies.push(problem(status, code, {}, header ? { "retry-after": header } : {}));
    const error = await failure(stack.client().accessToken(ID), TemporarilyUnavailable);
    assert.deepEqual([error.status, error.code, error.retryAfter], [status, code, after]);
  });
}

test("API Gateway's own 503, without a code, is temporary too", async (t) => {
  const stack = await FakeStack.start(t);
  stack.replies.push(json(503, { message: "Service Unavailable" }), (response) =>
    response.writeHead(502).end("<html>"),
  );
  assert.equal((await failure(stack.client().accessToken(ID), TemporarilyUnavailable)).status, 503);
  assert.equal((await failure(stack.client().accessToken(ID), TemporarilyUnavailable)).status, 502);
});

test("patience: repeated while it lasts, never sooner than Retry-After, and not at all where that is too long", async (t) => {
  const stack = await FakeStack.start(t);
  stack.replies.push(
    problem(503, "token_unavailable", {}, { "retry-after": "1" }),
    problem(429, "too_many_requests", {}, { "retry-after": "0" }),
  );
  const waits: string[] = [];
  const debug = (line: string) => void waits.push(...(/again in (.*) s/.exec(line)?.slice(1) ?? []));
  assert.equal((await stack.client({ patience: 20, logger: { debug } }).accessToken(ID)).generation, 1);
  assert.deepEqual(waits, ["1", "1"], "as long as the stack asks, and each time longer");
  assert.equal(stack.seen.length, 3);
  stack.replies.push(problem(503, "token_unavailable", {}, { "retry-after": "60" }));
  await failure(stack.client({ patience: 20 }).accessToken(ID), TemporarilyUnavailable);
  assert.equal(stack.seen.length, 4);
});

test("an abort ends the waiting", async (t) => {
  const stack = await FakeStack.start(t);
  stack.replies.push(problem(503, "store_unavailable", {}, { "retry-after": "50" }));
  const controller = new AbortController();
  const call = stack.client({
    patience: 100,
    logger: { debug: (line) => void (line.includes("again") && controller.abort(new Error("enough"))) },
  });
  await assert.rejects(call.connection(ID, { signal: controller.signal }), /enough/);
});

test("a problem keeps its code, reason, ending and request", async (t) => {
  const stack = await FakeStack.start(t);
  stack.replies.push(problem(409, "connect_failed", { ending: "wrong_business", reason: "rejected" }));
  const error = await failure(stack.client().confirm({ confirmation: "secret-c", tenant: "t" }), Problem);
  assert.deepEqual(
    [error.name, error.code, error.status, error.ending, error.reason, error.requestId, error.detail],
    ["Problem", "connect_failed", 409, "wrong_business", "rejected", "r-1", "Detail of connect_failed."],
  );
  assert.match(error.message, /connect_failed: .* \(request r-1\)/);
});

/** By the real signature, refused for real. */
async function denial(call: Promise<unknown>): Promise<[Denial, string]> {
  const error = await failure(call, AccessDenied);
  assert.equal(error.status, 403);
  return [error.denial, error.message];
}

const { sessionToken: _, ...WITHOUT_SESSION } = KEYS;

for (const [name, why, says, options, ahead] of [
  ["a clock that is behind", "clock", /(999|1000|1001) seconds behind/, {}, 1_000_000],
  ["a clock that is ahead", "clock", /(999|1000|1001) seconds ahead/, {}, -1_000_000],
  ["a wrong secret", "keys", /access key/, { credentials: { ...KEYS, secretAccessKey: "secret-wrong" } }, 0],
  ["a wrong access key", "keys", /access key/, { credentials: { ...KEYS, accessKeyId: "AKIDWRONG" } }, 0],
  ["a wrong session token", "keys", /access key/, { credentials: { ...KEYS, sessionToken: "secret-old" } }, 0],
  ["no session token", "keys", /access key/, { credentials: WITHOUT_SESSION }, 0],
  ["a wrong region", "region", /us-east-1/, { region: "us-east-1" }, 0],
] as const) {
  test(`${name} is refused for what it is`, async (t) => {
    const stack = await FakeStack.start(t);
    stack.ahead = ahead;
    const [found, message] = await denial(stack.client(options).connection(ID));
    assert.equal(found, why);
    assert.match(message, says);
  });
}

const USER =
  "User: arn:aws:iam::123456789012:user/app is not authorized to perform: execute-api:Invoke on resource: arn:aws:execute-api:…";

for (const [name, why, body, type] of [
  ["AWS's own words for a missing permission", "permission", { Message: USER }, "AccessDeniedException"],
  ["those words without the header", "permission", { Message: USER }, ""],
  ["an explicit deny", "permission", { Message: `${USER} with an explicit deny` }, "AccessDeniedException"],
  ["the stack's code for a missing permission", "permission", { code: "permission_denied", title: "Access denied" }, ""],
  ["AWS's own words for an unknown stage", "stage", { message: "Forbidden" }, "ForbiddenException"],
  [
    "AWS's own words for an unknown route",
    "stage",
    { message: "Missing Authentication Token" },
    "MissingAuthenticationTokenException",
  ],
  [
    "the stack's code for an unknown route",
    "stage",
    { code: "not_signed", title: "The request is not signed, or there is no such route" },
    "",
  ],
  [
    "AWS's own words for expired credentials",
    "expired",
    { message: "The security token included in the request is expired" },
    "ExpiredTokenException",
  ],
  [
    "the stack's code for expired credentials",
    "expired",
    { code: "credentials_expired", title: "The credentials have expired" },
    "",
  ],
  [
    "the stack's code for a wrong signature",
    "keys",
    { code: "invalid_signature", title: "The signature does not match" },
    "",
  ],
  ["a firewall's page", "unknown", "<html>secret-page</html>", ""],
] as const) {
  test(`403, ${name}: ${why}`, async (t) => {
    const stack = await FakeStack.start(t);
    stack.replies.push(json(403, body, type ? { "x-amzn-errortype": type } : {}));
    const [found, message] = await denial(stack.client().connection(ID));
    assert.equal(found, why);
    if (why === "permission") assert.match(message, new RegExp(`execute-api:Invoke on GET /live/connections/${ID}`));
    if (why === "stage") assert.match(message, /stage/);
  });
}

test("the stack's code for a wrong signature is a clock where the clocks differ", async (t) => {
  const stack = await FakeStack.start(t);
  const date = new Date(Date.now() + 3_600_000).toUTCString();
  stack.replies.push(json(403, { code: "invalid_signature", title: "The signature does not match" }, { date }));
  assert.equal((await denial(stack.client().connection(ID)))[0], "clock");
});

test("a fetch of the app's own is used, and its errors are translated", async (t) => {
  const stack = await FakeStack.start(t);
  const error = await failure(
    stack.client({ fetch: () => Promise.reject(new Error("secret-proxy")) }).connection(ID),
    TemporarilyUnavailable,
  );
  assert.equal(error.code, "unreachable");
  assert.equal(stack.seen.length, 0);
});

test("a number of seconds that no timer can take is refused at once", async () => {
  const url = "https://api.example/live";
  for (const wrong of [-1, NaN, Infinity, 1e9, "soon" as unknown as number]) {
    for (const options of [{ patience: wrong }, { timeout: wrong }, { timeout: 0 }]) {
      assert.throws(
        () => new FlowAccountConnect({ url, region: REGION, credentials: KEYS, ...options }),
        NotConfigured,
      );
    }
  }
});

test("every error can be sent to another thread, whole as JSON", async (t) => {
  const stack = await FakeStack.start(t);
  const about = { reason: "expired", since: 1_795_312_800, tenant: "tenant-7", expected_connection: ID };
  const all = [
    problem(409, "reauthorization_required", about),
    problem(409, "connect_failed", { ending: "access_denied" }),
    problem(404, "connection_not_found"),
    problem(503, "token_unavailable", {}, { "retry-after": "7" }),
    json(403, { message: "no" }, { "x-amzn-errortype": "AccessDeniedException" }),
    json(200, []),
  ];
  for (const reply of all) {
    stack.replies.push(reply);
    const error = await failure(stack.client().connection(ID), FlowAccountConnectError);
    const { shown: _, ...members } = error;
    const sent = JSON.parse(JSON.stringify(error)) as Record<string, unknown>;
    delete sent["shown"];
    assert.deepEqual(sent, JSON.parse(JSON.stringify({ ...members, name: error.name, message: error.message })));
    assert.ok(error.message.length > 10 && Object.keys(members).length > 0);
    assert.equal(structuredClone(error).message, error.message);
    assert.deepEqual(structuredClone(error.toJSON()), { ...error.toJSON() });
  }
});

test("a URL that is missing or unsafe is refused at once", async () => {
  delete process.env["FLOWACCOUNT_CONNECT_URL"];
  for (const url of [
    undefined,
    "",
    "api.example",
    "http://api.example/live",
    "https://user:secret-p@api.example/live",
    "ftp://127.0.0.1/",
    "https://api.example/live?x=secret-1",
  ]) {
    await failure(
      Promise.resolve().then(
        () => new FlowAccountConnect({ region: REGION, credentials: KEYS, ...(url === undefined ? {} : { url }) }),
      ),
      NotConfigured,
    );
  }
});
