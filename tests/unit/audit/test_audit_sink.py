"""The second sink: a copy of the log on another device, in order, durable, and never other than the log."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clinic.audit import copying
from clinic.audit import sink as sink_module
from clinic.audit.entry import RawEntry
from clinic.audit.events import PatientViewed
from clinic.audit.export_file import line_of
from clinic.audit.guard import Guard, Limits
from clinic.audit.latch import Reason
from clinic.audit.log import AuditLog
from clinic.audit.sink import SecondSink, SinkError
from clinic.domain import OPERATOR
from clinic.errors import AuditError, AuditLatchedError
from tests.unit.audit.audit_store import PATIENT, PSEUDONYM_KEY, SEED, SteadyClock, Store, fill

EVENT = PatientViewed(patient=PATIENT)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Where the copy lies: the folder is there, the file is not."""
    folder = tmp_path / "other device"
    folder.mkdir()
    return folder / "clinic.jsonl"


def lines(store: Store) -> list[bytes]:
    """Return what the copy has to hold."""
    return [line_of(raw) for raw in store.log().raw_entries()]


def rows_of(store: Store) -> sink_module.Rows:
    """Return what gives the entries from a number on."""
    return lambda first: store.log().raw_entries(first=first)


def watched(store: Store, copy: Path, *, required: bool, guarded: bool = True) -> AuditLog:
    """Return a log with a second sink, and a guard."""
    return AuditLog(
        store.begin,
        pseudonym_key=PSEUDONYM_KEY,
        signing_seed=SEED,
        clock=SteadyClock(),
        path=store.path,
        guard=Guard(store.path.parent, limits=Limits(reserve=0)) if guarded else None,
        sink=SecondSink(copy, required=required),
    )


# --- the copy itself ----------------------------------------------------------------------------------


def test_the_copy_is_the_log_line_by_line(filled: Store, copy: Path) -> None:
    """It is made for its owner alone, holds every entry once, and grows with the log."""
    sink = SecondSink(copy, required=True)
    assert sink.catch_up(rows_of(filled), up_to=10) == 10
    assert copy.stat().st_mode & 0o777 == 0o600
    assert copy.read_bytes().splitlines(keepends=True) == lines(filled)
    filled.log().append(EVENT, actor=OPERATOR)
    assert sink.catch_up(rows_of(filled), up_to=10) == 10  # nothing to do for an entry that is there
    assert sink.catch_up(rows_of(filled), up_to=11) == 11
    assert copy.read_bytes().splitlines(keepends=True) == lines(filled)
    sink.close()
    sink.close()
    assert sink.verify(rows_of(filled)).ok


def test_two_processes_write_in_order(filled: Store, copy: Path) -> None:
    """Each looks where the copy stands under the lock: no line twice, none missing."""
    one, other = SecondSink(copy, required=True), SecondSink(copy, required=True)
    log = filled.log()
    for number in range(6):
        entry = log.append(EVENT, actor=OPERATOR)
        assert (one, other)[number % 2].catch_up(rows_of(filled), up_to=entry.seq) == entry.seq
    assert copy.read_bytes().splitlines(keepends=True) == lines(filled)


