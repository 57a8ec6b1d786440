"""People: one message for a burst, silence after it, and what Slack and LINE ask for."""

import json
import re
import uuid
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowaccount_connect.notifying import notices, words
from flowaccount_connect.notifying.notices import Waiting
from flowaccount_connect.notifying.people import LINE_URL
from flowaccount_connect.notifying.sending import Answer
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from tests.template.test_alarms import ALWAYS, NOTIFYING, slugs
from tests.unit.notifying import LINE_SECRET, SLACK_URL, World, alarm, event
from tests.unit.tables import client_error

AGAIN = "connection.reauthorization_required"
TROUBLE = event(AGAIN, reason="rejected")


@pytest.fixture
def world() -> World:
    """A stack that tells people in every way that there is."""
    return World((), people=True)


def texts(world: World) -> list[str]:
    """What Slack was sent."""
    return [said["text"] for said in world.receivers.of(SLACK_URL)]


@settings(max_examples=30)
@given(
    arrivals=st.lists(st.integers(0, notices.GATHER - 1), min_size=1, max_size=45),
    repeated=st.lists(st.integers(0, 44), max_size=10),
)
def test_a_burst_is_one_message_however_it_comes(arrivals: list[int], repeated: list[int]) -> None:
    """Each event once or twice, at any time within the minute after the first."""
    world = World((), people=True)
    world.queue.put(event(AGAIN, connection="N0", reason="rejected"))
    world.run(0)
    for number, at in enumerate(arrivals, 1):
        world.queue.put(event(AGAIN, connection=f"N{number}", reason="rejected"), after=at)
    for number in repeated:
        if number < len(arrivals):
            world.queue.put(event(AGAIN, connection=f"N{number + 1}", reason="rejected"), after=arrivals[number])
    world.run(notices.GATHER + 30)
    (text,) = texts(world)
    assert text.startswith(f"[connect] {len(arrivals) + 1} connections need a new consent: N0, ")
    world.run(3 * notices.QUIET)
    assert len(texts(world)) == 1
    assert world.queue.messages == []


def test_one_alone_is_told_after_a_minute_with_what_to_do_and_the_runbooks_entry(world: World) -> None:
    world.queue.put(event("connection.at_risk", connection="N7"))
    world.run(notices.GATHER - 1)
    assert texts(world) == []
    world.run(2)
    (text,) = texts(world)
    first, act, entry = text.split("\n")
    assert first == "[connect] 1 connection at risk: N7"
    assert "alarms" in act
    assert entry == "docs/runbook.md#connections-at-risk"


def test_what_repeats_within_the_hour_is_counted_and_told_in_the_next_message(world: World) -> None:
    for number in range(3):
        world.queue.put(event(AGAIN, connection=f"A{number}", reason="rejected"))
    world.run(120)
    for number in range(9):
        world.queue.put(event(AGAIN, connection=f"B{number}", reason="rejected"))
        world.run(300)
    assert len(texts(world)) == 1
    world.run(notices.QUIET)
    assert [text.partition(":")[0] for text in texts(world)] == [
        "[connect] 3 connections need a new consent",
        "[connect] 9 connections need a new consent",
    ]


def test_a_storm_of_days_is_a_message_an_hour_and_no_dead_letter(world: World) -> None:
    for number in range(2 * 24 * 6):
        world.queue.put(event(AGAIN, connection=f"N{number}", reason="expired"), after=600 * number)
    world.run(2 * 86_400)
    assert 24 <= len(texts(world)) <= 49
    counted = [int(re.findall(r"\] ([\d,]+) ", text)[0]) for text in texts(world)]
    assert sum(counted) >= 2 * 24 * 6 - 8
    assert world.queue.dead == []


def test_a_burst_beyond_what_is_kept_is_counted(world: World) -> None:
    for number in range(5_000):
        world.queue.put(event(AGAIN, connection=f"N{number:04}", reason="expired"))
    world.run(notices.GATHER + 5)
    (text,) = texts(world)
    assert text.startswith("[connect] 5,000 connections need a new consent: ")
    assert "and 4,995 more" in text
    assert len(text) < 500


def test_kinds_of_trouble_are_messages_of_their_own_and_the_rest_is_none(world: World) -> None:
    for number, (type_, reason) in enumerate(
        [
            (AGAIN, "rejected"),
            (AGAIN, "rotation_lost"),
            (AGAIN, "wrong_connection"),
            ("connection.at_risk", ""),
            ("connection.connected", ""),
            ("connection.in_doubt", ""),
            ("connection.recovered", ""),
        ]
    ):
        world.queue.put(event(type_, connection=f"N{number}", reason=reason))
    world.run(120)
    assert sorted(text.partition("\n")[0] for text in texts(world)) == [
        "[connect] 1 connection at risk: N3",
        "[connect] 1 connection needs a new consent: N0",
        "[connect] The tokens of 2 connections are lost: N1, N2",
    ]


