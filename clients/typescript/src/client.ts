/** The client: what an app asks of its stack, and FlowAccount's API with a valid token. */

import { Api, type Logger } from "./api.js";
import {
  AccessDenied,
  HostNotAllowed,
  InvalidAnswer,
  InvalidArgument,
  NotConfigured,
  Problem,
  ReauthorizationRequired,
  TemporarilyUnavailable,
} from "./errors.js";
import {
  AccessToken,
  type Connection,
  type ConnectionStatus,
  type ConnectLink,
  type HistoryEntry,
  readAccessToken,
  readConnection,
  readConnectLink,
  readHistoryEntry,
  readPage,
} from "./results.js";
import { type AwsCredentials, type AwsCredentialsProvider, Signer } from "./signing.js";
import { TokenCache, type Wanted } from "./tokens.js";

/** Where FlowAccount's business API is, in the sandbox and in production: the one origin that gets a token. */
export const FLOWACCOUNT = "https://openapi.flowaccount.com";

export interface FlowAccountConnectOptions {
  /** The base URL of the stack's API (its output `ApiUrl`); `FLOWACCOUNT_CONNECT_URL` by default. */
  readonly url?: string | URL;
  /** The stack's AWS region; by default the one in the URL, then `AWS_REGION`, then `AWS_DEFAULT_REGION`, then the profile's. */
  readonly region?: string;
  /** AWS credentials or a provider of them; by default what AWS SDK v3 finds in the environment. */
  readonly credentials?: AwsCredentials | AwsCredentialsProvider;
  /** Seconds that a call may wait for repetitions where only time helps; 30 by default, 0 for none. */
  readonly patience?: number;
  /** Seconds that one request may take; 35 by default (API Gateway gives up after 29). */
  readonly timeout?: number;
  /** Sends all requests; the global `fetch` by default. Give one of your own to use a proxy. */
  readonly fetch?: typeof fetch;
  /** Gets what is done (`debug`) and what is in danger (`warn`), never a token. Nothing is logged by default. */
  readonly logger?: Logger;
  /** Called with each token that is served while its connection is in danger: tell somebody. */
  readonly onDanger?: (token: AccessToken) => unknown;
}

export interface CallOptions {
  /** Ends this call alone; it then raises the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

export interface TokenOptions extends CallOptions {
  /** Seconds of life that the token has left where a refresh can bring that: 0 to 3600, 300 by default. */
  readonly minTtl?: number | undefined;
}

export interface FlowAccountFetchOptions extends Pick<TokenOptions, "minTtl"> {
  /** Origins that may get the token; by default `FLOWACCOUNT_URL` if it is set, else `FLOWACCOUNT` alone. */
  readonly allowedOrigins?: readonly string[];
}

export interface ListOptions extends CallOptions {
  /** Connections to ask for at once, 1 to 100. */
  readonly pageSize?: number;
}

export interface ConnectionsOptions extends ListOptions {
  readonly status?: ConnectionStatus;
  readonly tenant?: string;
}

/** The way to a fresh link, as the stack's events have it (`detail.reconnect`). */
export interface Reconnect {
  readonly tenant: string | null;
  readonly expected_connection: string;
}

/**
 * A stack of FlowAccount Connect. Make one and keep it: it keeps the tokens.
 *
 * Each method raises a `FlowAccountConnectError`: `TemporarilyUnavailable`, `AccessDenied`, `NotConfigured`,
 * `InvalidAnswer`, `InvalidArgument`, or another `Problem`. The documentation of a method names the errors that are its own.
 */
export class FlowAccountConnect {
  readonly url: string;
  readonly #api: Api;
  readonly #fetch: typeof fetch;
  readonly #logger: Logger;
  readonly #onDanger: ((token: AccessToken) => unknown) | undefined;
  readonly #tokens = new TokenCache();
  /** The token that brought each answer of FlowAccount's. */
  readonly #used = new WeakMap<Response, AccessToken>();

