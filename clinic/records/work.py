"""One unit of work: what the repositories of one transaction share.

Rules kept here:

* Nothing is written, and no audit event appended, in a transaction that was opened for reading (`RuntimeError`).
* An audit event goes into the same transaction as the rows that it speaks of: both are committed, or neither.
* A unit of work that is over is not used again (`RuntimeError`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from argon2 import PasswordHasher
from sqlalchemy import Connection, event
from sqlalchemy.orm import Session

from clinic.audit.details import Detail, PatientLink
from clinic.audit.events import AuditEvent
from clinic.audit.log import AuditLog, Entry, Seal
from clinic.crypto.keys import Keyring, Purpose
from clinic.domain import Actor, Clock
from clinic.errors import RecordError
from clinic.records.blind_index import BlindIndex
from clinic.records.models import Base, PatientRow
from clinic.records.sealed import Vault
from clinic.records.uses import KeyUses

Row = TypeVar("Row", bound=Base)

_WRITABLE: Final = "writable"


@dataclass(frozen=True, slots=True)
class Parts:
    """What all transactions of one `Records` share."""

    keyring: Keyring
    audit: AuditLog
    clock: Clock
    hasher: PasswordHasher


class _Session(Session):
    """A session that knows whether it may write."""


@event.listens_for(_Session, "before_flush")
def _before_flush(session: Session, *_: Any) -> None:
    if not session.info[_WRITABLE] and (session.new or session.dirty or session.deleted):
        raise _for_reading()


class UnitOfWork:
    """Session, vault and audit log of one transaction."""

    def __init__(self, connection: Connection, parts: Parts, *, writable: bool) -> None:
        self._connection = connection
        self._parts = parts
        self._writable = writable
        self._open = True
        self.appended: int | None = None
        """Number of the last audit entry of this transaction."""
        self.appends = 0
        """How many audit entries this transaction has appended."""
        self._session = _Session(
            bind=connection, join_transaction_mode="rollback_only", autoflush=True, info={_WRITABLE: writable}
        )
        self.uses = KeyUses(connection, self.require_writable)
        self.vault = Vault(parts.keyring, wrapped_key=self._wrapped_key, count=self.uses.count)

    @property
    def session(self) -> Session:
        """The ORM session, joined to this transaction."""
        if not self._open:
            raise RuntimeError("this transaction is over")
        return self._session

    @property
    def hasher(self) -> PasswordHasher:
        """How passwords are hashed."""
        return self._parts.hasher

    def now(self) -> datetime:
        """Return the present time, UTC-aware."""
        return self._parts.clock()

    def record_number_index(self) -> BlindIndex:
        """Return the blind index over patients' record numbers."""
        return BlindIndex(self._parts.keyring.derive(Purpose.BLIND_INDEX), scope="patients.record_number")

    def username_index(self) -> BlindIndex:
        """Return the index that spreads user names without an account over a fixed number of buckets."""
        return BlindIndex(self._parts.keyring.derive(Purpose.BLIND_INDEX), scope="login_failures.subject", bits=16)

    def append(
        self, audit_event: AuditEvent, *, actor: Actor, patient_id: str | None = None, detail: Detail | None = None
    ) -> Entry:
        """Append an audit event inside this transaction.

        With `patient_id` the entry gets a part that is sealed under this patient's key: `detail`, or else a
        `PatientLink`.  A patient whose key was destroyed gets no link: the pseudonym is all that may be recorded.

        Raises:
            RecordError: `record_unknown`; with a `detail`, also `patient_shredded`.
        """
        self.require_writable()
        self.session.flush()
        seal = None if patient_id is None else self._sealer(audit_event.name, patient_id, detail)
        entry = self._parts.audit.append(audit_event, actor=actor, connection=self._connection, seal=seal)
        self.appended = entry.seq
        self.appends += 1
        return entry

    def detail(self, entry: Entry, patient_id: str) -> Detail:
        """Open the sealed part of an audit entry for the patient whom it is about.

        Raises:
            DecryptionError: the entry has no sealed part, or it is not this patient's.
            RecordError: `record_unknown`, or `patient_shredded` once the patient's key is destroyed.
        """
        return self.vault.open_detail(entry, patient_id, origin=self._parts.audit.origin)

    def _sealer(self, event_name: str, patient_id: str, detail: Detail | None) -> Seal | None:
        if detail is None and self.require(PatientRow, patient_id, what="patient").wrapped_dek is None:
            return None
        sealed, origin = detail or PatientLink(patient_id), self._parts.audit.origin
        return lambda seq: self.vault.seal_detail(sealed, patient_id, origin=origin, seq=seq, event=event_name)

    def pseudonym(self, patient_id: str) -> str:
        """Return the name under which the audit log knows a patient."""
        return self._parts.audit.pseudonym(patient_id)

    def add(self, row: Base) -> None:
        """Write a new row now."""
        self.require_writable()
        self.session.add(row)
        self.session.flush()

    def require(self, model: type[Row], row_id: str, *, what: str) -> Row:
        """Return the row with this id; `record_unknown` if there is none."""
        row = self.session.get(model, row_id)
        if row is None:
            raise RecordError(
                f"there is no such {what}", hint="it may belong to another data folder; go back to the list"
            )
        return row

    def require_living(self, patient_id: str) -> None:
        """Raise `patient_shredded` if the record of this patient was destroyed."""
        if self.require(PatientRow, patient_id, what="patient").shredded_at is not None:
            raise shredded()

    def require_writable(self) -> None:
        """Raise RuntimeError in a transaction for reading."""
        if not self._writable:
            raise _for_reading()

    def finish(self) -> None:
        """Write what is pending, and how often each key was used; the commit is the caller's."""
        self.session.flush()
        self.uses.flush()

    def close(self) -> None:
        """Forget rows and keys."""
        self._open = False
        self.vault.close()
        self._session.close()
        del self.vault, self.uses  # they hold methods of this object: the keys go now, not with the next collection

    def _wrapped_key(self, patient_id: str) -> bytes:
        row = self.require(PatientRow, patient_id, what="patient")
        if row.wrapped_dek is None:
            raise shredded()
        return row.wrapped_dek


def _for_reading() -> RuntimeError:
    return RuntimeError("this transaction was opened for reading; use write()")


def shredded() -> RecordError:
    """Return the refusal to look into the record of a patient whose key was destroyed."""
    return RecordError(
        "this patient's record was destroyed for good",
        code="patient_shredded",
        hint="its key is gone, and nothing can bring it back; the audit log says when and by whom",
    )
