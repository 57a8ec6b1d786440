/** A whole connect by a client that is generated from the API's description. Types and answers must agree. */

import assert from "node:assert/strict";

import { AwsClient } from "aws4fetch";
import createClient from "openapi-fetch";

import type { components, paths } from "./api.js";
import { Browser } from "./browser.js";

const env = (name: string): string => process.env[name] ?? "";
const aws = new AwsClient({
  accessKeyId: env("AWS_ACCESS_KEY_ID"),
  secretAccessKey: env("AWS_SECRET_ACCESS_KEY"),
  region: env("AWS_REGION"),
  service: "execute-api",
  retries: 0,
});
const api = createClient<paths>({ baseUrl: env("FLOWACCOUNT_CONNECT_URL"), fetch: (request) => aws.fetch(request) });

const id = env("BUSINESS");
const tenant = "tenant-7";
const path = { id };

async function link(expected: string | null): Promise<string> {
  const body = { tenant, return_url: env("RETURN_URL"), expected_connection: expected, state: "page-3" };
  const made = await api.POST("/connect-links", { body });
  assert.ok(made.data, JSON.stringify(made.error));
  return made.data.connect_url;
}

// Who cancels: the ending says so.
const cancelled = await new Browser().connect(await link(null), "somchai");
const refused = await api.POST("/connect-links/confirm", {
  body: { confirmation: cancelled.searchParams.get("confirmation") ?? "", tenant },
});
assert.ok(refused.error && "ending" in refused.error);
const ending: components["schemas"]["Ending"] | components["schemas"]["LateEnding"] | undefined = refused.error.ending;
assert.deepEqual([refused.response.status, refused.error.code, ending], [409, "connect_failed", "access_denied"]);

// Who does not.
const back = await new Browser().connect(await link(id), "somchai", id);
assert.equal(back.searchParams.get("state"), "page-3");
const confirmed = await api.POST("/connect-links/confirm", {
  body: { confirmation: back.searchParams.get("confirmation") ?? "", tenant },
});
const connection: components["schemas"]["Connection"] | undefined = confirmed.data;
assert.deepEqual([connection?.support_code, connection?.status, connection?.tenant], [id, "active", tenant]);

const token = await api.GET("/connections/{id}/token", { params: { path, query: { min_ttl: 60 } } });
assert.ok(token.data, JSON.stringify(token.error));
const company = await fetch(`${env("FLOWACCOUNT_URL")}/test/company/info`, {
  headers: { authorization: `${token.data.token_type} ${token.data.access_token}` },
});
assert.equal(company.status, 200);
const again = await api.POST("/connections/{id}/token", {
  params: { path },
  body: { rejected_generation: token.data.generation },
});
assert.deepEqual([again.response.status, again.error?.code], [503, "refreshed_just_now"]);

const listed = await api.GET("/connections", { params: { query: { status: "active", tenant, limit: 100 } } });
assert.ok(listed.data?.connections.some((each) => each.support_code === id && each.deadline !== null));
const history = await api.GET("/connections/{id}/history", { params: { path } });
assert.ok(Array.isArray(history.data?.entries));
assert.equal((await api.DELETE("/connections/{id}", { params: { path } })).response.status, 204);
const gone = await api.GET("/connections/{id}/token", { params: { path } });
assert.deepEqual([gone.response.status, gone.error?.code], [404, "connection_not_found"]);

// @ts-expect-error The description knows no such route.
const none = () => api.GET("/connections/{id}/secrets", { params: { path } });
// @ts-expect-error A link needs a tenant.
const nobodys = () => api.POST("/connect-links", { body: { return_url: "" } });
void [none, nobodys];
console.log("connected");
