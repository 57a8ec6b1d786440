/** Signs requests with AWS Signature Version 4, for the service `execute-api`. */

import { Sha256 } from "@aws-crypto/sha256-js";
import { loadSharedConfigFiles, memoize } from "@smithy/core/config";
import { SignatureV4 } from "@smithy/signature-v4";

import { FlowAccountConnectError, NotConfigured, TemporarilyUnavailable } from "./errors.js";

/** AWS credentials, as AWS SDK v3 has them. */
export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  readonly expiration?: Date;
}

/** Brings AWS credentials: any provider of `@aws-sdk/credential-providers` is one. */
export type AwsCredentialsProvider = () => Promise<AwsCredentials>;

/** Credentials are fetched anew so many milliseconds before they expire. */
const EARLY = 300_000;

/** What a network does to the providers that fetch credentials; all else is a mistake in the configuration. */
const PASSING =
  /^(ECONN|ETIMEDOUT|EAI_AGAIN|ENOTFOUND|ENETUNREACH|EHOSTUNREACH|EPIPE|Timeout|Throttling|TooManyRequests)/;

export class Signer {
  readonly #region: string | undefined;
  readonly #signer: SignatureV4;

  /** Raises `NotConfigured` for what can be no region. */
  constructor(url: URL, region: string | undefined, credentials: AwsCredentials | AwsCredentialsProvider | undefined) {
    this.#region = checked(region ?? regionOf(url));
    const provider =
      typeof credentials === "function" ? credentials : credentials ? async () => credentials : ofTheEnvironment();
    this.#signer = new SignatureV4({
      service: "execute-api",
      region: () => this.region(),
      credentials: memoize(() => usable(provider), expiresSoon),
      sha256: Sha256,
    });
  }

  /** The region: the one that was given, else that of the profile. Raises `NotConfigured` where none is known. */
  async region(): Promise<string> {
    const region = this.#region ?? checked(await ofTheProfile());
    if (region === undefined)
      throw new NotConfigured("No AWS region: set the option region, or AWS_REGION, to that of the stack.");
    return region;
  }

  /** The headers of a request, those that sign it among them. Raises `NotConfigured`, `TemporarilyUnavailable`. */
  async headers(method: string, url: URL, body: string | undefined): Promise<Record<string, string>> {
    const { host: _, ...headers } = (
      await this.#signer.sign({
        method,
        protocol: url.protocol,
        hostname: url.hostname,
        path: url.pathname,
        query: Object.fromEntries(url.searchParams),
        headers: {
          host: url.host,
          accept: "application/json",
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
        body,
      })
    ).headers;
    return headers;
  }
}

/** The credentials that a provider brings. Raises `NotConfigured`, `TemporarilyUnavailable`. */
async function usable(provider: AwsCredentialsProvider): Promise<AwsCredentials> {
  let found: AwsCredentials;
  try {
    found = await provider();
  } catch (error) {
    throw whyNone(error);
  }
  for (const name of ["accessKeyId", "secretAccessKey", "sessionToken"] as const) {
    const value = found[name] ?? (name === "sessionToken" ? "-" : "");
    // Whatever would break a header is refused here: the error of `fetch` would quote it.
    if (!/^[!-~]+$/.test(value))
      throw new NotConfigured(`The AWS credentials' ${name} is empty, or has a space or a line break in it.`);
  }
  return found;
}

function expiresSoon({ expiration }: AwsCredentials): boolean {
  return expiration !== undefined && expiration.getTime() - Date.now() <= EARLY;
}

function checked(region: string | undefined): string | undefined {
  if (region === undefined || /^[a-z0-9-]{1,64}$/.test(region)) return region;
  throw new NotConfigured("The AWS region is no region: set it to that of the stack, like ap-southeast-1.");
}

/** The region in the profile that `AWS_PROFILE` names. The SDK keeps what it has read. */
async function ofTheProfile(): Promise<string | undefined> {
  try {
    const { configFile, credentialsFile } = await loadSharedConfigFiles();
    const profile = process.env["AWS_PROFILE"] || "default";
    return configFile[profile]?.["region"] || credentialsFile[profile]?.["region"] || undefined;
  } catch {
    return undefined; // A file that cannot be read counts as absent, as for credentials.
  }
}

/** The region in an address of AWS's own, else the environment's. A variable that is empty counts as absent. */
function regionOf(url: URL): string | undefined {
  const host = /\.execute-api\.([a-z0-9-]+)\.(?:vpce\.)?amazonaws\.com(?:\.cn)?$/.exec(url.hostname);
  return host?.[1] ?? (process.env["AWS_REGION"] || process.env["AWS_DEFAULT_REGION"] || undefined);
}

/** AWS SDK v3's default chain: environment, SSO, profiles, web identity, containers, instances. Loaded when needed. */
function ofTheEnvironment(): AwsCredentialsProvider {
  let chain: Promise<AwsCredentialsProvider> | undefined;
  return async () =>
    (await (chain ??= import("@aws-sdk/credential-providers").then((sdk) => sdk.fromNodeProviderChain())))();
}

function whyNone(error: unknown): FlowAccountConnectError {
  const {
    name = "",
    code = "",
    $metadata,
  } = error as { name?: string; code?: string; $metadata?: { httpStatusCode?: number } };
  const word = [code, name].find((each) => /^[A-Za-z_]+$/.test(each)) ?? "Error";
  if (PASSING.test(word) || ($metadata?.httpStatusCode ?? 0) >= 500) {
    const detail = `The AWS credentials cannot be fetched at the moment (${word}).`;
    return new TemporarilyUnavailable({ code: "credentials_unavailable", status: 0, detail }, 1);
  }
  return new NotConfigured(
    `No AWS credentials were found (${word}): give this process a role, or set AWS_PROFILE or AWS_ACCESS_KEY_ID.`,
  );
}
