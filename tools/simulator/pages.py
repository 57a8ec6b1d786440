"""The pages that people see: login, choice of a business, and the dead ends. Thai first, English beside it.

What a browser test may hold on to, and nothing else is promised:

* every page: `body[data-page]`, one of `sign-in`, `businesses`, `error`, `cancelled`; on `error` also
  `body[data-error]` with the OAuth error code or `ended`
* sign-in: a button `[data-user="somchai"]` for each demo user logs in with one click; the form by hand has
  `#username`, `#password` and `#sign-in`; a refusal is in `#problem`
* businesses: a button `[data-business="N1000001"]` for each business that the user can choose; `#switch-user`
  goes back
* both: `#cancel`
* without a browser: both pages have the hidden field `attempt`. `POST /connect/login` takes `attempt` and
  `user`, or `attempt`, `username` and `password`, and answers 303 to `/connect/businesses?attempt=…`.
  `POST /connect/consent` takes `attempt` and `business`, or `attempt` and `action=cancel`, and answers 302 to
  the client.
"""

from __future__ import annotations

from typing import Any

from flask import Response, make_response, render_template
from markupsafe import Markup

from tools.simulator import people
from tools.simulator.attempts import Attempt

CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
"""No script, no frames, nothing from elsewhere.

There is no `form-action`: Chromium applies it to the redirects that follow a form too, all the way to where
the client sends the browser in the end, and that cannot be known here. IdentityServer's own pages do without
it as well.
"""

EXPLANATIONS: dict[str, tuple[str, str]] = {
    "unauthorized_client": (
        "ระบบต้นทาง|ใช้ client_id ที่ไม่ได้|ลงทะเบียนไว้",
        "The application's client_id is not registered.",
    ),
    "unsupported_response_type": (
        "ระบบต้นทาง|ขอ response_type ที่ไม่รองรับ ต้องเป็น code เท่านั้น",
        "The application asked for a response_type other than code.",
    ),
    "invalid_scope": (
        "ระบบต้นทาง|ขอ scope ไม่ถูกต้อง ต้องมี flowaccount-api และอาจมี offline_access",
        "The application asked for a wrong scope: flowaccount-api is needed, offline_access is optional.",
    ),
    "invalid_redirect_uri": (
        "redirect_uri ไม่ตรงกับที่|ลงทะเบียนไว้",
        "The redirect_uri is not one that was registered.",
    ),
    "invalid_request": (
        "คำขอจาก|ระบบต้นทาง|ไม่ถูกต้อง หรือมี|พารามิเตอร์ซ้ำ",
        "The application's request is malformed, or repeats a parameter.",
    ),
    "ended": (
        "การเข้าสู่ระบบ|ครั้งนี้หมดอายุแล้ว กรุณากลับไป|เริ่มใหม่|ที่ระบบต้นทาง",
        "This login has ended. Please go back to the application and start again.",
    ),
}
"""For each error the sentence in Thai, for `phrases`, and in English that the error page shows."""


def phrases(text: str) -> Markup:
    """A Thai text whose lines end only at its spaces and at its `|`, which is not shown."""
    span = Markup('<span class="phrase">{}</span>')
    return Markup(" ").join(Markup("<wbr>").join(map(span.format, part.split("|"))) for part in text.split(" "))


def sign_in(attempt: Attempt, username: str = "", refused: bool = False) -> Response:
    """The login page; *refused* if user name or password were wrong just now."""
    return _page(
        "sign_in.html",
        400 if refused else 200,
        attempt=attempt,
        users=list(people.USERS.values()),
        password=people.DEMO_PASSWORD,
        username=username,
        refused=refused,
    )


def businesses(attempt: Attempt, user: people.User) -> Response:
    """The choice among the businesses of *user*."""
    choices = [people.BUSINESSES[code] for code in user.businesses]
    return _page("businesses.html", 200, attempt=attempt, user=user, businesses=choices)


def stranded(error: str) -> Response:
    """The error page of a user whose client did something wrong. Nothing it sent is repeated."""
    thai, english = EXPLANATIONS.get(error, EXPLANATIONS["invalid_request"])
    return _page("error.html", 400, error=error, thai=thai, english=english)


def cancelled() -> Response:
    """The page on which a cancelled login ends, where it does not go back to the client."""
    return _page("cancelled.html", 200)


def _page(template: str, status: int, **values: Any) -> Response:
    """A page with the headers that every page has."""
    response = make_response(render_template(template, **values), status)
    response.headers.update(
        {
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }
    )
    return response
