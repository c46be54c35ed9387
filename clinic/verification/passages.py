"""Passages: a transcript read once, so that every statement can be held against it.

Rules kept here:

* What a question names is settled by the answer that follows it (`Any fever?` `No.`), across segments too.
* A question without a clear answer settles nothing.
* Every term, quantity and drug keeps its segment and its place in the text.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from clinic.domain import Segment, Transcript
from clinic.verification.negation import Polarity, answer, hesitates, polarities, sentences
from clinic.verification.quantities import quantities
from clinic.verification.units import Quantity
from clinic.verification.vocabulary import QUANTITY_WEIGHT, Term, terms, weight
from clinic.verification.words import Token, listed, tokenize


@dataclass(frozen=True, slots=True)
class Reading:
    """One text, read: tokens, terms with their polarity, quantities."""

    text: str
    tokens: tuple[Token, ...]
    terms: tuple[Term, ...]
    polarities: tuple[Polarity, ...]
    quantities: tuple[Quantity, ...]

    @property
    def counted(self) -> frozenset[int]:
        """Indexes of the tokens that are part of a quantity."""
        return frozenset(i for q in self.quantities for i in range(q.first, q.last + 1))


Pair = tuple[frozenset[str], frozenset[str]]
"""Two terms, one after the other."""


def read(text: str) -> Reading:
    """Read one text."""
    tokens = tokenize(text)
    found = terms(tokens)
    return Reading(text, tokens, found, polarities(text, tokens, found), quantities(tokens))


@dataclass(frozen=True, slots=True)
class Passage:
    """One segment, read; `answered_in` is the segment that answers the question it ends with."""

    index: int
    segment: Segment
    reading: Reading
    answered_in: int | None
    keys: frozenset[str]
    parts: frozenset[str]
    pairs: frozenset[Pair]
    load: float  # how much it says in all


@dataclass(frozen=True, slots=True)
class Mention:
    """One place where something was said."""

    passage: int
    term: int
    polarity: Polarity


@dataclass(frozen=True, slots=True)
class Heard:
    """The transcript, read."""

    passages: tuple[Passage, ...]
    mentions: dict[str, list[Mention]] = field(repr=False)
    holding: dict[str, frozenset[int]] = field(repr=False)  # passages that hold a key
    touching: dict[str, frozenset[int]] = field(repr=False)  # passages that hold a part, or a word of a family
    by_id: dict[str, int] = field(repr=False)

    def rarity(self, keys: Iterable[str]) -> float:
        """Return how telling a term is: 1 for what is said once or never, towards 0.4 for what is said everywhere."""
        spread = {i for key in keys for i in self.holding.get(key, ())}
        total = len(self.passages)
        if len(spread) <= 1:
            return 1.0
        return 0.4 + 0.6 * math.log((total + 1) / (len(spread) + 1)) / math.log(total + 1)


def hear(transcript: Transcript) -> Heard:
    """Read every segment of `transcript` and settle its questions."""
    readings = [read(segment.text) for segment in transcript.segments]
    passages = []
    mentions: dict[str, list[Mention]] = defaultdict(list)
    for i, (segment, reading) in enumerate(zip(transcript.segments, readings, strict=True)):
        settled, answered_in = _settle(i, transcript.segments, readings)
        passages.append(_passage(i, segment, reading, settled, answered_in))
        for t, (term, polarity) in enumerate(zip(reading.terms, settled, strict=True)):
            for key in term.keys:
                mentions[key].append(Mention(i, t, polarity))
    by_id: dict[str, int] = {}
    for i, segment in enumerate(transcript.segments):
        by_id.setdefault(segment.id, i)
    holding = _index((p.index, p.keys) for p in passages)
    touching = _index((p.index, p.parts) for p in passages)
    return Heard(tuple(passages), dict(mentions), holding, touching, by_id)


def word_spans(segment: Segment) -> tuple[tuple[int, int], ...]:
    """Return start and end of each of a segment's words in its text; nothing where the text is not made of them."""
    spans, at = [], 0
    for word in segment.words:
        start = segment.text.find(word.text.strip(), at)
        if start < 0:
            return ()
        at = start + len(word.text.strip())
        spans.append((start, at))
    return tuple(spans)


def _index(rows: Iterable[tuple[int, frozenset[str]]]) -> dict[str, frozenset[int]]:
    found: dict[str, set[int]] = defaultdict(set)
    for number, names in rows:
        for name in names:
            found[name].add(number)
    return {name: frozenset(numbers) for name, numbers in found.items()}


