"""Logging in."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from clinic.audit.events import AuditVerified
from clinic.crypto.keys import Keyring
from clinic.domain import OPERATOR, Role
from clinic.errors import AuditLatchedError, AuthenticationError, DecryptionError
from clinic.records import login, passwords
from clinic.records.engine import open_engine
from clinic.records.records import Records
from clinic.records.users import User
from tests.unit.records.records_world import ADMINISTRATOR, HASHER, FrozenClock, event_names

PASSWORD = "correct horse battery"
WRONG = "wrong horse battery"


@pytest.fixture
def ann(records: Records) -> User:
    """An account."""
    with records.write() as tx:
        return tx.users.create("ann", display_name="Ann", role=Role.CLINICIAN, password=PASSWORD, actor=OPERATOR)


def refused(records: Records, username: str = "ann", password: str = WRONG) -> str:
    """Try to log in and return the code of the refusal."""
    with pytest.raises(AuthenticationError) as caught:
        records.authenticate(username, password)
    return caught.value.code


def test_name_and_password_open(records: Records, ann: User) -> None:
    """The name in any case, the password exactly; the success is recorded as the account's own."""
    assert records.authenticate(" ANN ", PASSWORD) == ann
    last = list(records.audit.entries())[-1]
    assert (last.event, last.actor) == ("login.succeeded", ann.id)


def test_a_password_is_the_same_however_it_is_composed(records: Records) -> None:
    """An accent typed as one character or as two is one password."""
    with records.write() as tx:
        tx.users.create("bo", display_name="Bo", role=Role.AUDITOR, password="caf\u00e9 au lait!", actor=OPERATOR)
    assert records.authenticate("bo", "cafe\u0301 au lait!").username == "bo"


def test_a_failure_is_committed_although_it_raises(records: Records, ann: User) -> None:
    """Count and audit event are there after the error."""
    assert refused(records) == "login_failed"
    last = list(records.audit.entries())[-1]
    assert (last.event, last.actor, last.body) == (
        "login.failed",
        ann.id,
        f'{{"reason":"login_failed","user_id":"{ann.id}"}}'.encode(),
    )


def test_an_unknown_name_fails_alike(records: Records, ann: User) -> None:
    """Same code and message as a wrong password; the event names nobody."""
    del ann
    with pytest.raises(AuthenticationError) as known:
        records.authenticate("ann", WRONG)
    with pytest.raises(AuthenticationError) as unknown:
        records.authenticate("nobody", WRONG)
    assert (str(known.value), known.value.code, known.value.hint) == (
        str(unknown.value),
        unknown.value.code,
        unknown.value.hint,
    )
    assert b'"user_id":"unknown"' in list(records.audit.entries())[-1].body


