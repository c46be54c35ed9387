"""`clinic glass`: break the glass for a refused encounter, and list who did."""

from __future__ import annotations

import sys

import click

from clinic.audit.glass import MINUTES, uses
from clinic.cli.common import home_option, json_option, open_here, out, print_json
from clinic.domain import EncounterId, EncounterState, GlassReason
from clinic.errors import InputError
from clinic.jobs.queue import JobQueue


@click.group()
def glass() -> None:
    """Broken glass: have a draft written where a policy says no, with a reason and a second factor."""


@glass.command("break")
@click.argument("encounter_id", metavar="ENCOUNTER")
@click.option("--user", "username", required=True, help="The clinician's account: password and code are asked for.")
@click.option("--reason", type=click.Choice([r.value for r in GlassReason]), required=True, help="Goes into the log.")
@home_option
@json_option
def break_glass(encounter_id: str, *, username: str, reason: str, as_json: bool) -> None:
    """Break the glass for ENCOUNTER, and have its draft written again by the worker.

    Asks for the password and then for the code of the second factor, or reads both from standard input, a line each.
    It holds for 15 minutes, for this clinician and this encounter, and lifts only what the policies let it lift.
    """
    config, _, records = open_here()
    user = records.authenticate(username, _line("Password", hidden=True))
    entry = records.break_glass(encounter_id, reason=GlassReason(reason), code=factor_code(), actor=user.actor)
    with records.write() as tx:
        again = tx.encounters.get(encounter_id).state in (EncounterState.DENIED, EncounterState.FAILED)
        if again:
            tx.encounters.mark(encounter_id, state=EncounterState.QUEUED)
    if again:
        JobQueue(config).enqueue(EncounterId(encounter_id), actor=user.actor)
    if as_json:
        print_json({"audit_seq": entry.seq, "encounter": encounter_id, "minutes": MINUTES, "queued": again})
        return
    out.print(f"the glass is broken for {MINUTES} minutes: audit entry {entry.seq}", markup=False)
    if again:
        out.print("the draft waits for the worker", markup=False)


@glass.command("list")
@home_option
@json_option
def list_uses(*, as_json: bool) -> None:
    """List who broke the glass, when, why, and the entries that relied on it; the newest first."""
    _, _, records = open_here()
    found = uses(records.audit)
    with records.read() as tx:
        names: dict[str, str] = {user.id: user.username for user in tx.users.list()}
    if as_json:
        print_json([use.as_json() for use in found])
        return
    for use in found:
        relied = ", ".join(map(str, use.relied)) or "nothing"
        out.print(
            f"entry {use.seq}  {use.at}  {names.get(use.actor, use.actor)}  {use.reason}  "
            f"encounter {use.encounter}  relied on by: {relied}",
            markup=False,
        )


def factor_code() -> str:
    """Ask for a code of the second factor, or read a line of standard input."""
    return _line("Code of the second factor")


def _line(prompt: str, *, hidden: bool = False) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(prompt, hide_input=hidden, err=True))
    line = sys.stdin.readline().rstrip("\n")
    if not line:
        raise InputError(
            f"nothing was given for: {prompt.lower()}", code="secret_missing", hint="type it, or pipe it in"
        )
    return line
