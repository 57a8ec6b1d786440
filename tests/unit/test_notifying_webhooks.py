"""Webhooks: signed by the specification, at least once, to public addresses only, and nobody waits for another."""

import base64
import json
import time
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from flowaccount_connect.notifying import addresses, queue, signing
from flowaccount_connect.notifying.sending import Answer
from flowaccount_connect.notifying.webhooks import receiver
from flowaccount_connect.oauth.client_secret import SecretMisconfigured
from flowaccount_connect_client import webhooks as client
from tests.unit.fakes import NOW, Clock
from tests.unit.notifying import OTHER_URL, SECRET, URL, FakeSecrets, Log, World, event
from tests.unit.tables import client_error
from tests.unit.test_events import valid

# ---- addresses --------------------------------------------------------------------------------------------

INSIDE = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"),
]
INSIDE_6 = [
    *("::/128", "::1/128", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "fc00::/7", "fe80::/10"),
    *("fec0::/10", "ff00::/8", "2001::/32", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16"),
]


@given(st.one_of([st.ip_addresses(network=net) for net in INSIDE + INSIDE_6]))
def test_no_address_of_an_inside_network_is_public(address: IPv4Address | IPv6Address) -> None:
    assert not addresses.is_public(str(address))


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_is_public_in_the_clothes_of_ipv6(address: IPv4Address) -> None:
    for prefix in ("::ffff:0:0", "::", "64:ff9b::", "64:ff9b:1::"):
        assert not addresses.is_public(str(IPv6Address(int(IPv6Address(prefix)) + int(address))))
    assert not addresses.is_public(str(IPv6Address((0x2002 << 112) + (int(address) << 80))))


@given(st.ip_addresses())
def test_what_is_public_is_global_unicast(address: IPv4Address | IPv6Address) -> None:
    if addresses.is_public(str(address)):
        assert address.is_global
        assert not any((address.is_multicast, address.is_private, address.is_loopback, address.is_link_local))
        nets = (IPv6Network("2000::/3"), IPv4Network("0.0.0.0/0"))
        assert any(address in net for net in nets if net.version == address.version)


@pytest.mark.parametrize("address", ["8.8.8.8", "203.150.0.1", "2404:6800:4001::1", "1.1.1.1"])
def test_ordinary_addresses_are_public(address: str) -> None:
    assert addresses.is_public(address)


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f.1", "2130706433", "fe80::1%eth0", "1.2.3.4 "])
def test_what_is_no_address_is_not_public(text: str) -> None:
    assert not addresses.is_public(text)


def test_one_forbidden_address_of_several_is_enough() -> None:
    for found in (["8.8.8.8", "169.254.169.254"], ["127.0.0.1", "8.8.8.8"], ["::1"], []):
        with pytest.raises(addresses.Forbidden):
            addresses.allowed("name.example", 443, resolver=lambda *_, found=found: found)
    assert addresses.allowed("n", 443, resolver=lambda *_: ["2404:6800::1", "8.8.8.8"]) == "8.8.8.8"
    with pytest.raises(addresses.Forbidden):
        addresses.allowed("n", 443, resolver=lambda *_: ["127.0.0.1", "10.0.0.1"], loopback=True)
    assert addresses.allowed("n", 443, resolver=lambda *_: ["127.0.0.1"], loopback=True) == "127.0.0.1"


# ---- signatures -------------------------------------------------------------------------------------------


@given(body=st.binary(max_size=200), keys=st.lists(st.binary(min_size=24, max_size=64), min_size=1, max_size=2))
def test_the_reference_and_our_client_verify_each_signature_by_each_key(body: bytes, keys: list[bytes]) -> None:
    content = json.dumps({"text": body.hex()}).encode()
    headers = dict(signing.headers("id-1", content, keys, now=int(time.time())))
    for key in keys:
        secret = "whsec_" + base64.b64encode(key).decode()
        assert Webhook(secret).verify(content, headers) == json.loads(content)
        assert client.verify(content, headers, secret) == json.loads(content)


def test_we_sign_as_the_reference_does() -> None:
    from datetime import UTC, datetime

    ours = signing.headers("id-1", b'{"a":1}', [signing.key_of(SECRET)], now=NOW)
    assert ours["webhook-signature"] == Webhook(SECRET).sign("id-1", datetime.fromtimestamp(NOW, UTC), '{"a":1}')


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_" + "a" * 31, "short", base64.b64encode(b"x" * 23).decode()])
def test_a_secret_that_is_none_is_refused_without_a_word_of_it(secret: str) -> None:
    with pytest.raises(SecretMisconfigured) as caught:
        signing.key_of(secret)
    assert not secret or secret == "whsec_" or secret not in str(caught.value)


def test_what_the_stack_generates_is_a_key() -> None:
    """44 letters and digits."""
    assert len(signing.key_of("Ab3" * 14 + "xY")) == 33


def keys_of(secrets: FakeSecrets, clock: Clock) -> list[bytes]:
    return list(signing.SigningKeys(secrets, "webhook", Log(), clock=clock).get())


def test_for_a_day_after_a_change_both_secrets_sign() -> None:
    other = base64.b64encode(b"o" * 33).decode()
    secrets, clock = FakeSecrets({"webhook": [SECRET, f"whsec_{other}"]}, made=NOW), Clock()
    assert keys_of(secrets, clock) == [signing.key_of(SECRET), b"o" * 33]
    clock.now += signing.OVERLAP - 1
    assert len(keys_of(secrets, clock)) == 2
    clock.now += 1
    assert keys_of(secrets, clock) == [signing.key_of(SECRET)]


def test_a_changed_secret_signs_within_a_minute_and_an_outage_changes_nothing() -> None:
    secrets, clock = FakeSecrets({"webhook": [SECRET]}, made=NOW), Clock()
    keys = signing.SigningKeys(secrets, "webhook", Log(), clock=clock)
    first = keys.get()
    assert keys.get() == first
    assert secrets.asked == 2  # The current one, and whether there is one before it.
    secrets.error = client_error("InternalServiceError")
    clock.now += signing.MAX_AGE
    assert keys.get() == first
    secrets.error = None
    secrets.values["webhook"].insert(0, base64.b64encode(b"n" * 33).decode())
    secrets.made = clock.now
    clock.now += signing.MAX_AGE
    assert list(keys.get()) == [b"n" * 33, *first]
    assert "n" * 8 not in repr(keys)


WRONG = [" \n", "CANARY", "whsec_CANARY", '{"secret": "CANARY"}', f"whsec_{SECRET[:8]}\n", "กขค", f'"{SECRET}"']


@pytest.mark.parametrize("wrong", WRONG)
def test_a_new_secret_that_is_none_is_said_and_the_one_before_it_signs_on(wrong: str) -> None:
    secrets, clock, log = FakeSecrets({"webhook": [wrong, SECRET]}, made=NOW), Clock(), Log()
    keys = signing.SigningKeys(secrets, "webhook", log, clock=clock)
    assert keys.get() == (signing.key_of(SECRET),)
    clock.now += 3 * signing.OVERLAP
    assert keys.get() == (signing.key_of(SECRET),)
    assert {line for line, _ in log.lines} == {"no secret"}
    assert wrong not in str(log.lines)


@pytest.mark.parametrize("wrong", WRONG)
def test_an_old_secret_that_is_none_signs_nothing(wrong: str) -> None:
    assert keys_of(FakeSecrets({"webhook": [SECRET, wrong]}, made=NOW), Clock()) == [signing.key_of(SECRET)]


@pytest.mark.parametrize("form", [SECRET, f"whsec_{SECRET}", f"  whsec_{SECRET}\n"])
def test_a_secret_may_have_its_prefix_and_the_spaces_of_a_terminal(form: str) -> None:
    assert keys_of(FakeSecrets({"webhook": [form]}), Clock()) == [signing.key_of(SECRET)]


def test_without_any_secret_nothing_is_sent_unsigned() -> None:
    world = World()
    world.secrets.values = {}
    world.queue.put(event())
    world.run(0)
    assert world.receivers.asked == []
    assert len(world.queue.messages) == 1


# ---- deliveries -------------------------------------------------------------------------------------------


def put_many(world: World, count: int, *, apart: float = 0) -> set[str]:
    """Put events of so many connections into the queue, so many seconds apart; the connections."""
    names = [f"N{number}" for number in range(count)]
    for number, name in enumerate(names):
        world.queue.put(event(connection=name), after=number * apart)
    return set(names)


def sent(world: World, url: str = URL, since: int = 0) -> set[str]:
    """The connections of whose events a receiver was sent some; `since` so many requests."""
    return {said["data"]["connection_id"] for said in world.receivers.of(url)[since:]}


def test_an_event_reaches_each_receiver_signed_and_as_its_schema_has_it() -> None:
    world = World((URL, OTHER_URL))
    example = event(id="c4ca4238a0b923820dcc509a6f75849b-connected", status="active", generation=1,
                    environment="sandbox", deadline="2026-11-23T14:03:10Z", attempt_id="8" * 32)  # fmt: skip
    world.queue.put(example)
    world.run(0)
    assert {url for url, *_ in world.receivers.asked} == {URL, OTHER_URL}
    for _, headers, body in world.receivers.asked:
        said = json.loads(body)
        assert said == {
            "type": "connection.connected",
            "timestamp": "2026-11-22T14:03:11Z",
            "data": example["detail"],
        }
        valid(said["type"], said["data"])
        assert headers["webhook-id"] == example["detail"]["id"]
        assert client.verify(body, headers, SECRET, now=world.clock.now) == said
    assert world.queue.messages == []


def test_of_a_list_of_events_only_those_are_sent_and_people_hear_what_they_must_all_the_same() -> None:
    world = World(people=True, events=frozenset({"connection.connected", "connection.refreshed"}))
    for type_ in ("connected", "refreshed", "recovered", "reauthorization_required"):
        world.queue.put(event(f"connection.{type_}", id=type_, reason="rejected"))
    world.run(120)
    assert sorted(said["data"]["id"] for said in world.receivers.of(URL)) == ["connected", "refreshed"]
    assert len(world.mailbox.mails) == 1


def test_a_try_later_has_the_same_id_and_body_and_the_time_and_signature_of_the_try() -> None:
    world = World()
    world.receivers.answers[URL] = [Answer(500), Answer(204)]
    world.queue.put(event())
    world.run(10)
    (_, first, one), (_, second, two) = world.receivers.asked
    assert (first["webhook-id"], one) == (second["webhook-id"], two)
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) in (4, 5, 6)
    assert first["webhook-signature"] != second["webhook-signature"]


