/** What the API answers, as types, and how it is read. Times are `Date`s; `null` where the stack has nothing to say. */

import { InvalidAnswer } from "./errors.js";

/** One of the known words, or one that a newer stack may add. */
type OrNewer<Known extends string> = Known | (string & {});

export type Environment = OrNewer<"sandbox" | "production">;

/**
 * - `in_doubt`: active, but it is unknown whether FlowAccount took the last refresh token;
 * - `refresh_failing`: active, but FlowAccount refuses its refresh; that is not final yet;
 * - `importing`: an import is not proved yet;
 * - `disconnected`: ended by you; the stack keeps it for 30 days;
 * - `unreadable`: its item in the stack's table cannot be understood; only `supportCode` and `generation` are sure.
 */
export type ConnectionStatus = OrNewer<
  | "active"
  | "in_doubt"
  | "refresh_failing"
  | "importing"
  | "reauthorization_required"
  | "disconnected"
  | "unreadable"
>;

/** A business that was connected. */
export interface Connection {
  /** FlowAccount's own code of the business: the id of the connection. */
  readonly supportCode: string;
  /** `null` for an `unreadable` connection. */
  readonly environment: Environment | null;
  readonly status: ConnectionStatus;
  /** Your tenant for which it was confirmed. */
  readonly tenant: string | null;
  /** Counts every change of its tokens. */
  readonly generation: number;
  readonly connectedAt: Date | null;
  /** When the request that brought its tokens was sent. */
  readonly requestedAt: Date | null;
  readonly accessExpiresAt: Date | null;
  /** When its refresh token dies unless it is refreshed. */
  readonly deadline: Date | null;
  /** When it is refreshed, or tried again, next. */
  readonly refreshAt: Date | null;
  /** When the consent ends, however often it is refreshed; `null` where nothing says that it does. */
  readonly consentEndsAt: Date | null;
  readonly inDoubtSince: Date | null;
  readonly atRiskSince: Date | null;
  /** Why a new consent is needed. */
  readonly reason: string | null;
  /** Since when it needs a new consent, is ended, or is being imported. */
  readonly since: Date | null;
}

/** Something that happened to a connection. */
export interface HistoryEntry {
  /** The same wherever the same thing is reported; events carry it too. */
  readonly id: string;
  /** For example `connected`, `refreshed`, `at_risk`, `disconnected`; the API's description lists them. */
  readonly kind: string;
  readonly at: Date;
  /** The status that it left behind. */
  readonly status: ConnectionStatus | null;
  readonly generation: number | null;
  readonly attemptId: string | null;
  readonly tenant: string | null;
  readonly reason: string | null;
  readonly since: Date | null;
  readonly deadline: Date | null;
  readonly consentEndsAt: Date | null;
  readonly retries: number | null;
  readonly recoveredFrom: string | null;
}

/** Where to send the browser of one of your users. It is a secret of that user until it is used or has expired. */
export interface ConnectLink {
  readonly connectUrl: string;
  readonly expiresAt: Date;
}

/** `refresh_failing`, `in_doubt` and `reauthorization_required` say that there may be no token after this one. */
export type TokenStatus = OrNewer<"active" | "refresh_failing" | "in_doubt" | "reauthorization_required">;

/**
 * An access token of FlowAccount's. Only `value` gives the token: `console.log`, `JSON.stringify` and `util.inspect`
 * do not show it.
 */
export class AccessToken {
  readonly supportCode: string;
  readonly environment: Environment;
  readonly generation: number;
  readonly status: TokenStatus;
  /** By the clock of this machine. */
  readonly expiresAt: Date;
  readonly #value: string;

  constructor(
    value: string,
    about: Pick<AccessToken, "supportCode" | "environment" | "generation" | "status" | "expiresAt">,
  ) {
    this.supportCode = about.supportCode;
    this.environment = about.environment;
    this.generation = about.generation;
    this.status = about.status;
    this.expiresAt = about.expiresAt;
    this.#value = value;
  }

  /** Whether there may be no token after this one. */
  get inDanger(): boolean {
    return this.status !== "active";
  }

  /** The token itself, for the header `Authorization: Bearer …`. */
  get value(): string {
    return this.#value;
  }
}

/** A page of a list, and what to ask for as `next`. */
export interface Page<Item> {
  readonly items: Item[];
  readonly next: string | null;
}

/** Reads the members of one JSON object. Raises `InvalidAnswer` for a member that is missing or of another kind. */
class Members {
  readonly #fields: Readonly<Record<string, unknown>>;

