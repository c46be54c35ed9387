"""Sealed columns: the one way by which patient data enters and leaves the database.

Rules kept here:

* A sealed column takes `Sealed` values and nothing else; only `Vault.seal` makes them.  A plain string or plain bytes
  is refused by the type checker first and by the column at run time.
* The context (table, column, row, patient, row version) comes from the mapped column itself and from a `Place`, so a
  blob that is moved to another row, column, patient or version does not open.
* Each patient has a key of their own; it exists unwrapped only inside the vault of one transaction.
* Every use of a key to seal is counted before it happens, whoever the owner is.
* Staff data (password hashes, display names) is sealed in the same way under the staff key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import LargeBinary
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import QueryableAttribute
from sqlalchemy.types import TypeDecorator

from clinic.audit.details import Detail, associated_data, detail_from_canonical
from clinic.audit.entry import Entry
from clinic.crypto.aead import open_blob, seal_blob
from clinic.crypto.envelope import FieldContext, open_sealed, seal
from clinic.crypto.keys import Keyring, Purpose
from clinic.crypto.page_key import page_key
from clinic.domain import canonical_json
from clinic.errors import DecryptionError

T = TypeVar("T")

STAFF: Final = "staff"
"""Owner of sealed data that belongs to no patient; no patient id looks like this."""

_KEK: Final = "kek:"

DEK_VERSION: Final = 1
"""Generation of a patient's data key, written into every blob; re-keying a patient would raise it."""


def kek_owner(version: int) -> str:
    """Return the name under which the uses of a version of the key-encryption key are counted."""
    return f"{_KEK}{version}"


class Sealed(bytes):
    """Ciphertext on its way to or from a sealed column."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Say the size only."""
        return f"Sealed({len(self)} bytes)"


class SealedType(TypeDecorator[Sealed]):
    """A BLOB that accepts nothing but `Sealed`."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Sealed | None, dialect: Dialect) -> bytes | None:
        """Refuse anything that did not come out of the vault."""
        del dialect
        if value is not None and not isinstance(value, Sealed):
            raise TypeError("a sealed column takes only what Vault.seal returned")
        return value

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Sealed | None:
        """Mark what comes back as ciphertext."""
        del dialect
        return None if value is None else Sealed(value)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value lives: whose it is, in which row, in which version of that row."""

    patient_id: str
    row_id: str
    row_version: int = 1


class Vault:
    """Seals and opens the fields of one transaction.

    Args:
        keyring: the clinic's keys.
        wrapped_key: looks up a patient's wrapped key.
        count: told the owner of a key before each use of it to seal; raises if there may be no more.
    """

    def __init__(self, keyring: Keyring, *, wrapped_key: Callable[[str], bytes], count: Callable[[str], None]) -> None:
        self._keyring = keyring
        self._wrapped_key = wrapped_key
        self._count = count
        self._keys: dict[str, bytes] = {}

    def __repr__(self) -> str:
        """Show no key."""
        return "Vault()"

    def enrol(self, patient_id: str) -> bytes:
        """Make the data key of a new patient and return it wrapped."""
        self._count(kek_owner(self._keyring.key_id))
        key, wrapped = self._keyring.new_dek(patient_id)
        self._keys[patient_id] = key
        return wrapped

    def rewrap(self, patient_id: str, wrapped: bytes) -> bytes:
        """Return the same data key wrapped under the active key version."""
        self._count(kek_owner(self._keyring.key_id))
        return self._keyring.rewrap_dek(patient_id, wrapped)

    @property
    def wrapped_header(self) -> bytes:
        """How every key begins that is wrapped under the active key version."""
        return self._keyring.wrapped_header

    def seal(self, column: QueryableAttribute[Any], plaintext: bytes, place: Place) -> Sealed:
        """Encrypt `plaintext` for exactly this column and place."""
        key = self._key(place.patient_id)
        self._count(place.patient_id)
        return Sealed(seal(key, plaintext, _context(column, place), key_id=DEK_VERSION))

    def open(self, column: QueryableAttribute[Any], blob: bytes, place: Place) -> bytes:
        """Decrypt what was sealed for exactly this column and place; `DecryptionError` otherwise."""
        return open_sealed(self._key(place.patient_id), blob, _context(column, place))

    def seal_json(self, column: QueryableAttribute[Any], value: Any, place: Place) -> Sealed:
        """Seal a JSON value (canonical form)."""
        return self.seal(column, canonical_json(value), place)

    def open_json(self, column: QueryableAttribute[Any], blob: bytes, place: Place, adapter: TypeAdapter[T]) -> T:
        """Open a JSON value and validate it against `adapter`."""
        plaintext = self.open(column, blob, place)
        try:
            return adapter.validate_json(plaintext)
        except ValidationError:  # its message quotes the value: cut it off
            raise DecryptionError(
                f"sealed `{_name(column)}` holds an unknown shape",
                hint="the record was written by another version; run `clinic doctor`",
            ) from None

    def page_key(self, patient_id: str, recording_id: str) -> bytes:
        """Return the key under which the page of a recording keeps what is not acknowledged yet."""
        return page_key(self._key(patient_id), recording_id)

    def seal_detail(self, detail: Detail, patient_id: str, *, origin: str, seq: int, event: str) -> bytes:
        """Encrypt what an audit entry says of a patient, for exactly this entry of this log."""
        key = self._key(patient_id)
        self._count(patient_id)
        aad = associated_data(origin=origin, seq=seq, event=event, patient_id=patient_id, key_id=DEK_VERSION)
        return seal_blob(key, detail.to_canonical(), aad=aad, key_id=DEK_VERSION)

    def open_detail(self, entry: Entry, patient_id: str, *, origin: str) -> Detail:
        """Decrypt what was sealed for exactly this entry and patient.

        Raises:
            DecryptionError: the entry has no sealed part, or it is not this patient's.
            RecordError: `record_unknown`, or `patient_shredded` once the patient's key is destroyed.
            AuditError: `detail_invalid`.
        """
        key = self._key(patient_id)
        aad = associated_data(
            origin=origin, seq=entry.seq, event=entry.event, patient_id=patient_id, key_id=DEK_VERSION
        )
        what = f"the sealed part of audit entry `{entry.seq}`"
        return detail_from_canonical(open_blob(key, entry.sealed or b"", aad=aad, key_id=DEK_VERSION, what=what))

    def close(self) -> None:
        """Drop the unwrapped keys."""
        self._keys.clear()

    def _key(self, owner: str) -> bytes:
        key = self._keys.get(owner)
        if key is None:
            if owner == STAFF:
                key = self._keyring.derive(Purpose.STAFF)
            else:
                key = self._keyring.unwrap_dek(owner, self._wrapped_key(owner))
            self._keys[owner] = key
        return key


def _context(column: QueryableAttribute[Any], place: Place) -> FieldContext:
    table, name = _address(column)
    return FieldContext(
        table=table,
        column=name,
        row_id=place.row_id,
        patient_id=place.patient_id,
        row_version=place.row_version,
    )


def _address(column: QueryableAttribute[Any]) -> tuple[str, str]:
    mapped = column.property.columns[0]
    if not isinstance(mapped.type, SealedType):
        raise TypeError(f"column {mapped} is not a sealed column")
    return mapped.table.name, mapped.name


def _name(column: QueryableAttribute[Any]) -> str:
    return ".".join(_address(column))
