"""Everything that can go wrong with the log, by every door: refused, latched, still refused afterwards, then cleared.

Each cell of the matrix (failing mode x web request, worker job, command) ends with a verification that lets work go on;
the control is the same matrix with the guard taken out, in which each cell has to fail.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, Engine, event

from clinic.app import create_app
from clinic.audit import reserve as reserve_module
from clinic.audit.guard import Guard
from clinic.audit.latch import MARKER, Latch, Reason, read_marker
from clinic.cli import main
from clinic.config import Config
from clinic.domain import OPERATOR, EncounterId, Role, utc_now
from clinic.errors import AuditError
from clinic.home import open_records, unlock_home
from clinic.records.engine import open_engine
from clinic.records.records import Records
from tests.functional.test_audit_first import FakeGenerator, dictate, run
from tests.functional.web_world import HASHER, Browser, Uptime, WebServices

NAME: Final = "Ada Byron"
Answer = Literal["done", "refused"]

FIRST: Final = frozenset({"audit_latched", "audit_damaged", "audit_unavailable"})
"""What the one who meets the failure may be told."""

LATER: Final = frozenset({"audit_latched"})
"""What everybody is told from then on."""


@dataclass
class Site:
    """A data folder with a patient, whose encounter waits for its note."""

    config: Config
    patient: str
    encounter: EncounterId
    elsewhere: Path

    def records(self) -> Records:
        """Return the records as a process sees them that starts now."""
        return open_records(self.config, unlock_home(self.config))


@pytest.fixture
def site(home_template: Path, tmp_path: Path) -> Site:
    """A lock is borne for no time, and the second copy is required: so that each mode can be met at once."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    shutil.copytree(home_template, home)
    elsewhere.mkdir()
    with (home / "clinic.toml").open("a", encoding="utf-8") as toml:
        toml.write(f'\n[audit]\nlock_limit_s = 0\nsecond_sink = "{elsewhere}/copy"\nsecond_sink_mode = "required"\n')
    config = Config.load(home)
    records = open_records(config, unlock_home(config))
    encounter = dictate(records, name=NAME)
    with records.read() as tx:
        patient = tx.encounters.get(encounter).patient_id
    records.close()
    return Site(config, patient, encounter, elsewhere)


# --- doors --------------------------------------------------------------------------------------------


class Web:
    """A clinician looks at a patient."""

    def __init__(self, site: Site) -> None:
        keyring = unlock_home(site.config)
        audited = open_records(site.config, keyring)
        self._path = f"/patients/{site.patient}"
        records = Records(
            open_engine(site.config.database),
            keyring=keyring,
            hasher=HASHER,
            guard=audited.guard,
            sink=audited.audit.sink,
        )
        self._browser = Browser(create_app(WebServices(site.config, records), clock=Uptime()).test_client())
        if audited.guard.current() is None:
            assert self._browser.sign_in(Role.CLINICIAN.value).status_code == 302
            assert self.act() == "done"

    def act(self) -> Answer:
        """Ask for the page; health answers whatever happens."""
        response = self._browser.get(self._path)
        assert self._browser.get("/health").status_code == 200
        if response.status_code == 200:
            assert NAME in response.text
            return "done"
        assert response.status_code == 503
        assert "audit_latched" in response.text
        assert "To go on" in response.text
        assert NAME not in response.text
        return "refused"


class Job:
    """The worker generates a note."""

    def __init__(self, site: Site) -> None:
        self.codes = FIRST
        self._site, self._records = site, site.records()
        if self._records.guard.current() is None:
            with self._records.write() as tx:
                tx.patients.list(actor=OPERATOR)

    def act(self) -> Answer:
        """Run the flow; a refusal means that the model was not asked."""
        generator, refusals = FakeGenerator(), list[str]()
        try:
            run(self._site.config, self._records, generator, self._site.encounter)
        except AuditError as error:
            refusals.append(error.code)
        assert len(generator.history) == 1 - len(refusals)
        assert set(refusals) <= self.codes
        self.codes = LATER
        return "refused" if refusals else "done"


class Command:
    """The operator lists the patients at the terminal; the clinic runs beside it."""

    def __init__(self, site: Site) -> None:
        self.codes = FIRST
        self._site, self._clinic = site, site.records()
        if self._clinic.guard.current() is None:
            self._touch()

    def _touch(self) -> None:
        with self._clinic.write() as tx:
            tx.patients.list(actor=OPERATOR)

    def meet(self) -> None:
        """Let the running clinic meet what a process that writes one entry only cannot: that others are gone."""
        with pytest.raises(AuditError):
            self._touch()

    def act(self) -> Answer:
        """Run the command."""
        done = CliRunner().invoke(main, ["patient", "list", "--json", "--home", str(self._site.config.home)])
        if done.exit_code == 0:
            assert NAME in done.stdout
            return "done"
        assert json.loads(done.stdout)["error"]["code"] in self.codes
        self.codes = LATER
        assert NAME not in done.output
        return "refused"


