"""The recovery key: printed once, typed by a person, its typos named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinic.crypto import recovery
from clinic.crypto.recovery import RecoveryKey, _encode
from clinic.errors import InputError

KEY = bytes(range(100, 132))
TEXT = _encode(KEY)
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def problem(text: str) -> str:
    """Return the message for a mistyped key."""
    with pytest.raises(InputError) as caught:
        RecoveryKey(text)
    assert caught.value.code == "recovery_key_typo"
    return str(caught.value)


@given(key=st.binary(min_size=32, max_size=32))
def test_text_and_key_are_a_round_trip(key: bytes) -> None:
    """Every key has a text that gives it back."""
    text = _encode(key)
    assert len(text) == 13 * 5 + 12
    assert RecoveryKey(text).material == key


@given(key=st.binary(min_size=32, max_size=32), joint=st.sampled_from(["", " ", "-", " - ", "\n", "--"]))
def test_typing_is_forgiving(key: bytes, joint: str) -> None:
    """Case, separators and look-alike letters do not matter."""
    typed = _encode(key).lower().replace("0", "o").replace("1", "l").replace("-", joint)
    assert RecoveryKey(f"  {typed}\n").text == _encode(key)


def test_generated_keys_differ() -> None:
    """A recovery key is random."""
    assert len({RecoveryKey.generate().text for _ in range(100)}) == 100


def test_every_wrong_character_is_found_and_its_group_named() -> None:
    """All 65 x 31 single mistakes are caught, in the right group."""
    for at, right in enumerate(TEXT):
        for wrong in ALPHABET.replace(right, "") if right != "-" else "":
            assert problem(TEXT[:at] + wrong + TEXT[at + 1 :]) == (
                f"the recovery key is mistyped in group {at // 6 + 1} of 13"
            )


def test_neighbours_swapped_are_found() -> None:
    """Two characters typed in the wrong order are caught, in the right group."""
    for at in range(len(TEXT) - 1):
        first, second = TEXT[at], TEXT[at + 1]
        if first != second and "-" not in (first, second):
            assert f"group {at // 6 + 1} of" in problem(TEXT[:at] + second + first + TEXT[at + 2 :])


def test_groups_swapped_are_found_and_both_named() -> None:
    """Two lines read in the wrong order are caught."""
    groups = TEXT.split("-")
    for one in range(13):
        for other in range(one):
            swapped = list(groups)
            swapped[one], swapped[other] = swapped[other], swapped[one]
            assert f"group {other + 1}, {one + 1} of 13" in problem("-".join(swapped))


def test_without_the_place_swapped_groups_would_pass_their_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: it is the group's number in its check that shows the swap."""
    real = recovery._syndrome
    monkeypatch.setattr(recovery, "_syndrome", lambda values: real([0, *values[1:]]))
    groups = _encode(KEY).split("-")
    groups[0], groups[1] = groups[1], groups[0]
    assert problem("-".join(groups)) == "the recovery key is mistyped, in more than one place"


def test_a_whole_key_check_backs_the_groups() -> None:
    """Groups that are all right on their own, but not one key, are refused."""
    mixed = _encode(bytes(32)).split("-")[:1] + TEXT.split("-")[1:]
    assert problem("-".join(mixed)) == "the recovery key is mistyped, in more than one place"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", "not complete: 0 characters of 65", id="empty"),
        pytest.param(TEXT[:-6], "not complete: 60 characters of 65", id="group missing"),
        pytest.param(TEXT + "-00000", "not complete: 70 characters of 65", id="group too many"),
        pytest.param(TEXT[1:], "mistyped in group 1 of 13", id="character missing"),
        pytest.param(TEXT.replace("-", "0-", 1), "mistyped in group 1 of 13", id="character too many"),
        pytest.param("U" + TEXT[1:], "mistyped in group 1 of 13", id="no symbol"),
        pytest.param("é" + TEXT[1:], "mistyped in group 1 of 13", id="not ascii"),
    ],
)
def test_what_is_wrong_is_said(text: str, expected: str) -> None:
    """The message says what to look at."""
    assert problem(text) == f"the recovery key is {expected}"


@given(text=st.text(max_size=90))
def test_noise_is_a_typo(text: str) -> None:
    """Whatever is typed gives a key or `recovery_key_typo`, and the message never quotes it."""
    words = set("the recovery key is mistyped in group 0123456789, of 13 not complete: characters")
    assert set(typed(text)) <= words


def typed(text: str) -> str:
    """Return the message for what was typed; nothing for a good key."""
    try:
        RecoveryKey(text)
    except InputError as error:
        return str(error)
    return ""


def test_the_text_does_not_show() -> None:
    """Only `.text` holds the recovery key."""
    key = RecoveryKey(TEXT)
    assert key.text == TEXT
    assert repr(key) == str(key) == "RecoveryKey(kind='recovery')"
