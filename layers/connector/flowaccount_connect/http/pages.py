"""The pages that a business owner sees for five seconds: what happened, what to do next, in Thai and in English.

Each page has both languages, and shows the one that the browser prefers. Two radio buttons switch to the other: without
script, and without a request, since a request could consume something. A page loads nothing but the app's logo, and
allows one inline style by its hash. Nothing on it comes from the request. The way back to the
app is a return URL of the allow-list. `texts` has what the pages say.
"""

import base64
import hashlib
import re
from html import escape
from http import HTTPStatus
from string import Template

from flowaccount_connect.domain.app import App
from flowaccount_connect.http.previews import is_prefetch
from flowaccount_connect.http.problems import SECURITY_HEADERS, Problem, Response
from flowaccount_connect.http.request import Request
from flowaccount_connect.http.texts import PAGES, WORDS, Text, Words

KINDS = frozenset(PAGES)
"""Every page there is."""

_NOTHING_TO_RESTART = (
    *("connected", "already_connected", "to_be_confirmed", "attempt_used", "link_used"),
    *("configuration_error", "incomplete_grant"),
)
"""Pages whose button leads back to the app, and begins no new connect."""

_SIGNS = {
    "good": "M7 12.5l3.5 3.5L17 9",
    "calm": "M12 11v5.5M12 7.4v.2",
    "bad": "M12 7v6M12 16.4v.2",
}
"""A tick, an i, an exclamation mark, drawn in a circle; the words say it without them."""