def test_an_alarm_is_told_and_so_is_its_end_and_those_of_other_stacks_are_not(world: World) -> None:
    world.queue.put(alarm("connect-unwell"))
    world.queue.put(alarm("connect-other-unwell"))
    world.queue.put(alarm("another-unwell"))
    world.queue.put(alarm("connect-unwell", "INSUFFICIENT_DATA"))
    world.run(120)
    first = [text for text in texts(world) if "other" not in text]
    assert [text.partition(":")[0] for text in first] == ["[connect] Refreshes are paused"]
    world.queue.put(alarm("connect-unwell", "OK", "2026-11-22T14:33:11Z"))
    world.run(2 * notices.QUIET)
    assert texts(world)[-1].startswith("[connect] It is over: Refreshes are paused")


def test_alarms_that_were_just_made_and_are_well_are_the_end_of_nothing(world: World) -> None:
    """On the first day CloudWatch takes each of them from "insufficient data" to "OK", and says so."""
    for name in ("at-risk", "unwell", "tick-missing"):
        world.queue.put(alarm(f"connect-{name}", "OK", before="INSUFFICIENT_DATA"))
    world.queue.put(alarm("connect-unanswered", before="INSUFFICIENT_DATA"))
    world.run(2 * notices.QUIET)
    assert len(texts(world)) == 1
    assert "over" not in texts(world)[0]


