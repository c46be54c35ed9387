"""How often each key has sealed something: counted with what it sealed, and refused at the limit.

Rules kept here:

* Every sealing key has a counter: each patient's data key, each version of the key-encryption key, and each derived
  key that seals.  A random 96-bit nonce repeats with a probability under 2^-32 only below 2^32 uses; we stop at 2^31.
* A use is counted before the value is sealed, and stored in the transaction that stores the value: both are committed
  or neither is.
* Counting needs a writing transaction: nothing is sealed in one that was opened for reading (`RuntimeError`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, select

from clinic.errors import StorageError
from clinic.records.models import KeyUseRow, PatientRow

LIMIT: Final = 2**31
LOCAL_CA: Final = "local-ca"

# Every sealing transaction runs these: to the driver as they are, which takes half the time.
_STORED: Final = "SELECT sealed FROM key_uses WHERE owner = ?"
_STORE: Final = (
    "INSERT INTO key_uses (owner, sealed) VALUES (?, ?) ON CONFLICT (owner) DO UPDATE SET sealed = excluded.sealed"
)


class KeyUses:
    """The counters, within one transaction."""

    def __init__(self, connection: Connection, require_writable: Callable[[], None]) -> None:
        self._connection = connection
        self._require_writable = require_writable
        self._counts: dict[str, int] = {}

    def count(self, owner: str) -> None:
        """Count one use of this owner's key.

        Raises:
            StorageError: `key_exhausted`; nothing was sealed.
        """
        self._require_writable()
        before = self._counts.get(owner)
        if before is None:
            before = self._stored(owner)
        if before >= LIMIT:
            raise StorageError(
                f"a key has sealed {LIMIT} values and takes no more",
                code="key_exhausted",
                hint="`clinic keys status` names it: rotate a key-encryption key, open a new record for a patient",
            )
        self._counts[owner] = before + 1

    def flush(self) -> None:
        """Write what was counted; the commit is the caller's."""
        if self._counts:
            self._connection.exec_driver_sql(_STORE, list(self._counts.items()))

    def _stored(self, owner: str) -> int:
        found = self._connection.exec_driver_sql(_STORED, (owner,)).scalar()
        return 0 if found is None else int(found)


@dataclass(frozen=True, slots=True)
class Usage:
    """What may be shown of the counters; read without any key.

    Attributes:
        patients: how many patients' keys are wrapped under each version of the key-encryption key.
        clinic: uses of the keys that belong to no patient, by name.
        patient_keys: how many data keys have been used.
        busiest: uses of the most used one of them.
    """

    patients: dict[int, int]
    clinic: dict[str, int]
    patient_keys: int
    busiest: int

    @property
    def highest(self) -> int:
        """The most used key of all."""
        return max(self.busiest, *self.clinic.values(), 0)


def usage(connection: Connection) -> Usage:
    """Return the state of all counters."""
    header = func.hex(func.substr(PatientRow.wrapped_dek, 2, 4))
    versions = select(header, func.count()).where(PatientRow.wrapped_dek.is_not(None)).group_by(header)
    of_patients = select(func.count(), func.coalesce(func.max(KeyUseRow.sealed), 0)).where(
        KeyUseRow.owner.in_(select(PatientRow.id))
    )
    keys, busiest = connection.execute(of_patients).one()
    others = select(KeyUseRow.owner, KeyUseRow.sealed).where(KeyUseRow.owner.not_in(select(PatientRow.id)))
    return Usage(
        patients={int(version, 16): count for version, count in connection.execute(versions)},
        clinic={row.owner: row.sealed for row in connection.execute(others.order_by(KeyUseRow.owner))},
        patient_keys=keys,
        busiest=busiest,
    )
