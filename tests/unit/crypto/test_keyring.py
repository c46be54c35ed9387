"""The unlocked keyring: wraps data keys, derives keys, hands itself over, and shows nothing."""

import copy
import json
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinic.crypto.aead import seal_blob
from clinic.crypto.keyring import MAX_VERSIONS, Keyring, Purpose, _dek_context
from clinic.errors import DecryptionError, SealedError

ROOT, KEK = bytes(range(32)), bytes(range(32, 64))
KEYRING = Keyring(ROOT, {1: KEK}, key_id=1)


def test_a_data_key_is_given_back_to_its_patient() -> None:
    """What was wrapped for a patient unwraps for that patient."""
    dek, wrapped = KEYRING.new_dek("p1")
    assert len(dek) == 32
    assert dek not in wrapped
    assert KEYRING.unwrap_dek("p1", wrapped) == dek


def test_data_keys_differ() -> None:
    """Every data key is fresh, for the same patient too."""
    assert len({KEYRING.new_dek("p1")[0] for _ in range(100)}) == 100


def test_a_data_key_is_bound_to_its_patient() -> None:
    """A wrapped key put beside another patient is refused."""
    _, wrapped = KEYRING.new_dek("p1")
    with pytest.raises(DecryptionError):
        KEYRING.unwrap_dek("p2", wrapped)


def test_without_its_context_another_patients_key_would_unwrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: it is the associated data that binds the key to its patient."""
    monkeypatch.setattr("clinic.crypto.keyring._dek_context", lambda _patient, _key_id: b"")
    dek, wrapped = KEYRING.new_dek("p1")
    assert KEYRING.unwrap_dek("p2", wrapped) == dek


def test_any_single_bit_flip_of_a_wrapped_key_fails() -> None:
    """Every bit of a wrapped key matters, those of the version number too."""
    _, wrapped = KEYRING.with_new_kek().new_dek("p1")
    for bit in range(len(wrapped) * 8):
        flipped = bytearray(wrapped)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecryptionError):
            KEYRING.with_new_kek().unwrap_dek("p1", bytes(flipped))


def test_a_key_of_the_wrong_length_is_refused() -> None:
    """Something else than 32 bytes, though it authenticates, is no data key."""
    wrapped = seal_blob(KEK, b"short", aad=_dek_context("p1", 1), key_id=1)
    with pytest.raises(DecryptionError):
        KEYRING.unwrap_dek("p1", wrapped)


def test_a_patient_needs_an_id() -> None:
    """A data key for nobody is the caller's mistake."""
    with pytest.raises(ValueError, match="patient id"):
        KEYRING.new_dek("")


def test_rotation_keeps_old_keys_readable() -> None:
    """After rotation old data keys unwrap, new ones use the new version, and re-wrapping moves them."""
    rotated = KEYRING.with_new_kek()
    dek, old = KEYRING.new_dek("p1")
    assert (rotated.key_id, rotated.versions) == (2, (1, 2))
    assert rotated.unwrap_dek("p1", old) == dek
    moved = rotated.rewrap_dek("p1", old)
    assert moved[:5] == b"\x01\x00\x00\x00\x02"
    assert rotated.unwrap_dek("p1", moved) == dek
    with pytest.raises(DecryptionError):
        KEYRING.unwrap_dek("p1", moved)


def test_derived_keys_are_stable_and_distinct() -> None:
    """A purpose always gives the same key, across rotation too; no two purposes or clinics share one."""
    derived = {purpose: KEYRING.derive(purpose) for purpose in Purpose}
    assert len(set(derived.values()) | {ROOT, KEK}) == len(Purpose) + 2
    assert {len(key) for key in derived.values()} == {32}
    assert {purpose: KEYRING.with_new_kek().derive(purpose) for purpose in Purpose} == derived
    assert Keyring(bytes(32), {1: KEK}, key_id=1).derive(Purpose.SESSION) != derived[Purpose.SESSION]


