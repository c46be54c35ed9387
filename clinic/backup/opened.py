"""A backup whose manifest and keys were opened and found to belong together, and what it takes to believe the rest.

Rules kept here:

* Each part is what the clinic's signature says, or the first that is not is named.
* The whole of it is rebuilt in a private scratch, the log inside is verified against its checkpoint, every sealed value
  is opened and every row is held against the log; recordings too if `deep`.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from clinic.backup.forgotten import excuse
from clinic.backup.history import History, history
from clinic.backup.keys import BackupKeys
from clinic.backup.manifest import DATA, DEKS, KEYS, MANIFEST, Deks, Manifest, keys_folder, read_deks, read_manifest
from clinic.backup.medium import BACKUP_ID, generations, incomplete, read_small
from clinic.backup.rebuild import rebuild
from clinic.backup.rows import damaged
from clinic.backup.site import Site, State
from clinic.crypto.keys import Keyring
from clinic.errors import BackupError, DecryptionError
from clinic.records.engine import integrity_problems, open_engine
from clinic.records.migrate import upgrade
from clinic.records.records import Records
from clinic.records.sweep import Finding


@dataclass(frozen=True, slots=True)
class Opened:
    """A backup, its small parts read and believed.  `keys_file` is the `keys.json` in it."""

    folder: Path
    keys_file: Path
    manifest: Manifest
    deks: Deks


@dataclass(frozen=True, slots=True)
class Checked:
    """A backup that is whole.  `findings` are records that did not fit the log already when it was made."""

    opened: Opened
    entries: int
    rows: int
    patients: int
    forgotten: int
    findings: tuple[Finding, ...]
    seconds: float


def open_backup(folder: Path, keys: BackupKeys) -> Opened:
    """Read the small parts of a backup.

    Raises:
        BackupError: `backup_incomplete`, `backup_damaged`, `backup_foreign`, `backup_newer`.
    """
    inside = keys_of(folder)
    for part in (folder / DATA, folder / MANIFEST, inside / DEKS, inside / KEYS):
        if not part.is_file():
            raise incomplete(part)
    manifest = read_manifest(read_small(folder / MANIFEST), keys.identity, keys.signer)
    if BACKUP_ID.fullmatch(folder.name) and folder.name != manifest.backup:
        raise damaged(MANIFEST, "it belongs to another backup")
    deks = read_deks(read_small(inside / DEKS), keys.identity, keys.signer, backup=manifest.backup)
    if inside.name != keys_folder(deks.generation):
        raise damaged(DEKS, "it is of another generation")
    if hashlib.sha256(read_small(inside / KEYS)).hexdigest() != deks.keys_sha256:
        raise damaged(KEYS, "it is not the file that the clinic put there")
    if (folder / DATA).stat().st_size != manifest.data_bytes:
        raise damaged(DATA, "it is longer or shorter than it was made")
    return Opened(folder=folder, keys_file=inside / KEYS, manifest=manifest, deks=deks)


def keys_of(folder: Path) -> Path:
    """Return the folder of the newest generation of keys in a backup.

    Raises:
        BackupError: `backup_incomplete`.
    """
    found = generations(folder)
    if not found:
        raise incomplete(folder / DEKS)
    return folder / keys_folder(found[-1])


def check(site: Site, opened: Opened, state: State, *, deep: bool = False) -> Checked:
    """Rebuild a backup in a scratch and believe nothing of it before it was seen.

    Raises:
        BackupError: `backup_damaged` and its kin.
        StorageError: `disk_full`: no room to look at it.
    """
    began = time.monotonic()
    manifest = opened.manifest
    _require_present(history(site.records.audit), opened)
    needed = manifest.plain_bytes if deep else manifest.scratch_bytes
    # Its keys are wrapped anew under a key that only this process holds.
    keyring = site.keyring.with_new_kek()
    with site.scratch(needed + needed // 4) as scratch:
        database = scratch / "clinic.db"
        built = rebuild(
            opened.folder,
            database,
            manifest=manifest,
            deks=opened.deks,
            identity=site.keys.identity,
            pseudonym=site.pseudonym,
            wrap=Wrap(keyring),
            audio=deep,
            step=state.counter("read back", manifest.data_bytes),
        )
        state.report("verify", 0, 0)
        found = _look(site, database, keyring, manifest, deep=deep)
        findings = excuse(found, database, built.without_key, site.pseudonym)
    return Checked(
        opened=opened,
        entries=manifest.entries,
        rows=sum(built.tables.values()),
        patients=manifest.patients,
        forgotten=len(built.without_key),
        findings=findings,
        seconds=time.monotonic() - began,
    )


def verify_inside(records: Records, manifest: Manifest) -> None:
    """Verify the audit log of a rebuilt database against the checkpoint of its moment.

    Raises:
        BackupError: `backup_damaged`.
    """
    report = records.audit.verify(checkpoint=manifest.checkpoint)
    if not report.ok:
        raise damaged(DATA, f"the audit log inside does not verify ({report.problem}): {report.message}")
    if report.entries != manifest.entries or records.audit.origin != manifest.origin:
        raise damaged(DATA, "the audit log inside is not the one of its manifest")


def _look(site: Site, database: Path, keyring: Keyring, manifest: Manifest, *, deep: bool) -> tuple[Finding, ...]:
    engine = open_engine(database)
    try:
        upgrade(engine, site.config.migrations_dir)
        records = Records(engine, keyring=keyring, clock=site.clock)
        verify_inside(records, manifest)
        problems = integrity_problems(engine)
        if problems:
            raise damaged(DATA, f"the database inside is not sound: {problems[0]}")
        return records.sweep(deep=deep)
    finally:
        engine.dispose()


class Wrap:
    """Wraps a key anew; one that does not open is damage."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def __call__(self, patient: str, wrapped: bytes) -> bytes:
        """Return the key of a patient under the active key version."""
        try:
            return self._keyring.rewrap_dek(patient, wrapped)
        except DecryptionError:
            raise damaged(DEKS, "the key of a patient does not open") from None


def _require_present(known: History, opened: Opened) -> None:
    """Refuse a backup into which somebody put back an older generation of its keys."""
    kept = known.kept.get(opened.manifest.backup)
    if kept is not None and opened.deks.generation < kept.generation:
        raise BackupError(
            f"`{DEKS}` of the backup is older than the one that the log knows",
            code="backup_damaged",
            hint="somebody put an older one back, in which shredded patients may still have their keys: destroy it",
        )
