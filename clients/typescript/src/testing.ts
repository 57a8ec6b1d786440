/**
 * A fake of the stack, so that an app tests its own code without AWS: it answers in the place of the network.
 *
 *     const fake = new FakeFlowAccountConnect();
 *     t.after(fake.start()); // From here on `new FlowAccountConnect()` finds the fake.
 *     fake.add("N1234567");
 *     fake.requireConsent("N1234567");
 *     assert.equal(await companyName("N1234567"), "Please connect FlowAccount again.");
 *
 * FlowAccount itself is not played: a stand-in of yours can ask `accepts` whether a request carries the newest token.
 */

import { randomBytes } from "node:crypto";

import { TokenCache } from "./tokens.js";

/** Where the fake answers. */
const URL_OF_FAKE = "https://flowaccount-connect.test/live";

/** What the environment of a process holds while the fake answers: AWS credentials of no account. */
const ENVIRONMENT = {
  FLOWACCOUNT_CONNECT_URL: URL_OF_FAKE,
  AWS_ACCESS_KEY_ID: "testing",
  AWS_SECRET_ACCESS_KEY: "testing",
  AWS_SESSION_TOKEN: "testing",
  AWS_REGION: "ap-southeast-1",
};

const LIFE = 86_400;

/** The statuses by which the API lists. */
const LISTED = ["active", "importing", "reauthorization_required", "disconnected"];

type Fields = Record<string, unknown>;

/** What the API answers instead, as a problem. */
class Refused extends Error {
  readonly #status: number;
  readonly #fields: Fields;

  constructor(status: number, code: string, more: Fields = {}) {
    super(`The fake knows no such connection, or refuses: ${code}.`);
    this.#status = status;
    this.#fields = { type: "about:blank", status, code, detail: `A fake ${code}.`, ...more };
  }

  answer(retryAfter = 0): Response {
    return Response.json(this.#fields, { status: this.#status, headers: { "retry-after": String(retryAfter) } });
  }
}

interface Stored {
  connection: Fields & { status: string; tenant: string | null; generation: number };
  token: Fields & { expiresAt: number; value: string; status: string };
  history: Fields[];
}

interface Link extends Fields {
  tenant: string;
  returnUrl: string;
  state: string | null;
  expected: string | null;
  ending: string | null;
  business: string;
  confirmation: string | undefined;
  connected: boolean;
}

/** A stack in memory. */
export class FakeFlowAccountConnect {
  /** Method and path of each request that came. */
  readonly requests: [method: string, path: string][] = [];
  readonly #stored = new Map<string, Stored>();
  readonly #links = new Map<string, Link>();
  readonly #failing: { refused: Refused; retryAfter: number }[] = [];

  /** Answer in the place of the network, in an environment of no account. Returns what ends that. */
  start(): () => void {
    const { fetch } = globalThis;
    // A profile of the developer's goes before the keys, and may start a program.
    const before = [...Object.keys(ENVIRONMENT), "AWS_PROFILE"].map((name) => [name, process.env[name]] as const);
    Object.assign(process.env, ENVIRONMENT);
    delete process.env["AWS_PROFILE"];
    globalThis.fetch = async (input, init) => {
      const request = new Request(input, init);
      return request.url.startsWith(`${URL_OF_FAKE}/`) ? this.#answer(request) : fetch(input, init);
    };
    TokenCache.forgetAll();
    return () => {
      globalThis.fetch = fetch;
      for (const [name, value] of before) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
      TokenCache.forgetAll();
    };
  }

  /** Connect a business. */
  add(connectionId: string, { tenant = null }: { tenant?: string | null } = {}): void {
    const known = this.#stored.get(connectionId);
    const connection = {
      support_code: connectionId,
      environment: "sandbox",
      status: "active",
      tenant,
      generation: known?.connection.generation ?? 0,
      connected_at: now(),
      deadline: now() + LIFE,
      refresh_at: now() + LIFE / 4,
    };
    const made: Stored = {
      connection,
      token: { expiresAt: 0, value: "", status: "active" },
      history: known?.history ?? [],
    };
    this.#stored.set(connectionId, made);
    this.#rotate(made, known ? "reconnected" : "connected");
  }

