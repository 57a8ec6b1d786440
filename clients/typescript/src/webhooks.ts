/** Webhooks of the stack, by the Standard Webhooks specification (https://www.standardwebhooks.com). */

import { createHmac, timingSafeEqual } from "node:crypto";

import { InvalidArgument, InvalidSignature, NotConfigured } from "./errors.js";

/** The headers of a request, as `fetch` or as Node's `http` has them. */
export type WebhookHeaders = Headers | Readonly<Record<string, string | string[] | undefined>>;

export interface VerifyOptions {
  /** The most seconds that the webhook's time may differ from this machine's; 300 by default. */
  readonly tolerance?: number;
}

/**
 * The event in a webhook that one of `secrets` (`whsec_…`) has signed: its JSON, read.
 *
 * `body` is what was received, byte by byte, before anything has read its JSON. A webhook may arrive twice, always with
 * the same `webhook-id`: remember the ids that you have worked on. Raises `InvalidSignature`, `InvalidArgument` for
 * a body that was read already, and `NotConfigured` where a secret is missing or malformed.
 */
export function verify<Payload = unknown>(
  body: string | Uint8Array,
  headers: WebhookHeaders,
  secrets: string | readonly string[],
  { tolerance = 300 }: VerifyOptions = {},
): Payload {
  const whole: boolean = typeof body === "string" || body instanceof Uint8Array;
  if (!whole) throw new InvalidArgument("Give the body as it came, before any parser of JSON (express.raw).");
  const keys = (typeof secrets === "string" ? [secrets] : secrets).map(keyOf);
  if (keys.length === 0) throw new NotConfigured("Give the secret of the webhooks.");
  const id = header(headers, "webhook-id");
  const timestamp = header(headers, "webhook-timestamp");
  const signatures = header(headers, "webhook-signature").split(" ");
  if (!/^\d{1,12}$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > tolerance) {
    throw new InvalidSignature("The webhook's time is too far from this machine's: it is old, or a clock is wrong.");
  }
  const good = keys.some((key) => {
    const expected = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest();
    return signatures.some(
      (signature) => signature.startsWith("v1,") && equal(Buffer.from(signature.slice(3), "base64"), expected),
    );
  });
  if (!good)
    throw new InvalidSignature("The webhook is not signed with any of these secrets, or was changed on its way.");
  const event = parsed(typeof body === "string" ? body : new TextDecoder().decode(body));
  if (typeof event !== "object" || event === null || Array.isArray(event))
    throw new InvalidSignature("The webhook is signed, and holds no event: it is none of FlowAccount Connect.");
  return event as Payload;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // The parser's error would quote the text.
  }
}

function keyOf(secret: string): Buffer {
  const encoded = /^(?:whsec_)?([A-Za-z0-9+/]+={0,2})$/.exec(String(secret).trim())?.[1] ?? "";
  const key = Buffer.from(encoded, "base64");
  // The specification asks for 24 to 64 bytes. An empty key would let anybody sign.
  if (key.length < 24) throw new NotConfigured("A webhook secret is whsec_ and at least 24 bytes in base64.");
  return key;
}

function header(headers: WebhookHeaders, name: string): string {
  const found =
    headers instanceof Headers
      ? headers.get(name)
      : Object.entries(headers).find(([key]) => key.toLowerCase() === name)?.[1];
  if (typeof found !== "string" || found === "")
    throw new InvalidSignature(`The request has no header ${name}: it is no webhook.`);
  return found;
}

function equal(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && timingSafeEqual(one, other);
}
