"""`clinic audit accounting`: what was done with one patient's record, by whom, when and for what."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import click

from clinic.audit.accounting import PROOFS, Accounting, Line, Proof, as_csv
from clinic.cli.common import err, home_option, json_option, open_here, out, print_json
from clinic.domain import OPERATOR
from clinic.errors import InputError
from clinic.records.disclosures import disclosures

_DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.argument("patient_id", metavar="PATIENT")
@click.option("--from", "start", type=_DAY, help="The first day, UTC: 2026-11-26.  Default: from the beginning.")
@click.option("--to", "end", type=_DAY, help="The last day, UTC, included.  Default: until now.")
@click.option("--csv", "table", is_flag=True, help="A table for a spreadsheet on stdout.")
@home_option
@json_option
def accounting(*, patient_id: str, start: datetime | None, end: datetime | None, table: bool, as_json: bool) -> None:
    """List who read, changed, generated from or destroyed the record of a patient (by id, see `patient list`).

    The log is verified first, and the question is itself recorded in it.
    """
    if table and as_json:
        raise InputError("choose one of --csv and --json", code="input_invalid", hint="each fills standard output")
    _, _, records = open_here()
    found = disclosures(records, patient_id, actor=OPERATOR, start=_day(start), end=_day(end))
    with records.read() as tx:
        names: dict[str, str] = {user.id: user.username for user in tx.users.list()}
    if as_json:
        print_json(document(found, names))
    elif table:
        click.echo(as_csv(found, names), nl=False)
        _tell(found, to_stderr=True)
    else:
        for line in found.lines:
            out.print(_text(line, names), markup=False)
        _tell(found, to_stderr=False)


def document(found: Accounting, names: dict[str, str]) -> dict[str, Any]:
    """Return an accounting for programs."""
    lines = [
        {
            "seq": line.seq,
            "at": line.at,
            "user_id": line.actor,
            "user": names.get(line.actor),
            "role": line.role,
            "use": line.use.value,
            "event": line.event,
            "encounter": line.encounter,
            "purpose": line.purpose,
            "proof": line.proof.value,
        }
        for line in found.lines
    ]
    return {
        "pseudonym": found.pseudonym,
        "shredded": found.shredded,
        "from": None if found.start is None else found.start.isoformat(),
        "to": None if found.end is None else found.end.isoformat(),
        "through": found.through,
        "lines": lines,
        "proofs": {proof.value: found.count(proof) for proof in Proof},
        "common": dict(found.common),
    }


def _day(given: datetime | None) -> date | None:
    return None if given is None else given.date()


def _text(line: Line, names: dict[str, str]) -> str:
    who = f"{names.get(line.actor, line.actor)} ({line.role})"
    purpose = "" if line.purpose is None else f"  for {line.purpose}"
    doubt = "" if line.proof is Proof.SEALED else f"  [{PROOFS[line.proof]}]"
    return f"{line.seq:>6} {line.at} {line.use.value:<9} {line.event}  by {who}{purpose}{doubt}"


def _tell(found: Accounting, *, to_stderr: bool) -> None:
    console = err if to_stderr else out
    console.print(f"{len(found.lines)} entries about this patient, up to entry {found.through}; days and times are UTC")
    if found.shredded:
        console.print(
            "the patient's key is destroyed, and the sealed links with it: what is listed rests on the plain entries"
        )
    for proof in (Proof.UNSEALED, Proof.CONTRADICTED):
        if found.count(proof):
            console.print(f"{found.count(proof)} of them: {PROOFS[proof]}", markup=False)
    common = ", ".join(f"{count} {name}" for name, count in found.common if count)
    if common:
        console.print(f"not attributed, for they name no patient and may concern any: {common}", markup=False)
