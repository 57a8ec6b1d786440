"""What the pages say, in Thai and in English: one entry for each page.

`{app}` stands for the app: its name, or "your app". In Thai the word `แอป` is before it, and a space or the end behind.

A Thai sentence has no spaces between words, and browsers end its lines by dictionaries that cut words like ถูก|ต้อง in
two. So here the text itself says where a line may end: at a space, or at `|`, which is not shown. Between two of these
stands a phrase of at most about 16 letters, so that it fits on the smallest phone with large letters.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """One page in one language: what happened, and what to do next."""

    title: str
    next_step: str


@dataclass(frozen=True, slots=True)
class Words:
    """The words around the text of a page, in one language."""

    own_name: str
    """The language's name in the language itself."""
    unnamed: str
    """What stands for `{app}` if the app has no name."""
    back: str
    restart: str
    retry: str
    proceed: str
    contact: str
    reference: str


WORDS = {
    "th": Words(
        own_name="ไทย",
        unnamed="ของคุณ",
        back="กลับไปที่|แอป{app}",
        restart="เริ่มเชื่อมต่อ|อีกครั้ง",
        retry="ลองอีกครั้ง",
        proceed="ดำเนินการต่อ",
        contact="ติดต่อทีมงาน|ของแอป{app}",
        reference="หมายเลขอ้างอิง",
    ),
    "en": Words(
        own_name="English",
        unnamed="your app",
        back="Back to {app}",
        restart="Start again",
        retry="Try again",
        proceed="Continue",
        contact="Contact the team of {app}",
        reference="Reference number",
    ),
}

_START_AGAIN = (
    "กรุณากลับไปที่|แอป{app} แล้วเริ่ม|เชื่อมต่อ|อีกครั้ง",
    "Please go back to {app} and start connecting again.",
)

_NEW_LINK = (
    "กรุณากลับไปที่|แอป{app} แล้วกด|เชื่อมต่อ|อีกครั้ง เพื่อรับ|ลิงก์ใหม่",
    "Please go back to {app} and choose to connect again, for a new link.",
)

_USED = (
    409,
    "calm",
    Text(
        "ลิงก์นี้|ใช้ไปแล้ว",
        "กรุณาตรวจสอบ|ในแอป{app} ว่าเชื่อมต่อแล้ว|หรือยัง ถ้ายัง ให้เริ่ม|เชื่อมต่อ|อีกครั้ง",
    ),
    Text(
        "This link has been used already",
        "Please look in {app} whether the connection is there. If it is not, start connecting again.",
    ),
)

_NOT_DONE = (
    Text("เชื่อมต่อกับ FlowAccount ไม่สำเร็จ", _START_AGAIN[0]),
    Text("Connecting to FlowAccount did not work", _START_AGAIN[1]),
)

