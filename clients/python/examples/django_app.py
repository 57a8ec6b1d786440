"""A Django app with the button *Connect FlowAccount*: a whole app, in one file.

    pip install django flowaccount-connect
    export FLOWACCOUNT_CONNECT_URL=…                                   # the stack's output ApiUrl
    export RETURN_URL=https://app.example.com/flowaccount-connected    # one of the stack's AllowedReturnUrls
    export SECRET_KEY=…                                                # signs the cookie of the session
    python django_app.py runserver

The AWS credentials need `execute-api:Invoke` on `POST /connect-links`, `POST /connect-links/confirm`, and on `GET` and
`POST /connections/*/token`. `sign_in` and `connected` stand for what your app has already: its users, its database.
"""

import hmac
import logging
import os
import secrets
from urllib.parse import urlsplit

import requests
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import rotate_token
from django.template import engines
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

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

SECURE = RETURN_URL.startswith("https:")
settings.configure(
    SECRET_KEY=os.environ["SECRET_KEY"],
    ALLOWED_HOSTS=[urlsplit(RETURN_URL).hostname],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    SESSION_COOKIE_SECURE=SECURE,
    SESSION_COOKIE_SAMESITE="Lax",  # Not Strict: the browser comes back from FlowAccount's site, and must be signed in.
    CSRF_COOKIE_SECURE=SECURE,
)
log = logging.getLogger(__name__)
flowaccount = FlowAccountConnect(patience=5)
connected: dict[str, str] = {}
"""The connection of each tenant."""


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """The company, or the button."""
    return page(request) if "tenant" in request.session else page(request, "Please sign in.")


@require_POST
def begin(request: HttpRequest) -> HttpResponse:
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
    return HttpResponseRedirect(link.connect_url, status=303)


@require_GET
def end(request: HttpRequest) -> HttpResponse:
    """The return URL. The confirmation counts for the tenant who is signed in in this browser, and no other.

    So a link that somebody forwarded connects nothing. A repetition is answered the same. An `error` counts with the
    state of this session alone: anybody can write one.
    """
    tenant, given = request.session.get("tenant"), request.GET
    if tenant is None:
        return page(request, "Please sign in, then connect again.", 401)
    ours = hmac.compare_digest(given.get("state", "").encode(), request.session["state"].encode())
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
    return HttpResponseRedirect("/", status=303)  # Takes the confirmation out of the address bar.


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

PAGE = """<!doctype html><html lang="en"><title>My app</title><p role="status">{{ message }}</p>
{% if tenant %}<p>{{ tenant }}: {{ state }}</p>
<form method="post" action="/connect-flowaccount"><button>Connect FlowAccount</button>
{% else %}<form method="post" action="/sign-in"><input name="tenant"><button>Sign in</button>
{% endif %}{% csrf_token %}</form>"""


def page(request: HttpRequest, message: str = "", status: int = 200) -> HttpResponse:
    """A page with a message, and the next step."""
    tenant = request.session.get("tenant")
    connection = connected.get(tenant or "")
    state = company(connection) if connection else "FlowAccount is not connected yet."
    template = engines["django"].from_string(PAGE)
    return HttpResponse(template.render({"message": message, "tenant": tenant, "state": state}, request), status=status)


@require_POST
def sign_in(request: HttpRequest) -> HttpResponse:
    """Takes anybody's word. The state belongs to the session, so that two presses of the button have the same."""
    request.session.flush()
    rotate_token(request)
    request.session.update({"tenant": request.POST["tenant"], "state": secrets.token_urlsafe()})
    return HttpResponseRedirect("/", status=303)


urlpatterns = [
    path("", home),
    path("connect-flowaccount", begin),
    path("flowaccount-connected", end),
    path("sign-in", sign_in),
]

if __name__ == "__main__":
    execute_from_command_line()
