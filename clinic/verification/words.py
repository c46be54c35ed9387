"""Words: text cut into tokens with their places, and the stem that makes two forms of a word equal.

Rules kept here:

* Total and deterministic: any string gives tokens, never an error.
* Offsets point into the very text that was given, so that a match can be traced back to what was said.
* Stemming is light: it joins forms of one word (`coughing`, `coughs`) and never joins opposites.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache


class Kind(StrEnum):
    """What a token is."""

    WORD = "word"
    NUMBER = "number"
    MARK = "mark"


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its lower-case text, and where it stands in the source."""

    text: str
    start: int
    end: int
    kind: Kind


# `n't` split off ("do n't", as some corpora write it), names like `b12` and `a1c`, dotted abbreviations (`b.i.d.`),
# numbers, words with an apostrophe, single marks.
_TOKEN = re.compile(
    r"n't\b"
    r"|(?:[a-z]\.){2,}[a-z]?"
    r"|(?!x\d)(?!q\d)[a-z]{1,5}\d{1,3}(?:[a-z]{1,2})?(?![a-z0-9])"
    r"|\d{1,3}(?:,\d{3})+(?!\d)"
    r"|\d+(?:\.\d+)?|(?<![^\W\d_])\.\d+"
    r"|[^\W\d_]+(?:'[^\W\d_]+)*"
    r"|[^\w\s]"
)
_NUMBER = re.compile(r"\.?\d")

_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "\u2013": "-", "\u2014": "-", "\u2212": "-"})


def fold(text: str) -> str:
    """Return `text` in lower case with plain apostrophes and dashes, every character in its old place."""
    lowered = text.lower()
    if len(lowered) != len(text):  # a few letters grow in lower case; offsets must not move
        lowered = "".join(c if len(c.lower()) != 1 else c.lower() for c in text)
    return lowered.translate(_APOSTROPHES)


def tokenize(text: str) -> tuple[Token, ...]:
    """Cut `text` into words, numbers and marks; letters that were spelled out (`M R I`) are one word."""
    spelled = {m.start(): m.end() for m in _SPELLED.finditer(text) if _is_spelled(m.group())}
    tokens: list[Token] = []
    until = 0
    for match in _TOKEN.finditer(fold(text)):
        if match.start() in spelled:
            until = spelled[match.start()]
            tokens.append(Token(text[match.start() : until].replace(" ", "").lower(), match.start(), until, Kind.WORD))
        elif match.start() >= until:
            tokens.append(_token(match))
    return tuple(tokens)


_SPELLED = re.compile(r"(?<![\w'.-])[A-Z](?: [A-Z]){1,5}(?![\w'-])")
_MEANT_ALONE = frozenset("IA")
_SURELY_SPELLED = 3


def _is_spelled(letters: str) -> bool:
    """Whether capital letters with spaces are an abbreviation: two of them could be `I` or `A` beside another."""
    apart = letters.split(" ")
    return len(apart) >= _SURELY_SPELLED or not _MEANT_ALONE & set(apart)


def _token(match: re.Match[str]) -> Token:
    found = match.group()
    if _NUMBER.match(found):
        return Token(found.replace(",", ""), match.start(), match.end(), Kind.NUMBER)
    kind = Kind.WORD if found[0].isalpha() else Kind.MARK
    if kind is Kind.WORD and "." in found:
        found = found.replace(".", "")
    return Token(found, match.start(), match.end(), kind)


def listed(words: str) -> frozenset[str]:
    """Return the words of a text as a set: how the word lists of this package are written."""
    return frozenset(words.split())


