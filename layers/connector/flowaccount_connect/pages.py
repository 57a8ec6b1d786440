"""The pages that a business owner sees for five seconds: what happened, what to do next, in Thai or English.

No script, one inline style allowed by its hash, nothing loaded from anywhere, and nothing on them that came from a
request but the way back to the host, which is on the allow-list.
"""

import base64
import hashlib
from dataclasses import dataclass
from html import escape
from string import Template

from flowaccount_connect.problems import SECURITY_HEADERS, Response


@dataclass(frozen=True, slots=True)
class Text:
    """One page in one language: what happened, and what to do next."""

    title: str
    next_step: str


_PAGES: dict[str, tuple[int, str, Text, Text]] = {
    "connected": (
        200,
        "good",
        Text("เชื่อมต่อ FlowAccount สำเร็จแล้ว", "คุณปิดหน้านี้แล้วกลับไปใช้งานแอปของคุณต่อได้เลย"),
        Text("FlowAccount is connected", "You can close this page and go on in your app."),
    ),
    "access_denied": (
        200,
        "calm",
        Text("คุณได้ยกเลิกการเชื่อมต่อ", "ไม่มีข้อมูลใดถูกเปลี่ยนแปลง หากต้องการเชื่อมต่อ ให้เริ่มใหม่จากแอปของคุณ"),
        Text(
            "You cancelled the connection",
            "Nothing was changed. To connect after all, start again from your app.",
        ),
    ),
    "session_expired": (
        410,
        "calm",
        Text("หมดเวลาการเชื่อมต่อแล้ว", "กรุณากลับไปที่แอปของคุณแล้วเริ่มเชื่อมต่อใหม่อีกครั้ง"),
        Text("This took too long", "Please go back to your app and start connecting again."),
    ),
    "session_unknown": (
        400,
        "calm",
        Text(
            "ไม่พบการเชื่อมต่อที่เริ่มไว้ในเบราว์เซอร์นี้",
            "กรุณาเริ่มเชื่อมต่อใหม่จากแอปของคุณ และทำให้เสร็จในเบราว์เซอร์เดียวกัน",
        ),
        Text(
            "No connection was started in this browser",
            "Please start again from your app, and finish in the same browser.",
        ),
    ),
    "session_used": (
        409,
        "calm",
        Text("ลิงก์นี้ถูกใช้ไปแล้ว", "กรุณากลับไปที่แอปของคุณเพื่อดูว่าเชื่อมต่อสำเร็จหรือไม่ แล้วเริ่มใหม่หากจำเป็น"),
        Text(
            "This link has been used already",
            "Please look in your app whether the connection is there, and start again if it is not.",
        ),
    ),
    "code_rejected": (
        400,
        "calm",
        Text("FlowAccount ไม่ยอมรับการเชื่อมต่อครั้งนี้", "กรุณากลับไปที่แอปของคุณแล้วเริ่มเชื่อมต่อใหม่อีกครั้ง"),
        Text(
            "FlowAccount did not accept this connection",
            "Please go back to your app and start connecting again.",
        ),
    ),
    "authorization_failed": (
        400,
        "calm",
        Text("การเชื่อมต่อไม่สำเร็จที่ FlowAccount", "กรุณากลับไปที่แอปของคุณแล้วเริ่มเชื่อมต่อใหม่อีกครั้ง"),
        Text("FlowAccount could not finish this", "Please go back to your app and start connecting again."),
    ),
    "temporarily_unavailable": (
        503,
        "calm",
        Text("ขณะนี้ยังเชื่อมต่อไม่ได้", "กรุณารอสักครู่ แล้วเริ่มเชื่อมต่อใหม่จากแอปของคุณ"),
        Text("Connecting is not possible right now", "Please wait a moment, then start again from your app."),
    ),
    "configuration_error": (
        503,
        "bad",
        Text(
            "การเชื่อมต่อยังตั้งค่าไม่ถูกต้อง",
            "กรุณาแจ้งผู้ดูแลระบบของคุณพร้อมหมายเลขอ้างอิงด้านล่าง การลองใหม่จะยังไม่ช่วยแก้ปัญหา",
        ),
        Text(
            "This needs your administrator",
            "It is not set up correctly. Please send them the reference number below; trying again will not help.",
        ),
    ),
    "incomplete_grant": (
        503,
        "bad",
        Text(
            "FlowAccount ไม่ได้ให้สิทธิ์ครบถ้วน",
            "ไม่มีข้อมูลใดถูกบันทึก กรุณาแจ้งผู้ดูแลระบบของคุณพร้อมหมายเลขอ้างอิงด้านล่าง",
        ),
        Text(
            "FlowAccount did not grant all that is needed",
            "Nothing was stored. Please send your administrator the reference number below.",
        ),
    ),
    "invalid_request": (
        400,
        "calm",
        Text("ลิงก์นี้ไม่สมบูรณ์", "กรุณากลับไปที่แอปของคุณแล้วเริ่มเชื่อมต่อใหม่อีกครั้ง"),
        Text("This link is not complete", "Please go back to your app and start connecting again."),
    ),
}

