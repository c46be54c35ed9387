"""Safety checks: what would do harm if it were believed (a plan turned round, an allergy passed over, a guess).

Rules kept here:

* Giving and withholding a drug are opposites; where both were said, either may be noted.
* A question is no evidence; a medical term that nobody said is none either.
* How long a treatment lasts is not when to come back.
"""

from __future__ import annotations

import re

from clinic.domain import Reason
from clinic.verification.allergies import related
from clinic.verification.case import Case, text_of
from clinic.verification.doses import bound
from clinic.verification.intents import Intent, Mentioned, mentioned, of_things
from clinic.verification.negation import Polarity, sentences
from clinic.verification.passages import Passage, Reading, prefix
from clinic.verification.units import TIME, Quantity, same
from clinic.verification.vocabulary import Term, groups, weight
from clinic.verification.words import STOP_WORDS, fold, listed, stem

# --- plans


def wrong_plan(found: Case) -> list[Reason]:
    """What was prescribed must not be withheld in the note, and the other way round."""
    for mention in mentioned(found.claim.reading):
        meant = _meant(mention, found)
        if meant not in {Intent.GIVEN, Intent.WITHHELD} or mention.supposed or mention.polarity is Polarity.DENIED:
            continue  # a denial is for the check of negations
        if _contradicted(mention, meant, found):
            name = text_of(found, mention.term)
            if meant is Intent.WITHHELD:
                message = f'the note withholds "{name}", but it was given or taken'
            else:
                message = f'the note gives "{name}", but it was withheld'
            return [Reason(code="plan_mismatch", message=message)]
    return []


def _meant(mention: Mentioned, found: Case) -> Intent | None:
    """What the statement does with a drug; a dose alone gives it."""
    dosed = any(b.keys & mention.keys for b in bound(found.claim.reading))
    if mention.intent is None and not mention.cue and dosed and mention.polarity is Polarity.AFFIRMED:
        return Intent.GIVEN
    return mention.intent


def _contradicted(mention: Mentioned, meant: Intent, found: Case) -> bool:
    said = [(i, m) for i, m in found.said_intents if m.keys & mention.keys]
    known = {m.intent for _, m in said} - {None}
    stated = {m.intent for _, m in said if not m.supposed}
    if meant is Intent.WITHHELD:
        opposed, agreeing = Intent.GIVEN, {Intent.WITHHELD, Intent.ALLERGY}
    else:
        opposed, agreeing = Intent.WITHHELD, {Intent.GIVEN}
        if _goes_on(mention, found) and _stopped_in_the_end(said):
            return True
    if opposed not in stated or known & agreeing:
        return False
    if any(m.intent in agreeing and m.term.keys & mention.term.keys for _, m in found.said_intents):
        return False  # its class (`no anti-inflammatories`)
    around = {j for i, _ in said for j in range(i - 1, i + _THING_REACH)}
    near = [p for p in found.heard.passages if p.index in around]
    return not any(of_things(p.reading, meant) for p in near)


def _goes_on(mention: Mentioned, found: Case) -> bool:
    """Whether a statement says that a drug is taken from now on, not that it was or is taken."""
    return mention.cue in _GOING_ON or fold(found.claim.section).strip().startswith("plan")


def _stopped_in_the_end(said: list[tuple[int, Mentioned]]) -> bool:
    """Whether a drug was given, and what was said of it last is that it is stopped (`takes it`; `stop it`)."""
    stated = [m.intent for _, m in said if m.intent in {Intent.GIVEN, Intent.WITHHELD} and not m.supposed]
    return Intent.GIVEN in stated and stated[-1] is Intent.WITHHELD


_GOING_ON = listed("continue continues continued continuing keep keeps keeping start starts restart resume add")
_THING_REACH = 6


# --- allergies

_PAST = listed("took taken gave given received receives used using uses")
_DRUG_SECTIONS = ("plan", "medication", "meds", "treatment", "prescription", "drug", "rx", "current med")
_ALLERGY_SECTION = "allerg"
_OPENING = 3
_REACTIONS = listed("gave caused causes cause reaction reactions rash hives anaphylaxis")


