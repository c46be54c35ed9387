"""The second factor, and breaking the glass with it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyotp
import pytest

from clinic.audit.entry import Entry
from clinic.audit.glass import is_broken, uses
from clinic.audit.log import AuditLog
from clinic.domain import OPERATOR, Actor, GlassReason, Role, ShredReason
from clinic.errors import AuthenticationError, RecordError
from clinic.records import factors
from clinic.records.encounters import Encounter
from clinic.records.patients import Patient
from clinic.records.records import Records
from clinic.records.users import User
from tests.unit.records.records_world import FrozenClock, as_thief, event_names, open_encounter

PASSWORD = "a good password"


@dataclass
class Ann:
    """A clinician with a phone, before an encounter that somebody else opened."""

    records: Records
    user: User
    phone: pyotp.TOTP
    encounter: Encounter
    clock: FrozenClock

    @property
    def actor(self) -> Actor:
        """Ann as the one who acts."""
        return self.user.actor

    def code(self, steps: int = 0) -> str:
        """Return the code that the phone shows now, or so many steps later."""
        return self.phone.at(int(self.clock().timestamp()) + 30 * steps)

    def breaks(self, code: str | None = None, actor: Actor | None = None) -> Entry:
        """Break the glass, with the code of now."""
        return self.records.break_glass(
            self.encounter.id, reason=GlassReason.EMERGENCY, code=code or self.code(), actor=actor or self.actor
        )

    def refused(self, code: str | None = None, actor: Actor | None = None) -> str:
        """Try to break the glass and return the code of the refusal."""
        with pytest.raises(AuthenticationError) as caught:
            self.breaks(code, actor)
        return caught.value.code

    def holds(self, encounter: Encounter | None = None, actor: Actor | None = None) -> bool:
        """Whether the glass is broken now."""
        of = (actor or self.actor).user_id
        found = (encounter or self.encounter).id
        return is_broken(self.records.audit, actor_id=of, encounter_id=found, now=self.clock())


@pytest.fixture
def newcomer(records: Records, encounter: Encounter, clock: FrozenClock) -> Ann:
    """Ann with a secret on her phone that waits for its first code."""
    with records.write() as tx:
        user = tx.users.create("ann", display_name="Ann", role=Role.CLINICIAN, password=PASSWORD, actor=OPERATOR)
        phone = pyotp.TOTP(tx.factors.begin(user).secret)
    return Ann(records, user, phone, encounter, clock)


@pytest.fixture
def ann(newcomer: Ann) -> Ann:
    """Ann, enrolled a minute ago."""
    newcomer.records.enrol_factor(newcomer.code(), actor=newcomer.actor)
    newcomer.clock.advance(seconds=60)
    return newcomer


def test_a_secret_counts_from_its_first_code_on(newcomer: Ann, records: Records) -> None:
    """Before that the account has no second factor; after it, it has, and both are in the log."""
    assert newcomer.refused() == "factor_missing"
    records.enrol_factor(newcomer.code(), actor=newcomer.actor)
    with records.read() as tx:
        assert tx.factors.is_enrolled(newcomer.user.id)
    assert event_names(records)[-2:] == ["factor.refused", "factor.enrolled"]
    assert records.sweep() == ()


def test_a_secret_that_waited_too_long_does_not_count(newcomer: Ann, records: Records) -> None:
    """Fifteen minutes, then it has to be made again."""
    newcomer.clock.advance(minutes=15)
    with pytest.raises(AuthenticationError) as caught:
        records.enrol_factor(newcomer.code(), actor=newcomer.actor)
    assert caught.value.code == "factor_missing"


def test_the_secret_is_sealed(newcomer: Ann, records: Records, database: Path) -> None:
    """It is in none of the files in the clear; with the key it opens."""
    secret = newcomer.phone.secret.encode()
    assert not [path for path in database.parent.iterdir() if path.is_file() and secret in path.read_bytes()]
    with records.read() as tx:
        assert tx.factors.secret(newcomer.user.id) == newcomer.phone.secret


def test_a_second_factor_is_not_replaced_in_silence(ann: Ann, records: Records) -> None:
    """Whoever has the session alone cannot put their own phone in its place; removing it is recorded."""
    with records.write() as tx, pytest.raises(RecordError) as caught:
        tx.factors.begin(ann.user)
    assert caught.value.code == "factor_enrolled"
    with records.write() as tx:
        assert tx.factors.remove(ann.user.id, actor=OPERATOR)
        assert not tx.factors.remove(ann.user.id, actor=OPERATOR)
    assert event_names(records)[-1] == "factor.removed"
    assert records.sweep() == ()


def test_a_factor_that_the_log_does_not_know_is_found(newcomer: Ann, records: Records, database: Path) -> None:
    """Whoever writes a confirmed factor into the file, past the log, is found by the sweep."""
    as_thief(database, "UPDATE second_factors SET confirmed_at = created_at")
    assert [(f.problem, f.kind) for f in records.sweep()] == [("unrecorded", "factor")]
    assert newcomer.user.id in str(records.sweep())


def test_broken_glass_holds_for_one_actor_one_encounter_and_a_quarter_of_an_hour(ann: Ann, patient: Patient) -> None:
    """The entry is committed before anything can rely on it, and says who, whom, why and how long."""
    assert not ann.holds()
    entry = ann.breaks()
    assert (entry.event, entry.actor) == ("glass.broken", ann.user.id)
    assert b'"minutes":15' in entry.body
    assert b'"reason":"emergency"' in entry.body
    ann.records.audit.confirm(entry)
    assert ann.holds()
    assert not ann.holds(actor=OPERATOR)
    with ann.records.write() as tx:
        other = open_encounter(tx, patient)
    assert not ann.holds(other)
    ann.clock.advance(minutes=15, seconds=-1)
    assert ann.holds()
    ann.clock.advance(seconds=1)
    assert not ann.holds()
    ann.clock.advance(hours=-1)
    assert not ann.holds(), "a clock that was set back to before it does not bring it back"
    (use,) = uses(ann.records.audit)
    assert (use.actor, use.encounter, use.reason, use.relied) == (ann.user.id, ann.encounter.id, "emergency", ())


def test_only_the_last_quarter_of_an_hour_is_looked_at(ann: Ann, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the log, a decision reads the entries that can still count, and none before them."""
    ann.clock.advance(hours=1)
    before = ann.records.audit.size()
    ann.breaks()
    firsts: list[int] = []
    named = AuditLog.named

    def watched(log: AuditLog, *names: str, first: int = 1) -> Iterator[Entry]:
        firsts.append(first)
        return named(log, *names, first=first)

    monkeypatch.setattr(AuditLog, "named", watched)
    assert ann.holds()
    assert firsts == [before + 1]


