"""The command line: parses, calls, prints.  No logic of its own.

Rules kept here:

* Text for people by default; with `--json` one document on stdout, progress and messages on stderr.
* Exit codes: 0 done, 1 a check found something wrong, 2 usage, 3 sealed, 4 denied by policy, 5 a part is unavailable.
* A `ClinicError` ends in one line of what happened, its code, and a hint; never in a traceback.
* A command loads only what it needs: the libraries behind `serve` take seconds to import.
"""

from __future__ import annotations

import click

from clinic import __version__
from clinic.cli.common import ClinicGroup, home_option

_COMMANDS = {
    "init": ("clinic.cli.setup:init", "Create the data folder: keys, database, audit log, local CA."),
    "serve": ("clinic.cli.system:serve", "Run the clinic: web form over HTTPS, worker, model server."),
    "worker": ("clinic.cli.system:worker", "Run only the background jobs."),
    "web": ("clinic.cli.system:web", "Run only the web form."),
    "model-server": ("clinic.cli.system:model_server_command", "Run only the model server."),
    "demo": ("clinic.cli.flow:demo", "The sample consultation through the whole flow."),
    "doctor": ("clinic.cli.setup:doctor", "Check everything, with hints."),
    "consult": ("clinic.cli.flow:consult", "From a recording to a draft note."),
    "transcribe": ("clinic.cli.speech:transcribe", "Transcribe a recording; nothing is stored."),
    "note": ("clinic.cli.note:note", "Draft a note from a transcript, or verify one."),
    "eval": ("clinic.cli.evaluate:evaluate", "Measure verification on notes with planted errors."),
    "policy": ("clinic.cli.policy:policy", "The prompt policies: check, test, activate, roll back, explain."),
    "models": ("clinic.cli.models:models", "Check the weights on this machine against the profile."),
    "audit": ("clinic.cli.audit:audit", "The tamper-evident log."),
    "glass": ("clinic.cli.glass:glass", "Break the glass for a refused encounter; list who did."),
    "keys": ("clinic.cli.keys:keys", "Unlock, seal, recover, rotate the keys."),
    "user": ("clinic.cli.accounts:user", "Accounts of the web form."),
    "token": ("clinic.cli.tokens:token", "Tokens by which other programs use the JSON API."),
    "api": ("clinic.cli.tokens:api", "The JSON API: its OpenAPI document."),
    "patient": ("clinic.cli.accounts:patient", "Patients: add, import, list, destroy a record."),
    "migrate": ("clinic.cli.setup:migrate", "Bring the database of an older program up to date."),
    "backup": ("clinic.cli.backup:backup", "Encrypted backups: create, verify, drill, restore."),
    "bundle": ("clinic.cli.bundle:bundle", "For a box without a network: build, verify, install, roll back."),
    "certificate": ("clinic.cli.setup:certificate", "The web form's certificate on the LAN."),
}
"""Name -> (where it is, its line in `clinic --help`)."""


@click.group(cls=ClinicGroup, commands_by_name=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="clinic")
@home_option
def main() -> None:
    """Record a consultation, get a draft note, sign it.  Everything stays on this machine."""