DOORS: Final = (Web, Job, Command)

# --- failing modes ------------------------------------------------------------------------------------

Fault = Callable[[Site], AbstractContextManager[None]]


def sqlite_error(code: int) -> sqlite3.OperationalError:
    """Return an error as the driver raises it."""
    error = sqlite3.OperationalError("forced")
    error.sqlite_errorcode = code
    return error


def writes(connection: Connection) -> bool:
    """Tell whether this connection was opened to write."""
    return bool(connection.get_execution_options().get("clinic_begin") == "BEGIN IMMEDIATE")


def refused_insert(code: int) -> Fault:
    """Return the fault: SQLite refuses each new entry with this code."""

    @contextmanager
    def fault(_site: Site) -> Iterator[None]:
        def refuse(_conn: object, _cursor: object, statement: str, *_: object) -> None:
            if statement.startswith("INSERT INTO audit_entries"):
                raise sqlite_error(code)

        event.listen(Engine, "before_cursor_execute", refuse)
        try:
            yield
        finally:
            event.remove(Engine, "before_cursor_execute", refuse)

    return fault


@contextmanager
def failed_sync(_site: Site) -> Iterator[None]:
    """The entry is written, and its sync fails."""

    def refuse(connection: Connection) -> None:
        if writes(connection):  # who reads syncs nothing
            raise sqlite_error(sqlite3.SQLITE_IOERR_FSYNC)

    event.listen(Engine, "commit", refuse)
    try:
        yield
    finally:
        event.remove(Engine, "commit", refuse)


def taken_away(*, replaced: bool) -> Fault:
    """Return the fault: under the open connection the file is moved away, and perhaps another one put there."""

    @contextmanager
    def fault(site: Site) -> Iterator[None]:
        path, aside = site.config.database, site.elsewhere / "clinic.db"

        def take(connection: Connection) -> None:
            if writes(connection) and not aside.exists():
                path.rename(aside)
                if replaced:
                    shutil.copy(aside, path)

        event.listen(Engine, "begin", take)
        try:
            yield
        finally:
            event.remove(Engine, "begin", take)
            aside.replace(path)

    return fault


@contextmanager
def broken_open(site: Site) -> Iterator[sqlite3.Connection]:
    """Somebody has the file in hand: triggers are no obstacle, and are put back."""
    with closing(sqlite3.connect(site.config.database, isolation_level=None)) as db:
        found = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit_entries'")
        triggers = found.fetchall()
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        yield db
        for _, sql in triggers:
            db.execute(sql)


@contextmanager
def changed_entry(site: Site) -> Iterator[None]:
    """The last entry is changed in place."""
    swap = "UPDATE audit_entries SET role = ? WHERE seq = (SELECT max(seq) FROM audit_entries)"
    with broken_open(site) as db:
        (role,) = db.execute("SELECT role FROM audit_entries ORDER BY seq DESC LIMIT 1").fetchone()
        db.execute(swap, ("auditor",))
    try:
        yield
    finally:
        with broken_open(site) as db:
            db.execute(swap, (role,))


@contextmanager
def entries_gone(site: Site) -> Iterator[None]:
    """The last two entries are removed: the copy would tell, too, so it is set back with them."""
    copy, whole = site.elsewhere / "copy", (site.elsewhere / "copy").read_bytes()
    with broken_open(site) as db:
        rows = db.execute("SELECT * FROM audit_entries ORDER BY seq DESC LIMIT 2").fetchall()
        db.execute("DELETE FROM audit_entries WHERE seq >= ?", (rows[-1][0],))
    copy.write_bytes(b"".join(whole.splitlines(keepends=True)[:-2]))
    try:
        yield
    finally:
        with broken_open(site) as db:
            places = ",".join("?" * len(rows[0]))
            db.execute("DELETE FROM audit_entries WHERE seq >= ?", (rows[-1][0],))
            db.executemany(f"INSERT INTO audit_entries VALUES ({places})", reversed(rows))  # noqa: S608 - question marks
        copy.write_bytes(whole)


