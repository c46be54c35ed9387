"""Checks: what can be wrong with a statement, one function each, with a code and a sentence for the clinician.

Rules kept here:

* Each check is pure and independent: taking one out of `CHECKS` changes only its own codes.
* A check speaks only where it knows: a term whose polarity, side or number cannot be told is left alone.
* Reasons quote the note and the transcript.  They are part of the note and sealed with it; they never go into a log.
"""

from __future__ import annotations

from collections.abc import Iterable

from clinic.domain import Reason
from clinic.verification.case import SENTENCE_REACH, Case, Check, case, close_to, text_of
from clinic.verification.certainty import uncertain_words
from clinic.verification.doses import bound
from clinic.verification.drugs import drugs, sounds_like
from clinic.verification.negation import Polarity, denial_word, denies, sentences
from clinic.verification.numeric import wrong_dose, wrong_label, wrong_numbers
from clinic.verification.passages import Heard, Mention, Passage, Reading, prefix
from clinic.verification.safety import allergy_conflict, only_asked, term_not_said, wrong_follow_up, wrong_plan
from clinic.verification.sides import Side, sides
from clinic.verification.subjects import (
    DEATH,
    about_family,
    belongs_to_patient,
    never_of_relatives,
    only_of_relatives,
    opens_with_relative,
    relatives,
    unheard_relative,
)
from clinic.verification.units import DOSE_DIMENSIONS
from clinic.verification.vocabulary import Term, groups, weight
from clinic.verification.words import listed

__all__ = [
    "CHECKS", "Case", "Check", "allergy_conflict", "case", "cited_unknown", "only_asked", "run", "term_not_said",
    "uncertain_words", "unsupported", "wrong_dose", "wrong_drugs", "wrong_follow_up", "wrong_label", "wrong_negation",
    "wrong_numbers", "wrong_plan", "wrong_side", "wrong_subject",
]  # fmt: skip

# --- cited, unsupported


def cited_unknown(found: Case) -> list[Reason]:
    """The model named a segment that does not exist."""
    unknown = [c for c in found.claim.cited if c not in found.heard.by_id]
    if not unknown:
        return []
    return [Reason(code="cited_unknown", message="the draft names a passage that does not exist in the transcript")]


_COVERED = 0.5
_TELLING = 0.9


def unsupported(found: Case) -> list[Reason]:
    """Nothing, or too little, of what the statement says was said."""
    if found.alignment.coverage >= _COVERED and found.alignment.passages:
        return []
    lost = [text_of(found, t) for t in found.alignment.missing if weight(t) >= _TELLING]
    about = f"; not heard: {_listed(lost)}" if lost and found.alignment.passages else ""
    return [Reason(code="unsupported", message=f"nothing said supports this{about}")]


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f'"{w}"' for w in list(dict.fromkeys(words))[:4])


# --- drugs


def wrong_drugs(found: Case) -> list[Reason]:
    """Every drug named must have been named by somebody."""
    reasons = []
    for term, keys in drugs(found.claim.reading):
        if not any(key in found.said_drugs for key in keys) and not _class_said(term, found):
            reasons.append(_drug_reason(term, found))
    if not reasons:
        reasons += [_drug_reason(term, found) for term in _dosed_strangers(found)[:1]]
    return [r for r in reasons if r is not None]


def _dosed_strangers(found: Case) -> list[Term]:
    """Return words that nobody said and that no table knows, right beside a dose that has no drug (`10 mg liplid`)."""
    reading = found.claim.reading
    known = {b.quantity.first for b in bound(reading)}
    doses = [q for q in reading.quantities if q.dimension in DOSE_DIMENSIONS and q.first not in known]
    beside = {i for q in doses for i in (q.first - 1, q.last + 1)}
    beside |= {q.last + 2 for q in doses if reading.tokens[q.last + 1 : q.last + 2] and _of(reading, q.last + 1)}
    return [
        t for t in reading.terms
        if t.first in beside and t.kind == "word" and not any(_known(key, found.heard) for key in t.keys)
    ]  # fmt: skip


def _of(reading: Reading, at: int) -> bool:
    return reading.tokens[at].text == "of"


def _known(key: str, heard: Heard) -> bool:
    return key in heard.holding or key in heard.touching or prefix(key) in heard.touching


def _class_said(term: Term, found: Case) -> bool:
    """A word that is a class as well as a drug (`insulin`, `steroid`) is met by the class."""
    groups = {key for key in term.keys if key.startswith("=")}
    name = found.claim.reading.tokens[term.first].text
    return bool(groups) and any("=" + name == g for g in groups) and any(g in found.heard.mentions for g in groups)