def test_a_receiver_that_is_down_for_a_day_leaves_a_dead_letter_and_not_before() -> None:
    world = World()
    world.receivers.answers[URL] = [Answer(503)]
    world.queue.put(event())
    world.run(20 * 3_600)
    assert world.queue.dead == []
    world.run(6 * 3_600)
    assert len(world.receivers.asked) == queue.TRIES
    (letter,) = world.queue.dead
    assert letter["to"] == receiver(URL)
    # Driven back it is a new message.
    world.receivers.answers[URL] = [Answer(200)]
    world.queue.put(letter)
    world.run(0)
    assert world.receivers.of(URL)[-1]["data"]["connection_id"] == "N1"
    assert world.queue.messages == []


@given(st.integers(1, queue.TRIES - 1), st.floats(0, 1), st.one_of(st.none(), st.integers(0, 3_600)))
def test_delays_grow_and_heed_what_the_receiver_asks(tries: int, random: float, asked: int | None) -> None:
    planned = queue.DELAYS[tries - 1]
    found = queue.delay(tries, asked=asked, jitter=lambda: random)
    assert found >= (asked or 0)
    assert planned <= found <= max(planned * 1.1, asked or 0)
    assert 1 <= found <= 43_000


def test_delays_are_a_day_in_all_and_none_is_longer_than_sqs_hides_a_message() -> None:
    assert 86_400 <= sum(queue.DELAYS) <= 86_400 * 1.01
    assert max(queue.DELAYS) * 1.1 < 12 * 3_600
    assert queue.delay(queue.TRIES) == queue.delay(99) == 0


