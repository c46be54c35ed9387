"""The sweep: does the database still hold what the audit log says was written, and does all of it open?

Rules kept here:

* A seal shows that a value is genuine and in its place, not that it is the newest: a whole old row put back opens.  The
  log shows it, because every version of a note, transcript, recording and patient left an entry.
* Clear columns that decide something (role, consent, whose encounter it is) are held against the log too.
* It compares both ways: what the log names must be there, and what is there the log must name.
* Every sealed value is opened; one that does not open is a finding, never the end of the sweep.  Audio only if `deep`.
* Of a shredded patient nothing opens, and their audio is gone: that is excused where the log says so and the row holds
  neither key nor data, and only that.  What stands in the clear is compared as for everybody.
* It sees one state of the database and changes nothing.  Verify the log itself first (`AuditLog.verify`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.exc import InvalidRequestError

from clinic.audit import events
from clinic.audit.entry import Entry
from clinic.audit.log import AuditLog
from clinic.audit.tables import audit_entries
from clinic.domain import Action, Completion, Consent, EncounterState
from clinic.errors import DecryptionError, RecordError
from clinic.records.answers import Answers
from clinic.records.documents import Documents
from clinic.records.factors import SecondFactors
from clinic.records.generations import GenerationState
from clinic.records.invitations import Invitations
from clinic.records.models import (
    AddendumRow,
    ApiTokenRow,
    DocumentRow,
    DocumentVersionRow,
    EncounterRow,
    FactorRoleRow,
    GenerationRow,
    InvitationRow,
    MomentRow,
    NoteRow,
    NoteVersionRow,
    PasskeyRow,
    PatientRow,
    RecordingChunkRow,
    RecordingRow,
    RecoveryCodesRow,
    SecondFactorRow,
    TranscriptRow,
    UserRow,
)
from clinic.records.moments import Moments
from clinic.records.notes import Notes
from clinic.records.passkeys import Passkeys
from clinic.records.patients import Patients
from clinic.records.recordings import Recordings
from clinic.records.recovery import RecoveryCodes
from clinic.records.sealed import Place
from clinic.records.tokens import Tokens
from clinic.records.transcripts import Transcripts
from clinic.records.users import Users
from clinic.records.work import UnitOfWork

Fact = tuple[str, ...]
"""What was written, as a tuple that both sides can be compared by; the first two items are kind and id."""

_COMPLETION: Final = TypeAdapter(Completion)
# What a row can do that somebody changed by hand: not open, point nowhere, hold no such role or no time, not be there.
_UNREADABLE: Final = (DecryptionError, RecordError, ValueError, TypeError, InvalidRequestError)


@dataclass(frozen=True, slots=True)
class Finding:
    """A record and the log do not agree.

    Attributes:
        problem: `missing` from the database, `unrecorded` in the log, or `unreadable`: a sealed value does not open.
        kind: what it is.
        id: which one; a patient by the pseudonym that the log uses.
    """

    problem: str
    kind: str
    id: str


def sweep(work: UnitOfWork, audit: AuditLog, *, deep: bool = False) -> tuple[Finding, ...]:
    """Return every disagreement between log and database, in a stable order.

    Args:
        work: a unit of work; its first query fixes the state of the database that is looked at.
        audit: the log of the same database.
        deep: open every chunk of every completed recording as well.
    """
    # The log only grows: up to the last entry of this state it is the log of this state, whoever writes meanwhile.
    last = work.session.scalar(select(func.max(audit_entries.c.seq)))
    log = _read(audit.entries(last=last or 0))
    shredded = _shredded(work, log)
    logged, stored = log.all_facts(), _stored(work, log, shredded)
    found = {Finding("missing", fact[0], fact[1]) for fact in logged - stored}
    found |= {Finding("unrecorded", fact[0], fact[1]) for fact in stored - logged}
    found.update(_unreadable(work, shredded, deep=deep))
    return tuple(sorted(found, key=lambda finding: (finding.kind, finding.id, finding.problem)))


# --- what the log says ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Log:
    """The log's side: facts that stay, numbers that grow, and what changes, of which the last word counts."""

    facts: set[Fact] = field(default_factory=set)
    counts: Counter[Fact] = field(default_factory=Counter)
    latest: dict[Fact, Fact] = field(default_factory=dict)
    released: dict[Fact, Fact] = field(default_factory=dict)
    sizes: dict[str, str] = field(default_factory=dict)

    def all_facts(self) -> set[Fact]:
        """Return everything in the form in which the database is asked for it."""
        counted = {(*key, str(count)) for key, count in self.counts.items()}
        changing = {(*key, *value) for key, value in {**self.released, **self.latest}.items()}
        return self.facts | counted | changing

    def answer(self, generation: str) -> str:
        """Return the digest of the answer of a generation, or nothing if the log does not say that it has one."""
        state, end = self.latest.get(("generation_end", generation), ("", ""))
        return end if state == GenerationState.COMPLETED.value else ""

    def names_transcript_of(self, encounter: str) -> bool:
        """Whether any transcript of the encounter is in the log."""
        key = ("newest_transcript", encounter)
        return key in self.latest or key in self.released