def _drug_reason(term: Term, found: Case) -> Reason | None:
    name = text_of(found, term)
    alike = sounds_like(name, found.heard)
    if alike is None:
        return Reason(code="drug_not_said", message=f'"{name}" was not said')
    word, misspelled = alike
    if misspelled:
        return None
    message = f'the note has "{name}", said was "{word}": names that sound or look alike'
    return Reason(code="drug_sound_alike", message=message)


def uncertain_drug(found: Case) -> list[Reason]:
    """A name that a second hearing put in the place of other words is a suggestion, to be listened to."""
    for term, keys in drugs(found.claim.reading):
        for key in sorted(keys & found.doubtful_drugs.keys()):
            message = f'"{text_of(found, term)}" was first heard as "{found.doubtful_drugs[key]}": listen to it'
            return [Reason(code="drug_uncertain", message=message)]
    return []


# --- negation

_OUTVOTED = 0.5
_FACTS = frozenset({"symptom", "condition", "drug", "social", "act", "word", "function", "relative"})
_LEAST_VOTE = 0.75
_MINORITY = 0.34
_ANYWHERE = groups(
    """pain, swelling, weakness, numbness, redness, bleeding, infection, lump, stiffness, discharge, trauma, cramp,
    bruising, fracture, rash, itching, crepitus, instability"""
)  # symptoms that can be in one place and not in another


def wrong_negation(found: Case) -> list[Reason]:
    """What is denied in the note must not have been affirmed, and the other way round."""
    opposed: list[tuple[Term, Polarity]] = []
    agreed = contested = 0.0
    for i, _ in found.claim.terms:
        term, polarity = found.claim.reading.terms[i], found.claim.reading.polarities[i]
        if polarity not in {Polarity.AFFIRMED, Polarity.DENIED} or term.kind not in _FACTS:
            continue
        verdict = _verdict(term, polarity, found)
        if verdict is False:
            opposed.append((term, polarity))
            contested += weight(term)
        elif verdict:
            agreed += weight(term)
    telling = [(t, p) for t, p in opposed if t.clinical]
    if not telling and (contested < _LEAST_VOTE or contested <= _OUTVOTED * (agreed + contested)):
        return _unheard_not(found)
    reasons = [_negation_reason(found, term, polarity) for term, polarity in (telling or opposed)]
    return list({reason.message: reason for reason in reasons}.values())  # every one: all are confirmed with the text


def _unheard_not(found: Case) -> list[Reason]:
    """A `not` or `denies` in the note where nobody denied anything."""
    passages = [found.heard.passages[i] for i in found.alignment.passages]
    said = any(_denied_around(p, found) for p in passages)
    denial = denial_word(found.claim.reading.tokens)
    if not passages or said or denial is None or _asked_or_denied(found):
        return []
    return [Reason(code="negation_mismatch", message=f'the note says "{denial}", but nobody denied it')]


def _asked_or_denied(found: Case) -> bool:
    """Whether something that the statement denies was denied somewhere, or asked about and not affirmed."""
    settled = zip(found.claim.reading.terms, found.claim.reading.polarities, strict=True)
    for term in (t for t, p in settled if t.clinical and p is Polarity.DENIED):
        said = {m.polarity for key in term.keys for m in found.heard.mentions.get(key, ())}
        if Polarity.DENIED in said or (said & {Polarity.ASKED, Polarity.ASKED_NOT} and Polarity.AFFIRMED not in said):
            return True
    return False


_DENIAL_REACH = 7
_SHORT_PASSAGE = 30


def _denied_around(passage: Passage, found: Case) -> bool:
    """Whether anything is denied within reach of the words that a passage shares with the statement."""
    reading = passage.reading
    wanted = {key for i, _ in found.claim.terms for key in found.claim.reading.terms[i].keys}
    shared = [t for t in reading.terms if t.keys & wanted and weight(t) >= _LEAST_SHARED]
    if len(reading.tokens) <= _SHORT_PASSAGE or not shared:
        return denies(reading.tokens) or Polarity.DENIED in reading.polarities
    reached = {i for t in shared for i in range(t.first - _DENIAL_REACH, t.last + _DENIAL_REACH + 1)}
    near = tuple(t for i, t in enumerate(reading.tokens) if i in reached)
    settled = zip(reading.terms, reading.polarities, strict=True)
    return denies(near) or any(p is Polarity.DENIED and t.first in reached for t, p in settled)


_LEAST_SHARED = 0.4


