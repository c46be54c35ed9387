"""Injection: how much a text reads like orders to the model.  Advisory.

Rules kept here:

* A pure function from text to a score in 0..1 and the names of the signals; the text itself is never kept.
* Signals add up only where they stand close together, so that a long consultation does not become suspicious by length.
* Hidden characters, look-alike letters and Base64 are undone first, and using them is itself a signal.
* No safety rests on this: a new wording can pass.  The model has no tools, no network, and a clinician signs.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from clinic.policy.detectors.neutralise import hidden_count, reveal
from clinic.policy.detectors.patterns import SIGNALS
from clinic.policy.detectors.prefilter import Folded

_WINDOW = 1200  # characters: about a minute of speech, or one paragraph
_SPELT = re.compile(r"\b(?:[^\W\d] ){4,40}[^\W\d]\b")  # "i g n o r e"
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{24,4096}={0,2}(?![A-Za-z0-9+/])")
_OCTET = re.compile(r"[01]{8}")
_BITS = re.compile(r"(?:\b[01]{8}\b\s?){6,512}")
_TAGS = re.compile("[\U000e0020-\U000e007e]+")
_HIDDEN_WEIGHT = 0.85
_HIDDEN_FEW = 3  # a stray zero width space or soft hyphen comes with any copied text


@dataclass(frozen=True, slots=True)
class Injection:
    """How much a text reads like orders to the model.

    Attributes:
        score: 0 (nothing) to 1.
        signals: names of what was found anywhere, sorted.
    """

    score: float
    signals: tuple[str, ...]


def score(text: str) -> Injection:
    """Score a text."""
    hits: list[tuple[int, str, float]] = []
    if hidden_count(text) > _HIDDEN_FEW:
        hits.append((0, "hidden_text", _HIDDEN_WEIGHT))
    for encoded, plain in _readings(text):
        if encoded:
            hits.append((0, "encoded", 0.6))
        hits += _hits(plain)
    return Injection(round(_strongest(sorted(hits)), 4), tuple(sorted({name for _, name, _ in hits})))


def _hits(plain: str) -> Iterator[tuple[int, str, float]]:
    folded = Folded(plain)
    for signal in SIGNALS:
        for sieve in signal.sieves:
            for match in sieve.finditer(plain, folded):
                yield match.start(), signal.name, signal.weight


def _readings(text: str) -> Iterator[tuple[bool, str]]:
    """Yield the text as a reader sees it, then whatever is encoded in it."""
    yield False, _plain(text)
    hidden = "" if text.isascii() else "".join(chr(ord(c) - 0xE0000) for run in _TAGS.findall(text) for c in run)
    if hidden:
        yield True, _plain(hidden)
    for match in _BASE64.finditer(text):
        decoded = _decoded(match[0])
        if decoded:
            yield True, _plain(decoded)
    for match in _BITS.finditer(text) if _OCTET.search(text) else ():
        yield True, _plain("".join(chr(int(octet, 2)) for octet in match[0].split()))


def _plain(text: str) -> str:
    plain = " ".join(reveal(unicodedata.normalize("NFKC", text)).casefold().replace("\u2019", "'").split())
    return _SPELT.sub(lambda match: match[0].replace(" ", ""), plain)


def _decoded(text: str) -> str:
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return plain if plain.isprintable() and " " in plain else ""


def _strongest(hits: list[tuple[int, str, float]]) -> float:
    """Return the highest combined weight of any window; a signal counts once a window, with its greatest weight."""
    best, first = 0.0, 0
    for last, (position, _, _) in enumerate(hits):
        while hits[first][0] < position - _WINDOW:
            first += 1
        weights: dict[str, float] = {}
        for _, name, weight in hits[first : last + 1]:
            weights[name] = max(weight, weights.get(name, 0.0))
        doubt = 1.0
        for weight in weights.values():
            doubt *= 1.0 - weight
        best = max(best, 1.0 - doubt)
    return best