def test_an_unknown_name_costs_the_same_work(records: Records, ann: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2 runs exactly once, under the same parameters, whether there is an account or not."""
    del ann
    hashes: list[str] = []
    verify = PasswordHasher.verify

    def watched(hasher: PasswordHasher, stored: str, password: str) -> bool:
        hashes.append(stored)
        return verify(hasher, stored, password)

    monkeypatch.setattr(PasswordHasher, "verify", watched)
    refused(records, "ann")
    refused(records, "nobody")
    assert len(hashes) == 2
    parameters = [stored.split("$")[:4] for stored in hashes]
    assert parameters[0] == parameters[1]


def test_the_decoys_password_opens_nothing() -> None:
    """Knowing what the decoy hash was made of is no way in."""
    assert not passwords.verify(HASHER, None, "nobody's password")


def test_a_disabled_account_fails_alike(records: Records, ann: User) -> None:
    """The right password of a closed account is refused with the usual words; the log knows why."""
    with records.write() as tx:
        tx.users.disable("ann", ADMINISTRATOR)
    assert refused(records, password=PASSWORD) == "login_failed"
    last = list(records.audit.entries())[-1]
    assert (last.actor, b"user_disabled" in last.body) == (ann.id, True)


@pytest.mark.parametrize("name", ["ann", "nobody"])
def test_five_failures_begin_a_growing_wait(records: Records, ann: User, clock: FrozenClock, name: str) -> None:
    """30 seconds after the fifth failure, then doubling to 15 minutes; names without an account alike."""
    del ann
    for _ in range(5):
        assert refused(records, name) == "login_failed"
    for seconds in (30, 60, 120, 240, 480, 900, 900):
        assert refused(records, name) == "login_locked"
        clock.advance(seconds=seconds - 1)
        assert refused(records, name) == "login_locked"
        clock.advance(seconds=1)
        assert refused(records, name) == "login_failed"


def test_the_right_password_waits_too(records: Records, ann: User, clock: FrozenClock) -> None:
    """While the account waits, even the right password is refused; afterwards it opens and all is forgiven."""
    for _ in range(5):
        refused(records)
    assert refused(records, password=PASSWORD) == "login_locked"
    clock.advance(seconds=30)
    assert records.authenticate("ann", PASSWORD) == ann
    for _ in range(4):
        assert refused(records) == "login_failed"
    assert records.authenticate("ann", PASSWORD) == ann


def test_failures_are_per_account(records: Records, ann: User) -> None:
    """Somebody who tries one account does not lock another."""
    for _ in range(6):
        refused(records, "nobody")
    assert records.authenticate("ann", PASSWORD) == ann


def test_old_failures_are_forgotten(records: Records, ann: User, clock: FrozenClock) -> None:
    """After a day without a failure the count begins anew."""
    del ann
    for _ in range(4):
        refused(records)
    clock.advance(hours=25)
    for _ in range(5):
        assert refused(records) == "login_failed"
    assert refused(records) == "login_locked"


def test_a_clock_set_back_locks_nobody_for_long(records: Records, ann: User, clock: FrozenClock) -> None:
    """A wait longer than the longest one comes from a changed clock and does not count.

    The audit log stops everything first; once it is cleared, sign-in goes on.
    """
    for _ in range(5):
        refused(records)
    clock.advance(days=-365)
    with pytest.raises(AuditLatchedError):
        records.audit.append(AuditVerified(entries=1), actor=ADMINISTRATOR)
    assert records.audit.clear(actor=ADMINISTRATOR).ok
    assert records.authenticate("ann", PASSWORD) == ann


def test_a_new_password_forgives_failures(records: Records, ann: User) -> None:
    """An administrator's reset ends the wait."""
    for _ in range(5):
        refused(records)
    with records.write() as tx:
        tx.users.reset_password("ann", "staple staple gun", ADMINISTRATOR)
    assert records.authenticate("ann", "staple staple gun").id == ann.id


def test_the_wait_never_overflows() -> None:
    """Any number of failures gives a wait of at most 15 minutes."""
    assert [login.waiting_time(n) for n in (0, 4, 5, 6)] == [timedelta(seconds=s) for s in (0, 0, 30, 60)]
    assert login.waiting_time(10**9) == timedelta(minutes=15)


def test_attempts_at_once_gain_nothing(records: Records, ann: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty attempts that all start before the first has ended get five tries, not twenty."""
    del ann
    started = threading.Barrier(20)
    codes: list[str] = []
    tried: list[str] = []
    verify = passwords.verify

    def counted(hasher: PasswordHasher, stored: str | None, password: str) -> bool:
        tried.append(password)
        return verify(hasher, stored, password)

    monkeypatch.setattr(passwords, "verify", counted)

    def attempt() -> None:
        started.wait()
        codes.append(refused(records))

    threads = [threading.Thread(target=attempt) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tried) == 5
    assert sorted(codes) == ["login_failed"] * 5 + ["login_locked"] * 15


def test_no_transaction_is_open_while_argon2_works(
    records: Records, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others can write while a password is checked."""
    verify = passwords.verify

    def meanwhile(hasher: PasswordHasher, stored: str | None, password: str) -> bool:
        with records.write() as tx:
            tx.users.logged_out(ann)
        return verify(hasher, stored, password)

    monkeypatch.setattr(passwords, "verify", meanwhile)
    assert records.authenticate("ann", PASSWORD) == ann


def test_a_password_changed_meanwhile_does_not_open(
    records: Records, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the password is reset while the old one is being checked, the old one is refused."""
    del ann
    verify = passwords.verify

    def meanwhile(hasher: PasswordHasher, stored: str | None, password: str) -> bool:
        with records.write() as tx:
            tx.users.reset_password("ann", "staple staple gun", ADMINISTRATOR)
        return verify(hasher, stored, password)

    monkeypatch.setattr(passwords, "verify", meanwhile)
    assert refused(records, password=PASSWORD) == "login_failed"


def test_an_old_hash_is_renewed(records: Records, ann: User, database: Path, keyring: Keyring) -> None:
    """A hash under old parameters is replaced when the password is next proved right."""
    stronger = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    engine = open_engine(database)
    today = Records(engine, keyring=keyring, hasher=stronger)
    for _ in range(2):
        assert today.authenticate("ann", PASSWORD).id == ann.id
    with today.read() as tx:
        assert not stronger.check_needs_rehash(tx.users.password_hash(ann.id))
    engine.dispose()
    del records


def test_a_damaged_hash_is_said_to_be_damaged() -> None:
    """A hash that Argon2 cannot read is no wrong password."""
    with pytest.raises(DecryptionError):
        passwords.verify(HASHER, "$argon2id$nonsense", PASSWORD)


def test_unknown_names_cannot_fill_the_disk(records: Records, database: Path) -> None:
    """Names without an account share buckets; none of the names is stored."""
    for number in range(30):
        refused(records, f"canary{number}")
    with closing(sqlite3.connect(database)) as connection:
        subjects = [row[0] for row in connection.execute("SELECT subject FROM login_failures")]
    assert all(len(subject) == len("unknown:0000") for subject in subjects)
    assert not any("canary" in subject for subject in subjects)
    assert set(event_names(records)) == {"login.failed"}


def test_unknown_names_that_look_alike_wait_apart(records: Records) -> None:
    """A wait that another spelling shares would tell that neither is an account."""
    for _ in range(5):
        with pytest.raises(AuthenticationError):
            records.authenticate("no-body", "not the password")
    for name, code in (("no-body", "login_locked"), ("nobody", "login_failed"), ("no.body", "login_failed")):
        with pytest.raises(AuthenticationError) as caught:
            records.authenticate(name, "not the password")
        assert caught.value.code == code, name
