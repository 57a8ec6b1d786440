"""Who asks for a page without a person who opened it: link previews of chat apps, prefetching browsers, `HEAD`.

Such a request must begin nothing: a preview of a link in a chat would begin an attempt for nobody. It gets a page that
says what the link is for. The names are those that the services send for previews only. The browsers inside their apps
have other names (`Line/`, `FBAV`, `Instagram`): people use them.
"""

from flowaccount_connect.http.request import Request

_ROBOTS = (
    "facebookexternalhit",  # Facebook, Messenger, Instagram; LINE and iMessage name it too
    "facebookcatalog",
    "meta-externalagent",
    "line-poker",
    "slackbot",
    "slack-imgproxy",
    "twitterbot",
    "whatsapp/",
    "telegrambot",
    "discordbot",
    "linkedinbot",
    "skypeuripreview",
    "microsoftpreview",
    "kakaotalk-scrap",
    "googlebot",
    "google-pagerenderer",
    "bingbot",
    "bingpreview",
    "applebot",
)


def is_preview(request: Request) -> bool:
    """Whether no person waits for the answer."""
    purposes = (request.headers.get(name, "") for name in ("sec-purpose", "purpose", "x-purpose", "x-moz"))
    agent = request.headers.get("user-agent", "").lower()
    return (
        request.method == "HEAD"
        or any("prefetch" in value.lower() or "preview" in value.lower() for value in purposes)
        or any(robot in agent for robot in _ROBOTS)
    )
