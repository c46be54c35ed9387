"""The exercise: restore the newest backup for real into a scratch, read it, and remove it again.

Rules kept here:

* Nothing is generated and nothing of the clinic is touched; the outcome, good or bad, is an audit event.
* What is counted as good: every part whole, the log verified against its checkpoint, every sealed value opened,
  recordings too, every row in agreement with the log.
"""

from __future__ import annotations

import time
from pathlib import Path

from clinic.audit.events import BackupDrilled
from clinic.backup.locate import locate, newest
from clinic.backup.medium import BACKUP_ID
from clinic.backup.opened import Checked, check, open_backup
from clinic.backup.site import Progress, Site, State
from clinic.domain import OPERATOR, Actor
from clinic.errors import BackupError, ClinicError


def drill(
    site: Site, *, backup: Path | None = None, actor: Actor = OPERATOR, progress: Progress | None = None
) -> Checked:
    """Restore the newest backup that can be reached, or the one named, into a scratch; report what was found.

    Raises:
        BackupError: it would not have served; recorded all the same.
    """
    with site.operation("drill") as state:
        state.listener = progress
        began, folder = time.monotonic(), locate(backup) if backup is not None else newest(site)
        try:
            done = _drill(site, state, folder)
        except ClinicError as error:
            _record(site, folder.name, None, result=error.code, seconds=time.monotonic() - began, actor=actor)
            raise
        seconds = time.monotonic() - began
        _record(site, done.opened.manifest.backup, done, result="ok", seconds=seconds, actor=actor)
        return done


def _drill(site: Site, state: State, folder: Path) -> Checked:
    done = check(site, open_backup(folder, site.keys), state, deep=True)
    if done.findings:
        first = done.findings[0]
        raise BackupError(
            f"{len(done.findings)} records of the backup do not fit its log: {first.kind} {first.id} {first.problem}",
            code="backup_unsound",
            hint="the same is wrong in the clinic, or was when it was made: see `clinic doctor`; call the auditor",
        )
    return done


def _record(site: Site, name: str, done: Checked | None, *, result: str, seconds: float, actor: Actor) -> None:
    event = BackupDrilled(
        backup=name if BACKUP_ID.fullmatch(name) else "-",
        result=result,
        entries=done.entries if done else 0,
        patients=done.patients if done else 0,
        seconds=round(seconds),
    )
    site.records.audit.append(event, actor=actor)
