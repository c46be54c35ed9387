"""What a browser sends, parsed once at the boundary.

Rules kept here:

* A view sees a frozen, typed value or nothing; a form that is not valid raises `FormError` with a sentence per field.
* Sentences are fixed per field: what was typed is never part of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, ClassVar, Literal, Self

from flask import request
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from clinic.audit.search import Search
from clinic.domain import Consent, EncounterKind, GlassReason, Role, Scope, ShredReason
from clinic.errors import InputError
from clinic.speech.correction import KNOWN

_BIRTH_YEARS = 130


class FormError(InputError):
    """Raised when a form is not valid; `fields` says what to mend, field by field."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("some fields need another look", hint="; ".join(fields.values()))
        self.fields = dict(fields)


class Form(BaseModel):
    """One form.  Unknown fields (the CSRF token) are dropped, empty ones are absent."""

    model_config = ConfigDict(frozen=True, extra="ignore", str_strip_whitespace=True)
    problems: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def parse(cls) -> Self:
        """Read the form of this request."""
        return cls.read({name: value for name, value in request.form.items() if value.strip()})

    @classmethod
    def parse_json(cls) -> Self:
        """Read the JSON body of this request."""
        try:
            body = request.get_json(silent=True)
        except RecursionError:  # brackets in brackets, thousands deep
            body = None
        return cls.read(body if isinstance(body, dict) else {})

    @classmethod
    def read(cls, values: Mapping[str, object]) -> Self:
        """Validate.

        Raises:
            FormError: without a cause, which would hold what was typed.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            names = dict.fromkeys(str(problem["loc"][0]) if problem["loc"] else "form" for problem in error.errors())
        raise FormError({name: cls.problems.get(name, f"`{name}` is missing or not valid") for name in names})


def _one_line(value: str) -> str:
    """Return a text in one line, without a character that nobody sees: it stands at the head of a letter."""
    shown = " ".join(value.split())
    if not shown.isprintable():
        raise ValueError("not printable")
    return shown


class LoginForm(Form):
    """Name and password."""

    username: Annotated[str, Field(min_length=1, max_length=64)]
    password: Annotated[str, Field(min_length=1, max_length=1024)]
    problems = {"username": "type your user name", "password": "type your password"}


class PasswordForm(Form):
    """A change of one's own password."""

    current: Annotated[str, Field(min_length=1, max_length=1024)]
    password: Annotated[str, Field(min_length=1, max_length=1024)]
    problems = {"current": "type the password that you have now", "password": "type a new password"}


class PatientForm(Form):
    """Who a patient is."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    date_of_birth: date | None = None
    sex: Annotated[str | None, Field(pattern="^(female|male|other|unknown)$")] = None
    record_number: Annotated[str | None, Field(max_length=64)] = None
    problems = {
        "name": "type the patient's name (at most 200 characters)",
        "date_of_birth": "give a date of birth in the past, or leave it empty",
        "sex": "choose one of the list, or leave it empty",
        "record_number": "a record number has at most 64 characters",
    }

    @field_validator("date_of_birth")
    @classmethod
    def _in_the_past(cls, value: date | None) -> date | None:
        today = date.today()  # noqa: DTZ011 - a date of birth is a local calendar day
        if value is not None and not (today.year - _BIRTH_YEARS <= value.year and value <= today):
            raise ValueError("not in the past")
        return value


class ShredForm(Form):
    """The confirmation that a patient's record shall be destroyed."""

    name: Annotated[str, Field(max_length=200)]
    reason: ShredReason
    problems = {"name": "type the patient's name to confirm", "reason": "choose a reason"}

    @field_validator("reason")
    @classmethod
    def _chosen_by_people(cls, reason: ShredReason) -> ShredReason:
        if reason is ShredReason.BEFORE_RESTORE:
            raise ValueError("nobody chooses this one")
        return reason


class SearchForm(Form):
    """A search among patients."""

    text: Annotated[str, Field(max_length=200)] = ""


