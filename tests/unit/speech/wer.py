"""Word error rate with a small normaliser that leaves clinical words alone."""

from __future__ import annotations

import re

_SAME = {
    "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "ten": "10", "mg": "milligrams", "dr": "doctor", "mr": "mister", "okay": "ok",
}  # fmt: skip


def normal(text: str) -> list[str]:
    """Return the words in lower case, without punctuation, with small numbers as digits."""
    text = text.lower().replace("\u2019", "'").replace("°", " degrees ")
    text = re.sub(r"(\d),(\d)", r"\1\2", text)
    text = re.sub(r"(\d+)/(\d+)", r"\1 over \2", text)
    text = re.sub(r"(\d)(mg|ml|g)\b", r"\1 \2", text)
    return [_SAME.get(word, word) for word in re.findall(r"\d+(?:\.\d+)?|[^\W\d_](?:[^\W\d_]|'(?=\w))*", text)]


def word_error_rate(reference: str, heard: str) -> float:
    """Return substitutions, insertions and deletions per word of the reference."""
    said, got = normal(reference), normal(heard)
    row = list(range(len(got) + 1))
    for number, word in enumerate(said, start=1):
        above, row = row, [number]
        for at, other in enumerate(got, start=1):
            row.append(min(above[at] + 1, row[-1] + 1, above[at - 1] + (word != other)))
    return row[-1] / max(1, len(said))
