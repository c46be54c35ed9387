"""`clinic bundle`: build, verify and install what a box without a network needs."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Final

import click

from clinic.bundle.installed import PROGRAM, installed, record
from clinic.bundle.keys import create_key, load_key, needs_passphrase
from clinic.bundle.manifest import Manifest, Target
from clinic.bundle.settle import settle as settle_data
from clinic.bundle.verify import verify as verify_bundle
from clinic.cli.common import (
    Bars,
    err,
    home_option,
    json_option,
    load_config,
    open_here,
    out,
    print_json,
    unlock_passphrase,
)
from clinic.crypto.process import harden_process
from clinic.crypto.secret import Passphrase
from clinic.errors import InputError

_GLIBC: Final = "2.36"  # Debian 12
_INSTALLER: Final = PROGRAM / "deploy" / "install_bundle.py"

bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))
vkey_option = click.option("--vkey", required=True, help="The builder's verifier key, from a paper or by telephone.")
root_option = click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/opt/clinic"),
    show_default=True,
    help="Where the versions lie.",
)
data_options = (
    click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="The clinic's data folder."),
    click.option(
        "--backup-to",
        type=click.Path(file_okay=False, path_type=Path),
        help="Where the backup before the migration goes.  Default: `backup.destination`.",
    ),
    click.option("--through", help="Put before the command that unlocks, such as 'systemd-run ...'."),
)


@click.group()
def bundle() -> None:
    """One signed folder or file that installs the clinic on a box without a network."""


@bundle.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--no-passphrase", is_flag=True, help="Whoever has the file can sign: for a machine that builds alone.")
@json_option
def key(*, file: Path, no_passphrase: bool, as_json: bool) -> None:
    """Make a builder's key in FILE and print its verifier key, to be compared by hand."""
    harden_process()
    passphrase = None if no_passphrase else Passphrase(_passphrase("New passphrase for this key", twice=True))
    vkey = str(create_key(file, passphrase).key)
    if as_json:
        print_json({"file": str(file), "vkey": vkey})
        return
    out.print(vkey, markup=False)
    err.print("the verifier key: write it on the paper that goes to the clinic; it is no secret", markup=False)


