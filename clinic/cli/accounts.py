"""`clinic user` and `clinic patient`."""

from __future__ import annotations

import sys
from datetime import datetime

import click
import segno

from clinic.cli.common import home_option, json_option, open_here, out, print_json
from clinic.cli.glass import factor_code
from clinic.cli.people import import_patients
from clinic.cli.shred import shred
from clinic.domain import OPERATOR, Role
from clinic.errors import InputError, RecordError
from clinic.records.patients import Patient, PatientData


def _password() -> str:
    """Ask at the terminal, or read a line of standard input: never an argument, which others can see."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise InputError("no password was given", code="password_missing", hint="type it at the terminal or pipe it in")
    return password


@click.group()
def user() -> None:
    """Accounts of the web form."""


@user.command()
@click.argument("username")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@click.option("--name", "display_name", help="Name shown in notes.  Default: the user name.")
@home_option
@json_option
def add(username: str, *, role: str, display_name: str | None, as_json: bool) -> None:
    """Add an account; the password is asked for, or read from standard input."""
    _, _, records = open_here()
    password = _password()
    with records.write() as tx:
        made = tx.users.create(
            username, display_name=display_name or username, role=Role(role), password=password, actor=OPERATOR
        )
    if as_json:
        print_json({"id": made.id, "username": made.username, "role": made.role.value})
    else:
        out.print(f"added {made.username} ({made.role.value})", markup=False)


@user.command("list")
@home_option
@json_option
def list_users(*, as_json: bool) -> None:
    """List the accounts."""
    _, _, records = open_here()
    with records.read() as tx:
        users = tx.users.list()
    if as_json:
        print_json([{"id": u.id, "username": u.username, "role": u.role.value, "disabled": u.disabled} for u in users])
        return
    for found in users:
        out.print(f"{found.username}  {found.role.value}{'  disabled' if found.disabled else ''}", markup=False)


@user.command()
@click.argument("username")
@home_option
def disable(username: str) -> None:
    """Disable an account; its sessions end at once."""
    _, _, records = open_here()
    with records.write() as tx:
        found = tx.users.by_username(username)
        if found is None:
            raise RecordError(f"there is no account `{username}`", code="user_unknown", hint="see `clinic user list`")
        tx.users.disable(found.username, actor=OPERATOR)
    out.print(f"disabled {username}", markup=False)


@user.command()
@click.argument("username")
@home_option
def enable(username: str) -> None:
    """Enable a disabled account again; its password is the one it had."""
    _, _, records = open_here()
    with records.write() as tx:
        found = tx.users.by_username(username)
        if found is None:
            raise RecordError(f"there is no account `{username}`", code="user_unknown", hint="see `clinic user list`")
        tx.users.enable(found.username, actor=OPERATOR)
    out.print(f"enabled {username}", markup=False)


@user.command()
@click.argument("username")
@home_option
def reset(username: str) -> None:
    """Set a new password; the account's sessions end at once."""
    _, _, records = open_here()
    password = _password()
    with records.write() as tx:
        found = tx.users.by_username(username)
        if found is None:
            raise RecordError(f"there is no account `{username}`", code="user_unknown", hint="see `clinic user list`")
        tx.users.reset_password(found.username, password, actor=OPERATOR)
    out.print(f"new password set for {username}", markup=False)


@user.command()
@click.argument("username")
@click.option("--remove", is_flag=True, help="Take the second factor away: the phone is lost, or a new one.")
@home_option
def totp(username: str, *, remove: bool) -> None:
    """Set up the second factor of somebody who is beside you with the phone; or take it away.

    Shows the code to scan, once, and asks for the first code of the app (or reads it from standard input).  Then it
    shows the recovery codes, once.  Taking it away signs the account out.
    """
    _, _, records = open_here()
    with records.read() as tx:
        found = tx.users.by_username(username)
    if found is None:
        raise RecordError(f"there is no account `{username}`", code="user_unknown", hint="see `clinic user list`")
    if remove:
        with records.write() as tx:
            removed = tx.factors.reset(found.id, actor=OPERATOR)
            if removed:
                tx.users.end_sessions(found.id, OPERATOR)
        out.print(f"{'removed the' if removed else 'there was no'} second factor of {username}", markup=False)
        return
    with records.write() as tx:
        enrolment = tx.factors.begin(found)
    segno.make(enrolment.uri, error="m", micro=False).terminal(out=sys.stdout, compact=True)
    out.print(f"or type this into the app: {enrolment.secret} (time based, 6 digits, 30 seconds)", markup=False)
    records.enrol_factor(factor_code(), actor=found.actor)
    with records.write() as tx:
        codes = tx.recovery.make(found.id, OPERATOR)
    out.print(f"{username} has a second factor; recovery codes, each good once, shown this once:", markup=False)
    for code in codes:
        out.print(code, markup=False)


@user.command("require-factor")
@click.option(
    "--role",
    "roles",
    type=click.Choice([role.value for role in Role]),
    multiple=True,
    help="A role that has to have one; as often as needed.",
)
@click.option("--none", "nobody", is_flag=True, help="No role has to have one.")
@home_option
@json_option
def require_factor(*, roles: tuple[str, ...], nobody: bool, as_json: bool) -> None:
    """Say which roles have to have a second factor, and no others; without an option, show which have to."""
    if roles and nobody:
        raise click.UsageError("--role and --none contradict each other")
    _, _, records = open_here()
    if roles or nobody:
        with records.write() as tx:
            tx.require_factor_for([Role(role) for role in roles], OPERATOR)
    with records.read() as tx:
        required = sorted(tx.factor_roles())
        owing = sorted(user.username for user in tx.users.list() if not user.disabled and tx.standing(user).owes_factor)
    if as_json:
        print_json({"required": required, "without": owing})
        return
    out.print(f"has to have a second factor: {', '.join(required) or 'no role'}", markup=False)
    if owing:
        out.print(f"has none yet: {', '.join(owing)}", markup=False)


@click.group()
def patient() -> None:
    """Patients of this clinic."""


patient.add_command(shred)
patient.add_command(import_patients)


@patient.command("add")
@click.option("--name", prompt=True)
@click.option("--born", type=click.DateTime(["%Y-%m-%d"]), help="Date of birth, YYYY-MM-DD.")
@click.option("--sex")
@click.option("--record-number")
@home_option
@json_option
def add_patient(*, name: str, born: datetime | None, sex: str | None, record_number: str | None, as_json: bool) -> None:
    """Add a patient and print the id."""
    _, _, records = open_here()
    data = PatientData(name=name, date_of_birth=born.date() if born else None, sex=sex, record_number=record_number)
    with records.write() as tx:
        made = tx.patients.create(data, actor=OPERATOR)
    if as_json:
        print_json({"id": made.id})
    else:
        out.print(made.id, markup=False)


@patient.command("list")
@home_option
@json_option
def list_patients(*, as_json: bool) -> None:
    """List the patients: decrypted here, and recorded in the audit log."""
    _, _, records = open_here()
    with records.write() as tx:
        patients = tx.patients.list(actor=OPERATOR)
    if as_json:
        print_json([_document(p) for p in patients])
        return
    for found in patients:
        out.print(f"{found.id}  {found.data.name}", markup=False)


def _document(found: Patient) -> dict[str, str | None]:
    born = found.data.date_of_birth
    return {
        "id": found.id,
        "name": found.data.name,
        "date_of_birth": None if born is None else born.isoformat(),
        "sex": found.data.sex,
        "record_number": found.data.record_number,
    }
