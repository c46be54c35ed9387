"""Red flags: words of self-harm, of harm by others, and of emergencies, for the clinician's eye.  Never suppressed.

Rules kept here:

* A pure function from segments to flags with segment and characters; no policy, profile or setting turns one off.
* A flag says how it was spoken of: `stated`, only `asked`, or `denied`.  Nothing asked or denied is dropped here; who
  shows flags shows all of self-harm and abuse, and of the rest what was stated (`shown`).
* It finds words, not danger: absence of a flag means nothing, and nothing is decided by one.

Where the kinds come from (the wording is ours): the questions of the Columbia suicide severity screener; the emergency
lists of the NHS ("When to call 999") and the guidelines of NICE on stroke, sepsis, meningitis, anaphylaxis, chest pain,
headache, cauda equina syndrome, ectopic pregnancy and abuse.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from clinic.domain import Transcript
from clinic.policy.detectors.prefilter import Folded, Sieve, alternatives

Standing = Literal["stated", "asked", "denied"]

ALWAYS = frozenset({"self_harm", "harm_to_others", "abuse"})
"""Kinds of which even a denial is shown: that it was spoken of is what a clinician documents."""


@dataclass(frozen=True, slots=True)
class RedFlag:
    """Characters `start` to `end` of the text of segment `segment` speak of `kind`.  The text itself is not kept."""

    kind: str
    segment: str
    start: int
    end: int
    standing: Standing

    @property
    def shown(self) -> bool:
        """Whether a clinician is to see it."""
        return self.standing == "stated" or self.kind in ALWAYS


@dataclass(frozen=True, slots=True)
class Said:
    """One segment: who said what."""

    id: str
    text: str
    clinician: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """Characters `start` to `end` of all segments' text, one segment a line."""

    text: str
    start: int
    end: int


_MY = r"(?:my|his|her|their|the) (?:own )?"


def _words(kind: str, pattern: str) -> tuple[str, tuple[Sieve, ...]]:
    return kind, tuple(Sieve.of(rf"(?i)\b(?:{one})\b") for one in alternatives(pattern))


