"""The recovery key in three shares: any two give it back, typos are named before a key is tried."""

from __future__ import annotations

import itertools
import json
import random  # noqa: TID251 - seeded, so that a failure repeats
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shamir_mnemonic import EncryptedMasterSecret, split_ems
from shamir_mnemonic.wordlist import WORDLIST

from clinic.crypto import recovery
from clinic.crypto.recovery import WORDS, RecoveryKey, combine, read_share
from clinic.errors import InputError

KEY = bytes(range(100, 132))
SHARES = RecoveryKey(KEY).split()
PUBLISHED = Path(__file__).resolve().parents[2] / "vectors" / "published" / "slip39.json"


def refused(first: str, second: str = SHARES[1]) -> tuple[str, str]:
    """Return code and message for two shares that must be refused."""
    with pytest.raises(InputError) as caught:
        RecoveryKey.from_shares(first, second)
    return caught.value.code, str(caught.value)


def changed(share: str, place: int, word: str) -> str:
    """Return a share with another word at a place."""
    words = share.split()
    words[place] = word
    return " ".join(words)


@given(key=st.binary(min_size=32, max_size=32))
@settings(max_examples=25, deadline=None)
def test_any_two_shares_give_the_key_back(key: bytes) -> None:
    """All six ordered pairs of every key's three shares recover it."""
    shares = RecoveryKey(key).split()
    assert all(len(share.split()) == WORDS for share in shares)
    for first, second in itertools.permutations(shares, 2):
        assert RecoveryKey.from_shares(first, second).material == key


@given(joint=st.sampled_from([" ", "\n", "\t", ", ", "  "]), upper=st.booleans(), short=st.booleans())
def test_typing_is_forgiving(joint: str, *, upper: bool, short: bool) -> None:
    """Case, separators, numbering and shortening to four letters do not matter."""
    words = [word[:4] if short else word for word in SHARES[0].split()]
    typed = joint.join(f"{place}. {word}" for place, word in enumerate(words, start=1))
    assert RecoveryKey.from_shares(typed.upper() if upper else typed, SHARES[2]).material == KEY


def test_keys_and_shares_are_random() -> None:
    """No two keys are equal, and the same key is split otherwise each time."""
    assert len({RecoveryKey.generate().material for _ in range(100)}) == 100
    assert not set(RecoveryKey(KEY).split()) & set(SHARES)


def test_one_share_says_nothing_about_the_key() -> None:
    """For one and the same share there is a second share for the right key and another for any other key."""
    mine = read_share(SHARES[0])
    forged = [share.mnemonic() for share in split_ems(1, [(2, 3)], _encrypted(mine.identifier, bytes(32)))[0]]
    assert forged[0].split()[:2] == SHARES[0].split()[:2]
    assert combine(forged[0], forged[1]) != KEY


def _encrypted(identifier: int, secret: bytes) -> EncryptedMasterSecret:
    return EncryptedMasterSecret.from_master_secret(
        secret, b"", identifier=identifier, extendable=True, iteration_exponent=1
    )


@pytest.mark.parametrize("others", [1, pytest.param(8, marks=pytest.mark.campaign)])
def test_every_single_wrong_word_is_found_and_its_place_named(others: int) -> None:
    """Each of the 33 words, replaced by 8 random others of the list (1 in the short form), is named by its number."""
    chance, tried = random.Random(20261125), 0
    for place, right in enumerate(SHARES[0].split()):
        for wrong in chance.sample([word for word in WORDLIST if word != right], others):
            code, message = refused(changed(SHARES[0], place, wrong))
            assert (code, message) == (
                "recovery_share_typo",
                f"what was typed from the first sheet is mistyped in word {place + 1}",
            )
            tried += 1
    assert tried == 33 * others


def test_words_that_are_not_in_the_list_are_named() -> None:
    """Every strange word is named by number, and none of them is repeated in the message."""
    typed = changed(changed(SHARES[1], 4, "zebras"), 30, "acade")
    code, message = refused(SHARES[0], typed)
    assert code == "recovery_share_typo"
    assert message == "what was typed from the second sheet is mistyped in word 5, 31: not in the list of words"


