/** A small stack of FlowAccount Connect, and a small FlowAccount, over HTTP on loopback. */

import { createHash, createHmac } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { inspect } from "node:util";

import { FlowAccountConnect, type FlowAccountConnectOptions } from "../src/index.js";

export const REGION = "ap-southeast-1";
export const KEYS = {
  accessKeyId: "AKIDEXAMPLE",
  secretAccessKey: "wJalrXUtnFEMI",
  sessionToken: "session/token+of=STS",
};
export const ID = "N1234567";

export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly query: Record<string, string>;
  readonly headers: IncomingMessage["headers"];
  readonly body: Record<string, unknown> | undefined;
}

/** Answers one request, or spoils the answer. */
export type Reply = (response: ServerResponse, seen: Seen) => void;

export function json(status: number, body: unknown, headers: Record<string, string> = {}): Reply {
  return (response) => {
    const type = status < 400 ? "application/json" : "application/problem+json";
    response.writeHead(status, { "content-type": type, ...headers }).end(JSON.stringify(body));
  };
}

export function problem(
  status: number,
  code: string,
  more: Record<string, unknown> = {},
  headers: Record<string, string> = {},
): Reply {
  const body = {
    type: "about:blank",
    title: "Refused",
    status,
    code,
    detail: `Detail of ${code}.`,
    request_id: "r-1",
    ...more,
  };
  return json(status, body, headers);
}

/** A server on loopback that runs as long as a test. */
abstract class Loopback {
  readonly #server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => this.answer(request, response, Buffer.concat(chunks).toString()));
  });

  static async start<Kind extends Loopback>(this: new () => Kind, test: TestContext): Promise<Kind> {
    const started = new this();
    await new Promise<void>((listening) => started.#server.listen(0, "127.0.0.1", listening));
    test.after(() => started.stop());
    return started;
  }

  protected abstract answer(request: IncomingMessage, response: ServerResponse, body: string): void;

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

/** The stack. It checks each signature first; then the next of `replies` answers, or the stack itself. */
export class FakeStack extends Loopback {
  readonly seen: Seen[] = [];
  readonly replies: Reply[] = [];
  /** Milliseconds that the clock of AWS is ahead of this machine's. */
  ahead = 0;
  generation = 1;
  status = "active";
  expiresIn = 86_400;
  readonly connections = new Map<string, Record<string, unknown>>([[ID, connectionFields(ID)]]);
  readonly history: Record<string, unknown>[] = [];

  override get url(): string {
    return `${super.url}/live`;
  }

  /** What the requests held. */
  get bodies(): Seen["body"][] {
    return this.seen.map((seen) => seen.body);
  }

  client(options: FlowAccountConnectOptions = {}): FlowAccountConnect {
    return new FlowAccountConnect({ url: this.url, region: REGION, credentials: KEYS, patience: 0, ...options });
  }

  protected override answer(request: IncomingMessage, response: ServerResponse, body: string): void {
    const url = new URL(request.url ?? "", this.url);
    const seen: Seen = {
      method: request.method ?? "",
      path: url.pathname.replace(/^\/live/, ""),
      query: Object.fromEntries(url.searchParams),
      headers: request.headers,
      body: body === "" ? undefined : (JSON.parse(body) as Record<string, unknown>),
    };
    this.seen.push(seen);
    const now = Date.now() + this.ahead;
    response.setHeader("date", new Date(now).toUTCString());
    const refused = refusedSignature(request, body, now);
    (refused ?? this.replies.shift() ?? this.#route(seen))(response, seen);
  }

  #route({ method, path, query, body }: Seen): Reply {
    const [, first, id, last] = path.split("/");
    switch (`${method} ${first} ${last ?? ""}`) {
      case "GET connections token":
      case "POST connections token":
        if (!this.connections.has(id ?? "")) return problem(404, "connection_not_found");
        if (body?.["rejected_generation"] === this.generation) this.generation += 1;
        return json(200, this.token(id));
      case "GET connections history":
        return page("entries", this.history, query);
      case "GET connections ": {
        if (id === undefined) {
          const all = [...this.connections.values()];
          return page(
            "connections",
            all.filter((each) => ["status", "tenant"].every((name) => !query[name] || each[name] === query[name])),
            query,
          );
        }
        const found = this.connections.get(id);
        return found ? json(200, found) : problem(404, "connection_not_found");
      }
      case "DELETE connections ":
        if (!this.connections.delete(id ?? "")) return problem(404, "connection_not_found");
        return (response) => response.writeHead(204).end();
      case "POST connections ":
        return json(202, connectionFields(id ?? "", { status: "importing", tenant: body?.["tenant"] ?? null }));
      case "POST connect-links ":
        if (id === "confirm") return json(200, connectionFields(ID, { tenant: body?.["tenant"] }));
        return json(201, { connect_url: `${this.url}/authorize?link=8x`, expires_at: 1_795_312_800 });
    }
    return json(
      403,
      { message: "Missing Authentication Token" },
      { "x-amzn-errortype": "MissingAuthenticationTokenException" },
    );
  }

  token(id = ID): Record<string, unknown> {
    return {
      access_token: `secret-access-${this.generation}`,
      token_type: "Bearer",
      expires_in: this.expiresIn,
      expires_at: 1,
      support_code: id,
      environment: "sandbox",
      generation: this.generation,
      status: this.status,
    };
  }
}

/** A stack, and a client of it. */
export async function running(
  test: TestContext,
  options: FlowAccountConnectOptions = {},
): Promise<{ stack: FakeStack; connect: FlowAccountConnect }> {
  const stack = await FakeStack.start(test);
  return { stack, connect: stack.client(options) };
}

export function connectionFields(id: string, changed: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    support_code: id,
    environment: "sandbox",
    status: "active",
    tenant: "tenant-7",
    generation: 3,
    connected_at: 1_795_226_400,
    requested_at: 1_795_269_600,
    access_expires_at: 1_795_356_000,
    deadline: 1_795_356_000,
    refresh_at: 1_795_291_000,
    consent_ends_at: null,
    in_doubt_since: null,
    at_risk_since: null,
    reason: null,
    since: null,
    ...changed,
  };
}