_WORDS = (
    _words(
        "self_harm",
        r"kill(?:ing)? (?:my|him|her|your|them)sel(?:f|ves)|suicid(?:e|al)|end(?:ing)? (?:my|his|her|your|their|it) "
        r"(?:own )?(?:life|all)|tak(?:e|ing) (?:my|his|her|your|their) own life|self[- ]?harm\w{0,4}|"
        r"(?:hurt|harm|cut)(?:ting|ing)? (?:my|him|her|your|them)sel(?:f|ves)|(?:better off|wish (?:i|he|"
        r"she) (?:was|were)) dead|"
        r"(?:want(?:ed|s)?|wish(?:ed)?) to die|(?:don't|do not|didn't|doesn't) want to (?:live|be here|"
        r"be alive|wake up)|"
        r"no (?:reason|point) (?:to|in) (?:live|living|going on)|not worth living|took an overdose|overdosed",
    ),
    _words(
        "harm_to_others",
        r"(?:kill|hurt|harm|stab|shoot)(?:ing)? (?:someone|somebody|people|others|him|her|them|my (?:wife|husband|boss|"
        r"mother|father|child|children|kids?|baby|son|daughter))\b(?!sel)|homicidal",
    ),
    _words(
        "abuse",
        r"(?:hits|beats|beat|hit|chokes|choked|strangled|punches|punched|kicks|kicked|slaps|slapped|threatens|"
        r"threatened) me|"
        r"(?:hits|beats) (?:her|him|the (?:child|kids?))|(?:afraid|scared) (?:of|to go) (?:my (?:husband|wife|"
        r"partner|boyfriend|"
        r"girlfriend|father|mother|dad|mum|mom|carer)|home)|(?:sexually|physically) (?:abused|assaulted)|"
        r"raped|domestic violence|"
        r"(?:forces|forced) me to",
    ),
    _words(
        "chest_pain",
        r"(?:crushing|squeezing|heavy|tight|pressing|severe|sharp) (?:\w{1,12} ){0,2}(?:chest|breast ?bone)|"
        rf"(?:pain|pressure|tightness|heaviness|weight|ache) (?:in|on|across|over) {_MY}chest|chest (?:pains?|"
        rf"pressure|tightness)|"
        r"elephant (?:\w{1,10} ){0,3}chest",
    ),
    _words(
        "breathing",
        r"(?:can't|cannot|could not|couldn't) (?:breathe|catch (?:my|his|her) breath)|(?:gasping|"
        r"fighting) for (?:air|breath)|"
        r"(?:lips|face) (?:are|is|went|turned|turning|going) blue|chok(?:ing|ed) on|stopped breathing|"
        r"(?:too breathless|too short of breath) to (?:speak|talk)",
    ),
    _words(
        "stroke",
        r"(?:face|mouth|smile)(?: is| was| has|'s)? (?:been )?(?:droop\w{0,3}|dropp\w{1,3})|facial droop|"
        r"slurred|slurring|"
        r"slurred speech|(?:can't|cannot|couldn't) (?:speak|talk|find (?:my|the) words|move (?:my|his|her|"
        r"one) (?:\w{1,10} )?"
        r"(?:arm|leg|side|hand))|"
        r"(?:weak|weakness|numb|numbness|paraly[sz]ed) (?:\w{1,10} ){0,3}(?:on|down|in|of) (?:one|the|my|his|her) "
        r"(?:(?:left|right) |whole )?side|(?:suddenly|sudden) (?:\w{1,12} ){0,2}(?:blind|loss of (?:vision|"
        r"sight)|lost (?:my|his|her) "
        r"(?:vision|sight))",
    ),
    _words(
        "anaphylaxis",
        r"anaphyla\w{1,6}|(?:throat|tongue|lips?|face) (?:\w{1,10} ){0,3}(?:swell\w{0,4}|swollen|closing|closed)|"
        r"swelling of (?:\w{1,8} )?(?:throat|tongue|lips|face)|(?:used|needed) (?:\w{1,8} )?epi ?pen",
    ),
    _words(
        "meningitis",
        r"(?:stiff neck|neck (?:is|was|feels) (?:\w{1,8} )?stiff)|rash (?:\w{1,10} ){0,4}(?:doesn't|does not|"
        r"didn't|not) "
        r"(?:fade|go away|disappear|blanch)|non-?blanching|purple (?:spots|rash)|photophobia",
    ),
    _words(
        "headache",
        r"(?:worst|thunderclap) (?:\w{1,10} ){0,2}headache|worst pain (?:\w{1,10} ){0,4}head|"
        r"headache (?:\w{1,10} ){0,4}(?:out of nowhere|like a (?:bang|clap|blow))|"
        r"sudden(?:ly)? (?:\w{1,10} ){0,2}severe headache",
    ),
    _words(
        "bleeding",
        r"(?:vomit\w{0,3}|throw\w{0,3} up|threw up|cough\w{0,3}(?: up)?|spit\w{0,4}(?: up)?) (?:\w{1,10} ){0,3}blood|"
        r"coffee[- ]grounds?|blood (?:in|when) (?:my|his|her|the|your) (?:vomit|sputum|phlegm)|(?:black|"
        r"tarry) (?:\w{1,8} ){0,2}stools?|"
        r"(?:bleeding|blood) (?:\w{1,10} ){0,3}(?:won't|will not|wouldn't|doesn't|not) stop\w{0,4}|"
        r"soak\w{0,3} (?:through )?(?:a|one|two) "
        r"pads?",
    ),
    _words(
        "consciousness",
        r"(?:passed|passing|blacked|blacking|black|pass) out|lost consciousness|fainted|unconscious|"
        r"unresponsive|collapsed|"
        r"(?:had|having|has) (?:a |an )?(?:fit|seizure|convulsion)s?|(?:can't|cannot|"
        r"couldn't) (?:\w{1,8} )?wake (?:him|her|them)",
    ),
    _words(
        "cauda_equina",
        r"(?:numb|numbness|no feeling|tingling) (?:\w{1,10} ){0,4}(?:groin|saddle|between (?:my|his|her|the|"
        r"your) legs|genitals|bottom|"
        r"private parts)|saddle an(?:a)?esthesia|(?:lost|losing|no|loss of) control (?:of|over) (?:my |his |"
        r"her |your )?(?:bladder|bowels?)|"
        r"(?:can't|cannot|couldn't) (?:pass|hold) (?:my |his |her )?(?:urine|water|pee)",
    ),
    _words(
        "sepsis",
        r"sepsis|septic|(?:fever|temperature) (?:\w{1,10} ){0,6}(?:confus\w{1,4}|shak\w{1,3}|shiver\w{1,4}|rigors?)|"
        r"(?:skin|hands|feet) (?:\w{1,8} ){0,2}mottled|(?:hasn't|not) (?:passed|had) (?:any )?(?:urine|water|"
        r"a wet nappy)"
        r"(?: \w{1,8}){0,3} (?:hours|day)",
    ),
    _words(
        "pregnancy",
        r"pregnan\w{1,3}\b.{0,60}\b(?:bleeding|severe (?:pain|headache)|(?:not|stopped|isn't|less) (?:moving|kicking)|"
        r"shoulder(?:[- ]tip)? pain)|baby (?:\w{1,8} ){0,2}(?:not|stopped|isn't|hasn't|"
        r"less) (?:\w{1,8} )?(?:moving|moved|kick\w{0,3})|"
        r"waters? (?:broke|have broken)",
    ),
    _words(
        "sight",
        r"(?:lost|losing) (?:my|his|her|the) (?:vision|sight)|(?:curtain|shadow) (?:\w{1,10} ){0,3}(?:eye|vision)|"
        r"(?:can't|cannot|couldn't) see (?:out of|from|with) (?:my|his|her|one)",
    ),
)
KINDS = tuple(kind for kind, _ in _WORDS)
_CLINICIANS = frozenset({"clinician", "doctor", "dr", "nurse", "physician", "gp", "provider"})
_DENIES = re.compile(
    r"\b(?:no|not|never|nor|neither|none|denie[sd]|deny|denying|without|haven't|hasn't|hadn't|don't|"
    r"doesn't|didn't|isn't|wasn't|"
    r"aren't|negative for|(?:\w{1,8} )?n't)\b(?!\s(?:only|just|sure))",
    re.IGNORECASE,
)
_BREAKS = re.compile(r"\b(?:but|except|although|though|because|until)\b|[;:]", re.IGNORECASE)
_ASKS = re.compile(
    r"(?:^|[,.]\s?)\W*(?:and|so|or|okay|ok|now|um|uh)?,?\s?(?:do|does|did|have|has|had|are|is|was|were|"
    r"any|ever|can|could|would|"
    r"what|when|how|where|who)\b",
    re.IGNORECASE,
)
_SUPPOSES = re.compile(
    r"\b(?:if|in case|should you|unless|watch (?:out )?for|look out for|risk of|history of|such as|"
    r"worried about|called|you (?:would|might|could|may) (?:get|have)|information (?:about|on))\b",
    re.IGNORECASE,
)
_YES = re.compile(
    r"\W*(?:yes|yeah|yep|yup|mm-?hmm|uh-?huh|i do|i have|i did|it does|sometimes|a (?:bit|little)|definitely)\b",
    re.IGNORECASE,
)
_NO = re.compile(r"\W*(?:no|nope|nah|never|not|none|i don't|i haven't|i didn't)\b", re.IGNORECASE)


