"""Keeping the log's book of backups and a disk in agreement."""

from __future__ import annotations

from contextlib import suppress

from clinic.audit.events import BackupFound, BackupRemoved
from clinic.backup.history import history
from clinic.backup.manifest import Manifest
from clinic.backup.medium import Destination
from clinic.backup.opened import open_backup
from clinic.backup.site import Site
from clinic.domain import Actor
from clinic.errors import BackupError


def take_stock(site: Site, destination: Destination, actor: Actor) -> None:
    """Tell the log which backups are no longer on this disk, and which are there that it does not know.

    Missing: a crash before the last rename, or somebody's hand.  Unknown: the log goes on from an older backup.
    """
    there = {folder.name: folder for folder in destination.backups()}
    known = history(site.records.audit)
    for kept in known.at(destination.id):
        if kept.backup not in there:
            remove(site, kept.backup, destination.id, reason="missing", actor=actor)
    for name, folder in there.items():
        if name not in known.kept:
            with suppress(BackupError):  # another clinic's, or damaged: not ours to keep book of
                found = found_event(open_backup(folder, site.keys).manifest)
                site.records.audit.append(found, actor=actor)


def found_event(manifest: Manifest) -> BackupFound:
    """Return the event that a backup was found which the log did not know."""
    return BackupFound(
        backup=manifest.backup,
        destination=manifest.destination,
        entries=manifest.entries,
        size=manifest.data_bytes,
        sha256=manifest.data_sha256,
    )


def remove(site: Site, backup: str, destination: str, *, reason: str, actor: Actor) -> None:
    """Tell the log that a backup is no more."""
    site.records.audit.append(BackupRemoved(backup=backup, destination=destination, reason=reason), actor=actor)