# Lengths are in rem so that they grow with the reader's text, except where that would take the room from the text.
# Thai needs tall lines for its vowels and tone marks, and no letter spacing. A line of it ends between two spans only.
_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#56606f;--ground:#f3f5f8;--card:#fff;--line:#d7dce3;
--good:#0b7a4b;--calm:#1f5fbf;--bad:#b3261e;--onbutton:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#eef2f7;--soft:#b1bac6;--ground:#12161c;--card:#1b2129;--line:#343d49;
--good:#4fd09a;--calm:#8ab8ff;--bad:#ff9a92;--onbutton:#12161c}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;min-height:100svh;display:grid;place-items:center;padding:min(1rem,4vw);
background:var(--ground);color:var(--ink);overflow-wrap:anywhere;
font:1.0625rem/1.75 system-ui,"Noto Sans Thai","Leelawadee UI","Sukhumvit Set",Thonburi,Loma,sans-serif}
main{position:relative;min-width:0;display:flex;flex-wrap:wrap;align-items:center;width:100%;max-width:28rem;
background:var(--card);border:1px solid var(--line);border-radius:1rem;
padding:min(1.25rem,5vw) min(2rem,6vw) min(1.5rem,6vw);box-shadow:0 1px 2px #0001,0 8px 24px #0000000d}
.good{--tone:var(--good)}.calm{--tone:var(--calm)}.bad{--tone:var(--bad)}
header{display:flex;flex-wrap:wrap;flex:1 1 7rem;align-items:center;gap:.25rem .5rem;min-width:0;font-weight:600;
line-height:1.4}
header:empty{display:none}
header bdi{flex:1 1 5.5rem;max-width:100%;overflow-wrap:break-word}
.whole{display:inline-block;max-width:100%;text-wrap:wrap}
small bdi{text-decoration:underline}
img{flex:none;height:2.25rem;max-width:6rem;object-fit:contain}
input{position:absolute;opacity:0}
label{display:flex;align-items:center;min-height:2.75rem;padding:0 .5rem;color:var(--soft);font-size:.875rem;
border-radius:.5rem;cursor:pointer}
header+input+label{margin-left:auto}
label:last-of-type{margin-right:-.5rem}
:checked+label{color:var(--ink);font-weight:600;text-decoration:underline;text-underline-offset:.35em}
:focus-visible+label{outline:3px solid var(--ink)}
section{flex:0 0 100%;min-width:0;padding-top:1rem}
#th:checked~section[lang=en],#en:checked~section[lang=th]{display:none}
section:lang(th) span{white-space:nowrap}
svg{display:block;width:3rem;height:3rem;margin:0 0 1rem -.125rem;fill:none;stroke:var(--tone);stroke-width:1.75;
stroke-linecap:round;stroke-linejoin:round}
h1{margin:0 0 .5rem;font-size:clamp(1.0625rem,9.25vw,1.375rem);line-height:1.5;text-wrap:balance}
p{margin:0 0 1.5rem;text-wrap:pretty}
p>a{display:block;padding:.625rem min(1.25rem,4vw);border-radius:.625rem;background:var(--calm);color:var(--onbutton);
text-align:center;text-decoration:none;font-weight:600}
p>a:hover{text-decoration:underline}
a:focus-visible{outline:3px solid var(--ink);outline-offset:2px}
small{display:block;padding-top:.75rem;border-top:1px solid var(--line);color:var(--soft);font-size:.875rem}
small b{display:block;font-weight:400;user-select:all}
small a{display:inline-block;padding:.625rem 0;color:var(--calm)}
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
$sections</main>
</body>
</html>
""")

_SECTION = Template("""<section lang="$lang">
<svg viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="10"/><path d="$sign"/></svg>
<h1>$heading</h1>
<p>$next_step</p>
$buttons<small>$reference_label <b translate="no">$reference</b>$contact</small>
</section>
""")

_STYLE_SOURCE = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def _policy(app: App) -> str:
    images = f"img-src {app.logo_source}; " if app.logo_source else ""
    return (
        f"default-src 'none'; style-src 'sha256-{_STYLE_SOURCE}'; {images}"
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
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


_LONG = 24
"""A name of more letters is broken like the text around it. A shorter one stands on one line, if that has the room."""


def _markup(text: str, words: Words, app: App) -> str:
    """A text as markup: phrases that no line end breaks, and the app's name, which a line end may break."""

    def named(sign: str = "") -> str:
        """The name, and the sign that must not begin a line of its own."""
        if app.name is None:
            return escape(words.unnamed) + sign
        whole = "" if len(app.name) > _LONG else ' class="whole"'
        return f'<bdi translate="no"{whole}>{escape(app.name)}{sign}</bdi>'

    if words is WORDS["en"]:
        return re.sub(r"\{app\}([.,]?)", lambda found: named(found[1]), escape(text))
    text = text.replace("{app}", " {app}" if app.name is not None else words.unnamed)

    def phrase(one: str) -> str:
        return named() if one == "{app}" else f"<span>{escape(one)}</span>"

    return " ".join("<wbr>".join(map(phrase, part.split("|"))) for part in text.split(" "))


def _plain(text: str, words: Words, app: App) -> str:
    """A text without markup."""
    blank = "" if app.name is None or words is WORDS["en"] else " "
    return text.replace("|", "").replace("{app}", blank + (app.name or words.unnamed))


def problem_page(request: Request, problem: Problem, app: App) -> Response:
    """What a person reads of a problem: the page of its code if it has one, with the status of the problem."""
    if problem.code in KINDS:
        kind = problem.code
    else:
        kind = "invalid_request" if problem.status < HTTPStatus.INTERNAL_SERVER_ERROR else "temporarily_unavailable"
    answer = page(
        kind,
        app=app,
        accept_language=request.language,
        reference=request.id,
        back=problem.back,
        retry_after=problem.retry_after if kind == "temporarily_unavailable" else None,
    )
    return answer | {"statusCode": problem.status.value}


def preview(request: Request, app: App) -> Response:
    """The answer for a request that no person waits for (`previews`).

    A browser may keep what it fetched ahead, and show it when its user comes: it discards an answer with an error, and
    asks again then (HTML, "prefetch").
    """
    answer = page("preview", app=app, accept_language=request.language, reference=request.id)
    if is_prefetch(request):
        answer |= {"statusCode": HTTPStatus.FORBIDDEN.value}
    return answer | {"body": ""} if request.method == "HEAD" else answer


def page(
    kind: str,
    *,
    app: App,
    accept_language: str,
    reference: str,
    back: str | None = None,
    retry_after: int | None = None,
) -> Response:
    """The page `kind` as an answer of the API.

    `back` is an allowed return URL, where a button leads. With `retry_after`, in seconds, a button loads the same URL
    once more. A page without a button of its own leads to the app's `restart`. `reference` is the id of the request.
    """
    status, tone, thai, english = PAGES[kind]
    preferred = language(accept_language)

    def buttons(words: Words) -> str:
        links: list[tuple[str, str]] = []
        if kind == "preview":
            links.append(("", words.proceed))
        if retry_after is not None:
            links.append(("", words.retry))
        if back is not None:
            links.append((back, words.back))
        if app.restart is not None and not links:
            links.append((app.restart, words.back if kind in _NOTHING_TO_RESTART else words.restart))
        return "".join(
            f'<p><a href="{escape(url)}" rel="noreferrer">{_markup(label, words, app)}</a></p>\n'
            for url, label in links
        )

    def section(lang: str, text: Text) -> str:
        words = WORDS[lang]
        contact = ""
        if app.contact is not None:
            contact = f'<a rel="noreferrer" href="{escape(app.contact)}">{_markup(words.contact, words, app)}</a>'
        return _SECTION.substitute(
            lang=lang,
            sign=_SIGNS[tone],
            heading=_markup(text.title, words, app),
            next_step=_markup(text.next_step, words, app),
            buttons=buttons(words),
            reference_label=words.reference,
            reference=escape(reference),
            contact=contact,
        )

    texts = {"th": thai, "en": english}
    order = [preferred, *(texts.keys() - {preferred})]
    body = _DOCUMENT.substitute(
        lang=preferred,
        title=escape(_plain(texts[preferred].title, WORDS[preferred], app)),
        style=_STYLE,
        tone=tone,
        kind=kind,
        sections=_header(preferred, app) + "".join(section(lang, texts[lang]) for lang in order),
    )
    return {
        "statusCode": status,
        "headers": {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Language": preferred,
            "Content-Security-Policy": _policy(app),
            "X-Frame-Options": "DENY",
            "Vary": "Accept-Language, Accept",
            **SECURITY_HEADERS,
            **({"Retry-After": str(retry_after)} if retry_after is not None else {}),
        },
        "body": body,
    }


def _header(preferred: str, app: App) -> str:
    """The app's logo and name, and the switch of the language."""
    logo = f'<img src="{escape(app.logo)}" alt="">' if app.logo is not None else ""
    name = f'<bdi translate="no">{escape(app.name)}</bdi>' if app.name is not None else ""
    switch = "".join(
        f'<input type="radio" name="language" id="{lang}"{" checked" if lang == preferred else ""}>'
        f'<label for="{lang}" lang="{lang}">{words.own_name}</label>\n'
        for lang, words in WORDS.items()
    )
    return f"<header>{logo}{name}</header>{switch}"
