"""Every use of a key to seal is counted, with what it sealed, and refused at the limit."""

from __future__ import annotations

import ast
import os
import random  # noqa: TID251 - the very thing that must not be used, as a control
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import text

from clinic.crypto import aead
from clinic.crypto.keys import Keyring, Purpose
from clinic.domain import OPERATOR
from clinic.errors import StorageError
from clinic.records import uses
from clinic.records.engine import write_transaction
from clinic.records.models import PatientRow
from clinic.records.patients import Patient, PatientData
from clinic.records.records import Records
from clinic.records.sealed import STAFF, Place, kek_owner
from clinic.records.uses import LIMIT
from tests.unit.records.records_world import HASHER
from tests.unit.records.test_sealed import fill, staff

PACKAGE = Path(__file__).resolve().parents[3] / "clinic"

SEALERS = {
    "crypto/aead.py": "the primitive itself",
    "crypto/envelope.py": "the envelope around it; its callers are looked at here, too",
    "crypto/keyring.py": "wraps data keys: counted by the vault before it asks (enrol, rewrap)",
    "crypto/keys.py": "the file key seals the keyring once with each rotation, by hand",
    "crypto/slots.py": "a slot's wrapping key is derived with a fresh salt and seals once",
    "home.py": "the CA's key, sealed once at init and counted as `local-ca`",
    "records/sealed.py": "the vault, which counts",
    "speech/spool.py": "a key of its own for every upload, with block numbers as nonces",
}
"""Every module that encrypts, and why each use of its keys is counted or bounded."""

_NAMES = {"seal_blob", "seal", "AESGCM", "encrypt", "ChaCha20Poly1305", "AESGCMSIV", "AESSIV", "AESCCM", "Cipher"}


def encrypting_modules() -> set[str]:
    """Return the modules that name an encrypting function, but for calls of the vault."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("cryptography", "clinic.crypto")):
                if any(alias.name in _NAMES for alias in node.names):
                    found.add(str(path.relative_to(PACKAGE)))
            elif isinstance(node, ast.FunctionDef) and node.name == "seal_blob":
                found.add(str(path.relative_to(PACKAGE)))
    return found


def test_no_other_module_encrypts() -> None:
    """A module that begins to encrypt must join the list, with the reason why its keys are counted or bounded."""
    assert encrypting_modules() == set(SEALERS)


class Recorder:
    """Counts what the cipher really encrypts, by key."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_key: Counter[bytes] = Counter()
        original = aead._cipher
        recorder = self

        class Counted:
            def __init__(self, key: bytes) -> None:
                self._key = key
                self._aead: AESGCM = original(key)

            def encrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes:
                recorder.by_key[self._key] += 1
                return self._aead.encrypt(nonce, data, aad)

            def decrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes:
                return self._aead.decrypt(nonce, data, aad)

        monkeypatch.setattr(aead, "_cipher", Counted)


