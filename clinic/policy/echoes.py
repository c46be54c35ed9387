"""Echoes: whether an answer says what only our instructions to the model say.

Rules kept here:

* Pure.  An answer is read as it will be shown: JSON decoded, hidden characters out, look-alike letters spelt plainly.
* Two signs: a run of letters that stands in the instructions, however it is spaced, punctuated or cased; and a word of
  the instructions that is no word of the language and that nobody said, such as the code of a prompt's delimiters.
* Cut into statements it is the same answer; of a code, a piece is enough.
* Backwards, rotated by thirteen letters, in hexadecimal and in Base64 it is the same answer.
* What was said in the consultation is no echo, whoever said it.
* It is no proof: a translation or an acrostic passes.  What holds without it: the instructions hold no secret and
  nothing of any patient, and a statement without evidence is flagged.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from clinic.domain import Completion, Prompt
from clinic.policy.detectors.lexicon import is_word
from clinic.policy.detectors.neutralise import reveal

_RUN: Final = 40
"""Letters: some eight words.  Two texts about the same matter do not share so many by chance."""

_SHORTEST_WORD: Final = 6
_LONG_WORD: Final = 24
_PIECE_OF_WORD: Final = 12
"""Letters: of a word this long, such as a code, a piece is told apart from anything that somebody wrote."""

_DEEPEST: Final = 6
_WORD: Final = re.compile(r"[^\W\d_]+")
_NO_LETTER: Final = re.compile(r"[\W\d_]+")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{16,}")
_HEXADECIMAL: Final = re.compile(r"(?:[0-9A-Fa-f]{2}[\s:]?){8,}")
_NO_HEXADECIMAL: Final = re.compile(r"[\s:]")


def repeats_instructions(completion: Completion, prompt: Prompt) -> bool:
    """Tell whether an answer repeats the instructions of the prompt that it answers."""
    ours, heard = _texts(prompt, ours=True), _letters(_texts(prompt, ours=False))
    letters = _letters(ours)
    runs = {run for run in _runs(letters) if run not in heard}
    words = {word for word in _own_words(ours) if word not in heard}
    if not runs and not words:
        return False
    texts = ("\n".join(shown(completion)), *_columns(completion))
    return any(_echoes(reading, runs, words) for text in texts for reading in _readings(text))


def shown(completion: Completion) -> Iterator[str]:
    """Yield every string of an answer as it will be read: where it is JSON, what the JSON says."""
    for section in completion.sections:
        try:
            yield from _strings(json.loads(section.text), _DEEPEST)
        except (ValueError, RecursionError):
            yield section.text


def _strings(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, dict) and depth:
        for key, inner in value.items():
            yield str(key)
            yield from _strings(inner, depth - 1)
    elif isinstance(value, list) and depth:
        for inner in value:
            yield from _strings(inner, depth - 1)
    else:
        yield str(value)


def _columns(completion: Completion) -> Iterator[str]:
    """Yield what stands under each name of a JSON answer, read on: a text may be cut into many statements."""
    for section in completion.sections:
        found: dict[str, list[str]] = {}
        with suppress(ValueError, RecursionError):
            _sort(json.loads(section.text), "", found, _DEEPEST)
        yield from ("\n".join(texts) for texts in found.values())


def _sort(value: object, name: str, found: dict[str, list[str]], depth: int) -> None:
    if isinstance(value, dict) and depth:
        for key, inner in value.items():
            _sort(inner, str(key), found, depth - 1)
    elif isinstance(value, list) and depth:
        for inner in value:
            _sort(inner, name, found, depth - 1)
    else:
        found.setdefault(name, []).append(str(value))


def _texts(prompt: Prompt, *, ours: bool) -> str:
    messages = [m.content for part in prompt.parts for m in part.messages if (m.role == "system") is ours]
    spoken = [] if ours else [part.text for part in prompt.parts if part.text is not None]
    return "\n".join(messages + spoken) if ours else _without_delimiters("\n".join(messages + spoken))


def _without_delimiters(said: str) -> str:
    """Leave out the lines around a transcript: their code is ours, nobody said it."""
    return "\n".join(line for line in said.split("\n") if not line.startswith("=== "))


def _own_words(text: str) -> Iterator[str]:
    for word in _WORD.findall(_plain(text)):
        if len(word) >= _LONG_WORD and not is_word(word):
            yield from (word[at : at + _PIECE_OF_WORD] for at in range(len(word) - _PIECE_OF_WORD + 1))
        elif len(word) >= _SHORTEST_WORD and not is_word(word):
            yield word


def _runs(letters: str) -> Iterator[str]:
    return (letters[at : at + _RUN] for at in range(len(letters) - _RUN + 1))


def _echoes(letters: str, runs: set[str], words: set[str]) -> bool:
    return any(word in letters for word in words) or any(run in runs for run in _runs(letters))


def _readings(text: str) -> Iterator[str]:
    """Yield the letters of an answer in every way in which they may be meant."""
    for plain in (text, *_decoded(text)):
        letters = _letters(plain)
        yield letters
        yield letters[::-1]
        yield codecs.encode(letters, "rot13")


def _decoded(text: str) -> Iterator[str]:
    for match in _HEXADECIMAL.finditer(text):
        yield bytes.fromhex(_NO_HEXADECIMAL.sub("", match[0])).decode("utf-8", "replace")
    joined = "".join(text.split())
    for match in _BASE64.finditer(joined):
        yield from _from_base64(match[0].replace("-", "+").replace("_", "/"))


def _from_base64(run: str) -> Iterator[str]:
    for shift in range(4):  # words may stand right before it
        piece = run[shift:]
        piece = piece[:-1] if len(piece) % 4 == 1 else piece
        piece += "=" * (-len(piece) % 4)
        try:
            yield base64.b64decode(piece, validate=True).decode("utf-8", "replace")
        except binascii.Error:
            return


def _letters(text: str) -> str:
    return _NO_LETTER.sub("", _plain(text))


def _plain(text: str) -> str:
    return reveal(unicodedata.normalize("NFKC", text)).casefold()
