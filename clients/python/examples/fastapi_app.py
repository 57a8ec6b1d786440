"""A FastAPI app with the button *Connect FlowAccount*: a whole app, in one file.

    pip install fastapi uvicorn itsdangerous python-multipart flowaccount-connect
    export FLOWACCOUNT_CONNECT_URL=…                                   # the stack's output ApiUrl
    export RETURN_URL=https://app.example.com/flowaccount-connected    # one of the stack's AllowedReturnUrls
    export SECRET_KEY=…                                                # signs the cookie of the session
    uvicorn fastapi_app:app

The AWS credentials need `execute-api:Invoke` on `POST /connect-links`, `POST /connect-links/confirm`, and on `GET` and
`POST /connections/*/token`. `sign_in` and `connected` stand for what your app has already: its users, its database.

The client waits for its answers, so the routes are `def`, not `async def`: FastAPI runs these in threads.
"""

import hmac
import logging
import os
import secrets
from html import escape
from typing import Annotated

import requests
from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.middleware.sessions import SessionMiddleware

from flowaccount_connect_client import (
    FlowAccountAuth,
    FlowAccountConnect,
    FlowAccountConnectError,
    Problem,
    ReauthorizationRequired,
    TemporarilyUnavailable,
)

RETURN_URL = os.environ["RETURN_URL"]
FLOWACCOUNT = os.environ.get("FLOWACCOUNT_URL", "https://openapi.flowaccount.com")

AGAIN = "This link has expired, or was used already. Please connect again."
LATER = "FlowAccount did not finish the connection. Please try again in a few minutes."
BROKEN = "FlowAccount cannot be connected at the moment. Our team knows."
TEXTS = {  # docs/messages.md has them in Thai, too. Any other word means AGAIN.
    "access_denied": "FlowAccount is not connected, because you cancelled.",
    "wrong_business": "This is not the expected business, or it belongs to another account. Choose another, or ask us.",
    "tenant_mismatch": "This link was made for another account. Sign in with the right one, and connect again.",
    "disconnected": "This business was disconnected. Please connect again.",
    **dict.fromkeys(("temporarily_unavailable", "code_rejected", "authorization_failed"), LATER),
    **dict.fromkeys(("configuration_error", "incomplete_grant"), BROKEN),
}

app = FastAPI(openapi_url=None)
app.add_middleware(
    SessionMiddleware,
    secret_key=os.environ["SECRET_KEY"],
    https_only=RETURN_URL.startswith("https:"),
    same_site="lax",  # Not strict: the browser comes back from FlowAccount's site, and must be signed in.
)
log = logging.getLogger("uvicorn.error")
flowaccount = FlowAccountConnect(patience=5)
connected: dict[str, str] = {}
"""The connection of each tenant."""


def same(given: str, expected: str) -> bool:
    """Whether two secrets are the same, in a time that says nothing of them."""
    return hmac.compare_digest(given.encode(), expected.encode())


def from_our_page(request: Request, csrf_token: Annotated[str, Form()] = "") -> None:
    """Refuse a form of another site. FastAPI has no protection of its own: the session has the token, and each form."""
    if not same(csrf_token, request.session.get("csrf_token", secrets.token_urlsafe())):
        raise HTTPException(403, "This form is not from our page. Open our page, and try again.")


@app.get("/")
def home(request: Request) -> Response:
    """The company, or the button."""
    return page(request) if "tenant" in request.session else page(request, "Please sign in.")


@app.post("/connect-flowaccount", dependencies=[Depends(from_our_page)])
def begin(request: Request) -> Response:
    """The button. A tenant that is connected already can connect the same business again, and no other."""
    tenant = request.session.get("tenant")
    if tenant is None:
        return page(request, "Please sign in.", 401)
    try:
        link = flowaccount.connect_link(
            tenant, RETURN_URL, expected_connection=connected.get(tenant), state=request.session["state"]
        )
    except FlowAccountConnectError as error:
        return page(request, words(error), 503)
    return RedirectResponse(link.connect_url, 303)