def test_what_waits_for_people_ends_where_there_is_no_way_to_them_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment took the last way, and the right to read the notices with it."""
    without = World((), people=False)
    denied = StoreUnavailable("AccessDeniedException")
    monkeypatch.setattr(without.notices, "get", lambda _: (_ for _ in ()).throw(denied))
    without.queue.put({"tell": "alarm/unwell"})
    without.turn()
    assert without.queue.messages == []
    assert without.queue.dead == []


def test_an_alarm_that_flaps_is_counted(world: World) -> None:
    for minute in range(7):
        world.queue.put(alarm("connect-unanswered", "OK" if minute % 2 else "ALARM", f"2026-11-22T14:0{minute}:11Z"))
    world.run(120)
    (text,) = texts(world)
    assert "(7 changes)" in text
    assert "over" not in text


def test_each_way_gets_the_text_by_itself_and_one_that_fails_repeats_nothing_of_the_other(world: World) -> None:
    world.receivers.answers[LINE_URL] = [Answer(500), Answer(None, "connection"), Answer(200)]
    world.queue.put(TROUBLE)
    world.run(600)
    assert len(texts(world)) == 1
    tried = [(headers, body) for url, headers, body in world.receivers.asked if url == LINE_URL]
    assert len(tried) == 3
    assert len({(headers["X-Line-Retry-Key"], body) for headers, body in tried}) == 1, "LINE knows it again"


def test_line_gets_a_push_with_its_retry_key_and_409_means_that_it_has_it() -> None:
    world = World((), people=True, language="th")
    world.receivers.answers[LINE_URL] = [Answer(None, "timeout"), Answer(409)]
    world.queue.put(TROUBLE)
    world.run(1_000)
    (_, headers, body), _ = [one for one in world.receivers.asked if one[0] == LINE_URL]
    assert headers["Authorization"] == f"Bearer {LINE_SECRET['channel_access_token']}"
    assert str(uuid.UUID(headers["X-Line-Retry-Key"])) == headers["X-Line-Retry-Key"]
    said = json.loads(body)
    assert said == {"to": LINE_SECRET["to"], "messages": [{"type": "text", "text": said["messages"][0]["text"]}]}
    assert "ต้องให้ผู้ใช้เชื่อมต่อใหม่" in said["messages"][0]["text"]
    assert world.queue.messages == []


def test_two_messages_have_two_retry_keys_though_they_read_alike(world: World) -> None:
    for _ in range(2):
        world.queue.put(TROUBLE)
        world.run(2 * notices.QUIET)
    keys = [headers["X-Line-Retry-Key"] for url, headers, _ in world.receivers.asked if url == LINE_URL]
    assert len(set(keys)) == len(keys) == 2


def test_a_mailbox_alone_gets_one_mail_for_a_burst_and_is_then_left_in_peace() -> None:
    world = World((), mail=True)
    for number in range(37):
        world.queue.put(event(AGAIN, connection=f"N{number:02}", reason="expired"))
        world.queue.put(event(AGAIN, connection=f"N{number:02}", id="again", reason="expired"), after=1_800)
    world.run(notices.QUIET)
    ((subject, text),) = world.mailbox.mails
    assert subject == "[connect] 37 connections need a new consent"
    assert text.startswith(f"{subject}: N00, N01, N02, N03, N04 and 32 more\n")
    assert text.endswith("docs/runbook.md#reauthorizations-above-normal")
    assert world.receivers.asked == []
    world.run(3 * notices.QUIET)
    assert [subject for subject, _ in world.mailbox.mails[1:]] == [subject]


def test_every_way_gets_the_same_text_in_the_same_language() -> None:
    world = World((), people=True, language="th")
    world.queue.put(TROUBLE)
    world.queue.put(alarm("connect-unwell"))
    world.run(120)
    assert sorted(text for _, text in world.mailbox.mails) == sorted(texts(world))
    assert all(re.search("[ก-๙]", text) for _, text in world.mailbox.mails)
    assert sorted(subject for subject, _ in world.mailbox.mails) == [
        "[connect] 1 connection needs a new consent",
        "[connect] Refreshes are paused: the client id, client secret, endpoint or key is wrong",
    ]


@pytest.mark.parametrize("error", [client_error("AuthorizationError"), OSError("CANARY")])
def test_a_mail_that_sns_does_not_take_is_tried_again_and_said(error: Exception) -> None:
    world = World((), mail=True)
    world.mailbox.error = error
    world.queue.put(TROUBLE)
    world.run(120)
    assert [(line, facts["receiver"]) for line, facts in world.log.lines[:1]] == [("not delivered", "mail")]
    assert "CANARY" not in str(world.log.lines)
    world.mailbox.error = None
    world.run(7_200)
    assert len(world.mailbox.mails) == 1


def test_an_alarm_is_told_though_the_table_in_which_it_would_be_gathered_takes_nothing(world: World) -> None:
    world.notices.fail = True
    world.queue.put(alarm("connect-pending-commits"))
    world.queue.put(TROUBLE)
    world.run(30)
    assert [text.partition(",")[0] for text in texts(world)] == ["[connect] New tokens cannot be written"]
    world.notices.fail = False
    world.run(3_600)
    assert len(texts(world)) == 2, "the connection is told once the table is there"


def test_an_alarm_whose_note_was_not_acknowledged_keeps_no_later_one_silent(world: World) -> None:
    world.notices.unacknowledged = True
    world.queue.put(alarm("connect-unwell"))
    world.run(30)
    assert len(texts(world)) == 1
    world.run(2 * 3_600)
    before = len(texts(world))
    assert before <= 2, "once more at most"
    world.queue.put(alarm("connect-unwell"))
    world.run(2 * 3_600)
    assert len(texts(world)) == before + 1


@pytest.mark.parametrize("url", [SLACK_URL, LINE_URL])
@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 408, 418, 429, 500, 503])
def test_only_a_yes_of_slack_or_line_is_one(world: World, url: str, status: int) -> None:
    world.receivers.answers[url] = [Answer(status, retry_after=7), Answer(200)]
    world.queue.put(TROUBLE)
    world.run(notices.GATHER + 20)
    assert len([1 for asked, _, _ in world.receivers.asked if asked == url]) == 2
    assert (world.queue.messages, world.queue.dead) == ([], [])


def test_a_channel_that_is_archived_is_asked_once_and_the_other_ways_are_told(world: World) -> None:
    world.receivers.answers[SLACK_URL] = [Answer(410)]
    world.queue.put(TROUBLE)
    world.run(600)
    assert [letter["to"] for letter in world.queue.dead] == ["slack"]
    assert len(world.receivers.of(LINE_URL)) == len(world.mailbox.mails) == 1


def test_slack_gets_its_three_characters_escaped(world: World) -> None:
    world.queue.put(event(AGAIN, connection="<!channel> & co", id="1", reason="rejected"))
    world.run(120)
    assert "&lt;!channel&gt; &amp; co" in texts(world)[0]


@pytest.mark.parametrize(
    "secret",
    ["", "{", '{"url": 7}', '{"other": "x"}', '{"url": "https://h.example/a b"}', '{"url": "https://h.example/\\n"}'],
)
def test_a_secret_that_is_none_is_said_and_nothing_is_sent(world: World, secret: str) -> None:
    world.secrets.values["slack"] = [secret] if secret else []
    world.queue.put(TROUBLE)
    world.run(300)
    assert texts(world) == []
    assert "no secret" in [line for line, _ in world.log.lines]
    assert "h.example" not in str(world.log.lines)
    world.secrets.values["slack"] = [json.dumps({"url": SLACK_URL})]
    world.run(3_600)
    assert len(texts(world)) == 1, "it is sent once the secret is right"


@pytest.mark.parametrize(
    "secret",
    [
        "CANARY",
        '["CANARY"]',
        '{"channel_access_token": "CANARY"}',
        '{"channel_access_token": "CANARY\\r\\nX: y", "to": "C1"}',
        '{"channel_access_token": "CANARY", "to": ["C1"]}',
        '{"channel_access_token": "โทเคน CANARY", "to": "C1"}',
        '{"channel_access_token": "CANARY", "to": "C1", "url": ""}',
        '{"a": ' * 100_000,
    ],
)
def test_a_secret_of_line_that_is_none_keeps_no_other_way_from_being_told(world: World, secret: str) -> None:
    world.secrets.values["line"] = [secret]
    world.queue.put(TROUBLE)
    world.run(300)
    assert world.receivers.of(LINE_URL) == []
    assert len(texts(world)) == len(world.mailbox.mails) == 1
    assert "CANARY" not in str(world.log.lines)
    world.secrets.values["line"] = [json.dumps(LINE_SECRET)]
    world.run(3_600)
    assert len(world.receivers.of(LINE_URL)) == 1


def test_no_log_has_a_secret_of_slack_or_line(world: World) -> None:
    world.receivers.answers = {SLACK_URL: [Answer(404)], LINE_URL: [Answer(401)]}
    world.queue.put(TROUBLE)
    world.run(3_600)
    assert world.log.lines
    assert "CANARY" not in str(world.log.lines)
    assert "CANARY" not in str(world.queue.messages)


def test_what_was_noted_by_a_try_that_failed_is_told_all_the_same(world: World) -> None:
    world.queue.put(TROUBLE)
    world.queue.fail = True
    world.run(0)
    assert world.notices.get("reauthorization_required").subjects == ["N1"]
    world.queue.fail = False
    world.run(200)
    assert len(texts(world)) == 1


def test_who_does_not_get_the_telling_tells_nothing_and_looks_again_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.notices.note("at_risk", ["N1"])
    world.queue.put({"tell": "at_risk"})
    with monkeypatch.context() as patch:
        patch.setattr(world.notices, "claim", lambda *_: False)
        world.run(1)
    assert texts(world) == []
    world.run(notices.GATHER)
    assert len(texts(world)) == 1


def test_without_people_nothing_is_noted() -> None:
    world = World()
    world.queue.put(TROUBLE)
    world.queue.put(alarm("connect-unwell"))
    world.run(600)
    assert world.notices.kinds == {}
    assert len(world.receivers.asked) == 1


def test_a_function_that_fails_is_told_with_its_entry(world: World) -> None:
    world.queue.put(alarm("connect-refresh-errors"))
    world.run(120)
    (text,) = texts(world)
    assert text.startswith("[connect] The function refresh fails\n")
    assert text.endswith("docs/runbook.md#function-errors")
    assert "function-errors" in slugs("Alarms")


# ---- words ------------------------------------------------------------------------------------------------

TEMPLATE = (Path(__file__).parents[2] / "template.yaml").read_text()


def test_every_alarm_of_the_stack_has_words_and_every_entry_is_in_the_runbook() -> None:
    names = set(re.findall(r'AlarmName: !Sub "\$\{AWS::StackName\}-([a-z-]+)"', TEMPLATE))
    named = {name for name in names if not name.endswith("-errors") or name == "api-errors"}
    assert set(words.ALARMS) == named
    assert len(named) == len(ALWAYS | NOTIFYING)
    entries = {one.entry for one in (words.ALARMS | words.CONNECTIONS).values()}
    assert entries <= set(slugs("Alarms"))


@pytest.mark.parametrize("language", get_args(words.Language))
@pytest.mark.parametrize("kind", [*words.CONNECTIONS, *(f"alarm:{name}" for name in words.ALARMS), "alarm:unheard-of"])
def test_each_message_is_short_and_whole_in_each_language(kind: str, language: words.Language) -> None:
    for subjects, more in (([], 3), (["2026-11-22T14:03:11Z ALARM"], 0), (["N" * 64] * 50, 10**6)):
        text = words.text(kind, Waiting(subjects, more, 0), stack="connect", language=language)
        # LINE takes 5,000 UTF-16 units; Slack recommends 4,000 characters.
        assert len(text.encode("utf-16-le")) / 2 < 1_000
        assert "{" not in text
        assert "\n\n" not in text
        assert "docs/runbook.md#" in text
        subject = words.subject(kind, Waiting(subjects, more, 0), stack="connect")
        # What SNS takes as one.
        assert subject.isascii()
        assert len(subject) < 100
        assert "N" * 64 not in subject
        assert kind == "alarm:unheard-of" or (re.search("[ก-๙]", text) is not None) == (language == "th")
