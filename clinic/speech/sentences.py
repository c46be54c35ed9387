"""Where one stretch of speech ends and the next begins.

Rules kept here:

* Pure: text and words in, text and words out; no word is lost, added or moved.
* A sentence ends after `.`, `?` or `!` (also the ideographic ones), but not after `Dr.`, `mg.`, `e.g.` or an initial.
* The same rule cuts dictated text and recognised words, so evidence is of the same size for both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from clinic.domain import Word

MAX_WORDS = 60
MAX_PAUSE_S = 1.5

_CLOSING = "\"')]\u201d\u2019"
_OPENING = "\"'([\u201c\u2018"
_END = re.compile(rf"[.?!\u2026\u3002\uff1f\uff01]+[{re.escape(_CLOSING)}]*$")
_ABBREVIATION = re.compile(
    rf"^[{re.escape(_OPENING)}]*(?:dr|mr|mrs|ms|prof|st|no|vs|approx|etc|e\.g|i\.e|ca|cf|fig|mg|ml|mcg|kg|tab|tabs|cap|caps|dept|pt"
    r"|b\.i\.d|t\.i\.d|q\.i\.d|q\.d|p\.r\.n|p\.o|[a-z])\.$",
    re.IGNORECASE,
)
# What looks like an abbreviation but usually ends a sentence: "So do I."
_WORD_AFTER_ALL = frozenset({"i.", "a.", "mg.", "ml.", "kg.", "mcg.", "no.", "etc."})


def ends_sentence(token: str, following: str | None) -> bool:
    """Tell whether a sentence ends with `token`; `following` is the next token, None at the end of the text."""
    if not _END.search(token):
        return False
    if following is None:
        return True
    if not _ABBREVIATION.match(token):
        return True
    return token.lower() in _WORD_AFTER_ALL and following[:1].isupper()


def split_text(text: str) -> Iterator[str]:
    """Yield the sentences of one paragraph, in order, without the white space around them."""
    tokens = text.split()
    begin = 0
    for at, token in enumerate(tokens):
        following = tokens[at + 1] if at + 1 < len(tokens) else None
        if following is None or ends_sentence(token, following):
            yield " ".join(tokens[begin : at + 1])
            begin = at + 1


def split_words(words: Iterable[Word]) -> Iterator[tuple[Word, ...]]:
    """Yield recognised words in sentences; a pause longer than `MAX_PAUSE_S` also separates."""
    current: list[Word] = []
    pending: Word | None = None
    for word in words:
        if pending is not None:
            current.append(pending)
            pause = word.start - pending.end
            if pause > MAX_PAUSE_S or len(current) >= MAX_WORDS or ends_sentence(pending.text, word.text):
                yield tuple(current)
                current = []
        pending = word
    if pending is not None:
        yield (*current, pending)