def _read(entries: Iterable[Entry]) -> _Log:
    log = _Log()
    for entry in entries:
        event = events.from_canonical(entry.event, entry.body)
        for about in (_accounts, _factors, _tokens, _encounters, _speech, _generations, _notes, _documents):
            about(log, event, entry.actor)
    return log


def _accounts(log: _Log, event: events.AuditEvent, _actor: str) -> None:
    match event:
        case events.UserCreated():
            log.facts.add(("user", event.user_id, event.role))
            log.counts["sessions", event.user_id] += 1
        case events.UserDisabled():
            log.facts.add(("user_disabled", event.user_id))
            log.counts["sessions", event.user_id] += 1
        case events.UserEnabled():
            log.facts.discard(("user_disabled", event.user_id))
        case events.PasswordReset() | events.SessionsEnded():
            log.counts["sessions", event.user_id] += 1
        case events.PatientCreated() | events.PatientUpdated():
            log.counts["patient", event.patient] += 1
        case events.PatientShredded():
            log.facts.add(("patient_shredded", event.patient))
        case _:
            pass


def _factors(log: _Log, event: events.AuditEvent, _actor: str) -> None:
    match event:
        case events.FactorEnrolled():
            log.facts.add(("factor", event.user_id))
        case events.FactorRemoved():
            log.facts.discard(("factor", event.user_id))
        case events.PasskeyAdded():
            log.facts.add(("passkey", event.passkey, event.user_id))
        case events.PasskeyRemoved():
            log.facts.discard(("passkey", event.passkey, event.user_id))
        case events.InvitationMade():
            log.facts.add(("invitation", event.subject))
        case events.InvitationUsed():
            log.facts.discard(("invitation", event.subject))
        case events.FactorRequired():
            log.facts = {fact for fact in log.facts if fact[0] != "factor_role"}
            log.facts |= {("factor_role", role) for role in event.roles}
        case events.RecoveryMade() | events.RecoveryUsed():
            log.latest["recovery", event.user_id] = (str(event.left),)
        case _:
            pass


def _tokens(log: _Log, event: events.AuditEvent, _actor: str) -> None:
    match event:
        case events.TokenCreated():
            log.facts.add(("token", event.token, event.user_id))
        case events.TokenRevoked():
            log.facts = {fact for fact in log.facts if fact[:2] != ("token", event.token)}
        case _:
            pass


def _encounters(log: _Log, event: events.AuditEvent, actor: str) -> None:
    match event:
        case events.EncounterOpened():
            log.facts.add(("encounter", event.encounter, event.patient, actor, event.kind, event.template))
            log.latest["consent", event.encounter] = (Consent.NOT_RECORDED.value,)
        case events.EncounterTransferred():
            taken = {fact for fact in log.facts if fact[:2] == ("encounter", event.encounter)}
            log.facts -= taken
            log.facts |= {(*fact[:3], actor, *fact[4:]) for fact in taken}
        case events.ConsentRecorded():
            log.latest["consent", event.encounter] = (event.consent,)
        case _:
            pass


def _speech(log: _Log, event: events.AuditEvent, _actor: str) -> None:
    match event:
        case events.RecordingStarted():
            log.facts.add(("recording_started", event.recording, event.encounter))
        case events.RecordingCompleted():
            size, chunks = str(event.size), str(event.chunks)
            log.facts.add(("recording", event.recording, event.encounter, chunks, size, event.sha256))
            log.sizes[event.recording] = size
        case events.TranscriptionCompleted() | events.SpeakersCorrected():
            log.facts.add(("transcript", event.encounter, event.transcript_sha256))
            log.latest["newest_transcript", event.encounter] = (event.transcript_sha256,)
        case events.MomentNoted():
            log.facts.add(("moment", event.moment, event.encounter))
        case events.TextSubmitted():
            log.facts.add(("transcript", event.encounter, event.sha256))
            log.latest["newest_transcript", event.encounter] = (event.sha256,)
        case _:
            pass


