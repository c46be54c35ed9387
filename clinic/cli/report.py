"""How an outcome looks on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clinic.audit.latch import WORDS
from clinic.cli.common import err, out, print_json
from clinic.domain import Note, Segment, Statement, StatementStatus, Transcript
from clinic.policy.detectors.red_flags import transcript_red_flags

if TYPE_CHECKING:
    from clinic.audit.latch import Latch
    from clinic.audit.sink import SinkReport
    from clinic.audit.verify import VerifyReport
    from clinic.headless import Outcome

_MARKS = {
    StatementStatus.SUPPORTED: "[green]supported[/]",
    StatementStatus.FLAGGED: "[bold yellow]flagged[/]",
}


def show(outcome: Outcome, *, as_json: bool) -> None:
    """Print an outcome for people or for programs."""
    if as_json:
        print_json(outcome.document())
    else:
        print_report(outcome)


def first_heard(segment: Segment) -> str:
    """Return what was heard before names of drugs were heard a second time, in brackets; empty where nothing was."""
    heard = [f"{word.text.strip(' .,;:?!')}: {word.heard_first}" for word in segment.words if word.heard_first]
    return f"  (name of a drug, heard first as: {'; '.join(heard)})" if heard else ""


def print_verification(report: VerifyReport) -> None:
    """Print the one line that people look for."""
    if report.ok:
        plural = "" if report.kept_checkpoints == 1 else "s"
        kept = f", also against {report.kept_checkpoints} kept checkpoint{plural}" if report.kept_checkpoints else ""
        out.print(f"audit log: {report.entries} entries, verified{kept}", markup=False)
        return
    where = "" if report.first_bad is None else f", first bad entry {report.first_bad}"
    where += "" if report.bad_checkpoint is None else f", first bad checkpoint over {report.bad_checkpoint} entries"
    out.print(f"audit log: NOT verified ({report.problem}{where}): {report.message}", markup=False, style="bold red")


def print_guard(before: Latch | None, now: Latch | None, copy: SinkReport | None) -> None:
    """Say whether the log had stopped everything, whether it still does, and how the second copy compares."""
    if now is not None:
        what, then = WORDS[now.reason]
        out.print(f"everything is stopped since {now.at}, because {what}: {then}", markup=False, style="bold red")
    elif before is not None:
        out.print(f"work goes on; it was stopped since {before.at}, because {WORDS[before.reason][0]}", markup=False)
    if copy is not None:
        out.print(copy.message, markup=False, style=None if copy.ok else "bold red")


def print_report(outcome: Outcome) -> None:
    """Print transcript, decision, note, omissions, timings and the state of the audit log."""
    out.rule("transcript")
    for segment in outcome.transcript.segments:
        start = "" if segment.start is None else f"[{segment.start:6.1f}s] "
        out.print(f"{segment.id:>4} {start}{segment.text}{first_heard(segment)}", markup=False)
    print_red_flags(outcome.transcript)
    out.rule("policy decision")
    decision = outcome.decision
    meaning = {"permit": "permitted", "redact": "permitted, the patient's known identifiers taken out"}
    out.print(
        f"{meaning[decision['outcome']]}; recorded before generation as audit entry {decision['audit_seq']}",
        markup=False,
    )
    out.print(f"policies that fired: {', '.join(decision['policies'])}", markup=False)
    out.print(f"policy set: sha256 {decision['policy_set'][:16]}…", markup=False)
    out.rule("draft note (not signed)")
    print_verified_note(outcome.note)
    out.rule()
    timings = ", ".join(f"{name.removesuffix('_s')} {value:.1f} s" for name, value in outcome.timings.items())
    out.print(f"time: {timings}", markup=False)
    print_verification(outcome.audit)
    out.print(f"written by {outcome.note.model}; a clinician reads, mends and signs every note", markup=False)


def tell_red_flags(transcript: Transcript) -> None:
    """Tell them although there will be no note.

    On stderr, where a document on stdout is not disturbed, and without the patient's words: stderr may be kept in a
    journal.  Segment, kind and standing say where to look; the words are in the record.
    """
    print_red_flags(transcript, console=err, words=False)


def print_red_flags(transcript: Transcript, *, console: Console = out, words: bool = True) -> None:
    """Print words that may mean an emergency or a danger, with their segments; nothing turns this off."""
    texts = {segment.id: segment.text for segment in transcript.segments}
    shown = [flag for flag in transcript_red_flags(transcript) if flag.shown]
    if not shown:
        return
    console.rule("red flags")
    for flag in shown:
        said = f": {texts[flag.segment][flag.start : flag.end]}" if words else ""
        line = f"{flag.segment:>4} {flag.kind.replace('_', ' ')} ({flag.standing}){said}"
        console.print(line, markup=False, style="bold yellow")
    console.print("found by wording alone; the list may be incomplete", markup=False)


def print_verified_note(note: Note) -> None:
    """Print a note with the standing and the seconds of evidence of every statement."""
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    for heading in ("section", "statement", "evidence", "standing"):
        table.add_column(heading, overflow="fold")
    section = None
    for statement in note.statements:
        shown = "" if statement.section == section else statement.section
        section = statement.section
        table.add_row(escape(shown), escape(statement.text), _evidence(statement), _standing(statement))
    out.print(table)
    if note.omissions:
        out.print("\nsaid, but not in the note:")
    for omission in note.omissions:
        out.print(f"  {omission.segment} {omission.kind}: {omission.text}", markup=False)


def _evidence(statement: Statement) -> str:
    return "\n".join(
        piece.segment
        if piece.start is None or piece.end is None
        else f"{piece.segment} {piece.start:.1f}-{piece.end:.1f}s"
        for piece in statement.evidence
    )


def _standing(statement: Statement) -> str:
    mark = _MARKS.get(statement.status, statement.status.value)
    return "\n".join([mark, *(escape(reason.message) for reason in statement.reasons)])
