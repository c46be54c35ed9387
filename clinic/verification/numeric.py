"""Numeric checks: numbers, and the doses of drugs.

Rules kept here:

* Every number must have been said, near what supports the statement, with its unit.
* A number of a name (`type 2`) must have been said with that name.
* A dose, a frequency or a duration must have been said of the drug that the note gives it to.
"""

from __future__ import annotations

from clinic.domain import Reason
from clinic.verification.align import SHORT_REPLY
from clinic.verification.case import Case, close_to
from clinic.verification.doses import Bound, bound
from clinic.verification.drugs import drugs
from clinic.verification.numbers import Number, numbers
from clinic.verification.passages import Heard, Passage, Reading
from clinic.verification.units import DATE, DOSE_DIMENSIONS, RATE, RATIO, TIME, TIMES, Quantity, same
from clinic.verification.vocabulary import weight
from clinic.verification.words import listed


def wrong_numbers(found: Case) -> list[Reason]:
    """Every number must have been said, near what supports the statement, with its unit."""
    return [reason for q in found.claim.quantities if (reason := number_reason(q, found)) is not None]


def number_reason(quantity: Quantity, found: Case) -> Reason | None:
    """What is wrong with one number, if anything."""
    if _needs_no_proof(quantity):
        return None
    places = [p for p in found.heard.passages if any(same(quantity, s) for s in p.reading.quantities)]
    if not places and _said_in_parts(quantity, found.heard):
        return None
    bound = _bound_to(quantity, found)
    near = found.near if bound is None else bound
    if any(p.index in near for p in places):
        return _unit_reason(quantity, found, near) or _elsewhere_reason(quantity, found)
    places = [p for p in places if any(_tells(quantity, s, p) for s in p.reading.quantities)]
    text = found.claim.text[quantity.start : quantity.end]
    rival = _rival(quantity, found, near)
    if places and bound is None and (rival is None or quantity.dimension in {DATE, RATIO}):
        return None
    if rival is not None:
        return Reason(code="number_mismatch", message=f'the note has {quantity.name} "{text}", said was "{rival}"')
    return Reason(code="number_not_said", message=f'the {quantity.name} "{text}" was not said')


_FARTHER = 1.0
_NEVER_BARE = frozenset({TIME, RATE, DATE})


def _elsewhere_reason(quantity: Quantity, found: Case) -> Reason | None:
    """The number was said of something else, and another one was said of what the statement is about."""
    after = found.claim.reading.tokens[quantity.last + 1 : quantity.last + 3]
    if quantity.dimension in _BOUND_OTHERWISE or any(t.text in _AGE for t in after):
        return None
    wanted = {
        key: weight(t)
        for t in found.claim.reading.terms
        if t.kind not in {"stop", "frame", "number"} and t.first not in found.claim.reading.counted
        for key in t.keys
    }
    mine, rival, text = 0.0, 0.0, ""
    for passage in found.heard.passages:
        for said in passage.reading.quantities:
            score = close_to(passage.reading, said.first, wanted)
            if same(quantity, said):
                mine = max(mine, score if _counts(quantity, said, passage, found.heard) else 0.0)
            elif score > rival and _competes(quantity, said, found):
                rival, text = score, passage.reading.text[said.start : said.end]
    if rival < mine + _FARTHER:
        return None
    noted = found.claim.text[quantity.start : quantity.end]
    return Reason(code="number_mismatch", message=f'the note has {quantity.name} "{noted}", said was "{text}"')


_BOUND_OTHERWISE = DOSE_DIMENSIONS | {RATE, DATE, RATIO, TIMES}
_AGE = listed("old o")
_FAR_APART = 12
_HOW_MUCH = listed("how when long old many much often")