def _generations(log: _Log, event: events.AuditEvent, _actor: str) -> None:
    decisions = events.GenerationAuthorized | events.GenerationDenied
    if isinstance(event, decisions) and event.action != Action.ASK_RECORD.value:  # a question is of no transcript
        # A transcript that the command line was given has no entry of its own: the decisions over it name it.
        log.facts.add(("transcript", event.encounter, event.transcript_sha256))
        log.released["newest_transcript", event.encounter] = (event.transcript_sha256,)
    match event:
        case events.GenerationAuthorized():
            of_prompt = (event.prompt_sha256, event.model, event.model_sha256, event.template_sha256)
            log.facts.add(("generation", event.generation, event.encounter, event.patient, *of_prompt))
            log.latest["generation_end", event.generation] = (GenerationState.BEGUN.value, "")
        case events.GenerationCompleted():
            log.latest["generation_end", event.generation] = (GenerationState.COMPLETED.value, event.output_sha256)
        case events.GenerationFailed():
            log.latest["generation_end", event.generation] = (GenerationState.FAILED.value, event.code)
        case events.GenerationInterrupted():
            log.latest["generation_end", event.generation] = (GenerationState.INTERRUPTED.value, "")
        case _:
            pass


def _notes(log: _Log, event: events.AuditEvent, actor: str) -> None:
    match event:
        case events.NoteDrafted() | events.NoteEdited():
            log.facts.add(("note_version", event.note, str(event.version), event.content_sha256, actor))
        case events.NoteSigned():
            log.facts.add(("signature", event.note, str(event.version)))
            log.facts.add(("signed_encounter", event.encounter))
        case events.NoteAmended():
            log.facts.add(("addendum", event.note, event.addendum, event.content_sha256, actor))
        case _:
            pass


def _documents(log: _Log, event: events.AuditEvent, actor: str) -> None:
    match event:
        case events.DocumentDrafted():
            made = (event.document, event.encounter, event.generation, event.template, actor)
            log.facts.add(("document", *made))
            log.facts.add(("document_version", event.document, str(event.version), event.content_sha256, actor))
        case events.DocumentEdited():
            log.facts.add(("document_version", event.document, str(event.version), event.content_sha256, actor))
        case events.DocumentSigned():
            log.facts.add(("document_signed", event.document, str(event.version)))
        case events.DocumentDiscarded():
            log.facts.add(("document_discarded", event.document))
        case _:
            pass


# --- what the database holds ------------------------------------------------------------------------


def _shredded(work: UnitOfWork, log: _Log) -> frozenset[str]:
    """Return the patients who are shredded by the log and by their row, and of whom nothing is left to open."""
    empty = (PatientRow.wrapped_dek.is_(None), PatientRow.data.is_(None), PatientRow.record_number_index.is_(None))
    gone = select(PatientRow.id).where(PatientRow.shredded_at.is_not(None), *empty)
    audio = select(RecordingRow.patient_id).join(RecordingChunkRow, RecordingChunkRow.recording_id == RecordingRow.id)
    found = work.session.scalars(gone.where(PatientRow.id.not_in(audio)))
    return frozenset(patient for patient in found if ("patient_shredded", work.pseudonym(patient)) in log.facts)


def _stored(work: UnitOfWork, log: _Log, shredded: frozenset[str]) -> set[Fact]:
    facts: set[Fact] = {(kind, *map(str, row)) for kind, query in _queries() for row in work.session.execute(query)}
    facts |= _of_patients(work, shredded) | _of_recordings(work, log, shredded)
    return facts | _of_generations(work, log, shredded) | _of_transcripts(work, log)


