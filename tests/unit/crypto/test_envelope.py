"""A sealed field opens in its own place, under its own key, and nowhere else."""

import doctest
import os
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from hypothesis import assume, given
from hypothesis import strategies as st

from clinic.crypto import envelope
from clinic.crypto.aead import MAX_PLAINTEXT, OVERHEAD, frame, new_key
from clinic.crypto.envelope import FieldContext, open_sealed, seal
from clinic.errors import DecryptionError

KEY = bytes(range(32))
HERE = FieldContext(table="patients", column="name", row_id="row-1", patient_id="patient-1", row_version=3)
CANARY = b"Zebedee Quux"

names = st.text(min_size=1, max_size=20)
contexts = st.builds(
    FieldContext,
    table=names,
    column=names,
    row_id=names,
    patient_id=st.text(max_size=20),
    row_version=st.integers(0, 2**64 - 1),
)
keys = st.binary(min_size=32, max_size=32)
ELSEWHERE = [
    pytest.param({"table": "notes"}, id="table"),
    pytest.param({"column": "address"}, id="column"),
    pytest.param({"row_id": "row-2"}, id="row"),
    pytest.param({"patient_id": "patient-2"}, id="patient"),
    pytest.param({"patient_id": ""}, id="no patient"),
    pytest.param({"row_version": 2}, id="older version"),
    pytest.param({"row_version": 4}, id="newer version"),
    pytest.param({"table": "patientsn", "column": "ame"}, id="frame moved"),
]


@given(key=keys, plaintext=st.binary(max_size=300), context=contexts, key_id=st.integers(0, 2**32 - 1))
def test_opens_what_was_sealed(key: bytes, plaintext: bytes, context: FieldContext, key_id: int) -> None:
    """Whatever is sealed opens to the same bytes, and is 33 bytes longer."""
    blob = seal(key, plaintext, context, key_id=key_id)
    assert len(blob) == len(plaintext) + OVERHEAD
    assert blob[:5] == b"\x01" + key_id.to_bytes(4, "big")
    assert open_sealed(key, blob, context) == plaintext


@given(key=keys, plaintext=st.binary(max_size=60), here=contexts, there=contexts)
def test_no_other_place_opens(key: bytes, plaintext: bytes, here: FieldContext, there: FieldContext) -> None:
    """No two different places are the same to the envelope."""
    assume(here != there)
    with pytest.raises(DecryptionError):
        open_sealed(key, seal(key, plaintext, here, key_id=1), there)


@given(left=st.lists(st.binary(max_size=6), max_size=5), right=st.lists(st.binary(max_size=6), max_size=5))
def test_framing_is_unambiguous(left: list[bytes], right: list[bytes]) -> None:
    """Two different sequences of fields never give the same bytes."""
    assert (frame(*left) == frame(*right)) == (left == right)


def test_any_single_bit_flip_fails() -> None:
    """Every one of the bits of a blob matters."""
    blob = seal(KEY, CANARY, HERE, key_id=1)
    for bit in range(len(blob) * 8):
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecryptionError):
            open_sealed(KEY, bytes(flipped), HERE)


def test_without_a_tag_a_bit_flip_would_pass() -> None:
    """Negative control: the cipher alone, without authentication, gives changed text without complaint."""
    blob = seal(KEY, CANARY, HERE, key_id=1)
    nonce, ciphertext = blob[5:17], bytearray(blob[17:-16])
    ciphertext[0] ^= 1
    bare = Cipher(AES(KEY), CTR(nonce + b"\0\0\0\2")).decryptor()
    assert bare.update(bytes(ciphertext)) == bytes([CANARY[0] ^ 1]) + CANARY[1:]


@pytest.mark.parametrize("length", range(len(CANARY) + OVERHEAD))
def test_any_truncation_fails(length: int) -> None:
    """A blob cut short at any point is refused."""
    with pytest.raises(DecryptionError):
        open_sealed(KEY, seal(KEY, CANARY, HERE, key_id=1)[:length], HERE)