@pytest.mark.parametrize("pairs", [30, pytest.param(300, marks=pytest.mark.campaign)])
def test_two_wrong_words_are_found(pairs: int) -> None:
    """Two mistakes cannot be located; they are found all the same, and never taken for another share."""
    chance = random.Random(7)
    for _ in range(pairs):
        one, two = chance.sample(range(WORDS), 2)
        typed = changed(changed(SHARES[0], one, chance.choice(WORDLIST)), two, chance.choice(WORDLIST))
        if typed != SHARES[0]:
            assert refused(typed)[0] == "recovery_share_typo"


def test_swapped_neighbours_are_found() -> None:
    """Every two words next to each other, swapped."""
    for place in range(WORDS - 1):
        words = SHARES[0].split()
        words[place], words[place + 1] = words[place + 1], words[place]
        if words != SHARES[0].split():
            assert refused(" ".join(words))[0] == "recovery_share_typo"


def test_without_the_checksum_a_wrong_word_would_give_a_wrong_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with our own check off, the library's checksum is what is left, and it names no word."""
    monkeypatch.setattr(recovery, "_require_checksum", lambda _indices, _sheet: None)
    assert "not a share" in refused(changed(SHARES[0], 9, "zero"))[1]


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        pytest.param("", SHARES[1], "recovery_share_typo", id="nothing"),
        pytest.param(" ".join(SHARES[0].split()[:-1]), SHARES[1], "recovery_share_typo", id="a word missing"),
        pytest.param(SHARES[0] + " zero", SHARES[1], "recovery_share_typo", id="a word too many"),
        pytest.param(SHARES[0], SHARES[0].upper(), "recovery_share_twice", id="the same sheet"),
        pytest.param(SHARES[0], RecoveryKey(KEY).split()[1], "recovery_shares_differ", id="two sets of one key"),
    ],
)
def test_shares_that_do_not_fit_are_refused(first: str, second: str, code: str) -> None:
    """Too few words, the same share twice, and shares of two sets each have their code."""
    assert refused(first, second)[0] == code


def test_shares_that_only_look_like_one_set_are_refused() -> None:
    """Two shares with one set's identifier and different secrets fail the digest inside."""
    mine = read_share(SHARES[0])
    other = split_ems(1, [(2, 3)], _encrypted(mine.identifier, bytes(32)))[0][1].mnemonic()
    assert refused(SHARES[0], other)[0] == "recovery_shares_differ"


def test_shares_of_another_shape_are_refused() -> None:
    """A whole share of a 3-of-3 or 1-of-1 set is not one of ours, nor is one with broken padding."""
    for members in ((3, 3), (1, 1)):
        share = split_ems(1, [members], _encrypted(7, KEY))[0][0].mnemonic()
        assert "not a share of a clinic's recovery key" in refused(share)[1]


def test_no_word_is_in_a_message_or_repr() -> None:
    """What was typed is not repeated, and the key hides itself."""
    message = refused(changed(SHARES[0], 3, "kangaroo"))[1]
    assert not set(message.split()) & (set(SHARES[0].split()) | {"kangaroo"})
    assert repr(RecoveryKey(KEY)) == "RecoveryKey(kind='recovery')"


def test_a_key_of_another_length_is_refused() -> None:
    """Thirty-two bytes, or nothing."""
    with pytest.raises(ValueError, match="32 bytes"):
        RecoveryKey(b"short")


def _published() -> list[Any]:
    vectors: list[Any] = json.loads(PUBLISHED.read_text(encoding="utf-8"))["vectors"]
    return vectors


def test_published_vectors_of_our_shape_open_and_all_others_are_refused() -> None:
    """SLIP-39's own vectors: the 2-of-n of 256 bits gives its secret; every other one is refused with our codes."""
    outcomes = []
    for vector in _published():
        first, second = (vector["shares"] * 2)[:2]
        try:
            outcomes.append(combine(first, second, passphrase=b"TREZOR").hex() == vector["secret"])
        except InputError as error:
            outcomes.append(error.code)
    typo = "recovery_share_typo"
    assert outcomes == [typo, typo, typo, True, typo, typo, typo, typo]
