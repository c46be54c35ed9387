"""Notes and transcripts from outside: JSON or plain text, read into the values of the domain.

Rules kept here:

* Unknown fields are passed over, missing or malformed ones are refused: `transcript_invalid`, `note_invalid`.
* A refusal names the place (`segment 3`), never the text.
* Plain text is cut at headings (`HPI:`, `## Plan`, a line in capitals) and into sentences; bullets are statements.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from clinic.domain import DraftStatement, Segment, Transcript, Word
from clinic.errors import InputError
from clinic.verification.words import fold


@dataclass(frozen=True, slots=True)
class NoteText:
    """A note that somebody wrote: its statements and their ids, in order."""

    ids: tuple[str, ...]
    drafts: tuple[DraftStatement, ...]


# --- statements that claim nothing

_NOTHING = re.compile(
    r"^\W*(?:(?:this|it|the topic|information) (?:was|is) )?(?:"
    r"(?:was |were |is |are )?not (?:discussed|mentioned|addressed|assessed|recorded|documented|stated|specified|"
    r"provided|covered|reported|available|applicable|elicited|given|noted|performed|examined)"
    r"|none (?:discussed|mentioned|recorded|documented|reported|stated|noted)"
    r"|no information(?: (?:was )?(?:given|provided|available|recorded))?|nothing (?:recorded|discussed|mentioned)"
    r"|n/?a|unknown|-+)\W*(?:(?:in|during|at) (?:this|the|today's) (?:visit|consultation|encounter|transcript|"
    r"conversation|dialogue|recording)|today)?\W*$"
)
_HEADINGS = re.compile(
    r"(?:general|constitutional|neuro(?:logical)?|neck|head|h(?:ee)?nt|eyes|ears|nose|mouth|throat|"
    r"|chest|lungs|heart|respiratory|cardiovascular|cv|gastrointestinal|gi|abdomen|genitourinary|gu|musculoskeletal|msk"
    r"|extremities|skin|integumentary|psych(?:iatric)?|endocrine|lymphatic|hematology/lymphatic/immunology"
    r"|hematologic/lymphatic|allergic/immunologic|breasts|back|rectal|vitals|vital signs|medical|surgical|procedures"
    r"|medications|allergies|social|family|history|(?:physical )?exam(?:ination)?|results|assessment|plan|impression"
    r"|diagnos[ei]s|instructions|subjective|objective|review of systems)[ :]*"
)  # a heading with nothing under it
_LABEL = re.compile(r"^[^:.]{1,40}:\s*")


def claims_nothing(text: str) -> bool:
    """Whether a statement only says that its subject was not discussed, or holds no word or number at all."""
    said = fold(text).strip()
    if not re.search(r"\w", said) or _HEADINGS.fullmatch(said):
        return True
    return bool(_NOTHING.match(said) or _NOTHING.match(_LABEL.sub("", said, count=1)))


# --- reading


def read_transcript(data: str | bytes | Mapping[str, Any]) -> Transcript:
    """Read `{"segments": [{"id", "text", "speaker", "start", "end", "confidence", "words"}]}`; id and text must be."""
    tree = _tree(data, code="transcript_invalid")
    tree = _within(tree, "transcript")
    rows = tree.get("segments") if isinstance(tree, Mapping) else None
    if not isinstance(tree, Mapping) or not isinstance(rows, list):
        raise _invalid("transcript_invalid", "the transcript has no list `segments`")
    segments = tuple(_segment(row, i) for i, row in enumerate(rows, start=1))
    if len({s.id for s in segments}) != len(segments):
        raise _invalid("transcript_invalid", "two segments have the same id")
    language, duration = tree.get("language"), tree.get("duration_s")
    try:
        return Transcript(
            segments=segments, language=language if isinstance(language, str) else None, duration_s=duration
        )
    except ValidationError:
        raise _invalid("transcript_invalid", "`duration_s` is not a number") from None


def _segment(row: object, number: int) -> Segment:
    where = f"segment {number}"
    if not isinstance(row, Mapping):
        raise _invalid("transcript_invalid", f"{where} is not an object")
    identifier, text, speaker = row.get("id"), row.get("text"), row.get("speaker")
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if not isinstance(identifier, str) or not identifier or not isinstance(text, str):
        raise _invalid("transcript_invalid", f"{where} needs an `id` and a `text`")
    if speaker is not None and not isinstance(speaker, str | int):
        raise _invalid("transcript_invalid", f"{where} has a `speaker` that is not text")
    words = row.get("words") or []
    if not isinstance(words, list):
        raise _invalid("transcript_invalid", f"{where} has `words` that are not a list")
    try:
        return Segment(
            id=identifier, text=text, speaker=None if speaker is None else str(speaker), start=row.get("start"),
            end=row.get("end"), confidence=row.get("confidence"), words=tuple(_word(w) for w in words),
        )  # fmt: skip
    except ValidationError:
        raise _invalid(
            "transcript_invalid", f"{where} has a time, a confidence or a word that cannot be read"
        ) from None


def _word(row: object) -> Word:
    if not isinstance(row, Mapping):
        row = {}
    known = {key: row.get(key) for key in ("text", "start", "end")}
    return Word(**known, probability=row.get("probability", 1.0), heard_first=row.get("heard_first"))


def read_note(data: str | bytes | Mapping[str, Any]) -> NoteText:
    """Read a note: `{"statements": [{"id", "section", "text"}]}`, or plain text."""
    if isinstance(data, str) and not data.lstrip().startswith("{"):
        return _plain(data)
    if isinstance(data, bytes) and not data.lstrip().startswith(b"{"):
        return _plain(_decoded(data, "note_invalid"))
    tree = _tree(data, code="note_invalid")
    tree = _within(tree, "note")
    rows = tree.get("statements") if isinstance(tree, Mapping) else None
    if not isinstance(rows, list):
        raise _invalid("note_invalid", "the note has no list `statements`")
    pairs = [_row(row, i) for i, row in enumerate(rows, start=1)]
    ids = tuple(identifier for identifier, _ in pairs)
    if len(set(ids)) != len(ids):
        raise _invalid("note_invalid", "two statements have the same id")
    return NoteText(ids, tuple(draft for _, draft in pairs))


def _within(tree: object, name: str) -> object:
    """Return the part of a whole `clinic consult --json` document, or the document itself."""
    inner = tree.get(name) if isinstance(tree, Mapping) else None
    return inner if isinstance(inner, Mapping) else tree


def _row(row: object, number: int) -> tuple[str, DraftStatement]:
    where = f"statement {number}"
    if not isinstance(row, Mapping):
        raise _invalid("note_invalid", f"{where} is not an object")
    text, section, identifier = row.get("text"), row.get("section", ""), row.get("id", f"n{number}")
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if not isinstance(text, str) or not isinstance(identifier, str) or not identifier:
        raise _invalid("note_invalid", f"{where} needs a `text`")
    cited = row.get("cited") or []
    if not isinstance(section, str | None) or not isinstance(cited, list):
        raise _invalid("note_invalid", f"{where} has a `section` or `cited` of the wrong kind")
    return identifier, DraftStatement(section=section or "", text=text, cited=tuple(str(c) for c in cited))


def _tree(data: str | bytes | Mapping[str, Any], *, code: str) -> Any:
    if isinstance(data, Mapping):
        return data
    text = data if isinstance(data, str) else _decoded(data, code)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _invalid(code, "the file is not valid JSON") from None


def _decoded(data: bytes, code: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _invalid(code, "the file is not UTF-8 text") from None


def _invalid(code: str, message: str) -> InputError:
    return InputError(message, code=code, hint="docs/formats.md shows the shapes of a transcript and of a note")


# --- plain text

_HEADING = re.compile(r"^(?:#{1,6}\s*)?\**([A-Za-z][A-Za-z /&(),-]{0,48}?)\**\s*:\**\s*(.*)$")
_BULLET = re.compile(r"^\s*(?:[-*\u2022\u2023\u25cf]|\d{1,2}[.)])\s+")
_CAPITALS = re.compile(r"^[A-Z][A-Z /&(),-]{1,48}$")
_MAX_HEADING_WORDS = 5


def _plain(text: str) -> NoteText:
    section = ""
    drafts: list[DraftStatement] = []
    for line in text.splitlines():
        heading, rest = _heading(line.strip())
        section = heading or section
        drafts += [DraftStatement(section=section, text=sentence) for sentence in split_sentences(rest)]
    if not drafts:
        raise _invalid("note_invalid", "the note is empty")
    return NoteText(tuple(f"n{i}" for i in range(1, len(drafts) + 1)), tuple(drafts))


def _heading(line: str) -> tuple[str, str]:
    if line.startswith("#"):
        return line.lstrip("# ").rstrip(": *"), ""
    if _CAPITALS.match(line) and len(line.split()) <= _MAX_HEADING_WORDS:
        return line, ""
    match = _HEADING.match(line)
    if match and len(match[1].split()) <= _MAX_HEADING_WORDS:
        return match[1].strip(), match[2]
    return "", line


_BREAK = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:dr|mr|mrs|ms|st|vs|no|approx|e\.g|i\.e|p\.o|b\.i\.d|t\.i\.d|q\.i\.d|q\.d|p\.r\.n|a\.m|p\.m|hx|pt|jr|sr)"
    r"|\b[A-Z]|(?:^|\s)\d{1,2})\.$",
    re.IGNORECASE,
)


def split_sentences(text: str) -> list[str]:
    """Cut text into sentences; abbreviations and list numbers do not end one."""
    return [s for s in _sentences(text) if re.search(r"\w", s)]


def _sentences(text: str) -> Iterator[str]:
    held = ""
    for piece in _BREAK.split(_BULLET.sub("", text)):
        held = f"{held} {piece}".strip() if held else piece.strip()
        if _ABBREVIATION.search(held):
            continue
        yield _BULLET.sub("", held)
        held = ""
    if held:
        yield held
