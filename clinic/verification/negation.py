"""Negation: whether a term is affirmed, denied, or only asked about.

Rules kept here:

* A negation word reaches forward to the next break (`but`, a new subject, the end of the sentence), over lists.
* What a question names is `ASKED`; `passages` settles it with the answer.
* A doubt, a condition or a purpose (`not sure whether`, `if`, `to prevent`) is `DOUBTED`: it settles nothing.
"""

from __future__ import annotations

import re
from enum import StrEnum

from clinic.verification.vocabulary import Term
from clinic.verification.words import STOP_WORDS, Kind, Token, fold, listed


class Polarity(StrEnum):
    """How a term is meant."""

    AFFIRMED = "affirmed"
    DENIED = "denied"
    ASKED = "asked"
    ASKED_NOT = "asked_not"  # `no fever, then?`
    DOUBTED = "doubted"  # `if the fever returns`, `not sure whether`


_OVER_LISTS = listed(
    """no without denies denied deny denying nil none neither nor nt lacks lacking absent negative neg free nobody
    nothing"""
)
_OF_VERBS = listed("not never cannot n't unable")
_LIST_VERBS = listed(
    """have has had having any experience experienced experiencing notice noticed noticing complain complained
    complaining report reported reporting endorse see seen note noted appreciate appreciated show"""
)  # `has not had any fever, chills or cough`: after these a verb's negation reaches over lists as well
_PREPOSITIONS = listed("in on for to at of as during after by into from because about than")
_ALONE = frozenset({"non"})  # reaches one word only
_INBUILT = listed(
    """afebrile apyrexial nontender nondistended nonsmoker nonsmokers nkda nka anicteric acyanotic atraumatic
    nonproductive"""
)
_BACKWARD = frozenset({"negative", "absent", "denied", "nil", "none", "free"})
_BREAKS = listed(
    """but however although though except yet besides aside because unless until which who when while positive if
    than reports endorses admits complains states presents has had have is are was were does did do will would
    can should takes uses"""
)
_SUBJECTS = listed("i he she they we it you patient there that's it's i'm i've he's she's you're they're")
_SENTENCE_END = frozenset(".;?!:")
_PHRASES = (
    "no problems?|no trouble|no longer|not only|not just|not until|no change|no matter|no doubt|no more than|"
    "not as|not that|no worries|why not|no idea|whether or not|not to mention"
)
_NOT_NEGATION = re.compile(rf"\b(?:{_PHRASES})\b")
_DOUBT = re.compile(
    r"(?:\bnot (?:sure|certain|clear)|n't know|\bn't sure|\bunsure|\bnot know|\bwonder(?:s|ing|ed)?|\bmight|\bmaybe"
    r"|\bpossibl[ey])\b"
)
_REACH = 60
_REACH_IN_SPEECH = 14
_STOPS = listed("but however due secondary because since despite given then")
_OPINIONS = listed("think believe feel know recall remember say")


def polarities(text: str, tokens: tuple[Token, ...], found: tuple[Term, ...]) -> tuple[Polarity, ...]:
    """Return the polarity of each term of one stretch of text."""
    denied = _denied(fold(text), tokens, found)
    asked, doubted = _asked(tokens, denied), _supposed(tokens) | _labels(tokens)
    return tuple(_of(term, tokens, denied=denied, asked=asked, doubted=doubted) for term in found)


_LABEL_WORDS = 5


def _labels(tokens: tuple[Token, ...]) -> set[int]:
    """Indexes of a heading before a colon (`ONCOLOGIC: no cancer`): it states nothing."""
    for i, token in enumerate(tokens[: _LABEL_WORDS + 1]):
        if token.text == ":":
            return set(range(i))
    return set()


_SUPPOSING = listed(
    """if whether prevent prevents preventing avoid avoids avoiding risk risks rule ruling unless lest determine
    watch worried concern concerned concerns unknown should would wish quit stopped former possible possibly
    potential possibility unlikely likely"""
)
_SUPPOSED_REACH = 8
_ASKS_IF = listed("me know ask asked wonder")  # `can you tell me if you have any fever?`
_CONDITIONS = listed("if unless whether should")
_ADDRESSED = listed("you you're you've your it it's there there's things the this that any anything")
_ADVICE_REACH = 30  # `if you get chest pain, or you become dizzy, or ...`
_DOUBT_SPAN = 20


