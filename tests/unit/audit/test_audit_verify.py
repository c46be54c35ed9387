"""Verification: each attack is one or two statements on the file, and the report names the first bad entry."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from clinic.audit import verify
from clinic.audit.checkpoint import Checkpoint, NoteSigner
from clinic.audit.entry import GENESIS, RawEntry, entry_hash
from clinic.audit.events import LoginFailed, NoteSigned, PatientViewed
from clinic.audit.verify import Problem, Start, VerifyReport, verify_log
from clinic.domain import OPERATOR
from clinic.errors import AuditError
from tests.unit.audit.audit_store import DIGEST, OTHER_SEED, PATIENT, SEED, Store, fill, make_store

_COLUMNS = ("seq", "at", "actor", "role", "event", "body", "prev_hash", "hash", "sealed")


def test_a_log_verifies_as_written(filled: Store) -> None:
    """What `append` wrote is what verification accepts."""
    log = filled.log()
    report = log.verify(checkpoint=log.checkpoint())
    assert (report.ok, report.entries, report.first_bad, report.problem) == (True, 10, None, None)
    assert (report.head_hash, report.root) == (log.head().hash, log.head().root)
    assert report.clock_regressions == 0


def test_nothing_is_not_a_log(store: Store) -> None:
    """An empty log does not verify: whoever removes everything must not get a clean report."""
    report = store.log().verify()
    assert (report.ok, report.problem) == (False, Problem.EMPTY)


# --- attacks on the file: triggers dropped, then two lines ------------------------------------------

_SWAP = (
    "UPDATE audit_entries SET seq = 1000 WHERE seq = 4",
    "UPDATE audit_entries SET seq = 4 WHERE seq = 7",
    "UPDATE audit_entries SET seq = 7 WHERE seq = 1000",
)


def _copy(*, source: int, to: int) -> str:
    columns = "at, actor, role, event, body, prev_hash, hash, sealed"
    return f"INSERT INTO audit_entries SELECT {to}, {columns} FROM audit_entries WHERE seq = {source}"  # noqa: S608


_SHIFT = (
    "UPDATE audit_entries SET seq = -seq - 1 WHERE seq > 4",
    "UPDATE audit_entries SET seq = -seq WHERE seq < 0",
)


@pytest.mark.parametrize(
    ("statements", "problem", "first_bad"),
    [
        pytest.param(["UPDATE audit_entries SET body = '{}' WHERE seq = 5"], Problem.CHANGED, 5, id="body"),
        pytest.param(["UPDATE audit_entries SET actor = 'mallory' WHERE seq = 5"], Problem.CHANGED, 5, id="actor"),
        pytest.param(["UPDATE audit_entries SET role = 'auditor' WHERE seq = 1"], Problem.CHANGED, 1, id="role"),
        pytest.param(["UPDATE audit_entries SET at = '2020' || substr(at, 5)"], Problem.CHANGED, 1, id="times"),
        pytest.param(["UPDATE audit_entries SET event = 'log.opened' WHERE seq = 10"], Problem.CHANGED, 10, id="event"),
        pytest.param(["UPDATE audit_entries SET hash = zeroblob(32) WHERE seq = 6"], Problem.CHANGED, 6, id="hash"),
        pytest.param(
            ["UPDATE audit_entries SET prev_hash = zeroblob(32) WHERE seq = 6"], Problem.CHANGED, 6, id="prev"
        ),
        pytest.param(["UPDATE audit_entries SET hash = x'00' WHERE seq = 6"], Problem.MALFORMED, 6, id="short hash"),
        pytest.param(["UPDATE audit_entries SET at = x'ff' WHERE seq = 6"], Problem.CHANGED, 6, id="no text"),
        pytest.param(["UPDATE audit_entries SET sealed = NULL WHERE seq = 5"], Problem.CHANGED, 5, id="unsealed"),
        pytest.param(
            ["UPDATE audit_entries SET sealed = randomblob(40) WHERE seq = 6"], Problem.CHANGED, 6, id="sealed later"
        ),
        pytest.param(
            ["UPDATE audit_entries SET sealed = (SELECT sealed FROM audit_entries WHERE seq = 4) WHERE seq = 5"],
            Problem.CHANGED,
            5,
            id="sealed part of another entry",
        ),
        pytest.param(["UPDATE audit_entries SET sealed = x'00' WHERE seq = 5"], Problem.MALFORMED, 5, id="no seal"),
        pytest.param(["DELETE FROM audit_entries WHERE seq = 5"], Problem.GAP, 5, id="drop"),
        pytest.param(["DELETE FROM audit_entries WHERE seq < 3"], Problem.GAP, 1, id="drop the beginning"),
        pytest.param(
            ["DELETE FROM audit_entries WHERE seq = 5", "UPDATE audit_entries SET seq = seq - 1 WHERE seq > 5"],
            Problem.REORDERED,
            5,
            id="drop and close the gap",
        ),
        pytest.param(_SWAP, Problem.REORDERED, 4, id="swap"),
        pytest.param([_copy(to=11, source=5)], Problem.REORDERED, 11, id="duplicate at the end"),
        pytest.param([*_SHIFT, _copy(to=5, source=3)], Problem.REORDERED, 5, id="duplicate inside"),
        pytest.param([_copy(to=0, source=1)], Problem.MALFORMED, 1, id="before the beginning"),
        pytest.param(["DELETE FROM audit_entries"], Problem.EMPTY, None, id="all gone"),
    ],
)
def test_an_attack_on_the_file_is_named(
    filled: Store, statements: list[str], problem: Problem, first_bad: int | None
) -> None:
    """Without any checkpoint, the report says what is wrong and with which entry first."""
    filled.tamper(*statements)
    report = filled.log().verify()
    assert (report.ok, report.problem, report.first_bad) == (False, problem, first_bad)
    if first_bad is not None:
        assert f"`{first_bad}`" in report.message
        assert report.entries == first_bad - 1


def _rows(path: Path) -> list[RawEntry]:
    columns = ", ".join(f"CAST({column} AS BLOB)" for column in _COLUMNS[1:])
    query = f"SELECT seq, {columns} FROM audit_entries"  # noqa: S608
    with closing(sqlite3.connect(path)) as raw:
        return [RawEntry(*row) for row in raw.execute(query)]


def _write(store: Store, rows: list[RawEntry]) -> None:
    store.tamper("DELETE FROM audit_entries")
    marks = "?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?, ?"
    for row in rows:
        store.tamper(f"INSERT INTO audit_entries VALUES ({marks})", parameters=tuple(row))  # noqa: S608


def _rehashed(row: RawEntry) -> RawEntry:
    return row._replace(hash=entry_hash(row))


def _chained(rows: list[RawEntry]) -> list[RawEntry]:
    """Number and hash rows anew, as an attacker who knows the format and has the file can."""
    done: list[RawEntry] = []
    for seq, row in enumerate(rows, 1):
        done.append(_rehashed(row._replace(seq=seq, prev_hash=done[-1].hash if done else GENESIS)))
    return done


def test_no_row_hides_in_a_table_put_in_place_of_ours(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a table without our key, rows with a number given twice, none, or a text as number are all seen."""
    monkeypatch.setattr("clinic.audit.reading._PAGE", 3)
    columns = "at, actor, role, event, body, prev_hash, hash, sealed"
    filled.tamper("ALTER TABLE audit_entries RENAME TO old", "CREATE TABLE audit_entries AS SELECT * FROM old")
    assert filled.log().verify().ok
    for number in ("3", "10", "NULL", "'x'", "0", "11.5"):
        filled.tamper(
            f"INSERT INTO audit_entries SELECT {number}, {columns} FROM old WHERE seq = 3"  # noqa: S608
        )
        report = filled.log().verify()
        assert not report.ok, number
        filled.tamper("DELETE FROM audit_entries WHERE rowid = 11")


