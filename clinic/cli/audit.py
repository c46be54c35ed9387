"""`clinic audit`: verify, checkpoint, witness, prove, export, open, tail, accounting."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from clinic.audit.checkpoint import open_given
from clinic.audit.consistency import compare, growth, held, note_in
from clinic.audit.database_file import forget_cached
from clinic.audit.entry import Entry
from clinic.audit.events import WitnessAdded
from clinic.audit.export import export as write_export
from clinic.audit.export import open_export
from clinic.audit.export_range import Bound, resolve
from clinic.audit.latch import Latch
from clinic.audit.sink import SinkReport
from clinic.audit.verify import VerifyReport
from clinic.audit.witness import add, verify_witnessed, witnessed
from clinic.cli.accounting import accounting
from clinic.cli.common import err, home_option, json_option, load_config, open_here, out, print_json
from clinic.cli.report import print_guard, print_verification
from clinic.domain import OPERATOR
from clinic.errors import AuditError, InputError


@click.group()
def audit() -> None:
    """The tamper-evident log of everything that was decided and done."""


audit.add_command(accounting)


@audit.command()
@click.option("--checkpoint", "checkpoint_file", type=click.Path(path_type=Path), help="A checkpoint taken earlier.")
@click.option("--clear", is_flag=True, help="If the log is whole, let work go on that a failure had stopped.")
@home_option
@json_option
@click.pass_context
def verify(ctx: click.Context, *, checkpoint_file: Path | None, clear: bool, as_json: bool) -> None:
    """Re-derive every hash of the log.  Exit 1 if anything was changed, removed, reordered or cut off.

    Every checkpoint that witnesses gave back, and every one that the log kept of itself, is compared, too.

    This verifies the log itself; `clinic doctor` compares the records with it.  After a failure (a full disk, a write
    that was refused) everything is refused until the log was verified: `--clear` records that, and work goes on.
    """
    if clear:
        forget_cached(load_config().database)
    config, _, records = open_here()
    checkpoint = None if checkpoint_file is None else _checkpoint_given(read_text(checkpoint_file), records.audit.vkey)
    before = records.guard.current()

    def verify_all() -> VerifyReport:
        return verify_witnessed(config.home, records.audit, checkpoint=checkpoint)

    report = records.audit.clear(actor=OPERATOR, verify=verify_all) if clear else verify_all()
    latch, copy = records.guard.current(), records.audit.compare_sink()
    if as_json:
        print_json(report_document(report) | latch_document(before, latch) | copy_document(copy))
    else:
        print_verification(report)
        print_guard(before, latch, copy)
        out.print("this verified the log itself; `clinic doctor` compares the records with it", markup=False)
    ctx.exit(0 if report.ok and (copy is None or copy.ok) else 1)


@audit.command()
@click.option("--out", "target", type=click.Path(path_type=Path), help="Write it here.  Default: standard output.")
@click.option("--since", type=int, help="What a witness saw last: adds the proof that the log has only grown since.")
@home_option
def checkpoint(*, target: Path | None, since: int | None) -> None:
    """Print a signed note over the log as it stands: take it away; with it a later cut or fork is found."""
    _, _, records = open_here()
    note = records.audit.checkpoint() if since is None else growth(records.audit, since)
    if target is None:
        click.echo(note, nl=False)
        return
    if target.exists():
        raise InputError(f"`{target}` exists already", code="output_exists", hint="choose another name")
    target.write_text(note, encoding="utf-8")
    err.print(f"verify later with: clinic audit verify --checkpoint {target}", markup=False)


@audit.command()
@home_option
@json_option
def checkpoints(*, as_json: bool) -> None:
    """List the checkpoints that the log keeps of itself, the shortest log first."""
    _, _, records = open_here()
    kept = [each.open(vkey=records.audit.vkey) for each in records.audit.kept_checkpoints()]
    if as_json:
        print_json([{"entries": each.size, "root": each.root.hex()} for each in kept])
        return
    for each in kept:
        out.print(f"{each.size:>10} entries  root {each.root.hex()}", markup=False)
    covered = kept[-1].size if kept else 0
    err.print(f"{len(kept)} kept; {records.audit.size() - covered} entries came after the last", markup=False)


@audit.group()
def witness() -> None:
    """Checkpoints that other devices kept (`deploy/witness.py`): the clinic does not start with an older log."""


@witness.command("add")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", default="witness", show_default=True, help="Which device: small letters, digits, hyphens.")
@home_option
def witness_add(*, file: Path, name: str) -> None:
    """Keep the checkpoint in FILE, and record that.  One that the log does not fit is kept, too: then nothing starts.

    A log that was caught out gets no entry more: the file is what speaks against it.
    """
    config, _, records = open_here()
    kept = add(config.home, records.audit, name=name, text=read_text(file))
    checkpoint = kept.checkpoint
    event = WitnessAdded(witness=kept.name, entries=checkpoint.size, root=checkpoint.root.hex())
    records.audit.confirm(records.audit.append(event, actor=OPERATOR))
    out.print(f"kept: `{kept.name}` saw {checkpoint.size} entries, and the log agrees", markup=False)


@witness.command("list")
@home_option
@json_option
def witness_list(*, as_json: bool) -> None:
    """List what witnesses saw, the longest log first."""
    config, _, records = open_here()
    kept = witnessed(config.home, vkey=records.audit.vkey)
    if as_json:
        rows = [(each.name, each.checkpoint.size, each.checkpoint.root.hex()) for each in kept]
        print_json([dict(zip(("name", "entries", "root"), row, strict=True)) for row in rows])
        return
    for each in kept:
        root = each.checkpoint.root.hex()
        out.print(f"{each.name:<20} {each.checkpoint.size:>10} entries  root {root}", markup=False)


@audit.command()
@click.argument("seq", type=int)
@home_option
def prove(seq: int) -> None:
    """Print a proof that entry SEQ is in the log, for somebody who is not to see the others."""
    _, _, records = open_here()
    size = records.audit.size()
    if not 1 <= seq <= size:
        raise InputError(f"there is no audit entry `{seq}`", code="entry_unknown", hint=f"1 to {size}")
    click.echo(records.audit.prove(seq), nl=False)


@audit.command()
@click.argument("older", type=click.Path(path_type=Path))
@click.argument("newer", type=click.Path(path_type=Path))
@home_option
@json_option
def consistency(*, older: Path, newer: Path, as_json: bool) -> None:
    """Prove that the log only grew from the checkpoint in OLDER to that in NEWER, in the form that a witness checks."""
    texts = [note_in(read_text(each)) for each in (older, newer)]
    _, _, records = open_here()
    grown = compare(records.audit, *texts)
    if as_json:
        path = [base64.b64encode(node).decode("ascii") for node in grown.path]
        print_json({"older": grown.older.size, "newer": grown.newer.size, "path": path, "note": grown.note})
        return
    click.echo(grown.text(), nl=False)
    err.print(f"the log grew from {grown.older.size} to {grown.newer.size} entries; none before was changed")


@audit.command()
@click.option(
    "--recipient", "recipients", multiple=True, required=True, help="An age recipient (`age1...`); repeatable."
)
@click.option("--out", "target", type=click.Path(path_type=Path), required=True)
@click.option(
    "--from", "--first", "start", help="An entry's number, or a day (2026-11-26, UTC).  Default: the first entry."
)
@click.option("--to", "--last", "end", help="The same, included.  Default: the last entry.")
@click.option(
    "--format",
    "layout",
    type=click.Choice(["archive", "fhir"]),
    default="archive",
    show_default=True,
    help="archive: what can be verified.  fhir: one R4 AuditEvent (IHE BALP) a line.",
)
@click.option(
    "--seen",
    "seen_files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A checkpoint that the auditor holds: the export proves that it continues it; repeatable.",
)
@home_option
@json_option
def export(
    *,
    recipients: tuple[str, ...],
    target: Path,
    start: str | None,
    end: str | None,
    layout: str,
    seen_files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Verify the log and write it, encrypted for the auditors, to one file.

    The file carries a proof that it continues each earlier checkpoint that the log knows of: those that it keeps, that
    went out with an export, that a witness gave back, and those of `--seen`.
    """
    bounds = [None if text is None else Bound.parse(text) for text in (start, end)]
    notes = [read_text(each) for each in seen_files]
    _, _, records = open_here()
    first, last = resolve(records.audit.raw_entries(), *bounds)
    done = write_export(
        records.audit,
        recipients,
        target,
        actor=OPERATOR,
        first=first,
        last=last,
        seen=[held(records.audit, note_in(note)) for note in notes],
        as_fhir=layout == "fhir",
    )
    if as_json:
        print_json({"path": str(done.path), "sha256": done.sha256, "manifest": done.manifest.model_dump(mode="json")})
        return
    out.print(f"{done.path}: entries {done.manifest.first} to {done.manifest.last}, sha256 {done.sha256}", markup=False)
    out.print(f"the clinic's audit key, for the auditor to compare: {done.manifest.vkey}", markup=False)


