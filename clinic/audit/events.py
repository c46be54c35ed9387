"""What can happen: one class an event, and nothing in it that could hold a patient's words.

Rules kept here:

* The schema is closed: `REGISTRY` names every event; an unknown name or field is refused, in writing and in reading.
* No free text: a field is an identifier, a code, a hexadecimal digest, a count, one of a fixed list, or a set of
  identifiers.
* `patient` is always the pseudonym (`AuditLog.pseudonym`), never the patient's id.
* The same event always has the same bytes (`to_canonical`), and only those bytes are read back (`from_canonical`).
* A refused value is never repeated in the error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from operator import itemgetter
from typing import Annotated, Any, ClassVar, Final, get_type_hints

from clinic.domain import Action, Consent, EncounterKind, GlassReason, Role, canonical_json
from clinic.errors import AuditError

MAX_COUNT: Final = 2**53 - 1  # the largest integer that every JSON reader keeps exactly
MAX_SET: Final = 256

Check = Callable[[object], bool]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a field may hold: `check` tells of a value, `form` is how it is written in JSON (as a pattern)."""

    check: Check
    form: str


def _matches(pattern: str) -> Kind:
    expression = re.compile(pattern, re.ASCII)
    return Kind(lambda value: isinstance(value, str) and expression.fullmatch(value) is not None, f'"{pattern}"')


def _one_of(choices: type[StrEnum]) -> Kind:
    allowed = frozenset(choice.value for choice in choices)
    form = "|".join(re.escape(value) for value in sorted(allowed))
    return Kind(lambda value: isinstance(value, str) and str(value) in allowed, f'"(?:{form})"')


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


_ID: Final = _matches(r"[A-Za-z0-9_.:-]{1,128}")
is_id: Final = _ID.check


def _is_id_set(value: object) -> bool:
    return isinstance(value, tuple) and len(value) <= MAX_SET and all(is_id(item) for item in value)


Id = Annotated[str, _ID]
Code = Annotated[str, _matches(r"[a-z][a-z0-9_-]{0,63}")]
Digest = Annotated[str, _matches(r"[0-9a-f]{64}")]
Pseudonym = Annotated[str, _matches(r"[0-9a-f]{32}")]
Count = Annotated[int, Kind(_is_count, r"(?:0|[1-9][0-9]{0,14})")]  # larger ones are left to `from_canonical`
Ids = Annotated[tuple[str, ...], Kind(_is_id_set, rf"\[({_ID.form}(?:,{_ID.form}){{0,{MAX_SET - 1}}})?\]")]
"""A set of identifiers, kept as a sorted tuple without repetitions."""
RoleName = Annotated[str, _one_of(Role)]
ActionName = Annotated[str, _one_of(Action)]
ConsentName = Annotated[str, _one_of(Consent)]
KindName = Annotated[str, _one_of(EncounterKind)]
GlassReasonName = Annotated[str, _one_of(GlassReason)]


class AuditEvent:
    """What happened.  Only its subclasses are events."""

    __slots__ = ()
    name: ClassVar[str]

    def __post_init__(self) -> None:
        """Refuse any value that the field's type does not allow."""
        for field, kind in _FIELDS[type(self)]:
            value = getattr(self, field)
            if not kind.check(value):
                raise AuditError(
                    f"audit event `{self.name}`: field `{field}` does not hold what it must",
                    code="event_invalid",
                    hint="audit events hold identifiers, codes, digests and counts only",
                )
            if isinstance(value, tuple):
                object.__setattr__(self, field, tuple(sorted(set(value))))

    def to_canonical(self) -> bytes:
        """Return the one form in which this event is hashed and stored."""
        return canonical_json({field: getattr(self, field) for field, _ in _FIELDS[type(self)]})


def from_canonical(name: str, body: bytes) -> AuditEvent:
    """Read an event back; anything but the exact bytes that `to_canonical` writes is refused."""
    event = REGISTRY.get(name)
    if event is None:
        raise AuditError("unknown audit event", code="event_unknown", hint="was the log written by a newer version?")
    names = [field for field, _ in _FIELDS[event]]
    try:
        data: Any = json.loads(body)
        values = {field: tuple(data[field]) if isinstance(data[field], list) else data[field] for field in names}
        parsed = event(**values)
    except (ValueError, LookupError, TypeError, RecursionError):
        parsed = None
    if parsed is None or parsed.to_canonical() != body:
        raise AuditError(f"audit event `{name}` is not in canonical form", code="event_invalid")
    return parsed


