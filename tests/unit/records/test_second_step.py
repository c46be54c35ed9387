"""Signing in with a second factor, recovery codes, roles that have to have one, and devices that are known."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinic.domain import OPERATOR, Role
from clinic.errors import AuthenticationError, DecryptionError
from clinic.records import factors
from clinic.records.records import Records
from clinic.records.recovery import CODES, looks_like_one, plain
from clinic.records.users import User
from tests.unit.records.records_world import FrozenClock, as_thief, event_names

PASSWORD = "correct horse battery"
WRONG = "wrong horse battery"
TABLET = "tablet-1"


class Person:
    """An account with an app that shows codes and with recovery codes."""

    def __init__(self, records: Records, clock: FrozenClock, name: str = "ann") -> None:
        self.records, self.clock, self.steps = records, clock, 0
        with records.write() as tx:
            self.user = tx.users.create(name, display_name=name, role=Role.CLINICIAN, password=PASSWORD, actor=OPERATOR)
            self.phone = pyotp.TOTP(tx.factors.begin(self.user).secret)
        records.enrol_factor(self.code(), actor=self.user.actor)
        with records.write() as tx:
            self.paper = tx.recovery.make(self.user.id, self.user.actor)
        clock.advance(seconds=60)

    def code(self) -> str:
        """Return the code that the phone shows now."""
        return self.phone.at(int(self.clock().timestamp()))

    def wrong(self) -> str:
        """Return six digits that are no code of these minutes."""
        now = int(self.clock().timestamp())
        near = {self.phone.at(now + 30 * step) for step in range(-3, 4)}
        return next(code for code in map("{:06}".format, itertools.count()) if code not in near)

    def refused(self, code: str, device: str | None = None) -> str:
        """Try to finish signing in and return the code of the refusal."""
        with pytest.raises(AuthenticationError) as caught:
            self.records.finish_sign_in(self.user, code, device=device)
        return caught.value.code

    def left(self) -> int:
        """Return how many recovery codes are good."""
        with self.records.read() as tx:
            return tx.standing(self.user).recovery_left


@pytest.fixture
def ann(records: Records, clock: FrozenClock) -> Person:
    """Ann, with app and paper."""
    return Person(records, clock)


def test_the_password_alone_signs_nobody_in(ann: Person, records: Records) -> None:
    """The log says that the factor was asked for, and only after the code that somebody is in."""
    first = records.sign_in("ann", PASSWORD)
    assert (first.user, first.challenged) == (ann.user, True)
    assert event_names(records)[-1] == "login.challenged"
    assert records.finish_sign_in(first.user, ann.code()) == ann.user
    assert event_names(records)[-1] == "login.succeeded"
    assert records.sweep() == ()


def test_without_a_factor_the_password_is_enough(records: Records) -> None:
    """Nothing changes for who has none."""
    with records.write() as tx:
        tx.users.create("bo", display_name="Bo", role=Role.AUDITOR, password=PASSWORD, actor=OPERATOR)
    assert not records.sign_in("bo", PASSWORD).challenged
    assert event_names(records)[-1] == "login.succeeded"


def test_a_code_signs_in_once(ann: Person, records: Records) -> None:
    """The same code again is refused, whatever it was used for first."""
    code = ann.code()
    records.finish_sign_in(ann.user, code)
    assert ann.refused(code) == "factor_used"
    with pytest.raises(AuthenticationError) as caught:
        records.confirm_by_code(ann.user, code)
    assert caught.value.code == "factor_used"


def test_a_recovery_code_signs_in_once(ann: Person, records: Records) -> None:
    """In any case and spacing; the rest stay good; the same one again is wrong."""
    assert ann.left() == CODES == len(set(ann.paper))
    assert records.finish_sign_in(ann.user, f" {ann.paper[0].upper().replace('-', ' ')} ") == ann.user
    assert event_names(records)[-2:] == ["recovery.used", "login.succeeded"]
    assert ann.left() == CODES - 1
    assert ann.refused(ann.paper[0]) == "factor_wrong"
    assert records.finish_sign_in(ann.user, ann.paper[-1]) == ann.user
    assert records.sweep() == ()


def test_new_recovery_codes_replace_the_old(ann: Person, records: Records) -> None:
    """A sheet that was lost is worth nothing once there is another."""
    with records.write() as tx:
        fresh = tx.recovery.make(ann.user.id, ann.user.actor)
    assert ann.refused(ann.paper[3]) == "factor_wrong"
    records.finish_sign_in(ann.user, fresh[3])


def test_a_code_of_somebody_else_is_wrong(ann: Person, records: Records, clock: FrozenClock) -> None:
    """Neither the app's nor the paper's."""
    ben = Person(records, clock, "ben")
    assert ann.refused(ben.paper[0]) == "factor_wrong"
    assert ben.left() == CODES


def test_recovery_codes_go_with_the_factor(ann: Person, records: Records) -> None:
    """Whose factor is removed has no codes either; both are in the log."""
    with records.write() as tx:
        tx.factors.remove(ann.user.id, OPERATOR)
    assert ann.left() == 0
    assert ann.refused(ann.paper[0]) == "factor_wrong"
    assert event_names(records)[-3:-1] == ["factor.removed", "recovery.made"]
    assert not records.sign_in("ann", PASSWORD).challenged
    assert records.sweep() == ()


def test_recovery_codes_do_not_break_the_glass(ann: Person) -> None:
    """Where only the app counts, a recovery code is no code, and stays good."""
    with pytest.raises(AuthenticationError) as caught:
        factors.prove(ann.records._write, ann.user.actor, ann.paper[0], lambda _: None)
    assert caught.value.code == "factor_wrong"
    assert ann.left() == CODES


def test_an_account_that_changed_meanwhile_is_not_signed_in(ann: Person, records: Records) -> None:
    """Disabled, or with a new password, between password and code: the code is not even used up."""
    first = records.sign_in("ann", PASSWORD)
    with records.write() as tx:
        tx.users.reset_password("ann", "another good password", actor=OPERATOR)
    with pytest.raises(AuthenticationError) as caught:
        records.finish_sign_in(first.user, ann.code())
    assert caught.value.code == "signed_out"
    again = records.sign_in("ann", "another good password")
    assert records.finish_sign_in(again.user, ann.code()).id == ann.user.id


def test_guessing_codes_waits_but_not_on_a_known_device(ann: Person, records: Records) -> None:
    """Five wrong codes from elsewhere lock whoever is elsewhere; the own tablet goes on."""
    assert [ann.refused(ann.wrong()) for _ in range(5)] == ["factor_wrong"] * 5
    assert ann.refused(ann.code()) == "factor_locked"
    assert records.finish_sign_in(ann.user, ann.code(), device=TABLET) == ann.user
    ann.clock.advance(seconds=20)
    assert ann.refused(ann.code()) == "factor_locked"


def test_a_known_device_waits_for_its_own_failures(ann: Person) -> None:
    """A tablet that is stolen gains no more guesses than anybody."""
    assert [ann.refused(ann.wrong(), TABLET) for _ in range(5)] == ["factor_wrong"] * 5
    assert ann.refused(ann.code(), TABLET) == "factor_locked"


def known(user: User) -> str | None:
    """Name the tablet for Ann only."""
    return TABLET if user.username == "ann" else None


def test_failing_on_purpose_locks_nobody_out_of_a_known_device(ann: Person, records: Records) -> None:
    """Passwords count in the same way: the account waits everywhere but where it has signed in before."""
    for _ in range(5):
        with pytest.raises(AuthenticationError):
            records.sign_in("ann", WRONG)
    with pytest.raises(AuthenticationError) as caught:
        records.sign_in("ann", PASSWORD)
    assert caught.value.code == "login_locked"
    assert records.sign_in("ann", PASSWORD, device=known).user == ann.user
    with pytest.raises(AuthenticationError) as caught:
        records.sign_in("ann", PASSWORD)
    assert caught.value.code == "login_locked", "the success on the tablet forgives nothing elsewhere"


def test_without_known_devices_anybody_could_lock_her_out(ann: Person, records: Records) -> None:
    """Negative control: a device that is not known for her waits like the rest."""
    for _ in range(5):
        with pytest.raises(AuthenticationError):
            records.sign_in(ann.user.username, WRONG)
    with pytest.raises(AuthenticationError) as caught:
        records.sign_in("ann", PASSWORD, device=lambda _: None)
    assert caught.value.code == "login_locked"


def test_a_role_has_to_have_one_at_once(ann: Person, records: Records) -> None:
    """Who has none owes it from the moment it is said; taken back, nobody does; both are in the log, once."""
    with records.write() as tx:
        bo = tx.users.create("bo", display_name="Bo", role=Role.CLINICIAN, password=PASSWORD, actor=OPERATOR)
        assert not tx.standing(bo).owes_factor
        assert tx.require_factor_for([Role.CLINICIAN, Role.AUDITOR], OPERATOR)
        assert not tx.require_factor_for([Role.AUDITOR, Role.CLINICIAN], OPERATOR)
        assert tx.factor_roles() == {Role.CLINICIAN, Role.AUDITOR}
        assert (tx.standing(bo).owes_factor, tx.standing(ann.user).owes_factor) == (True, False)
    assert event_names(records).count("factor.required") == 1
    assert records.sweep() == ()
    with records.write() as tx:
        assert tx.require_factor_for([], OPERATOR)
        assert not tx.standing(bo).owes_factor
    assert records.sweep() == ()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("DELETE FROM factor_roles", ("missing", "factor_role", "clinician")),
        ("INSERT INTO factor_roles VALUES ('auditor', '2026-01-01T00:00:00.000000Z')",
         ("unrecorded", "factor_role", "auditor")),
    ],
    ids=["taken-out", "put-in"],
)  # fmt: skip
def test_a_rule_that_the_log_does_not_know_is_found(
    ann: Person, records: Records, database: Path, change: str, found: tuple[str, str, str]
) -> None:
    """Whoever lifts the requirement in the file, past the log, is found by the sweep."""
    with records.write() as tx:
        tx.require_factor_for([ann.user.role], OPERATOR)
    as_thief(database, change)
    assert [(f.problem, f.kind, f.id) for f in records.sweep()] == [found]


def test_used_recovery_codes_cannot_be_put_back(ann: Person, records: Records, database: Path) -> None:
    """The older list, with the code that was used since, does not open in the newer row."""
    with closing(sqlite3.connect(database)) as db:
        (old,) = db.execute("SELECT codes FROM recovery_codes").fetchone()
    records.finish_sign_in(ann.user, ann.paper[0])
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("UPDATE recovery_codes SET codes = ?", (old,))
    with pytest.raises(DecryptionError):
        records.finish_sign_in(ann.user, ann.paper[0])


@pytest.mark.parametrize("what", ["recovery", "invitation"])
def test_many_at_once_use_a_code_once(ann: Person, records: Records, what: str) -> None:
    """Four threads with the same right code: one gets through."""
    with records.write() as tx:
        invitation = tx.invitations.make(ann.user.id, OPERATOR)
    done: list[str] = []

    def attempt() -> None:
        try:
            if what == "recovery":
                records.finish_sign_in(ann.user, ann.paper[0])
            else:
                records.redeem("ann", invitation, "a password of my own")
            done.append("in")
        except AuthenticationError as error:
            done.append(error.code)

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refusal = "factor_wrong" if what == "recovery" else "invitation_refused"
    assert sorted(done) == sorted(["in", *[refusal] * 3])
    assert records.sweep() == ()


def test_ending_all_sessions_is_recorded(ann: Person, records: Records) -> None:
    """The epoch moves, and the log says so."""
    with records.write() as tx:
        ended = tx.users.end_sessions(ann.user.id, OPERATOR)
    assert ended.session_epoch == ann.user.session_epoch + 1
    assert event_names(records)[-1] == "sessions.ended"
    assert records.sweep() == ()


def test_confirming_does_not_sign_in(ann: Person, records: Records) -> None:
    """By the password or by a code: the log tells which; a wrong password says so and nothing of the name."""
    records.confirm(ann.user, password=PASSWORD)
    records.confirm_by_code(ann.user, ann.code())
    events = list(records.audit.entries())[-2:]
    assert [(e.event, b'"password"' in e.body, b'"code"' in e.body) for e in events] == [
        ("login.confirmed", True, False),
        ("login.confirmed", False, True),
    ]
    with pytest.raises(AuthenticationError, match="not your password"):
        records.confirm(ann.user, password=WRONG)


@given(st.text(max_size=24))
def test_whatever_is_typed_is_looked_at(typed: str) -> None:
    """No text breaks the reading of a recovery code; six digits are never taken for one."""
    assert looks_like_one(typed) == (
        len(plain(typed)) == 10 and set(plain(typed)) <= set("23456789abcdefghjkmnpqrstuvwxyz")
    )
    assert not looks_like_one("123 456")
