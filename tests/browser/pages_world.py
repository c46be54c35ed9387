"""What the tests of single pages share: one running web form over a real store, and encounters put into it."""

from __future__ import annotations

import ssl
import subprocess
import time
import urllib.request  # noqa: TID251 - the test asks the server under test
from dataclasses import dataclass, field
from datetime import date

from playwright.sync_api import BrowserContext, Page, StorageState

from clinic.config import Config
from clinic.domain import OPERATOR, Consent, EncounterKind, EncounterState, Note, Role, Transcript
from clinic.records.encounters import Encounter
from clinic.records.patients import Patient, PatientData
from clinic.records.records import Records
from clinic.records.users import User
from tests.functional.web_world import NOTE, TRANSCRIPT

PASSWORD = "correct horse battery"
CLINICIAN = "ada"
COLLEAGUE = "grace"
START_S = 60


@dataclass
class Site:
    """A web form that answers over HTTPS, and the store behind it."""

    config: Config
    records: Records
    users: dict[str, User]
    signed_in: dict[str, StorageState] = field(default_factory=dict)
    """The cookies of who has signed in: once each, for only so many sign-ins a minute are answered."""

    @property
    def address(self) -> str:
        """Where the web form is."""
        return f"https://localhost:{self.config.web.port}"

    def patient(self, name: str, *, date_of_birth: date | None = None, record_number: str | None = None) -> Patient:
        """Add a patient."""
        data = PatientData(name, date_of_birth=date_of_birth, record_number=record_number)
        with self.records.write() as tx:
            return tx.patients.create(data, self.users[CLINICIAN].actor)

    def encounter(self, patient: Patient, *, by: str = CLINICIAN) -> Encounter:
        """Open an encounter with consent."""
        actor = self.users[by].actor
        with self.records.write() as tx:
            encounter = tx.encounters.open(
                patient.id, kind=EncounterKind.CONSULTATION, template="soap", language="en", actor=actor
            )
            return tx.encounters.record_consent(encounter.id, Consent.GIVEN, actor)

    def drafted(
        self, patient: Patient, *, note: Note = NOTE, transcript: Transcript = TRANSCRIPT, by: str = CLINICIAN
    ) -> Encounter:
        """Return an encounter with transcript and draft."""
        encounter = self.encounter(patient, by=by)
        with self.records.write() as tx:
            tx.transcripts.store(encounter.id, transcript)
            tx.notes.store_draft(encounter.id, note, generation_id=None, actor=self.users[by].actor)
            return tx.encounters.mark(encounter.id, state=EncounterState.DRAFTED)

    def events(self) -> list[str]:
        """Return the names of all audit events."""
        return [entry.event for entry in self.records.audit.entries()]


def make_accounts(records: Records) -> dict[str, User]:
    """Create the accounts of the tests and return them by name."""
    accounts = {
        CLINICIAN: Role.CLINICIAN,
        COLLEAGUE: Role.CLINICIAN,
        "admin": Role.ADMINISTRATOR,
        "audit": Role.AUDITOR,
    }
    with records.write() as tx:
        made = [
            tx.users.create(
                name,
                display_name=f"Dr {name.title()}",
                role=role,
                password=PASSWORD,
                actor=OPERATOR,
            )
            for name, role in accounts.items()
        ]
    return {user.username: user for user in made}


def wait_until_healthy(config: Config, process: subprocess.Popen[bytes]) -> None:
    """Wait for the web form, trusting the clinic's own certificate authority only."""
    context = ssl.create_default_context(cafile=str(config.tls_dir / "ca.crt"))
    deadline = time.monotonic() + START_S
    while True:
        try:
            url = f"https://localhost:{config.web.port}/health"
            with urllib.request.urlopen(url, context=context, timeout=5) as answer:  # noqa: TID251 - as above
                assert answer.status == 200
                return
        except OSError:
            assert process.poll() is None, "the web form ended"
            assert time.monotonic() < deadline, "the web form did not start"
            time.sleep(0.1)


def sign_in(page: Page, username: str = CLINICIAN) -> None:
    """Sign in through the page."""
    page.goto("/login")
    page.get_by_test_id("login-username").fill(username)
    page.get_by_test_id("login-password").fill(PASSWORD)
    page.get_by_test_id("login-submit").click()
    page.get_by_test_id("logout").wait_for()


def signed_in_page(site: Site, context: BrowserContext, username: str) -> Page:
    """Return a page of an account that is signed in: through the form at first, with the same session from then on."""
    page = context.new_page()
    if username in site.signed_in:
        context.add_cookies(site.signed_in[username]["cookies"])  # type: ignore[arg-type]
    else:
        sign_in(page, username)
        site.signed_in[username] = context.storage_state()
    return page
