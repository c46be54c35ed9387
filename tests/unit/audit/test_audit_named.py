"""Entries by the name of their event, and the database file where a descriptor cannot hold it."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import pytest

from clinic.audit.database_file import DatabaseFile
from clinic.audit.events import LoginFailed, PatientViewed
from clinic.domain import OPERATOR, Actor, Role, UserId
from clinic.errors import AuditError
from tests.unit.audit.audit_store import PATIENT, Store


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_entries_can_be_asked_for_by_name(filled: Store, page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All entries of the named events, in order, from a given one on; pages do not show."""
    monkeypatch.setattr("clinic.audit.reading._PAGE", page)
    log = filled.log()
    everything = [(entry.seq, entry.event) for entry in log.entries()]
    for names in ({"patient.viewed"}, {"patient.viewed", "note.signed"}, {"no.such"}):
        for first in (1, 4, 11):
            wanted = [one for one in everything if one[1] in names and one[0] >= first]
            assert [(entry.seq, entry.event) for entry in log.named(*names, first=first)] == wanted
    assert any(name == "patient.viewed" for _, name in everything)


def test_one_entry_is_found_by_its_number(filled: Store) -> None:
    """The entry of that number, or an error that says that there is none."""
    log = filled.log()
    assert [log.entry(seq) for seq in (1, 10)] == [next(log.entries()), list(log.entries())[-1]]
    for seq in (0, 11):
        with pytest.raises(AuditError) as caught:
            log.entry(seq)
        assert caught.value.code == "entry_unknown"


def test_the_newest_entry_of_an_event_is_found(filled: Store) -> None:
    """The last of that name, also when others came later; none if it is not newer than asked for."""
    log = filled.log()
    seqs = [entry.seq for entry in log.entries() if entry.event == "patient.viewed"]
    found = log.latest("patient.viewed")
    assert found == log.entry(seqs[-1])
    assert log.latest("patient.viewed", after=seqs[-1] - 1) == found
    assert log.latest("patient.viewed", after=seqs[-1]) is None
    assert log.latest("no.such") is None
    assert log.size() == 10


def test_an_empty_log_has_the_size_nought(store: Store) -> None:
    """No entry, no number."""
    assert store.log().size() == 0


def test_entries_are_counted_by_who_and_since_when(store: Store) -> None:
    """Only this actor's, only these events, only from that moment on; a second apart by the steady clock."""
    log = store.log()
    other = Actor(user_id=UserId("somebody"), role=Role.AUDITOR)
    viewed, failed = PatientViewed(patient=PATIENT), LoginFailed(user_id="unknown", reason="unknown")
    entries = [log.append(event, actor=who) for event in (viewed, failed) for who in (OPERATOR, other)]
    entries += [log.append(viewed, actor=OPERATOR)]
    moments = [datetime.fromisoformat(entry.at) for entry in entries]

    def count(since: int, who: Actor, *events: str) -> int:
        return log.count_since(moments[since], actor_id=who.user_id, events=events)

    assert [count(n, OPERATOR, "patient.viewed") for n in range(5)] == [2, 1, 1, 1, 1]
    assert [count(n, other, "patient.viewed") for n in range(5)] == [1, 1, 0, 0, 0]
    assert count(0, OPERATOR, "patient.viewed", "login.failed") == 3
    assert count(0, OPERATOR) == 0


@pytest.mark.parametrize("platform", [sys.platform, "darwin"])
def test_a_replaced_file_is_told_from_the_same(platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a held descriptor, or (elsewhere than on Linux) by number alone: the same passes, another is refused."""
    monkeypatch.setattr(sys, "platform", platform)
    path = tmp_path / "x.db"
    path.write_bytes(b"one")
    file = DatabaseFile(path)
    file.check()
    other = tmp_path / "y.db"
    other.write_bytes(b"one")
    other.rename(path)
    with pytest.raises(AuditError):
        file.check()
    with pytest.raises(AuditError):
        DatabaseFile(tmp_path / "absent.db")
