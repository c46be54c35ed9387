"""Making a backup while the clinic runs.

Rules kept here:

* One state of the database, log included, goes straight from a read transaction into age: no copy of it lies anywhere.
* It is read back from the medium, rebuilt and verified before it gets its name; it is recorded (`backup.created`)
  before that, so no backup exists that the log misses.
* Whatever fails leaves every earlier backup as it was, and is recorded (`backup.failed`).
* Only after a backup that went well are the oldest ones removed, down to `keep`.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyrage

from clinic import __version__
from clinic.audit.entry import timestamp
from clinic.audit.events import BackupCreated, BackupFailed
from clinic.backup import ageio
from clinic.backup.history import history
from clinic.backup.keyparts import write_keys
from clinic.backup.manifest import DATA, FORMAT, MANIFEST, Deks, Manifest
from clinic.backup.medium import Destination, erase, make_folder, prepare, publish, unusable, write_small
from clinic.backup.opened import Checked, check, open_backup
from clinic.backup.rebuild import AUDIO
from clinic.backup.rekey import follow
from clinic.backup.rows import quoted, snapshot, stream
from clinic.backup.site import Progress, Site, State, known_destinations
from clinic.backup.stock import remove, take_stock
from clinic.config import Config
from clinic.crypto.durable import read_private
from clinic.crypto.keyfile import MAX_FILE_BYTES
from clinic.domain import OPERATOR, Actor
from clinic.errors import BackupError, ClinicError, ConfigError, StorageError

_MARGIN: Final = 8 << 20
_SMALL_FILE: Final = 1 << 20
_POLICY_SETS: Final = tuple(
    f"policies/{name}" for name in ("ACTIVATION-*", "[0-9a-f]*/*", "[0-9a-f]*/*/*", "[0-9a-f]*/*/*/*")
)
SMALL_FILES: Final = ("clinic.toml", "tls/ca.crt", "tls/ca.key.sealed", "witness/*", *_POLICY_SETS)
"""What a new box needs beside database and keys: settings, certificate authority (sealed), witnessed checkpoints, and
the signed policy sets, without which nothing is decided."""


@dataclass(frozen=True, slots=True)
class Created:
    """A backup that was made, and what was found when it was read back."""

    folder: Path
    manifest: Manifest
    checked: Checked
    removed: tuple[str, ...]


def create(
    site: Site,
    *,
    to: Path | None = None,
    new_disk: bool = False,
    actor: Actor = OPERATOR,
    progress: Progress | None = None,
) -> Created:
    """Make a backup in the folder `to`, or else in the configured one.

    Raises:
        BackupError: `backup_running`, or what was written does not read back (`backup_damaged`).
        StorageError: `destination_missing`, `destination_full` and its kin.
        AuditError: the log does not verify, or cannot be written.
    """
    with site.operation("create") as state:
        state.listener = progress
        try:
            return _create(site, state, to or _configured(site.config), new_disk=new_disk, actor=actor)
        except ClinicError as error:
            with suppress(ClinicError):  # the first error is the one to be told
                site.records.audit.append(BackupFailed(operation="create", code=error.code), actor=actor)
            raise


def _create(site: Site, state: State, folder: Path, *, new_disk: bool, actor: Actor) -> Created:
    recipients = site.keys.recipients(site.config.backup.recipients)
    used_before = not new_disk and any(path == folder.absolute() for path in known_destinations(site.config).values())
    destination = prepare(folder, used_before=used_before)
    with destination.hold():
        site.remember(destination.id, folder.absolute())
        take_stock(site, destination, actor)
        follow(site, destination, actor)
        backup = f"{site.clock():%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        partial = destination.store / f".{backup}.partial"
        make_folder(partial)
        try:
            manifest = _write(site, state, partial, destination=destination, recipients=recipients)
            checked = check(site, open_backup(partial, site.keys), state)
            _record(site, manifest, partial, destination=destination, actor=actor)
        finally:
            if partial.exists():
                with suppress(StorageError):
                    erase(partial)
        removed = _expire(site, destination, actor)
        follow(site, destination, actor)  # whoever was shredded meanwhile
    return Created(folder=destination.store / backup, manifest=manifest, checked=checked, removed=removed)


def _write(
    site: Site,
    state: State,
    partial: Path,
    *,
    destination: Destination,
    recipients: list[pyrage.x25519.Recipient],
) -> Manifest:
    config, backup = site.config, partial.name.split(".")[1]
    wrapped: dict[str, bytes] = {}
    tables: dict[str, int] = {}
    keys = read_private(config.keys_file, max_bytes=MAX_FILE_BYTES)
    with snapshot(config.database) as connection:
        entries, revision = _place(connection)
        files = _small_files(config)  # after the log: each policy set that it names lies there before it is named
        plain, audio = _sizes(connection)
        if destination.free_bytes() < plain + _MARGIN:
            raise unusable(OSError(28, "no space"), partial)
        rows = stream(connection, files=files, keys=wrapped.__setitem__, counts=tables)
        written = ageio.write(partial / DATA, rows, recipients, step=state.counter("write", plain))
    deks = Deks(backup, 1, wrapped, frozenset(), hashlib.sha256(keys).hexdigest())
    write_keys(partial, deks, keys, signer=site.keys.signer, recipients=recipients)
    manifest = Manifest(
        format=FORMAT,
        backup=backup,
        destination=destination.id,
        created_at=timestamp(site.clock()),
        program=__version__,
        schema_revision=revision,
        origin=site.records.audit.origin,
        entries=entries,
        checkpoint=site.records.audit.checkpoint(size=entries),
        patients=len(wrapped),
        tables=tables,
        files=tuple(sorted(files)),
        plain_bytes=plain,
        scratch_bytes=plain - audio,
        data_bytes=written.size,
        data_sha256=written.sha256,
    )
    write_small(partial / MANIFEST, pyrage.encrypt(manifest.pack(site.keys.signer), recipients))
    return manifest


def _record(site: Site, manifest: Manifest, partial: Path, *, destination: Destination, actor: Actor) -> None:
    """Write the backup into the log, then give it its name."""
    event = BackupCreated(
        backup=manifest.backup,
        destination=destination.id,
        entries=manifest.entries,
        size=manifest.data_bytes,
        sha256=manifest.data_sha256,
    )
    site.records.audit.append(event, actor=actor)
    try:
        publish(partial, destination.store / manifest.backup)
    except StorageError:
        remove(site, manifest.backup, destination.id, reason="missing", actor=actor)
        raise


def _expire(site: Site, destination: Destination, actor: Actor) -> tuple[str, ...]:
    known = {kept.backup for kept in history(site.records.audit).at(destination.id)}
    mine = [folder for folder in destination.backups() if folder.name in known]
    expired = mine[: -site.config.backup.keep]
    for folder in expired:
        erase(folder)
        remove(site, folder.name, destination.id, reason="expired", actor=actor)
    return tuple(folder.name for folder in expired)


def _configured(config: Config) -> Path:
    if config.backup.destination is None:
        raise ConfigError(
            "no place for backups is configured",
            code="destination_unset",
            hint="give `--to DIR`, or set `destination` under `[backup]` in clinic.toml",
        )
    return config.backup.destination


def _place(connection: sqlite3.Connection) -> tuple[int, str]:
    (entries,) = connection.execute("SELECT max(seq) FROM audit_entries").fetchone()
    (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if not entries:
        raise BackupError("the audit log is empty", code="backup_damaged", hint="run `clinic doctor`")
    return int(entries), str(revision)


def _sizes(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the size of the database, and how much of it is audio."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page,) = connection.execute("PRAGMA page_size").fetchone()
    table, column = map(quoted, AUDIO)
    query = f"SELECT coalesce(sum(length({column})), 0) FROM {table}"  # noqa: S608 - constants only
    (audio,) = connection.execute(query).fetchone()
    total = int(pages) * int(page)
    return total, min(int(audio), total)


def _small_files(config: Config) -> dict[str, bytes]:
    found = {}
    for pattern in SMALL_FILES:
        for path in sorted(config.home.glob(pattern)):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_size <= _SMALL_FILE:
                found[path.relative_to(config.home).as_posix()] = path.read_bytes()
    return found
