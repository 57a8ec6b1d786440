"""A fake of the stack, so that an app tests its own code without AWS: it answers HTTP, in the place of the network.

    def test_a_company_without_consent(flowaccount_connect):      # a fixture of pytest's, which comes with the package
        flowaccount_connect.add("N1234567")
        flowaccount_connect.require_consent("N1234567")
        assert my_app.company_name("N1234567") == "Please connect FlowAccount again."

The app's own code is as in production: `FlowAccountConnect()`, `FlowAccountAuth("N1234567")`. It takes the URL and AWS
credentials of no account from the environment, its requests are signed, and what they answer is the API's. FlowAccount
itself is not played: a stand-in of yours can ask `accepts` whether a request carries the newest token.
"""

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from io import BytesIO
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import requests
from requests.adapters import BaseAdapter

from flowaccount_connect_client import cache, signing, transport

_LISTED = ("active", "importing", "reauthorization_required", "disconnected")
"""The statuses by which the API lists."""

URL = "https://flowaccount-connect.test/live"
"""The URL that the fake answers at."""

ENVIRONMENT = {
    "FLOWACCOUNT_CONNECT_URL": URL,
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": "testing",
    "AWS_REGION": "ap-southeast-1",
}
"""What a process's environment holds while the fake answers."""

_LIFE = 86_400


class _Refused(Exception):
    """What the API answers instead, as a problem."""

    def __init__(self, status: HTTPStatus, code: str, **members: object) -> None:
        super().__init__(code)
        self.answer = status, {"status": status.value, "code": code, "detail": f"A fake {code}.", **members}