def _queries() -> Iterator[tuple[str, Select[*tuple[Any, ...]]]]:
    """Yield what can be compared as it stands in clear columns: the kind, and the query for the rest of the fact."""
    yield "user", select(UserRow.id, UserRow.role)
    yield "user_disabled", select(UserRow.id).where(UserRow.disabled_at.is_not(None))
    yield "factor", select(SecondFactorRow.user_id).where(SecondFactorRow.confirmed_at.is_not(None))
    yield "passkey", select(PasskeyRow.id, PasskeyRow.user_id)
    yield "invitation", select(InvitationRow.subject)
    yield "factor_role", select(FactorRoleRow.role)
    yield "recovery", select(RecoveryCodesRow.user_id, RecoveryCodesRow.left)
    yield "token", select(ApiTokenRow.id, ApiTokenRow.user_id).where(ApiTokenRow.revoked_at.is_(None))
    yield "sessions", select(UserRow.id, UserRow.session_epoch)
    yield "consent", select(EncounterRow.id, EncounterRow.consent)
    yield "signed_encounter", select(EncounterRow.id).where(EncounterRow.state == EncounterState.SIGNED.value)
    yield "recording_started", select(RecordingRow.id, RecordingRow.encounter_id)
    yield "moment", select(MomentRow.id, MomentRow.encounter_id)
    yield "signature", select(NoteRow.id, NoteRow.signed_version).where(NoteRow.signed_version.is_not(None))
    version = (NoteVersionRow.note_id, NoteVersionRow.version, NoteVersionRow.content_sha256, NoteVersionRow.author_id)
    yield "note_version", select(*version)
    made = (DocumentRow.encounter_id, DocumentRow.generation_id, DocumentRow.template, DocumentRow.clinician_id)
    yield "document", select(DocumentRow.id, *made)
    saved = (DocumentVersionRow.version, DocumentVersionRow.content_sha256, DocumentVersionRow.author_id)
    yield "document_version", select(DocumentVersionRow.document_id, *saved)
    issued = DocumentRow.signed_version.is_not(None)
    yield "document_signed", select(DocumentRow.id, DocumentRow.signed_version).where(issued)
    yield "document_discarded", select(DocumentRow.id).where(DocumentRow.discarded_at.is_not(None))
    yield "addendum", select(AddendumRow.note_id, AddendumRow.id, AddendumRow.content_sha256, AddendumRow.author_id)


def _of_patients(work: UnitOfWork, shredded: frozenset[str]) -> set[Fact]:
    """Patients and encounters: the log knows the patient by pseudonym."""
    facts: set[Fact] = {("patient_shredded", work.pseudonym(patient)) for patient in shredded}
    patients = select(PatientRow.id, PatientRow.row_version, PatientRow.shredded_at)
    for patient, version, shredded_at in work.session.execute(patients):
        facts.add(("patient", work.pseudonym(patient), str(version)))
        if shredded_at is not None and patient not in shredded:
            facts.add(("patient_shredded", work.pseudonym(patient), "not by the log, or not wholly"))
    columns = (EncounterRow.id, EncounterRow.patient_id, EncounterRow.clinician_id)
    for row in work.session.execute(select(*columns, EncounterRow.kind, EncounterRow.template)):
        facts.add(("encounter", row.id, work.pseudonym(row.patient_id), row.clinician_id, row.kind, row.template))
    return facts


def _of_recordings(work: UnitOfWork, log: _Log, shredded: frozenset[str]) -> set[Fact]:
    """Completed recordings; of a shredded patient's the size is what the log says, for the audio is gone."""
    there = RecordingChunkRow.recording_id == RecordingRow.id
    size = select(func.coalesce(func.sum(RecordingChunkRow.size), 0)).where(there).scalar_subquery()
    columns = (RecordingRow.id, RecordingRow.encounter_id, RecordingRow.chunks, size, RecordingRow.sha256)
    facts: set[Fact] = set()
    for patient, *recording in work.session.execute(select(RecordingRow.patient_id, *columns).where(_completed())):
        recording_id, encounter, chunks, stored, digest = map(str, recording)
        known = log.sizes.get(recording_id, stored) if patient in shredded else stored
        facts.add(("recording", recording_id, encounter, chunks, known, digest))
    return facts


def _of_generations(work: UnitOfWork, log: _Log, shredded: frozenset[str]) -> set[Fact]:
    released = (
        GenerationRow.prompt_sha256,
        GenerationRow.model,
        GenerationRow.model_sha256,
        GenerationRow.template_sha256,
    )
    columns = select(GenerationRow.id, GenerationRow.encounter_id, GenerationRow.patient_id, *released)
    facts: set[Fact] = set()
    for generation, encounter, patient, *of_prompt in work.session.execute(columns):
        facts.add(("generation", generation, encounter, work.pseudonym(patient), *of_prompt))
    ends = (GenerationRow.id, GenerationRow.patient_id, GenerationRow.state, GenerationRow.error_code)
    for row in work.session.execute(select(*ends)).all():
        end = row.error_code
        if row.state == GenerationState.COMPLETED.value:
            end = log.answer(row.id) if row.patient_id in shredded else _answer(work, row.id)
        facts.add(("generation_end", row.id, row.state, end or ""))
    return facts


def _answer(work: UnitOfWork, generation_id: str) -> str | None:
    """Return the digest of a stored answer, None if there is none or it does not open (`_unreadable` reports that)."""
    try:
        return _open_answer(work, generation_id)
    except _UNREADABLE:
        return None


