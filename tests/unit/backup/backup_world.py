"""What the tests of backups share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clinic.backup.create import Created, create
from clinic.backup.site import Site
from clinic.crypto.keys import UnlockSecret
from clinic.domain import OPERATOR, PatientId
from clinic.records.records import Records

CANARIES = (
    "Quillfeather Oddsworth",
    "a password Zephyrquill",
    "Marigold Canarybird",
    "Peregrine Canarysong",
    "canary audio bytes",
)
"""Texts that must never be seen in the clear: staff, password, two patients, speech."""


@dataclass
class Clinic:
    """A clinic, and what opens its keys."""

    site: Site
    secret: UnlockSecret
    patients: tuple[PatientId, ...]

    def back_up(self, usb: Path, *, new_disk: bool = False) -> Created:
        """Make a backup on a disk."""
        return create(self.site, to=usb, new_disk=new_disk)

    def add_entry(self, times: int = 1) -> None:
        """Let the log grow."""
        for _ in range(times):
            with self.site.records.write() as tx:
                tx.patients.list(OPERATOR)

    def events(self) -> list[str]:
        """Return the names of all audit events."""
        return [entry.event for entry in self.site.records.audit.entries()]


def names(records: Records) -> list[str]:
    """Return the names of the patients whose data open."""
    with records.write() as tx:
        return sorted(patient.data.name for patient in tx.patients.list(OPERATOR))


def files_below(folder: Path) -> list[Path]:
    """Return every file below a folder."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]