class DayForm(Form):
    """Whose encounters of the day (query string)."""

    show: Literal["mine", "all"] = "mine"
    problems = {"show": "choose mine or all"}

    @classmethod
    def from_query(cls) -> Self:
        """Read the choice from the address; it is no patient data."""
        return cls.read({"show": request.args["show"]} if request.args.get("show") else {})


class EncounterForm(Form):
    """A new encounter."""

    kind: EncounterKind
    template: Annotated[str, Field(pattern=r"^[a-z0-9_.-]{1,64}$")]
    language: Annotated[str | None, Field(pattern=r"^[a-z]{2,3}$")] = None
    problems = {
        "kind": "choose consultation or dictation",
        "template": "choose one of the note templates",
        "language": "choose one of the languages",
    }


class ConsentForm(Form):
    """The patient's answer."""

    consent: Consent
    problems = {"consent": "choose the patient's answer"}

    @field_validator("consent")
    @classmethod
    def _an_answer(cls, value: Consent) -> Consent:
        if value is Consent.NOT_RECORDED:
            raise ValueError("no answer")
        return value


class TextForm(Form):
    """Dictated or pasted text."""

    text: Annotated[str, Field(min_length=1, max_length=200_000)]
    problems = {"text": "type or paste the text to summarise (at most 200,000 characters)"}


class RecordingForm(Form):
    """The start of a recording (JSON)."""

    mime: Annotated[str, Field(min_length=3, max_length=100)]
    resume: bool = False
    live: bool = False
    problems = {"mime": "name the recording's media type"}


class LiveForm(Form):
    """How many lines of the live text the page has (query string)."""

    after: Annotated[int, Field(ge=0, le=100_000)] = 0
    problems = {"after": "say how many lines the page has"}

    @classmethod
    def from_query(cls) -> Self:
        """Read the number from the address; it is no patient data."""
        return cls.read({"after": request.args["after"]} if request.args.get("after") else {})


class MomentForm(Form):
    """A mark, or a note typed while it is recorded (JSON)."""

    id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    at: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
    text: Annotated[str, Field(max_length=1000)] = ""
    problems = {"text": "a note has at most 1,000 characters", "at": "the time is a number of seconds"}


class CompletionForm(Form):
    """The end of a recording (JSON): how many chunks it has."""

    chunks: Annotated[int, Field(ge=0, le=100_000)]
    problems = {"chunks": "say how many chunks the recording has"}


class VersionForm(Form):
    """A decision about a note as it was when the page was made."""

    version: Annotated[int, Field(ge=0)]


class StatementForm(VersionForm):
    """A statement's new words."""

    text: Annotated[str, Field(min_length=1, max_length=4000)]
    problems = {"text": "a statement needs words (at most 4,000 characters)"}


class NewStatementForm(StatementForm):
    """A statement that the clinician adds."""

    section: Annotated[str, Field(min_length=1, max_length=100)]
    problems = {**StatementForm.problems, "section": "choose a section of the note"}


class CheckForm(Form):
    """A sentence as it is typed (JSON): new words of a statement, or a new one of a section."""

    text: Annotated[str, Field(min_length=1, max_length=4000)]
    statement: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = None
    section: Annotated[str | None, Field(min_length=1, max_length=100)] = None
    problems = {
        "text": "a statement needs words (at most 4,000 characters)",
        "statement": "name a statement of the note",
        "section": "name a section of the note",
        "form": "name a statement or a section of the note, not both",
    }

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.statement is None) == (self.section is None):
            raise ValueError("one of the two")
        return self


class OmissionForm(VersionForm):
    """An omission that the clinician takes into the note."""

    omission: Annotated[int, Field(ge=0)]
    section: Annotated[str, Field(min_length=1, max_length=100)]
    problems = {"omission": "choose what to add", "section": "choose a section of the note"}