  /** Let the access token expire: the next request for one gets the next generation. */
  expire(connectionId: string): void {
    this.#known(connectionId).token.expiresAt = 0;
    TokenCache.forgetAll();
  }

  /** Serve tokens on, with a status that says that the next one is in danger. */
  endanger(connectionId: string, status = "refresh_failing"): void {
    this.#known(connectionId).token.status = status;
    TokenCache.forgetAll();
  }

  /** Let the connection end: the token route answers 409 `reauthorization_required`. */
  requireConsent(connectionId: string, reason = "rejected"): void {
    const stored = this.#known(connectionId);
    Object.assign(stored.connection, { status: "reauthorization_required", reason, since: now() });
    note(stored, "reauthorization_required");
    TokenCache.forgetAll();
  }

  /** Answer the next requests with a problem. */
  fail(status = 503, code = "store_unavailable", { times = 1, retryAfter = 0 } = {}): void {
    for (let left = times; left > 0; left -= 1) this.#failing.push({ refused: new Refused(status, code), retryAfter });
  }

  /** Whether a header `Authorization` carries the connection's newest token. */
  accepts(authorization: string | null | undefined, connectionId: string): boolean {
    return authorization === `Bearer ${this.#known(connectionId).token.value}`;
  }

  /**
   * Be the browser that opens a link and consents for `business`; the URL that it comes back to the app with.
   *
   * With an `ending` such as `access_denied` it comes back without a consent.
   */
  visit(connectUrl: string, { business = "N1234567", ending }: { business?: string; ending?: string } = {}): string {
    const link = this.#links.get(new URL(connectUrl).searchParams.get("link") ?? "");
    if (link === undefined) throw new Error("This is no link of the fake's.");
    const there = this.#stored.get(business)?.connection;
    const taken = there !== undefined && there.status !== "disconnected" && ![null, link.tenant].includes(there.tenant);
    const wrong = (link.expected !== null && link.expected !== business) || taken ? "wrong_business" : null;
    Object.assign(link, { ending: ending ?? wrong, business, confirmation: secret() });
    const back = new URL(link.returnUrl);
    if (link.ending !== null) back.searchParams.append("error", link.ending);
    back.searchParams.append("confirmation", link.confirmation ?? "");
    if (link.state !== null) back.searchParams.append("state", link.state);
    return back.href;
  }

  async #answer(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const path = decodeURIComponent(url.pathname.slice(new URL(URL_OF_FAKE).pathname.length));
    this.requests.push([request.method, path]);
    const failing = this.#failing.shift();
    if (failing !== undefined) return failing.refused.answer(failing.retryAfter);
    try {
      if (!request.headers.get("authorization")?.startsWith("AWS4-HMAC-SHA256 ")) throw new Refused(403, "not_signed");
      const text = await request.text();
      return this.#route(request.method, path, url.searchParams, text === "" ? {} : (JSON.parse(text) as Fields));
    } catch (error) {
      if (error instanceof Refused) return error.answer();
      throw error;
    }
  }