def test_long_gaps_are_written_in_batches(filled: Store, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with what is missing, and the last line is found however long it is."""
    monkeypatch.setattr(sink_module, "_BATCH", 300)
    monkeypatch.setattr(sink_module, "_BLOCK", 7)
    SecondSink(copy, required=True).catch_up(rows_of(filled), up_to=10)
    again = SecondSink(copy, required=True)
    assert again.catch_up(rows_of(filled), up_to=10) == 10
    assert copy.read_bytes().splitlines(keepends=True) == lines(filled)


@pytest.mark.parametrize("kept", [0, 1, 9])
def test_a_line_that_a_crash_cut_off_is_completed(filled: Store, copy: Path, kept: int) -> None:
    """A torn end that begins as its line does is removed and written again."""
    whole = lines(filled)
    copy.write_bytes(b"".join(whole[:kept]) + whole[kept][:40])
    SecondSink(copy, required=True).catch_up(rows_of(filled), up_to=10)
    assert copy.read_bytes() == b"".join(whole)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda whole: [*whole[:3], b"torn and not ours"], "not of this log"),
        (lambda whole: [*whole, b"torn"], "not of this log"),
        (lambda whole: [*whole[:2], b"no entry\n"], "no entry"),
        (lambda whole: [*whole, whole[9].replace(b'"seq":10', b'"seq":11')], "does not have|no entry"),
        (lambda whole: [*whole[:4], whole[4].replace(b"operator", b"somebody")], "differs|no entry"),
    ],
    ids=["torn", "torn after the end", "garbage", "ahead", "changed"],
)
def test_what_is_not_of_this_log_is_told(filled: Store, copy: Path, content: object, message: str) -> None:
    """The copy is left as it is, and said to differ: it may be the log that lost something."""
    assert callable(content)
    before = b"".join(content(lines(filled)))
    copy.write_bytes(before)
    with pytest.raises(SinkError, match=message) as caught:
        SecondSink(copy, required=True).catch_up(rows_of(filled), up_to=10)
    assert caught.value.differs
    assert copy.read_bytes() == before


def test_a_copy_ahead_of_its_log_is_told(filled: Store, copy: Path) -> None:
    """A database that was set back is noticed by its copy, by another process too."""
    SecondSink(copy, required=True).catch_up(rows_of(filled), up_to=10)
    filled.tamper("DELETE FROM audit_entries WHERE seq > 7")
    with pytest.raises(SinkError, match="entry `10`, which the log does not have") as caught:
        SecondSink(copy, required=True).catch_up(rows_of(filled), up_to=7)
    assert caught.value.differs
    report = SecondSink(copy, required=True).verify(rows_of(filled))
    assert (report.ok, report.first_bad) == (False, 8)


def test_a_copy_that_was_taken_away_is_not_written(filled: Store, copy: Path) -> None:
    """A file under a handle that no path leads to is no copy; once it is back it is caught up."""
    sink = SecondSink(copy, required=True)
    sink.catch_up(rows_of(filled), up_to=10)
    copy.rename(copy.with_name("away"))
    copy.touch()
    filled.log().append(EVENT, actor=OPERATOR)
    with pytest.raises(SinkError, match="removed or replaced") as caught:
        sink.catch_up(rows_of(filled), up_to=11)
    assert not caught.value.differs
    copy.unlink()
    copy.parent.rename(copy.parent.with_name("unplugged"))
    with pytest.raises(SinkError, match="cannot be written"):
        sink.catch_up(rows_of(filled), up_to=11)
    copy.parent.with_name("unplugged").rename(copy.parent)
    copy.with_name("away").rename(copy)
    assert sink.catch_up(rows_of(filled), up_to=11) == 11
    assert copy.read_bytes().splitlines(keepends=True) == lines(filled)


@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_a_descriptor_that_failed_is_never_used_again(
    filled: Store, copy: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """After a failed sync the kernel may claim success: the file is opened anew and read back from its end."""
    sink = SecondSink(copy, required=True)
    sink.catch_up(rows_of(filled), up_to=10)
    failed: list[int] = []

    def refuse(fd: int, *_: object) -> int:
        failed.append(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    filled.log().append(EVENT, actor=OPERATOR)
    with monkeypatch.context() as broken:
        broken.setattr(os, call, refuse)
        with pytest.raises(SinkError, match="input/output error"):
            sink.catch_up(rows_of(filled), up_to=11)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(failed[0])
    assert sink.catch_up(rows_of(filled), up_to=11) == 11
    assert copy.read_bytes().splitlines(keepends=True) == lines(filled)


def test_a_lock_is_waited_for_but_not_for_ever(filled: Store, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds the copy's lock is waited for a second; then the copy counts as one that failed."""
    monkeypatch.setattr(sink_module, "_LOCK_S", 0.05)
    copy.touch()
    with copy.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SinkError, match="held by another program"):
            SecondSink(copy, required=True).catch_up(rows_of(filled), up_to=10)
    assert SecondSink(copy, required=True).catch_up(rows_of(filled), up_to=10) == 10