class FakeFlowAccountConnect:
    """A stack in memory. `running` puts it in the place of the network; the fixture `flowaccount_connect` does that."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        """Method and path of each request that came."""
        self._connections: dict[str, dict[str, Any]] = {}
        self._tokens: dict[str, dict[str, Any]] = {}
        self._histories: dict[str, list[dict[str, Any]]] = {}
        self._links: dict[str, dict[str, Any]] = {}
        self._failing: list[tuple[HTTPStatus, str, int]] = []

    # ---- what a test arranges -----------------------------------------------------------------------------

    def add(self, connection_id: str, *, tenant: str | None = None) -> None:
        """Connect a business."""
        now = int(time.time())
        known = self._connections.get(connection_id, {})
        self._connections[connection_id] = {
            "support_code": connection_id,
            "environment": "sandbox",
            "status": "active",
            "tenant": tenant,
            "generation": known.get("generation", 0),
            **dict.fromkeys(("consent_ends_at", "in_doubt_since", "at_risk_since", "reason", "since")),
            "connected_at": now,
            "deadline": now + _LIFE,
            "refresh_at": now + _LIFE // 4,
        }
        self._rotate(connection_id, "reconnected" if known else "connected")

    def expire(self, connection_id: str) -> None:
        """Let the access token expire: the next request for one gets the next generation."""
        self._tokens[connection_id]["expires_at"] = 0
        cache.forget()

    def endanger(self, connection_id: str, status: str = "refresh_failing") -> None:
        """Serve tokens on, with a status that says that the next one is in danger."""
        self._tokens[connection_id]["status"] = status
        cache.forget()

    def require_consent(self, connection_id: str, reason: str = "rejected") -> None:
        """Let the connection end: the token route answers 409 `reauthorization_required`."""
        change = {"status": "reauthorization_required", "reason": reason, "since": int(time.time())}
        self._connections[connection_id] |= change
        self._note(connection_id, "reauthorization_required")
        cache.forget()

    def fail(self, status: int = 503, code: str = "store_unavailable", *, times: int = 1, retry_after: int = 0) -> None:
        """Answer the next requests with a problem."""
        self._failing += [(HTTPStatus(status), code, retry_after)] * times

    def accepts(self, authorization: str | None, connection_id: str) -> bool:
        """Whether a header `Authorization` carries the connection's newest token."""
        return authorization == f"Bearer {self._tokens[connection_id]['access_token']}"

    def visit(self, connect_url: str, *, business: str = "N1234567", ending: str | None = None) -> str:
        """Be the browser that opens a link and consents for `business`; the URL that it comes back to the app with.

        With an `ending` such as `access_denied` it comes back without a consent.
        """
        link = self._links[dict(parse_qsl(urlsplit(connect_url).query))["link"]]
        expected = link["expected_connection"]
        there = self._connections.get(business, {"status": "disconnected"})
        taken = there["status"] != "disconnected" and there["tenant"] not in (None, link["tenant"])
        if ending is None and (expected not in (None, business) or taken):
            ending = "wrong_business"
        link |= {"ending": ending, "business": business, "confirmation": secrets.token_urlsafe()}
        back = {"error": ending} if ending else {}
        back |= {"confirmation": link["confirmation"]} | ({"state": link["state"]} if link["state"] else {})
        parts = urlsplit(str(link["return_url"]))
        return urlunsplit(parts._replace(query=urlencode([*parse_qsl(parts.query), *back.items()])))

    @contextmanager
    def running(self) -> Iterator["FakeFlowAccountConnect"]:
        """Answer in the place of the network while the block runs, in an environment of no account."""
        with mock.patch.dict(os.environ, ENVIRONMENT), mock.patch.dict(transport.mounted, {URL: _Adapter(self)}):
            cache.forget()
            signing.forget()
            try:
                yield self
            finally:
                cache.forget()
                signing.forget()

    # ---- what the API answers -----------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> tuple[int, Any, int]:
        """Status, JSON and `Retry-After` for a request."""
        self.requests.append((method, path))
        if self._failing:
            status, code, after = self._failing.pop(0)
            return *_Refused(status, code).answer, after
        try:
            match method, *path.strip("/").split("/"):
                case "POST", "connect-links":
                    return 201, self._link(body), 0
                case "POST", "connect-links", "confirm":
                    return 200, self._confirmed(body), 0
                case "GET", "connections":
                    return 200, self._page(query), 0
                case "GET", "connections", id_:
                    return 200, self._there(id_), 0
                case "GET", "connections", id_, "history":
                    return 200, {"entries": self._histories.get(id_, []), "next": None}, 0
                case "POST", "connections", id_:
                    return 200, self._imported(id_, body), 0
                case "DELETE", "connections", id_:
                    self._there(id_)["status"] = "disconnected"
                    self._note(id_, "disconnected")
                    return 204, None, 0
                case "GET" | "POST", "connections", id_, "token":
                    return 200, self._token(id_, body.get("rejected_generation")), 0
        except _Refused as refused:
            return *refused.answer, 0
        return *_Refused(HTTPStatus.FORBIDDEN, "not_signed").answer, 0

    def _there(self, connection_id: str) -> dict[str, Any]:
        try:
            return self._connections[connection_id]
        except KeyError:
            raise _Refused(HTTPStatus.NOT_FOUND, "connection_not_found") from None

    def _page(self, query: Mapping[str, str]) -> dict[str, Any]:
        wanted = [(name, query[name]) for name in ("status", "tenant") if name in query]
        listed = list(self._connections.values())
        if query.get("status", "active") not in _LISTED:
            raise _Refused(HTTPStatus.BAD_REQUEST, "invalid_status")
        if wanted:
            listed = [one for one in listed if all(one[name] == value for name, value in wanted)]
        first, most = int(query.get("next", "0")), int(query.get("limit", "50"))
        more = str(first + most) if first + most < len(listed) else None
        return {"connections": listed[first : first + most], "next": more}

    def _link(self, body: Mapping[str, Any]) -> dict[str, Any]:
        link = secrets.token_urlsafe()
        self._links[link] = {"expected_connection": None, "state": None, "confirmation": None, **body}
        more = "&openExternalBrowser=1" if body.get("external_browser") else ""
        return {"connect_url": f"{URL}/authorize?link={link}{more}", "expires_at": int(time.time()) + 900}

    def _confirmed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        confirmation = body["confirmation"]
        link = next((one for one in self._links.values() if one["confirmation"] == confirmation), None)
        if link is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "unknown_confirmation")
        if link["ending"]:
            raise _Refused(HTTPStatus.CONFLICT, "connect_failed", ending=link["ending"])
        if link["tenant"] != body["tenant"]:
            link["ending"] = "tenant_mismatch"
            raise _Refused(HTTPStatus.CONFLICT, "tenant_mismatch", ending="tenant_mismatch")
        if not link.get("connected"):
            self.add(link["business"], tenant=link["tenant"])
            link["connected"] = True
        connection = self._there(link["business"])
        if connection["status"] == "disconnected":
            raise _Refused(HTTPStatus.CONFLICT, "connect_failed", ending="disconnected")
        return connection

    def _imported(self, connection_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if self._connections.get(connection_id, {}).get("status") == "active":
            raise _Refused(HTTPStatus.CONFLICT, "already_connected")
        self.add(connection_id, tenant=body.get("tenant"))
        return self._there(connection_id)

    def _token(self, connection_id: str, rejected: int | None) -> dict[str, Any]:
        connection = self._there(connection_id)
        if connection["status"] == "disconnected":
            raise _Refused(HTTPStatus.NOT_FOUND, "connection_not_found")
        if connection["status"] == "reauthorization_required":
            facts = {name: connection[name] for name in ("reason", "since")}
            facts["reconnect"] = {"tenant": connection["tenant"], "expected_connection": connection_id}
            raise _Refused(HTTPStatus.CONFLICT, "reauthorization_required", **facts)
        expired = self._tokens[connection_id]["expires_at"] <= time.time()
        if expired or rejected == connection["generation"]:
            self._rotate(connection_id, "refreshed")
        token = self._tokens[connection_id]
        return token | {"expires_in": token["expires_at"] - int(time.time())}

    def _rotate(self, connection_id: str, kind: str) -> None:
        connection, now = self._connections[connection_id], int(time.time())
        connection["generation"] += 1
        connection |= {"requested_at": now, "access_expires_at": now + _LIFE}
        self._tokens[connection_id] = {
            "access_token": f"fake-{connection_id}-{connection['generation']}-{secrets.token_hex(4)}",
            "token_type": "Bearer",
            "expires_at": now + _LIFE,
            "support_code": connection_id,
            "environment": "sandbox",
            "generation": connection["generation"],
            "status": "active",
        }
        self._note(connection_id, kind)

    def _note(self, connection_id: str, kind: str) -> None:
        names = ("attempt_id", "tenant", "reason", "since", "deadline", "consent_ends_at", "retries", "recovered_from")
        connection = self._connections[connection_id]
        entry = {name: connection.get(name) for name in ("status", "generation")} | dict.fromkeys(names)
        entry |= {"id": secrets.token_hex(8), "kind": kind, "at": int(time.time())}
        self._histories.setdefault(connection_id, []).insert(0, entry)


class _Adapter(BaseAdapter):
    """Answers requests in the place of the network."""

    def __init__(self, fake: FakeFlowAccountConnect) -> None:
        super().__init__()
        self._fake = fake

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        parts = urlsplit(request.url or "")
        path = unquote(parts.path.removeprefix(urlsplit(URL).path))
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = json.loads(request.body or "{}")
        signed = request.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256 ")
        status, content, after = (
            self._fake.answer(request.method or "", path, query, body)
            if signed
            else (*_Refused(HTTPStatus.FORBIDDEN, "not_signed").answer, 0)
        )
        answer = requests.Response()
        answer.status_code, answer.request, answer.url = int(status), request, request.url or ""
        answer.headers["Retry-After"] = str(after)
        answer.raw = BytesIO(b"" if content is None else json.dumps(content).encode())
        return answer

    def close(self) -> None:
        """Nothing is open."""