def _verdict(term: Term, polarity: Polarity, found: Case) -> bool | None:
    """Whether what was said of a term agrees (True), contradicts (False) or cannot be told (None)."""
    mentions = [m for key in term.keys for m in found.heard.mentions.get(key, ())]
    known = [m for m in mentions if m.polarity in {Polarity.AFFIRMED, Polarity.DENIED}]
    if term.keys & _ANYWHERE:
        site = _site(term, found)
        if not site:
            return None if {m.polarity for m in known} != {_other(polarity)} else False
        known = [m for m in known if site & _keys_around(found.heard, m.passage)]
    closest = _closest(known, term, found)
    local = closest or [m for m in known if m.passage in found.near] or known
    if not local:
        return None
    if closest:
        return any(m.polarity is polarity for m in closest)
    agreeing = sum(m.polarity is polarity for m in known)
    return any(m.polarity is polarity for m in local) or agreeing >= _MINORITY * len(known)


_LEAST_SHARED_AROUND = 0.8
_TROUBLE = listed("issue issues problem problems trouble concern concerns difficulty difficulties history")


def _closest(known: list[Mention], term: Term, found: Case) -> list[Mention]:
    """Return the mentions that are said with most of what the statement says beside the term, if any are.

    `No chest pain while you were doing exercises?` is what `denies chest pain while doing exercises` is about, however
    often chest pain is affirmed elsewhere.
    """
    wanted = {
        key: weight(t)
        for t in found.claim.reading.terms
        if t is not term and t.kind not in {"stop", "relative"} and not t.keys & term.keys
        for key in t.keys
    }
    troubled = any(t.text in _TROUBLE for t in found.claim.reading.tokens[max(0, term.first - 4) : term.first])
    scored = [(_shared(m, wanted, found.heard, troubled=troubled), m) for m in known]
    best = max((s for s, _ in scored), default=0.0)
    if best < _LEAST_SHARED_AROUND:
        return []
    return [m for s, m in scored if s >= best - 0.2]


def _shared(mention: Mention, wanted: dict[str, float], heard: Heard, *, troubled: bool) -> float:
    """The weight of the other terms of a statement that stand in the sentence of a mention."""
    reading = heard.passages[mention.passage].reading
    term = reading.terms[mention.term]
    first, last = next(((f, e) for f, e in sentences(reading.tokens) if f <= term.first <= e), (0, 0))
    first, last = max(first, term.first - SENTENCE_REACH), min(last, term.last + SENTENCE_REACH)
    here = {key for t in reading.terms if first <= t.first <= last and t is not term for key in t.keys}
    score = sum(w for key, w in wanted.items() if key in here)
    if troubled and any(t.text in _TROUBLE for t in reading.tokens[max(first, term.first - 4) : term.first]):
        score += 1.0
    return score


def _other(polarity: Polarity) -> Polarity:
    return Polarity.DENIED if polarity is Polarity.AFFIRMED else Polarity.AFFIRMED


_SITE_REACH = 6


def _site(term: Term, found: Case) -> frozenset[str]:
    """The parts of the body named near a term of the statement."""
    return frozenset(
        key
        for other in found.claim.reading.terms
        if other.kind == "body" and abs(other.first - term.first) <= _SITE_REACH
        for key in other.keys
    )


def _keys_around(heard: Heard, index: int) -> frozenset[str]:
    before = heard.passages[index - 1].keys if index else frozenset()
    return heard.passages[index].keys | before


def _negation_reason(found: Case, term: Term, polarity: Polarity) -> Reason:
    name = text_of(found, term)
    if polarity is Polarity.DENIED:
        message = f'the note denies "{name}", but it was affirmed'
    else:
        message = f'the note states "{name}", but it was denied'
    return Reason(code="negation_mismatch", message=message)


# --- sides


def wrong_side(found: Case) -> list[Reason]:
    """Left and right must be as they were said of the same part of the body."""
    found_sides = sides(found.claim.reading, spoken=False)
    problems = [message for side in found_sides if (message := _side_problem(side, found)) is not None]
    return [Reason(code="laterality_mismatch", message=message) for message in problems[:1]]


_OUTNUMBERED = 3


def _side_problem(side: Side, found: Case) -> str | None:
    other = "left" if side.side == "right" else "right"
    if (closest := _closest_side(side, found)) is not None:
        return None if closest == side.side else f'the note has "{side.word}", said was "{other}"'
    if _note_disagrees(side, other, found):
        return f'the note has "{side.word}", elsewhere it has "{other}", and both were said'
    for places in (found.alignment.passages, sorted(found.near), range(len(found.heard.passages))):
        said = [s.side for i in places for s in found.said_sides.get(i, ()) if _same_part(side, s, found, i)]
        supporting, opposing = said.count(side.side), said.count(other)
        if opposing and opposing >= _OUTNUMBERED * supporting:
            return f'the note has "{side.word}", said was "{other}"'
        if supporting:
            return None
    return None


