"""Text that was typed, pasted or dictated elsewhere, as a transcript without times.

Rules kept here:

* Verbatim: every word stays, in order; only white space and control characters are tidied away.
* A speaker is taken over where a line names one in a known way (`Doctor: ...`, `[patient] ...`); nothing is guessed.
* The segments are sentences with the ids `s1`, `s2`, ..., as in a recorded transcript.

Raises `InputError` with the codes `text_empty` and `text_too_long`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from clinic.domain import Segment, Transcript
from clinic.errors import InputError
from clinic.speech.sentences import split_text

MAX_CHARACTERS = 200_000  # some four hours of speech

_ROLES = (
    "doctor|dr|clinician|physician|gp|nurse|midwife|health worker|patient|pt|mother|father|parent|relative|carer"
    "|caregiver|guest|guest_family|guest_clinician|interpreter|speaker ?[a-z0-9]{1,2}|d|p"
)
_LABEL = re.compile(rf"^\s*(?:\[\s*({_ROLES})\s*\]\s*:?|({_ROLES})\s*:)\s*", re.IGNORECASE)
_SHORT = {"d": "Doctor", "dr": "Doctor", "p": "Patient", "pt": "Patient", "gp": "GP"}


def text_to_transcript(text: str, *, language: str | None = None) -> Transcript:
    """Split text into sentence segments.

    Raises:
        InputError: `text_empty` if there is not one letter or digit, `text_too_long` beyond `MAX_CHARACTERS`.
    """
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"the text is longer than {MAX_CHARACTERS} characters",
            code="text_too_long",
            hint="hand it over in parts, one encounter each",
        )
    segments = tuple(
        Segment(id=f"s{number}", speaker=speaker, text=sentence)
        for number, (speaker, sentence) in enumerate(_sentences(text), start=1)
    )
    if not any(character.isalnum() for segment in segments for character in segment.text):
        raise InputError("the text is empty", code="text_empty", hint="type, paste or dictate the text first")
    return Transcript(segments=segments, language=language)


def _sentences(text: str) -> Iterator[tuple[str | None, str]]:
    speaker = None
    for line in _clean(text).splitlines():
        said = line
        if label := _LABEL.match(line):
            speaker, said = _speaker(label.group(1) or label.group(2)), line[label.end() :]
        elif not line.strip():
            speaker = None  # an empty line ends a turn
        for sentence in split_text(said):
            yield speaker, sentence


def _speaker(label: str) -> str:
    return _SHORT.get(label.lower(), label.capitalize())


def _clean(text: str) -> str:
    normal = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "".join(c if c in "\n\t" or unicodedata.category(c) != "Cc" else " " for c in normal)