def _supposed(tokens: tuple[Token, ...]) -> set[int]:
    """Indexes under a condition, a purpose or an end (`if fever returns`, `to prevent clots`, `quit smoking`)."""
    found: set[int] = set()
    for i, token in enumerate(tokens):
        if token.text not in _SUPPOSING or (token.text == "if" and _word(tokens, i - 1) in _ASKS_IF):
            continue
        advice = token.text in _CONDITIONS and _word(tokens, i + 1) in _ADDRESSED
        for j in range(i + 1, min(len(tokens), i + 1 + (_ADVICE_REACH if advice else _SUPPOSED_REACH))):
            if _ends(tokens, j) or tokens[j].text in {"but", "then", "however"}:
                break
            found.add(j)
    if tokens and tokens[0].text == "or":  # the rest of a condition that the segment before began
        found.update(range(1, min(len(tokens), 1 + _SUPPOSED_REACH)))
    for first, last in sentences(tokens):
        # Speech without punctuation is one long sentence: there a doubt reaches only so far.
        for start in range(first, last + 1, _DOUBT_SPAN):
            end = last if last - first < 2 * _DOUBT_SPAN else min(last, start + _DOUBT_SPAN - 1)
            if _doubts(tokens, start, end):
                found.update(range(start, end + 1))
    return found


def _word(tokens: tuple[Token, ...], at: int) -> str:
    return tokens[at].text if 0 <= at < len(tokens) else ""


def _of(term: Term, tokens: tuple[Token, ...], *, denied: set[int], asked: set[int], doubted: set[int]) -> Polarity:
    if term.first in doubted:
        return Polarity.DOUBTED
    inside = {tokens[i].text for i in range(term.first, term.last + 1)}
    negated = bool(inside & _INBUILT) or term.first in denied or term.last in denied
    if term.first in asked and not _presupposed(term, tokens):
        return Polarity.ASKED_NOT if negated else Polarity.ASKED
    return Polarity.DENIED if negated else Polarity.AFFIRMED


def _denied(folded: str, tokens: tuple[Token, ...], found: tuple[Term, ...]) -> set[int]:
    within = {i for t in found if t.last > t.first for i in range(t.first, t.last + 1)}
    spared = [m.span() for m in _NOT_NEGATION.finditer(folded)]
    denied: set[int] = set()
    for i, token in enumerate(tokens):
        if i in within or not _negates(token.text) or _covers(spared, token.start) or _is_reply(tokens, i):
            continue
        if token.text in _DENYING and _word(tokens, i + 1) == "no":  # `denies no headache`: twice is not at all
            within.add(i + 1)
            continue
        denied.update(_forward(tokens, i))
        if token.text in _BACKWARD and not _continues(tokens, i):
            denied.update(_backward(tokens, i))
    return denied


def _negates(word: str) -> bool:
    return word in _OVER_LISTS or word in _ALONE or _of_verb(word)


def _of_verb(word: str) -> bool:
    return word in _OF_VERBS or (word.endswith("n't") and len(word) > len("n't"))


_DENYING = listed("denies denied deny denying")


def denial_word(tokens: tuple[Token, ...]) -> str | None:
    """Return the `not`, `never`, `...n't` or `denies` of a sentence, if it has one."""
    said = (t.text for t in tokens if t.text in _DENYING or (_of_verb(t.text) and t.text != "unable"))
    return next(said, None)


_QUIETLY_NO = listed(
    """quit stop stopped stopping nope nah nobody nothing hardly barely rarely little lost lack lacks fail failed
    fails refuse refused free gone less few only unaware never without problem difficult difficulty hard trouble"""
)


def denies(tokens: tuple[Token, ...]) -> bool:
    """Whether anything in a text could stand behind a `not`."""
    return any(_negates(t.text) or t.text in _QUIETLY_NO or t.text.startswith(("un", "non")) for t in tokens)


def _covers(spans: list[tuple[int, int]], at: int) -> bool:
    return any(start <= at < end for start, end in spans)


def _is_reply(tokens: tuple[Token, ...], at: int) -> bool:
    """Whether a `no` answers instead of negating what follows it (`no, divorced`, `no i live alone`)."""
    if tokens[at].text != "no":
        return False
    following = tokens[at + 1].text if at + 1 < len(tokens) else ","
    return following in _SUBJECTS or following in {",", ".", "!", "no", "not", "just", "uh", "um"}


def _continues(tokens: tuple[Token, ...], at: int) -> bool:
    """Whether a negation word is followed by what it negates (`negative for`, `nil radiation`)."""
    following = tokens[at + 1].text if at + 1 < len(tokens) else "."
    return following not in _SENTENCE_END and following not in {",", "and", "or"}


