"""A backup from its making to its restoring, and everything that can be wrong with one."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from clinic.backup import medium
from clinic.backup.create import create
from clinic.backup.drill import drill
from clinic.backup.history import history
from clinic.backup.keys import BackupKeys
from clinic.backup.locate import locate, newest
from clinic.backup.manifest import DATA, DEKS, KEYS, MANIFEST
from clinic.backup.opened import check, keys_of, open_backup
from clinic.backup.restore import Wish, restore
from clinic.backup.site import known_destinations
from clinic.crypto.keys import Keyring
from clinic.domain import OPERATOR
from clinic.errors import BackupError, ClinicError, ConfigError, SealedError, StorageError
from clinic.home import open_records
from clinic.records.patients import PatientData
from tests.unit.backup.backup_world import CANARIES, Clinic, files_below, names


def code_of(action: Callable[[], object]) -> str:
    """Return the code of the error that an action ends in."""
    with pytest.raises(ClinicError) as caught:
        action()
    assert caught.value.hint
    return caught.value.code


def part_of(folder: Path, part: str) -> Path:
    """Return where a part of a backup lies."""
    return keys_of(folder) / part if part in {KEYS, DEKS} else folder / part


def verify(clinic: Clinic, folder: Path, *, deep: bool = False) -> None:
    """Verify a backup."""
    with clinic.site.operation("verify") as state:
        check(clinic.site, open_backup(folder, clinic.site.keys), state, deep=deep)


# --- making -----------------------------------------------------------------------------------------


def test_backup_comes_back_whole(clinic: Clinic, usb: Path, tmp_path: Path) -> None:
    """What was backed up is restored to another folder: every record opens, the log verifies, and goes on."""
    made = clinic.back_up(usb)
    assert made.checked.findings == ()
    assert made.manifest.patients == 2
    back = restore(made.folder, clinic.secret, Wish(tmp_path / "new"))
    records = open_records(back.config, back.keyring)
    assert names(records) == sorted(CANARIES[2:4])
    assert records.sweep(deep=True) == ()
    assert records.authenticate("ada", CANARIES[1]).username == "ada"
    assert records.audit.verify(checkpoint=made.manifest.checkpoint).ok
    events = [entry.event for entry in records.audit.entries()]
    assert events[made.manifest.entries :][:2] == ["backup.restored", "backup.found"]
    assert history(records.audit).kept.keys() == {made.manifest.backup}


def test_nothing_is_in_the_clear_on_the_medium(clinic: Clinic, usb: Path) -> None:
    """No name, no password, no speech, no user name, no id and no wrapped key can be read in any file of a backup."""
    clinic.back_up(usb)
    database = clinic.site.config.database.read_bytes()
    with clinic.site.records.read() as tx:
        wrapped = tx._work._wrapped_key(clinic.patients[0])
    markers = [*(c.encode() for c in CANARIES), b"ada", clinic.patients[0].encode(), wrapped, wrapped[:16]]
    looked = files_below(usb)
    assert len(looked) == 5
    for path in looked:
        assert [m for m in markers if len(m) > 3 and m in path.read_bytes()] == [], path
    assert wrapped in database or wrapped in clinic.site.config.database.with_name("clinic.db-wal").read_bytes()


def test_a_backup_is_one_state_while_the_clinic_writes(clinic: Clinic, usb: Path) -> None:
    """Somebody writes all the time: each backup verifies, and holds exactly the entries that it says."""
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.002):
            clinic.add_entry()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = [clinic.back_up(usb) for _ in range(3)]
    finally:
        stop.set()
        writer.join()
    sizes = [one.manifest.entries for one in made]
    assert sizes == sorted(set(sizes))
    for one in made:
        verify(clinic, one.folder, deep=True)


def test_the_oldest_expire_after_a_good_one(clinic: Clinic, usb: Path) -> None:
    """`keep` backups stay; what is removed is recorded, and its keys are gone."""
    site = clinic.site
    config = site.config.model_copy(update={"backup": site.config.backup.model_copy(update={"keep": 2})})
    clinic.site = type(site)(config, site.keyring, site.records)
    made = [clinic.back_up(usb) for _ in range(4)]
    there = medium.find(usb)
    assert there is not None
    assert sorted(path.name for path in there.backups()) == sorted(one.manifest.backup for one in made)[2:]
    assert clinic.events().count("backup.removed") == 2


def test_a_failed_backup_leaves_the_others_and_is_recorded(clinic: Clinic, usb: Path) -> None:
    """A key that does not fit the data is found when the backup is read back; it never gets a name."""
    good = clinic.back_up(usb)
    site = clinic.site
    broken = type(site)(site.config, site.keyring, site.records)
    object.__setattr__(broken, "keyring", Keyring(b"r" * 32, {1: b"k" * 32}, key_id=1))
    assert code_of(lambda: create(broken, to=usb)) == "backup_damaged"
    assert newest(site) == good.folder
    assert [path.name for path in files_below(usb) if ".partial" in str(path)] == []
    found = history(site.records.audit)
    assert [failure.code for failure in found.failures] == ["backup_damaged"]
    clinic.back_up(usb)
    assert history(site.records.audit).failures == ()


def test_two_at_once_are_refused(clinic: Clinic, usb: Path) -> None:
    """The second one says so, and the first goes on."""
    with clinic.site.operation("create"):
        assert code_of(lambda: clinic.back_up(usb)) == "backup_running"
    clinic.back_up(usb)


def test_another_box_on_the_same_disk_waits(make_clinic: Callable[..., Clinic], usb: Path) -> None:
    """Two clinics may share a disk; while one writes, the other is refused; neither touches the other's backups."""
    one, two = make_clinic("one"), make_clinic("two")
    first = one.back_up(usb)
    place = medium.find(usb)
    assert place is not None
    with place.hold():
        assert code_of(lambda: two.back_up(usb)) == "backup_running"
    second = two.back_up(usb)
    verify(one, first.folder)
    assert code_of(lambda: verify(one, second.folder)) == "backup_foreign"
    assert code_of(lambda: restore(second.folder, one.secret, Wish(usb.parent / "new"))) == "key_wrong"
    assert not (usb.parent / "new").exists()