def test_an_entry_changed_with_its_hash_breaks_the_chain(filled: Store) -> None:
    """Who also computes the entry's hash anew is found at the next entry."""
    rows = _rows(filled.path)
    rows[4] = _rehashed(rows[4]._replace(actor=b"mallory"))
    _write(filled, rows)
    report = filled.log().verify()
    assert (report.problem, report.first_bad) == (Problem.CHAIN_BROKEN, 6)


def test_a_forged_entry_between_two_breaks_the_chain(filled: Store) -> None:
    """An inserted entry that is right in itself is found where the old chain goes on."""
    rows = _rows(filled.path)
    forged = _rehashed(rows[4]._replace(seq=6, prev_hash=rows[4].hash, actor=b"mallory"))
    later = [_rehashed(row._replace(seq=row.seq + 1)) for row in rows[5:]]
    _write(filled, [*rows[:5], forged, *later])
    report = filled.log().verify()
    assert (report.problem, report.first_bad) == (Problem.CHAIN_BROKEN, 7)


def test_a_tail_from_another_log_breaks_the_chain(filled: Store, tmp_path: Path) -> None:
    """Entries of another clinic's log do not follow ours."""
    other = make_store(tmp_path / "other.db")
    other.log().append(LoginFailed(user_id="u", reason="login_failed"), actor=OPERATOR)
    fill(other.log(), 9)
    _write(filled, _rows(filled.path)[:6] + _rows(other.path)[6:])
    other.engine.dispose()
    report = filled.log().verify()
    assert (report.problem, report.first_bad) == (Problem.CHAIN_BROKEN, 7)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param({"event": b"patient.cured"}, Problem.UNKNOWN_EVENT, id="unknown event"),
        pytest.param({"event": b"log.opened"}, Problem.MALFORMED, id="body of another event"),
        pytest.param({"body": b'{"note":"free text"}'}, Problem.MALFORMED, id="free text"),
        pytest.param({"role": b"surgeon"}, Problem.MALFORMED, id="unknown role"),
        pytest.param({"actor": b"Jane Doe"}, Problem.MALFORMED, id="a name as actor"),
        pytest.param({"at": b"yesterday"}, Problem.MALFORMED, id="no time"),
    ],
)
def test_a_well_hashed_entry_that_nobody_could_write_is_named(
    filled: Store, change: dict[str, bytes], problem: Problem
) -> None:
    """A whole chain made by hand still may hold nothing but known events in canonical form."""
    rows = _rows(filled.path)
    rows[4] = rows[4]._replace(**change)  # type: ignore[arg-type] # only bytes fields
    _write(filled, _chained(rows))
    report = filled.log().verify()
    assert (report.problem, report.first_bad) == (problem, 5)
    assert "free text" not in report.message
    assert "Jane" not in report.message


