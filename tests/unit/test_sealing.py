"""Tokens at rest: what is sealed for one item opens for that item alone."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowaccount_connect.domain.connection import Sealed
from flowaccount_connect.storage.sealing import (
    KEY_AGE,
    SETS_PER_KEY,
    CannotOpen,
    DataKey,
    Sealer,
    SealingUnavailable,
    TokenPair,
)
from tests.unit.fakes import CONNECTION, GRANT, FakeKms
from tests.unit.tables import client_error

TOKENS = TokenPair("access-CANARY", "refresh-CANARY")
VISIBLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1)


def sealer(kms: FakeKms, *, key_id: str = "key", stack: str = "connect", environment: str = "sandbox") -> Sealer:
    return Sealer(kms, key_id, stack=stack, environment=environment)


def seal(made: Sealer, key: DataKey | None = None) -> Sealed:
    return made.seal(TOKENS, key or made.data_key(), owner=CONNECTION, grant_id=GRANT)


def opened(made: Sealer, sealed: Sealed) -> TokenPair:
    return made.open(sealed, owner=CONNECTION, grant_id=GRANT)


@pytest.fixture
def kms() -> FakeKms:
    return FakeKms()


@pytest.fixture
def sealed(kms: FakeKms) -> Sealed:
    return seal(sealer(kms))


@given(VISIBLE, VISIBLE)
def test_every_token_comes_back_as_it_was(access: str, refresh: str) -> None:
    made = sealer(FakeKms())
    sealed = made.seal(TokenPair(access, refresh), made.data_key(), owner=CONNECTION, grant_id=GRANT)
    assert opened(made, sealed) == TokenPair(access, refresh)


@pytest.mark.parametrize(
    ("owner", "grant_id"),
    [("N7654321", GRANT), (CONNECTION, "another-grant"), (GRANT, CONNECTION), ("", GRANT), (CONNECTION, "")],
)
def test_a_ciphertext_moved_to_another_item_or_grant_does_not_open(
    kms: FakeKms, sealed: Sealed, owner: str, grant_id: str
) -> None:
    with pytest.raises(CannotOpen):
        sealer(kms).open(sealed, owner=owner, grant_id=grant_id)


def test_even_with_the_same_data_key_another_environment_does_not_open_it(kms: FakeKms) -> None:
    sandbox, production = sealer(kms), sealer(kms, environment="production")
    sealed = seal(sandbox, production.data_key())
    with pytest.raises(CannotOpen):
        opened(production, sealed)


@pytest.mark.parametrize("other", ["stack", "key_id", "environment"])
def test_a_data_key_of_another_stack_does_not_open(kms: FakeKms, sealed: Sealed, other: str) -> None:
    with pytest.raises(CannotOpen):
        opened(sealer(kms, **{other: "other"}), sealed)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c[:-1] + bytes([c[-1] ^ 1]),
        lambda c: c[:1] + bytes([c[1] ^ 1]) + c[2:],
        lambda c: b"\x02" + c[1:],
        lambda c: c[:-1],
        lambda c: c + b"\x00",
        lambda c: c[:13],
        lambda c: c[:5],
        lambda c: c[:1],
        lambda _: b"",
    ],
)
def test_a_changed_ciphertext_does_not_open(kms: FakeKms, sealed: Sealed, change: Callable[[bytes], bytes]) -> None:
    changed = Sealed(change(sealed.ciphertext), sealed.data_key)
    with pytest.raises(CannotOpen):
        opened(sealer(kms), changed)


def test_a_changed_data_key_does_not_open(kms: FakeKms, sealed: Sealed) -> None:
    with pytest.raises(CannotOpen):
        opened(sealer(kms), Sealed(sealed.ciphertext, b"x" + sealed.data_key))


def test_the_same_tokens_never_seal_alike(kms: FakeKms) -> None:
    made = sealer(kms)
    key = made.data_key()
    sets = {seal(made, key).ciphertext for _ in range(50)}
    assert len(sets) == 50
    assert not any(b"CANARY" in ciphertext for ciphertext in sets)


def test_an_opened_data_key_is_remembered(kms: FakeKms, sealed: Sealed) -> None:
    made = sealer(kms)
    for _ in range(3):
        opened(made, sealed)
    assert kms.decrypts == 1


def test_a_data_key_that_did_not_open_is_not_remembered(kms: FakeKms, sealed: Sealed) -> None:
    made = sealer(kms)
    kms.error = client_error("ThrottlingException")
    with pytest.raises(SealingUnavailable):
        opened(made, sealed)
    kms.error = None
    assert opened(made, sealed) == TOKENS


def test_no_more_than_five_hundred_odd_data_keys_are_remembered(kms: FakeKms, sealed: Sealed) -> None:
    made = sealer(kms)
    opened(made, sealed)
    for _ in range(512):
        opened(made, seal(sealer(kms)))
    assert kms.decrypts == 513
    opened(made, sealed)
    assert kms.decrypts == 514


@pytest.mark.parametrize(
    "error",
    [
        client_error("ThrottlingException"),
        client_error("DisabledException"),
        client_error("AccessDeniedException"),
        client_error("KMSInternalException"),
        TimeoutError("CANARY"),
    ],
)
def test_a_kms_that_fails_is_a_matter_of_time_and_told_by_its_code(
    kms: FakeKms, sealed: Sealed, error: Exception
) -> None:
    kms.error = error
    with pytest.raises(SealingUnavailable) as opening:
        opened(sealer(kms), sealed)
    with pytest.raises(SealingUnavailable) as sealing:
        sealer(kms).data_key()
    assert "CANARY" not in f"{opening.value} {sealing.value}"


def test_sealing_calls_nobody(kms: FakeKms) -> None:
    made = sealer(kms)
    key = made.data_key()
    kms.error = TimeoutError()
    seal(made, key)
    assert kms.generated == 1


def test_a_data_key_seals_as_many_sets_as_a_batch_has_and_no_more(kms: FakeKms) -> None:
    made = sealer(kms)
    keys = [made.data_key() for _ in range(SETS_PER_KEY + 1)]
    assert len(set(keys[:-1])) == 1
    assert keys[-1] != keys[0]
    assert kms.generated == 2


def test_a_data_key_is_not_used_for_long(kms: FakeKms) -> None:
    now = 1_000.0
    made = Sealer(kms, "key", stack="connect", environment="sandbox", clock=lambda: now)
    first = made.data_key()
    now += KEY_AGE - 1
    assert made.data_key() == first
    now += 1
    assert made.data_key() != first


def test_a_data_key_that_was_made_by_a_clock_ahead_is_not_used_for_longer(kms: FakeKms) -> None:
    now = 100_000.0
    made = Sealer(kms, "key", stack="connect", environment="sandbox", clock=lambda: now)
    first = made.data_key()
    now -= 86_400
    assert made.data_key() != first


def test_a_batch_asks_for_one_data_key_however_many_ask_at_once(kms: FakeKms) -> None:
    made, asked, go = sealer(kms), threading.Barrier(SETS_PER_KEY), kms.generate_data_key

    def slowly(**kwargs: object) -> object:
        time.sleep(0.05)  # The others come meanwhile.
        return go(**kwargs)

    kms.generate_data_key = slowly  # type: ignore[method-assign]

    def ask(_: int) -> bytes:
        asked.wait(10)
        return made.data_key().wrapped

    with ThreadPoolExecutor(SETS_PER_KEY) as pool:
        assert len(set(pool.map(ask, range(SETS_PER_KEY)))) == 1
    assert kms.generated == 1


def test_a_kms_that_is_away_is_waited_for_once_by_all_and_asked_again_by_the_next(kms: FakeKms) -> None:
    made, entered, go_on = sealer(kms), threading.Event(), threading.Event()
    tries, generate = [], kms.generate_data_key

    def hangs(**_: object) -> object:
        tries.append(1)
        entered.set()
        assert go_on.wait(10)
        raise TimeoutError

    kms.generate_data_key = hangs  # type: ignore[method-assign]

    def ask(_: int) -> str:
        try:
            made.data_key()
        except SealingUnavailable:
            return "unavailable"
        return "made"

    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(ask, 0)
        assert entered.wait(10)
        others = [pool.submit(ask, number) for number in range(8)]
        while made._making.locked() and sum(one.running() for one in others) < 8:
            time.sleep(0.001)
        time.sleep(0.05)  # Each has begun to wait by now.
        go_on.set()
        assert {one.result(10) for one in [first, *others]} == {"unavailable"}
    assert len(tries) == 1
    kms.generate_data_key = generate  # type: ignore[method-assign]
    assert made.data_key() == made.data_key()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (None, TOKENS.access_token),
        (client_error("ThrottlingException"), "SealingUnavailable: ThrottlingException"),
        (client_error("InvalidCiphertextException"), "CannotOpen: InvalidCiphertextException"),
    ],
    ids=["opened", "unavailable", "cannot be opened"],
)
def test_a_data_key_is_asked_for_once_however_many_want_it_at_once(
    kms: FakeKms, sealed: Sealed, error: Exception | None, told: str
) -> None:
    made, entered, go_on, decrypt = sealer(kms), threading.Event(), threading.Event(), kms.decrypt
    tries = []

    def slowly(**kwargs: object) -> object:
        tries.append(1)
        entered.set()
        assert go_on.wait(10)
        if error is not None:
            raise error
        return decrypt(**kwargs)

    kms.decrypt = slowly  # type: ignore[method-assign]

    def ask(_: int) -> str:
        try:
            return opened(made, sealed).access_token
        except (SealingUnavailable, CannotOpen) as failure:
            return f"{type(failure).__name__}: {failure}"

    with ThreadPoolExecutor(20) as pool:
        asking = [pool.submit(ask, number) for number in range(20)]
        assert entered.wait(10)
        time.sleep(0.1)  # Each has begun to wait by now.
        go_on.set()
        assert {one.result(10) for one in asking} == {told}
    assert len(tries) == 1
    kms.decrypt = decrypt  # type: ignore[method-assign]
    assert opened(made, sealed) == TOKENS, "whoever comes later is none of them"


def test_data_keys_that_differ_are_opened_beside_each_other(kms: FakeKms) -> None:
    together, decrypt = threading.Barrier(8), kms.decrypt
    sets = [seal(sealer(kms)) for _ in range(8)]

    def all_at_once(**kwargs: object) -> object:
        together.wait(10)
        return decrypt(**kwargs)

    kms.decrypt = all_at_once  # type: ignore[method-assign]
    made = sealer(kms)
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda sealed: opened(made, sealed), sets)
        assert set(found) == {TOKENS}


def test_nothing_secret_shows(kms: FakeKms, sealed: Sealed) -> None:
    key = sealer(kms).data_key()
    shown = f"{TOKENS!r} {TOKENS} {key!r} {key} {sealed!r} {sealed}"
    assert "CANARY" not in shown
    assert repr(key.plaintext) not in shown
    assert repr(sealed.ciphertext) not in shown
