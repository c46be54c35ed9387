"""Neutralise: make text inert before it stands in a prompt.

Rules kept here:

* What the reader cannot see is taken out: the Unicode tags block, variation selectors, bidirectional controls, zero
  width characters, control characters and terminal escapes.
* What a model reads as structure is defused: nothing that looks like a special token (`<start_of_turn>`, `<|turn>`,
  `<eos>`, `[INST]`) survives as one; `BP < 140` stays as it is.
* A Latin word spelt partly with Cyrillic or Greek look-alikes is spelt in Latin; words of one script are untouched.
* Joiners that a script needs (Arabic, Persian, the Indic scripts) stay.
* Neutralising twice changes nothing more, and the words themselves are never changed otherwise.
"""

from __future__ import annotations

import re

from clinic.domain import Transcript

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])|\x9b[0-?]*[ -/]*[@-~]")
_INVISIBLE = re.compile(
    "["
    "\U000e0000-\U000e0fff"  # tags, variation selectors supplement: whole hidden messages fit in here
    "\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c"  # bidirectional controls
    "\u200b\u2060-\u2065\u206a-\u206f\ufeff\u00ad\u034f\u180b-\u180f\u115f\u1160\u17b4\u17b5\u3164\uffa0"  # no width
    "\ufe00-\ufe0f\ufff9-\ufffb"  # variation selectors, interlinear annotation
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters; tab, line feed and carriage return stay
    "\ud800-\udfff"  # half characters, which no text has
    "]"
)
_JOINERS = re.compile(
    "(?<![\u0600-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u17ff\ufb50-\ufdff\ufe70-\ufefc])[\u200c\u200d]+"
)
_UNUSUAL = re.compile(r"[^\t\n\r -~]")  # what is not plain ASCII may be hidden
_OPEN = re.compile(r"<(?=[^\W\d]|[/|<!?\[_])")
_BRACKETED = re.compile(
    r"\[(/?(?:INST|SYS|SYSTEM|USER|ASSISTANT|MODEL|BOS|EOS|PAD|UNK|MASK|multimodal)[^\]\n]{0,20})\]", re.IGNORECASE
)
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile("[A-Za-z]")

_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0455\u0458\u04bb\u0501\u051b\u051d"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0406\u0405\u0408"
    "\u03bf\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7",
    "aeopcyxisjhdqwABEKMHOPCTXISJoABEZHIKMNOPTYX",
)


def neutralise(text: str) -> str:
    """Return `text` without anything hidden and without anything that a model reads as structure."""
    return _BRACKETED.sub(r"(\1)", _OPEN.sub("\u2039", reveal(text)))


def reveal(text: str) -> str:
    """Return `text` without what the reader cannot see, look-alike letters spelt plainly."""
    visible = _visible(text)
    return visible if visible.isascii() else _WORD.sub(_one_script, visible)


def hidden_count(text: str) -> int:
    """Count the characters that `neutralise` takes out because nobody can see them."""
    return len(text) - len(_visible(text))


def _visible(text: str) -> str:
    if _UNUSUAL.search(text) is None:
        return text
    return _JOINERS.sub("", _INVISIBLE.sub("", _ESCAPES.sub("", text)))


def neutralise_transcript(transcript: Transcript) -> Transcript:
    """Return the transcript with every segment's text and speaker neutralised; times and ids stay."""
    segments = tuple(
        segment.model_copy(
            update={
                "text": neutralise(segment.text),
                "speaker": None if segment.speaker is None else neutralise(segment.speaker),
                "words": tuple(w.model_copy(update={"text": neutralise(w.text)}) for w in segment.words),
            }
        )
        for segment in transcript.segments
    )
    return transcript.model_copy(update={"segments": segments})


def _one_script(match: re.Match[str]) -> str:
    word = match[0]
    return word.translate(_LOOKALIKES) if not word.isascii() and _LATIN.search(word) else word