@bundle.command()
@click.option("--out", "target_path", type=click.Path(path_type=Path), required=True, help="A folder, or a .tar file.")
@click.option("--key", "key_file", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--gpu", is_flag=True, help="For a box with a GPU: vLLM; its models are given with --model.")
@click.option(
    "--model", "models", multiple=True, metavar="NAME=FOLDER", help="A model folder with its LICENSE file; repeatable."
)
@click.option(
    "--debian", "packages", multiple=True, metavar="NAME", help="A Debian package, such as `age`; repeatable."
)
@click.option(
    "--wheels",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where wheels are kept between builds.  Default: .cache/wheels.",
)
@click.option("--offline", is_flag=True, help="Fetch no wheel: all of them lie in --wheels.")
@click.option("--source", type=click.Path(file_okay=False, path_type=Path), default=PROGRAM, help="The checkout.")
@click.option("--machine", default=platform.machine(), show_default=True, help="The box's `uname -m`.")
@click.option("--python", "python_version", default="3.11", show_default=True, help="The box's Python.")
@json_option
def build(
    *,
    target_path: Path,
    key_file: Path,
    gpu: bool,
    models: tuple[str, ...],
    packages: tuple[str, ...],
    wheels: Path | None,
    offline: bool,
    source: Path,
    machine: str,
    python_version: str,
    as_json: bool,
) -> None:
    """Build a bundle on a connected machine: program, wheels, models, Debian packages, SBOM, all signed."""
    from clinic.bundle.build import Wish
    from clinic.bundle.build import build as build_bundle

    harden_process()
    passphrase = Passphrase(_passphrase("Passphrase of the key")) if needs_passphrase(key_file) else None
    signer = load_key(key_file, passphrase)
    wish = Wish(
        source=source.resolve(),
        target=_target(python_version, machine),
        wheels=(wheels or source / ".cache" / "wheels").resolve(),
        requirements="gpu" if gpu else "embedded",
        models=dict(_named(text) for text in models),
        packages=packages,
        offline=offline,
    )
    err.print("collecting: program, wheels, licences", markup=False)
    with Bars("write, read back", console=err) as bars:
        made = build_bundle(wish, target_path, signer, bars.report)
    _show(made, target_path, as_json=as_json, word="built")
    if not as_json:
        script = made.by_path["program/deploy/install_bundle.py"].sha256
        out.print(f"on the paper for the clinic:\n  key     {signer.key}\n  script  {script}", markup=False)


@bundle.command()
@bundle_argument
@vkey_option
@json_option
def verify(*, bundle: Path, vkey: str, as_json: bool) -> None:
    """Read every byte of BUNDLE against what was signed; the first wrong file is named."""
    with Bars("verify", console=err) as bars:
        found = verify_bundle(bundle, vkey=vkey, progress=bars.report)
    _show(found, bundle, as_json=as_json, word="verified")


@bundle.command()
@bundle_argument
@vkey_option
@root_option
@data_options[0]
@data_options[1]
@data_options[2]
@click.option("--accept-licences", is_flag=True, help="Accept the models' licences, for scripts.")
@click.pass_context
def install(
    ctx: click.Context,
    *,
    bundle: Path,
    vkey: str,
    root: Path,
    data: Path | None,
    backup_to: Path | None,
    through: str | None,
    accept_licences: bool,
) -> None:
    """Install BUNDLE as a new version beside the one in force, and switch.  Runs `deploy/install_bundle.py`."""
    arguments = [str(bundle), "--vkey", vkey, "--root", str(root), *(["--accept-licences"] if accept_licences else [])]
    ctx.exit(_run_installer([*arguments, *_data_arguments(data, backup_to, through)]))


@bundle.command()
@root_option
@data_options[0]
@data_options[1]
@data_options[2]
@click.pass_context
def rollback(ctx: click.Context, *, root: Path, data: Path | None, backup_to: Path | None, through: str | None) -> None:
    """Put the version before in force again.  It refuses a data folder that the newer one has migrated."""
    ctx.exit(_run_installer(["--rollback", "--root", str(root), *_data_arguments(data, backup_to, through)]))


@bundle.command()
@click.option("--old", type=click.Path(path_type=Path), help="The `clinic` program of the version in force.")
@click.option("--backup-to", type=click.Path(file_okay=False, path_type=Path), help="Default: `backup.destination`.")
@home_option
@json_option
def settle(*, old: Path | None, backup_to: Path | None, as_json: bool) -> None:
    """Take a data folder over from an older version: backup, migration, entry in the log.  The installer runs this."""
    config = load_config()
    done = settle_data(config, installed(), old=old, backup_to=backup_to, passphrase=unlock_passphrase(config))
    if as_json:
        print_json({"migrated": done.migrated, "recorded": done.recorded})
        return
    out.print("backed up and migrated" if done.migrated else "the database is of this version", markup=False)
    out.print(f"{done.recorded} new entries in the audit log", markup=False)


@bundle.command("record")
@home_option
def record_command() -> None:
    """Record the installed version and the accepted licences in the audit log, once each."""
    found = installed()
    _, _, records = open_here()
    out.print(f"{record(records, found)} new entries in the audit log", markup=False)


def _show(manifest: Manifest, path: Path, *, as_json: bool, word: str) -> None:
    size = sum({file.sha256: file.size for file in manifest.files}.values())
    if as_json:
        about = {"path": str(path), "digest": manifest.digest, "files": len(manifest.files), "bytes": size}
        print_json(about | manifest.model_dump(mode="json", include={"program", "target", "requirements", "models"}))
        return
    program = f"clinic {manifest.program.version} ({manifest.program.commit[:12]})"
    out.print(f"{word}: {path}", markup=False)
    out.print(f"  digest  {manifest.digest}", markup=False)
    out.print(f"  holds   {program}, {len(manifest.files)} files, {size / 2**20:.1f} MiB", markup=False)
    target = manifest.target
    out.print(f"  for     Python {target.python}, {target.machine}, glibc {target.glibc} or newer", markup=False)
    for licence in manifest.licences:
        out.print(f"  licence {licence.name}, of {licence.id}", markup=False)


def _target(python: str, machine: str) -> Target:
    try:
        return Target(python=python, machine=machine, glibc=_GLIBC)
    except ValueError:
        raise InputError("no such box", code="input_invalid", hint="--python 3.11 --machine x86_64") from None


def _named(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not equals:
        raise InputError("a model is given as NAME=FOLDER", code="model_folder_invalid", hint="see --help")
    return name, Path(folder)


def _data_arguments(data: Path | None, backup_to: Path | None, through: str | None) -> list[str]:
    given = {"--data": data, "--backup-to": backup_to, "--through": through}
    return [part for name, value in given.items() if value is not None for part in (name, str(value))]


def _run_installer(arguments: list[str]) -> int:
    """Run the installer with the system's own Python: the version that runs here may be removed by it."""
    python = getattr(sys, "_base_executable", sys.executable)
    return subprocess.run([str(python), "-I", str(_INSTALLER), *arguments], check=False, env=os.environ).returncode


def _passphrase(prompt: str, *, twice: bool = False) -> str:
    """Ask at the terminal, or read a line of standard input: never an argument, which others can see."""
    if sys.stdin.isatty():
        return str(click.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True))
    line = sys.stdin.readline().rstrip("\n")
    if not line:
        raise InputError(
            "no passphrase was given", code="input_missing", hint="type it at a terminal, or pipe it in; see --help"
        )
    return line