def is_canonical(name: bytes, body: bytes) -> bool:
    """Tell at once, without reading the values, that `from_canonical` would take these bytes; False: ask it."""
    form = _FORMS.get(name)
    found = None if form is None else form.fullmatch(body)
    return found is not None and all(map(_is_ordered, found.groups()))


def _is_ordered(items: bytes | None) -> bool:
    """Say whether a set is written in its order, none twice."""
    if items is None or b"," not in items:
        return True
    names = items[1:-1].split(b'","')
    return names == sorted(set(names))


# --- the log, accounts ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AuditOpened(AuditEvent):
    """The log began."""

    name: ClassVar[str] = "log.opened"
    format_version: Count


@dataclass(frozen=True, slots=True)
class KeyUnlocked(AuditEvent):
    """The clinic key was unlocked."""

    name: ClassVar[str] = "key.unlocked"
    slot_kind: Code


@dataclass(frozen=True, slots=True)
class AuditExported(AuditEvent):
    """Entries `first` to `last` were exported; `sha256` is that of the encrypted file."""

    name: ClassVar[str] = "log.exported"
    first: Count
    last: Count
    sha256: Digest
    recipients: Count


@dataclass(frozen=True, slots=True)
class AuditVerified(AuditEvent):
    """The log was verified and found whole."""

    name: ClassVar[str] = "log.verified"
    entries: Count


@dataclass(frozen=True, slots=True)
class LatchSet(AuditEvent):
    """The log had failed, and everything was refused since `at_ms` (Unix time by the box's clock); written later."""

    name: ClassVar[str] = "audit.latched"
    latch: Id
    reason: Code
    at_ms: Count


@dataclass(frozen=True, slots=True)
class LatchCleared(AuditEvent):
    """A full verification of `entries` entries passed, and work goes on: what takes the latch off in every process."""

    name: ClassVar[str] = "audit.cleared"
    latch: Id
    entries: Count


@dataclass(frozen=True, slots=True)
class ClockRegressed(AuditEvent):
    """The clock stands this much before the time of the entry before: less than what latches."""

    name: ClassVar[str] = "clock.regressed"
    milliseconds: Count


@dataclass(frozen=True, slots=True)
class SinkLost(AuditEvent):
    """The second copy of the log (`optional`) is not written any more."""

    name: ClassVar[str] = "sink.lost"
    reason: Code


@dataclass(frozen=True, slots=True)
class SinkRestored(AuditEvent):
    """The second copy of the log is complete again up to the entry `last`."""

    name: ClassVar[str] = "sink.restored"
    last: Count


@dataclass(frozen=True, slots=True)
class WitnessAdded(AuditEvent):
    """A checkpoint over `entries` entries that this witness gave back is kept, and the log agrees with it."""

    name: ClassVar[str] = "witness.added"
    witness: Id
    entries: Count
    root: Digest


@dataclass(frozen=True, slots=True)
class PolicyActivated(AuditEvent):
    """From here on this policy set decides."""

    name: ClassVar[str] = "policy.activated"
    policy_set: Digest
    policies: Count


@dataclass(frozen=True, slots=True)
class PolicySetActivated(AuditEvent):
    """From here on this policy set decides: `files` names its folder, `previous` is the set before (zeros: none)."""

    name: ClassVar[str] = "policyset.activated"
    policy_set: Digest
    policies: Count
    version: Count
    profile: Code
    previous: Digest
    files: Digest
    cause: Code


@dataclass(frozen=True, slots=True)
class UserCreated(AuditEvent):
    """An account was made."""

    name: ClassVar[str] = "user.created"
    user_id: Id
    role: RoleName


@dataclass(frozen=True, slots=True)
class UserDisabled(AuditEvent):
    """An account was closed."""

    name: ClassVar[str] = "user.disabled"
    user_id: Id


@dataclass(frozen=True, slots=True)
class UserEnabled(AuditEvent):
    """A closed account was opened again."""

    name: ClassVar[str] = "user.enabled"
    user_id: Id


@dataclass(frozen=True, slots=True)
class PasswordReset(AuditEvent):
    """An account got a new password."""

    name: ClassVar[str] = "password.reset"
    user_id: Id


@dataclass(frozen=True, slots=True)
class LoginSucceeded(AuditEvent):
    """Somebody signed in."""

    name: ClassVar[str] = "login.succeeded"
    user_id: Id


@dataclass(frozen=True, slots=True)
class LoginFailed(AuditEvent):
    """Somebody did not get in; `user_id` is `unknown` where the name typed is no account's."""

    name: ClassVar[str] = "login.failed"
    user_id: Id
    reason: Code