# --- the medium -------------------------------------------------------------------------------------


def test_an_unplugged_disk_is_not_replaced_by_its_mount_point(clinic: Clinic, usb: Path) -> None:
    """Where backups were before and none are now, nothing is written; another disk is taken when told so."""
    clinic.back_up(usb)
    shutil.rmtree(usb / medium.STORE)
    assert code_of(lambda: clinic.back_up(usb)) == "destination_missing"
    assert list(usb.iterdir()) == []
    clinic.back_up(usb, new_disk=True)
    assert len(known_destinations(clinic.site.config)) == 2


@pytest.mark.parametrize("trap", ["link", "store link", "world", "file", "absent", "other content"])
def test_unfit_places_are_refused(clinic: Clinic, usb: Path, trap: str) -> None:
    """A link, a place that everybody may write to, no folder at all: nothing is written there."""
    target = usb
    expected = "destination_exposed"
    if trap == "link":
        target = usb.with_name("link")
        target.symlink_to(usb)
    elif trap == "store link":
        (usb.parent / "elsewhere").mkdir()
        (usb / medium.STORE).symlink_to(usb.parent / "elsewhere")
    elif trap == "world":
        usb.chmod(0o777)
    elif trap == "file":
        target = usb / "file"
        target.touch()
    elif trap == "absent":
        target, expected = usb / "absent", "destination_missing"
    else:
        (usb / medium.STORE).mkdir()
        (usb / medium.STORE / "holiday.jpg").touch()
        expected = "destination_missing"
    assert code_of(lambda: clinic.back_up(target)) == expected
    assert not any(MANIFEST in path.name for path in files_below(usb.parent))
    assert clinic.events()[-1] == "backup.failed"