  /** Raises `NotConfigured` where the URL or the region is missing or wrong. */
  constructor(options: FlowAccountConnectOptions = {}) {
    const given = options.url ?? process.env["FLOWACCOUNT_CONNECT_URL"] ?? "";
    if (given === "")
      throw new NotConfigured(
        "Give the URL of the stack's API, or set FLOWACCOUNT_CONNECT_URL (the stack's output ApiUrl).",
      );
    const url = secureOf(given);
    if (url === undefined || url.search || url.hash)
      throw new NotConfigured(
        "The API's URL must be absolute https (http on a loopback host only), without a user name, and end with its path.",
      );
    this.url = url.href.replace(/\/$/, "");
    this.#fetch = options.fetch ?? ((...request) => fetch(...request));
    this.#logger = options.logger ?? {};
    this.#onDanger = options.onDanger;
    this.#api = new Api({
      url,
      signer: new Signer(url, options.region, options.credentials),
      fetch: this.#fetch,
      logger: this.#logger,
      patience: seconds(options.patience ?? 30, 0, "patience"),
      timeout: seconds(options.timeout ?? 35, 0.001, "timeout"),
    });
  }

  /**
   * An access token of the connection: the one that is kept while it lasts, else one from the stack. While the stack is
   * unavailable, a kept token that lives is served all the same.
   *
   * Raises `ConnectionNotFound`, `ReauthorizationRequired`.
   */
  async accessToken(connectionId: string, { minTtl = 300, signal }: TokenOptions = {}): Promise<AccessToken> {
    if (!(minTtl >= 0 && minTtl <= 3600)) throw new InvalidArgument("minTtl is 0 to 3600 seconds.");
    let token: AccessToken;
    try {
      token = await this.#token(connectionId, { minTtl }, signal);
    } catch (error) {
      const living = error instanceof TemporarilyUnavailable ? this.#tokens.living(connectionId) : undefined;
      if (living === undefined) throw error;
      this.#logger.warn?.(`FlowAccount Connect: the kept token of ${connectionId} is served, since there is no new one`);
      token = living;
    }
    if (token.inDanger) this.#endangered(token);
    return token;
  }

  /**
   * After FlowAccount refused a token: report it, and get the next one. `rejected` is the token, or an answer of
   * `flowaccountFetch`.
   *
   * `flowaccountFetch` does this by itself after a 401. Call it where FlowAccount answers 200 with `{"status": false}`
   * and words that mean a withdrawn consent. The stack refreshes such a connection at most once a minute. Raises
   * `ReauthorizationRequired` where only a new consent helps, and `TemporarilyUnavailable` (code `refreshed_just_now`)
   * where the token was new a moment ago.
   */
  async reportRejected(rejected: AccessToken | Response, { signal }: CallOptions = {}): Promise<AccessToken> {
    const token = rejected instanceof AccessToken ? rejected : this.#used.get(rejected);
    if (token === undefined)
      throw new InvalidArgument("reportRejected takes an AccessToken, or a Response of this client's flowaccountFetch.");
    return this.#token(token.supportCode, { minTtl: 0, rejected: token.generation }, signal);
  }

  /**
   * A `fetch` for FlowAccount's API, as one connected business: it adds the token, for FlowAccount's origin only.
   *
   * After a 401 it reports the token and repeats the request once with the next one. It does not repeat a body that can
   * be read only once: a stream, or that of a `Request`. It raises what `accessToken` and `fetch` raise, and
   * `HostNotAllowed` for another origin.
   */
  flowaccountFetch(connectionId: string, options: FlowAccountFetchOptions = {}): typeof fetch {
    pathOf(connectionId);
    const allowed = options.allowedOrigins ?? [process.env["FLOWACCOUNT_URL"] || FLOWACCOUNT];
    const origins = new Set(allowed.map(originOf));
    return async (input, init = {}) => {
      const url = new URL(input instanceof Request ? input.url : input);
      if (!origins.has(url.origin)) {
        throw new HostNotAllowed(
          `A token of FlowAccount's goes to ${[...origins].join(", ")} only, not to ${url.origin}.`,
        );
      }
      const given = input instanceof Request ? input : undefined;
      const signal = init.signal ?? given?.signal;
      const send = async (token: AccessToken) => {
        const headers = new Headers(init.headers ?? given?.headers);
        headers.set("authorization", `Bearer ${token.value}`);
        const answer = await this.#fetch(input, { ...init, headers });
        this.#used.set(answer, token);
        return answer;
      };
      const token = await this.accessToken(connectionId, { minTtl: options.minTtl, signal });
      const answer = await send(token);
      // `fetch` leaves the token out where a redirect leads to another origin: a 401 from there says nothing of it.
      if (answer.status !== 401 || (answer.redirected && new URL(answer.url).origin !== url.origin)) return answer;
      let next: AccessToken;
      try {
        next = await this.reportRejected(token, { signal });
      } catch (error) {
        // Here FlowAccount's own answer says more.
        if (error instanceof TemporarilyUnavailable || error instanceof AccessDenied) return answer;
        await answer.body?.cancel();
        throw error;
      }
      const body = init.body ?? given?.body;
      if (next.generation === token.generation || isStream(body)) return answer;
      await answer.body?.cancel();
      return send(next);
    };
  }

  /** The connection as it is now. Raises `ConnectionNotFound`. */
  async connection(connectionId: string, { signal }: CallOptions = {}): Promise<Connection> {
    return readConnection(await this.#api.call({ method: "GET", path: pathOf(connectionId), signal }));
  }

  /** All connections, or those of one status or tenant. Pages are fetched as they are needed. */
  async *connections({ status, tenant, pageSize, signal }: ConnectionsOptions = {}): AsyncGenerator<
    Connection,
    void,
    undefined
  > {
    yield* this.#list("/connections", { status, tenant, limit: pageSize }, "connections", readConnection, signal);
  }

  /** What happened to the connection in the last 90 days, newest first. Raises `ConnectionNotFound`. */
  async *history(
    connectionId: string,
    { pageSize, signal }: ListOptions = {},
  ): AsyncGenerator<HistoryEntry, void, undefined> {
    let empty = true;
    const entries = this.#list(`${pathOf(connectionId)}/history`, { limit: pageSize }, "entries", readHistoryEntry, signal);
    for await (const entry of entries) {
      empty = false;
      yield entry;
    }
    if (empty) await this.connection(connectionId, { signal }); // The API's list is empty for an id that it does not know.
  }

  /** End the connection: the stack deletes its tokens. A repetition does no harm. Raises `ConnectionNotFound`. */
  async disconnect(connectionId: string, { signal }: CallOptions = {}): Promise<void> {
    await this.#api.call({ method: "DELETE", path: pathOf(connectionId), signal });
    this.#tokens.forget(connectionId);
  }

  /**
   * Take over a refresh token from an older integration, which must not use it any more.
   *
   * The connection's status is `importing` while FlowAccount has not proved the token yet. Sent once only: after
   * `TemporarilyUnavailable`, look at `connection()` before you repeat it. Raises `Problem` with the code `import_refused`
   * (`reason` says why), `already_connected` or `import_under_way`.
   */
  async importConnection(
    connectionId: string,
    token: { refreshToken: string; tenant?: string },
    { signal }: CallOptions = {},
  ): Promise<Connection> {
    const body = { refresh_token: token.refreshToken, tenant: token.tenant };
    return readConnection(
      await this.#api.call({ method: "POST", path: pathOf(connectionId), body, signal, repeat: false }),
    );
  }

  /**
   * A link for one of your users: send the browser to `connectUrl`. `tenant` is the tenant of whoever is logged in. With
   * `externalBrowser` LINE opens the link in the phone's own browser.
   */
  async connectLink(
    wanted: {
      tenant: string;
      returnUrl: string;
      expectedConnection?: string;
      state?: string;
      externalBrowser?: boolean;
    },
    { signal }: CallOptions = {},
  ): Promise<ConnectLink> {
    const { tenant, returnUrl, expectedConnection, state, externalBrowser } = wanted;
    const body = {
      tenant,
      return_url: returnUrl,
      expected_connection: expectedConnection,
      state,
      external_browser: externalBrowser,
    };
    return readConnectLink(await this.#api.call({ method: "POST", path: "/connect-links", body, signal }));
  }

  /**
   * A fresh link for the user of a connection: its id, the error that asks for a new consent, or the `reconnect` of an event.
   *
   * Where the tenant is not named, the stack is asked for it. Raises `ConnectionNotFound`, and `InvalidArgument` for a
   * connection without a tenant: give yours to `connectLink`.
   */
  async reconnectLink(
    connection: string | ReauthorizationRequired | Reconnect,
    wanted: { returnUrl: string; state?: string; externalBrowser?: boolean },
    { signal }: CallOptions = {},
  ): Promise<ConnectLink> {
    let [expectedConnection, tenant]: [string, string | null] = ["", null];
    if (typeof connection === "string") expectedConnection = connection;
    else if (connection instanceof ReauthorizationRequired)
      [expectedConnection, tenant] = [connection.expectedConnection ?? "", connection.tenant];
    else [expectedConnection, tenant] = [connection.expected_connection, connection.tenant];
    tenant ??= (await this.connection(expectedConnection, { signal })).tenant;
    if (tenant === null)
      throw new InvalidArgument(`${expectedConnection} belongs to no tenant: give yours to connectLink.`);
    return this.connectLink({ ...wanted, tenant, expectedConnection }, { signal });
  }

  /**
   * Connect what the browser that brought `confirmation` back chose at FlowAccount. `tenant` is the tenant of whoever is
   * logged in there: take it from your own login, never from the browser's URL.
   *
   * A repetition says the same. Raises `Problem` where it is not to be confirmed: its `code` and `ending` say why.
   */
  async confirm(
    { confirmation, tenant }: { confirmation: string | null | undefined; tenant: string },
    { signal }: CallOptions = {},
  ): Promise<Connection> {
    if (typeof confirmation !== "string" || confirmation === "") {
      const detail = "The browser brought no confirmation.";
      throw new Problem({ code: "unknown_confirmation", status: 404, detail });
    }
    const body = { confirmation, tenant };
    const connection = readConnection(
      await this.#api.call({ method: "POST", path: "/connect-links/confirm", body, signal }),
    );
    this.#tokens.forget(connection.supportCode);
    return connection;
  }

  #token(connectionId: string, wanted: Wanted, signal: AbortSignal | undefined): Promise<AccessToken> {
    const path = `${pathOf(connectionId)}/token`;
    return this.#tokens.get(
      connectionId,
      wanted,
      async (signal) => {
        const askedAt = Date.now();
        const answer = await this.#api.call(
          wanted.rejected === undefined
            ? {
                method: "GET",
                path,
                query: { min_ttl: wanted.minTtl },
                signal,
                repeat: this.#tokens.living(connectionId) === undefined,
              }
            : { method: "POST", path, body: { rejected_generation: wanted.rejected }, signal },
        );
        const token = readAccessToken(answer, connectionId, askedAt);
        if (token.inDanger) {
          const until = token.expiresAt.toISOString();
          this.#logger.warn?.(
            `FlowAccount Connect: ${connectionId} is in danger (${token.status}); its token lasts until ${until}`,
          );
        }
        return token;
      },
      signal,
    );
  }

  #endangered(token: AccessToken): void {
    const failed = () => this.#logger.warn?.(`FlowAccount Connect: onDanger failed for ${token.supportCode}`);
    try {
      // It may be async: a rejection that nobody handles would end the process.
      void Promise.resolve(this.#onDanger?.(token)).catch(failed);
    } catch {
      failed();
    }
  }

  async *#list<Item>(
    path: string,
    query: Record<string, string | number | undefined>,
    name: string,
    read: (item: unknown) => Item,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Item, void, undefined> {
    let next: string | undefined;
    do {
      const page = readPage(
        await this.#api.call({ method: "GET", path, query: { ...query, next }, signal }),
        name,
        read,
      );
      yield* page.items;
      if (page.next === next) throw new InvalidAnswer("The API's list leads to the same page again: check the URL.");
      next = page.next ?? undefined;
    } while (next !== undefined);
  }
}

