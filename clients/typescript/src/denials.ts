/** Why AWS refused a signed request, read from what API Gateway answers. */

import { AccessDenied, type Denial } from "./errors.js";

/** AWS's own words (header `x-amzn-errortype`, message), and the stack's codes for them. The first match counts. */
const WORDS: readonly (readonly [Denial, RegExp])[] = [
  ["clock", /signature expired|signature not yet current|RequestExpired|RequestTimeTooSkewed/i],
  ["expired", /ExpiredToken|credentials_expired|token included in the request is expired/i],
  ["region", /should be scoped to/i],
  ["keys", /UnrecognizedClient|InvalidClientTokenId|token included in the request is invalid/i],
  ["keys", /InvalidSignature|invalid_signature|signature we calculated does not match/i],
  ["permission", /AccessDenied|permission_denied|not authorized to perform|explicit deny/i],
  ["stage", /MissingAuthenticationToken|missing authentication token|not_signed|Forbidden/i],
];

/** AWS takes signatures that are at most so old, in milliseconds. */
const SKEW = 300_000;

/** What was sent, as far as a person needs it to find the mistake. */
export interface Sent {
  readonly method: string;
  readonly url: URL;
  readonly region: string;
}

/**
 * The error of an answer with status 401 or 403. `fields` is its body.
 *
 * AWS's own text is not in it: for a wrong signature that text repeats the signed headers, the session token too.
 */
export function denied(answer: Response, fields: Readonly<Record<string, unknown>>, sent: Sent): AccessDenied {
  const words = ["message", "Message", "code", "title", "detail"].map((name) => fields[name]);
  const said = [answer.headers.get("x-amzn-errortype"), ...words].join("\n");
  const skew = Date.now() - Date.parse(answer.headers.get("date") ?? "");
  let denial = WORDS.find(([, pattern]) => pattern.test(said))?.[0] ?? "unknown";
  // The stack's own answer may keep AWS's words to itself; the two clocks still tell.
  if (denial === "keys" && Math.abs(skew) > SKEW) denial = "clock";
  const requestId = fields["request_id"] ?? answer.headers.get("x-amzn-requestid");
  return new AccessDenied(
    {
      code: codeOf(fields) ?? "forbidden",
      status: answer.status,
      detail: advice(denial, sent, skew),
      requestId: typeof requestId === "string" ? requestId : null,
    },
    denial,
  );
}

/** The stable code of a problem; `null` where the body is none. */
export function codeOf(fields: Readonly<Record<string, unknown>>): string | null {
  const code = fields["code"];
  return typeof code === "string" && /^[a-z_]{1,64}$/.test(code) ? code : null;
}

function advice(denial: Denial, sent: Sent, skew: number): string {
  const path = `${sent.method} ${sent.url.pathname}`;
  switch (denial) {
    case "clock": {
      const seconds = Math.round(Math.abs(skew) / 1000);
      const by = Number.isNaN(skew) ? "" : ` It is ${seconds} seconds ${skew > 0 ? "ahead of" : "behind"} the API's.`;
      return `The clock of this machine is wrong.${by} Set it, or turn time synchronization on.`;
    }
    case "expired":
      return "The AWS credentials have expired: renew them.";
    case "keys":
      return "AWS does not accept these AWS keys: the access key id, its secret or the session token is wrong or deleted.";
    case "permission":
      return `The AWS identity may not do this: its policy needs execute-api:Invoke on ${path}.`;
    case "region":
      return `The stack is not in ${sent.region}, for which the request was signed: set the option region, or AWS_REGION.`;
    case "stage":
      return `The API has no route ${path}: check API id, region and stage in the URL (the stack's output ApiUrl).`;
    case "unknown":
      return `AWS refused ${path} and does not say why: check the URL, the AWS credentials and their policy.`;
  }
}