def allergy_conflict(found: Case) -> list[Reason]:
    """A drug that is given must be none to which, or to whose class, there is an allergy."""
    for mention in mentioned(found.claim.reading):
        name = text_of(found, mention.term)
        if _planned(mention, found):
            allergen = related(mention.keys, found.said_allergies)
            if allergen is not None:
                return [_conflict(name, allergen, "an allergy to {} was stated")]
            allergen = related(mention.keys, found.elsewhere.allergies)
            if allergen is not None:
                return [_conflict(name, allergen, "the note itself states an allergy to {}")]
        elif mention.intent is Intent.ALLERGY and mention.polarity is Polarity.AFFIRMED and _only_given(mention, found):
            message = (
                f'the note states an allergy to "{name}", but no such allergy was stated, and it was given or taken'
            )
            return [Reason(code="allergy_conflict", message=message)]
    return []


def _conflict(name: str, allergen: str, why: str) -> Reason:
    reason = why.format(f'"{allergen.lstrip("+")}"')
    return Reason(code="allergy_conflict", message=f'the note gives "{name}", but {reason}')


def _planned(mention: Mentioned, found: Case) -> bool:
    if mention.polarity in {Polarity.DENIED, Polarity.ASKED, Polarity.ASKED_NOT}:
        return False
    if mention.intent is not None or mention.cue:
        return mention.intent is Intent.GIVEN and not mention.supposed and mention.cue not in _PAST
    if _meant(mention, found) is Intent.GIVEN:
        return True
    under = fold(found.claim.section).strip().startswith(_DRUG_SECTIONS)
    if any(t.text in _REACTIONS for t in found.claim.reading.tokens):
        return False  # `penicillin gave a rash`
    if mention.polarity is not Polarity.AFFIRMED:
        return False
    return (under and mention.term.first < _OPENING) or _stands_alone(found)


def _stands_alone(found: Case) -> bool:
    """Whether the statement is nothing but names of drugs, elsewhere than in a list of allergies: it reads as given."""
    if fold(found.claim.section).strip().startswith(_ALLERGY_SECTION):
        return False
    return all(term.kind in {"drug", "stop"} for term in found.claim.reading.terms)


def _only_given(mention: Mentioned, found: Case) -> bool:
    known = {m.intent for _, m in found.said_intents if m.keys & mention.keys}
    return (
        Intent.GIVEN in known
        and not known & {Intent.WITHHELD, Intent.ALLERGY}
        and related(mention.keys, found.said_allergies) is None
    )


# --- terms that nobody said

_HISTORY = 4


def term_not_said(found: Case) -> list[Reason]:
    """A diagnosis or symptom that heads the statement, and each one that it denies, must have been spoken of."""
    reading = found.claim.reading
    pairs = zip(reading.terms, reading.polarities, strict=True)
    clinical = [(t, p) for t, p in pairs if t.clinical]
    for term, polarity in clinical[:1]:
        if polarity is Polarity.AFFIRMED and not _heard_of(term, found):
            return [Reason(code="term_not_said", message=f'"{text_of(found, term)}" was not said')]
    for term, polarity in clinical:
        if polarity is Polarity.DENIED and found.alignment.passages and not _heard_of(term, found):
            message = f'the note denies "{text_of(found, term)}", of which nobody spoke'
            return [Reason(code="term_not_said", message=message)]
    return []


def _heard_of(term: Term, found: Case) -> bool:
    """Whether a term was said, or at least the word that heads it (`rhinitis` of `allergic rhinitis`).

    What says more than its group must have been said itself: a sore throat is no strep throat, chest pain no angina.
    """
    heard = found.heard
    if term.narrow:
        return any(said.narrow == term.narrow for passage in heard.passages for said in passage.reading.terms)
    if any(key in heard.holding for key in term.keys):
        return True
    words = [t.text for t in found.claim.reading.tokens[term.first : term.last + 1] if t.text not in STOP_WORDS]
    head = stem(words[-1]) if words else ""
    return not head or any(k in heard.holding or k in heard.touching for k in (head, prefix(head)) if k)


