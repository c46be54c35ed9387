"""Omissions: what was said and matters, and the note does not carry.

Rules kept here:

* Only facts that somebody stated count: what was merely asked, doubted or supposed is no omission.
* The text is verbatim from the transcript; one entry for one fact, the most important first.
* A fact is carried when any statement that stands in the note speaks of it; whether rightly is for the checks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from clinic.domain import Omission, Statement, StatementStatus
from clinic.verification.drugs import drugs
from clinic.verification.negation import Polarity, sentences
from clinic.verification.passages import Heard, Passage, Reading, is_clinician, read
from clinic.verification.units import DATE, DOSE_DIMENSIONS, RATIO, TIME, Quantity, same
from clinic.verification.vocabulary import Term, groups, weight
from clinic.verification.words import listed

KINDS = ("allergy", "safety_net", "drug", "measurement", "complaint", "symptom", "finding", "follow_up", "denial")
"""Kinds of omissions, the most important first."""

_MOST = 12
_RED_FLAGS = groups(
    """chest pain, dyspnoea, syncope, suicidal thoughts, haemoptysis, rectal bleeding, haematuria, weight loss,
    seizure, incontinence, fever, night sweats, vision change, weakness, numbness, headache, photophobia, neck
    pain, palpitations, thrombosis, pregnancy, dysphagia, hallucinations, orthopnoea, vomiting"""
)


@dataclass(frozen=True, slots=True)
class _Fact:
    kind: str
    name: str  # what makes it one fact, however often it is said
    passage: int
    at: int  # token of the passage at which it stands
    rank: int  # within its kind, smaller first


@dataclass(frozen=True, slots=True)
class _Carried:
    """What the note speaks of."""

    keys: frozenset[str]
    quantities: tuple[Quantity, ...]
    readings: tuple[Reading, ...]


def omissions(heard: Heard, statements: Iterable[Statement]) -> tuple[Omission, ...]:
    """List what `statements` leave out of what was heard, most important first."""
    note = _carried(statements)
    facts: dict[tuple[str, str], _Fact] = {}
    for passage in heard.passages:
        for fact in _facts(passage, note, heard):
            known = facts.get((fact.kind, fact.name))
            if known is None or fact.rank < known.rank:
                facts[fact.kind, fact.name] = fact
    ordered = sorted(facts.values(), key=lambda f: (KINDS.index(f.kind), f.rank, f.passage, f.at))
    found: dict[str, Omission] = {}
    for fact in ordered:
        passage = heard.passages[fact.passage]
        omission = Omission(segment=passage.segment.id, kind=fact.kind, text=_sentence(passage, fact.at))
        found.setdefault(f"{fact.passage}:{omission.text}", omission)
    return tuple(found.values())[:_MOST]


def _carried(statements: Iterable[Statement]) -> _Carried:
    standing = [s for s in statements if s.status is not StatementStatus.REMOVED]
    readings = tuple(read(s.text) for s in standing)
    keys = {key for r in readings for t in r.terms for key in t.keys | t.parts}
    keys |= {key for r in readings for _, names in drugs(r) for key in names}
    return _Carried(frozenset(keys), tuple(q for r in readings for q in r.quantities), readings)


def _facts(passage: Passage, note: _Carried, heard: Heard) -> Iterator[_Fact]:
    yield from _drugs(passage, note)
    yield from _measurements(passage, note)
    yield from _clinical(passage, note, heard)
    yield from _advice(passage, note)
    yield from _complaint(passage, note, heard)


def _is_clinician(passage: Passage) -> bool:
    return is_clinician(passage.segment.speaker)


# --- drugs, measurements

_DOSE_REACH = 8


def _drugs(passage: Passage, note: _Carried) -> Iterator[_Fact]:
    reading = passage.reading
    for term, names in drugs(reading):
        if _polarity(passage, term) is not Polarity.AFFIRMED and not _dose(reading, term):
            continue
        dose = _dose(reading, term)
        name = min(names)
        if not names & note.keys:
            yield _Fact("drug", name, passage.index, term.first, 0 if dose else 2)
        elif dose and not any(same(dose, q) or same(q, dose) for q in note.quantities):
            yield _Fact("drug", f"{name} {sorted(dose.values)}", passage.index, term.first, 1)


def _polarity(passage: Passage, term: Term) -> Polarity:
    return passage.reading.polarities[passage.reading.terms.index(term)]


def _dose(reading: Reading, term: Term) -> Quantity | None:
    near = [q for q in reading.quantities if 0 < q.first - term.last <= _DOSE_REACH]
    return next((q for q in near if q.dimension in DOSE_DIMENSIONS), None)


_MEASURES = groups(
    """temperature, heart rate, respiratory rate, oxygen saturation, weight, haemoglobin a1c, haemoglobin, blood
    pressure, blood sugar, ejection fraction, creatinine, bmi, white count, fever"""
)
_MEASURE_REACH = 6
_PRESSURE = 60
_LEAST_MEASURE = 4


def _measurements(passage: Passage, note: _Carried) -> Iterator[_Fact]:
    measured = [t for t in passage.reading.terms if t.keys & _MEASURES]
    for quantity in passage.reading.quantities:
        pressure = (
            quantity.dimension == RATIO and min(quantity.pair) >= _PRESSURE / 2 and max(quantity.pair) > _PRESSURE
        )
        near = [t for t in measured if abs(t.first - quantity.first) <= _MEASURE_REACH]
        if not pressure and (
            not near or quantity.dimension in {TIME, DATE, "rate", "times"} or max(quantity.values) < _LEAST_MEASURE
        ):
            continue
        if not any(same(q, quantity) or same(quantity, q) for q in note.quantities):
            yield _Fact("measurement", str(quantity.pair or sorted(quantity.values)), passage.index, quantity.first, 0)


# --- symptoms, denials, allergies


def _clinical(passage: Passage, note: _Carried, heard: Heard) -> Iterator[_Fact]:
    clinician = _is_clinician(passage)
    for term, polarity in zip(passage.reading.terms, passage.reading.polarities, strict=True):
        if not term.clinical or term.keys & note.keys:  # `pain` in the note does not carry `chest pain`
            continue
        name = min(term.keys)
        told, at = _told(passage, term, heard)
        flagged = bool(term.keys & _RED_FLAGS)
        if "=allergy" in term.keys:
            if polarity in {Polarity.AFFIRMED, Polarity.DENIED}:
                yield _Fact("allergy", name, told, at, polarity is Polarity.DENIED)
        elif polarity is Polarity.AFFIRMED and (passage.answered_in is not None or not clinician):
            yield _Fact("symptom", name, told, at, not flagged)
        elif polarity is Polarity.AFFIRMED and _is_found(passage.reading, term):
            yield _Fact("finding", name, told, at, term.kind != "condition")
        elif polarity is Polarity.DENIED:
            yield _Fact("denial", name, told, at, not flagged)


_FINDING = listed(
    """have has had 've see seen saw hear heard appreciate appreciated show shows showed shown reveal reveals found
    diagnosed history think consistent there's is are was were got positive your his her on of
    looks looking sounds seems"""
)
_FINDING_REACH = 8


def _is_found(reading: Reading, term: Term) -> bool:
    """Whether a clinician states a finding or a diagnosis (`you do have a murmur`, `this looks like a strain`)."""
    before = {t.text for t in reading.tokens[max(0, term.first - _FINDING_REACH) : term.first]}
    return bool(before & _FINDING)


def _told(passage: Passage, term: Term, heard: Heard) -> tuple[int, int]:
    """Where a fact is told: in the answer, if that says more than yes or no (`Yes, penicillin.`)."""
    if passage.answered_in is not None and heard.passages[passage.answered_in].load >= 1:
        return passage.answered_in, 0
    return passage.index, term.first


# --- advice

_SAFETY = re.compile(
    r"\b(?:if (?:you|it|this|that|things|the|there|your|any|she|he|symptoms)\b.{0,120}?\b(?:call|come back|come in"
    r"|ring|go to|return|999|911|111|emergency|hospital|a&e|let (?:me|us) know|contact|see (?:me|us|a|your)|seek)"
    r"|(?:call|come back|ring|go (?:straight )?to|return|contact|seek|let (?:me|us) know)\b.{0,60}?\b(?:if|should)\b"
    r".{0,80}?\b(?:worse|worsen|fever|pain|breath|bleed|blood|not (?:better|improv|settl)|new|concern|vomit|any"
    r"|symptoms))",
    re.IGNORECASE | re.DOTALL,
)
_FOLLOW_UP = re.compile(
    r"\b(?:follow[- ]?up|come back|see you (?:again|back|in)|recheck|review you"
    r"|book (?:you )?(?:in|another)|return (?:in|to))\b",
    re.IGNORECASE,
)
_SPOKEN_OF = 0.5


def _advice(passage: Passage, note: _Carried) -> Iterator[_Fact]:
    for first, last in sentences(passage.reading.tokens):
        text = passage.reading.text[passage.reading.tokens[first].start : passage.reading.tokens[last].end]
        kind = "safety_net" if _SAFETY.search(text) else "follow_up" if _is_follow_up(text) else None
        if kind and not _spoken_of(text, note, kind):
            yield _Fact(kind, text.lower(), passage.index, first, 0)


def _is_follow_up(text: str) -> bool:
    return bool(_FOLLOW_UP.search(text)) and any(q.dimension in {TIME, DATE} for q in read(text).quantities)


def _spoken_of(text: str, note: _Carried, kind: str) -> bool:
    said = read(text)
    if kind == "follow_up":
        when = [q for q in said.quantities if q.dimension in {TIME, DATE}]
        return "=follow up" in note.keys and any(same(q, w) or same(w, q) for q in note.quantities for w in when)
    return any(
        _overlap(said, r) >= _SPOKEN_OF and re.search(r"\b(?:if|should|when|unless)\b", r.text) for r in note.readings
    )


def _overlap(said: Reading, noted: Reading) -> float:
    keys = {key for t in noted.terms for key in t.keys | t.parts}
    weights = [(weight(t), bool(t.keys & keys)) for t in said.terms]
    total = sum(w for w, _ in weights)
    return sum(w for w, met in weights if met) / total if total else 1.0


# --- the complaint

_COMPLAINT_WITHIN = 6
_LEAST_WORDS = 5


def _complaint(passage: Passage, note: _Carried, heard: Heard) -> Iterator[_Fact]:
    """What the patient opened with: the first answer that names a symptom."""
    if passage.index > _COMPLAINT_WITHIN or _is_clinician(passage) or len(passage.reading.tokens) < _LEAST_WORDS:
        return
    earlier = any(_named(p) for p in heard.passages[: passage.index] if not _is_clinician(p))
    named = _named(passage)
    if named and not earlier and not any(t.keys & note.keys for t in named):
        yield _Fact("complaint", "complaint", passage.index, named[0].first, 0)


def _named(passage: Passage) -> list[Term]:
    pairs = zip(passage.reading.terms, passage.reading.polarities, strict=True)
    return [t for t, p in pairs if t.clinical and p is Polarity.AFFIRMED]


_LONG = 240


def _sentence(passage: Passage, at: int) -> str:
    """The sentence around a token, verbatim; the whole segment where it is short."""
    text = passage.reading.text.strip()
    if len(text) <= _LONG:
        return text
    first, last = next((f, e) for f, e in sentences(passage.reading.tokens) if f <= at <= e)
    tokens = passage.reading.tokens
    start, end = tokens[first].start, tokens[last].end
    if end - start > 2 * _LONG:  # speech without punctuation: some words to either side
        start = max(start, tokens[max(first, at - 20)].start)
        end = min(end, tokens[min(last, at + 20)].end)
    return passage.reading.text[start:end]