@audit.command("open")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--identity", type=click.Path(path_type=Path), required=True, help="The auditor's age key file.")
@click.option("--vkey", help="The clinic's audit key as the auditor knows it.")
@click.option(
    "--seen",
    "--checkpoint",
    "seen_files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A checkpoint kept from another day, or got from a witness: the export must continue it; repeatable.",
)
@json_option
@click.pass_context
def open_command(
    ctx: click.Context, *, file: Path, identity: Path, vkey: str | None, seen_files: tuple[Path, ...], as_json: bool
) -> None:
    """Decrypt and verify an export, without any data folder, and print its entries."""
    seen = [note_in(read_text(each)) for each in seen_files]
    if vkey is not None:
        seen = [_checkpoint_given(each, vkey) for each in seen]
    opened = open_export(file, read_text(identity), vkey=vkey, seen=seen)
    entries = [entry_document(entry) for entry in opened.entries]
    if as_json:
        print_json({"report": report_document(opened.report), "key_known": opened.key_known, "entries": entries})
    else:
        for entry in entries:
            out.print(json.dumps(entry, ensure_ascii=False), markup=False)
        print_verification(opened.report)
        if not opened.key_known:
            err.print(f"compare the key with the one the clinic handed out: {opened.manifest.vkey}", markup=False)
    ctx.exit(0 if opened.report.ok else 1)