class TypedForm(VersionForm):
    """A typed note that the clinician takes into the note."""

    moment: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    section: Annotated[str, Field(min_length=1, max_length=100)]
    problems = {"moment": "choose what to add", "section": "choose a section of the note"}


class SpeakerForm(Form):
    """Who spoke: `change` is `swap`, `automatic`, `one:SEGMENT:SPEAKER` or `all:SPEAKER:SPEAKER`, by the button.

    `sha256` names the version of the transcript that the clinician saw.
    """

    change: Annotated[str, Field(max_length=200)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    problems = {"change": "choose who spoke", "sha256": "load the page again"}

    @field_validator("change")
    @classmethod
    def _is_known(cls, value: str) -> str:
        what, *rest = value.split(":")
        simple = what in ("swap", "automatic") and not rest
        named = what in ("one", "all") and len(rest) == 2 and rest[1] in KNOWN  # noqa: PLR2004 - of whom, and who
        if not (simple or named):
            raise ValueError("no such change")
        return value

    @property
    def what(self) -> str:
        """The kind of change."""
        return self.change.partition(":")[0]

    @property
    def subject(self) -> str | None:
        """The segment, or the speaker so far."""
        return self.change.split(":")[1] if ":" in self.change else None

    @property
    def segment(self) -> str | None:
        """The one segment that changes."""
        return self.subject if self.what == "one" else None

    @property
    def speaker(self) -> str | None:
        """Who it was."""
        return self.change.split(":")[2] if ":" in self.change else None


class SignForm(VersionForm):
    """A signature."""

    attestation: Annotated[str, Field(pattern="^yes$")]
    problems = {"attestation": "tick the statement that you have read the note"}


class NewDocumentForm(Form):
    """Which document is wanted."""

    template: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]
    recipient: Annotated[str, Field(max_length=200), AfterValidator(_one_line)] = ""
    problems = {
        "template": "choose a kind of document",
        "recipient": "name whom it is for in at most 200 characters",
    }


class QuestionForm(Form):
    """A question about a patient's record."""

    question: Annotated[str, Field(min_length=1, max_length=2000)]
    problems = {"question": "ask in a sentence or two (at most 2,000 characters)"}


class RecipientForm(VersionForm):
    """Whom a document is for."""

    recipient: Annotated[str, Field(max_length=200), AfterValidator(_one_line)] = ""
    problems = {"recipient": "name whom it is for in at most 200 characters"}


class SentenceForm(VersionForm):
    """A sentence of the signed note that is taken into a document."""

    sentence: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
    section: Annotated[str, Field(min_length=1, max_length=100)]
    problems = {"sentence": "choose a sentence of the note", "section": "choose a section of the document"}


class CopyForm(Form):
    """How a note is taken off the page."""

    form: Literal["text", "print"]
    problems = {"form": "choose text or print"}


class AddendumForm(Form):
    """An addition to a signed note."""

    text: Annotated[str, Field(min_length=1, max_length=10_000)]
    problems = {"text": "an addendum needs words (at most 10,000 characters)"}


class UserForm(Form):
    """A new account."""

    username: Annotated[str, Field(min_length=1, max_length=64)]
    display_name: Annotated[str, Field(min_length=1, max_length=100)]
    role: Role
    problems = {
        "username": "type a user name: letters, digits and . _ - @",
        "display_name": "type the name that others see",
        "role": "choose a role",
    }


class RedeemForm(Form):
    """A one-time code, and the password that its owner chooses."""

    username: Annotated[str, Field(min_length=1, max_length=64)]
    code: Annotated[str, Field(min_length=1, max_length=24)]
    password: Annotated[str, Field(min_length=1, max_length=1024)]
    problems = {
        "username": "type your user name",
        "code": "type the one-time code",
        "password": "type a new password",
    }


class SetupForm(RedeemForm):
    """The first administrator."""

    display_name: Annotated[str, Field(min_length=1, max_length=100)]
    problems = {
        **RedeemForm.problems,
        "username": "type a user name: letters, digits and . _ - @",
        "display_name": "type the name that others see",
    }


