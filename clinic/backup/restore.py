"""From a backup to a clinic again.

Rules kept here:

* The new data folder is built under a name of its own, verified, made durable, and takes its place in one step; with
  an old one it changes places, and the old one is kept beside it.
* A clinic that runs is left alone.
* A backup older than what is known of the log (witnessed checkpoints, the log that lies there) is refused, unless
  its operator says why; the reason is the first entry that the restored log adds.  A backup that is not of that log at
  all is always refused.
* Everything that a patient's shredding took away stays away.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from clinic.audit.checkpoint import open_checkpoint
from clinic.audit.events import BackupRestored
from clinic.backup.create import SMALL_FILES
from clinic.backup.keys import BackupKeys, pseudonyms
from clinic.backup.manifest import DATA, KEYS
from clinic.backup.medium import read_small
from clinic.backup.opened import Opened, Wrap, keys_of, open_backup, verify_inside
from clinic.backup.rebuild import Rebuilt, rebuild
from clinic.backup.rows import damaged
from clinic.backup.site import Progress, counter
from clinic.backup.stock import found_event
from clinic.backup.swap import exchange, nobody_home, only_here, sync_tree, sync_tree_top
from clinic.config import Config, KeySource
from clinic.crypto.durable import create_private, exclusive
from clinic.crypto.keys import Keyring, UnlockSecret, unlock
from clinic.domain import OPERATOR, Clock, ShredReason, utc_now
from clinic.errors import BackupError, ClinicError, ConfigError, InputError
from clinic.home import renew_certificate
from clinic.jobs.store import create_store
from clinic.records.engine import open_engine
from clinic.records.migrate import check_current, upgrade
from clinic.records.records import Records
from clinic.records.sweep import Finding

REASONS: Final = ("disk_lost", "data_damaged", "stolen", "mistake", "exercise")
"""Why somebody may accept that entries of the log are lost."""

_NO_REASON: Final = "current"


@dataclass(frozen=True, slots=True)
class Restored:
    """A clinic that is back."""

    config: Config
    keyring: Keyring = field(repr=False)
    backup: str
    entries: int
    witnessed: int
    patients: int
    forgotten: int
    findings: tuple[Finding, ...]
    kept_aside: Path | None


@dataclass(frozen=True, slots=True)
class Wish:
    """What the operator asked for.

    Attributes:
        home: where the clinic shall live.
        in_place: whether it takes the place of the one that lives there.
        checkpoints: notes from witnesses.
        reason: why the loss of entries is accepted, one of `REASONS`; None: it is not.
    """

    home: Path
    in_place: bool = False
    checkpoints: tuple[str, ...] = ()
    reason: str | None = None


def restore(
    folder: Path, secret: UnlockSecret, wish: Wish, *, clock: Clock = utc_now, progress: Progress | None = None
) -> Restored:
    """Restore the backup in `folder`, whose keys `secret` opens.

    Raises:
        ConfigError: `home_exists`, `home_missing`, `clinic_running`, `schema_newer`.
        SealedError: `key_wrong`.
        BackupError: `backup_damaged` and its kin, `backup_older`, `backup_forked`.
        StorageError: the disk refused, or `swap_unsupported`.
    """
    home = wish.home.absolute()
    _require_place(home, in_place=wish.in_place)
    if wish.reason is not None and wish.reason not in REASONS:
        raise InputError("no such reason", code="reason_unknown", hint=f"one of: {', '.join(REASONS)}")
    home.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        held.enter_context(only_here(home.parent))
        if wish.in_place:
            held.enter_context(nobody_home(home))
        building = home.with_name(f".{home.name}.restoring")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(mode=0o700)
        try:
            restored = _build(folder, secret, wish, building, clock=clock, progress=progress)
            aside = _put_in_place(building, home, f"{clock():%Y%m%dT%H%M%SZ}", in_place=wish.in_place)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return replace(restored, config=Config.load(home), kept_aside=aside)


def _build(
    folder: Path, secret: UnlockSecret, wish: Wish, building: Path, *, clock: Clock, progress: Progress | None
) -> Restored:
    with exclusive(building):
        create_private(building / KEYS, read_small(keys_of(folder) / KEYS))
    keyring = unlock(building / KEYS, secret)
    opened = open_backup(folder, BackupKeys.of(keyring))
    for name in ("tls", "run", "logs"):
        (building / name).mkdir(mode=0o700)
    built = _rebuild(opened, building, keyring, progress)
    _write_files(building, built.files)
    if wish.in_place:
        _keep_beside(wish.home, building)
    config = Config.load(building)
    notes = (*wish.checkpoints, *_notes(wish, keyring))
    woken = _Woken(opened, tuple(built.without_key), notes)
    witnessed, findings = _awaken(config, keyring, woken, wish=wish, clock=clock)
    create_store(config)
    renew_certificate(config, keyring)
    if wish.in_place and os.geteuid() == 0:
        _give(building, wish.home)
    sync_tree(building)
    return Restored(
        config=config,
        keyring=keyring,
        backup=opened.manifest.backup,
        entries=opened.manifest.entries,
        witnessed=witnessed,
        patients=opened.manifest.patients,
        forgotten=len(built.without_key),
        findings=findings,
        kept_aside=None,
    )


def _rebuild(opened: Opened, building: Path, keyring: Keyring, progress: Progress | None) -> Rebuilt:
    keys = BackupKeys.of(keyring)
    return rebuild(
        opened.folder,
        building / "clinic.db",
        manifest=opened.manifest,
        deks=opened.deks,
        identity=keys.identity,
        pseudonym=pseudonyms(keyring),
        wrap=Wrap(keyring),
        step=counter(progress, "restore", opened.manifest.data_bytes),
    )


@dataclass(frozen=True, slots=True)
class _Woken:
    """What a database is that was rebuilt: of which backup, without whose keys, and what is known of its log."""

    opened: Opened
    without_key: tuple[str, ...]
    notes: tuple[str, ...]


def _awaken(
    config: Config, keyring: Keyring, woken: _Woken, *, wish: Wish, clock: Clock
) -> tuple[int, tuple[Finding, ...]]:
    """Bring the database up to date, verify it, make its first entries, and shred again who was shredded."""
    opened = woken.opened
    engine = open_engine(config.database)
    try:
        copy = upgrade(engine, config.migrations_dir)
        if copy is not None:  # the backup itself is the copy
            copy.unlink()
        records = Records(engine, keyring=keyring, clock=clock)
        verify_inside(records, opened.manifest)
        witnessed = _require_current(records, opened, woken.notes, wish)
        lost = witnessed > opened.manifest.entries
        event = BackupRestored(
            backup=opened.manifest.backup,
            entries=opened.manifest.entries,
            witnessed=witnessed,
            reason=(wish.reason or _NO_REASON) if lost else _NO_REASON,
        )
        records.audit.append(event, actor=OPERATOR)
        records.audit.append(found_event(opened.manifest), actor=OPERATOR)
        for patient in woken.without_key:
            with records.write() as tx:
                tx.shredding.shred(patient, reason=ShredReason.BEFORE_RESTORE, actor=OPERATOR)
        records.finish_shredding()
        return witnessed, records.sweep()
    finally:
        engine.dispose()


def _require_current(records: Records, opened: Opened, notes: Sequence[str], wish: Wish) -> int:
    """Return the longest that the log was known to be; refuse a backup that is older, or of another history."""
    entries, longest = opened.manifest.entries, 0
    for note in notes:
        known = open_checkpoint(note, vkey=records.audit.vkey)
        longest = max(longest, known.size)
        if known.size <= entries:
            report = records.audit.verify(checkpoint=note)
            if not report.ok:
                raise BackupError(
                    f"the log in this backup is not the one that a witness saw: {report.message}",
                    code="backup_forked",
                    hint="keep everything as it is and call the auditor: two histories of this clinic exist",
                )
    if longest > entries and wish.reason is None:
        raise BackupError(
            f"the log in this backup ends at entry {entries}, but it was seen with {longest}: "
            f"{longest - entries} entries would be lost",
            code="backup_older",
            hint="restore a newer backup; or, if there is none, add `--accept-rollback --reason CODE` (recorded)",
        )
    return longest


def _notes(wish: Wish, keyring: Keyring) -> tuple[str, ...]:
    """Return the checkpoints that the old data folder holds: those of witnesses, and that of its own log."""
    if not wish.in_place:
        return ()
    found = [path.read_text(encoding="utf-8") for path in sorted((wish.home / "witness").glob("*.checkpoint"))]
    with suppress(ClinicError, OSError):  # a damaged log is why one restores
        found.append(_checkpoint_of(Config.load(wish.home), keyring))
    return tuple(found)


def _checkpoint_of(config: Config, keyring: Keyring) -> str:
    engine = open_engine(config.database)
    try:
        check_current(engine, config.migrations_dir)
        return Records(engine, keyring=keyring).audit.checkpoint()
    finally:
        engine.dispose()


def _write_files(building: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        if ".." in name.split("/") or not any(fnmatch(name, pattern) for pattern in SMALL_FILES):
            raise damaged(DATA, "it holds a file that no backup holds")
        path = building / name
        for folder in reversed(path.relative_to(building).parents):
            (building / folder).mkdir(mode=0o700, exist_ok=True)
        with exclusive(path.parent):
            create_private(path, content)


def _keep_beside(old: Path, building: Path) -> None:
    """Take over from the old folder what no backup holds: the development key, and newer checkpoints of witnesses."""
    key = Config.load(building).insecure_key_file
    if Config.load(building).key_source is KeySource.INSECURE_KEY_FILE and (old / key.name).is_file():
        with exclusive(building):
            create_private(building / key.name, (old / key.name).read_bytes())
    for path in sorted((old / "witness").glob("*")):
        if path.is_file() and not path.is_symlink():
            (building / "witness").mkdir(mode=0o700, exist_ok=True)
            shutil.copyfile(path, building / "witness" / path.name, follow_symlinks=False)
            (building / "witness" / path.name).chmod(0o600)


def _put_in_place(building: Path, home: Path, moment: str, *, in_place: bool) -> Path | None:
    if not in_place:
        building.rename(home)  # over an empty folder, too
        sync_tree_top(home.parent)
        return None
    # From here on the finished folder has the name under which the old one will be found, so that no later clearing
    # away can ever meet the old one.
    aside = home.with_name(f"{home.name}.before-restore-{moment}")
    building.rename(aside)
    exchange(home, aside)
    models = aside / "models"
    if models.is_dir() and not (home / "models").exists():
        with suppress(OSError):
            models.rename(home / "models")  # gigabytes that are no data
    return aside


def _give(building: Path, owner: Path) -> None:
    status = owner.stat()
    for place, _, files in os.walk(building):
        os.chown(place, status.st_uid, status.st_gid)
        for name in files:
            os.chown(Path(place) / name, status.st_uid, status.st_gid, follow_symlinks=False)


def _require_place(home: Path, *, in_place: bool) -> None:
    if in_place:
        if home.is_symlink() or not home.is_dir():
            raise ConfigError(
                f"there is no data folder at `{home}`", code="home_missing", hint="leave out --in-place to make one"
            )
        return
    if home.is_symlink() or (home.exists() and (not home.is_dir() or any(home.iterdir()))):
        raise ConfigError(
            f"`{home}` exists already and is not empty",
            code="home_exists",
            hint="name a new folder with --home; or add --in-place, which keeps the old one beside the new",
        )
