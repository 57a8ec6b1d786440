"""The pages that a business owner sees for five seconds: what happened, what to do next, in Thai or English.

They have no script, load nothing, and allow one inline style by its hash. Nothing on them comes from the request. The
way back to the app is a return URL of the allow-list.
"""

import base64
import hashlib
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from string import Template

from flowaccount_connect.http.problems import SECURITY_HEADERS, Problem, Response
from flowaccount_connect.http.request import Request


@dataclass(frozen=True, slots=True)
class Text:
    """One page in one language: what happened, and what to do next."""

    title: str
    next_step: str


_START_AGAIN = (
    "กรุณากลับไปที่แอปของคุณ แล้วเริ่มเชื่อมต่อใหม่อีกครั้ง",
    "Please go back to your app and start connecting again.",
)

_EXPIRED = (
    410,
    "calm",
    Text("หมดเวลาเชื่อมต่อแล้ว", _START_AGAIN[0]),
    Text("The time to connect has run out", _START_AGAIN[1]),
)

_USED = (
    409,
    "calm",
    Text("ลิงก์นี้ถูกใช้ไปแล้ว", "กรุณาดูในแอปของคุณว่าเชื่อมต่อแล้วหรือยัง หากยัง ให้เริ่มเชื่อมต่อใหม่อีกครั้ง"),
    Text(
        "This link has been used already",
        "Please look in your app whether the connection is there, and start again if it is not.",
    ),
)