class TokenForm(Form):
    """A token for a program."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    days: Annotated[int, Field(ge=1, le=366)] = 180
    problems = {
        "name": "say which program it is for",
        "scopes": "choose at least one thing that it may do",
        "days": "1 to 366 days",
    }

    @classmethod
    def parse(cls) -> Self:
        """Read the form, with the boxes that are ticked."""
        given = {name: request.form[name] for name in ("name", "days") if request.form.get(name, "").strip()}
        return cls.read({**given, "scopes": request.form.getlist("scopes")})


class EntriesForm(Form):
    """Which entries of the log (query string): filter, and where the page begins.

    Times are those of `zone`; both ends are included, to the minute or second that was given.
    """

    event: Annotated[str | None, Field(pattern=r"^[a-z]{1,32}\.[a-z]{0,32}$")] = None
    actor: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")] = None
    start: Annotated[datetime | None, Field(ge=datetime(1970, 1, 2), lt=datetime(9000, 1, 1))] = None  # noqa: DTZ001
    end: Annotated[datetime | None, Field(ge=datetime(1970, 1, 2), lt=datetime(9000, 1, 1))] = None  # noqa: DTZ001
    zone: Literal["clinic", "utc"] = "clinic"
    before: Annotated[int | None, Field(ge=1, le=2**53)] = None
    after: Annotated[int | None, Field(ge=0, le=2**53)] = None
    problems = {
        "event": "choose an event of the list",
        "actor": "choose an account of the list",
        "start": "the first moment is a date and a time: 2026-11-26T08:00",
        "end": "the last moment is a date and a time, and not before the first",
        "zone": "choose one of the two zones",
        "before": "a page begins at the number of an entry",
        "after": "a page begins at the number of an entry",
    }

    @field_validator("start", "end", mode="before")
    @classmethod
    def _as_the_field_sends_it(cls, value: object) -> object:
        if isinstance(value, str) and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?", value, re.ASCII):
            raise ValueError("not a moment")
        return value

    @field_validator("end")
    @classmethod
    def _not_before(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        start = info.data.get("start")
        if value is not None and start is not None and value < start:
            raise ValueError("before the start")
        return value

    @classmethod
    def from_query(cls) -> Self:
        """Read the filter from the address; it holds no patient data."""
        names = {"from": "start", "to": "end"} | {name: name for name in ("event", "actor", "zone", "before", "after")}
        return cls.read({field: request.args[name] for name, field in names.items() if request.args.get(name)})

    def search(self) -> Search:
        """Return what is looked for."""
        end = None if self.end is None else self.end + timedelta(**{"seconds" if self.end.second else "minutes": 1})
        return Search(self.event, self.actor, since=self._moment(self.start), until=self._moment(end))

    def query(self) -> dict[str, str]:
        """Return the filter, without the place, as it stands in an address."""
        moments = {"from": self.start, "to": self.end}
        texts = {"event": self.event, "actor": self.actor, "zone": None if self.zone == "clinic" else self.zone}
        given = texts | {name: value.isoformat() if value else None for name, value in moments.items()}
        return {name: value for name, value in given.items() if value}

    def _moment(self, typed: datetime | None) -> datetime | None:
        if typed is None:
            return None
        return typed.replace(tzinfo=UTC) if self.zone == "utc" else typed.astimezone()


class AccountingForm(Form):
    """Which days of an accounting, and in what form (query string; days are UTC)."""

    start: date | None = None
    end: date | None = None
    layout: Literal["page", "csv"] = "page"
    problems = {
        "start": "the first day is a date: 2026-11-26",
        "end": "the last day is a date, and not before the first",
        "layout": "choose one of the two forms",
    }

    @field_validator("end")
    @classmethod
    def _not_before(cls, value: date | None, info: ValidationInfo) -> date | None:
        start = info.data.get("start")
        if value is not None and start is not None and value < start:
            raise ValueError("before the start")
        return value

    @classmethod
    def from_query(cls) -> Self:
        """Read the days from the address; they are no patient data."""
        names = {"from": "start", "to": "end", "layout": "layout"}
        return cls.read({field: request.args[name] for name, field in names.items() if request.args.get(name)})


class WitnessForm(Form):
    """What a witness has seen of the log (query string)."""

    seen: Annotated[int, Field(ge=1, le=2**53)] | None = None
    problems = {"seen": "the number of entries that the witness saw last"}

    @classmethod
    def from_query(cls) -> Self:
        """Read the number from the address; left empty, it is none."""
        return cls.read({"seen": request.args["seen"]} if request.args.get("seen") else {})


class ClipForm(Form):
    """Seconds of a recording (query string)."""

    start: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    end: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    problems = {"start": "the start is a number of seconds", "end": "the end is a number of seconds"}

    @classmethod
    def from_query(cls) -> Self:
        """Read the seconds from the address; they are no patient data."""
        return cls.read({name: request.args[name] for name in ("start", "end") if name in request.args})


class ExportForm(Form):
    """Who may open an export of the audit log."""

    recipient: Annotated[str, Field(pattern=r"^age1[0-9a-z]{50,80}([\s,]+age1[0-9a-z]{50,80}){0,19}$")]
    layout: Literal["archive", "fhir"] = "archive"
    problems = {
        "recipient": "an age recipient begins with age1; it is a public key, not the identity; at most 20",
        "layout": "choose one of the two forms",
    }

    @property
    def recipients(self) -> list[str]:
        """The recipients one by one."""
        return self.recipient.replace(",", " ").split()


class PolicySeqForm(Form):
    """Which past decision."""

    seq: Annotated[int, Field(ge=1, le=2**53)]
    problems = {"seq": "give the number of an audit entry"}


class PolicyTrialForm(Form):
    """A request to try on the policies."""

    request: Annotated[str, Field(min_length=2, max_length=20_000)]
    problems = {"request": "paste a request as JSON (at most 20,000 characters)"}


class FactorForm(Form):
    """The password, asked for again before a second factor is set up."""

    password: Annotated[str, Field(min_length=1, max_length=1024)]
    problems = {"password": "type your password"}


class SecondStepForm(Form):
    """What is typed after the password: a code of the app, or a recovery code."""

    code: Annotated[str, Field(min_length=6, max_length=24)]
    problems = {"code": "type the six digits that the app shows now, or a recovery code"}


class PasskeyNameForm(Form):
    """What its owner calls a passkey."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    problems = {"name": "call it something, in at most 60 characters"}


class PasskeyForm(PasskeyNameForm):
    """A new passkey, as the browser gives it."""

    answer: dict[str, object]
    problems = {**PasskeyNameForm.problems, "answer": "the browser gave no passkey"}


class PasskeyAnswerForm(Form):
    """What a passkey has signed, and the page that was wanted."""

    answer: dict[str, object]
    next: Annotated[str | None, Field(max_length=200)] = None
    problems = {"answer": "the browser gave no passkey", "next": "sign in again"}


class FactorRolesForm(Form):
    """The roles that have to have a second factor."""

    roles: tuple[Role, ...] = ()
    problems = {"roles": "choose roles of the list"}

    @classmethod
    def parse(cls) -> Self:
        """Read the boxes that are ticked."""
        return cls.read({"roles": request.form.getlist("roles")})


class FactorCodeForm(Form):
    """A code of the second factor."""

    code: Annotated[str, Field(pattern=r"^[0-9]{3} ?[0-9]{3}$")]
    problems = {"code": "type the six digits that the app shows now"}


class GlassForm(FactorCodeForm):
    """Why the glass is broken, and the code that proves who does it."""

    reason: GlassReason
    problems = {**FactorCodeForm.problems, "reason": "choose a reason"}
