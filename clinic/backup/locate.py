"""Which backup is meant: a folder that is one, a folder that holds some, or the newest at a known destination."""

from __future__ import annotations

from pathlib import Path

from clinic.backup.manifest import MANIFEST
from clinic.backup.medium import BACKUP_ID, Destination, find
from clinic.backup.site import Site, known_destinations
from clinic.config import Config
from clinic.errors import BackupError


def at_hand(config: Config) -> tuple[Destination, ...]:
    """Return the known destinations that can be reached now, and the configured one."""
    folders = dict.fromkeys(known_destinations(config).values())
    if config.backup.destination is not None:
        folders[config.backup.destination.absolute()] = None
    found = {place.id: place for folder in folders if (place := find(folder)) is not None}
    return tuple(found.values())


def locate(folder: Path) -> Path:
    """Return the backup that `folder` is, or the newest of those that it holds.

    Raises:
        BackupError: `backup_missing`.
    """
    folder = folder.absolute()
    if (folder / MANIFEST).exists() or BACKUP_ID.fullmatch(folder.name):
        if folder.is_dir():
            return folder
        raise _missing(folder)
    place = find(folder)
    found = place.backups() if place is not None else ()
    if not found:
        raise _missing(folder)
    return found[-1]


def newest(site: Site) -> Path:
    """Return the newest backup that can be reached.

    Raises:
        BackupError: `backup_missing`.
    """
    found = [folder for place in at_hand(site.config) for folder in place.backups()]
    if not found:
        raise BackupError(
            "no backup of this clinic can be reached",
            code="backup_missing",
            hint="plug in the disk, or make one with `clinic backup create --to DIR`",
        )
    return max(found, key=lambda folder: folder.name)


def _missing(folder: Path) -> BackupError:
    return BackupError(
        f"there is no backup at `{folder}`",
        code="backup_missing",
        hint="name the folder of one backup (its name is a time), or the folder that was given to `--to`",
    )
