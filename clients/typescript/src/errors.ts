/**
 * The errors of this package:
 *
 *     FlowAccountConnectError
 *     ├── NotConfigured
 *     ├── InvalidArgument
 *     ├── HostNotAllowed
 *     ├── InvalidAnswer
 *     ├── InvalidSignature
 *     └── Problem                     the stack refused
 *         ├── ConnectionNotFound
 *         ├── ReauthorizationRequired
 *         ├── TemporarilyUnavailable
 *         └── AccessDenied
 *
 * No error has a `cause`: the errors of `fetch`, `JSON.parse` and AWS's own answers may quote tokens.
 */

/**
 * What all errors of this package are. The message says what to do. No token is ever in it.
 *
 * `structuredClone`, and with it `postMessage`, keeps the message of an error and drops the other members: send
 * `error.toJSON()` to another thread or process.
 */
export class FlowAccountConnectError extends Error {
  override name = "FlowAccountConnectError";

  /** The message and all members, as plain values. */
  toJSON(): Record<string, unknown> {
    return { message: this.message, ...Object.fromEntries(Object.entries(this)) };
  }
}

/** The API's URL, the region, the AWS credentials or a webhook's secret is missing or wrong. */
export class NotConfigured extends FlowAccountConnectError {
  override name = "NotConfigured";
}

/** An argument of the call cannot be what it stands for. Nothing was sent. */
export class InvalidArgument extends FlowAccountConnectError {
  override name = "InvalidArgument";
}

/** The request goes to an origin that must not get a token of FlowAccount's. Nothing was sent. */
export class HostNotAllowed extends FlowAccountConnectError {
  override name = "HostNotAllowed";
}

/** What answered is not the API of FlowAccount Connect: the URL is wrong, or something stands in between. */
export class InvalidAnswer extends FlowAccountConnectError {
  override name = "InvalidAnswer";
}

/** A webhook was not signed with one of your secrets, or not in the last minutes. Answer it with status 401. */
export class InvalidSignature extends FlowAccountConnectError {
  override name = "InvalidSignature";
}

/** What a `Problem` is made of. */
export interface ProblemDetails {
  readonly code: string;
  readonly status: number;
  readonly detail: string;
  readonly requestId?: string | null;
  readonly reason?: string | null;
  readonly ending?: string | null;
}

/** The stack refused. Decide by `code`, which is stable, not by the words. */
export class Problem extends FlowAccountConnectError {
  override name = "Problem";
  /** One of the codes in the API's description. */
  readonly code: string;
  /** The HTTP status; 0 where no answer came. */
  readonly status: number;
  /** What to do about it, for a person. */
  readonly detail: string;
  /** Names the request in the stack's logs. */
  readonly requestId: string | null;
  /** Why a new consent is needed, or why an import was refused; `null` where the stack does not say. */
  readonly reason: string | null;
  /** How a connect ended (code `connect_failed`); `null` where the stack does not say. */
  readonly ending: string | null;

  constructor(details: ProblemDetails) {
    super(`${details.code}: ${details.detail}${details.requestId ? ` (request ${details.requestId})` : ""}`);
    this.code = details.code;
    this.status = details.status;
    this.detail = details.detail;
    this.requestId = details.requestId ?? null;
    this.reason = details.reason ?? null;
    this.ending = details.ending ?? null;
  }
}

/** That business was never connected to this stack, or has been disconnected. */
export class ConnectionNotFound extends Problem {
  override name = "ConnectionNotFound";
}

/** What `ReauthorizationRequired` says beside a problem; `null` where the stack does not say it. */
export interface LostConnection {
  readonly since: Date | null;
  readonly expectedConnection: string | null;
  readonly tenant: string | null;
  readonly reconnectUrl: string | null;
}

/** Only a new consent of the business's user helps: `reconnectLink(error, { returnUrl })` makes the link for that user. */
export class ReauthorizationRequired extends Problem implements LostConnection {
  override name = "ReauthorizationRequired";
  /** Since when. */
  readonly since: Date | null;
  /** The connection's id. */
  readonly expectedConnection: string | null;
  /** The tenant that the connection belongs to. */
  readonly tenant: string | null;
  /** Where the user can consent again, if the stack allows that without a link. */
  readonly reconnectUrl: string | null;

  constructor(details: ProblemDetails, lost: LostConnection) {
    super(details);
    this.since = lost.since;
    this.expectedConnection = lost.expectedConnection;
    this.tenant = lost.tenant;
    this.reconnectUrl = lost.reconnectUrl;
  }
}

/** Only time helps. A write may have happened or not. */
export class TemporarilyUnavailable extends Problem {
  override name = "TemporarilyUnavailable";
  /** In how many seconds to try again. */
  readonly retryAfter: number;

  constructor(details: ProblemDetails, retryAfter: number) {
    super(details);
    this.retryAfter = retryAfter;
  }
}

/**
 * Why AWS refused a request, by AWS's own words:
 * - `clock`: the clock of this machine is wrong;
 * - `expired`: the credentials have expired;
 * - `keys`: the access key, its secret or the session token is wrong;
 * - `permission`: a policy does not allow it;
 * - `region`: the signature is for another region;
 * - `stage`: the URL has no such stage or route;
 * - `unknown`: AWS does not say.
 */
export type Denial = "clock" | "expired" | "keys" | "permission" | "region" | "stage" | "unknown";

/** AWS did not let the request through; `denial` says why. */
export class AccessDenied extends Problem {
  override name = "AccessDenied";
  readonly denial: Denial;

  constructor(details: ProblemDetails, denial: Denial) {
    super(details);
    this.denial = denial;
  }
}