def test_a_receiver_that_hangs_holds_up_nobody_and_is_left_alone_for_a_while() -> None:
    world = World((URL, OTHER_URL))
    world.receivers.answers[OTHER_URL] = [Answer(None, "timeout")]
    names = put_many(world, 30)
    world.turn()
    assert len(world.receivers.of(URL)) == 30
    # What was in its first batch was tried; the rest of the burst was not.
    assert 1 <= len(world.receivers.of(OTHER_URL)) <= 20
    world.receivers.answers[OTHER_URL] = [Answer(200)]
    world.run(600)
    assert sent(world, OTHER_URL) == names
    assert world.queue.messages == []


@pytest.mark.parametrize("hours", [1, 8, 23])
def test_a_receiver_that_is_silent_for_hours_gets_all_that_came_meanwhile(hours: int) -> None:
    """Whatever of a burst is left alone while it hangs, and whenever it came."""
    world = World()
    world.receivers.answers[URL] = [Answer(None, "timeout")]
    names = put_many(world, 60, apart=hours * 50)
    world.run(hours * 3_600)
    world.receivers.answers[URL] = [Answer(200)]
    before = len(world.receivers.asked)
    world.run(86_400 * 1.1)
    assert sent(world, since=before) == names
    assert (world.queue.dead, world.queue.messages) == ([], [])