@contextmanager
def little_room(_site: Site) -> Iterator[None]:
    """Less is free than the reserve."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reserve_module, "free_bytes", lambda _folder: (64 << 20) - 1)
        yield


@contextmanager
def held_lock(site: Site) -> Iterator[None]:
    """Another program holds the database."""
    with closing(sqlite3.connect(site.config.database, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield
        db.execute("ROLLBACK")


@contextmanager
def clock_back(site: Site) -> Iterator[None]:
    """The last entry is of an hour ahead: the clock was right then, or is now."""
    with site.records().write() as tx:
        tx.patients.list(actor=OPERATOR)
    keyring, audited = unlock_home(site.config), site.records()
    ahead = Records(
        open_engine(site.config.database),
        keyring=keyring,
        clock=lambda: utc_now() + timedelta(hours=1),
        guard=audited.guard,
        sink=audited.audit.sink,
    )
    with ahead.write() as tx:
        tx.patients.list(actor=OPERATOR)
    yield


@contextmanager
def copy_unplugged(site: Site) -> Iterator[None]:
    """The device of the second copy is gone."""
    aside = site.elsewhere.with_name("unplugged")
    site.elsewhere.rename(aside)
    try:
        yield
    finally:
        aside.rename(site.elsewhere)


@contextmanager
def copy_overwritten(site: Site) -> Iterator[None]:
    """The second copy holds something else."""
    copy, whole = site.elsewhere / "copy", (site.elsewhere / "copy").read_bytes()
    copy.write_bytes(b"another log\n")
    try:
        yield
    finally:
        copy.write_bytes(whole)


MODES: Final[dict[str, tuple[Reason, Fault]]] = {
    "write error": (Reason.WRITE_FAILED, refused_insert(sqlite3.SQLITE_IOERR_WRITE)),
    "sync error": (Reason.SYNC_FAILED, failed_sync),
    "disk full": (Reason.DISK_FULL, refused_insert(sqlite3.SQLITE_FULL)),
    "read-only": (Reason.READ_ONLY, refused_insert(sqlite3.SQLITE_READONLY)),
    "file removed": (Reason.FILE_REPLACED, taken_away(replaced=False)),
    "file replaced": (Reason.FILE_REPLACED, taken_away(replaced=True)),
    "last entry changed": (Reason.DAMAGED, changed_entry),
    "sequence gap": (Reason.SEQUENCE_GAP, entries_gone),
    "reserve reached": (Reason.RESERVE_REACHED, little_room),
    "lock held": (Reason.LOCK_HELD, held_lock),
    "clock regress": (Reason.CLOCK_REGRESS, clock_back),
    "second copy fails": (Reason.SINK_FAILED, copy_unplugged),
    "second copy differs": (Reason.SINK_DIFFERS, copy_overwritten),
}


def check(site: Site, mode: str, kind: type[Web | Job | Command]) -> None:
    """Meet the fault at one door: refused, latched for that reason, refused by all doors after it, until cleared."""
    reason, fault = MODES[mode]
    door = kind(site)
    with fault(site):
        if isinstance(door, Command) and reason is Reason.SEQUENCE_GAP:
            door.meet()
        assert door.act() == "refused"
        latch = read_marker(site.config.home / MARKER)
        assert latch is not None
        assert latch.reason is reason
    assert door.act() == "refused"
    for other in DOORS:
        assert other(site).act() == "refused"  # as after a restart
    records = site.records()
    records.guard.reserve.ensure()
    assert records.audit.clear(actor=OPERATOR).ok
    assert [entry.event for entry in records.audit.entries()][-2:] == ["audit.latched", "audit.cleared"]
    assert kind(site).act() == "done"


@pytest.fixture
def open_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The defence taken out: nothing is remembered, nothing is asked."""
    latch = Latch("0" * 32, Reason.UNKNOWN, "2026-01-02T03:04:05.678Z")
    monkeypatch.setattr(Guard, "current", lambda _guard: None)
    monkeypatch.setattr(Guard, "require_open", lambda _guard, **_: None)
    monkeypatch.setattr(Guard, "latch", lambda _guard, _reason: latch)
    monkeypatch.setattr(Guard, "regress_ms", lambda *_: 0)


@pytest.mark.parametrize("kind", DOORS)
@pytest.mark.parametrize("mode", MODES)
def test_refused_latched_and_cleared(site: Site, mode: str, kind: type[Web | Job | Command]) -> None:
    """Each cell of the matrix."""
    check(site, mode, kind)


@pytest.mark.usefixtures("open_guard")
@pytest.mark.parametrize("kind", DOORS)
@pytest.mark.parametrize("mode", MODES)
def test_without_the_guard_each_cell_fails(site: Site, mode: str, kind: type[Web | Job | Command]) -> None:
    """Negative control: the same check, with the guard taken out, finds something each time."""
    with pytest.raises(AssertionError):
        check(site, mode, kind)
    assert not os.path.lexists(site.config.home / MARKER)