def _counts(quantity: Quantity, said: Quantity, passage: Passage, heard: Heard) -> bool:
    """Whether a number was said as what the note makes of it, and not as a part or with another meaning."""
    if quantity.dimension is None:
        return said.dimension not in {TIME, RATE, DATE, RATIO}
    if said.dimension is not None:
        return True
    asked = heard.passages[passage.index - 1].reading.tokens if passage.index else ()
    return len(passage.reading.tokens) <= SHORT_REPLY and any(t.text in _HOW_MUCH for t in asked)


_LABELS = listed("type grade stage class covid")


def wrong_label(found: Case) -> list[Reason]:
    """A number that belongs to a name (`type 2`, `stage 3`, `COVID-19`) must be the one that was said with the name."""
    said: dict[str, set[float]] = {}
    for passage in found.heard.passages:
        for label, number in _labelled(passage.reading):
            said.setdefault(label, set()).update(number.readings)
    for label, number in _labelled(found.claim.reading):
        if label in said and not number.readings & said[label]:
            tokens = found.claim.reading.tokens
            noted = found.claim.text[tokens[number.first].start : tokens[number.last].end]
            message = f'the note has "{label} {noted}", said was "{label} {min(said[label]):g}"'
            return [Reason(code="number_mismatch", message=message)]
    return []


def _labelled(reading: Reading) -> list[tuple[str, Number]]:
    """Return the numbers that stand right behind the word of a label."""
    found = []
    for number in numbers(reading.tokens):
        at = number.first - 1
        at -= at > 0 and reading.tokens[at].text == "-"
        if at >= 0 and reading.tokens[at].text in _LABELS:
            found.append((reading.tokens[at].text, number))
    return found


def _competes(quantity: Quantity, said: Quantity, found: Case) -> bool:
    """Whether what was said could be what the note should have: of the same kind, and not noted beside it."""
    if said.dimension != quantity.dimension or said.ordinal or said.vague:
        return False
    noted, other = max(quantity.values), max(said.values)
    alike = noted and other and 1 / _FAR_APART <= other / noted <= _FAR_APART  # `5 minutes` is no slip for `5 days`
    return bool(alike) and not any(same(q, said) for q in found.claim.quantities)


_CONVERTED = ({"mass", "volume"}, {"mass", "pound"})


def _unit_reason(quantity: Quantity, found: Case, near: frozenset[int]) -> Reason | None:
    """The same number was said with another unit (`3 weeks`, noted as `3 months`), and never with this one."""
    said = [(s, p) for p in found.heard.passages if p.index in near for s in p.reading.quantities]
    if quantity.dimension is None or any(s.dimension == quantity.dimension and same(quantity, s) for s, _ in said):
        return None
    for other, passage in said:
        comparable = other.dimension == quantity.dimension or {other.dimension, quantity.dimension} in _CONVERTED
        claimed = any(q.dimension == other.dimension and same(q, other) for q in found.claim.quantities)
        if comparable and other.raw & quantity.raw and not claimed and not other.vague:
            rival = passage.reading.text[other.start : other.end]
            noted = found.claim.text[quantity.start : quantity.end]
            message = f'the note has {quantity.name} "{noted}", said was "{rival}"'
            return Reason(code="number_mismatch", message=message)
    return None


def _tells(quantity: Quantity, said: Quantity, passage: Passage) -> bool:
    """Far from the evidence a bare number proves nothing about one with a unit, unless it is all that was answered."""
    if not same(quantity, said):
        return False
    answered = len(passage.reading.tokens) <= SHORT_REPLY and min(quantity.raw) > _SMALL
    return quantity.dimension is None or said.dimension == quantity.dimension or answered


def _needs_no_proof(quantity: Quantity) -> bool:
    if quantity.vague or (quantity.ordinal and quantity.spelled):
        return True
    return quantity.dimension in {None, TIMES} and quantity.spelled and quantity.values <= {0.0, 1.0}


