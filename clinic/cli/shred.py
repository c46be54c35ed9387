"""`clinic patient shred`: destroy a patient's record for good, here and in the backups."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from clinic.backup.history import history
from clinic.backup.rekey import rekey
from clinic.backup.site import Site
from clinic.cli.common import home_option, json_option, open_here, out, print_json
from clinic.domain import OPERATOR, ShredReason
from clinic.errors import BackupError, InputError
from clinic.records.shredding import Holdings, Shredded

_REASONS = tuple(reason.value for reason in ShredReason if reason is not ShredReason.BEFORE_RESTORE)


@click.command()
@click.argument("patient_id", metavar="PATIENT")
@click.option("--reason", type=click.Choice(_REASONS), required=True, help="Goes into the audit log.")
@click.option("--yes", is_flag=True, help="Do not ask; for programs.")
@home_option
@json_option
@click.pass_context
def shred(ctx: click.Context, *, patient_id: str, reason: str, yes: bool, as_json: bool) -> None:
    """Destroy the record of a patient (by id, see `patient list`): nothing can bring it back.

    Their key, data and audio are destroyed, and taken out of every backup that can be reached.  What was signed goes,
    too: the law may ask you to keep it.  The audit log stays whole.  Exit 1 if something is left to be done.
    """
    config, keyring, records = open_here()
    with records.read() as tx:
        held = tx.shredding.holdings(patient_id)
    if not yes:
        _confirm(patient_id, held)
    done = records.shred(patient_id, reason=ShredReason(reason), actor=OPERATOR)
    failed = _rekey(Site(config, keyring, records))
    outstanding = history(records.audit).outstanding()
    if as_json:
        later = [{"backup": item.backup, "destination": item.destination} for item in outstanding]
        print_json(_document(done) | {"failed": dict(failed), "outstanding": later})
    else:
        _print(done, failed)
        for item in outstanding:
            out.print(
                f"still to be done: backup {item.backup} on destination {item.destination[:8]}; plug its disk in and "
                "run `clinic backup rekey`",
                markup=False,
            )
    ctx.exit(0 if done.finished and not failed and not outstanding else 1)


def _confirm(patient_id: str, held: Holdings) -> None:
    if not sys.stdin.isatty():
        raise InputError(
            "nobody is there to confirm it",
            code="confirmation_missing",
            hint="run it at a terminal; or add --yes, if you are sure: nothing can bring the record back",
        )
    counts = f"{held.encounters} encounters, {held.recordings} recordings and {held.signed_notes} signed notes"
    click.echo(f"This destroys {counts} for good, in the backups, too.", err=True)
    if click.prompt("Type the patient's id once more to go on", err=True).strip() != patient_id:
        raise InputError("that is another id", code="confirmation_missing", hint="nothing was destroyed")


def _rekey(site: Site) -> Mapping[str, str]:
    """Re-key what can be reached; a backup that runs meanwhile leaves it to the next one, which says so."""
    try:
        return rekey(site, actor=OPERATOR).failed
    except BackupError as error:
        return {"*": error.code}


def _document(done: Shredded) -> dict[str, Any]:
    held = done.held
    counts = {"encounters": held.encounters, "recordings": held.recordings, "signed_notes": held.signed_notes}
    return {"destroyed": counts, "finished": done.finished}


def _print(done: Shredded, failed: Mapping[str, str]) -> None:
    held = done.held
    out.print(
        f"destroyed: {held.encounters} encounters, {held.recordings} recordings, {held.signed_notes} signed notes",
        markup=False,
    )
    if not done.finished:
        out.print("bytes of the destroyed key still lie in the files; the worker, or the next command, takes them out")
    for backup, code in failed.items():
        out.print(f"backup {'(all)' if backup == '*' else backup} could not be re-keyed: {code}", markup=False)