def test_what_is_written_is_private(clinic: Clinic, usb: Path) -> None:
    """Folder and files are the owner's alone, even if the folder was made for others to read."""
    (usb / medium.STORE).mkdir(mode=0o755)
    clinic.back_up(usb)
    assert [path for path in usb.rglob("*") if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize(
    ("number", "code"),
    [(28, "destination_full"), (122, "destination_full"), (30, "destination_readonly"), (5, "destination_failed")],
)
def test_what_the_disk_refuses_is_said_in_its_own_words(clinic: Clinic, usb: Path, number: int, code: str) -> None:
    """Full, over quota, read-only, dying: each has its code, and nothing half-written stays."""
    clinic.back_up(usb)
    left = files_below(usb)
    real = os.write

    def refuse(fd: int, data: bytes) -> int:
        if f"/{medium.STORE}/" in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(number, "refused")
        return real(fd, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.write", refuse)
        assert code_of(lambda: clinic.back_up(usb)) == code
    assert files_below(usb) == left
    clinic.back_up(usb)


def test_a_disk_that_is_pulled_out_midway(clinic: Clinic, usb: Path) -> None:
    """The folder goes while the backup is written: an error, no crash; with the disk back, the next one works."""
    clinic.back_up(usb)

    def pull(stage: str, done: int, _total: int) -> None:
        if stage == "read back" and done == 0 and usb.exists():
            usb.rename(usb.with_name("pulled"))

    with pytest.raises(ClinicError) as caught:
        create(clinic.site, to=usb, progress=pull)
    assert caught.value.code in {"backup_incomplete", "destination_failed"}
    usb.with_name("pulled").rename(usb)
    clinic.back_up(usb)


# --- verifying --------------------------------------------------------------------------------------


def test_any_flipped_byte_of_the_small_files_is_found(clinic: Clinic, usb: Path) -> None:
    """Every byte of `keys.json`, `deks.age`, `manifest.age`, one bit of each: found.  Control: none flipped."""
    made = clinic.back_up(usb)
    keys = clinic.site.keys
    open_backup(made.folder, keys)
    flips = 0
    for part in (KEYS, DEKS, MANIFEST):
        path = part_of(made.folder, part)
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
            with pytest.raises(BackupError):
                open_backup(made.folder, keys)
            flips += 1
        path.write_bytes(whole)
    open_backup(made.folder, keys)
    assert flips > 2500


def test_flipped_bytes_of_the_data_are_found(clinic: Clinic, usb: Path) -> None:
    """Random places of `data.age`, its first and its last byte: all are found."""
    made = clinic.back_up(usb)
    path = made.folder / DATA
    whole = path.read_bytes()
    chosen = [int.from_bytes(sha256(bytes([n])).digest()[:4], "big") % len(whole) for n in range(60)]
    for at in (0, len(whole) - 1, *chosen):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        assert code_of(lambda: verify(clinic, made.folder)) in {"backup_damaged", "backup_foreign"}
    path.write_bytes(whole)
    verify(clinic, made.folder, deep=True)


@pytest.mark.parametrize("part", [KEYS, DEKS, MANIFEST, DATA])
@pytest.mark.parametrize("damage", ["missing", "truncated", "longer", "empty", "link", "of another backup"])
def test_parts_that_are_not_whole_or_not_of_this_backup(clinic: Clinic, usb: Path, part: str, damage: str) -> None:
    """Missing, cut, lengthened, emptied, a link, or taken from another backup: the part is named."""
    other, made = clinic.back_up(usb), None
    clinic.add_entry(3)
    made = clinic.back_up(usb)
    path = part_of(made.folder, part)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(whole[:-1])
    elif damage == "longer":
        path.write_bytes(whole + b"\0")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "link":
        path.rename(path.with_name("kept"))
        path.symlink_to("kept")
    elif part == KEYS:
        shutil.copy(clinic.site.config.insecure_key_file, path)
    else:
        shutil.copy(part_of(other.folder, part), path)
    with pytest.raises(BackupError, match=part):
        verify(clinic, made.folder)
    verify(clinic, other.folder)


def test_a_drill_reads_everything_and_leaves_nothing(clinic: Clinic, usb: Path) -> None:
    """It is recorded with its counts; the scratch is gone; a damaged backup is recorded as one that would not serve."""
    made = clinic.back_up(usb)
    done = drill(clinic.site)
    assert (done.patients, done.entries, done.findings) == (2, made.manifest.entries, ())
    assert not (clinic.site.config.backup_dir / "scratch").exists()
    found = history(clinic.site.records.audit).drill
    assert found is not None
    assert found.ok
    (made.folder / DATA).write_bytes(b"")
    assert code_of(lambda: drill(clinic.site)) == "backup_damaged"
    found = history(clinic.site.records.audit).drill
    assert found is not None
    assert (found.ok, found.result) == (False, "backup_damaged")


def test_a_scratch_opens_for_nobody_afterwards(clinic: Clinic, usb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a crash leaves of a verification: it holds no key that the clinic's keyring opens, and no canary."""
    made = clinic.back_up(usb)
    monkeypatch.setattr("clinic.backup.site.clear_scratch", lambda _config: None)
    verify(clinic, made.folder, deep=True)
    left = clinic.site.config.backup_dir / "scratch" / "clinic.db"
    with clinic.site.records.read() as tx:
        wrapped = [tx._work._wrapped_key(patient) for patient in clinic.patients]
    for path in files_below(left.parent):
        content = path.read_bytes()
        assert not [one for one in wrapped if one in content]
        assert not [c for c in CANARIES if c.encode() in content]
    stray = shutil.copy(left, clinic.site.config.home / "stray.db")
    from clinic.records.engine import open_engine
    from clinic.records.records import Records

    engine = open_engine(Path(stray))
    assert {f.problem for f in Records(engine, keyring=clinic.site.keyring).sweep()} == {"unreadable"}
    engine.dispose()


# --- restoring --------------------------------------------------------------------------------------


def test_a_folder_with_something_in_it_is_left_alone(clinic: Clinic, usb: Path) -> None:
    """Restoring over something needs `--in-place`; nothing is changed."""
    made = clinic.back_up(usb)
    before = clinic.events()
    assert code_of(lambda: restore(made.folder, clinic.secret, Wish(clinic.site.config.home))) == "home_exists"
    assert clinic.events() == before
    missing = Wish(usb.parent / "nothing", in_place=True)
    assert code_of(lambda: restore(made.folder, clinic.secret, missing)) == "home_missing"


def test_a_wrong_secret_restores_nothing(clinic: Clinic, usb: Path, tmp_path: Path) -> None:
    """One clear error, and no folder is left."""
    from clinic.crypto.keys import KeyBytes

    made = clinic.back_up(usb)
    wrong = KeyBytes(b"w" * 32, "insecure-key-file")
    with pytest.raises(SealedError):
        restore(made.folder, wrong, Wish(tmp_path / "new"))
    assert [p for p in tmp_path.iterdir() if "new" in p.name] == []


def test_an_older_backup_needs_a_reason(clinic: Clinic, usb: Path, tmp_path: Path) -> None:
    """A witness saw a longer log: refused; with the reason it is restored, and reason and loss are in the log."""
    made = clinic.back_up(usb)
    clinic.add_entry(5)
    seen = clinic.site.records.audit.checkpoint()
    wish = Wish(tmp_path / "new", checkpoints=(seen,))
    assert code_of(lambda: restore(made.folder, clinic.secret, wish)) == "backup_older"
    assert not (tmp_path / "new").exists()
    accepted = Wish(tmp_path / "new", checkpoints=(seen,), reason="disk_lost")
    back = restore(made.folder, clinic.secret, accepted)
    entry = next(open_records(back.config, back.keyring).audit.named("backup.restored"))
    assert b'"reason":"disk_lost"' in entry.body
    assert f'"witnessed":{made.manifest.entries + 6}'.encode() in entry.body
    assert code_of(lambda: restore(made.folder, clinic.secret, Wish(tmp_path / "n2", reason="because"))) == (
        "reason_unknown"
    )


def test_a_witness_of_the_same_log_is_no_hindrance(clinic: Clinic, usb: Path, tmp_path: Path) -> None:
    """A checkpoint from before the backup agrees with it."""
    seen = clinic.site.records.audit.checkpoint()
    made = clinic.back_up(usb)
    back = restore(made.folder, clinic.secret, Wish(tmp_path / "new", checkpoints=(seen,)))
    assert back.witnessed == back.entries


def test_another_history_is_always_refused(clinic: Clinic, usb: Path, tmp_path: Path) -> None:
    """Two logs with one key went different ways: a reason does not help."""
    made = clinic.back_up(usb)
    twin = restore(made.folder, clinic.secret, Wish(tmp_path / "twin"))
    records = open_records(twin.config, twin.keyring)
    seen = records.audit.checkpoint()
    clinic.add_entry(5)
    later = clinic.back_up(usb)
    wish = Wish(tmp_path / "new", checkpoints=(seen,), reason="mistake")
    assert code_of(lambda: restore(later.folder, clinic.secret, wish)) == "backup_forked"


def test_in_place_keeps_the_old_folder(clinic: Clinic, usb: Path) -> None:
    """The restored clinic takes the place of the old one, which lies beside it, whole."""
    made = clinic.back_up(usb)
    with clinic.site.records.write() as tx:
        tx.patients.create(PatientData("Later Canary"), OPERATOR)
    home = clinic.site.config.home
    clinic.site.records._engine.dispose()
    assert code_of(lambda: restore(made.folder, clinic.secret, Wish(home, in_place=True))) == "backup_older"
    back = restore(made.folder, clinic.secret, Wish(home, in_place=True, reason="mistake"))
    assert back.kept_aside is not None
    assert names(open_records(back.config, back.keyring)) == sorted(CANARIES[2:4])
    assert (back.kept_aside / "clinic.db").exists()
    assert back.config.insecure_key_file.exists()
    assert sorted(p.name for p in home.parent.iterdir()) == sorted(["home", "usb", back.kept_aside.name])


def test_a_running_clinic_is_left_alone(clinic: Clinic, usb: Path) -> None:
    """A process that has the database open, or holds the worker's lock, is not put on another folder."""
    from clinic.jobs.worker import only_worker

    made = clinic.back_up(usb)
    home = clinic.site.config.home
    wish = Wish(home, in_place=True, reason="mistake")
    with clinic.site.records.read():
        assert code_of(lambda: restore(made.folder, clinic.secret, wish)) == "clinic_running"
    clinic.site.records._engine.dispose()
    with only_worker(clinic.site.config):
        assert code_of(lambda: restore(made.folder, clinic.secret, wish)) == "clinic_running"
    restore(made.folder, clinic.secret, wish)


def test_finding_the_backup_that_is_meant(clinic: Clinic, usb: Path) -> None:
    """The folder of one backup, the folder of all, or none."""
    assert code_of(lambda: newest(clinic.site)) == "backup_missing"
    first, last = clinic.back_up(usb), clinic.back_up(usb)
    newest_name = max(first.folder.name, last.folder.name)
    assert locate(usb).name == locate(usb / medium.STORE).name == newest(clinic.site).name == newest_name
    assert locate(first.folder) == first.folder
    for nothing in (usb / "x", usb / medium.STORE / "20260101T000000Z-00000000"):
        assert code_of(partial(locate, nothing)) == "backup_missing"


def test_the_same_clinic_always_has_the_same_backup_key() -> None:
    """The identity follows from the root key alone: a new wrapping key changes nothing."""
    keyring = Keyring.generate()
    one, two = BackupKeys.of(keyring), BackupKeys.of(keyring.with_new_kek())
    assert str(one.identity) == str(two.identity)
    assert one.signer == two.signer
    assert str(BackupKeys.of(Keyring.generate()).identity) != str(one.identity)
    assert "AGE-SECRET" not in repr(one)
    assert issubclass(StorageError, ClinicError)
    assert issubclass(ConfigError, ClinicError)