@dataclass(frozen=True, slots=True)
class LoggedOut(AuditEvent):
    """Somebody signed out."""

    name: ClassVar[str] = "login.ended"
    user_id: Id


# --- patients, encounters ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PatientCreated(AuditEvent):
    """A patient was added."""

    name: ClassVar[str] = "patient.created"
    patient: Pseudonym


@dataclass(frozen=True, slots=True)
class PatientViewed(AuditEvent):
    """Somebody opened a patient's data."""

    name: ClassVar[str] = "patient.viewed"
    patient: Pseudonym


@dataclass(frozen=True, slots=True)
class PatientAccounted(AuditEvent):
    """Somebody saw the accounting of a patient: so many entries of this log."""

    name: ClassVar[str] = "patient.accounted"
    patient: Pseudonym
    entries: Count


@dataclass(frozen=True, slots=True)
class PatientUpdated(AuditEvent):
    """A patient's data were changed."""

    name: ClassVar[str] = "patient.updated"
    patient: Pseudonym


@dataclass(frozen=True, slots=True)
class PatientsListed(AuditEvent):
    """Somebody saw a list of patients, or searched."""

    name: ClassVar[str] = "patients.listed"
    count: Count


@dataclass(frozen=True, slots=True)
class EncounterOpened(AuditEvent):
    """An encounter began."""

    name: ClassVar[str] = "encounter.opened"
    encounter: Id
    patient: Pseudonym
    kind: KindName
    template: Id


@dataclass(frozen=True, slots=True)
class EncounterViewed(AuditEvent):
    """Somebody opened an encounter."""

    name: ClassVar[str] = "encounter.viewed"
    encounter: Id
    patient: Pseudonym


@dataclass(frozen=True, slots=True)
class ConsentRecorded(AuditEvent):
    """The patient's answer for this encounter."""

    name: ClassVar[str] = "consent.recorded"
    encounter: Id
    patient: Pseudonym
    consent: ConsentName


# --- speech -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecordingStarted(AuditEvent):
    """The first part of a recording is expected."""

    name: ClassVar[str] = "recording.started"
    encounter: Id
    recording: Id


@dataclass(frozen=True, slots=True)
class RecordingCompleted(AuditEvent):
    """All parts of a recording are stored."""

    name: ClassVar[str] = "recording.completed"
    encounter: Id
    recording: Id
    chunks: Count
    size: Count
    sha256: Digest


@dataclass(frozen=True, slots=True)
class AudioPlayed(AuditEvent):
    """Somebody listened to a recording."""

    name: ClassVar[str] = "audio.played"
    encounter: Id
    recording: Id


@dataclass(frozen=True, slots=True)
class TextSubmitted(AuditEvent):
    """A text was typed or pasted instead of a recording."""

    name: ClassVar[str] = "text.submitted"
    encounter: Id
    sha256: Digest
    words: Count


@dataclass(frozen=True, slots=True)
class TranscriptionCompleted(AuditEvent):
    """Speech became a transcript."""

    name: ClassVar[str] = "transcription.completed"
    encounter: Id
    transcript_sha256: Digest
    model: Id
    model_sha256: Digest
    segments: Count
    speech_ms: Count


@dataclass(frozen=True, slots=True)
class TranscriptionFailed(AuditEvent):
    """Speech did not become a transcript."""

    name: ClassVar[str] = "transcription.failed"
    encounter: Id
    code: Code


# --- generation -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GenerationAuthorized(AuditEvent):
    """The policy allowed this prompt for this model: committed before the prompt leaves."""

    name: ClassVar[str] = "generation.authorized"
    generation: Id
    encounter: Id
    patient: Pseudonym
    action: ActionName
    purpose: Code
    policy_set: Digest
    policies: Ids
    obligations: Ids
    prompt_sha256: Digest
    model: Id
    model_sha256: Digest
    template: Id
    template_sha256: Digest
    transcript_sha256: Digest


@dataclass(frozen=True, slots=True)
class GenerationDenied(AuditEvent):
    """The policy said no."""

    name: ClassVar[str] = "generation.denied"
    encounter: Id
    patient: Pseudonym
    action: ActionName
    purpose: Code
    policy_set: Digest
    policies: Ids
    obligations: Ids
    model: Id
    template: Id
    transcript_sha256: Digest
    reason_codes: Ids


@dataclass(frozen=True, slots=True)
class GenerationCompleted(AuditEvent):
    """The model answered; `authorized_seq` is the entry that allowed it."""

    name: ClassVar[str] = "generation.completed"
    generation: Id
    authorized_seq: Count
    output_sha256: Digest
    tokens_in: Count
    tokens_out: Count
    attempts: Count