def find_red_flags(segments: Iterable[Said]) -> tuple[RedFlag, ...]:
    """Find every red flag, in the order in which it was said."""
    said = list(segments)
    text = "\n".join(segment.text.replace("\n", " ") for segment in said).replace("\u2019", "'")
    starts = list(accumulate((len(segment.text) + 1 for segment in said), initial=0))
    flags: list[RedFlag] = []
    ends: dict[str, int] = {}
    found = _matches(text.replace("\n", " "))  # a pause in the middle of the words hides nothing
    for start, end, kind in sorted(found, key=lambda one: (one[0], -one[1], one[2])):
        if start < ends.get(kind, 0):
            continue
        ends[kind] = end
        index = bisect_right(starts, start) - 1
        standing = _standing(said, index, _Place(text, start, end))
        last = min(end - starts[index], len(said[index].text))  # words that run on into the next segment
        flags.append(RedFlag(kind, said[index].id, start - starts[index], last, standing))
    return tuple(flags)


def transcript_red_flags(transcript: Transcript) -> tuple[RedFlag, ...]:
    """Find every red flag of a transcript.

    INVARIANT: that a question is the clinician's counts only where somebody typed so.  A voice's name is the machine's
    guess, and a guess must not turn what a patient said into what was only asked.
    """
    return find_red_flags(
        Said(segment.id, segment.text, clinician=segment.start is None and _is_clinician(segment.speaker))
        for segment in transcript.segments
    )


def _is_clinician(speaker: str | None) -> bool:
    return (speaker or "").strip().casefold() in _CLINICIANS


def _matches(text: str) -> Iterator[tuple[int, int, str]]:
    folded = Folded(text)
    for kind, sieves in _WORDS:
        for sieve in sieves:
            yield from ((match.start(), match.end(), kind) for match in sieve.finditer(text, folded))


def _standing(said: list[Said], index: int, place: _Place) -> Standing:
    sentence, before = _sentence(place)
    if _BREAKS.search(before):
        before = _BREAKS.split(before)[-1]
    if _SUPPOSES.search(before):
        return "asked"
    if sentence.endswith("?") or (said[index].clinician and _ASKS.search(sentence)):
        return _answered(said, index, place)
    return "denied" if _DENIES.search(before) else "stated"


def _sentence(place: _Place) -> tuple[str, str]:
    """Return the sentence around a place, and what stands in it before the place."""
    text = place.text
    start = max((text.rfind(mark, 0, place.start) for mark in ".?!\n"), default=-1) + 1
    ends = [found for mark in ".?!\n" if (found := text.find(mark, place.end)) >= 0]
    end = min(ends, default=len(text) - 1) + 1
    start, end = max(start, place.start - 300), min(end, place.end + 300)
    return text[start:end].strip(), text[start : place.start]


def _answered(said: list[Said], index: int, place: _Place) -> Standing:
    """Judge a question by the words that follow it: the rest of the segment, or the next one."""
    line_end = place.text.find("\n", place.end)
    rest = place.text[place.end : line_end if line_end >= 0 else None].partition("?")[2].strip()
    answer = rest or (said[index + 1].text if index + 1 < len(said) else "")
    if _NO.match(answer):
        return "denied"
    return "stated" if _YES.match(answer) else "asked"
