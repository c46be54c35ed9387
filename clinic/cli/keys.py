"""`clinic keys`: state of the keyring, unlocking and sealing a running clinic, recovery."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from clinic import control
from clinic.cli.common import Bars, err, home_option, json_option, load_config, out, print_json, unlock_passphrase
from clinic.cli.sheets import sheets
from clinic.config import Config, KeySource
from clinic.crypto.durable import read_private
from clinic.crypto.keys import RecoveryKey, slots
from clinic.crypto.process import harden_process
from clinic.crypto.recovery import read_share
from clinic.domain import utc_now
from clinic.errors import InputError, SealedError
from clinic.home import can_unlock_unattended, key_usage, renew_credential, renew_shares, rotate_keys, take_slot_away
from clinic.home import recover as set_passphrase
from clinic.records.uses import LIMIT

_CREDENTIAL_BYTES: Final = 256
_REFUSALS: Final = {
    "key_wrong": ("the passphrase does not fit", "try again; after a loss: `clinic keys recover`"),
    "unlock_locked": (
        "a wrong passphrase was typed just before, so none is tried now",
        "wait a minute, then try again",
    ),
    "seal_unfinished": ("the processes with the key have not ended yet", "look again with `clinic keys status`"),
}


@click.group()
def keys() -> None:
    """Unlock, seal, recover, and see how the clinic can be unlocked."""


@keys.command()
@home_option
@json_option
def status(*, as_json: bool) -> None:
    """Show the unlock slots, key versions and counters, and whether a clinic runs, sealed or not.  Needs no key."""
    config = load_config()
    running = _running(config)
    found = slots(config.keys_file)
    used = key_usage(config)
    if as_json:
        slot_list = [{"id": slot.id, "kind": slot.kind, "created_at": slot.created_at.isoformat()} for slot in found]
        print_json(
            {
                "source": config.key_source.value,
                "running": running,
                "slots": slot_list,
                "versions": {str(version): patients for version, patients in sorted(used.patients.items())},
                "uses": {
                    "limit": LIMIT,
                    "patient_keys": used.patient_keys,
                    "busiest_patient_key": used.busiest,
                    **used.clinic,
                },
            }
        )
        return
    out.print(f"key source: {config.key_source.value}; clinic: {running}", markup=False)
    for slot in found:
        out.print(f"  slot {slot.id} {slot.kind}, made {slot.created_at:%Y-%m-%d %H:%M} UTC", markup=False)
    for version, patients in sorted(used.patients.items()):
        out.print(f"  key version {version} wraps the keys of {patients} patients", markup=False)
    out.print(f"values sealed by each key (limit {LIMIT:,}):")
    out.print(f"  {used.patient_keys} patients' keys, the busiest: {used.busiest:,}", markup=False)
    for owner, sealed in used.clinic.items():
        out.print(f"  {owner}: {sealed:,}", markup=False)


@keys.command()
@home_option
def unlock() -> None:
    """Unlock the clinic that runs on this data folder, with the passphrase or its configured key."""
    config = load_config()
    control.ask(config, "status")
    if can_unlock_unattended(config):
        _require_ok(control.ask(config, "unlock"))
    else:
        _require_ok(control.ask(config, "unlock", _typed("Passphrase", hide=True)))
    out.print("unsealed")


@keys.command()
@home_option
def seal() -> None:
    """Seal the running clinic: the processes that hold the key end, and only the sealed page answers."""
    config = load_config()
    _require_ok(control.ask(config, "seal"))
    out.print("sealed; unlock with `clinic keys unlock`")


@keys.command()
@home_option
@json_option
def rotate(*, as_json: bool) -> None:
    """Replace the key that wraps the patients' keys; the old one is destroyed.  The clinic must be sealed or stopped.

    Interrupted at any point, nothing is lost: run it again, or just go on, the next unlocking finishes it.
    """
    config = load_config()
    passphrase = unlock_passphrase(config)
    with Bars("re-wrap", console=err) as bars:
        done = rotate_keys(config, passphrase=passphrase, progress=bars.report)
    if as_json:
        document = {"version": done.version, "rewrapped": done.rewrapped, "destroyed": list(done.destroyed)}
        print_json(document | {"resumed": done.resumed})
        return
    if done.resumed:
        out.print("an earlier rotation had been interrupted; this finished it")
    destroyed = ", ".join(map(str, done.destroyed))
    out.print(f"key version {done.version}: {done.rewrapped} patients' keys re-wrapped; destroyed: {destroyed}")
    out.print("backups and copies of `keys.json` from before open with the keys of their time", markup=False)


@keys.command()
@home_option
def recover() -> None:
    """Set a new passphrase with two of the three recovery sheets.

    At a terminal it asks, and asks again after a mistake.  Otherwise it reads three lines of standard input: one
    share, another share, the new passphrase.
    """
    harden_process()
    config = load_config()
    recovery = ask_recovery()
    set_passphrase(config, recovery, _typed("New passphrase", hide=True, twice=True))
    out.print("new passphrase set; the old one no longer opens the clinic, the recovery sheets still do")
    if config.key_source is not KeySource.PASSPHRASE:
        out.print('to be asked for it from now on, write `key_source = "passphrase"` into clinic.toml', markup=False)


@keys.command("new-shares")
@home_option
@json_option
def new_shares(*, as_json: bool) -> None:
    """Make three new recovery sheets; those of before are void from then on."""
    config = load_config()
    shares = renew_shares(config, passphrase=unlock_passphrase(config))
    if as_json:
        print_json({"shares": list(shares)})
        return
    out.print(sheets(shares, home=str(config.home), made=utc_now()), markup=False)
    out.print("the sheets of before are void: destroy them")


@keys.command("new-credential")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@home_option
def new_credential(*, file: Path) -> None:
    """Let the key in FILE (64 hexadecimal digits) open the clinic unattended; credentials of before are void.

    For a new machine or a new TPM: unlock with what still opens it, hand the same FILE to `systemd-creds encrypt`,
    then destroy it.  See docs/keys.md.
    """
    config = load_config()
    passphrase = unlock_passphrase(config)
    renew_credential(config, read_private(file, max_bytes=_CREDENTIAL_BYTES), passphrase=passphrase)
    out.print("the clinic opens with this credential; those of before are void")
    if config.key_source is not KeySource.CREDENTIAL:
        out.print('to start with it from now on, write `key_source = "credential"` into clinic.toml', markup=False)


@keys.command("remove-slot")
@click.argument("slot")
@click.option("--recovery", "by_recovery", is_flag=True, help="Unlock with two of the three recovery sheets.")
@click.option("--without-recovery", is_flag=True, help="Also take the last recovery slot: the sheets are void then.")
@home_option
def remove(*, slot: str, by_recovery: bool, without_recovery: bool) -> None:
    """Let one unlock slot open nothing any more: SLOT as `clinic keys status` shows it, or its first eight digits.

    What unlocked the clinic for this stays, and so does the last slot that `key_source` needs.
    """
    harden_process()
    config = load_config()
    recovery = ask_recovery() if by_recovery else None
    passphrase = None if by_recovery else unlock_passphrase(config)
    gone = take_slot_away(config, slot, passphrase=passphrase, recovery=recovery, without_recovery=without_recovery)
    out.print(f"the {gone.kind} made {gone.created_at:%Y-%m-%d %H:%M} UTC opens nothing any more", markup=False)
    out.print(
        "backups and copies of `keys.json` from before still open with it: see `clinic backup rekey`", markup=False
    )


def ask_recovery() -> RecoveryKey:
    """Read two recovery sheets, at the terminal or as two lines of standard input."""
    first, second = _share("one sheet"), _share("another sheet")
    return RecoveryKey.from_shares(first, second)


def _running(config: Config) -> str:
    try:
        return control.ask(config, "status")
    except SealedError:
        return "not running"


def _require_ok(answer: str) -> None:
    if answer != "ok":
        message, hint = _REFUSALS.get(answer, (f"the running clinic refuses: `{answer}`", "see docs/errors.md"))
        raise SealedError(message, code=answer, hint=hint)


def _share(which: str) -> str:
    """Read one share; at a terminal a mistyped one is asked for again, before any key is tried."""
    while True:
        text = _typed(f"The 33 words of {which}")
        try:
            read_share(text, sheet=which)
        except InputError as error:
            if not sys.stdin.isatty():
                raise
            click.echo(f"{error}; {error.hint}", err=True)
        else:
            return text


def _typed(prompt: str, *, hide: bool = False, twice: bool = False) -> str:
    """Ask at the terminal, or read a line of standard input: never an argument, which others can see."""
    if sys.stdin.isatty():
        return str(click.prompt(prompt, hide_input=hide, confirmation_prompt=twice, err=True))
    line = sys.stdin.readline()
    if not line.strip():
        raise InputError(
            f"nothing was typed for: {prompt.lower()}",
            code="input_missing",
            hint="run it at a terminal, or pipe the lines in; see --help",
        )
    return line.rstrip("\n")
