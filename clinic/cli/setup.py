"""`clinic init`, `doctor`, `certificate`: the data folder itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO

import click

from clinic.cli.common import err, home_option, home_path, json_option, load_config, out, print_json, unlock_here
from clinic.cli.sheets import sheets
from clinic.config import Config
from clinic.crypto.keys import Keyring
from clinic.doctor import examine
from clinic.domain import utc_now
from clinic.errors import SealedError
from clinic.home import HomeOptions, create, renew_authority, renew_certificate
from clinic.jobs.store import create_store
from clinic.records.engine import open_engine
from clinic.records.migrate import upgrade


@click.command()
@click.option(
    "--credential",
    type=click.File("rb"),
    help="File with 64 hexadecimal digits (`openssl rand -hex 32`): a systemd credential.",
)
@click.option("--insecure-key-file", is_flag=True, help="Keep the key beside the data: development only.")
@click.option("--hostname", "hostnames", multiple=True, help="Name of this box on the LAN, for its certificate.")
@click.option("--port", default=8443, show_default=True)
@click.option("--models", type=click.Path(file_okay=False, path_type=Path), help="Where assembled weights are kept.")
@home_option
@json_option
def init(
    *,
    credential: BinaryIO | None,
    insecure_key_file: bool,
    hostnames: tuple[str, ...],
    port: int,
    models: Path | None,
    as_json: bool,
) -> None:
    """Create the data folder: keys, database, audit log, local certificate authority.

    At a terminal it asks for a passphrase.  Without one, and without --credential, it makes a development folder whose
    key lies beside the data, and says so.
    """
    passphrase = None
    if credential is None and not insecure_key_file:
        if "CLINIC_PASSPHRASE" in os.environ:
            passphrase = os.environ["CLINIC_PASSPHRASE"]
        elif sys.stdin.isatty():
            passphrase = _new_passphrase()
        else:
            insecure_key_file = True
            err.print(
                "no terminal to ask for a passphrase: making a DEVELOPMENT data folder, not for patients", style="bold"
            )
    options = HomeOptions(
        passphrase=passphrase,
        credential=credential.read() if credential is not None else None,
        insecure_key_file=insecure_key_file,
        hostnames=hostnames,
        port=port,
        models=models,
        setup_code=True,
    )
    made = create(home_path(), options)
    if as_json:
        print_json(
            {
                "home": str(made.config.home),
                "key_source": made.config.key_source.value,
                "recovery_shares": list(made.shares),
                "setup_code": made.setup_code,
            }
        )
        return
    out.print(f"data folder: {made.config.home}", markup=False)
    out.print(sheets(made.shares, home=str(made.config.home), made=utc_now()), markup=False)
    out.print(f"one-time code for setting up in the browser: {made.setup_code}", markup=False, style="bold")
    out.print("next: clinic serve, then make the first administrator with that code on the page /setup")
    out.print("   or: clinic user add NAME --role administrator")


def _new_passphrase() -> str:
    return str(click.prompt("New passphrase for this clinic", hide_input=True, confirmation_prompt=True, err=True))


@click.command()
@home_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Check everything, with hints.  Exit 1 if something is wrong."""
    config = load_config()
    try:
        keyring: Keyring | None = unlock_here(config)
    except SealedError:
        keyring = None
    findings = examine(config, keyring)
    if as_json:
        print_json({"findings": [{"check": f.check, "ok": f.ok, "detail": f.detail, "hint": f.hint} for f in findings]})
    else:
        for finding in findings:
            out.print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.check}: {finding.detail}", markup=False)
            if finding.hint and not finding.ok:
                out.print(f"     hint: {finding.hint}", markup=False)
            elif finding.mind:
                out.print(f"     note: {finding.hint}", markup=False)
    ctx.exit(0 if all(finding.ok for finding in findings) else 1)


@click.command()
@home_option
def migrate() -> None:
    """Bring the database of an older program up to date; a copy of it is made first."""
    config = load_config()
    unlock_here(config)
    bring_up_to_date(config)
    out.print("the database is up to date")


def bring_up_to_date(config: Config) -> None:
    """Bring an older database up to date, and tell where the copy of it lies."""
    copy = upgrade(open_engine(config.database), config.migrations_dir)
    create_store(config)
    if copy is not None:
        err.print(f"copy of the older database: {copy}", markup=False)


@click.group()
def certificate() -> None:
    """The web form's certificate on the LAN."""


@certificate.command()
@home_option
def renew() -> None:
    """Issue a new server certificate: for new names or addresses, or before the old one expires."""
    config = load_config()
    renew_certificate(config, unlock_here(config))
    out.print("new server certificate issued; restart `clinic serve`")


@certificate.command("new-authority")
@home_option
def new_authority() -> None:
    """Make a new local CA, where the old one expired or may be in other hands; each tablet must trust it anew."""
    config = load_config()
    shown = renew_authority(config, unlock_here(config))
    out.print(f"new authority, fingerprint {shown}", markup=False)
    out.print("restart `clinic serve`; take the old authority off every tablet, and install this one (page `/ca`)")
