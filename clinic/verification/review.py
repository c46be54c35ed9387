"""Review: what a clinician does to a note, as pure functions from note to note.

Rules kept here:

* Every edit gives a new note; the old one is untouched, ids never change and are never used again.
* Text that a clinician wrote is held against the transcript too: evidence and reasons are shown.
* One rule for every text of a clinician, added or edited: where something speaks against it, it is flagged and waits
  for a decision.  The allergies that the rest of the note states speak against a drug, too.
* What another program wrote is flagged, whatever the transcript says, until a clinician has decided on it.
* Omissions are looked for again after every text: what the note carries now is not offered a second time.
* A removed statement stays in the note with that status, so that nothing disappears unseen; put back, it is flagged
  or supported, never confirmed.
"""

from __future__ import annotations

from typing import Final

from clinic.domain import DraftStatement, Note, Omission, Reason, Statement, StatementStatus, Transcript
from clinic.errors import InputError, RecordError
from clinic.verification import verify_statement
from clinic.verification.omissions import omissions
from clinic.verification.passages import Heard, hear

FROM_PROGRAM: Final = Reason(
    code="from_program", message="another program wrote this: read it, then confirm, edit or remove it"
)


def typed_at(where: str) -> Reason:
    """Return why a statement that was typed while it was recorded is looked at once more."""
    return Reason(code="typed", message=f"typed at {where} while it was recorded, not heard: confirm it, or not")


def confirm(note: Note, statement_id: str) -> Note:
    """Let a statement stand as it is, whatever speaks against it.

    Raises:
        RecordError: `record_conflict` if it is removed: it must be put back, and read, first.
    """
    old = _found(note, statement_id)
    if old.status is StatementStatus.REMOVED:
        raise _conflict("the statement is removed from the note")
    return _replaced(note, statement_id, _with_status(old, StatementStatus.CONFIRMED))


def remove(note: Note, statement_id: str) -> Note:
    """Take a statement out of the note."""
    return _replaced(note, statement_id, _with_status(_found(note, statement_id), StatementStatus.REMOVED))


def restore(note: Note, statement_id: str, transcript: Transcript) -> Note:
    """Put a removed statement back, held against the transcript again: flagged with its reasons, or supported.

    Reasons that it had stay, whatever is found now.

    Raises:
        RecordError: `record_conflict` if it is not removed.
    """
    old = _found(note, statement_id)
    if old.status is not StatementStatus.REMOVED:
        raise _conflict("the statement is in the note already")
    heard = hear(transcript)
    new = _verified(note, old.section, old.text, heard, statement_id)
    reasons = (*old.reasons, *(reason for reason in new.reasons if reason not in old.reasons))
    status = StatementStatus.FLAGGED if reasons else StatementStatus.SUPPORTED
    back = new.model_copy(update={"evidence": old.evidence or new.evidence, "reasons": reasons, "status": status})
    return _rechecked(note, _replaced(note, statement_id, back), heard)


def edit(note: Note, statement_id: str, text: str, transcript: Transcript) -> Note:
    """Give a statement a new text, with its own evidence: flagged if there are reasons against it, else `edited`."""
    old = _found(note, statement_id)
    heard = hear(transcript)
    new = _verified(note, old.section, text, heard, statement_id)
    if new.status is StatementStatus.SUPPORTED:
        new = _with_status(new, StatementStatus.EDITED)
    return _rechecked(note, _replaced(note, statement_id, new), heard)


def add(note: Note, section: str, text: str, transcript: Transcript) -> Note:
    """Add a statement at the end of its section.  It is supported or flagged like any other."""
    heard = hear(transcript)
    new = _verified(note, section, text, heard, _next_id(note))
    statements = list(note.statements)
    place = max((i for i, s in enumerate(statements) if s.section == section), default=len(statements) - 1) + 1
    added = note.model_copy(update={"statements": (*statements[:place], new, *statements[place:])})
    return _rechecked(note, added, heard)


def add_from_omission(note: Note, omission: Omission, section: str, transcript: Transcript) -> Note:
    """Take over an omission, in the words that were said, and strike it from the list."""
    if omission not in note.omissions:
        raise RecordError(
            "the note has no such omission",
            code="omission_unknown",
            hint="load the note again: somebody has changed it",
        )
    added = add(note, section, omission.text, transcript)
    return added.model_copy(update={"omissions": tuple(o for o in added.omissions if o != omission)})


def edit_from_program(note: Note, statement_id: str, text: str, transcript: Transcript) -> Note:
    """Give a statement a text that another program sent; flagged in any case: a person has still to decide on it."""
    return _flagged(edit(note, statement_id, text, transcript), statement_id)


def add_from_program(note: Note, section: str, text: str, transcript: Transcript) -> Note:
    """Add a statement that another program sent; flagged in any case: a person has still to decide on it."""
    return _flagged(add(note, section, text, transcript), _next_id(note))


def add_typed(note: Note, section: str, text: str, transcript: Transcript, *, where: str) -> Note:
    """Add what the clinician typed while it was recorded, at the time `where`; flagged in any case."""
    return _flagged(add(note, section, text, transcript), _next_id(note), typed_at(where))


def _rechecked(old: Note, new: Note, heard: Heard) -> Note:
    """Look for omissions again: what the new text carries is none any more, what it lost has become one.

    What was struck from the list stays struck; one that is not found in this way (of an older version) stays, too.
    """
    before, after = omissions(heard, old.statements), omissions(heard, new.statements)
    kept = [o for o in old.omissions if o in after or o not in before]
    lost = [o for o in after if o not in before and o not in kept]
    return new.model_copy(update={"omissions": (*kept, *lost)})


def _flagged(note: Note, statement_id: str, why: Reason = FROM_PROGRAM) -> Note:
    # INVARIANT: a flag is lifted by a person alone, so nothing that a program wrote, or nobody said, is signed unseen.
    old = _found(note, statement_id)
    flagged = old.model_copy(update={"status": StatementStatus.FLAGGED, "reasons": (why, *old.reasons)})
    return _replaced(note, statement_id, flagged)


def _verified(note: Note, section: str, text: str, heard: Heard, statement_id: str) -> Statement:
    plain = " ".join(text.split())
    if not plain:
        raise InputError(
            "a statement needs a text", code="text_empty", hint="write the sentence, or remove the statement instead"
        )
    rest = [
        DraftStatement(section=s.section, text=s.text)
        for s in note.statements
        if s.id != statement_id and s.status is not StatementStatus.REMOVED
    ]
    draft = DraftStatement(section=section, text=plain)
    return verify_statement(draft, heard, statement_id=statement_id, rest=rest)


def _found(note: Note, statement_id: str) -> Statement:
    for statement in note.statements:
        if statement.id == statement_id:
            return statement
    raise RecordError(
        "the note has no such statement", code="statement_unknown", hint="load the note again: somebody has changed it"
    )


def _conflict(message: str) -> RecordError:
    return RecordError(message, code="record_conflict", hint="load the note again: somebody has changed it")


def _with_status(statement: Statement, status: StatementStatus) -> Statement:
    return statement.model_copy(update={"status": status})


def _replaced(note: Note, statement_id: str, new: Statement) -> Note:
    return note.model_copy(update={"statements": tuple(new if s.id == statement_id else s for s in note.statements)})


def _next_id(note: Note) -> str:
    numbers = [int(s.id[1:]) for s in note.statements if s.id[:1] == "n" and s.id[1:].isdecimal()]
    number = max([*numbers, len(note.statements)], default=0) + 1
    return f"n{number}"