def _passage(
    index: int, segment: Segment, reading: Reading, settled: tuple[Polarity, ...], answered_in: int | None
) -> Passage:
    keys = frozenset(key for term in reading.terms for key in term.keys)
    parts = frozenset(part for term in reading.terms for part in term.parts) | frozenset(map(prefix, keys))
    full = Reading(reading.text, reading.tokens, reading.terms, settled, reading.quantities)
    load = sum(weight(t) for t in reading.terms) + QUANTITY_WEIGHT * len(reading.quantities)
    return Passage(index, segment, full, answered_in, keys, parts - {""}, pairs(full), load)


def pairs(reading: Reading) -> frozenset[Pair]:
    """Return the neighbouring terms of a text: its word order."""
    keys = [t.keys for t in reading.terms]
    return frozenset(pairwise(keys))


_PREFIX = 6


def prefix(key: str) -> str:
    """Return what long words of one family share (`~diagno`), or nothing for short words and for keys of groups."""
    return "~" + key[:_PREFIX] if len(key) >= _PREFIX and key[0].isalpha() else ""


_CLINICIANS = listed("doctor dr clinician nurse physician provider gp therapist interviewer")


def is_clinician(speaker: str | None) -> bool:
    """Whether a speaker's label names a clinician."""
    return (speaker or "").strip().lower().rstrip(".") in _CLINICIANS


# --- questions and answers

_LOOK_AHEAD = 3
_BARE_REPLY = 6
_TAIL = 12


def _settle(
    index: int, segments: tuple[Segment, ...], readings: list[Reading]
) -> tuple[tuple[Polarity, ...], int | None]:
    """Replace `ASKED` by what the answer says; name the segment that answers, if it is another one."""
    reading = readings[index]
    polarity = list(reading.polarities)
    reply = _reply(index, segments)
    answered_in = None
    spans = sentences(reading.tokens)
    for n, (first, last) in enumerate(spans):
        asked = [i for i, t in enumerate(reading.terms) if first <= t.first <= last and _is_open(polarity[i])]
        inside = _inner_answer(reading, spans, n)
        if inside is not None and segments[index].speaker and not _is_bare(spans, n):
            said_next = answer(segments[reply].text) if reply is not None else None
            inside = said_next or inside  # the asker goes on (`I did not ask that yet.`), the other one answers
        if not asked and inside is None and n == len(spans) - 1:
            asked = _untold(reading, first, last, segments, reply)
        said = inside
        if inside is None and reply is not None and _rest_is_asking(reading, spans, n):
            said = answer(segments[reply].text)
            answered_in = reply if asked and said else answered_in
        for i in asked:
            polarity[i] = _settled(polarity[i], said)
    return tuple(polarity), answered_in


def _is_open(polarity: Polarity) -> bool:
    return polarity in {Polarity.ASKED, Polarity.ASKED_NOT}


def _settled(asked: Polarity, said: Polarity | None) -> Polarity:
    if asked is Polarity.ASKED_NOT:  # `no fever?` is denied by `no` and by `that's right` alike, and by silence
        return Polarity.DENIED
    return asked if said is None else said


def _inner_answer(reading: Reading, spans: list[tuple[int, int]], n: int) -> Polarity | None:
    """The answer when the same segment holds it: the next sentence, or the rest after `no` or `yes`."""
    if n + 1 >= len(spans):
        return None
    first, last = spans[n + 1]
    return answer(reading.text[reading.tokens[first].start : reading.tokens[last].end])


def _is_bare(spans: list[tuple[int, int]], n: int) -> bool:
    """Whether the sentence after question `n` is a yes or a no and little more."""
    first, last = spans[n + 1]
    return last - first <= _LOOK_AHEAD


def _rest_is_asking(reading: Reading, spans: list[tuple[int, int]], n: int) -> bool:
    """Whether only questions and fillers follow in this segment, so that the next segment answers them all."""
    return all(reading.tokens[last].text == "?" or last - first <= _LOOK_AHEAD for first, last in spans[n + 1 :])


def _reply(index: int, segments: tuple[Segment, ...]) -> int | None:
    """The segment that answers segment `index`: the next of another speaker, or simply the next."""
    speaker = segments[index].speaker
    for i in range(index + 1, min(index + 1 + _LOOK_AHEAD, len(segments))):
        if hesitates(segments[i].text):
            continue
        if speaker is None or segments[i].speaker != speaker:
            return i
    return None


def _untold(reading: Reading, first: int, last: int, segments: tuple[Segment, ...], reply: int | None) -> list[int]:
    """A question that nothing marks (`and the swelling in your legs` / `no`): a few words before a bare no."""
    if reply is None or reading.tokens[last].text in {".", "!"} or last - first > _TAIL:
        return []
    text = segments[reply].text
    if answer(text) is not Polarity.DENIED or len(text.split()) > _BARE_REPLY:
        return []
    return [i for i, t in enumerate(reading.terms) if first <= t.first <= last]