def _said_in_parts(quantity: Quantity, heard: Heard) -> bool:
    """A date or a ratio whose numbers were said apart (`one forty` ... `ninety`), in neighbouring passages."""
    if quantity.dimension not in {DATE, RATIO}:
        return False
    wanted = [v for v in quantity.raw if v] if quantity.dimension == DATE else list(quantity.pair)
    for i in range(len(heard.passages)):
        window = heard.passages[i : i + 2]
        said = [s.raw for p in window for s in p.reading.quantities if s.dimension != quantity.dimension]
        if wanted and all(any(v in raw for raw in said) for v in wanted):
            return quantity.dimension == RATIO or _months_agree(quantity, window)
    return False


def _months_agree(quantity: Quantity, window: tuple[Passage, ...]) -> bool:
    months = {s.pair[0] for p in window for s in p.reading.quantities if s.dimension == DATE}
    return not months or quantity.pair[0] in months


_DOSE_REACH = 6


def _bound_to(quantity: Quantity, found: Case) -> frozenset[int] | None:
    """For a dose: the passages around the places where its drug was named.  None if it is bound to no drug said."""
    if quantity.dimension not in DOSE_DIMENSIONS:
        return None
    before = [k for t, k in drugs(found.claim.reading) if 0 < quantity.first - t.last <= _DOSE_REACH]
    places = {i for key in (before[-1] if before else ()) for i in found.said_drugs.get(key, ())}
    if not places:
        return None
    return frozenset(j for i in places for j in range(i - 1, i + 4))


_SMALL = 12  # small bare numbers are all over speech


def _rival(quantity: Quantity, found: Case, near: frozenset[int]) -> str | None:
    """Another quantity of the same dimension said where this one should have been."""
    for i in (*found.alignment.passages, *sorted(near)):
        if not 0 <= i < len(found.heard.passages) or i not in near:
            continue
        passage = found.heard.passages[i]
        for said in passage.reading.quantities:
            alike = said.dimension == quantity.dimension
            claimed = any(same(q, said) for q in found.claim.quantities)
            if alike and not claimed and not said.ordinal and (said.dimension or min(said.values) > _SMALL):
                return passage.reading.text[said.start : said.end]
    return None


# --- doses

_CONTINUED = 3
"""Passages after the name of a drug that may go on speaking of it."""


def wrong_dose(found: Case) -> list[Reason]:
    """Every dose, frequency and duration must have been said of the drug that the note gives it to."""
    reasons = (_dose_reason(b, found) for b in bound(found.claim.reading))
    return [r for r in reasons if r is not None][:1]


def _dose_reason(noted: Bound, found: Case) -> Reason | None:
    quantity, places = noted.quantity, {i for key in noted.keys for i in found.said_drugs.get(key, ())}
    if not places or number_reason(quantity, found) is not None:
        return None  # another check says so
    said = [(b.keys & noted.keys, b) for _, b in found.said_doses]
    if any(mine and same(quantity, b.quantity) for mine, b in said) or _goes_on(quantity, places, found):
        return None
    text, name = found.claim.text[quantity.start : quantity.end], noted.name
    other = next((b for mine, b in said if not mine and same(quantity, b.quantity)), None)
    if other is not None:
        message = f'the note has "{text}" for "{name}", it was said of "{other.name}"'
        return Reason(code="dose_mismatch", message=message)
    rival = next((b for mine, b in said if mine and b.quantity.dimension == quantity.dimension), None)
    if rival is None:
        return None
    message = f'the note has "{text}" for "{name}", said was "{rival.text}"'
    return Reason(code="dose_mismatch", message=message)


def _goes_on(quantity: Quantity, places: set[int], found: Case) -> bool:
    """Whether the quantity was said, of no other drug, where the talk was still of this one."""
    owned = {(i, b.quantity.first) for i, b in found.said_doses}
    named = {i for said in found.said_drugs.values() for i in said}
    for i in places:
        for j in (i, i - 1, *range(i + 1, i + 1 + _CONTINUED)):
            if j > i and j in named - places:
                break
            if not 0 <= j < len(found.heard.passages):
                continue
            free = (s for s in found.heard.passages[j].reading.quantities if (j, s.first) not in owned)
            if any(same(quantity, s) for s in free):
                return True
    return False
