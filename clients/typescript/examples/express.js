/**
 * An Express app with the button *Connect FlowAccount*: a whole app, in one file.
 *
 *     npm install express cookie-session csrf-sync flowaccount-connect
 *     export FLOWACCOUNT_CONNECT_URL=…                                   # the stack's output ApiUrl
 *     export RETURN_URL=https://app.example.com/flowaccount-connected    # one of the stack's AllowedReturnUrls
 *     export SECRET_KEY=…                                                # signs the cookie of the session
 *     NODE_ENV=production node express.js
 *
 * The AWS credentials need `execute-api:Invoke` on `POST /connect-links`, `POST /connect-links/confirm`, and on `GET` and
 * `POST` of the route `/token` of connections. `/sign-in` and `connected` stand for what your app has already: its users, its
 * database.
 */

import { randomBytes, timingSafeEqual } from "node:crypto";

import cookieSession from "cookie-session";
import { csrfSync } from "csrf-sync";
import express from "express";
import { FlowAccountConnect, Problem, ReauthorizationRequired, TemporarilyUnavailable } from "flowaccount-connect";

const RETURN_URL = process.env.RETURN_URL;
const FLOWACCOUNT = process.env.FLOWACCOUNT_URL ?? "https://openapi.flowaccount.com";

const AGAIN = "This link has expired, or was used already. Please connect again.";
const LATER = "FlowAccount did not finish the connection. Please try again in a few minutes.";
const BROKEN = "FlowAccount cannot be connected at the moment. Our team knows.";
// docs/messages.md has them in Thai, too. Any other word means AGAIN.
const TEXTS = new Map([
  ["access_denied", "FlowAccount is not connected, because you cancelled."],
  ["wrong_business", "This is not the expected business, or it belongs to another account. Choose another, or ask us."],
  ["tenant_mismatch", "This link was made for another account. Sign in with the right one, and connect again."],
  ["disconnected", "This business was disconnected. Please connect again."],
  ...["temporarily_unavailable", "code_rejected", "authorization_failed"].map((word) => [word, LATER]),
  ...["configuration_error", "incomplete_grant"].map((word) => [word, BROKEN]),
]);

const app = express();
const secure = RETURN_URL.startsWith("https:");
if (secure) app.set("trust proxy", 1); // A proxy in front of this app speaks https.
app.use(
  cookieSession({
    secret: process.env.SECRET_KEY,
    secure,
    sameSite: "lax", // Not strict: the browser comes back from FlowAccount's site, and must be signed in.
  }),
);
app.use(express.urlencoded());
const { csrfSynchronisedProtection, generateToken } = csrfSync({
  getTokenFromRequest: (request) => request.body?.csrf_token,
});
app.use(csrfSynchronisedProtection);

const flowaccount = new FlowAccountConnect({ patience: 5 });
/** The connection of each tenant. */
const connected = new Map();

// The company, or the button.
app.get("/", (request, response) => page(request, response, 200, request.session.tenant ? "" : "Please sign in."));

// The button. A tenant that is connected already can connect the same business again, and no other.
app.post("/connect-flowaccount", async (request, response) => {
  const { tenant, state } = request.session;
  if (!tenant) return page(request, response, 401, "Please sign in.");
  try {
    const expectedConnection = connected.get(tenant);
    const link = await flowaccount.connectLink({ tenant, returnUrl: RETURN_URL, expectedConnection, state });
    response.redirect(303, link.connectUrl);
  } catch (error) {
    await page(request, response, 503, words(error));
  }
});

// The return URL. The confirmation counts for the tenant who is signed in in this browser, and no other: a link that somebody
// forwarded connects nothing. A repetition is answered the same. An `error` counts with the state of this session alone:
// anybody can write one.
app.get("/flowaccount-connected", async (request, response) => {
  const { tenant, state } = request.session;
  const given = new URL(request.url, RETURN_URL).searchParams;
  if (!tenant) return page(request, response, 401, "Please sign in, then connect again.");
  const error = same(given.get("state") ?? "", state) ? given.get("error") : null;
  if (error !== null && error !== "already_connected") return page(request, response, 409, text(error));
  try {
    if (error === null) {
      const connection = await flowaccount.confirm({ confirmation: given.get("confirmation") ?? "", tenant });
      connected.set(tenant, connection.supportCode);
    }
  } catch (failed) {
    // The confirmation waits for 15 minutes.
    if (failed instanceof TemporarilyUnavailable)
      return page(request, response, 503, "FlowAccount is not connected yet. Please reload this page in a minute.");
    return page(request, response, 409, words(failed));
  }
  response.redirect(303, "/"); // Takes the confirmation out of the address bar.
});

/** What the user reads of an `error` or `ending`. The word itself is never shown: anybody can write it. */
function text(word) {
  const found = TEXTS.get(word) ?? AGAIN;
  if (found === BROKEN) console.error(`a connect ended with ${word}: see the runbook of the stack`);
  return found;
}

/** What the user reads of an error. What your team has to mend goes to the log; no secret is in it. */
function words(error) {
  if (error instanceof TemporarilyUnavailable) return LATER;
  if (error instanceof Problem && [404, 409].includes(error.status)) return text(error.ending ?? error.code);
  console.error(`FlowAccount Connect: ${error.message} (the return URL is ${RETURN_URL})`);
  return BROKEN;
}

/** The connected company, by a token of the connection. */
async function company(connection) {
  try {
    const answer = await flowaccount.flowaccountFetch(connection)(`${FLOWACCOUNT}/test/company/info`);
    if (!answer.ok) throw new Error(`FlowAccount answered with ${answer.status}`);
    return `FlowAccount is connected: ${(await answer.json()).data.compnayName}`; // FlowAccount's own spelling
  } catch (error) {
    if (error instanceof ReauthorizationRequired) return "FlowAccount needs your consent again. Please connect again.";
    return "FlowAccount is connected, and does not answer at the moment.";
  }
}

/** Whether two secrets are the same, in a time that says nothing of them. */
function same(given, expected) {
  const [one, other] = [Buffer.from(given), Buffer.from(expected)];
  return one.length === other.length && timingSafeEqual(one, other);
}

// ---- what your app has already ----------------------------------------------------------------------------

const SIGN_IN = `<form method="post" action="/sign-in"><input name="tenant"><button>Sign in</button>`;
const escape = (text) => text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);

/** Answers with a page that has a message, and the next step. */
async function page(request, response, status, message) {
  const { tenant } = request.session;
  const connection = connected.get(tenant);
  const state = connection ? await company(connection) : "FlowAccount is not connected yet.";
  const body = tenant
    ? `<p>${escape(tenant)}: ${escape(state)}</p>
<form method="post" action="/connect-flowaccount"><button>Connect FlowAccount</button>`
    : SIGN_IN;
  response.status(status).send(`<!doctype html><html lang="en"><title>My app</title><p role="status">${message}</p>
${body}<input type="hidden" name="csrf_token" value="${generateToken(request)}"></form>`);
}

// Takes anybody's word. The state belongs to the session, so that two presses of the button have the same.
app.post("/sign-in", (request, response) => {
  request.session = { tenant: String(request.body.tenant), state: randomBytes(32).toString("base64url") };
  response.redirect(303, "/");
});

app.listen(Number(process.env.PORT ?? 3000), "127.0.0.1");