def test_a_code_is_good_once(ann: Ann) -> None:
    """The same code again is refused, and so is the one of the step before."""
    ann.breaks()
    assert ann.refused() == "factor_used"
    assert ann.refused(ann.code(-1)) == "factor_used"
    assert event_names(ann.records).count("glass.broken") == 1


@pytest.mark.parametrize("steps", [-1, 0, 1])
def test_a_phone_whose_clock_is_off_by_half_a_minute_works(ann: Ann, steps: int) -> None:
    """One step to each side."""
    assert ann.breaks(ann.code(steps)).event == "glass.broken"


@pytest.mark.parametrize("typed", ["", "12345", "1234567", "abcdef", "\u0661\u0662\u0663\u0664\u0665\u0666"], ids=repr)
def test_what_is_no_code_is_refused(ann: Ann, typed: str) -> None:
    """Other lengths, letters, digits of another script."""
    with pytest.raises(AuthenticationError) as caught:
        ann.records.break_glass(ann.encounter.id, reason=GlassReason.ON_CALL, code=typed, actor=ann.actor)
    assert caught.value.code == "factor_wrong"


@pytest.mark.parametrize("steps", [-2, 2])
def test_one_that_is_off_by_more_does_not(ann: Ann, steps: int) -> None:
    """Two steps are too many."""
    assert ann.refused(ann.code(steps)) == "factor_wrong"


def test_guessing_waits(ann: Ann) -> None:
    """After five wrong codes even the right one has to wait; each refusal is in the log, with its reason."""
    near = {ann.code(steps) for steps in range(-2, 4)}
    wrong = next(code for code in map("{:06}".format, itertools.count()) if code not in near)
    assert [ann.refused(wrong) for _ in range(5)] == ["factor_wrong"] * 5
    assert ann.refused() == "factor_locked"
    assert event_names(ann.records)[-6:] == ["factor.refused"] * 6
    ann.clock.advance(seconds=31)
    assert ann.breaks().event == "glass.broken"


def test_many_at_once_use_a_code_once(ann: Ann) -> None:
    """Four threads with the same right code: one breaks the glass, three are refused."""
    code = ann.code()
    done: list[str] = []

    def attempt() -> None:
        try:
            done.append(ann.breaks(code).event)
        except AuthenticationError as error:
            done.append(error.code)

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == ["factor_used", "factor_used", "factor_used", "glass.broken"]


@pytest.mark.parametrize("role", [Role.ADMINISTRATOR, Role.AUDITOR])
def test_only_a_clinician_breaks_it(ann: Ann, role: Role) -> None:
    """Another role is refused before its code is looked at."""
    assert ann.refused(actor=Actor(user_id=ann.user.id, role=role)) == "not_allowed"
    assert "glass.broken" not in event_names(ann.records)


def test_a_destroyed_record_stays_destroyed(ann: Ann, patient: Patient) -> None:
    """For a shredded patient nothing is broken."""
    ann.records.shred(patient.id, reason=ShredReason.PATIENT_REQUEST, actor=OPERATOR)
    with pytest.raises(RecordError) as caught:
        ann.breaks()
    assert caught.value.code == "patient_shredded"
    assert "glass.broken" not in event_names(ann.records)


def test_without_the_kept_step_a_code_would_be_good_twice(ann: Ann, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a step that always counts as new lets the replay through."""
    newer = itertools.count(2**40)
    monkeypatch.setattr(factors, "_step_of", lambda *_: next(newer))
    code = ann.code()
    for _ in range(2):
        ann.breaks(code)
    assert event_names(ann.records).count("glass.broken") == 2