  constructor(answer: unknown) {
    if (typeof answer !== "object" || answer === null) throw new InvalidAnswer(NOT_THE_API);
    this.#fields = answer as Record<string, unknown>;
  }

  text(name: string): string {
    const value = this.#fields[name];
    return typeof value === "string" && value !== "" ? value : wrong(name);
  }

  number(name: string): number {
    const value = this.#fields[name];
    return typeof value === "number" && Number.isFinite(value) ? value : wrong(name);
  }

  integer(name: string): number {
    const value = this.number(name);
    return Number.isSafeInteger(value) ? value : wrong(name);
  }

  time(name: string): Date {
    return dateOf(this.integer(name) * 1000, name);
  }

  list(name: string): unknown[] {
    const value = this.#fields[name];
    return Array.isArray(value) ? value : wrong(name);
  }

  /** What `read` reads, or `null` where the member is `null` or absent. */
  maybe<Value>(read: (name: string) => Value, name: string): Value | null {
    return this.#fields[name] === undefined || this.#fields[name] === null ? null : read.call(this, name);
  }
}

const NOT_THE_API = "What answered is not the API of FlowAccount Connect: check the URL.";

function wrong(name: string): never {
  throw new InvalidAnswer(`The answer has no proper member "${name}". ${NOT_THE_API}`);
}

/** The time so many milliseconds after the epoch. Raises `InvalidAnswer` for what no `Date` can hold. */
function dateOf(milliseconds: number, name: string): Date {
  const date = new Date(milliseconds);
  return Number.isNaN(date.getTime()) ? wrong(name) : date;
}

export function readConnection(answer: unknown): Connection {
  const has = new Members(answer);
  return {
    supportCode: has.text("support_code"),
    environment: has.maybe(has.text, "environment"),
    status: has.text("status"),
    tenant: has.maybe(has.text, "tenant"),
    generation: has.integer("generation"),
    connectedAt: has.maybe(has.time, "connected_at"),
    requestedAt: has.maybe(has.time, "requested_at"),
    accessExpiresAt: has.maybe(has.time, "access_expires_at"),
    deadline: has.maybe(has.time, "deadline"),
    refreshAt: has.maybe(has.time, "refresh_at"),
    consentEndsAt: has.maybe(has.time, "consent_ends_at"),
    inDoubtSince: has.maybe(has.time, "in_doubt_since"),
    atRiskSince: has.maybe(has.time, "at_risk_since"),
    reason: has.maybe(has.text, "reason"),
    since: has.maybe(has.time, "since"),
  };
}

export function readHistoryEntry(answer: unknown): HistoryEntry {
  const has = new Members(answer);
  return {
    id: has.text("id"),
    kind: has.text("kind"),
    at: has.time("at"),
    status: has.maybe(has.text, "status"),
    generation: has.maybe(has.integer, "generation"),
    attemptId: has.maybe(has.text, "attempt_id"),
    tenant: has.maybe(has.text, "tenant"),
    reason: has.maybe(has.text, "reason"),
    since: has.maybe(has.time, "since"),
    deadline: has.maybe(has.time, "deadline"),
    consentEndsAt: has.maybe(has.time, "consent_ends_at"),
    retries: has.maybe(has.integer, "retries"),
    recoveredFrom: has.maybe(has.text, "recovered_from"),
  };
}

export function readConnectLink(answer: unknown): ConnectLink {
  const has = new Members(answer);
  return { connectUrl: has.text("connect_url"), expiresAt: has.time("expires_at") };
}

export function readPage<Item>(answer: unknown, name: string, read: (item: unknown) => Item): Page<Item> {
  const has = new Members(answer);
  return { items: has.list(name).map(read), next: has.maybe(has.text, "next") };
}

/** The token of the connection `supportCode`; its life counts from `askedAt`, in milliseconds since the epoch. */
export function readAccessToken(answer: unknown, supportCode: string, askedAt: number): AccessToken {
  const has = new Members(answer);
  const value = has.text("access_token");
  // A token is sent in a header (RFC 6750 section 2.1); one of another business must never be used.
  if (!/^[!-~]+$/.test(value)) wrong("access_token");
  if (has.text("support_code") !== supportCode) wrong("support_code");
  return new AccessToken(value, {
    supportCode,
    environment: has.text("environment"),
    generation: has.integer("generation"),
    status: has.text("status"),
    expiresAt: dateOf(askedAt + has.number("expires_in") * 1000, "expires_in"),
  });
}
