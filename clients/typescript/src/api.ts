/** The stack's HTTP API: one signed request and its answer, repeated while only time helps. */

import { setTimeout as sleep } from "node:timers/promises";

import { codeOf, denied } from "./denials.js";
import {
  ConnectionNotFound,
  FlowAccountConnectError,
  InvalidAnswer,
  Problem,
  ReauthorizationRequired,
  TemporarilyUnavailable,
} from "./errors.js";
import type { Signer } from "./signing.js";
import { untilAborted } from "./waiting.js";

/** Where this package writes what it does: `console` or any logger like it. Tokens are never written. */
export interface Logger {
  debug?(message: string): void;
  warn?(message: string): void;
}

export interface ApiOptions {
  readonly url: URL;
  readonly signer: Signer;
  readonly fetch: typeof fetch;
  readonly logger: Logger;
  /** Seconds that a call may wait for its repetitions, and that one request may take. */
  readonly patience: number;
  readonly timeout: number;
}

export interface Call {
  readonly method: "GET" | "POST" | "DELETE";
  /** Begins with a slash; each part is encoded. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly body?: Readonly<Record<string, unknown>>;
  readonly signal?: AbortSignal | undefined;
  /** Whether to send it again where only time helps; a repetition must do no harm. */
  readonly repeat?: boolean;
}

type Fields = Readonly<Record<string, unknown>>;

const LONGEST_ANSWER = 1 << 20;

export class Api {
  readonly #options: ApiOptions;

  constructor(options: ApiOptions) {
    this.#options = options;
  }

  /** The answer's JSON, `undefined` where it is empty. Raises `FlowAccountConnectError`, or the signal's reason. */
  async call(call: Call): Promise<unknown> {
    // By a clock that nobody sets back.
    const until = performance.now() + this.#options.patience * 1000;
    for (let pause = 0.5; ; pause = Math.min(pause * 2, 8)) {
      call.signal?.throwIfAborted();
      try {
        return await untilAborted(this.#once(call), call.signal);
      } catch (error) {
        if (!(error instanceof TemporarilyUnavailable) || call.repeat === false) throw error;
        const wait = Math.max(error.retryAfter, pause) * 1000;
        if (performance.now() + wait > until) throw error;
        this.#options.logger.debug?.(`FlowAccount Connect: ${error.code}, again in ${wait / 1000} s`);
        await sleep(wait, undefined, call.signal && { signal: call.signal }).catch(() => call.signal?.throwIfAborted());
      }
    }
  }

  async #once(call: Call): Promise<unknown> {
    const { signer, timeout, logger } = this.#options;
    const region = await signer.region();
    const url = new URL(this.#options.url.href.replace(/\/$/, "") + call.path + queryOf(call.query));
    const body = call.body && JSON.stringify(call.body);
    const headers = await signer.headers(call.method, url, body);
    const limit = AbortSignal.timeout(timeout * 1000);
    let answer: Response, text: string;
    try {
      answer = await this.#options.fetch(url, {
        method: call.method,
        headers,
        redirect: "manual",
        signal: call.signal ? AbortSignal.any([call.signal, limit]) : limit,
        ...(body === undefined ? {} : { body }),
      });
      text = await read(answer);
    } catch (error) {
      throw error instanceof FlowAccountConnectError ? error : this.#unanswered(error);
    }
    logger.debug?.(`FlowAccount Connect: ${call.method} ${url.pathname}: ${answer.status}`);
    const fields = parsed(text);
    if (answer.ok) {
      if ((text && fields === undefined) || (call.method === "DELETE") !== (answer.status === 204))
        throw new InvalidAnswer(`${url.origin} does not answer as FlowAccount Connect does: check the URL.`);
      return fields;
    }
    const about = typeof fields === "object" && fields !== null ? (fields as Fields) : {};
    throw refusal(answer, about, () => denied(answer, about, { method: call.method, url, region }));
  }

  /** The error of a request that got no whole answer. */
  #unanswered(error: unknown): FlowAccountConnectError {
    const { name, code, cause } = error as { name?: unknown; code?: unknown; cause?: { code?: unknown } };
    const word = String([cause?.code, code, name].find((each) => typeof each === "string") ?? "Error");
    const origin = this.#options.url.origin;
    if (/CERT|SSL|TLS|EPROTO|UNABLE_TO/.test(word)) {
      return new InvalidAnswer(
        `The certificate of ${origin} is not trusted (${word}): check the URL, or set NODE_EXTRA_CA_CERTS.`,
      );
    }
    if (/^(HPE_|Z_|ERR__|ERR_(BROTLI|ZLIB|ASSERTION)|UND_ERR_HEADERS_OVERFLOW)/.test(word)) {
      return new InvalidAnswer(
        `${origin} does not answer in proper HTTP (${word}): check the URL, and what stands in between.`,
      );
    }
    const why = word === "TimeoutError" ? `no answer in ${this.#options.timeout} seconds` : word;
    return new TemporarilyUnavailable(
      { code: "unreachable", status: 0, detail: `The stack's API cannot be reached (${why}).` },
      1,
    );
  }
}

function queryOf(query: Call["query"] = {}): string {
  const pairs = Object.entries(query).filter((pair) => pair[1] !== undefined);
  // As Signature Version 4 encodes: a space is %20, and these five are not left as they are.
  const encoded = (value: string) =>
    encodeURIComponent(value).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);
  return pairs.length === 0 ? "" : `?${pairs.map(([name, value]) => `${name}=${encoded(String(value))}`).join("&")}`;
}

async function read(answer: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of answer.body ?? []) {
    size += chunk.length;
    if (size > LONGEST_ANSWER)
      throw new InvalidAnswer("The answer is too long for FlowAccount Connect: check the URL.");
    chunks.push(chunk);
  }
  return new TextDecoder().decode(Buffer.concat(chunks));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // The parser's error would quote the text.
  }
}

/** The error of an answer that is none of success. */
function refusal(answer: Response, fields: Fields, whyDenied: () => Problem): FlowAccountConnectError {
  const status = answer.status;
  const text = (name: string) => (typeof fields[name] === "string" ? fields[name] : null);
  const code = codeOf(fields);
  const about = {
    code: code ?? "unavailable",
    status,
    detail: (code && (text("detail") ?? text("title"))) ?? `HTTP status ${status}`,
    requestId: text("request_id"),
    reason: text("reason"),
    ending: text("ending"),
  };
  if (status === 401 || status === 403) return whyDenied();
  if (status === 409 && code === "reauthorization_required") {
    const since = fields["since"];
    const way = fields["reconnect"];
    const reconnect: Fields = typeof way === "object" && way !== null ? (way as Fields) : {};
    const given = (name: string) => (typeof reconnect[name] === "string" ? reconnect[name] : null);
    return new ReauthorizationRequired(about, {
      since: typeof since === "number" ? new Date(since * 1000) : null,
      expectedConnection: given("expected_connection"),
      tenant: given("tenant"),
      reconnectUrl: text("reconnect_url"),
    });
  }
  if (status === 404 && code === "connection_not_found") return new ConnectionNotFound(about);
  if (status === 429 || [500, 502, 503, 504].includes(status)) {
    const header = answer.headers.get("retry-after") ?? "";
    return new TemporarilyUnavailable(about, /^\d{1,6}$/.test(header) ? Number(header) : 5);
  }
  if (code !== null && status >= 400) return new Problem(about);
  return new InvalidAnswer(
    `The API answers with status ${status}, and not as FlowAccount Connect does: check the URL.`,
  );
}