# --- questions

_NO_ANSWER = re.compile(
    r"^\W*(?:(?:um+|uh+|well|oh|hmm+)\W+)*(?:let me (?:think|see)|(?:i )?(?:don't|do n't|do not) know|(?:i'm )?not sure"
    r"|(?:hmm+|um+|uh+|why|pardon|sorry|what|okay|ok|thank you|thanks)\W*$)"
)
_YES_OR_NO = listed("do does did have has are is was were can could any ever")
_LEADERS = listed("and so okay ok um uh well now then also but or alright , .")
_MYSELF = listed("i i'm i've my me")
_FACT = 1.9


def only_asked(found: Case) -> list[Reason]:
    """What was only asked about, and never answered, proves nothing."""
    reading = found.claim.reading
    pairs = zip(reading.terms, reading.polarities, strict=True)
    facts = [t for t, p in pairs if p is Polarity.AFFIRMED and (t.clinical or weight(t) > _FACT)]
    asked = [t for t in facts if _never_answered(t, found)]
    if not asked or len(asked) < len(facts):
        return []
    return [Reason(code="only_asked", message=f'"{text_of(found, asked[0])}" was only asked about')]


def _never_answered(term: Term, found: Case) -> bool:
    mentions = [m for key in term.keys for m in found.heard.mentions.get(key, ())]
    return bool(mentions) and all(
        m.polarity is Polarity.ASKED and not _tells(found.heard.passages, m.passage, m.term) for m in mentions
    )


def _tells(passages: tuple[Passage, ...], index: int, term: int) -> bool:
    """Whether a question says something all the same: it presupposes it, or something follows that could answer it."""
    reading = passages[index].reading
    spans = sentences(reading.tokens)
    first, last = next((f, e) for f, e in spans if f <= reading.terms[term].first <= e)
    words = [t.text for t in reading.tokens[first : last + 1]]
    while words and words[0] in _LEADERS:
        words.pop(0)
    if words[:1] and (words[0] not in _YES_OR_NO or _MYSELF & set(words)):
        return True
    if last < spans[-1][1] or index + 1 >= len(passages):
        return last < spans[-1][1]
    text = fold(passages[index + 1].reading.text).strip()
    return not text.endswith("?") and not _NO_ANSWER.match(text)


# --- follow-up

_FOLLOW_UP = groups("follow up")
_RETURN = listed("review reviewed return returns appointment recheck reassess revisit")
_WHEN = listed("in after within")
_LASTING = listed("for every past last next another")


def wrong_follow_up(found: Case) -> list[Reason]:
    """When to come back must have been said as such: the length of a treatment is no follow-up."""
    reading = found.claim.reading
    for quantity in reading.quantities:
        if quantity.dimension != TIME or not _is_return(reading, quantity):
            continue
        places = [(p.reading, s) for p in found.heard.passages for s in p.reading.quantities if same(quantity, s)]
        if places and all(_is_length(r, s) for r, s in places):
            text = found.claim.text[quantity.start : quantity.end]
            return [Reason(code="follow_up_not_said", message=f'"{text}" was said, but not as when to come back')]
    return []


def _is_return(reading: Reading, quantity: Quantity) -> bool:
    first, last = next((f, e) for f, e in sentences(reading.tokens) if f <= quantity.first <= e)
    if not any(t.text in _WHEN for t in reading.tokens[max(first, quantity.first - 2) : quantity.first]):
        return False
    here = [t for t in reading.terms if first <= t.first <= last]
    return any(t.keys & _FOLLOW_UP or reading.tokens[t.first].text in _RETURN for t in here)


def _is_length(reading: Reading, quantity: Quantity) -> bool:
    """Whether a stretch of time says how long something lasts or lasted (`for seven days`, `four days ago`)."""
    before = [t.text for t in reading.tokens[max(0, quantity.first - 3) : quantity.first]]
    after = [t.text for t in reading.tokens[quantity.last + 1 : quantity.last + 2]]
    return quantity.dimension != TIME or "for" in before or bool({"past", "last"} & set(before)) or after == ["ago"]
