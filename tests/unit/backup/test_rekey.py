"""A shredded patient is taken out of the backups, and what stands in the way of it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from clinic.backup import medium
from clinic.backup.create import create
from clinic.backup.drill import drill
from clinic.backup.forgotten import excuse
from clinic.backup.history import history
from clinic.backup.manifest import DEKS
from clinic.backup.opened import keys_of, open_backup
from clinic.backup.rekey import rekey, write_off
from clinic.backup.restore import Wish, restore
from clinic.backup.site import Site
from clinic.crypto import keys
from clinic.domain import OPERATOR
from clinic.errors import BackupError, ClinicError, InputError
from clinic.home import open_records
from clinic.records.shredding import Shredding
from clinic.records.sweep import Finding
from tests.unit.backup.backup_world import CANARIES, Clinic, files_below
from tests.unit.backup.shreds import shred


def held(clinic: Clinic, folder: Path) -> set[str]:
    """Return the patients whose keys a backup holds."""
    return set(open_backup(folder, clinic.site.keys).deks.keys)


def test_a_shredded_patient_is_taken_out_of_every_backup(clinic: Clinic, usb: Path) -> None:
    """Both backups lose the key, keep the other patient's, and still serve; doing it again is nothing."""
    folders = [clinic.back_up(usb).folder for _ in range(2)]
    gone, stays = clinic.patients
    assert held(clinic, folders[0]) == {gone, stays}  # the control: it was there
    before = (keys_of(folders[0]) / DEKS).read_bytes()
    shred(clinic.site, gone)
    assert [item.patients for item in history(clinic.site.records.audit).outstanding()] == [1, 1]
    done = rekey(clinic.site)
    assert (sorted(done.forgotten.values()), done.outstanding, dict(done.failed)) == ([1, 1], (), {})
    for folder in folders:
        assert held(clinic, folder) == {stays}
        assert drill(clinic.site, backup=folder).forgotten == 1
        assert [path for path in files_below(folder) if path.read_bytes() == before] == []
        assert len(medium.generations(folder)) == 1
    events = clinic.events()
    assert events.count("backup.rekeyed") == 2
    rekey(clinic.site)
    assert clinic.events() == events


def test_nothing_is_to_be_done_where_nobody_was_shredded(clinic: Clinic, usb: Path) -> None:
    """The files stay as they were, byte for byte, and the log does not grow."""
    folder = clinic.back_up(usb).folder
    left, events = [path.read_bytes() for path in files_below(folder)], clinic.events()
    assert dict(rekey(clinic.site).forgotten) == {folder.name: 0}
    assert [path.read_bytes() for path in files_below(folder)] == left
    assert clinic.events() == events


def test_a_disk_in_the_safe_stays_outstanding_until_it_comes_back(clinic: Clinic, usb: Path) -> None:
    """What cannot be reached is named; the next backup on that disk does it by itself."""
    folder = clinic.back_up(usb).folder
    away = usb.rename(usb.with_name("safe"))
    shred(clinic.site, clinic.patients[0])
    done = rekey(clinic.site)
    assert [item.backup for item in done.outstanding] == [folder.name]
    away.rename(usb)
    clinic.back_up(usb)
    assert history(clinic.site.records.audit).outstanding() == ()
    assert held(clinic, folder) == {clinic.patients[1]}


def test_a_disk_that_is_no_more_is_written_off(clinic: Clinic, usb: Path) -> None:
    """By the digits that `list` shows, with a reason; an unknown disk or reason is refused."""
    folder = clinic.back_up(usb).folder
    shred(clinic.site, clinic.patients[0])
    disk = history(clinic.site.records.audit).kept[folder.name].destination
    for name, reason, code in (
        (disk, "bored", "reason_unknown"),
        ("zz", "lost", "destination_unknown"),
        ("", "lost", "destination_unknown"),
    ):
        with pytest.raises(InputError) as caught:
            write_off(clinic.site, name, reason=reason)
        assert caught.value.code == code
    assert write_off(clinic.site, disk[:8], reason="destroyed") == (folder.name,)
    assert history(clinic.site.records.audit).outstanding() == ()


def test_a_backup_that_cannot_be_rekeyed_keeps_no_other_from_it(clinic: Clinic, usb: Path) -> None:
    """The damaged one is named with its code and stays outstanding; the other one is done."""
    bad, good = (clinic.back_up(usb).folder for _ in range(2))
    (keys_of(bad) / DEKS).write_bytes(b"damaged")
    shred(clinic.site, clinic.patients[0])
    done = rekey(clinic.site)
    assert dict(done.failed) == {bad.name: "backup_damaged"}
    assert [item.backup for item in done.outstanding] == [bad.name]
    assert held(clinic, good) == {clinic.patients[1]}
    assert [f.operation for f in history(clinic.site.records.audit).failures] == ["rekey"]