STOP_WORDS = listed(
    """a about above after again ago all alright also am an and any anything are aren't around as at away back be
    because been before being below between both but by came can can't cannot come could couldn't currently d did
    didn't do does doesn't doing don't down during each either else enough even ever every everything few for from
    further gave get gets getting give given go goes going gone gonna gosh got gotta great had hadn't has hasn't
    have haven't having he he'd he'll he's her here here's hers herself hey hi him himself his how however i i'd
    i'll i'm i've if in into is isn't it it's its itself just kind kinda know let let's like little ll look lot made
    make maybe me mean might mm mmhmm more most much must my myself n n't na nah need no nil none nope nor not now
    of off oh ok okay on once only or other our ours out over own per please pretty probably put quite re real
    really right s said same say says see seem seems sent she she'd she'll she's should shouldn't since so some
    something sort still stuff such sure t take takes taken taking talk tell than thank thanks that that's the their
    theirs them themselves then there there's therefore these they they'd they'll they're they've thing things think
    this those though through time times to together too took toward uh uh-huh um under until up upon us used ve
    very via want wants was wasn't way we we'd we'll we're we've well went were weren't what what's whatever when
    where whether which while who whom whose why will with within without won't would wouldn't y yeah yep yes yet
    you you'd you'll you're you've your yours yourself"""
)
"""Words that carry no fact of their own."""

BOILERPLATE = listed(
    """accompanied additional additionally admit appear appropriate approximately associate associated aware baseline
    complain complaint concern consistent current deny describe describes described discuss discussed document
    endorse evaluate evaluation evidence examination exam female feel feeling felt find finding follow following
    gentleman history include including indicate individual lady male man mention mentioned multiple noted note
    notable notice noticed obvious occasion occur otherwise overall past patient patient's patients person
    prescribed present presents presenting presented previous previously prior provide provider recall recent
    recently recommend recommended regard regarding remain remarkable report reports reported result review reviewed
    secondary show shows shown significant significantly state stated states status suggest today unremarkable visit
    woman year-old young normal within limits inspection relevant doctor dr mr mrs ms miss sir maam physician
    clinician onset symptom symptoms plan able unable issue issues problem problems mmhg reasoning treatment medical
    pt pts sx hx pmhx fhx dhx shx mx inb otc assoc prev generally
    known apparently basically essentially noncontributory type component usage use used gentleman presents nature
    ng dl iu mmol meq"""
)
"""Words that notes are framed with: they count little for or against a statement."""

_SUFFIXES = (
    ("ational", ""), ("ations", ""), ("ation", ""), ("ically", ""), ("ities", ""), ("iness", "y"), ("ness", ""),
    ("ments", ""), ("ment", ""), ("ative", ""), ("ating", ""), ("ated", ""), ("ates", ""), ("ate", ""), ("ions", ""),
    ("ion", ""), ("ical", ""), ("ies", "y"), ("ied", "y"), ("ings", ""), ("ing", ""), ("edly", ""), ("ed", ""),
    ("ally", ""), ("ity", ""), ("ous", ""), ("ive", ""), ("ic", ""), ("al", ""), ("ly", ""), ("es", ""), ("s", ""),
    ("e", ""), ("y", ""),
)  # fmt: skip
_MIN_STEM = 4
_SHORT_WORD = 3


@lru_cache(maxsize=32768)
def stem(word: str) -> str:
    """Return the stem of one lower-case word (`coughing` and `coughs` give `cough`)."""
    word = word.removesuffix("'s").removesuffix("'").removesuffix("n't")
    if len(word) <= _SHORT_WORD or not word.isalpha():
        return word
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-2] if word.endswith(("sses", "shes", "ches", "xes")) else word[:-1]
        if word.endswith("ie") and len(word) > _SHORT_WORD + 1:
            word = word[:-2] + "y"
    for suffix, replacement in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _least(suffix):
            return _tidy(word[: len(word) - len(suffix)] + replacement)
    return _tidy(word)


def _least(suffix: str) -> int:
    return _SHORT_WORD if suffix in {"ing", "ed", "e", "s", "y"} else _MIN_STEM


def _tidy(root: str) -> str:
    if len(root) > _SHORT_WORD and root[-1] in "ey":
        root = root[:-1]
    if len(root) > _MIN_STEM and root[-1] == root[-2] and root[-1] not in "sl":
        root = root[:-1]
    return root
