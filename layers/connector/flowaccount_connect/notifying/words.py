"""What people read: what has happened, what to do, and where the runbook goes on. In English and in Thai."""

from textwrap import shorten
from typing import Literal, NamedTuple

from flowaccount_connect.notifying.notices import ALARM, Waiting

Language = Literal["en", "th"]

SHOWN = 5
"""As many connections are named; the others are counted."""


class _Words(NamedTuple):
    """One kind of trouble: what it is and what to do, each in English and in Thai, and its entry in docs/runbook.md."""

    what: dict[Language, str]
    act: dict[Language, str]
    entry: str


def _words(what: str, act: str, what_th: str, act_th: str, entry: str) -> _Words:
    return _Words({"en": what, "th": what_th}, {"en": act, "th": act_th}, entry)


CONNECTIONS = {
    "at_risk": _words(
        "{connections} at risk",
        "They will be lost soon unless a refresh succeeds or the user gives a new consent. Look at the alarms.",
        "{count:,} connection ใกล้หลุด",
        "ถ้า refresh ไม่สำเร็จ หรือผู้ใช้ไม่เชื่อมต่อใหม่ทันเวลา connection จะหลุด ให้ดู alarm ของระบบ",
        "connections-at-risk",
    ),
    "reauthorization_required": _words(
        "{connections} {need} a new consent",
        "Send each user a new link. If there are many at once, look for one reason first.",
        "{count:,} connection ต้องให้ผู้ใช้เชื่อมต่อใหม่",
        "ส่งลิงก์ใหม่ให้ผู้ใช้แต่ละราย ถ้าหลุดพร้อมกันหลายราย ให้หาสาเหตุร่วมก่อน",
        "reauthorizations-above-normal",
    ),
    "tokens_lost": _words(
        "The tokens of {connections} are lost",
        "Their users must connect again. Find out why before more are lost.",
        "token ของ {count:,} connection สูญหาย",
        "ผู้ใช้ต้องเชื่อมต่อใหม่ ให้รีบหาสาเหตุก่อนที่จะสูญหายเพิ่ม",
        "tokens-lost",
    ),
}

ALARMS = {
    "tick-missing": _words(
        "Nothing is refreshed: the schedule has stopped",
        "Fix it within hours. Connections die a day after their last refresh.",
        "ไม่มีการ refresh: schedule หยุดทำงาน",
        "แก้ให้เสร็จภายในไม่กี่ชั่วโมง connection จะหลุดหนึ่งวันหลัง refresh ครั้งสุดท้าย",
        "tick-missing",
    ),
    "connections-at-risk": _words(
        "Refresh tokens die soon",
        "Another alarm usually gives the reason. Fix it today.",
        "refresh token ใกล้หมดอายุ",
        "มักมี alarm อื่นที่บอกสาเหตุ ให้แก้ภายในวันนี้",
        "connections-at-risk",
    ),
    "tokens-lost": _words(
        "New tokens are lost",
        "The log names the connection and the case. Its user must connect again.",
        "token ใหม่สูญหาย",
        "log บอกว่าเป็น connection ใดและกรณีใด ผู้ใช้ต้องเชื่อมต่อใหม่",
        "tokens-lost",
    ),
    "unwell": _words(
        "Refreshes are paused: the client id, client secret, endpoint or key is wrong",
        "Compare them with FlowAccount's. No token is spent meanwhile.",
        "การ refresh หยุดรอ: client id, client secret, endpoint หรือ key ไม่ถูกต้อง",
        "ตรวจค่าให้ตรงกับของ FlowAccount ระหว่างนี้ไม่มี token ใดถูกใช้ไป",
        "unwell",
    ),
    "connecting-refused": _words(
        "Users cannot connect",
        "Check the client secret, the client id and the redirect URI.",
        "ผู้ใช้เชื่อมต่อไม่ได้",
        "ตรวจ client secret, client id และ redirect URI",
        "connecting-refused",
    ),
    "unanswered": _words(
        "FlowAccount does not answer, or answers 429",
        "Nothing is lost yet. Check whether FlowAccount is down.",
        "FlowAccount ไม่ตอบ หรือตอบ 429",
        "ยังไม่มีอะไรสูญหาย ให้ตรวจว่า FlowAccount ล่มหรือไม่",
        "unanswered",
    ),
    "reauthorizations-above-normal": _words(
        "More connections than usual need a new consent",
        "Look for one reason before you write to the users.",
        "มี connection ที่ต้องเชื่อมต่อใหม่มากกว่าปกติ",
        "หาสาเหตุร่วมก่อนติดต่อผู้ใช้",
        "reauthorizations-above-normal",
    ),
    "capacity-nearly-used": _words(
        "The allowed rate is nearly used up",
        "Ask FlowAccount for a higher limit, then raise RefreshesPerMinute.",
        "ใช้ rate ที่อนุญาตใกล้เต็มแล้ว",
        "ขอ limit ที่สูงขึ้นจาก FlowAccount แล้วเพิ่ม RefreshesPerMinute",
        "capacity-nearly-used",
    ),
    "dead-letters": _words(
        "Some work was given up after all retries",
        "Read the dead-letter queue. No token is lost by it.",
        "มีงานที่ระบบเลิกพยายามแล้ว",
        "อ่านข้อความใน dead letters ไม่มี token สูญหาย",
        "dead-letters",
    ),
    "pending-commits": _words(
        "New tokens cannot be written, and a queue holds the only copy",
        "Fix the table. Do not purge the queue.",
        "เขียน token ใหม่ลงตารางไม่ได้ และสำเนาเดียวอยู่ในคิว",
        "แก้ปัญหาของตาราง ห้ามล้างคิว",
        "pending-commits",
    ),
    "events-unpublished": _words(
        "Events wait to be published",
        "Look at the log of publish. Nothing is lost.",
        "มี event ที่ยังส่งออกไม่ได้",
        "ดู log ของ publish ยังไม่มีอะไรสูญหาย",
        "events-unpublished",
    ),
    "events-late": _words(
        "Events are ten minutes late or more",
        "Look at the log of publish.",
        "event ล่าช้าสิบนาทีขึ้นไป",
        "ดู log ของ publish",
        "events-late",
    ),
    "api-errors": _words(
        "The API answers with errors",
        "Check which error code it is.",
        "API ตอบ error",
        "ดูว่าเป็น code ใด",
        "api-errors",
    ),
    "undelivered": _words(
        "A receiver did not take a message for a day",
        "Fix the receiver, then redrive the messages to its queue.",
        "ผู้รับไม่รับข้อความมาหนึ่งวันแล้ว",
        "แก้ที่ผู้รับ แล้วส่งข้อความกลับเข้าคิว",
        "undelivered",
    ),
}