def _of_transcripts(work: UnitOfWork, log: _Log) -> set[Fact]:
    """Transcripts in order of their versions, so that the last one stays as the newest.

    One that came from the command line is not in the log before the policy decides: without any entry it is no finding.
    """
    query = select(TranscriptRow.encounter_id, TranscriptRow.sha256).order_by(TranscriptRow.version)
    rows = [row for row in work.session.execute(query) if log.names_transcript_of(row[0])]
    newest = {("newest_transcript", encounter, digest) for encounter, digest in dict(rows).items()}
    return newest | {("transcript", encounter, digest) for encounter, digest in rows}


# --- opening ----------------------------------------------------------------------------------------


def _unreadable(work: UnitOfWork, shredded: frozenset[str], *, deep: bool) -> Iterator[Finding]:
    """Open every sealed value of whoever is not shredded, each row by itself, and yield those that do not open."""
    openers: list[tuple[str, Select[str, str], Callable[[UnitOfWork, str], object]]] = [
        ("user", select(UserRow.id, UserRow.id), _open_user),
        ("token", select(ApiTokenRow.id, ApiTokenRow.user_id), _open_token),
        ("invitation", select(InvitationRow.subject, InvitationRow.subject), _open_invitation),
        ("passkey", select(PasskeyRow.id, PasskeyRow.user_id), lambda work, row_id: Passkeys(work).check(row_id)),
        ("patient", select(PatientRow.id, PatientRow.id), lambda work, row_id: Patients(work).data(row_id)),
        ("transcript", select(TranscriptRow.encounter_id, TranscriptRow.patient_id).distinct(), _open_transcripts),
        ("moment", select(MomentRow.id, MomentRow.patient_id), lambda work, row_id: Moments(work).check(row_id)),
        ("generation", select(GenerationRow.id, GenerationRow.patient_id), _open_answer),
        ("note", select(NoteRow.encounter_id, NoteRow.patient_id), _open_note),
        ("document", select(DocumentRow.id, DocumentRow.patient_id), lambda work, i: Documents(work).check_all(i)),
    ]
    if deep:
        recordings = select(RecordingRow.id, RecordingRow.patient_id).where(_completed())
        openers.append(("recording", recordings, _open_recording))
    for kind, query, opener in openers:
        for row_id, owner in work.session.execute(query).all():
            if owner not in shredded and not _opens(partial(opener, work, row_id)):
                yield Finding("unreadable", kind, work.pseudonym(row_id) if kind == "patient" else row_id)


def _opens(opener: Callable[[], object]) -> bool:
    try:
        opener()
    except _UNREADABLE:
        return False
    return True


def _open_user(work: UnitOfWork, user_id: str) -> None:
    users = Users(work)
    users.get(user_id)
    users.password_hash(user_id)
    SecondFactors(work).secret(user_id)
    RecoveryCodes(work).check(user_id)


def _open_token(work: UnitOfWork, token_id: str) -> None:
    Tokens(work).get(token_id)
    Answers(work).check_all(token_id)


def _open_invitation(work: UnitOfWork, subject: str) -> None:
    Invitations(work).check(subject)


def _open_transcripts(work: UnitOfWork, encounter_id: str) -> None:
    Transcripts(work).check_all(encounter_id)


def _open_answer(work: UnitOfWork, generation_id: str) -> str | None:
    columns = select(GenerationRow.completion, GenerationRow.encounter_id, GenerationRow.patient_id)
    row = work.session.execute(columns.where(GenerationRow.id == generation_id)).one()
    if row.completion is None:
        return None
    place = Place(row.patient_id, f"{row.encounter_id}/{generation_id}")
    return work.vault.open_json(GenerationRow.completion, row.completion, place, _COMPLETION).sha256


def _open_note(work: UnitOfWork, encounter_id: str) -> None:
    notes = Notes(work)
    notes.get(encounter_id)
    notes.history(encounter_id)


def _open_recording(work: UnitOfWork, recording_id: str) -> None:
    digest = hashlib.sha256()
    for chunk in Recordings(work).chunks(recording_id):
        digest.update(chunk)
    stored = work.session.scalar(select(RecordingRow.sha256).where(RecordingRow.id == recording_id))
    if digest.hexdigest() != stored:
        raise DecryptionError("a recording does not match its digest", hint="restore from a backup")


def _completed() -> ColumnElement[bool]:
    return RecordingRow.completed_at.is_not(None)
