"""Records: the encrypted store of everything that the clinic keeps, with its audit log in the same file.

Rules kept here:

* Work happens in transactions: `write()` commits all of it or nothing, audit events included; `read()` sees one state.
* Repositories take and return frozen values, never rows; patient data is sealed on its way in, opened on its way out.
* Reading what must be audited (a patient, the list of patients) needs `write()`.
* An acknowledgement is given after the `with` block, never inside: only then is the commit durable.

Example::

    with records.write() as tx:
        patient = tx.patients.create(PatientData(name="Ada"), actor=actor)
        encounter = tx.encounters.open(patient.id, kind=kind, template="soap", language="en", actor=actor)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from sqlalchemy import Connection, Engine

from clinic.audit.details import Detail
from clinic.audit.events import AuditEvent
from clinic.audit.guard import Guard
from clinic.audit.kept import Rhythm
from clinic.audit.log import AuditLog, Entry
from clinic.audit.sink import SecondSink
from clinic.crypto.keys import Keyring, Purpose
from clinic.domain import Actor, Clock, GlassReason, Role, ShredReason, utc_now
from clinic.errors import DecryptionError, StorageError
from clinic.records import factors, glass, invitations, login, passkeys
from clinic.records.answers import Answers
from clinic.records.documents import Documents
from clinic.records.encounters import Encounters
from clinic.records.engine import read_transaction, truncate_journal, write_transaction
from clinic.records.factors import SecondFactors
from clinic.records.generations import Generations
from clinic.records.invitations import Invitations
from clinic.records.live_texts import LiveTexts
from clinic.records.moments import Moments
from clinic.records.notes import Notes
from clinic.records.passkeys import Passkeys
from clinic.records.patients import Patients
from clinic.records.recordings import Recordings
from clinic.records.recovery import RecoveryCodes
from clinic.records.scrub import scrub
from clinic.records.shredding import Shredded, Shredding
from clinic.records.standing import Standing, require_for, required_roles, standing
from clinic.records.sweep import Finding, sweep
from clinic.records.tokens import Tokens
from clinic.records.transcripts import Transcripts
from clinic.records.users import User, Users
from clinic.records.uses import Usage, usage
from clinic.records.work import Parts, UnitOfWork


class Transaction:
    """The repositories of one transaction."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work
        self.key_uses = work.uses
        self.users = Users(work)
        self.factors = SecondFactors(work)
        self.recovery = RecoveryCodes(work)
        self.passkeys = Passkeys(work)
        self.invitations = Invitations(work)
        self.patients = Patients(work)
        self.encounters = Encounters(work)
        self.recordings = Recordings(work)
        self.live_texts = LiveTexts(work)
        self.moments = Moments(work)
        self.transcripts = Transcripts(work)
        self.generations = Generations(work)
        self.notes = Notes(work)
        self.documents = Documents(work)
        self.shredding = Shredding(work)
        self.tokens = Tokens(work)
        self.answers = Answers(work)

    def standing(self, user: User) -> Standing:
        """Return what an account has beside its password, and what it has to have."""
        return standing(self._work, user)

    def factor_roles(self) -> frozenset[Role]:
        """Return the roles that have to have a second factor."""
        return required_roles(self._work)

    def require_factor_for(self, roles: Iterable[Role], actor: Actor) -> bool:
        """Let exactly these roles have to have a second factor; return whether that is a change."""
        return require_for(self._work, roles, actor)

    def append(
        self, event: AuditEvent, *, actor: Actor, patient_id: str | None = None, detail: Detail | None = None
    ) -> Entry:
        """Append an audit event in this transaction; it is committed with everything else or not at all.

        With `patient_id` it gets a part sealed under this patient's key: `detail`, or a `PatientLink`.
        """
        return self._work.append(event, actor=actor, patient_id=patient_id, detail=detail)

    def detail(self, entry: Entry, patient_id: str) -> Detail:
        """Open the sealed part of an audit entry.

        Raises:
            DecryptionError: the entry has no sealed part, or it is not this patient's.
            RecordError: `record_unknown`, or `patient_shredded` once the patient's key is destroyed.
        """
        return self._work.detail(entry, patient_id)

    def about(self, patient_id: str, entries: Iterable[Entry]) -> Iterator[tuple[Entry, Detail]]:
        """Yield those entries whose sealed part is about this patient, with what it says.

        Raises:
            RecordError: `record_unknown`, or `patient_shredded` once the patient's key is destroyed.
        """
        for entry in entries:
            if entry.sealed is not None:
                try:
                    detail = self._work.detail(entry, patient_id)
                except DecryptionError:
                    continue  # another patient's
                yield entry, detail


