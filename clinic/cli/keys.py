"""`clinic keys`: state of the keyring, unlocking a running clinic."""

from __future__ import annotations

import click

from clinic import control
from clinic.cli.common import home_option, json_option, load_config, out, print_json
from clinic.crypto.keys import slots
from clinic.errors import SealedError
from clinic.home import recover as set_passphrase


@click.group()
def keys() -> None:
    """Unlock, and see how the clinic can be unlocked."""


@keys.command()
@home_option
@json_option
def status(*, as_json: bool) -> None:
    """Show the unlock slots and whether a clinic runs, sealed or not."""
    config = load_config()
    try:
        running = control.ask(config, "status")
    except SealedError:
        running = "not running"
    found = slots(config.keys_file)
    if as_json:
        slot_list = [{"kind": slot.kind, "created_at": slot.created_at.isoformat()} for slot in found]
        print_json({"source": config.key_source.value, "running": running, "slots": slot_list})
        return
    out.print(f"key source: {config.key_source.value}; clinic: {running}", markup=False)
    for slot in found:
        out.print(f"  slot {slot.kind}, made {slot.created_at:%Y-%m-%d %H:%M} UTC", markup=False)


@keys.command()
@home_option
def unlock() -> None:
    """Unlock the clinic that runs on this data folder, with the passphrase."""
    config = load_config()
    control.ask(config, "status")
    passphrase = click.prompt("Passphrase", hide_input=True, err=True)
    answer = control.ask(config, "unlock", passphrase)
    if answer != "ok":
        raise SealedError(
            "the passphrase does not fit", code=answer, hint="try again; after a loss: `clinic keys recover`"
        )
    out.print("unsealed")


@keys.command()
@home_option
def recover() -> None:
    """Set a new passphrase with the recovery key that `clinic init` printed."""
    config = load_config()
    key = click.prompt("Recovery key", err=True)
    passphrase = click.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True)
    set_passphrase(config, key, passphrase)
    out.print("new passphrase set; the old one no longer opens the clinic")
