"""What the tests of the web form share: wired services with a real store, and a browser's manners."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from clinic.config import Config
from clinic.documents.drafting import Drafting
from clinic.documents.template import load_document_template
from clinic.domain import (
    Actor,
    Consent,
    EncounterId,
    EncounterKind,
    EncounterState,
    Evidence,
    Note,
    Omission,
    Reason,
    Role,
    Segment,
    Statement,
    StatementStatus,
    Transcript,
    Word,
)
from clinic.errors import JobError
from clinic.records.documents import StoredDocument
from clinic.records.encounters import Encounter
from clinic.records.patients import Patient
from clinic.records.records import Records
from clinic.records.users import User
from clinic.services import PolicySource, notices
from clinic.speech.decode import wav_clip

HASHER = PasswordHasher.from_parameters(CHEAPEST)
PASSWORD = "correct horse battery"
ORIGIN = "https://clinic.test"
CANARY = "Quintessa Marblethwaite"


@dataclass
class Uptime:
    """Seconds since boot, set by the test."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Return the set time."""
        return self.now


@dataclass
class RecordingJobs:
    """A queue that remembers what was put into it, or refuses."""

    queued: list[EncounterId] = field(default_factory=list)
    broken: bool = False
    tasks: list[str] = field(default_factory=list)

    def enqueue(self, encounter_id: EncounterId, *, actor: Actor) -> str:
        """Remember the encounter."""
        assert actor.role is Role.CLINICIAN
        if self.broken:
            raise JobError("no worker", code="worker_unavailable")
        self.queued.append(encounter_id)
        return f"{encounter_id}:1"

    def positions(self) -> dict[EncounterId, int]:
        """Number what was put in, in its order."""
        if self.broken:
            raise JobError("no worker", code="worker_unavailable")
        return {encounter: turn for turn, encounter in enumerate(self.queued, start=1)}

    def enqueue_upkeep(self, task: str, *, actor: Actor) -> str:
        """Remember the task."""
        assert actor.role is (Role.CLINICIAN if task == "rekey" else Role.ADMINISTRATOR)
        if self.broken:
            raise JobError("no worker", code="worker_unavailable")
        self.tasks.append(task)
        return f"upkeep:{task}:1"

    def pending_upkeep(self, task: str) -> bool:
        """Say whether the task was put in."""
        return task in self.tasks


@dataclass
class WebServices:
    """The services that the web form needs, over a real store."""

    config: Config
    records: Records
    jobs: RecordingJobs = field(default_factory=RecordingJobs)
    session_key: bytes = b"k" * 32
    model_label: str = "Gemma 3 270M (embedded, for trying the system out)"
    reasons: tuple[Reason, ...] = ()

    def clip(self, encounter_id: EncounterId, start: float, end: float) -> bytes:
        """Decode the seconds in the confined child, as the real services do."""
        with self.records.read() as tx:
            recording = tx.recordings.for_encounter(encounter_id)
            assert recording is not None
            return wav_clip(tx.recordings.chunks(recording.id), start, end)

    def notices(self, encounter_id: EncounterId) -> tuple[str, ...]:
        """Return the real notices."""
        return notices(self.records, encounter_id)

    @property
    def policy(self) -> PolicySource:
        """Return the real policy sets."""
        return PolicySource(self.config, self.records)

    def denial(self, encounter_id: EncounterId) -> tuple[Reason, ...]:
        """Return the reasons that the test has set."""
        assert encounter_id
        return self.reasons


@dataclass
class Browser:
    """A client that sends cookies and CSRF tokens as our pages do."""

    client: FlaskClient
    token: str = ""

    def get(self, path: str, *, json: bool = False) -> TestResponse:
        """Load a page (or, with `json`, ask as our scripts do) and remember its token."""
        headers = {"Accept": "application/json"} if json else {"Accept": "text/html"}
        response = self.client.get(path, headers=headers, base_url=ORIGIN)
        found = re.search(
            r'name="csrf-token" content="([^"]+)"', response.text if response.mimetype == "text/html" else ""
        )
        self.token = found.group(1) if found else self.token
        return response

    def post(self, path: str, /, **fields: object) -> TestResponse:
        """Send a form."""
        data = {"csrf_token": self.token, **fields}
        return self.client.post(path, data=data, base_url=ORIGIN, headers={"Accept": "text/html"})

    def send(self, path: str, body: object = None) -> TestResponse:
        """Send JSON as our scripts do."""
        headers = {"Accept": "application/json", "X-CSRFToken": self.token}
        return self.client.post(path, json=body or {}, base_url=ORIGIN, headers=headers)

    def put(self, path: str, body: bytes) -> TestResponse:
        """Send bytes as our uploader does."""
        headers = {"Accept": "application/json", "X-CSRFToken": self.token}
        return self.client.put(
            path, data=body, base_url=ORIGIN, headers=headers, content_type="application/octet-stream"
        )

    def sign_in(self, username: str, password: str = PASSWORD) -> TestResponse:
        """Sign in and load the start page."""
        self.get("/login")
        response = self.post("/login", username=username, password=password)
        if response.status_code == 302:
            self.get(response.location)
        return response


NewBrowser = Callable[[], Browser]