@dataclass(frozen=True, slots=True)
class GenerationFailed(AuditEvent):
    """No usable answer came."""

    name: ClassVar[str] = "generation.failed"
    generation: Id
    authorized_seq: Count
    code: Code


@dataclass(frozen=True, slots=True)
class GenerationInterrupted(AuditEvent):
    """The program stopped between permission and answer; noted at the next start."""

    name: ClassVar[str] = "generation.interrupted"
    generation: Id
    authorized_seq: Count


# --- notes ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NoteDrafted(AuditEvent):
    """A draft was stored."""

    name: ClassVar[str] = "note.drafted"
    encounter: Id
    note: Id
    version: Count
    statements: Count
    flagged: Count
    omissions: Count
    content_sha256: Digest


@dataclass(frozen=True, slots=True)
class NoteEdited(AuditEvent):
    """A draft was changed."""

    name: ClassVar[str] = "note.edited"
    encounter: Id
    note: Id
    version: Count
    content_sha256: Digest


@dataclass(frozen=True, slots=True)
class NoteSigned(AuditEvent):
    """A clinician signed."""

    name: ClassVar[str] = "note.signed"
    encounter: Id
    note: Id
    version: Count
    content_sha256: Digest


@dataclass(frozen=True, slots=True)
class NoteAmended(AuditEvent):
    """An addendum was put to a signed note."""

    name: ClassVar[str] = "note.amended"
    encounter: Id
    note: Id
    addendum: Id
    content_sha256: Digest


# --- keys -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeySealed(AuditEvent):
    """The running clinic gave its key up and went back to the sealed page."""

    name: ClassVar[str] = "key.sealed"


@dataclass(frozen=True, slots=True)
class SharesRenewed(AuditEvent):
    """New recovery shares were made; those of before open nothing any more."""

    name: ClassVar[str] = "shares.renewed"


@dataclass(frozen=True, slots=True)
class CredentialRenewed(AuditEvent):
    """A new credential opens the clinic; those of before open nothing any more."""

    name: ClassVar[str] = "credential.renewed"


@dataclass(frozen=True, slots=True)
class SlotRemoved(AuditEvent):
    """One way to open the clinic was taken away; `left` are those that stay."""

    name: ClassVar[str] = "slot.removed"
    slot: Id
    slot_kind: Code
    left: Count


@dataclass(frozen=True, slots=True)
class RotationBegun(AuditEvent):
    """Version `version` of the key-encryption key is about to be made; `keys` patients' keys are to be re-wrapped."""

    name: ClassVar[str] = "rotation.begun"
    version: Count
    keys: Count


@dataclass(frozen=True, slots=True)
class RotationFinished(AuditEvent):
    """All `keys` are wrapped under `version`; `destroyed` older versions are destroyed next."""

    name: ClassVar[str] = "rotation.finished"
    version: Count
    keys: Count
    destroyed: Count


# --- backups ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BackupCreated(AuditEvent):
    """A backup was written and read back; it holds the log up to `entries`.  `sha256` is that of its sealed data."""

    name: ClassVar[str] = "backup.created"
    backup: Id
    destination: Id
    entries: Count
    size: Count
    sha256: Digest


@dataclass(frozen=True, slots=True)
class BackupFound(AuditEvent):
    """A backup of this clinic exists that this log did not know: the log itself goes on from an older backup."""

    name: ClassVar[str] = "backup.found"
    backup: Id
    destination: Id
    entries: Count
    size: Count
    sha256: Digest


@dataclass(frozen=True, slots=True)
class BackupFailed(AuditEvent):
    """A backup, re-key or drill did not come to its end."""

    name: ClassVar[str] = "backup.failed"
    operation: Code
    code: Code


@dataclass(frozen=True, slots=True)
class BackupRekeyed(AuditEvent):
    """A backup holds no key any more of any patient who was shredded up to entry `through`."""

    name: ClassVar[str] = "backup.rekeyed"
    backup: Id
    destination: Id
    generation: Count
    through: Count
    forgotten: Count


@dataclass(frozen=True, slots=True)
class BackupRemoved(AuditEvent):
    """A backup is no more: expired, found missing from its disk, or written off with its disk."""

    name: ClassVar[str] = "backup.removed"
    backup: Id
    destination: Id
    reason: Code


