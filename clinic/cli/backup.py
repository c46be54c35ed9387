"""`clinic backup`: create, verify, drill, rekey, list, restore."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn

from clinic.backup.create import create as make_backup
from clinic.backup.drill import drill as run_drill
from clinic.backup.history import History, history
from clinic.backup.locate import at_hand, locate, newest
from clinic.backup.opened import Checked, check, open_backup
from clinic.backup.rekey import WRITE_OFF, write_off
from clinic.backup.rekey import rekey as run_rekey
from clinic.backup.restore import REASONS, Restored, Wish
from clinic.backup.restore import restore as restore_backup
from clinic.backup.site import Progress as Report
from clinic.backup.site import Site, known_destinations, state_of
from clinic.cli.audit import read_text
from clinic.cli.common import err, home_option, home_path, json_option, open_here, out, print_json
from clinic.cli.keys import ask_recovery
from clinic.crypto.keys import KeyBytes, Passphrase, UnlockSecret
from clinic.crypto.process import harden_process
from clinic.crypto.sources import read_insecure_key_file
from clinic.doctor import examine
from clinic.errors import InputError, SealedError
from clinic.handover import PASSPHRASE_VARIABLE

folder_option = click.option(
    "--to", "folder", type=click.Path(file_okay=False, path_type=Path), help="Default: `backup.destination`."
)
backup_argument = click.argument("backup", required=False, type=click.Path(path_type=Path))


@click.group()
def backup() -> None:
    """Encrypted backups: made while the clinic runs, verified, drilled, restored."""


@backup.command()
@folder_option
@click.option("--new-disk", is_flag=True, help="Another disk is mounted at a place that was used before.")
@home_option
@json_option
def create(*, folder: Path | None, new_disk: bool, as_json: bool) -> None:
    """Make a backup, read it back and verify it.  The clinic may go on working meanwhile."""
    site = _site()
    with progress(enabled=not as_json) as report:
        made = make_backup(site, to=folder, new_disk=new_disk, progress=report)
    if as_json:
        print_json({"path": str(made.folder), **_document(made.checked), "removed": list(made.removed)})
        return
    out.print(f"{made.folder}: {made.manifest.data_bytes / 2**20:.1f} MiB", markup=False)
    _print_checked(made.checked)
    for name in made.removed:
        out.print(f"expired and removed: {name}", markup=False)
    _print_outstanding(history(site.records.audit))


@backup.command()
@backup_argument
@click.option("--deep", is_flag=True, help="Open the recordings, too.")
@home_option
@json_option
@click.pass_context
def verify(ctx: click.Context, *, backup: Path | None, deep: bool, as_json: bool) -> None:
    """Read a backup (default: the newest) and verify all of it.  Exit 1 if anything is wrong; it is named."""
    site = _site()
    folder = newest(site) if backup is None else locate(backup)
    with progress(enabled=not as_json) as report, site.operation("verify") as state:
        state.listener = report
        checked = check(site, open_backup(folder, site.keys), state, deep=deep)
    if as_json:
        print_json({"path": str(folder), **_document(checked)})
    else:
        out.print(str(folder), markup=False)
        _print_checked(checked)
    ctx.exit(1 if checked.findings else 0)


@backup.command()
@backup_argument
@home_option
@json_option
def drill(*, backup: Path | None, as_json: bool) -> None:
    """Restore the newest backup (or the one named) into a scratch, open every record, and remove it again."""
    site = _site()
    with progress(enabled=not as_json) as report:
        checked = run_drill(site, backup=backup, progress=report)
    if as_json:
        print_json({"path": str(checked.opened.folder), **_document(checked)})
        return
    out.print(str(checked.opened.folder), markup=False)
    _print_checked(checked)
    out.print("drill: this backup would have brought the clinic back; the scratch is removed", markup=False)


@backup.command()
@folder_option
@home_option
@json_option
@click.pass_context
def rekey(ctx: click.Context, *, folder: Path | None, as_json: bool) -> None:
    """Take shredded patients out of every backup that can be reached, and bring their keys up to date.

    Exit 1 if a backup still holds the key of a shredded patient.
    """
    site = _site()
    with progress(enabled=not as_json) as report:
        done = run_rekey(site, to=folder, progress=report)
    if as_json:
        print_json(
            {
                "rekeyed": dict(done.forgotten),
                "failed": dict(done.failed),
                "outstanding": [{"backup": o.backup, "destination": o.destination} for o in done.outstanding],
            }
        )
    else:
        for name, count in done.forgotten.items():
            out.print(f"{name}: {count} shredded patients taken out", markup=False)
        for name, code in done.failed.items():
            out.print(f"{name}: not done ({code})", markup=False)
        _print_outstanding(history(site.records.audit))
    ctx.exit(1 if done.outstanding or done.failed else 0)


@backup.command("write-off")
@click.argument("destination")
@click.option("--reason", type=click.Choice(WRITE_OFF), required=True, help="What became of the disk.")
@home_option
def write_off_command(*, destination: str, reason: str) -> None:
    """Note that the disk DESTINATION (as `list` names it) and all backups on it are no more."""
    for name in write_off(_site(), destination, reason=reason):
        out.print(f"written off: {name}", markup=False)


@backup.command("list")
@home_option
@json_option
def list_command(*, as_json: bool) -> None:
    """List the backups that the log knows, which of them can be reached, and what is outstanding."""
    site = _site()
    known = history(site.records.audit)
    there = {folder.name: folder for place in at_hand(site.config) for folder in place.backups()}
    running = state_of(site.config)
    if as_json:
        print_json(_listed(site, known, there, running))
        return
    for kept in known.kept.values():
        where = there.get(kept.backup)
        place = str(where) if where is not None else f"not at hand (destination {kept.destination[:8]})"
        out.print(f"{kept.backup}  {kept.size / 2**20:8.1f} MiB  log to entry {kept.entries}  {place}", markup=False)
    if not known.kept:
        out.print("no backup was made yet: clinic backup create --to DIR", markup=False)
    if running is not None:
        out.print(f"running now: {running['operation']}, {running['stage']}", markup=False)
    _print_outstanding(known)


@backup.command()
@click.argument("backup", type=click.Path(path_type=Path))
@click.option("--in-place", is_flag=True, help="Take the place of the data folder that is there; it is kept beside.")
@click.option("--recovery", is_flag=True, help="Unlock with two of the recovery sheets.")
@click.option("--credential", type=click.Path(path_type=Path), help="Unlock with this credential file (systemd).")
@click.option("--key-file", type=click.Path(path_type=Path), help="Unlock with this development key file.")
@click.option(
    "--checkpoint", "checkpoints", multiple=True, type=click.Path(path_type=Path), help="A witness's; repeatable."
)
@click.option("--accept-rollback", is_flag=True, help="Go on although entries of the log are lost; needs --reason.")
@click.option("--reason", type=click.Choice(REASONS), help="Why; it is recorded in the restored log.")
@home_option
@json_option
@click.pass_context
def restore(
    ctx: click.Context,
    *,
    backup: Path,
    in_place: bool,
    recovery: bool,
    credential: Path | None,
    key_file: Path | None,
    checkpoints: tuple[Path, ...],
    accept_rollback: bool,
    reason: str | None,
    as_json: bool,
) -> None:
    """Restore BACKUP to the data folder that --home names, which does not exist yet or is empty."""
    if accept_rollback != (reason is not None):
        raise InputError(
            "a rollback is accepted with its reason, or not at all",
            code="reason_missing",
            hint=f"give both: --accept-rollback --reason, one of {', '.join(REASONS)}",
        )
    folder, home = locate(backup), home_path()
    secret = _secret(home, recovery=recovery, credential=credential, key_file=key_file, in_place=in_place)
    wish = Wish(home, in_place=in_place, checkpoints=tuple(map(read_text, checkpoints)), reason=reason)
    with progress(enabled=not as_json) as report:
        restored = restore_backup(folder, secret, wish, progress=report)
    findings = examine(restored.config, restored.keyring)
    sound = not restored.findings
    if as_json:
        print_json(_restored(restored, findings))
    else:
        _print_restored(restored)
        for finding in findings:
            out.print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.check}: {finding.detail}", markup=False)
    ctx.exit(0 if sound else 1)


@contextmanager
def progress(*, enabled: bool) -> Iterator[Report]:
    """Show one bar a stage on stderr; yields the function that is reported to."""
    if not enabled:
        yield lambda _stage, _done, _total: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description:<10}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=err) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total or None)
            bars.update(tasks[stage], completed=done, total=total or None)

        yield report
        for task in bars.tasks:
            bars.update(task.id, total=task.total or task.completed, completed=task.total or task.completed)


def _site() -> Site:
    config, keyring, records = open_here()
    return Site(config, keyring, records)


def _secret(
    home: Path, *, recovery: bool, credential: Path | None, key_file: Path | None, in_place: bool
) -> UnlockSecret:
    harden_process()
    if recovery:
        return ask_recovery()
    if credential is not None:
        return KeyBytes.from_text(read_text(credential).encode(), "credential")
    development = home / "INSECURE-development.key"
    if key_file is None and in_place and development.is_file():
        key_file = development
    if key_file is not None:
        return read_insecure_key_file(key_file)
    passphrase = os.environ.pop(PASSPHRASE_VARIABLE, None)
    if passphrase is None and sys.stdin.isatty():
        passphrase = click.prompt("Passphrase of the clinic when the backup was made", hide_input=True, err=True)
    if passphrase is None:
        raise SealedError(
            "the backup is sealed: nothing was given that opens its keys",
            code="sealed",
            hint="run it at a terminal, where it asks; or give --recovery, --credential or --key-file",
        )
    return Passphrase(passphrase)


def _document(checked: Checked) -> dict[str, Any]:
    manifest = checked.opened.manifest
    return {
        "backup": manifest.backup,
        "created_at": manifest.created_at,
        "bytes": manifest.data_bytes,
        "sha256": manifest.data_sha256,
        "entries": checked.entries,
        "rows": checked.rows,
        "patients": checked.patients,
        "forgotten": checked.forgotten,
        "findings": [{"problem": f.problem, "kind": f.kind, "id": f.id} for f in checked.findings],
        "seconds": round(checked.seconds, 3),
    }


def _print_checked(checked: Checked) -> None:
    out.print(
        f"read back: {checked.rows} rows, keys of {checked.patients} patients open, "
        f"audit log of {checked.entries} entries verified, in {checked.seconds:.1f} s",
        markup=False,
    )
    for finding in checked.findings[:5]:
        out.print(f"does not fit the log: {finding.kind} {finding.id} {finding.problem}", markup=False)
    if checked.findings:
        out.print("the same is wrong in the clinic, or was when it was made: `clinic doctor`", markup=False)


def _print_outstanding(known: History) -> None:
    for item in known.outstanding():
        noun = "patient" if item.patients == 1 else "patients"
        out.print(
            f"still holds the key of {item.patients} shredded {noun}: {item.backup} (destination "
            f"{item.destination[:8]}); plug its disk in and run `clinic backup rekey --to DIR`",
            markup=False,
        )


def _listed(site: Site, known: History, there: dict[str, Path], running: dict[str, Any] | None) -> dict[str, Any]:
    folders = known_destinations(site.config)
    return {
        "backups": [
            {
                "backup": kept.backup,
                "destination": kept.destination,
                "at": _iso(kept.at),
                "bytes": kept.size,
                "entries": kept.entries,
                "path": str(there[kept.backup]) if kept.backup in there else None,
                "last_seen": str(folders[kept.destination]) if kept.destination in folders else None,
            }
            for kept in known.kept.values()
        ],
        "outstanding": [
            {"backup": item.backup, "destination": item.destination, "patients": item.patients}
            for item in known.outstanding()
        ],
        "drill": None
        if known.drill is None
        else {"at": _iso(known.drill.at), "backup": known.drill.backup, "result": known.drill.result},
        "failures": [{"operation": f.operation, "code": f.code, "at": _iso(f.at)} for f in known.failures],
        "running": running,
    }


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _print_restored(restored: Restored) -> None:
    out.print(f"restored {restored.backup} to {restored.config.home}", markup=False)
    out.print(f"audit log: {restored.entries} entries, verified; {restored.patients} patients' keys open", markup=False)
    if restored.witnessed > restored.entries:
        out.print(f"entries {restored.entries + 1} to {restored.witnessed} are lost; recorded", markup=False)
    if restored.kept_aside is not None:
        out.print(f"the old data folder is kept: {restored.kept_aside}", markup=False)


def _restored(restored: Restored, findings: tuple[Any, ...]) -> dict[str, Any]:
    return {
        "home": str(restored.config.home),
        "backup": restored.backup,
        "entries": restored.entries,
        "witnessed": restored.witnessed,
        "patients": restored.patients,
        "forgotten": restored.forgotten,
        "findings": [{"problem": f.problem, "kind": f.kind, "id": f.id} for f in restored.findings],
        "kept_aside": None if restored.kept_aside is None else str(restored.kept_aside),
        "checks": [{"check": f.check, "ok": f.ok, "detail": f.detail} for f in findings],
    }
