"""Answers: from a model's words to draft statements.

Rules kept here:

* Pure; statements come out in the order of the template's sections.
* A statement is one sentence.  What a completion model repeats, or leaves unfinished, is dropped, never mended.
* Nothing is judged here: whether a statement is true is the verifier's question.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from clinic.domain import Completion, DraftStatement, SectionText, Transcript
from clinic.errors import GenerationError
from clinic.generation.schemas import note_schema, read_note
from clinic.generation.template import Template

_ABBREVIATIONS = frozenset(
    {"dr", "mr", "mrs", "ms", "st", "vs", "approx", "no", "e.g", "i.e", "fig", "prof", "tab", "pt"}
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")
_ITEM_NUMBER = re.compile(r"^(?:\d{1,2}[.)]|[-*\u2022])\s+")
_LONGEST_LOOP = 8
_REPEATS = 3
_LIMIT = 400


def parse(completion: Completion, template: Template, transcript: Transcript) -> tuple[DraftStatement, ...]:
    """Return the statements of an answer.

    Raises:
        GenerationError: `output_invalid` if a chat answer is not what its schema asks for.
    """
    drafts: list[DraftStatement] = []
    for answer in completion.sections:
        if answer.section in template.section_ids:
            drafts.extend(_from_text(answer))
        else:
            drafts.extend(_from_json(answer, template, transcript))
    order = {section: place for place, section in enumerate(template.section_ids)}
    return tuple(sorted(_without_doubles(drafts), key=lambda draft: order[draft.section]))


def sentences(text: str) -> Iterator[str]:
    """Yield the finished sentences of `text`, in order, up to where it starts to repeat itself.

    The last one counts as unfinished unless it ends like a sentence.
    """
    seen: set[str] = set()
    for sentence, finished in _split(cut_loop(text)):
        key = _key(sentence)
        if not key or key.isdigit():
            continue
        if not finished or key in seen:
            return
        seen.add(key)
        yield sentence[:_LIMIT]


def cut_loop(text: str) -> str:
    """Return `text` up to where the same one to eight words stand three times in a row."""
    words = list(re.finditer(r"\S+", text))
    keys = [_key(word[0]) for word in words]
    for start in range(len(words)):
        for length in range(1, _LONGEST_LOOP + 1):
            block = keys[start : start + length]
            if any(block) and all(
                keys[start + n * length : start + (n + 1) * length] == block for n in range(1, _REPEATS)
            ):
                return text[: words[start].start()].rstrip()
    return text


def _from_text(answer: SectionText) -> Iterator[DraftStatement]:
    text = answer.text.strip()
    if answer.finish_reason == "stop" and text and text[-1] not in ".!?":
        text += "."  # the model itself ended here: finished, without a full stop
    for sentence in sentences(text):
        yield DraftStatement(section=answer.section, text=sentence)


def _from_json(answer: SectionText, template: Template, transcript: Transcript) -> Iterator[DraftStatement]:
    schema = note_schema(sections=template.section_ids, segments=[s.id for s in transcript.segments])
    note = read_note(answer.text, schema)
    if note is None:
        raise GenerationError("the stored answer is not a note", code="output_invalid", hint="generate again")
    for statement in note.statements:
        text = " ".join(statement.text.split())
        yield DraftStatement(section=statement.section, text=text, cited=tuple(dict.fromkeys(statement.segments)))


def _split(text: str) -> Iterator[tuple[str, bool]]:
    start = 0
    for match in _SENTENCE_END.finditer(text):
        piece = text[start : match.end()].strip()
        last = piece.rstrip(".").rsplit(maxsplit=1)[-1].lower() if piece.strip(".") else ""
        if match[0] == "." and (last in _ABBREVIATIONS or _is_item_number(piece)):
            continue
        start = match.end()
        if piece:
            yield _ITEM_NUMBER.sub("", piece), True
    rest = text[start:].strip()
    if rest:
        yield _ITEM_NUMBER.sub("", rest), False


def _is_item_number(piece: str) -> bool:
    return re.fullmatch(r"\d{1,2}\.", piece) is not None


def _without_doubles(drafts: Iterable[DraftStatement]) -> Iterator[DraftStatement]:
    seen: set[tuple[str, str]] = set()
    for draft in drafts:
        key = (draft.section, _key(draft.text))
        if key not in seen:
            seen.add(key)
            yield draft


def _key(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.lower()).strip()
