"""Taking a signed note out of the clinic's records: who, what and when are in the audit log first.

Rules kept here:

* Only a signed note goes out: a draft is nobody's word yet.
* The entry is in the same transaction as the reading: no entry, no document.
"""

from __future__ import annotations

from datetime import datetime

from clinic.audit.events import NoteExported
from clinic.domain import Actor, EncounterId, StatementStatus, UserId
from clinic.errors import RecordError
from clinic.generation.template import headings, title
from clinic.interop.document import Addition, Drafting, Patient, Person, Section, SignedNote
from clinic.records.encounters import Encounter
from clinic.records.notes import StoredNote
from clinic.records.records import Transaction

_GONE = "an account that is gone"


def take_out(tx: Transaction, encounter_id: EncounterId, *, actor: Actor) -> SignedNote:
    """Return the signed note of an encounter for a document, and append that it was taken out.

    Raises:
        RecordError: `record_unknown`; `note_unsigned` if there is no signed note.
    """
    encounter = tx.encounters.get(encounter_id)
    stored = tx.notes.get(encounter_id)
    if stored is None or stored.signed_by is None or stored.signed_at is None or stored.attestation is None:
        raise RecordError("there is no signed note to take out", code="note_unsigned", hint="review and sign it first")
    event = NoteExported(
        encounter=encounter.id, note=stored.id, version=stored.version, content_sha256=stored.content_sha256
    )
    tx.append(event, actor=actor, patient_id=encounter.patient_id)
    return _signed(tx, encounter, stored, (stored.signed_by, stored.signed_at, stored.attestation))


def _signed(
    tx: Transaction, encounter: Encounter, stored: StoredNote, signature: tuple[UserId, datetime, str]
) -> SignedNote:
    data = tx.patients.data(encounter.patient_id)
    signed_by, signed_at, attestation = signature
    return SignedNote(
        id=stored.id,
        title=title(encounter.template),
        version=stored.version,
        content_sha256=stored.content_sha256,
        sections=_sections(encounter, stored),
        addenda=tuple(Addition(a.id, a.text, _person(tx, a.author_id), a.created_at) for a in stored.addenda),
        signed_by=_person(tx, signed_by),
        signed_at=signed_at,
        attestation=attestation,
        encounter_id=encounter.id,
        kind=encounter.kind,
        template=encounter.template,
        began_at=encounter.created_at,
        language=encounter.language,
        patient=Patient(encounter.patient_id, data.name, data.date_of_birth, data.sex, data.record_number),
        drafting=_drafting(tx, stored),
    )


def _sections(encounter: Encounter, stored: StoredNote) -> tuple[Section, ...]:
    kept = [s for s in stored.note.statements if s.status is not StatementStatus.REMOVED]
    return tuple(
        Section(heading, tuple(s.text for s in kept if s.section == section))
        for section, heading in headings(encounter.template, stored.note).items()
    )


def _drafting(tx: Transaction, stored: StoredNote) -> Drafting | None:
    made = tx.generations.completed_for(stored.encounter_id)
    if made is None or made.id != stored.generation_id:
        return None
    return Drafting(made.id, made.model, made.model_sha256, made.audit_seq, made.created_at)


def _person(tx: Transaction, user_id: UserId) -> Person:
    account = tx.users.get(user_id)
    return Person(user_id, account.display_name if account else _GONE)