@pytest.mark.parametrize("changes", ELSEWHERE)
def test_a_moved_field_does_not_open(changes: dict[str, Any]) -> None:
    """A ciphertext put into another table, column, row, patient or version is refused."""
    with pytest.raises(DecryptionError):
        open_sealed(KEY, seal(KEY, CANARY, HERE, key_id=1), replace(HERE, **changes))


@pytest.mark.parametrize("changes", ELSEWHERE)
def test_without_the_context_a_moved_field_would_open(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: it is the associated data, and nothing else, that holds a field in its place."""
    monkeypatch.setattr(envelope, "_associated_data", lambda _context, _key_id: b"")
    blob = seal(KEY, CANARY, HERE, key_id=1)
    assert open_sealed(KEY, blob, replace(HERE, **changes)) == CANARY


def test_the_key_id_is_authenticated() -> None:
    """Another key id in the header is refused although the key is right."""
    blob = seal(KEY, CANARY, HERE, key_id=1)
    with pytest.raises(DecryptionError):
        open_sealed(KEY, blob[:4] + b"\x02" + blob[5:], HERE)


def test_another_key_does_not_open() -> None:
    """The right place under the wrong key is refused."""
    with pytest.raises(DecryptionError):
        open_sealed(new_key(), seal(KEY, CANARY, HERE, key_id=1), HERE)


def test_every_refusal_reads_the_same() -> None:
    """Truncated, flipped, moved or wrongly keyed: one message, one code, no cause, no value, no id."""
    blob = seal(KEY, CANARY, HERE, key_id=1)
    attempts = [
        (KEY, b"", HERE),
        (KEY, b"\x02" + blob[1:], HERE),
        (KEY, blob[:-1] + bytes([blob[-1] ^ 1]), HERE),
        (bytes(32), blob, HERE),
        (KEY, blob, replace(HERE, row_version=4)),
    ]
    seen = set()
    for key, data, context in attempts:
        with pytest.raises(DecryptionError) as caught:
            open_sealed(key, data, context)
        error = caught.value
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None
        seen.add((str(error), error.code, error.hint))
    assert len(seen) == 1
    message = repr(seen)
    assert "patients.name" in message
    for secret in ("Zebedee", "patient-1", "row-1", KEY.hex()):
        assert secret not in message


def test_the_example_runs() -> None:
    """The example in the module's documentation is true."""
    assert doctest.testmod(envelope) == (0, 5)


def test_nonces_never_repeat() -> None:
    """Two thousand seals, and a forked child's, have different nonces."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, seal(KEY, b"", HERE, key_id=1)[5:17])
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    nonces = {seal(KEY, b"", HERE, key_id=1)[5:17] for _ in range(2000)} | {os.read(read, 12)}
    os.close(read)
    assert len(nonces) == 2001


@pytest.mark.parametrize("length", [0, 16, 24, 31, 33])
def test_only_256_bit_keys_are_taken(length: int) -> None:
    """A shorter key would quietly be a weaker cipher."""
    with pytest.raises(ValueError, match="32 bytes"):
        seal(bytes(length), CANARY, HERE, key_id=1)


@pytest.mark.parametrize("key_id", [-1, 2**32])
def test_key_ids_have_32_bits(key_id: int) -> None:
    """A key id that does not fit is the caller's mistake."""
    with pytest.raises(ValueError, match="32-bit"):
        seal(KEY, CANARY, HERE, key_id=key_id)


def test_a_value_has_a_largest_size() -> None:
    """More than 64 MiB is refused rather than sealed."""
    with pytest.raises(ValueError, match="64 MiB"):
        seal(KEY, bytes(MAX_PLAINTEXT + 1), HERE, key_id=1)


@pytest.mark.parametrize(
    "changes",
    [{"table": ""}, {"column": ""}, {"row_id": ""}, {"row_version": -1}, {"row_version": 2**64}],
    ids=["no table", "no column", "no row", "negative version", "huge version"],
)
def test_a_place_must_be_complete(changes: dict[str, Any]) -> None:
    """A field without table, column or row, or with an impossible version, cannot be named."""
    with pytest.raises(ValueError, match=r"sealed field|row version"):
        replace(HERE, **changes)
