"""Taking shredded patients out of the backups that can be reached, and bringing their keys up to the present.

Rules kept here:

* Only who the log says was shredded is taken out: a patient whom this log does not know, because it goes on from an
  older backup, keeps their key in the newer ones.
* A backup gets a new generation of keys as a whole; the one before is overwritten where it lies, then removed.
* With the keys goes `keys.json`: where every key can be wrapped as the clinic wraps it today, an old backup opens with
  today's passphrase and no longer with an old one, and needs no key version that was destroyed.
* What could not be reached stays outstanding: the log says so until it is done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from clinic.audit.events import BackupFailed, BackupRekeyed
from clinic.backup.history import History, Outstanding, history
from clinic.backup.keyparts import write_keys
from clinic.backup.locate import at_hand
from clinic.backup.manifest import DEKS, Deks, keys_folder
from clinic.backup.medium import Destination, erase, prepare, read_small
from clinic.backup.opened import Opened, open_backup
from clinic.backup.rows import KEY_COLUMN, KEY_TABLE, OWNER_COLUMN, damaged, snapshot
from clinic.backup.site import Progress, Site
from clinic.backup.stock import remove, take_stock
from clinic.crypto.aead import key_id_of
from clinic.crypto.durable import read_private
from clinic.crypto.keyfile import MAX_FILE_BYTES
from clinic.domain import OPERATOR, Actor
from clinic.errors import ClinicError, DecryptionError, InputError

_KEYS_QUERY = f"SELECT {OWNER_COLUMN}, {KEY_COLUMN} FROM {KEY_TABLE} WHERE {KEY_COLUMN} IS NOT NULL"  # noqa: S608
WRITE_OFF = ("destroyed", "lost")
"""Why a disk with backups will never be re-keyed."""


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """What was done: how many patients each backup forgot, and what is still outstanding."""

    forgotten: Mapping[str, int]
    outstanding: tuple[Outstanding, ...]
    failed: Mapping[str, str]


def rekey(site: Site, *, to: Path | None = None, actor: Actor = OPERATOR, progress: Progress | None = None) -> Rekeyed:
    """Re-key every backup at `to`, or at all destinations that can be reached now.

    This is what to call after a patient was shredded, once `patient.shredded` is committed: it reads from the log who
    that was, so that it can be called again, and nothing is lost if it never was.  The next backup does it as well.
    What it could not reach is in `outstanding`, what it could not do in `failed` (backup and error code).

    Raises:
        BackupError: `backup_running`.
        StorageError: the disk that was named cannot be used.
    """
    with site.operation("rekey") as state:
        state.listener = progress
        places = at_hand(site.config) if to is None else (prepare(to, used_before=True),)
        forgotten: dict[str, int] = {}
        failed: dict[str, str] = {}
        for place in places:
            with place.hold():
                take_stock(site, place, actor)
                work = _Work(site, history(site.records.audit), actor)
                for number, folder in enumerate(backups := place.backups(), start=1):
                    state.report("re-key", number, len(backups))
                    if folder.name in work.known.kept:
                        _attempt(work, folder, forgotten, failed)
    return Rekeyed(forgotten, history(site.records.audit).outstanding(), failed)


def follow(site: Site, destination: Destination, actor: Actor) -> None:
    """Re-key the backups at a destination that is held for which this is outstanding."""
    known = history(site.records.audit)
    names = {item.backup for item in known.outstanding() if item.destination == destination.id}
    work = _Work(site, known, actor) if names else None
    for folder in destination.backups():
        if work is not None and folder.name in names:
            _attempt(work, folder, {}, {})


def write_off(site: Site, destination: str, *, reason: str, actor: Actor = OPERATOR) -> tuple[str, ...]:
    """Note that a disk and all backups on it will never be seen again; return which they were.

    Raises:
        InputError: `destination_unknown`, `reason_unknown`.
    """
    if reason not in WRITE_OFF:
        raise InputError("no such reason", code="reason_unknown", hint=f"one of: {', '.join(WRITE_OFF)}")
    found = {kept.destination for kept in history(site.records.audit).kept.values()}
    named = [name for name in found if destination and name.startswith(destination)]
    if len(named) != 1:
        raise InputError(
            "no destination of that name holds backups, or more than one",
            code="destination_unknown",
            hint="`clinic backup list` names them; give as many digits as tell it from the others",
        )
    gone = tuple(kept.backup for kept in history(site.records.audit).at(named[0]))
    for backup in gone:
        remove(site, backup, named[0], reason=reason, actor=actor)
    return gone


class _Work:
    """What re-keying several backups needs, read once: the log first, so that it never claims more than was done."""

    def __init__(self, site: Site, known: History, actor: Actor) -> None:
        self.site = site
        self.known = known
        self.actor = actor
        self.through = max(known.shredded.values(), default=0)
        self.keys_file = read_private(site.config.keys_file, max_bytes=MAX_FILE_BYTES)
        with snapshot(site.config.database) as connection:
            self.wrapped: dict[str, bytes] = dict(connection.execute(_KEYS_QUERY).fetchall())


def _attempt(work: _Work, folder: Path, forgotten: dict[str, int], failed: dict[str, str]) -> None:
    """Re-key one backup; one that cannot be stays outstanding, and does not keep the others from it."""
    try:
        forgotten[folder.name] = _rekey(work, open_backup(folder, work.site.keys))
    except ClinicError as error:
        failed[folder.name] = error.code
        with suppress(ClinicError):
            work.site.records.audit.append(BackupFailed(operation="rekey", code=error.code), actor=work.actor)


def _rekey(work: _Work, opened: Opened) -> int:
    site, old = work.site, opened.deks
    gone = {patient: name for patient in old.keys if (name := site.pseudonym(patient)) in work.known.shredded}
    stay = {patient: wrapped for patient, wrapped in old.keys.items() if patient not in gone}
    keys, keys_file = _present(work, opened, stay)
    digest = hashlib.sha256(keys_file).hexdigest()
    kept = work.known.kept[old.backup]
    if gone or digest != old.keys_sha256 or keys != old.keys:
        new = Deks(old.backup, old.generation + 1, keys, old.forgotten | set(gone.values()), digest)
        recipients = site.keys.recipients(site.config.backup.recipients)
        write_keys(opened.folder, new, keys_file, signer=site.keys.signer, recipients=recipients)
        erase(opened.folder / keys_folder(old.generation))
    elif kept.through >= work.through:
        return 0
    event = BackupRekeyed(
        backup=old.backup,
        destination=kept.destination,
        generation=open_backup(opened.folder, site.keys).deks.generation,
        through=work.through,
        forgotten=len(gone),
    )
    site.records.audit.append(event, actor=work.actor)
    return len(gone)


def _present(work: _Work, opened: Opened, stay: Mapping[str, bytes]) -> tuple[Mapping[str, bytes], bytes]:
    """Return the keys as the clinic wraps them today with its `keys.json`; as they are where that cannot be done."""
    today = {patient: work.wrapped.get(patient, wrapped) for patient, wrapped in stay.items()}
    try:
        versions = {key_id_of(wrapped, what="a wrapped key") for wrapped in today.values()}
    except DecryptionError:
        raise damaged(DEKS, "it holds something that is no wrapped key") from None
    if versions <= set(work.site.keyring.versions):
        return today, work.keys_file
    return stay, read_small(opened.keys_file)