@app.get("/flowaccount-connected")
def end(request: Request) -> Response:
    """The return URL. The confirmation counts for the tenant who is signed in in this browser, and no other.

    So a link that somebody forwarded connects nothing. A repetition is answered the same. An `error` counts with the
    state of this session alone: anybody can write one.
    """
    tenant, given = request.session.get("tenant"), request.query_params
    if tenant is None:
        return page(request, "Please sign in, then connect again.", 401)
    ours = same(given.get("state", ""), request.session["state"])
    error = given.get("error") if ours else None
    if error is not None and error != "already_connected":
        return page(request, text(error), 409)
    try:
        if error is None:
            connected[tenant] = flowaccount.confirm(given.get("confirmation"), tenant).support_code
    except TemporarilyUnavailable:  # The confirmation waits for 15 minutes.
        return page(request, "FlowAccount is not connected yet. Please reload this page in a minute.", 503)
    except FlowAccountConnectError as failed:
        return page(request, words(failed), 409)
    return RedirectResponse("/", 303)  # Takes the confirmation out of the address bar.


def text(word: str) -> str:
    """What the user reads of an `error` or `ending`. The word itself is never shown: anybody can write it."""
    found = TEXTS.get(word, AGAIN)
    if found is BROKEN:
        log.error("a connect ended with %s: see the runbook of the stack", word)
    return found


def words(error: FlowAccountConnectError) -> str:
    """What the user reads of an error. What your team has to mend goes to the log; no secret is in it."""
    if isinstance(error, TemporarilyUnavailable):
        return LATER
    if isinstance(error, Problem) and error.status in (404, 409):
        return text(error.ending or error.code)
    log.error("FlowAccount Connect: %s (the return URL is %s)", error, RETURN_URL)
    return BROKEN


def company(connection: str) -> str:
    """The connected company, by a token of the connection."""
    try:
        auth = FlowAccountAuth(connection, client=flowaccount)
        answer = requests.get(f"{FLOWACCOUNT}/test/company/info", auth=auth, timeout=30)
        answer.raise_for_status()
        found = answer.json()
        if not found["status"]:  # A 200 can mean no, and `message` says why.
            return "FlowAccount is connected, and refuses to answer. If that stays so, please connect again."
        return f"FlowAccount is connected: {found['data']['compnayName']}"  # FlowAccount's own spelling
    except ReauthorizationRequired:
        return "FlowAccount needs your consent again. Please connect again."
    except (FlowAccountConnectError, requests.RequestException):
        return "FlowAccount is connected, and does not answer at the moment."


# ---- what your app has already ----------------------------------------------------------------------------

PAGE = """<!doctype html><html lang="en"><title>My app</title><p role="status">{message}</p>
{body}<input type="hidden" name="csrf_token" value="{csrf_token}"></form>"""
BUTTON = """<p>{tenant}: {state}</p>
<form method="post" action="/connect-flowaccount"><button>Connect FlowAccount</button>"""
SIGN_IN = """<form method="post" action="/sign-in"><input name="tenant"><button>Sign in</button>"""


def page(request: Request, message: str = "", status: int = 200) -> HTMLResponse:
    """A page with a message, and the next step."""
    tenant = request.session.get("tenant")
    connection = connected.get(tenant or "")
    state = company(connection) if connection else "FlowAccount is not connected yet."
    body = BUTTON.format(tenant=escape(tenant), state=escape(state)) if tenant else SIGN_IN
    token = request.session.setdefault("csrf_token", secrets.token_urlsafe())
    return HTMLResponse(PAGE.format(message=escape(message), body=body, csrf_token=token), status)


@app.post("/sign-in", dependencies=[Depends(from_our_page)])
def sign_in(request: Request, tenant: Annotated[str, Form()]) -> Response:
    """Takes anybody's word. The state belongs to the session, so that two presses of the button have the same."""
    request.session.clear()
    request.session.update(tenant=tenant, state=secrets.token_urlsafe())
    return RedirectResponse("/", 303)