def test_derived_keys_are_pinned() -> None:
    """The derivation is part of the format: another value here would lose every pseudonym and signature."""
    assert KEYRING.derive(Purpose.AUDIT_SIGNING).hex() == PINNED_AUDIT_SIGNING
    assert [purpose.value for purpose in Purpose] == [
        "audit-pseudonym",
        "audit-signing",
        "blind-index",
        "session",
        "local-ca",
        "staff",
        "backup-identity",
        "backup-signing",
        "policy-signing",
    ]


def test_generated_keyrings_differ() -> None:
    """Two clinics have nothing in common."""
    one, other = Keyring.generate(), Keyring.generate()
    assert one.derive(Purpose.STAFF) != other.derive(Purpose.STAFF)
    with pytest.raises(DecryptionError):
        other.unwrap_dek("p1", one.new_dek("p1")[1])


@given(root=st.binary(min_size=32, max_size=32), count=st.integers(1, 12))
def test_handover_is_a_round_trip(root: bytes, count: int) -> None:
    """A child process holds exactly the parent's keys."""
    keyring = Keyring(root, {1: KEK}, key_id=1)
    for _ in range(count - 1):
        keyring = keyring.with_new_kek()
    child = Keyring.from_handover(keyring.handover())
    assert (child.key_id, child.versions) == (keyring.key_id, keyring.versions)
    dek, wrapped = keyring.new_dek("p1")
    assert child.unwrap_dek("p1", wrapped) == dek
    assert child.derive(Purpose.SESSION) == keyring.derive(Purpose.SESSION)


def test_a_handover_cut_short_anywhere_is_refused() -> None:
    """A parent that died while writing leaves no half keyring."""
    data = KEYRING.with_new_kek().handover()
    for length in range(len(data)):
        with pytest.raises(SealedError) as caught:
            Keyring.from_handover(data[:length])
        assert caught.value.code == "handover_broken"
        assert caught.value.__suppress_context__


@given(data=st.binary(max_size=400))
def test_noise_is_no_handover(data: bytes) -> None:
    """Whatever comes through the pipe gives a keyring or `handover_broken`, nothing else."""
    for noise in (data, b"clinic-handover/1\n" + data):
        assert handed_over(noise) in (noise, "handover_broken")


def handed_over(data: bytes) -> bytes | str:
    """Return what the keyring would hand over in turn, or the error's code."""
    try:
        return Keyring.from_handover(data).handover()
    except SealedError as error:
        return error.code


def test_more_versions_than_allowed_are_refused() -> None:
    """A keyring has an upper bound."""
    many = Keyring(ROOT, dict.fromkeys(range(MAX_VERSIONS + 1), KEK), key_id=0)
    with pytest.raises(SealedError):
        Keyring.from_handover(many.handover())


def test_no_key_shows() -> None:
    """Neither repr, str, format nor a traceback holds key bytes in any spelling."""
    error = RuntimeError(repr(KEYRING), str(KEYRING), f"{KEYRING}", [KEYRING], {"keyring": KEYRING})
    shown = "".join(traceback.format_exception(error))
    assert "Keyring(key_id=1, versions=(1,))" in shown
    for key in (ROOT, KEK):
        for spelling in (key.hex(), repr(key)[2:-1], str(list(key))[1:-1]):
            assert spelling not in shown


def test_a_keyring_is_not_copied_pickled_or_dumped() -> None:
    """There is no accidental way out for the keys."""
    with pytest.raises(TypeError, match="neither copied nor pickled"):
        copy.deepcopy(KEYRING)
    with pytest.raises(TypeError, match="neither copied nor pickled"):
        copy.copy(KEYRING)
    with pytest.raises(TypeError):
        json.dumps(KEYRING)
    with pytest.raises(TypeError):
        vars(KEYRING)


PINNED_AUDIT_SIGNING = "386e104935b948735bbf529d684ea27c9082df76eae84cc2c337923cf1e8cb88"