def test_a_receiver_that_is_silent_for_days_costs_each_webhook_a_day_and_is_sent_each_to_the_last() -> None:
    world = World()
    world.receivers.answers[URL] = [Answer(None, "timeout")]
    names = put_many(world, 60)
    world.run(86_400)
    assert world.queue.dead == []
    world.receivers.asked.clear()
    world.run(86_400 * 0.12)
    assert {letter["event"]["data"]["connection_id"] for letter in world.queue.dead} == names
    assert sent(world) == names


def test_a_busy_receiver_that_misses_the_deadline_now_and_then_is_not_left_alone() -> None:
    world = World()
    slow = [Answer(None, "timeout") if number % 4 == 0 else Answer(200) for number in range(400)]
    world.receivers.answers[URL] = [*slow, Answer(200)]
    names = put_many(world, 300)
    world.run(3_600)
    assert sent(world) == names
    assert world.queue.messages == []


def test_who_is_gone_gets_no_second_try_and_the_dead_letter_says_so() -> None:
    world = World((URL, OTHER_URL))
    world.receivers.answers[OTHER_URL] = [Answer(410)]
    world.queue.put(event())
    world.run(3_600)
    assert len(world.receivers.of(OTHER_URL)) == len(world.receivers.of(URL)) == 1
    assert [letter["to"] for letter in world.queue.dead] == [receiver(OTHER_URL)]


def test_a_receiver_that_is_configured_no_more_gets_nothing_of_what_waits() -> None:
    world = World((URL,))
    world.queue.put({"to": receiver(OTHER_URL), "event": {"type": "t", "timestamp": "", "data": {"id": "1"}}})
    world.run(0)
    assert (world.receivers.asked, world.queue.messages) == ([], [])


def test_no_log_and_no_message_has_the_url_or_the_secret() -> None:
    world = World((OTHER_URL,))
    world.receivers.answers[OTHER_URL] = [Answer(500)]
    world.queue.put(event())
    world.run(0)
    (line,) = world.log.lines
    assert line[1] == {
        "receiver": receiver(OTHER_URL), "status": 500, "error": "", "tries": 1, "event_id": "N1-1",
    }  # fmt: skip
    for text in (str(world.log.lines), str(world.queue.messages)):
        assert "CANARY" not in text
        assert SECRET not in text


@pytest.mark.parametrize(
    "body",
    [
        "no json",
        "[]",
        '"text"',
        {"detail-type": "connection.connected"},
        {"source": "aws.health", "detail-type": "x", "detail": {}},
        {"Message": "a sentence of the topic"},
    ],
)
def test_what_is_none_of_ours_is_dropped(body: object) -> None:
    world = World(people=True)
    world.queue.put(body)
    world.run(0)
    assert (world.receivers.asked, world.queue.messages) == ([], [])


@pytest.mark.parametrize("id_", ["a.b", "", None, 7, "x" * 300, "a b", "a\r\nb"])
def test_an_event_whose_id_could_forge_a_signature_is_not_sent(id_: Any) -> None:
    world = World()
    world.queue.put(event(id=id_))
    world.run(60)
    assert world.receivers.asked == []


def test_a_queue_that_takes_nothing_loses_nothing() -> None:
    world = World((URL, OTHER_URL))
    world.queue.put(event())
    world.queue.fail = True
    world.run(0)
    assert len(world.queue.messages) == 1
    world.queue.fail = False
    world.run(60)
    assert {url for url, *_ in world.receivers.asked} == {URL, OTHER_URL}


def test_a_test_says_what_became_of_each_receiver() -> None:
    world = World((URL, OTHER_URL))
    world.receivers.answers[OTHER_URL] = [Answer(404)]
    found = {one["receiver"]: (one["taken"], one["status"]) for one in world.notify.test()}
    assert found == {receiver(URL): (True, 200), receiver(OTHER_URL): (False, 404)}
    (_, headers, body) = next(one for one in world.receivers.asked if one[0] == URL)
    assert client.verify(body, headers, SECRET, now=world.clock.now)["type"] == "webhook.test"
    world.secrets.values = {}
    world.clock.now += 3_600
    world.notify.webhooks.keys.__self__._keys = ()  # type: ignore[attr-defined]
    assert [one["error"] for one in world.notify.test()] == ["no_secret", "no_secret"]
