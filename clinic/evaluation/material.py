"""Material: visits with notes by people, read from the public sets' own files or from ours.

Rules kept here:

* A set is known by the fields of its rows, not by its file's name.
* Rows are counted from 1, so that the rows to tune on and the rows to report on can be named and kept apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinic.domain import DraftStatement, Segment, Transcript
from clinic.errors import InputError
from clinic.verification.notes import read_note, read_transcript, split_sentences


@dataclass(frozen=True, slots=True)
class Visit:
    """One transcript with the statements that a person wrote about it."""

    name: str
    transcript: Transcript
    statements: tuple[DraftStatement, ...]


def read_visits(path: Path, *, first: int = 1, last: int | None = None) -> list[Visit]:
    """Read rows `first` to `last` of the JSON lines of `path`: ACI-BENCH, MTS-Dialog, PriMock57, or our own.

    Raises:
        InputError: `material_invalid`, with the number of the line and never its text.
    """
    visits = []
    for number, line in enumerate(_lines(path), start=1):
        if number < first or (last is not None and number > last):
            continue
        try:
            visits.append(_visit(json.loads(line), f"{path.name}:{number}"))
        except (ValueError, KeyError, TypeError, InputError):
            raise _invalid(f"line {number} is not a visit that can be read") from None
    return [v for v in visits if v.transcript.segments and v.statements]


def _lines(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise _invalid("the file cannot be read as UTF-8 text") from None
    yield from (line for line in text.split("\n") if line.strip())


def _invalid(message: str) -> InputError:
    return InputError(message, code="material_invalid", hint="docs/verification.md shows the lines that it reads")


_BRACKETS = re.compile(r"\[(\w+)\] (.*)")
_COLON = re.compile(r"\s*([A-Za-z_0-9]+):\s*(.*)")
_MARKS = re.compile(r"</?\w+/?>")


def _visit(row: Mapping[str, Any], name: str) -> Visit:
    if "transcript" in row:
        return Visit(name, read_transcript(row), read_note(row["note"]).drafts)
    if "turns" in row:
        spoken = [(t["speaker"], _MARKS.sub("", t["text"])) for t in row["turns"]]
        return Visit(name, _spoken(spoken), read_note(row["note"]).drafts)
    if "section_text" in row:
        turns: list[Any] = [m.groups() for line in row["dialogue"].splitlines() if (m := _COLON.match(line))]
        texts = [s for line in row["section_text"].splitlines() for s in split_sentences(line)]
        drafts = tuple(DraftStatement(section=row["section_header"], text=t) for t in texts)
        return Visit(name, _spoken(turns), drafts)
    return Visit(name, _spoken(_BRACKETS.findall(row["dialogue"])), read_note(row["note"]).drafts)


def _spoken(turns: list[Any]) -> Transcript:
    segments = (Segment(id=f"s{i}", speaker=who, text=text) for i, (who, text) in enumerate(turns, start=1))
    return Transcript(segments=tuple(segments))