def _forward(tokens: tuple[Token, ...], at: int) -> set[int]:
    """Indexes that a negation reaches."""
    reached: set[int] = set()
    narrow = _of_verb(tokens[at].text)
    content = 0
    reach = 2 if tokens[at].text in _ALONE else _REACH if _is_punctuated(tokens, at) else _REACH_IN_SPEECH
    for i in range(at + 1, min(len(tokens), at + 1 + reach)):
        word = tokens[i].text
        if _ends(tokens, i) or word in _STOPS or (content and _breaks(tokens, i)):
            break
        if narrow and content and word in _PREPOSITIONS:
            break
        narrow = narrow and word not in _LIST_VERBS
        content += len(word) > 1 and word not in _NO_CONTENT
        reached.add(i)
    return reached


def _is_punctuated(tokens: tuple[Token, ...], at: int) -> bool:
    """Whether a mark stands within reach: speech without any is one endless sentence."""
    return len(tokens) - at < _REACH or any(t.kind is Kind.MARK for t in tokens[at + 1 : at + _REACH])


_NO_CONTENT = _BREAKS | _SUBJECTS | _OPINIONS | STOP_WORDS


def _breaks(tokens: tuple[Token, ...], at: int) -> bool:
    word = tokens[at].text
    following = tokens[at + 1].text if at + 1 < len(tokens) else ""
    if word in {"and", ","}:
        return following in _BREAKS or following in _SUBJECTS
    return word in _BREAKS or word in _SUBJECTS


def _backward(tokens: tuple[Token, ...], at: int) -> set[int]:
    reached: set[int] = set()
    for i in range(at - 1, max(-1, at - 1 - 6), -1):
        if _ends(tokens, i) or tokens[i].text in {",", "but", "and", "however"}:
            break
        reached.add(i)
    return reached


def _ends(tokens: tuple[Token, ...], at: int) -> bool:
    return tokens[at].text in _SENTENCE_END


_ASKING = listed(
    """any do does did have has are is was were can could would will how what when where which who whose why don't
    doesn't didn't haven't hasn't aren't isn't"""
)
_LEADERS = listed("and so okay ok um uh well alright now then all right but also or")


def _asked(tokens: tuple[Token, ...], denied: set[int]) -> set[int]:
    """Indexes of the tokens that stand in a question."""
    asked: set[int] = set()
    for first, last in sentences(tokens):
        opening = first if tokens[last].text == "?" else _question_from(tokens, first, last)
        if opening is None:
            opening = _bare_any(tokens, first, last, denied)
        if opening is not None:
            asked.update(range(opening, last + 1))
    return asked


def _bare_any(tokens: tuple[Token, ...], first: int, last: int, denied: set[int]) -> int | None:
    """Where an `any` asks although nothing marks it (`okay alright and any cough or dizziness`).

    `Any` is said in questions, denials and conditions; where there is no denial and no condition, it is a question.
    """
    for i in range(first, last + 1):
        if tokens[i].text == "any" and i not in denied and _word(tokens, i + 1) not in {"more", "way", "time", "of"}:
            before = {t.text for t in tokens[first:i]}
            return None if before & _LICENCES or any(_negates(word) for word in before) else i
    return None


_LICENCES = listed("if without before than too should avoid prevent with for hardly whether in")


_WH = listed("how how's when when's where where's what what's which why who whose")
_DEFINITE = listed("the your this that these those his her their my")
_OPEN_WH = re.compile(r"\b(?:how about|what about|what if|how come|what other|what kinds? of|which of)\b")
_PRESUPPOSED_REACH = 12


def _presupposed(term: Term, tokens: tuple[Token, ...]) -> bool:
    """Whether a question takes a term for granted (`how is your asthma?`, `is the pain worse?`) instead of asking."""
    if not term.clinical:
        return False
    first, last = next(((f, e) for f, e in sentences(tokens) if f <= term.first <= e), (0, len(tokens) - 1))
    before = [t.text for t in tokens[max(first, term.first - _PRESUPPOSED_REACH) : term.first]]
    if "any" in before or "or" in before or "like" in before or _OPEN_WH.search(" ".join(before)):
        return False
    if _WH & set(before):
        return True
    more = sum(t.text not in STOP_WORDS and t.text.isalpha() for t in tokens[term.last + 1 : last])
    definite = bool(before) and before[-1] in _DEFINITE
    return definite and bool({"is", "are", "does", "did", "was", "make", "makes", "has"} & set(before)) and more > 0