KINDS = frozenset(_PAGES)
"""Every page there is."""

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#56606f;--ground:#f3f5f8;--card:#fff;--line:#d7dce3;
--good:#0b7a4b;--calm:#1f5fbf;--bad:#b3261e;--onbutton:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#eef2f7;--soft:#b1bac6;--ground:#12161c;--card:#1b2129;--line:#343d49;
--good:#4fd09a;--calm:#8ab8ff;--bad:#ff9a92;--onbutton:#12161c}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1rem;background:var(--ground);color:var(--ink);
font:1.0625rem/1.7 system-ui,"Noto Sans Thai","Leelawadee UI","Sukhumvit Set",Thonburi,Loma,sans-serif}
main{width:100%;max-width:28rem;background:var(--card);border:1px solid var(--line);border-radius:.75rem;
border-top:.375rem solid var(--tone);padding:1.5rem 1.5rem 1.25rem;overflow-wrap:break-word}
.good{--tone:var(--good)}.calm{--tone:var(--calm)}.bad{--tone:var(--bad)}
h1{margin:0 0 .5rem;font-size:1.375rem;line-height:1.45}
p{margin:0 0 1rem}
a{display:inline-block;padding:.625rem 1.25rem;border-radius:.5rem;background:var(--calm);color:var(--onbutton);
text-decoration:none;font-weight:600}
a:focus-visible{outline:3px solid var(--ink);outline-offset:2px}
small{display:block;padding-top:.75rem;border-top:1px solid var(--line);color:var(--soft);font-size:.875rem}
"""

_DOCUMENT = Template("""<!doctype html>
<html lang="$lang">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main class="$tone" data-page="$kind">
<h1>$title</h1>
<p>$next_step</p>
$back<small>$reference_label: <span>$reference</span></small>
</main>
</body>
</html>
""")

_CSP = (
    "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def language(accept_language: str) -> str:
    """`th` or `en`, by an `Accept-Language` header (RFC 9110 section 12.5.4); Thai where it says nothing."""
    best, found = 0.0, "th"
    for part in accept_language[:200].split(","):
        tag, _, parameters = part.strip().partition(";")
        primary = tag.strip().lower().partition("-")[0]
        if primary not in ("th", "en"):
            continue
        quality = 1.0
        name, _, value = parameters.strip().partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                continue
        if best < quality <= 1.0:
            best, found = quality, primary
    return found


def page(kind: str, *, accept_language: str, reference: str, back: str | None = None) -> Response:
    """The page `kind` as an answer of the API. `back` is an allowed return URL, `reference` the request id."""
    status, tone, thai, english = _PAGES[kind]
    lang = language(accept_language)
    text = thai if lang == "th" else english
    label = "กลับไปที่แอป" if lang == "th" else "Back to your app"
    body = _DOCUMENT.substitute(
        lang=lang,
        title=escape(text.title),
        next_step=escape(text.next_step),
        style=_STYLE,
        tone=tone,
        kind=kind,
        back=f'<p><a href="{escape(back)}">{label}</a></p>\n' if back else "",
        reference_label="หมายเลขอ้างอิง" if lang == "th" else "Reference number",
        reference=escape(reference),
    )
    return {
        "statusCode": status,
        "headers": {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Language": lang,
            "Content-Security-Policy": _CSP,
            "X-Frame-Options": "DENY",
            "Vary": "Accept-Language, Accept",
            **SECURITY_HEADERS,
        },
        "body": body,
    }