_MORE: dict[Language, str] = {"en": " and {more:,} more", "th": " และอีก {more:,} ราย"}
_OVER: dict[Language, str] = {"en": "It is over: ", "th": "กลับเป็นปกติแล้ว: "}
_TIMES: dict[Language, str] = {"en": " ({count:,} changes)", "th": " (เปลี่ยนสถานะ {count:,} ครั้ง)"}


def text(kind: str, waiting: Waiting, *, stack: str, language: Language) -> str:
    """The message about one kind of trouble: three lines, of which the first says all in short."""
    words, first = _of(kind), _short(kind, waiting, language)
    if _is_over(waiting):
        return f"[{stack}] {first}"
    shown, count = waiting.subjects[:SHOWN], waiting.count
    if not kind.startswith(ALARM) and shown:
        rest = _MORE[language].format(more=count - len(shown)) if count > len(shown) else ""
        first += f": {', '.join(shown)}{rest}"
    lines = (f"[{stack}] {first}", words.act[language], f"docs/runbook.md#{words.entry}")
    return "\n".join(line for line in lines if line)


def subject(kind: str, waiting: Waiting, *, stack: str) -> str:
    """The message's first line without names, in English: a mail's subject is ASCII, below 100 characters."""
    first = f"[{stack}] {_short(kind, waiting, 'en')}".encode("ascii", "replace").decode()
    return shorten(first, 99, placeholder=" ...")


def _of(kind: str) -> _Words:
    if not kind.startswith(ALARM):
        return CONNECTIONS[kind]
    name = kind.removeprefix(ALARM)
    function = name.removesuffix("-errors")
    if name in ALARMS or function == name:
        return ALARMS.get(name) or _words(name, "", name, "", name)
    return _words(
        f"The function {function} fails",
        "It crashed, or ran out of time or memory. Look at its log.",
        f"ฟังก์ชัน {function} ทำงานไม่สำเร็จ",
        "ฟังก์ชันหยุดกลางคัน หมดเวลา หรือหน่วยความจำไม่พอ ให้ดู log ของฟังก์ชันนี้",
        "function-errors",
    )


def _short(kind: str, waiting: Waiting, language: Language) -> str:
    """What has happened, and how often."""
    count, what = waiting.count, _of(kind).what[language]
    if not kind.startswith(ALARM):
        connections, need = ("1 connection", "needs") if count == 1 else (f"{count:,} connections", "need")
        return what.format(count=count, connections=connections, need=need)
    over = _OVER[language] if _is_over(waiting) else ""
    return over + what + (_TIMES[language].format(count=count) if count > 1 else "")


def _is_over(waiting: Waiting) -> bool:
    """Whether an alarm's last change was its end."""
    return bool(waiting.subjects) and waiting.subjects[-1].endswith(" OK")