_CLEARLY = 0.45
_SIDES = listed("left right l r lt rt")
_NOTED_OFTEN = 2


def _closest_side(side: Side, found: Case) -> str | None:
    """The side of the sentence that says, beside the part of the body, most of what the statement says, if one does."""
    wanted = {
        key: weight(t)
        for t in found.claim.reading.terms
        if t.kind not in {"stop", "frame", "body", "number"} and found.claim.reading.tokens[t.first].text not in _SIDES
        for key in t.keys
        if key not in side.of
    }
    best = {"left": 0.0, "right": 0.0}
    for i, said in found.said_sides.items():
        for s in said:
            if s.side in best and _same_part(side, s, found, i) and side.of & found.heard.passages[i].keys:
                best[s.side] = max(best[s.side], close_to(found.heard.passages[i].reading, s.token, wanted))
    higher = max(best, key=lambda name: best[name])
    return higher if abs(best["left"] - best["right"]) >= _CLEARLY else None


def _note_disagrees(side: Side, other: str, found: Case) -> bool:
    """Whether the other statements give the part of the body to the other side alone, and both sides were said."""
    noted = [s.side for s in found.elsewhere.sides if s.of & side.of]
    if noted.count(other) < _NOTED_OFTEN or side.side in noted:
        return False
    said = {s.side for i, told in found.said_sides.items() for s in told if _same_part(side, s, found, i)}
    return other in said


def _same_part(side: Side, said: Side, found: Case, index: int) -> bool:
    """Whether a side was said of the same part of the body, or of what the passage is about."""
    if said.of and side.of:
        return bool(side.of & said.of)
    return index in found.alignment.passages or bool(side.of & found.heard.passages[index].keys)


# --- subjects

_AROUND = 2


def _around_matter(found: Case) -> frozenset[int]:
    """The passages around those that say what the statement says, not only of whom."""
    terms = (found.claim.reading.terms[i] for i, _ in found.claim.terms)
    matter = {key for t in terms if t.kind not in {"relative", "frame"} for key in t.keys}
    places = [i for i in found.alignment.passages if found.heard.passages[i].keys & matter]
    last = len(found.heard.passages)
    return frozenset(j for i in places for j in range(max(0, i - _AROUND), min(last, i + _AROUND + 1)))


def wrong_subject(found: Case) -> list[Reason]:
    """A relative's condition must not become the patient's, nor the other way round."""
    reading = found.claim.reading
    family = bool(relatives(reading)) or about_family(found.claim.section)
    around = _around_matter(found)
    stranger = unheard_relative(reading, found.heard, around) if around else None
    if stranger is not None:
        message = f'the note says it of "{text_of(found, stranger)}", of whom nobody spoke here'
        return [Reason(code="subject_mismatch", message=message)]
    pairs = zip(reading.terms, reading.polarities, strict=True)
    for term in (t for t, p in pairs if (t.kind == "condition" or t.keys & DEATH) and p is Polarity.AFFIRMED):
        name = text_of(found, term)
        if belongs_to_patient(reading, term) and only_of_relatives(term, found.heard):
            return [Reason(code="subject_mismatch", message=f'"{name}" was said of a relative, not of the patient')]
        if not family and only_of_relatives(term, found.heard):
            return [Reason(code="subject_mismatch", message=f'"{name}" was said of a relative, not of the patient')]
        if opens_with_relative(reading) and never_of_relatives(term, found.heard):
            return [Reason(code="subject_mismatch", message=f'"{name}" was not said of a relative')]
    return []


CHECKS: tuple[Check, ...] = (
    cited_unknown,
    unsupported,
    term_not_said,
    only_asked,
    wrong_numbers,
    wrong_label,
    wrong_dose,
    wrong_follow_up,
    wrong_drugs,
    uncertain_drug,
    uncertain_words,
    allergy_conflict,
    wrong_plan,
    wrong_negation,
    wrong_side,
    wrong_subject,
)
"""All checks, in the order in which their reasons are shown."""


def run(found: Case, checks: Iterable[Check] = CHECKS) -> tuple[Reason, ...]:
    """Run `checks` over one case."""
    return tuple(reason for check in checks for reason in check(found))