_PAGES: dict[str, tuple[int, str, Text, Text]] = {
    "connected": (
        200,
        "good",
        Text("เชื่อมต่อ FlowAccount เรียบร้อยแล้ว", "ปิดหน้านี้ แล้วกลับไปใช้งานแอปของคุณต่อได้เลย"),
        Text("FlowAccount is connected", "You can close this page and go on in your app."),
    ),
    "access_denied": (
        200,
        "calm",
        Text("คุณยกเลิกการเชื่อมต่อแล้ว", "ไม่มีข้อมูลใดเปลี่ยนแปลง หากต้องการเชื่อมต่อ เริ่มใหม่ได้จากแอปของคุณ"),
        Text(
            "You cancelled the connection",
            "Nothing was changed. To connect after all, start again from your app.",
        ),
    ),
    "attempt_expired": _EXPIRED,
    "link_expired": _EXPIRED,
    "attempt_unknown": (
        400,
        "calm",
        Text(
            "ไม่พบการเชื่อมต่อที่เริ่มจากเบราว์เซอร์นี้",
            "กรุณาเริ่มใหม่จากแอปของคุณ โดยใช้อุปกรณ์และเบราว์เซอร์เดียวกันจนเสร็จ",
        ),
        Text(
            "No connection was started in this browser",
            "Please start again from your app, and finish on the same device and in the same browser.",
        ),
    ),
    "attempt_used": _USED,
    "link_used": _USED,
    "already_connected": (
        409,
        "good",
        Text("เชื่อมต่อ FlowAccount ไว้แล้ว", "ลิงก์นี้ใช้เชื่อมต่อสำเร็จไปแล้ว กลับไปใช้งานแอปของคุณต่อได้เลย"),
        Text("FlowAccount is connected already", "This link did its work. You can go back and go on in your app."),
    ),
    "busy": (
        429,
        "calm",
        Text("ขณะนี้มีผู้ใช้งานจำนวนมาก", "ยังไม่มีข้อมูลใดเปลี่ยนแปลง กรุณารอหนึ่งนาที แล้วกดลองอีกครั้ง"),
        Text("Many people are connecting right now", "Nothing was changed. Please wait a minute, then try again."),
    ),
    "preview": (
        200,
        "calm",
        Text("เชื่อมต่อ FlowAccount", "เปิดลิงก์นี้เพื่อเชื่อมต่อบัญชี FlowAccount ของคุณกับแอปที่คุณใช้งาน"),
        Text("Connect FlowAccount", "Open this link to connect your FlowAccount account to the app that you use."),
    ),
    "link_required": (
        400,
        "calm",
        Text("กรุณาเริ่มเชื่อมต่อจากในแอปของคุณ", "เปิดแอปที่คุณใช้งาน แล้วกดเชื่อมต่อ FlowAccount จากในแอปนั้น"),
        Text(
            "Please start connecting from within your app",
            "Open the app that you use, and choose there to connect FlowAccount.",
        ),
    ),
    "unknown_link": (
        400,
        "calm",
        Text("ลิงก์นี้หมดอายุหรือใช้ไม่ได้แล้ว", "กรุณากลับไปที่แอปของคุณ แล้วกดเชื่อมต่อ FlowAccount อีกครั้งเพื่อรับลิงก์ใหม่"),
        Text(
            "This link has expired or is not known here",
            "Please go back to your app and choose to connect FlowAccount again, for a new link.",
        ),
    ),
    "wrong_business": (
        409,
        "calm",
        Text(
            "ธุรกิจที่คุณเลือกไม่ตรงกับที่แอปรอการเชื่อมต่อ",
            "ไม่มีการบันทึกข้อมูลใด กรุณาเริ่มใหม่จากแอปของคุณแล้วเลือกธุรกิจที่ถูกต้อง หรือส่งหมายเลขอ้างอิงด้านล่างให้ผู้ดูแลระบบ",
        ),
        Text(
            "This is not the business that your app expects",
            "Nothing was stored. Please start again from your app and choose the right business, or send your "
            "administrator the reference number below.",
        ),
    ),
    "to_be_confirmed": (
        409,
        "calm",
        Text("เหลืออีกขั้นตอนเดียว", "กรุณากลับไปที่แอปของคุณ เพื่อให้แอปยืนยันการเชื่อมต่อให้เสร็จภายใน 15 นาที"),
        Text(
            "One step is left",
            "Please go back to your app, which confirms the connection; it has 15 minutes to do so.",
        ),
    ),
    "code_rejected": (
        400,
        "calm",
        Text("FlowAccount ไม่ยืนยันการเชื่อมต่อครั้งนี้", _START_AGAIN[0]),
        Text("FlowAccount did not accept this connection", _START_AGAIN[1]),
    ),
    "authorization_failed": (
        400,
        "calm",
        Text("การเชื่อมต่อที่ FlowAccount ไม่สำเร็จ", _START_AGAIN[0]),
        Text("FlowAccount could not finish this", _START_AGAIN[1]),
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
            "เรื่องนี้ต้องให้ผู้ดูแลระบบแก้ไข",
            "การเชื่อมต่อยังตั้งค่าไม่ถูกต้อง กรุณาส่งหมายเลขอ้างอิงด้านล่างให้ผู้ดูแลระบบ การลองใหม่จะยังไม่ช่วย",
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
            "FlowAccount ให้สิทธิ์มาไม่ครบ",
            "ไม่มีการบันทึกข้อมูลใด กรุณาส่งหมายเลขอ้างอิงด้านล่างให้ผู้ดูแลระบบ",
        ),
        Text(
            "FlowAccount did not grant all that is needed",
            "Nothing was stored. Please send your administrator the reference number below.",
        ),
    ),
    "invalid_request": (
        400,
        "calm",
        Text("ลิงก์นี้ไม่ถูกต้องหรือไม่ครบถ้วน", _START_AGAIN[0]),
        Text("This link is wrong or not complete", _START_AGAIN[1]),
    ),
}

KINDS = frozenset(_PAGES)
"""Every page there is."""

_COMPOUNDS = (
    *("เชื่อมต่อ", "หมายเลขอ้างอิง", "ด้านล่าง", "ผู้ดูแลระบบ", "ไม่ยืนยัน", "เรียบร้อยแล้ว", "กลับไป", "ใช้งาน", "ตั้งค่า"),
    *("หรือยัง", "เบราว์เซอร์", "อุปกรณ์", "อีกครั้ง", "ของคุณ", "ข้อมูลใด"),
)
"""Thai words that the dictionaries of browsers break in two where a line ends, which reads as a stumble."""

_SIGNS = {
    "good": "M7 12.5l3.5 3.5L17 9",
    "calm": "M12 11v5.5M12 7.4v.2",
    "bad": "M12 7v6M12 16.4v.2",
}
"""A tick, an i, an exclamation mark, drawn in a circle; the words say it without them."""