  #route(method: string, path: string, query: URLSearchParams, body: Fields): Response {
    const [, kind = "", id = "", part = ""] = path.split("/");
    switch (`${method} ${kind === "connections" ? "" : path}${id && kind === "connections" ? "id" : ""}/${part}`) {
      case "POST /connect-links/":
        return Response.json(this.#link(body), { status: 201 });
      case "POST /connect-links/confirm/":
        return Response.json(this.#confirmed(body));
      case "GET /":
        return Response.json({ connections: this.#listed(query), next: null });
      case "GET id/":
        return Response.json(this.#known(id).connection);
      case "GET id/history":
        return Response.json({ entries: this.#stored.get(id)?.history ?? [], next: null });
      case "POST id/":
        return Response.json(this.#imported(id, body));
      case "DELETE id/":
        this.#known(id).connection.status = "disconnected";
        note(this.#known(id), "disconnected");
        return new Response(null, { status: 204 });
      case "GET id/token":
      case "POST id/token":
        return Response.json(this.#token(id, body["rejected_generation"]));
      default:
        throw new Refused(403, "not_signed");
    }
  }

  #known(id: string): Stored {
    const found = this.#stored.get(id);
    if (found === undefined) throw new Refused(404, "connection_not_found");
    return found;
  }

  #listed(query: URLSearchParams): Fields[] {
    const wanted = ["status", "tenant"].filter((name) => query.has(name));
    if (query.has("status") && !LISTED.includes(String(query.get("status")))) throw new Refused(400, "invalid_status");
    return [...this.#stored.values()]
      .map(({ connection }) => connection as Fields)
      .filter((connection) => wanted.every((name) => connection[name] === query.get(name)));
  }

  #link(body: Fields): Fields {
    const id = secret();
    this.#links.set(id, {
      tenant: String(body["tenant"]),
      returnUrl: String(body["return_url"]),
      state: textOrNull(body["state"]),
      expected: textOrNull(body["expected_connection"]),
      ending: null,
      business: "",
      confirmation: undefined,
      connected: false,
    });
    const more = body["external_browser"] === true ? "&openExternalBrowser=1" : "";
    return { connect_url: `${URL_OF_FAKE}/authorize?link=${id}${more}`, expires_at: now() + 900 };
  }

  #confirmed(body: Fields): Fields {
    const link = [...this.#links.values()].find(({ confirmation }) => confirmation === body["confirmation"]);
    if (link === undefined) throw new Refused(404, "unknown_confirmation");
    if (link.ending !== null) throw new Refused(409, "connect_failed", { ending: link.ending });
    if (link.tenant !== body["tenant"]) {
      link.ending = "tenant_mismatch";
      throw new Refused(409, "tenant_mismatch", { ending: link.ending });
    }
    if (!link.connected) this.add(link.business, { tenant: link.tenant });
    link.connected = true;
    const { connection } = this.#known(link.business);
    if (connection.status === "disconnected") throw new Refused(409, "connect_failed", { ending: "disconnected" });
    return connection;
  }

  #imported(id: string, body: Fields): Fields {
    if (this.#stored.get(id)?.connection.status === "active") throw new Refused(409, "already_connected");
    this.add(id, { tenant: textOrNull(body["tenant"]) });
    return this.#known(id).connection;
  }

  #token(id: string, rejected: unknown): Fields {
    const stored = this.#known(id);
    const { connection } = stored;
    if (connection.status === "disconnected") throw new Refused(404, "connection_not_found");
    if (connection.status === "reauthorization_required") {
      const reconnect = { tenant: connection.tenant, expected_connection: id };
      const { reason, since } = connection as Fields;
      throw new Refused(409, "reauthorization_required", { reason, since, reconnect });
    }
    if (stored.token.expiresAt <= now() || rejected === connection.generation) this.#rotate(stored, "refreshed");
    return {
      access_token: stored.token.value,
      token_type: "Bearer",
      expires_in: stored.token.expiresAt - now(),
      support_code: id,
      environment: "sandbox",
      generation: connection.generation,
      status: stored.token.status,
    };
  }

  #rotate(stored: Stored, kind: string): void {
    const { connection } = stored;
    connection.generation += 1;
    Object.assign(connection, { requested_at: now(), access_expires_at: now() + LIFE });
    const value = `fake-${String(connection["support_code"])}-${connection.generation}-${secret()}`;
    stored.token = { value, expiresAt: now() + LIFE, status: "active" };
    note(stored, kind);
  }
}

function note({ connection, history }: Stored, kind: string): void {
  const { status, generation, tenant, reason, since, deadline } = connection as Fields;
  history.unshift({ id: secret(), kind, at: now(), status, generation, tenant, reason, since, deadline });
}

function now(): number {
  return Math.floor(Date.now() / 1000);
}

function secret(): string {
  return randomBytes(16).toString("base64url");
}

function textOrNull(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}