@dataclass
class World:
    """One application over one store, with an account of each role."""

    app: Flask
    services: WebServices
    uptime: Uptime
    users: dict[Role, User]

    @property
    def records(self) -> Records:
        """The store."""
        return self.services.records

    def browser(self, role: Role | None = None) -> Browser:
        """Return a fresh browser, signed in if a role is named."""
        browser = Browser(self.app.test_client())
        if role is not None:
            assert browser.sign_in(role.value).status_code == 302
        return browser

    def actor(self, role: Role = Role.CLINICIAN) -> Actor:
        """Return the account of a role as the one who acts."""
        return self.users[role].actor

    def encounter(
        self, patient: Patient, *, consent: Consent = Consent.GIVEN, kind: EncounterKind = EncounterKind.CONSULTATION
    ) -> Encounter:
        """Open an encounter with an answer recorded."""
        with self.records.write() as tx:
            encounter = tx.encounters.open(patient.id, kind=kind, template="soap", language="en", actor=self.actor())
            if consent is not Consent.NOT_RECORDED:
                encounter = tx.encounters.record_consent(encounter.id, consent, self.actor())
        return encounter

    def colleague(self) -> Browser:
        """Return the signed-in browser of another clinician, whose encounters these are not."""
        with self.records.write() as tx:
            tx.users.create(
                "colleague",
                display_name="Test colleague",
                role=Role.CLINICIAN,
                password=PASSWORD,
                actor=self.actor(Role.ADMINISTRATOR),
            )
        browser = self.browser()
        assert browser.sign_in("colleague").status_code == 302
        return browser

    def drafted(self, patient: Patient) -> Encounter:
        """Return an encounter with transcript and draft, one statement of it flagged."""
        encounter = self.encounter(patient)
        with self.records.write() as tx:
            tx.transcripts.store(encounter.id, TRANSCRIPT)
            tx.notes.store_draft(encounter.id, NOTE, generation_id=None, actor=self.actor())
            return tx.encounters.mark(encounter.id, state=EncounterState.DRAFTED)

    def signed(self, patient: Patient, sentences: tuple[tuple[str, str], ...] = ()) -> Encounter:
        """Return an encounter with a signed note of `SIGNED`, or of other sentences with their sections."""
        statements = tuple(
            Statement(id=f"n{i}", section=section, text=text, status=StatementStatus.SUPPORTED)
            for i, (section, text) in enumerate(sentences or SIGNED, start=1)
        )
        encounter = self.encounter(patient)
        with self.records.write() as tx:
            tx.transcripts.store(encounter.id, TRANSCRIPT)
            note = Note(template="soap", model="gemma-3-270m", statements=statements)
            tx.notes.store_draft(encounter.id, note, generation_id=None, actor=self.actor())
            tx.encounters.mark(encounter.id, state=EncounterState.DRAFTED)
            tx.notes.sign(encounter.id, expected_version=1, attestation="Read.", actor=self.actor())
            return tx.encounters.get(encounter.id)

    def document(self, encounter: Encounter, kind: str = "referral_letter") -> StoredDocument:
        """Have a document drafted from a signed note."""
        drafting = Drafting(self.records, self.services.policy.current)
        return drafting.draft(encounter.id, load_document_template(kind), actor=self.actor())

    def events(self) -> list[str]:
        """Return the names of all audit events."""
        return [entry.event for entry in self.records.audit.entries()]


def spoken(number: int, text: str, start: float) -> Segment:
    """Return a segment with a word each half second."""
    words = tuple(
        Word(text=word, start=start + n / 2, end=start + n / 2 + 0.4, probability=0.4 if n == 2 else 0.95)
        for n, word in enumerate(text.split())
    )
    return Segment(id=f"s{number}", text=text, start=words[0].start, end=words[-1].end, confidence=0.9, words=words)


SIGNED = (
    ("subjective", "Cough for two weeks."),
    ("subjective", "Allergic to penicillin, which gave a rash."),
    ("assessment", "Probable bronchitis."),
    ("plan", "Doxycycline 100 mg twice daily for 7 days."),
    ("plan", "Return if breathing gets worse."),
)

TRANSCRIPT = Transcript(
    segments=(
        spoken(1, "So the cough has been there for two weeks now.", 0.5),
        spoken(2, "Any fever or night sweats?", 6.0),
        spoken(3, "No fever, but I do wake up sweating.", 9.0),
        spoken(4, "I am allergic to penicillin, it gave me a rash.", 14.0),
        spoken(5, "Let us start doxycycline one hundred milligrams twice a day for seven days.", 20.0),
    ),
    language="en",
    duration_s=28.0,
    model="whisper-base",
    model_sha256="0" * 64,
)

NOTE = Note(
    template="soap",
    model="gemma-3-270m",
    statements=(
        Statement(
            id="n1",
            section="subjective",
            text="Cough for two weeks.",
            evidence=(Evidence(segment="s1", start=1.0, end=5.4),),
            status=StatementStatus.SUPPORTED,
        ),
        Statement(
            id="n2",
            section="subjective",
            text="Reports fever and night sweats.",
            evidence=(Evidence(segment="s3", start=9.0, end=12.4),),
            status=StatementStatus.FLAGGED,
            reasons=(Reason(code="negation_mismatch", message="the patient said there was no fever"),),
        ),
        Statement(
            id="n3",
            section="plan",
            text="Doxycycline 100 mg twice daily for 7 days.",
            evidence=(Evidence(segment="s5", start=20.0, end=26.0),),
            status=StatementStatus.SUPPORTED,
        ),
    ),
    omissions=(Omission(segment="s4", kind="allergy", text="Allergic to penicillin (rash)."),),
)