# Lengths are in rem so that they grow with the reader's text, except where that would take the room from the text.
# Thai needs tall lines for its vowels and tone marks, and no letter spacing; with `lang` set browsers wrap it by words.
_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#56606f;--ground:#f3f5f8;--card:#fff;--line:#d7dce3;
--good:#0b7a4b;--calm:#1f5fbf;--bad:#b3261e;--onbutton:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#eef2f7;--soft:#b1bac6;--ground:#12161c;--card:#1b2129;--line:#343d49;
--good:#4fd09a;--calm:#8ab8ff;--bad:#ff9a92;--onbutton:#12161c}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;min-height:100svh;display:grid;place-items:center;padding:min(1rem,4vw);
background:var(--ground);color:var(--ink);overflow-wrap:anywhere;
font:1.0625rem/1.75 system-ui,"Noto Sans Thai","Leelawadee UI","Sukhumvit Set",Thonburi,Loma,sans-serif}
main{width:100%;max-width:28rem;background:var(--card);border:1px solid var(--line);border-radius:1rem;
padding:min(2rem,7vw) min(2rem,6vw) min(1.5rem,6vw);box-shadow:0 1px 2px #0001,0 8px 24px #0000000d}
.good{--tone:var(--good)}.calm{--tone:var(--calm)}.bad{--tone:var(--bad)}
h1 span,p span{white-space:nowrap}
svg{display:block;width:3rem;height:3rem;margin:0 0 1rem -.125rem;fill:none;stroke:var(--tone);stroke-width:1.75;
stroke-linecap:round;stroke-linejoin:round}
h1{margin:0 0 .5rem;font-size:min(1.375rem,9.25vw);line-height:1.5;text-wrap:balance}
p{margin:0 0 1.5rem;text-wrap:pretty}
a{display:block;padding:.625rem 1.25rem;border-radius:.625rem;background:var(--calm);color:var(--onbutton);
text-align:center;text-decoration:none;font-weight:600}
a:hover{text-decoration:underline}
a:focus-visible{outline:3px solid var(--ink);outline-offset:2px}
small{display:block;padding-top:.75rem;border-top:1px solid var(--line);color:var(--soft);font-size:.875rem}
small span{display:block;user-select:all}
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
<svg viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="10"/><path d="$sign"/></svg>
<h1>$heading</h1>
<p>$next_step</p>
$buttons<small>$reference_label <span translate="no">$reference</span></small>
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
        if name.strip().lower() == "q":
            try:
                quality = float(value)
            except ValueError:
                continue
        if best < quality <= 1.0:
            best, found = quality, primary
    return found


def _worded(text: str) -> str:
    """A sentence as markup, in which no line ends within one of the compounds."""
    text = escape(text)
    for word in _COMPOUNDS:
        text = text.replace(word, f"<span>{word}</span>")
    return text


def _button(url: str, label: str) -> str:
    return f'<p><a href="{escape(url)}" rel="noreferrer">{label}</a></p>\n'


def problem_page(request: Request, problem: Problem) -> Response:
    """What a person reads of a problem: the page of its code if it has one, with the status of the problem."""
    if problem.code in KINDS:
        kind = problem.code
    else:
        kind = "invalid_request" if problem.status < HTTPStatus.INTERNAL_SERVER_ERROR else "temporarily_unavailable"
    answer = page(kind, accept_language=request.language, reference=request.id, back=problem.back)
    return answer | {"statusCode": problem.status.value}


def page(
    kind: str, *, accept_language: str, reference: str, back: str | None = None, retry_after: int | None = None
) -> Response:
    """The page `kind` as an answer of the API.

    `back` is an allowed return URL, where a button leads. With `retry_after`, in seconds, a button loads the same URL
    once more. `reference` is the id of the request.
    """
    status, tone, thai, english = _PAGES[kind]
    lang = language(accept_language)
    text = thai if lang == "th" else english
    buttons = ""
    if retry_after is not None:
        buttons += _button("", "ลองอีกครั้ง" if lang == "th" else "Try again")
    if back:
        buttons += _button(back, "กลับไปที่แอป" if lang == "th" else "Back to your app")
    body = _DOCUMENT.substitute(
        lang=lang,
        title=escape(text.title),
        heading=_worded(text.title),
        next_step=_worded(text.next_step),
        style=_STYLE,
        tone=tone,
        kind=kind,
        sign=_SIGNS[tone],
        buttons=buttons,
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
            **({"Retry-After": str(retry_after)} if retry_after is not None else {}),
        },
        "body": body,
    }