@pytest.mark.parametrize("number", [28, 5])
def test_a_disk_that_refuses_leaves_the_backup_whole(clinic: Clinic, usb: Path, number: int) -> None:
    """Full or dying in the middle: the backup serves as before and stays outstanding; the next try does it."""
    folder = clinic.back_up(usb).folder
    shred(clinic.site, clinic.patients[0])
    real = os.write

    def refuse(fd: int, data: bytes) -> int:
        if f"/{medium.STORE}/" in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(number, "refused")
        return real(fd, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.write", refuse)
        done = rekey(clinic.site)
    assert list(done.failed) == [folder.name]
    assert len(done.outstanding) == 1
    drill(clinic.site, backup=folder)
    assert rekey(clinic.site).outstanding == ()


def test_an_older_generation_of_keys_put_back_is_refused(clinic: Clinic, usb: Path) -> None:
    """Somebody kept a copy of the keys and puts it back after the shred: the backup is refused, not used."""
    folder = clinic.back_up(usb).folder
    old = keys_of(folder)
    kept = {path.name: path.read_bytes() for path in files_below(old)}
    shred(clinic.site, clinic.patients[0])
    rekey(clinic.site)
    for path in files_below(keys_of(folder)):
        path.unlink()
    keys_of(folder).rmdir()
    old.mkdir(mode=0o700)
    for name, content in kept.items():
        (old / name).write_bytes(content)
    assert held(clinic, folder) == set(clinic.patients)  # the control: it opens, the key is in it
    with pytest.raises(BackupError) as caught:
        drill(clinic.site, backup=folder)
    assert caught.value.code == "backup_damaged"


def test_old_backups_open_with_todays_key_after_a_rotation(make_clinic: Callable[..., Clinic], usb: Path) -> None:
    """A new key version is added: the backup made before gets the clinic's `keys.json` of today, and serves."""
    clinic = make_clinic("rotated")
    folder = clinic.back_up(usb).folder
    site = clinic.site
    keyring = keys.add_kek(site.config.keys_file, clinic.secret)
    clinic.site = Site(site.config, keyring, open_records(site.config, keyring))
    rekey(clinic.site, actor=OPERATOR)
    assert (keys_of(folder) / "keys.json").read_bytes() == site.config.keys_file.read_bytes()
    drill(clinic.site, backup=folder)


def test_a_rekeyed_backup_is_restored_without_the_patient(clinic: Clinic, usb: Path, tmp_path: Path) -> None:
    """The other patient opens; the forgotten one does not, and is no finding; a stolen row of theirs still is one."""
    folder = clinic.back_up(usb).folder
    gone, stays = clinic.patients
    shred(clinic.site, gone)
    rekey(clinic.site)
    back = restore(folder, clinic.secret, Wish(tmp_path / "new"))
    assert (back.forgotten, back.findings) == (1, ())
    records = open_records(back.config, back.keyring)
    with records.read() as tx:
        assert tx.patients.data(stays).name == CANARIES[3]
        with pytest.raises(ClinicError) as caught:
            tx.patients.data(gone)
        assert caught.value.code == "patient_shredded"
    found = (Finding("missing", "patient", clinic.site.pseudonym(gone)), Finding("unreadable", "patient", "other"))
    assert excuse(found, back.config.database, [gone], clinic.site.pseudonym) == found


def test_a_restore_shreds_again_who_was_shredded(clinic: Clinic, usb: Path, tmp_path: Path) -> None:
    """The backup is older than the shred: the restored clinic has no audio of theirs, its log says so, all is well."""
    folder = clinic.back_up(usb).folder
    gone, stays = clinic.patients
    shred(clinic.site, gone)
    rekey(clinic.site)
    back = restore(folder, clinic.secret, Wish(tmp_path / "new"))
    records = open_records(back.config, back.keyring)
    (entry,) = records.audit.named("patient.shredded")
    assert json.loads(entry.body)["patient"] == clinic.site.pseudonym(gone)
    assert json.loads(entry.body)["reason"] == "before_restore"
    with closing(sqlite3.connect(back.config.database)) as connection:
        owners = connection.execute(
            "SELECT r.patient_id FROM recording_chunks c JOIN recordings r ON r.id = c.recording_id"
        )
        assert owners.fetchall() == [(stays,)]
        row = connection.execute("SELECT wrapped_dek, data FROM patients WHERE id = ?", (gone,)).fetchone()
        assert row == (None, None)
    assert records.finish_shredding() == 0
    assert records.sweep(deep=True) == ()
    assert records.audit.verify().ok
    # and the next backups of the restored clinic hold nothing of them
    site = Site(back.config, back.keyring, records)
    assert gone not in create(site, to=usb).checked.opened.deks.keys


def test_a_restore_that_does_not_shred_again_is_caught(
    clinic: Clinic, usb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: without that step the audio is back, and the restore itself has findings."""
    folder = clinic.back_up(usb).folder
    shred(clinic.site, clinic.patients[0])
    rekey(clinic.site)
    monkeypatch.setattr(Shredding, "shred", lambda *_args, **_kwargs: None)
    back = restore(folder, clinic.secret, Wish(tmp_path / "new"))
    assert {finding.kind for finding in back.findings} == {"patient"}
    with closing(sqlite3.connect(back.config.database)) as connection:
        assert connection.execute("SELECT count(*) FROM recording_chunks").fetchone() == (2,)