class Records:
    """The store of one data folder, unlocked.

    Args:
        engine: from `open_engine`, its schema current (`migrate.check_current`).
        keyring: the clinic's keys.
        clock: the present time.
        hasher: how passwords are hashed; tests pass a cheap one.
        guard: the latch of the data folder; by default one with the usual limits.
        sink: the second copy of the audit log, if there is one.
        rhythm: when a checkpoint of the audit log is kept; without it, none is kept unasked.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        keyring: Keyring,
        clock: Clock = utc_now,
        hasher: PasswordHasher | None = None,
        guard: Guard | None = None,
        sink: SecondSink | None = None,
        rhythm: Rhythm | None = None,
    ) -> None:
        self._engine = engine
        self.clock = clock
        path = Path(engine.url.database or "")
        # No closure over `self`, and so no cycle: the keys go with the last reference, not with the next collection.
        self.guard = watching = guard or Guard(path.parent)
        self.audit = AuditLog(
            lambda: write_transaction(engine, watching),
            pseudonym_key=keyring.derive(Purpose.AUDIT_PSEUDONYM),
            signing_seed=keyring.derive(Purpose.AUDIT_SIGNING),
            clock=clock,
            read=lambda: read_transaction(engine),
            path=path,
            guard=self.guard,
            sink=sink,
            rhythm=rhythm,
        )
        self.policy_seed = keyring.derive(Purpose.POLICY_SIGNING)
        self._parts = Parts(keyring=keyring, audit=self.audit, clock=clock, hasher=hasher or PasswordHasher())

    def __repr__(self) -> str:
        """Name the file only."""
        return f"Records({self._engine.url.database!r})"

    def close(self) -> None:
        """Close the database; the next use opens it again."""
        self._engine.dispose()
        if self.audit.sink is not None:
            self.audit.sink.close()

    @contextmanager
    def write(self, *, closing: bool = False) -> Iterator[Transaction]:
        """Yield a transaction that is committed at the end of the block, or rolled back by any exception.

        `closing`: it only ends what was under way, and so may use the disk reserve.

        Raises:
            AuditLatchedError: the audit log is latched, before or by the commit; see `audit.guard`.
        """
        with self._write(closing=closing) as work:
            yield Transaction(work)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Yield a transaction that cannot write."""
        with read_transaction(self._engine) as connection, self._work(connection, writable=False) as work:
            yield Transaction(work)

    def sign_in(self, username: str, password: str, *, device: login.DeviceOf | None = None) -> login.SignIn:
        """Return the account if name and password fit; its own transactions, so that a refusal is committed too.

        Raises:
            AuthenticationError: `login_failed`, or `login_locked` while too many failures are recent.
        """
        return login.sign_in(self._write, username, password, hasher=self._parts.hasher, device=device)

    def authenticate(self, username: str, password: str) -> User:
        """Return the account if name and password fit, as `sign_in`, where no session begins."""
        return self.sign_in(username, password).user

    def finish_sign_in(self, user: User, code: str, *, device: str | None = None) -> User:
        """Sign an account in whose password was right, if this is a code of its second factor.

        Raises:
            AuthenticationError: as `factors.finish_sign_in`.
        """
        return factors.finish_sign_in(self._write, user, code, device=device)

    def sign_in_by_passkey(self, answer: dict[str, Any], *, site: passkeys.Site, challenge: bytes) -> User:
        """Sign in whoever's passkey has answered; its own transaction, so that a refusal is committed too.

        Raises:
            AuthenticationError: `passkey_refused`.
        """
        return passkeys.sign_in(self._write, answer, site=site, challenge=challenge)

    def redeem(self, username: str, code: str, password: str) -> User:
        """Set the password of the account that a one-time code was made for; its own transactions.

        Raises:
            InputError: `weak_password`.
            AuthenticationError: `invitation_refused` or `login_locked`.
        """
        return invitations.redeem(self._write, username, code, password)

    def set_up(self, code: str, *, username: str, display_name: str, password: str) -> User:
        """Make the first administrator; its own transactions.

        Raises:
            InputError: `weak_password`, or a name that cannot be used.
            AuthenticationError: `invitation_refused` or `login_locked`.
        """
        return invitations.set_up(self._write, code, username=username, display_name=display_name, password=password)

    def confirm(self, user: User, *, password: str, device: str | None = None) -> None:
        """Let somebody who is signed in prove by the password that it is still they.

        Raises:
            AuthenticationError: `login_failed` or `login_locked`.
        """
        login.confirm_password(self._write, user, password, hasher=self._parts.hasher, device=lambda _: device)

    def confirm_by_code(self, user: User, code: str, *, device: str | None = None) -> None:
        """Let somebody who is signed in prove by a code of the second factor that it is still they.

        Raises:
            AuthenticationError: as `factors.prove`.
        """
        factors.confirm_code(self._write, user, code, device=device)

    def enrol_factor(self, code: str, *, actor: Actor) -> None:
        """Let the actor's new second factor count, if this is its code.

        Raises:
            AuthenticationError: `factor_missing`, `factor_wrong` or `factor_locked`.
        """
        factors.enrol(self._write, actor, code)

    def break_glass(self, encounter_id: str, *, reason: GlassReason, code: str, actor: Actor) -> Entry:
        """Break the glass for one encounter; its own transactions, so that a refusal is committed too.

        Raises:
            AuthenticationError: `not_allowed`, `factor_missing`, `factor_wrong`, `factor_used` or `factor_locked`.
            RecordError: `record_unknown`, `patient_shredded` or `note_locked`.
        """
        return glass.break_glass(self._write, encounter_id, reason=reason, code=code, actor=actor)

    def usage(self) -> Usage:
        """Return how often each key has sealed something."""
        with read_transaction(self._engine) as connection:
            return usage(connection)

    def shred(self, patient_id: str, *, reason: ShredReason, actor: Actor) -> Shredded:
        """Destroy a patient's record, then take the last bytes of its key out of the files.

        Once this returns the record is destroyed; where the second step cannot be done now, `finished` says so, and the
        worker or the next start does it (`finish_shredding`).

        Raises:
            RecordError: `record_unknown`, or `patient_shredded` if it is destroyed already.
            StorageError: the disk refused; nothing is destroyed.
        """
        with self.write() as tx:
            held = tx.shredding.shred(patient_id, reason=reason, actor=actor)
        try:
            self.finish_shredding()
        except StorageError:
            return Shredded(held, finished=False)
        return Shredded(held, finished=True)

    def finish_shredding(self) -> int:
        """Take out of the files what is left of the keys of shredded patients; return of how many there was something.

        Raises:
            StorageError: `journal_busy` if a reader keeps an older state in use for too long; the disk refused.
        """
        with self.read() as tx:
            patients = tx.shredding.unfinished()
        if patients:
            scrub(self._engine)
            with self.write() as tx:
                tx.shredding.finish(patients)
        return len(patients)

    def truncate_journal(self) -> None:
        """Move everything committed into the database file and empty the write-ahead log.

        Raises:
            StorageError: `journal_busy` if a reader keeps an older state in use for too long.
        """
        truncate_journal(self._engine)

    def sweep(self, *, deep: bool = False) -> tuple[Finding, ...]:
        """Compare the whole database with the audit log, and open what is sealed; audio too if `deep`."""
        with read_transaction(self._engine) as connection, self._work(connection, writable=False) as work:
            return sweep(work, self.audit, deep=deep)

    @contextmanager
    def _write(self, *, closing: bool = False) -> Iterator[UnitOfWork]:
        with (
            write_transaction(self._engine, self.guard, closing=closing) as connection,
            self._work(connection, writable=True) as work,
        ):
            yield work
        if work.appended is not None:
            self.audit.committed(work.appended)

    @contextmanager
    def _work(self, connection: Connection, *, writable: bool) -> Iterator[UnitOfWork]:
        work = UnitOfWork(connection, self._parts, writable=writable)
        try:
            yield work
            work.finish()
        finally:
            work.close()