PAGES: dict[str, tuple[int, str, Text, Text]] = {
    "connected": (
        200,
        "good",
        Text("เชื่อมต่อกับ FlowAccount แล้ว", "ปิดหน้านี้ได้เลย แล้วกลับไป|ใช้งานต่อ|ที่แอป{app}"),
        Text("FlowAccount is connected", "You can close this page and go on in {app}."),
    ),
    "access_denied": (
        200,
        "calm",
        Text(
            "ยังไม่ได้|เชื่อมต่อ เพราะคุณ|กดยกเลิก",
            "ข้อมูลของคุณ|ยังเหมือนเดิม ถ้าต้องการ|เชื่อมต่อ เริ่มใหม่ได้|จากแอป{app}",
        ),
        Text(
            "Not connected, because you cancelled", "Nothing was changed. To connect after all, start again in {app}."
        ),
    ),
    "attempt_expired": (
        410,
        "calm",
        Text("หมดเวลา|เชื่อมต่อแล้ว", _START_AGAIN[0]),
        Text("The time to connect has run out", _START_AGAIN[1]),
    ),
    "link_expired": (
        410,
        "calm",
        Text("ลิงก์นี้|หมดอายุแล้ว", _NEW_LINK[0]),
        Text("This link has expired", _NEW_LINK[1]),
    ),
    "attempt_unknown": (
        400,
        "calm",
        Text(
            "ไม่พบ|การเชื่อมต่อ|ที่เริ่มจาก|เบราว์เซอร์นี้",
            "กรุณาเริ่มใหม่|จากแอป{app} และใช้|เบราว์เซอร์เดียว|จนเสร็จ ถ้าเปิดลิงก์|ในแอป LINE, Facebook หรือ Instagram "
            "ให้เปิดใน Safari หรือ Chrome แทน",
        ),
        Text(
            "No connection was started in this browser",
            "Please start again in {app}, and use one browser until the end. If you opened the link inside LINE, "
            "Facebook or Instagram, open it in Safari or Chrome instead.",
        ),
    ),
    "attempt_used": _USED,
    "link_used": _USED,
    "already_connected": (
        409,
        "good",
        Text(
            "เชื่อมต่อกับ FlowAccount ไว้แล้ว",
            "ลิงก์นี้|เชื่อมต่อสำเร็จ|ไปแล้ว คุณไม่ต้อง|ทำอะไรเพิ่ม กลับไป|ใช้งานต่อ|ที่แอป{app}",
        ),
        Text("FlowAccount is connected already", "This link did its work. You can go on in {app}."),
    ),
    "busy": (
        429,
        "calm",
        Text("ตอนนี้มีผู้ใช้|เชื่อมต่อ|จำนวนมาก", "กรุณารอ|สักหนึ่งนาที แล้วกดลองอีกครั้ง ไม่ต้องเริ่มใหม่|ตั้งแต่ต้น"),
        Text(
            "Many people are connecting right now",
            "Please wait a minute, then try again. You do not have to start again.",
        ),
    ),
    "preview": (
        200,
        "calm",
        Text("เชื่อมต่อ FlowAccount กับแอป{app}", "กดดำเนินการต่อ เพื่อไปยัง|หน้าเข้าสู่ระบบ|ของ FlowAccount"),
        Text("Connect FlowAccount to {app}", "Choose Continue to get to the login of FlowAccount."),
    ),
    "link_required": (
        400,
        "calm",
        Text("กรุณาเริ่ม|เชื่อมต่อ|จากแอป{app}", "เปิดแอป{app} แล้วเลือก|เชื่อมต่อ FlowAccount ในแอปนั้น"),
        Text("Please start connecting in {app}", "Open {app}, and choose there to connect FlowAccount."),
    ),
    "unknown_link": (
        400,
        "calm",
        Text("ลิงก์นี้|หมดอายุ หรือไม่ถูกต้อง", _NEW_LINK[0]),
        Text("This link has expired or is not known here", _NEW_LINK[1]),
    ),
    "wrong_business": (
        409,
        "calm",
        Text(
            "ธุรกิจที่เลือก|ไม่ใช่ธุรกิจ|ที่แอปต้องการ|เชื่อมต่อ",
            "ยังไม่ได้|เชื่อมต่อ กรุณากลับไปที่|แอป{app} แล้วเริ่มใหม่ โดยเลือก|ธุรกิจที่ถูกต้อง ถ้าไม่แน่ใจ "
            "ให้ส่ง|หมายเลขอ้างอิง|ด้านล่าง|ให้ทีมงาน|ของแอป",
        ),
        Text(
            "This is not the business that {app} wants to connect",
            "Nothing was stored. Please go back to {app}, start again and choose the right business. If in doubt, send "
            "the reference number below to the team of the app.",
        ),
    ),
    "business_taken": (
        409,
        "calm",
        Text(
            "ธุรกิจนี้|อาจเชื่อมต่อ|กับบัญชีผู้ใช้อื่น|อยู่แล้ว",
            "ในแอป{app} หนึ่งธุรกิจ|เชื่อมต่อได้|กับบัญชีผู้ใช้เดียว กรุณากลับไป|เลือกธุรกิจอื่น หรือยกเลิก|การเชื่อมต่อ|"
            "จากบัญชีเดิม|ก่อน "
            "ถ้าไม่แน่ใจ ให้ส่ง|หมายเลขอ้างอิง|ด้านล่าง|ให้ทีมงาน|ของแอป",
        ),
        Text(
            "This business may be connected to another account already",
            "In {app} a business is connected to one account. Please go back and choose another business, or have it "
            "disconnected from the other account first. If in doubt, send the reference number below to the team of "
            "the app.",
        ),
    ),
    "to_be_confirmed": (
        409,
        "calm",
        Text("เหลืออีก|ขั้นตอนเดียว", "กรุณากลับไปที่|แอป{app} ภายใน\u00a015\u00a0นาที เพื่อยืนยัน|การเชื่อมต่อ"),
        Text("One step is left", "Please go back to {app} within 15\u00a0minutes to confirm the connection."),
    ),
    "code_rejected": (400, "calm", *_NOT_DONE),
    "authorization_failed": (400, "calm", *_NOT_DONE),
    "temporarily_unavailable": (
        503,
        "calm",
        Text("ตอนนี้|ยังเชื่อมต่อไม่ได้", "กรุณารอสักครู่ แล้วลองใหม่ ถ้ายังไม่สำเร็จ ให้เริ่ม|เชื่อมต่อ|อีกครั้ง|จากแอป{app}"),
        Text(
            "Connecting is not possible right now",
            "Please wait a moment, then try again. If it still does not work, start again in {app}.",
        ),
    ),
    "configuration_error": (
        503,
        "bad",
        Text(
            "ต้องให้ทีมงาน|ของแอป|แก้ไขก่อน",
            "การเชื่อมต่อ|ยังตั้งค่า|ไม่ถูกต้อง ลองใหม่ตอนนี้|ก็ยังไม่สำเร็จ กรุณาส่ง|หมายเลขอ้างอิง|ด้านล่าง|ให้ทีมงาน|ของแอป{app}",
        ),
        Text(
            "Only the team of the app can fix this",
            "The connection is not set up correctly. Trying again now will not help. Please send the reference number "
            "below to the team of {app}.",
        ),
    ),
    "incomplete_grant": (
        503,
        "bad",
        Text(
            "FlowAccount ให้สิทธิ์|ไม่ครบ",
            "ยังไม่ได้|เชื่อมต่อ กรุณาส่ง|หมายเลขอ้างอิง|ด้านล่าง|ให้ทีมงาน|ของแอป{app}",
        ),
        Text(
            "FlowAccount did not grant all that is needed",
            "Nothing was stored. Please send the reference number below to the team of {app}.",
        ),
    ),
    "invalid_request": (
        400,
        "calm",
        Text("ลิงก์นี้|ไม่ถูกต้อง หรือไม่ครบถ้วน", _START_AGAIN[0]),
        Text("This link is wrong or not complete", _START_AGAIN[1]),
    ),
}
"""By the name of the page: its HTTP status, its tone, and its text in Thai and in English."""
