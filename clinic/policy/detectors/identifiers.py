"""Identifiers: where a text says who somebody is.

Rules kept here:

* Pure: patterns, word lists and what the patient's own record says.  No model, no network, no guess from context alone.
* `find` reports what a reviewer would want to see: names, places, dates, numbers, contacts.
* `redact_transcript` takes out only what names the patient: the record's own values, self-introductions, numbers,
  contacts, addresses and the date of birth.  Clinical dates, places and colleagues' names stay, a note needs them.
* Spans are sorted and do not overlap.  In a report the longer one wins; in a redaction what overlaps is joined.
* After redaction nothing of what is redacted is found again.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

from clinic.domain import Segment, Transcript, Word
from clinic.policy.detectors.names import AMBIGUOUS, ORDINARY
from clinic.policy.detectors.people import find_people
from clinic.policy.detectors.prefilter import Folded
from clinic.policy.detectors.shapes import CONTEXT_SHAPES, DIRECT_SHAPES, MONTHS, Shape


@dataclass(frozen=True, slots=True)
class Span:
    """One identifier: characters `start` to `end` (exclusive) of the text.  The text itself is not kept."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, repr=False)
class KnownIdentifiers:
    """What the record says about the patient; whatever of it is said aloud is found, however common a word it is."""

    name: str | None = None
    record_number: str | None = None
    date_of_birth: date | None = None


NOBODY = KnownIdentifiers()


def find(text: str, *, known: KnownIdentifiers = NOBODY) -> tuple[Span, ...]:
    """Find everything that identifies somebody."""
    folded = Folded(text)
    people = (Span(person.kind, person.start, person.end) for person in find_people(text))
    return _settle([*_direct(text, folded, known), *_shaped(text, folded, CONTEXT_SHAPES), *people])


def find_direct(text: str, *, known: KnownIdentifiers = NOBODY) -> tuple[Span, ...]:
    """Find what `redact_transcript` takes out.  Overlapping ones are joined: no piece of either may stay behind."""
    return _join(_direct(text, Folded(text), known))


def redact_transcript(transcript: Transcript, known: KnownIdentifiers = NOBODY) -> Transcript:
    """Return the transcript with what names the patient replaced by placeholders such as `[NAME]`.

    Identifiers are looked for across segments, because a pause inside a number starts a new one.
    """
    text = "\n".join(segment.text for segment in transcript.segments)
    spans = find_direct(text, known=known)
    segments, offset = [], 0
    for segment in transcript.segments:
        end = offset + len(segment.text)
        inside = [
            Span(s.kind, max(s.start, offset) - offset, min(s.end, end) - offset)
            for s in spans
            if s.start < end and s.end > offset
        ]
        segments.append(_redact(segment, inside) if inside else segment)
        offset = end + 1
    return transcript.model_copy(update={"segments": tuple(segments)})


def _redact(segment: Segment, spans: Iterable[Span]) -> Segment:
    parts, words, position = [], list(_located(segment)), 0
    for span in spans:
        parts += [segment.text[position : span.start], placeholder(span.kind)]
        position = span.end
        touched = [w for w in words if w[0] < span.end and w[1] > span.start]
        for index, (start, end, word) in enumerate(touched):
            text = placeholder(span.kind) if index == 0 else ""
            words[words.index((start, end, word))] = (start, end, word.model_copy(update={"text": text}))
    parts.append(segment.text[position:])
    kept = tuple(word for _, _, word in words if word.text)
    return segment.model_copy(update={"text": "".join(parts), "words": kept})


def _located(segment: Segment) -> Iterator[tuple[int, int, Word]]:
    """Yield each word with its place in the text; a word that is not there is left out: it could hold a name."""
    position = 0
    for word in segment.words:
        text = word.text.strip()
        start = segment.text.find(text, position)
        if text and start >= 0:
            position = start + len(text)
            yield start, position, word


def placeholder(kind: str) -> str:
    """Return what stands for an identifier of this kind."""
    return f"[{kind.upper()}]"


