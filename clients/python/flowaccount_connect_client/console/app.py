"""The console's pages. A page is made for each request; nothing is kept but the list of connections, in memory."""

import itertools
import math
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

from flask import Flask, Response, redirect, render_template, request, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from flowaccount_connect_client.client import FlowAccountConnect
from flowaccount_connect_client.console import rights, words
from flowaccount_connect_client.console.snapshot import GROUPS, Snapshot, group_of
from flowaccount_connect_client.console.stack import Facts
from flowaccount_connect_client.errors import (
    AccessDenied,
    ConnectionNotFound,
    FlowAccountConnectError,
    InvalidArgument,
    Problem,
    TemporarilyUnavailable,
)
from flowaccount_connect_client.results import Connection

ON_ONE_PAGE = 1_000
"""So many connections are one page that scrolls. More of them come in pages of `PAGE`."""
PAGE = 100
ENTRIES = 200
"""The newest entries of a history that are shown."""
FIRST_LOOK = 2.0
"""How long the first page waits for the list, in seconds. A longer reading shows how far it is."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    # The path is a secret. Requests of this page to itself must have an Origin, which `no-referrer` would take away.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_STATUSES: tuple[tuple[type[FlowAccountConnectError], HTTPStatus], ...] = (
    (ConnectionNotFound, HTTPStatus.NOT_FOUND),
    (InvalidArgument, HTTPStatus.NOT_FOUND),
    (AccessDenied, HTTPStatus.FORBIDDEN),
    (TemporarilyUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (Problem, HTTPStatus.CONFLICT),
)


@dataclass
class Console:
    """What the pages are made from. `look` reads the stack's own health; `None` where its table is not known."""

    api: FlowAccountConnect
    look: Callable[[], Facts] | None = None
    return_url: str = ""
    """Filled in where a link is made."""
    snapshot: Snapshot = field(init=False)
    _rights: rights.Rights | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.snapshot = Snapshot(self.api.connections)

    @property
    def rights(self) -> rights.Rights:
        """What the caller's role may do; nothing while the stack does not say."""
        if self._rights is None:
            try:
                self._rights = rights.of(self.api)
            except TemporarilyUnavailable:
                return rights.Rights(link=False, disconnect=False)
        return self._rights


@dataclass(frozen=True)
class _Shown:
    """One page of the list."""

    rows: list[Connection]
    found: int
    page: int
    pages: int


def make(console: Console) -> Flask:
    """The application of one console."""
    app = Flask(__name__)
    app.jinja_env.filters |= {"moment": words.moment, "left": words.left, "status": words.status}
    app.jinja_env.globals |= {"groups": GROUPS, "group_of": group_of, "console": console, "words": words}

    @app.before_request
    def from_this_page_only() -> tuple[str, int] | None:
        # RFC 6454: a form of another site has another origin. Browsers that send none send this header instead.
        origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
        own = origin is not None and urlsplit(origin).netloc == request.host
        if request.method != "GET" and not (own or (origin is None and site == "same-origin")):
            return _error("This request does not come from a page of the console.", HTTPStatus.FORBIDDEN)
        return None

    @app.after_request
    def protected(response: Response) -> Response:
        response.headers.update(_HEADERS)
        return response

    @app.errorhandler(FlowAccountConnectError)
    def failed(error: FlowAccountConnectError) -> tuple[str, int]:
        status = next((status for kind, status in _STATUSES if isinstance(error, kind)), HTTPStatus.BAD_GATEWAY)
        return _error(str(error), status)

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> tuple[str, int]:
        return _error(error.description or error.name, error.code or 500)

    @app.get("/")
    def connections() -> str:
        snapshot = console.snapshot
        if snapshot.read_at is None:
            snapshot.read()
        done = snapshot.wait(FIRST_LOOK if snapshot.read_at is None else 0)
        every = snapshot.all()
        counts = dict.fromkeys(GROUPS, 0) | {"all": len(every)}
        for one in every:
            counts[group_of(one)] += 1
        group, words_ = request.args.get("group", "all"), request.args.get("q", "").strip()
        return render_template(
            "connections.html",
            shown=_shown(every, group, words_, request.args.get("page", "1")),
            counts=counts,
            group=group,
            q=words_,
            now=time.time(),
            reading=not done,
            snapshot=snapshot,
            facts=console.look() if console.look else None,
        )

    @app.post("/read")
    def read() -> AnyResponse:
        console.snapshot.read()
        console.snapshot.wait(FIRST_LOOK)
        return redirect(url_for("connections"), HTTPStatus.SEE_OTHER)

    @app.get("/connections/<id_>")
    def connection(id_: str) -> str:
        one = console.api.connection(id_)
        console.snapshot.put(one)
        entries = list(itertools.islice(console.api.history(id_), ENTRIES))
        return render_template("connection.html", one=one, entries=entries, now=time.time(), limit=ENTRIES)

    @app.post("/connections/<id_>/link")
    def link(id_: str) -> str:
        tenant, return_url = (request.form.get(name, "").strip() for name in ("tenant", "return_url"))
        made = console.api.connect_link(tenant, return_url, expected_connection=id_)
        return render_template("link.html", id=id_, tenant=tenant, made=made, now=time.time())

    @app.get("/connections/<id_>/disconnect")
    def ask(id_: str) -> str:
        return render_template("disconnect.html", one=console.api.connection(id_))

    @app.post("/connections/<id_>/disconnect")
    def disconnect(id_: str) -> AnyResponse:
        console.api.disconnect(id_)
        return redirect(url_for("connection", id_=id_), HTTPStatus.SEE_OTHER)

    def _error(text: str, status: int) -> tuple[str, int]:
        return render_template("error.html", text=text, status=int(status)), int(status)

    return app


def _plain(text: str) -> str:
    """A text as it is compared: without capitals, and each character in one form. A Thai sara am can be one or two."""
    return unicodedata.normalize("NFKC", text).casefold()


def _shown(every: list[Connection], group: str, words_: str, page: str) -> _Shown:
    """The rows of one page: those of a group whose id or tenant has the words in it."""
    wanted = _plain(words_)
    found = [
        one
        for one in every
        if (group not in GROUPS or group == "all" or group_of(one) == group)
        and (not wanted or wanted in _plain(one.support_code) or wanted in _plain(one.tenant or ""))
    ]
    if len(found) <= ON_ONE_PAGE:
        return _Shown(found, len(found), 1, 1)
    pages = math.ceil(len(found) / PAGE)
    number = min(max(int(page), 1), pages) if page.isascii() and page.isdecimal() and len(page) < 9 else 1
    return _Shown(found[(number - 1) * PAGE : number * PAGE], len(found), number, pages)