# --- what only an earlier checkpoint shows ----------------------------------------------------------


def test_a_truncated_tail_is_found_with_a_checkpoint(filled: Store) -> None:
    """Entries removed from the end leave a valid chain; the checkpoint names the first missing one."""
    checkpoint = filled.log().checkpoint()
    filled.tamper("DELETE FROM audit_entries WHERE seq > 7")
    assert filled.log().verify().ok  # negative control: the chain alone cannot tell
    report = filled.log().verify(checkpoint=checkpoint)
    assert (report.ok, report.problem, report.first_bad) == (False, Problem.TRUNCATED, 8)


def test_a_rolled_back_file_is_found_with_a_checkpoint(filled: Store, tmp_path: Path) -> None:
    """Putting back an older copy of the database is found, also after it has grown past the old size again."""
    backup = tmp_path / "backup.db"
    with closing(sqlite3.connect(filled.path)) as now, closing(sqlite3.connect(backup)) as then:
        now.backup(then)
    log = filled.log()
    log.append(PatientViewed(patient=PATIENT), actor=OPERATOR)
    checkpoint = log.checkpoint()
    _write(filled, _rows(backup))
    assert filled.log().verify(checkpoint=checkpoint).problem is Problem.TRUNCATED
    for _ in range(3):
        filled.log().append(NoteSigned(encounter="e", note="n", version=1, content_sha256=DIGEST), actor=OPERATOR)
    assert filled.log().verify().ok
    assert filled.log().verify(checkpoint=checkpoint).problem is Problem.FORKED


def test_a_rewritten_history_is_found_with_a_checkpoint(filled: Store) -> None:
    """Who hashes the whole chain anew satisfies the chain, but not the checkpoint."""
    checkpoint = filled.log().checkpoint()
    rows = _rows(filled.path)
    rows[4] = rows[4]._replace(actor=b"mallory")
    _write(filled, _chained(rows))
    assert filled.log().verify().ok  # negative control
    report = filled.log().verify(checkpoint=checkpoint)
    assert (report.ok, report.problem, report.first_bad) == (False, Problem.FORKED, None)
    assert "first 10 entries" in report.message


def test_an_older_checkpoint_still_fits_a_grown_log(filled: Store) -> None:
    """Every checkpoint that the log ever signed holds for ever, the empty one included."""
    log = filled.log()
    for size in range(11):
        assert log.verify(checkpoint=log.checkpoint(size=size)).ok
    wrong = NoteSigner(name=log.origin, seed=SEED).sign(Checkpoint(origin=log.origin, size=0, root=bytes(32)).text())
    assert log.verify(checkpoint=wrong).problem is Problem.FORKED


def test_a_checkpoint_must_be_signed_by_the_clinics_key(filled: Store) -> None:
    """A checkpoint of another key, or a changed one, is refused with its own code."""
    log = filled.log()
    foreign = NoteSigner(name=log.origin, seed=OTHER_SEED)
    forged = foreign.sign(Checkpoint(origin=log.origin, size=10, root=log.head().root).text())
    assert log.verify(checkpoint=forged).problem is Problem.CHECKPOINT_SIGNATURE
    changed = log.checkpoint().replace("\n10\n", "\n11\n")
    assert log.verify(checkpoint=changed).problem is Problem.CHECKPOINT_SIGNATURE
    assert log.verify(checkpoint="checkpoint").problem is Problem.CHECKPOINT_MALFORMED
    assert verify_log(log.raw_entries(), checkpoints=[log.checkpoint()]).problem is Problem.CHECKPOINT_MALFORMED