@audit.command()
@click.option("-n", "--lines", default=20, show_default=True)
@home_option
@json_option
def tail(*, lines: int, as_json: bool) -> None:
    """Print the last entries."""
    _, _, records = open_here()
    size = records.audit.head().size
    entries = [entry_document(entry) for entry in records.audit.entries(first=max(1, size - lines + 1))]
    if as_json:
        print_json(entries)
        return
    for entry in entries:
        body = " ".join(f"{key}={value}" for key, value in entry["body"].items())
        out.print(f"{entry['seq']:>6} {entry['at']} {entry['actor']} {entry['event']} {body}", markup=False)


def report_document(report: VerifyReport) -> dict[str, Any]:
    """Return a verification report for programs."""
    return {
        "ok": report.ok,
        "entries": report.entries,
        "first_bad": report.first_bad,
        "problem": report.problem,
        "message": report.message,
        "head": report.head_hash.hex(),
        "root": report.root.hex(),
        "kept_checkpoints": report.kept_checkpoints,
        "bad_checkpoint": report.bad_checkpoint,
    }


def latch_document(before: Latch | None, now: Latch | None) -> dict[str, Any]:
    """Return whether the log is stopped, and why, for programs."""
    cleared = before is not None and now is None
    return {
        "latched": now.reason.value if now else None,
        "cleared": before.reason.value if before and cleared else None,
    }


def copy_document(copy: SinkReport | None) -> dict[str, Any]:
    """Return how the second copy of the log compares with it, for programs; null without one."""
    if copy is None:
        return {"second_sink": None}
    return {
        "second_sink": {"ok": copy.ok, "entries": copy.entries, "first_bad": copy.first_bad, "message": copy.message}
    }


def entry_document(entry: Entry) -> dict[str, Any]:
    """Return an audit entry for programs and people."""
    return {
        "seq": entry.seq,
        "at": entry.at,
        "actor": entry.actor,
        "role": entry.role,
        "event": entry.event,
        "body": json.loads(entry.body),
        "hash": entry.hash.hex(),
    }


def _checkpoint_given(text: str, vkey: str) -> str:
    """Return the checkpoint; one that is none is a mistake of whoever named it, not a finding about the log."""
    note = note_in(text)
    with suppress(AuditError):  # rightly formed, not rightly signed: verification says so
        open_given(note, vkey=vkey)
    return note


def read_text(path: Path) -> str:
    """Read a small text file named on the command line.

    Raises:
        InputError: `file_unreadable`.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise InputError(f"cannot read `{path}`", code="file_unreadable", hint="name an existing text file") from None