def test_the_counters_are_what_was_encrypted(
    records: Records, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After every kind of record was written, each key's counter equals the encryptions that really happened."""
    seen = Recorder(monkeypatch)
    ids = [fill(records, number).patient_id for number in ("MRN-1", "MRN-2")]
    staff(records)
    owners = {keyring._keks[1]: kek_owner(1), keyring.derive(Purpose.STAFF): STAFF}
    with records.read() as tx:
        for patient_id in ids:
            row = tx._work.require(PatientRow, patient_id, what="patient")
            assert row.wrapped_dek is not None
            owners[keyring.unwrap_dek(patient_id, row.wrapped_dek)] = patient_id
    encrypted = {owners[key]: count for key, count in seen.by_key.items()}
    assert stored(records) == encrypted
    assert encrypted[kek_owner(1)] == 2
    assert encrypted[ids[0]] > 15


def stored(records: Records) -> dict[str, int]:
    """Return all counters."""
    with write_transaction(records._engine) as connection:
        return {row.owner: row.sealed for row in connection.execute(text("SELECT owner, sealed FROM key_uses"))}


def test_a_use_that_is_not_counted_would_be_noticed(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with counting off, the same comparison differs."""
    seen = Recorder(monkeypatch)
    monkeypatch.setattr(uses.KeyUses, "count", lambda _self, _owner: None)
    fill(records)
    assert seen.by_key.total() > 15
    assert stored(records) == {}


def test_a_rolled_back_use_is_not_stored_and_a_committed_one_is(records: Records, patient: Patient) -> None:
    """Counter and value share their transaction."""
    before = stored(records)[patient.id]

    def interrupted() -> None:
        with records.write() as tx:
            tx.patients.update(patient.id, PatientData("Other Name"), OPERATOR)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert stored(records)[patient.id] == before
    with records.write() as tx:
        tx.patients.update(patient.id, PatientData("Other Name"), OPERATOR)
    assert stored(records)[patient.id] == before + 2  # the data, and the sealed part of the audit entry


@pytest.mark.parametrize("owner", ["patient", STAFF, kek_owner(1)])
def test_at_the_limit_nothing_more_is_sealed(records: Records, patient: Patient, owner: str) -> None:
    """One use below the limit works, the next is refused with its code and hint; other keys are not concerned."""
    row_owner, each = (patient.id, 2) if owner == "patient" else (owner, 1)  # with the sealed part of the audit entry
    with write_transaction(records._engine) as connection:
        connection.execute(
            text("INSERT OR REPLACE INTO key_uses VALUES (:owner, :sealed)"),
            {"owner": row_owner, "sealed": LIMIT - 2 * each},
        )

    def use() -> None:
        with records.write() as tx:
            if owner == "patient":
                tx.patients.update(patient.id, PatientData("Other Name"), OPERATOR)
            elif owner == STAFF:
                tx._work.vault.seal(PatientRow.data, b"x", Place(STAFF, "row"))
            else:
                tx.patients.create(PatientData("New Patient"), OPERATOR)

    use()
    use()
    assert stored(records)[row_owner] == LIMIT
    with pytest.raises(StorageError) as caught:
        use()
    assert caught.value.code == "key_exhausted"
    assert "clinic keys status" in caught.value.hint
    assert stored(records)[row_owner] == LIMIT


def test_nothing_is_sealed_in_a_transaction_for_reading(records: Records, patient: Patient) -> None:
    """What could not be counted is not sealed."""
    with pytest.raises(RuntimeError), records.read() as tx:
        tx._work.vault.seal(PatientRow.data, b"x", Place(patient.id, "row"))


def test_usage_tells_keys_versions_and_the_busiest(records: Records, keyring: Keyring, patient: Patient) -> None:
    """What `keys status` shows: patients by key version, uses by key, no patient named."""
    with records.write() as tx:
        tx.patients.update(patient.id, PatientData("Other Name"), OPERATOR)
    with Records(records._engine, keyring=keyring.with_new_kek(), hasher=HASHER).write() as tx:
        tx.patients.create(PatientData("New Patient"), OPERATOR)
    used = records.usage()
    assert (used.patients, used.patient_keys, used.busiest, used.highest) == ({1: 1, 2: 1}, 2, 4, 4)
    assert used.clinic == {"kek:1": 1, "kek:2": 1}


def nonces(count: int) -> bytes:
    """Seal `count` values and return their nonces."""
    key = aead.new_key()
    return b"".join(aead.seal_blob(key, b"", aad=b"", key_id=1)[5:17] for _ in range(count))


def forked(count: int, processes: int) -> bytes:
    """Seal in child processes that were forked after this one had sealed, and return all their nonces."""
    found, readers = b"", []
    for _ in range(processes):
        read_end, write_end = os.pipe()
        if os.fork() == 0:
            os.close(read_end)
            with os.fdopen(write_end, "wb") as pipe:
                pipe.write(nonces(count))
            os._exit(0)
        os.close(write_end)
        readers.append(read_end)
    for read_end in readers:
        with os.fdopen(read_end, "rb") as pipe:
            found += pipe.read()
    for _ in readers:
        os.wait()
    return found


def different(made: bytes) -> tuple[int, int]:
    """Return how many nonces there are, and how many different ones."""
    each = np.frombuffer(made, dtype="V12")
    ordered = np.sort(each.view([("a", "<u8"), ("b", "<u4")]), order=("a", "b"))
    return len(each), 1 + int(np.count_nonzero(ordered[1:] != ordered[:-1]))


def test_no_nonce_is_used_twice_not_even_across_a_fork() -> None:
    """A million encryptions, half of them in two forked processes."""
    assert different(nonces(500_000) + forked(250_000, 2)) == (1_000_000, 1_000_000)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_campaign_ten_million_nonces() -> None:
    """Ten million encryptions, half of them in eight forked processes."""
    assert different(nonces(5_000_000) + forked(625_000, 8)) == (10_000_000, 10_000_000)


def test_a_generator_in_our_own_memory_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with a generator whose state is copied by the fork, the same search finds repetitions."""
    chance = random.Random(1)
    monkeypatch.setattr(os, "urandom", chance.randbytes)
    assert different(forked(100, 4)) == (400, 100)