def test_a_link_is_not_followed(filled: Store, copy: Path) -> None:
    """What lies at the path must be the file itself."""
    copy.symlink_to(copy.with_name("elsewhere"))
    with pytest.raises(SinkError):
        SecondSink(copy, required=True).catch_up(rows_of(filled), up_to=10)
    assert not copy.with_name("elsewhere").exists()


# --- verifying it -------------------------------------------------------------------------------------


def test_every_changed_line_is_found_and_named(filled: Store, copy: Path) -> None:
    """Each line of the copy changed, dropped or doubled in turn: the first bad entry is named every time."""
    whole = lines(filled)
    sink = SecondSink(copy, required=True)
    for number in range(1, 11):
        at = number - 1
        changed = [*whole[:at], whole[at].replace(b"a", b"b", 1), *whole[number:]]
        dropped = whole[:at] + whole[number:]
        doubled = whole[:number] + whole[at:]
        for content, bad in ((changed, number), (dropped, number), (doubled, number + 1)):
            copy.write_bytes(b"".join(content))
            report = sink.verify(rows_of(filled))
            assert not report.ok
            assert report.first_bad == bad
    copy.write_bytes(b"".join(whole))
    report = sink.verify(rows_of(filled))
    assert (report.ok, report.entries, report.first_bad) == (True, 10, None)


def test_a_copy_that_cannot_be_read_is_not_whole(filled: Store, copy: Path) -> None:
    """No device, no verdict but no."""
    report = SecondSink(copy, required=True).verify(rows_of(filled))
    assert (report.ok, report.first_bad) == (False, None)
    assert "no such file" in report.message


def test_the_same_device_is_told(filled: Store, copy: Path) -> None:
    """A copy beside the log protects against little."""
    assert SecondSink(copy, required=True).is_on_device_of(filled.path)
    assert not SecondSink(copy.parent / "absent" / "x", required=True).is_on_device_of(filled.path)
    assert not SecondSink(Path("/proc/clinic.jsonl"), required=True).is_on_device_of(filled.path)


# --- with the log -------------------------------------------------------------------------------------


def test_required_means_both(store: Store, copy: Path) -> None:
    """An entry counts when it is in both; when the copy fails nothing counts, and everything is latched."""
    log = watched(store, copy, required=True)
    fill(log, 3)
    assert copy.read_bytes().splitlines(keepends=True) == lines(store)
    copy.parent.rename(copy.parent.with_name("unplugged"))
    with pytest.raises(AuditLatchedError, match="second copy"):
        log.append(EVENT, actor=OPERATOR)
    assert log.guard is not None
    latch = log.guard.current()
    assert latch is not None
    assert latch.reason is Reason.SINK_FAILED
    with pytest.raises(AuditLatchedError):
        log.clear(actor=OPERATOR)  # it is still away
    assert log.guard.current() == latch
    copy.parent.with_name("unplugged").rename(copy.parent)
    assert log.clear(actor=OPERATOR).ok
    assert log.guard.current() is None
    assert copy.read_bytes().splitlines(keepends=True) == lines(store)
    report = log.compare_sink()
    assert report is not None
    assert report.ok


def test_without_a_guard_the_failure_is_an_error_all_the_same(store: Store, copy: Path) -> None:
    """The log alone refuses, too."""
    log = watched(store, copy, required=True, guarded=False)
    copy.parent.rmdir()
    with pytest.raises(AuditError, match="second copy") as caught:
        log.append(EVENT, actor=OPERATOR)
    assert "audit.second_sink" in caught.value.hint


