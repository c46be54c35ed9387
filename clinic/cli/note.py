"""`clinic note`: draft from a transcript, verify against one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TextIO

import click

from clinic.audit.export_out import unwritable
from clinic.cli.common import home_option, json_option, open_here, out, print_json, read_stream, stage_progress
from clinic.cli.options import consent_option, template_option
from clinic.cli.report import print_verified_note, show, tell_red_flags
from clinic.domain import OPERATOR, Consent, EncounterId, utc_now
from clinic.verification import read_note, read_transcript, result, verify


@click.group()
def note() -> None:
    """Draft a note from a transcript, or verify a note against one."""


@note.command()
@click.option("--transcript", "transcript_file", type=click.File("r", encoding="utf-8"), required=True)
@template_option
@consent_option
@home_option
@json_option
def draft(*, transcript_file: TextIO, template: str, consent: str, as_json: bool) -> None:
    """Draft a note for a transcript that exists already: decided, recorded, generated, verified."""
    from clinic.headless import draft_from_transcript  # `verify` does without the flow and its libraries

    transcript = read_transcript(read_stream(transcript_file))
    config, _, records = open_here()
    with stage_progress(enabled=not as_json) as progress:
        outcome = draft_from_transcript(
            config,
            records,
            transcript,
            template=template,
            consent=Consent(consent),
            progress=progress,
            heard=tell_red_flags,
        )
    show(outcome, as_json=as_json)


@note.command("export")
@click.argument("encounter_id", metavar="ENCOUNTER")
@click.argument("target", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@home_option
@json_option
def export_command(*, encounter_id: str, target: Path, as_json: bool) -> None:
    """Write the signed note of ENCOUNTER to FILE as a FHIR R4 document for another system.

    FILE holds the patient's data in the clear, readable by its owner only; that it was made is in the audit log.
    """
    from clinic.interop.document import document, encode
    from clinic.interop.notes import take_out

    _require_free(target)
    _, _, records = open_here()
    with records.write() as tx:
        signed = take_out(tx, EncounterId(encounter_id), actor=OPERATOR)
    _write_private(target, encode(document(signed, assembled_at=utc_now())))
    if as_json:
        print_json({"encounter": encounter_id, "file": str(target), "version": signed.version})
    else:
        out.print(f"{target}: version {signed.version}, {1 + len(signed.addenda)} signatures", markup=False)


@note.command("verify")
@click.option("--transcript", "transcript_file", type=click.File("r", encoding="utf-8"), required=True)
@click.option("--note", "note_file", type=click.File("r", encoding="utf-8"), required=True)
@json_option
@click.pass_context
def verify_command(ctx: click.Context, *, transcript_file: TextIO, note_file: TextIO, as_json: bool) -> None:
    """Verify a note against a transcript: deterministic, no model.  Exit 1 if a statement is flagged."""
    transcript = read_transcript(read_stream(transcript_file))
    note_text = read_note(read_stream(note_file))
    verified = verify(note_text.drafts, transcript, template="external", model="external", ids=note_text.ids)
    if as_json:
        print_json(result(verified))
    else:
        print_verified_note(verified)
    ctx.exit(1 if verified.open_flags else 0)


def _require_free(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise unwritable(FileExistsError(errno.EEXIST, "exists"))


def _write_private(target: Path, data: bytes) -> None:
    """Write a new file for its owner only; what was begun and failed is removed."""
    try:
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise unwritable(exc) from exc
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        target.unlink(missing_ok=True)
        raise unwritable(exc) from exc