def _direct(text: str, folded: Folded, known: KnownIdentifiers) -> Iterator[Span]:
    yield from _shaped(text, folded, DIRECT_SHAPES)
    yield from _known_name(text, folded, known.name)
    if known.record_number:
        yield from _value(text, "medical_record_number", known.record_number)
    if known.date_of_birth and f"{known.date_of_birth.year % 100:02d}" in text:  # every way to write it holds these
        yield from (Span("date_of_birth", m.start(), m.end()) for m in _written(known.date_of_birth).finditer(text))


def _shaped(text: str, folded: Folded, shapes: Iterable[Shape]) -> Iterator[Span]:
    for shape in shapes:
        for sieve in shape.sieves:
            group = "value" if "value" in sieve.pattern.groupindex else 0
            for match in sieve.finditer(text, folded):
                if shape.accepts(match[group]):
                    yield Span(shape.kind, match.start(group), match.end(group))


def _known_name(text: str, folded: Folded, name: str | None) -> Iterator[Span]:
    parts = re.findall(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*", name or "")
    said = [part for part in parts if Folded(part).text in folded.text]
    if len(parts) > 1 and said == parts:
        whole = r"[\s,.-]+(?:[^\W\d_]\.?\s+)?".join(re.escape(part) for part in parts)
        yield from (Span("name", m.start(), m.end()) for m in re.finditer(rf"(?i)\b{whole}\b", text))
    for part in said:
        if len(part) > 1:
            yield from _known_part(text, part)


def _known_part(text: str, part: str) -> Iterator[Span]:
    # An ordinary word ("Will", "Said", "You") counts only where it is written as a name: capital, within a sentence.
    word = part.casefold()
    common = word in AMBIGUOUS or word in ORDINARY or len(part) == 2  # noqa: PLR2004 - two letters
    for match in re.finditer(rf"(?i)\b{re.escape(part)}\b", text):
        opens = re.search(r"(?:^|[.?!:\n])\s*$", text[max(0, match.start() - 3) : match.start()]) is not None
        if not common or (match[0][0].isupper() and not opens):
            yield Span("name", match.start(), match.end())


def _value(text: str, kind: str, value: str) -> Iterator[Span]:
    """Find a number however it is grouped: `RV123456`, `RV 123-456`, `r v 1 2 3 4 5 6`."""
    characters = [re.escape(c) for c in value if c.isalnum()]
    if len(characters) >= 3:  # noqa: PLR2004 - shorter ones are everywhere
        pattern = r"[\s./-]{0,2}".join(characters)
        yield from (Span(kind, m.start(), m.end()) for m in re.finditer(rf"(?i)(?<!\w)#?{pattern}(?!\w)", text))


def _written(day: date) -> re.Pattern[str]:
    month = rf"(?:{MONTHS[day.month - 1]}|0?{day.month})"
    number = rf"(?:the\s+)?0?{day.day}(?:st|nd|rd|th)?"
    year = rf"(?:{day.year}|['\u2019]?{day.year % 100:02d})"
    gap = r"(?:\s+of\s+|\s*[\s,./-]\s*)"
    orders = (
        f"{day.year}{gap}{month}{gap}{number}",
        f"{number}{gap}{month}{gap}{year}",
        f"{month}{gap}{number}{gap}{year}",
    )
    return re.compile(rf"(?i)(?<![\w/])(?:{'|'.join(orders)})(?![\w/])")


def _join(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Sort and join what overlaps; the longest one gives its kind."""
    joined: list[Span] = []
    kinds: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        if joined and span.start < joined[-1].end:
            kinds[-1] = max(kinds[-1], span, key=lambda s: s.end - s.start)
            joined[-1] = Span(kinds[-1].kind, joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
            kinds.append(span)
    return tuple(joined)


def _settle(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Sort and resolve overlaps: the longer span wins, then the earlier one, then the one found first."""
    kept: list[Span] = []  # INVARIANT: sorted, no two overlap
    for span in sorted(spans, key=lambda s: (s.start - s.end, s.start)):
        place = bisect_left(kept, span.start, key=lambda s: s.start)
        before, after = kept[max(0, place - 1) : place], kept[place : place + 1]
        if all(other.end <= span.start for other in before) and all(other.start >= span.end for other in after):
            kept.insert(place, span)
    return tuple(kept)
