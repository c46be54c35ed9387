"""Passages: which part of a consultation a small model is asked about.

Rules kept here:

* Pure and deterministic, from the cues of the template alone; whole segments only, in their order, none cut or changed.
* What nobody spoke of is not asked: the small model invents an answer to every question it is given.
* A question with cues is asked about the places where they were said, with what was said around them: shown a whole
  consultation, the model mixes its parts up (measured in deploy/adapter/README.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from clinic.domain import Segment
from clinic.generation.template import Ask, Section, Template

Passage = tuple[Segment, ...]

_OPENING_WORDS = 80
_WINDOW_WORDS = 250
_PASSAGE_WORDS = 120


def passages(ask: Ask, section: Section, template: Template, segments: Sequence[Segment]) -> Iterator[Passage]:
    """Yield the passages that `ask`, of `section`, is put about; none where no cue was said."""
    if ask.opening_only:
        yield from _runs(segments, _OPENING_WORDS, most=1)
    elif not ask.cues:
        yield from _runs(_left_by_others(section, template, segments), _WINDOW_WORDS)
    else:
        yield from _runs(_around_cues(ask, segments), _PASSAGE_WORDS)


def is_cued(ask: Ask, text: str) -> bool:
    """Say whether a cue of `ask` occurs in `text`."""
    return has_cue(ask.cues, text)


def has_cue(cues: Iterable[str], text: str) -> bool:
    """Say whether one of `cues` occurs in `text`: `word` as a whole, `word*` as its beginning."""
    spoken = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return any(_pattern(cue).search(spoken) for cue in cues)


def _left_by_others(section: Section, template: Template, segments: Sequence[Segment]) -> list[Segment]:
    """Leave out what another section is asked about: shown an allergy in passing, the model denied it."""
    others = [ask for other in template.sections if other is not section for ask in other.asks]
    rest = [segment for segment in segments if not any(is_cued(ask, segment.text) for ask in others)]
    return rest or list(segments)


def _around_cues(ask: Ask, segments: Sequence[Segment]) -> Iterator[Segment]:
    wanted: set[int] = set()
    for place, segment in enumerate(segments):
        if is_cued(ask, segment.text):
            # An answer follows its question.  Without speakers a segment is a sentence, and a cue may be the answer.
            before = 0 if segment.speaker is not None else 1
            wanted |= {place} if ask.cue_alone else set(range(place - before, place + 2))
    return (segment for place, segment in enumerate(segments) if place in wanted)


def _runs(segments: Iterable[Segment], words: int, *, most: int | None = None) -> Iterator[Passage]:
    """Split into runs of about `words`; a longer single segment is a run of its own."""
    run: list[Segment] = []
    length = given = 0
    for segment in segments:
        count = len(segment.text.split())
        if run and length + count > words:
            yield tuple(run)
            given += 1
            if given == most:
                return
            run, length = [], 0
        run.append(segment)
        length += count
    if length:
        yield tuple(run)


def _pattern(cue: str) -> re.Pattern[str]:
    end = "" if cue.endswith("*") else r"(?!\w)"
    return re.compile(rf"(?<!\w){re.escape(cue.removesuffix('*'))}{end}")  # `re` keeps compiled patterns