_ASKED_OF = listed("you your there anyone about he she they")
_ASKED_OF_AT_START = _ASKED_OF | {"the", "that", "it", "this", "any"}


def _question_from(tokens: tuple[Token, ...], first: int, last: int) -> int | None:
    """Where words without a question mark begin to ask (`any fever or chills`, `okay do you smoke`)."""
    start = first
    while start < last and (tokens[start].text in _LEADERS or tokens[start].text == ","):
        start += 1
    if tokens[start].text in {"any", "ever"} or _asks(tokens, start, last, _ASKED_OF_AT_START):
        return start
    if tokens[last].text == ".":
        return None
    inner = [i for i in range(start, last) if _asks(tokens, i, last, _ASKED_OF)]
    return inner[-1] if inner else None


def _asks(tokens: tuple[Token, ...], at: int, last: int, asked_of: frozenset[str]) -> bool:
    if at >= last or tokens[at].text not in _ASKING:
        return False
    return tokens[at + 1].text in asked_of and (at == 0 or tokens[at - 1].text not in _TELLING)


_TELLING = listed("i you we they it that")


def _doubts(tokens: tuple[Token, ...], first: int, last: int) -> bool:
    return bool(_DOUBT.search(" ".join(tokens[i].text for i in range(first, last + 1))))


def sentences(tokens: tuple[Token, ...]) -> list[tuple[int, int]]:
    """Return (first, last) token indexes of each sentence."""
    spans: list[tuple[int, int]] = []
    first = 0
    for i, token in enumerate(tokens):
        if token.text in {".", "?", "!", ";"}:
            spans.append((first, i))
            first = i + 1
    if first < len(tokens):
        spans.append((first, len(tokens) - 1))
    return spans


_FILLER = (
    r"(?:(?:um+|uh+|well|oh+h?|so|hmm?+|mm|ah|er|okay|ok|alright|i mean|you know|actually|honestly|god|gosh|and|but)"
    r"[\s,.]+)*"
)
_NO = re.compile(
    rf"^\W*{_FILLER}(?:absolutely not|definitely not|certainly not|no\b"
    r"|nope|nah|none|never|not\b|neither|negative"
    r"|nothing|don't think|i wouldn't say"
    r"|i (?:don't|do n't|do not|haven't|have n't|have not|didn't|am not|'?ve not|can't|cannot|never|deny)"
    r"|i(?:'ve| have| was| am| did| do) (?:not|never)\b"
    r"|i'm not|don't|denies|un-?uh|nuh-?uh|mm-mm|(?:s?he|it) (?:doesn't|hasn't|has not|does not)|thankfully no)"
)
_YES = re.compile(
    rf"^\W*{_FILLER}(?:yes|yeah|yep|yup|yea\b|mm-?hmm|mhm|uh-?huh|correct|right|that's (?:right|it|correct)|true"
    r"|sure|absolutely|definitely|exactly|of course"
    r"|i (?:do|have|am|did|was)\b(?! ?(?:not|never|n't))|i've had|sometimes|occasionally|a little"
    r"|a bit|(?:a )?(?:slight|mild)|i've been having|i get\b|there (?:was|is|'s) (?:a|some)\b"
    r"|some\b|sort of|kind of|just a|unfortunately|quite|often|it does|it is|s?he (?:does|has))"
)


_UNSURE = re.compile(
    rf"^\W*{_FILLER}(?:i (?:don't|do n't|do not) (?:know|remember|recall)|(?:i'm |i am )?not (?:sure|certain))\b"
)


_HESITATION = re.compile(rf"^\W*{_FILLER}(?:um+|uh+|hmm+|mm|oh+h?|er|ah|well|so|sorry)?\W*$")


def hesitates(text: str) -> bool:
    """Whether a reply says nothing yet (`Um`, `Oh, well.`, nothing at all)."""
    return bool(_HESITATION.match(fold(text))) and not re.search(r"\bok|alright|and|but", fold(text))


def answer(text: str) -> Polarity | None:
    """Read a reply as yes (`AFFIRMED`), no (`DENIED`) or neither (None)."""
    said = fold(text).replace(" n't", "n't")
    if _UNSURE.match(said):
        return None
    if _NO.match(said):
        return Polarity.DENIED
    if _YES.match(said):
        return Polarity.AFFIRMED
    return None