@dataclass(frozen=True, slots=True)
class BackupDrilled(AuditEvent):
    """A backup was restored for the exercise, read, and removed again.  `result` is `ok` or an error code."""

    name: ClassVar[str] = "backup.drilled"
    backup: Id
    result: Code
    entries: Count
    patients: Count
    seconds: Count


@dataclass(frozen=True, slots=True)
class BackupRestored(AuditEvent):
    """This log goes on from a backup that ended at `entries`; `witnessed` is the longest it was known to have been."""

    name: ClassVar[str] = "backup.restored"
    backup: Id
    entries: Count
    witnessed: Count
    reason: Code


# --- shredding --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PatientShredded(AuditEvent):
    """A patient's key, data and audio were destroyed for good, with everything of so many encounters."""

    name: ClassVar[str] = "patient.shredded"
    patient: Pseudonym
    reason: Code
    encounters: Count
    recordings: Count


@dataclass(frozen=True, slots=True)
class ShreddingFinished(AuditEvent):
    """Nothing is left of the keys of so many shredded patients in the files of the data folder."""

    name: ClassVar[str] = "shredding.finished"
    patients: Count


# --- second factor, broken glass --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FactorEnrolled(AuditEvent):
    """An account has a second factor from here on: its first code was right."""

    name: ClassVar[str] = "factor.enrolled"
    user_id: Id


@dataclass(frozen=True, slots=True)
class FactorRemoved(AuditEvent):
    """An account has no second factor any more."""

    name: ClassVar[str] = "factor.removed"
    user_id: Id


@dataclass(frozen=True, slots=True)
class FactorRefused(AuditEvent):
    """A code of the second factor was not accepted."""

    name: ClassVar[str] = "factor.refused"
    user_id: Id
    reason: Code


@dataclass(frozen=True, slots=True)
class GlassBroken(AuditEvent):
    """The actor, with a second factor, broke the glass for one encounter, for so many minutes: this entry allows it."""

    name: ClassVar[str] = "glass.broken"
    encounter: Id
    patient: Pseudonym
    reason: GlassReasonName
    minutes: Count


_EVENTS: Final[tuple[type[AuditEvent], ...]] = (
    AuditOpened,
    KeyUnlocked,
    AuditExported,
    AuditVerified,
    PolicyActivated,
    UserCreated,
    UserDisabled,
    UserEnabled,
    PasswordReset,
    LoginSucceeded,
    LoginFailed,
    LoggedOut,
    PatientCreated,
    PatientViewed,
    PatientUpdated,
    PatientsListed,
    EncounterOpened,
    EncounterViewed,
    ConsentRecorded,
    RecordingStarted,
    RecordingCompleted,
    AudioPlayed,
    TextSubmitted,
    TranscriptionCompleted,
    TranscriptionFailed,
    GenerationAuthorized,
    GenerationDenied,
    GenerationCompleted,
    GenerationFailed,
    GenerationInterrupted,
    NoteDrafted,
    NoteEdited,
    NoteSigned,
    NoteAmended,
    KeySealed,
    SharesRenewed,
    RotationBegun,
    RotationFinished,
    BackupCreated,
    BackupFound,
    BackupFailed,
    BackupRekeyed,
    BackupRemoved,
    BackupDrilled,
    BackupRestored,
    PolicySetActivated,
    PatientShredded,
    ShreddingFinished,
    CredentialRenewed,
    SlotRemoved,
    LatchSet,
    LatchCleared,
    ClockRegressed,
    SinkLost,
    SinkRestored,
    PatientAccounted,
    FactorEnrolled,
    FactorRemoved,
    FactorRefused,
    GlassBroken,
    WitnessAdded,
)

REGISTRY: Final[dict[str, type[AuditEvent]]] = {event.name: event for event in _EVENTS}
"""Every event there is, by name."""


def _fields(event: type[Any]) -> tuple[tuple[str, Kind], ...]:
    hints = get_type_hints(event, include_extras=True)
    return tuple((field.name, hints[field.name].__metadata__[0]) for field in fields(event))


# A class that is not in the list cannot even be instantiated: the schema is closed.
_FIELDS: Final[dict[type[AuditEvent], tuple[tuple[str, Kind], ...]]] = {event: _fields(event) for event in _EVENTS}


def _form(event: type[AuditEvent]) -> re.Pattern[bytes]:
    values = ",".join(f'"{field}":{kind.form}' for field, kind in sorted(_FIELDS[event], key=itemgetter(0)))
    return re.compile(f"{{{values}}}".encode())


_FORMS: Final = {event.name.encode(): _form(event) for event in _EVENTS}
"""How each event is written.  A set is caught as a group, because no pattern can tell its order."""
