"""The envelope of one sealed field: it opens in its own place and nowhere else.

Rules kept here:

* Pure: bytes in, bytes out; no file, no clock, no database.
* A sealed field is bound to its table, column, row, patient, key and row version; moved or replayed, it does not open.
* Any mismatch is the same `DecryptionError`; the message names table and column, never an id or a value.

Example:
    >>> from clinic.crypto.aead import new_key
    >>> dek = new_key()
    >>> here = FieldContext(table="patients", column="name", row_id="r1", patient_id="p1", row_version=1)
    >>> blob = seal(dek, b"Ada", here, key_id=1)
    >>> open_sealed(dek, blob, here)
    b'Ada'
"""

from __future__ import annotations

from dataclasses import dataclass

from clinic.crypto.aead import VERSION, frame, key_id_bytes, key_id_of, open_blob, seal_blob

MAX_ROW_VERSION = 2**64 - 1


@dataclass(frozen=True, slots=True)
class FieldContext:
    """Where a sealed field stands.  `patient_id` is empty only for data that belongs to no patient (staff)."""

    table: str
    column: str
    row_id: str
    patient_id: str
    row_version: int

    def __post_init__(self) -> None:
        if not (self.table and self.column and self.row_id):
            raise ValueError("a sealed field needs a table, a column and a row id")
        if not 0 <= self.row_version <= MAX_ROW_VERSION:
            raise ValueError("a row version is an unsigned 64-bit number")


def seal(key: bytes, plaintext: bytes, context: FieldContext, *, key_id: int) -> bytes:
    """Seal one field for its place; the result is 33 bytes longer than the plaintext."""
    return seal_blob(key, plaintext, aad=_associated_data(context, key_id), key_id=key_id)


def open_sealed(key: bytes, blob: bytes, context: FieldContext) -> bytes:
    """Return the plaintext of a field that was sealed under `key` for exactly this place.

    Raises:
        DecryptionError: anything about blob, key or place does not match.
    """
    what = f"sealed data in `{context.table}.{context.column}`"
    key_id = key_id_of(blob, what=what)
    return open_blob(key, blob, aad=_associated_data(context, key_id), key_id=key_id, what=what)


def _associated_data(context: FieldContext, key_id: int) -> bytes:
    return frame(
        VERSION.to_bytes(1, "big"),
        context.table.encode(),
        context.column.encode(),
        context.row_id.encode(),
        context.patient_id.encode(),
        key_id_bytes(key_id),
        context.row_version.to_bytes(8, "big"),
    )
