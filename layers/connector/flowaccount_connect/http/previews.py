"""Who asks without a person who opened the link: previews of chat apps, prefetching browsers, `HEAD`.

Such a request must begin nothing and consume nothing: it would do so for nobody. It gets a page that says what the link
is for, with a button that goes on. The names are those that the services send for previews only. The browsers inside
their apps have other names (`Line/`, `FBAV`, `Instagram`): people use them.
"""

from flowaccount_connect.http.request import Request

_ROBOTS = (
    "facebookexternalhit",  # Facebook, Messenger, Instagram; LINE and iMessage name it too
    "facebookcatalog",
    "meta-externalagent",
    "meta-externalfetcher",
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


def is_prefetch(request: Request) -> bool:
    """Whether a browser asks ahead of its user, who may never come."""
    purposes = (request.headers.get(name, "") for name in ("sec-purpose", "purpose", "x-purpose", "x-moz"))
    return any("prefetch" in value.lower() or "preview" in value.lower() for value in purposes)


def is_preview(request: Request) -> bool:
    """Whether no person waits for the answer.

    `Sec-Fetch-User` (Fetch metadata, section 2.4) is sent by a browser whose user has just tapped: whatever name such a
    browser has, it is no robot.
    """
    if request.method == "HEAD" or is_prefetch(request):
        return True
    tapped = request.headers.get("sec-fetch-user") == "?1"
    agent = request.headers.get("user-agent", "").lower()
    return not tapped and any(robot in agent for robot in _ROBOTS)