/** Raises `InvalidArgument` for what can be no id: it would lead to another route. */
function pathOf(connectionId: string): string {
  const isText: boolean = typeof connectionId === "string"; // A program in JavaScript may give `undefined`.
  if (isText && /^[A-Za-z0-9._-]{1,64}$/.test(connectionId) && !/^\.{1,2}$/.test(connectionId))
    return `/connections/${connectionId}`;
  throw new InvalidArgument("A connection's id is FlowAccount's supportCode: 1 to 64 letters, digits, '.', '_' or '-'.");
}

/** The origin of an entry of `allowedOrigins`. Raises `InvalidArgument` for one that is not secure, or more than an origin. */
function originOf(given: string): string {
  const url = secureOf(given);
  if (url?.pathname === "/" && !url.search && !url.hash) return url.origin;
  throw new InvalidArgument(
    "allowedOrigins holds https origins (http on a loopback host only), like https://openapi.example.",
  );
}

/** The URL if it is absolute https, or http on a loopback host, without a user name. */
function secureOf(given: string | URL): URL | undefined {
  if (!URL.canParse(String(given))) return undefined;
  const url = new URL(given);
  const loopback = ["localhost", "127.0.0.1", "[::1]"].includes(url.hostname);
  const secure = url.protocol === "https:" || (url.protocol === "http:" && loopback);
  return secure && !url.username && !url.password ? url : undefined;
}

/** A number of seconds that a timer can take. Raises `NotConfigured`. */
function seconds(given: number, least: number, what: string): number {
  if (given >= least && given <= 86_400) return given;
  throw new NotConfigured(`The option ${what} is a number of seconds, from ${least} to 86400.`);
}

function isStream(body: unknown): boolean {
  return typeof body === "object" && body !== null && Symbol.asyncIterator in body;
}