def test_optional_goes_on_and_says_so(store: Store, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is an entry, once; the return is an entry, and nothing is missing in the copy then."""
    now = [1000.0]
    monkeypatch.setattr(copying, "monotonic", lambda: now[0])
    log = watched(store, copy, required=False)
    fill(log, 2)
    copy.parent.rename(copy.parent.with_name("unplugged"))
    log.append(EVENT, actor=OPERATOR)
    assert log.is_copy_behind
    now[0] += 31
    log.append(EVENT, actor=OPERATOR)  # tried again, still away: no second entry about it
    report = log.compare_sink()
    assert report is not None
    assert not report.ok
    copy.parent.with_name("unplugged").rename(copy.parent)
    log.append(EVENT, actor=OPERATOR)  # half a minute has not gone by
    assert log.is_copy_behind
    now[0] += 31
    log.append(EVENT, actor=OPERATOR)
    names = [entry.event for entry in log.entries()][2:]
    assert names == ["patient.viewed", "sink.lost", *["patient.viewed"] * 3, "sink.restored"]
    assert copy.read_bytes().splitlines(keepends=True) == lines(store)


def test_a_loss_that_another_process_noted_is_not_noted_again(store: Store, copy: Path) -> None:
    """One entry for one loss, whichever process meets it."""
    copy.parent.rmdir()
    for _ in range(3):
        watched(store, copy, required=False).append(EVENT, actor=OPERATOR)
    assert [entry.event for entry in store.log().entries()].count("sink.lost") == 1


def test_a_start_catches_up(store: Store, copy: Path) -> None:
    """What was written without the copy is in it before anything else happens."""
    fill(store.log(), 5)
    log = watched(store, copy, required=True)
    log.settle_sink()
    assert copy.read_bytes().splitlines(keepends=True) == lines(store)
    store.log().settle_sink()
    assert store.log().compare_sink() is None


def test_an_empty_log_has_an_empty_copy(store: Store, copy: Path) -> None:
    """Before the first entry there is nothing to copy."""
    watched(store, copy, required=True).settle_sink()
    assert copy.read_bytes() == b""


@pytest.mark.parametrize("required", [True, False])
def test_a_copy_of_something_else_latches(filled: Store, copy: Path, *, required: bool) -> None:
    """Whatever the mode: a copy that does not fit means that one of the two was tampered with."""
    copy.write_bytes(b"something else\n")
    log = watched(filled, copy, required=required)
    with pytest.raises(AuditLatchedError, match="not a copy"):
        log.append(EVENT, actor=OPERATOR)
    assert copy.read_bytes() == b"something else\n"


def test_the_mutant_that_forgets_the_copy_is_caught(store: Store, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a sink that writes nothing is found by the comparison."""

    def forget(_sink: SecondSink, _rows: sink_module.Rows, *, up_to: int) -> int:
        return up_to

    monkeypatch.setattr(SecondSink, "catch_up", forget)
    log = watched(store, copy, required=True)
    copy.touch()
    fill(log, 3)
    report = log.compare_sink()
    assert report is not None
    assert (report.ok, report.first_bad) == (False, 1)


def test_entries_without_end_are_not_held_in_memory(filled: Store, copy: Path) -> None:
    """Only what is missing is asked for."""
    SecondSink(copy, required=True).catch_up(rows_of(filled), up_to=10)
    asked: list[int] = []

    def rows(first: int) -> Iterator[RawEntry]:
        asked.append(first)
        return filled.log().raw_entries(first=first)

    filled.log().append(EVENT, actor=OPERATOR)
    sink = SecondSink(copy, required=True)
    sink.catch_up(rows, up_to=11)
    assert asked == [10, 11]  # the last line, compared; then what is new


def test_an_entry_that_is_none_is_told(filled: Store, copy: Path) -> None:
    """A log whose entry was overwritten with anything is named, not a crash: when comparing and when copying."""
    sink = SecondSink(copy, required=True)
    sink.catch_up(rows_of(filled), up_to=10)
    filled.tamper("UPDATE audit_entries SET body = x'ff' WHERE seq = 4")
    report = sink.verify(rows_of(filled))
    assert (report.ok, report.first_bad) == (False, 4)
    copy.write_bytes(b"".join(copy.read_bytes().splitlines(keepends=True)[:3]))
    with pytest.raises(SinkError, match="changed") as caught:
        SecondSink(copy, required=True).catch_up(rows_of(filled), up_to=10)
    assert caught.value.differs
