"""`clinic note`: draft from a transcript, verify against one."""

from __future__ import annotations

from typing import TextIO

import click

from clinic.cli.common import home_option, json_option, open_here, print_json, read_stream, stage_progress
from clinic.cli.options import consent_option, template_option
from clinic.cli.report import print_verified_note, show, tell_red_flags
from clinic.domain import Consent
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
