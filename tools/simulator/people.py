"""The demo users and the businesses they keep books for. All of them are invented."""

from __future__ import annotations

import re
from dataclasses import dataclass

DEMO_PASSWORD = "flowaccount-demo"  # noqa: S105 - printed on the login page, on purpose
"""The password of every demo user; the login page shows it."""

SUPPORT_CODE = re.compile(r"N[0-9]{1,18}")
"""What a `supportCode` looks like: `N` and digits in everything seen."""


@dataclass(frozen=True)
class Business:
    """A company in FlowAccount, with the code by which systems outside refer to it."""

    support_code: str
    company_id: int
    thai: str
    english: str


@dataclass(frozen=True)
class User:
    """Somebody who may log in, and the support codes of the businesses that he or she can choose from."""

    username: str
    thai: str
    english: str
    role_thai: str
    role_english: str
    businesses: tuple[str, ...]


BUSINESSES = {
    business.support_code: business
    for business in (
        Business("N1000001", 1001, "บริษัท กาแฟดอยหลวง จำกัด", "Doi Luang Coffee Co., Ltd."),
        Business("N1000002", 1002, "ร้านเบเกอรี่บ้านสวนริมคลอง", "Baan Suan Rim Khlong Bakery"),
        Business("N1000003", 1003, "ห้างหุ้นส่วนจำกัด เชียงใหม่ผ้าทอ", "Chiang Mai Handwoven Ltd., Part."),
        Business(
            "N1000004",
            1004,
            "บริษัท อันดามันซีฟู้ด อินเตอร์เนชั่นแนล เทรดดิ้ง (ประเทศไทย) จำกัด",
            "Andaman Seafood International Trading (Thailand) Co., Ltd.",
        ),
        Business("N1000005", 1005, "คลินิกทันตกรรมยิ้มสวย", "Yim Suay Dental Clinic"),
        Business("N1000006", 1006, "บริษัท โรงพิมพ์สยามอักษร จำกัด (มหาชน)", "Siam Aksorn Printing Public Co., Ltd."),
    )
}
"""Demo businesses by support code."""

USERS = {
    user.username: user
    for user in (
        User(
            "somchai",
            "สมชาย ใจดี",
            "Somchai Jaidee",
            "เจ้าของกิจการ",
            "Owner",
            ("N1000001", "N1000002", "N1000003"),
        ),
        User(
            "suda",
            "สุดารัตน์ วงศ์ทอง",
            "Sudarat Wongthong",
            "นักบัญชี",
            "Accountant",
            ("N1000001", "N1000004", "N1000005", "N1000006"),
        ),
        User("anong", "อนงค์ ศรีสุข", "Anong Srisuk", "ผู้จัดการสำนักงาน", "Office manager", ("N1000002", "N1000005")),
    )
}
"""Demo users by user name."""


def business(support_code: str) -> Business:
    """The demo business of that code, or an invented one: the control API makes consents for any code."""
    if known := BUSINESSES.get(support_code):
        return known
    number = int(support_code.removeprefix("N"))
    return Business(support_code, number, f"บริษัท ทดสอบ {number} จำกัด", f"Test {number} Co., Ltd.")