def test_a_range_verifies_from_a_known_state(filled: Store) -> None:
    """Entries 6 to 10 verify behind the compact tree of 1 to 5; earlier checkpoints do not fit."""
    log = filled.log()
    rows = list(log.raw_entries(first=6))
    start = Start(seq=6, prev_hash=rows[0].prev_hash, peaks=log.tree(5).peaks)

    def check(*checkpoints: str, behind: Start = start) -> VerifyReport:
        return verify_log(rows, vkey=log.vkey, checkpoints=checkpoints, start=behind)

    assert check(log.checkpoint()).ok
    assert check(log.checkpoint(size=5), log.checkpoint(size=7)).entries == 5
    assert check(log.checkpoint(size=4)).problem is Problem.CHECKPOINT_NOT_COVERED
    wrong = Start(seq=6, prev_hash=rows[0].prev_hash, peaks=(log.tree(4).peaks[0], bytes(32)))
    assert check(log.checkpoint(), behind=wrong).problem is Problem.FORKED
    assert check(log.checkpoint(size=5), behind=wrong).problem is Problem.FORKED


@pytest.mark.parametrize(("seq", "prev_hash", "peaks"), [(1, b"x" * 32, ()), (2, GENESIS, ()), (0, GENESIS, ())])
def test_impossible_starts_are_refused(seq: int, prev_hash: bytes, peaks: tuple[bytes, ...]) -> None:
    """A range needs a state that a log can have."""
    with pytest.raises(ValueError, match=r"peak|zero"):
        Start(seq=seq, prev_hash=prev_hash, peaks=peaks)


def test_a_clock_set_back_is_counted_but_no_damage(store: Store) -> None:
    """Order is by number, not by time; a clock that went back is worth a remark."""
    store.log().append(PatientViewed(patient=PATIENT), actor=OPERATOR)
    fill(store.log(), 3)
    report = store.log().verify()
    assert (report.ok, report.clock_regressions) == (True, 0)
    store.log().append(PatientViewed(patient=PATIENT), actor=OPERATOR)
    assert store.log().verify().clock_regressions == 1


def test_rows_of_any_type_are_reported_not_raised(filled: Store) -> None:
    """SQLite stores any type anywhere: a row of wrong types is malformed, never a crash."""
    rows = list(filled.log().raw_entries())
    for column in _COLUMNS:
        for value in (None, 1.5, "text", b"", 2**70, True):
            broken = [*rows[:3], rows[3]._replace(**{column: value}), *rows[4:]]  # type: ignore[arg-type] # on purpose
            report = verify_log(broken)
            assert not report.ok, (column, value)
            assert report.first_bad in {3, 4}


# --- every byte -------------------------------------------------------------------------------------


def _mutants(rows: list[RawEntry]) -> list[tuple[int, list[RawEntry]]]:
    """Flip one bit of each byte of each stored field of each row."""
    found = []
    for place, row in enumerate(rows):
        for column in _COLUMNS[1:]:
            value: bytes = getattr(row, column) or b""  # no sealed part: no byte of it
            for offset in range(len(value)):
                flipped = bytearray(value)
                flipped[offset] ^= 1 << (offset % 8)
                changed = row._replace(**{column: bytes(flipped)})  # type: ignore[arg-type] # only bytes fields
                # The row after the changed one is enough: whatever is found must be found no later.
                found.append((row.seq, [*rows[:place], changed, *rows[place + 1 : place + 2]]))
    return found


def test_every_flipped_byte_is_found_and_named(store: Store) -> None:
    """Exhaustive over a log of 12 entries: each changed byte is found, and at its own entry."""
    fill(store.log(), 12)
    mutants = _mutants(_rows(store.path))
    assert len(mutants) > 2000
    wrong = [seq for seq, rows in mutants if verify_log(rows).first_bad != seq]
    assert wrong == []


def test_without_rehashing_flipped_bytes_would_pass(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a verifier that only follows stored hashes misses most changes of content."""
    fill(store.log(), 12)
    mutants = _mutants(_rows(store.path))
    monkeypatch.setattr(verify, "_rehash", lambda row, _seq: row.hash)
    missed = sum(verify_log(rows).ok for _, rows in mutants)
    assert missed > 100


def _truncate(data: bytearray) -> None:
    del data[-4096:]


def _zero_page(data: bytearray) -> None:
    data[4096:8192] = bytes(4096)


@pytest.mark.parametrize("damage", [_truncate, _zero_page])
def test_a_damaged_database_file_never_verifies(store: Store, damage: Callable[[bytearray], None]) -> None:
    """Damage below SQLite ends in an error or in a report that is not ok."""
    fill(store.log(), 60)
    checkpoint = store.log().checkpoint()
    store.engine.dispose()  # the last connection moves the write-ahead log into the file
    data = bytearray(store.path.read_bytes())
    damage(data)
    store.path.write_bytes(data)
    try:
        ok = store.log().verify(checkpoint=checkpoint).ok
    except AuditError:
        ok = False
    assert not ok