function page(name: string, all: Record<string, unknown>[], query: Record<string, string>): Reply {
  const from = Number(query["next"] ?? "0");
  const to = from + Number(query["limit"] ?? "50");
  return json(200, { [name]: all.slice(from, to), next: to < all.length ? String(to) : null });
}

/** What AWS answers to a request whose Signature Version 4 is not good; `undefined` where it is. */
function refusedSignature(request: IncomingMessage, body: string, now: number): Reply | undefined {
  const refused = (type: string, message: string) => json(403, { message }, { "x-amzn-errortype": type });
  const pattern =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/execute-api\/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/;
  const found = pattern.exec(request.headers.authorization ?? "");
  if (found === null) return refused("MissingAuthenticationTokenException", "Missing Authentication Token");
  const [, key = "", day = "", region = "", signed = "", signature = ""] = found;
  if (region !== REGION)
    return refused("InvalidSignatureException", `Credential should be scoped to a valid region, not '${region}'.`);
  if (key !== KEYS.accessKeyId || request.headers["x-amz-security-token"] !== KEYS.sessionToken) {
    return refused("UnrecognizedClientException", "The security token included in the request is invalid.");
  }
  const stamp = String(request.headers["x-amz-date"]);
  const time = Date.parse(stamp.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6Z"));
  if (!stamp.startsWith(day) || now - time > 300_000) {
    return refused(
      "InvalidSignatureException",
      `Signature expired: ${stamp} is now earlier than ${new Date(now).toISOString()} (5 min.)`,
    );
  }
  if (time - now > 300_000)
    return refused("InvalidSignatureException", `Signature not yet current: ${stamp} is still later than now (5 min.)`);
  const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
  const mac = (secret: string | Buffer, text: string) => createHmac("sha256", secret).update(text).digest();
  const names = signed.split(";");
  for (const must of ["host", "x-amz-date", "x-amz-security-token", ...(body ? ["content-type"] : [])]) {
    if (!names.includes(must)) return refused("IncompleteSignatureException", `${must} is not signed`);
  }
  const [path = "", query = ""] = (request.url ?? "").split("?");
  const canonical = [
    request.method,
    path.split("/").map(encodeURIComponent).join("/"),
    query.split("&").sort().join("&"),
    ...names.map((name) => `${name}:${String(request.headers[name]).trim()}`),
    "",
    signed,
    sha256(body),
  ].join("\n");
  const toSign = ["AWS4-HMAC-SHA256", stamp, `${day}/${region}/execute-api/aws4_request`, sha256(canonical)].join("\n");
  const signingKey = [day, region, "execute-api", "aws4_request"].reduce<string | Buffer>(
    mac,
    `AWS4${KEYS.secretAccessKey}`,
  );
  if (mac(signingKey, toSign).toString("hex") === signature) return undefined;
  return refused(
    "InvalidSignatureException",
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing " +
      `method.\n\nThe Canonical String for this request should have been\n'${canonical}'\n\nThe String-to-Sign should have been\n'${toSign}'\n`,
  );
}

/** FlowAccount's API: takes one token, and answers 401 for any other. */
export class FakeFlowAccount extends Loopback {
  readonly seen: { authorization: string | undefined; body: string; path: string }[] = [];
  good = "secret-access-1";
  reply: Reply | undefined;

  /** The tokens that it was given. */
  get carried(): (string | undefined)[] {
    return this.seen.map((seen) => seen.authorization);
  }

  protected override answer(request: IncomingMessage, response: ServerResponse, body: string): void {
    const { authorization } = request.headers;
    const path = request.url ?? "";
    this.seen.push({ authorization, body, path });
    const own: Reply =
      authorization === `Bearer ${this.good}`
        ? json(200, { status: true, code: 0, data: { companyId: 6, compnayName: "Somchai Trading" } })
        : json(401, { status: false, message: "Unauthorized" });
    (this.reply ?? own)(response, {
      method: request.method ?? "",
      path,
      query: {},
      headers: request.headers,
      body: undefined,
    });
  }
}

/** The error that `promise` is rejected with, shown in every way that a log may show it. */
export async function failure<Kind extends Error>(
  promise: Promise<unknown>,
  kind: new (...given: never[]) => Kind,
): Promise<Kind & { shown: string }> {
  const error: unknown = await promise.then(
    () => new Error("nothing was raised"),
    (raised: unknown) => raised,
  );
  if (!(error instanceof kind)) throw error;
  const shown = [
    inspect(error, { depth: 9, showHidden: true }),
    String(error),
    error.stack,
    JSON.stringify(error),
  ].join("\n");
  for (const secret of ["secret-", KEYS.secretAccessKey, KEYS.sessionToken]) {
    if (shown.includes(secret)) throw new Error(`the error shows ${secret}: ${shown}`);
  }
  return Object.assign(error, { shown });
}
