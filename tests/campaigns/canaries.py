"""Canaries: words that stand for patient text, and a search for them in every form in which a program may leave them.

A form that the search does not know cannot be found, so each has its own control: the word is written in that form,
and must be found.  Not searched for: compressed or encrypted forms; the program compresses nothing that it keeps.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CONSONANTS: Final = "bdfgklmnprstvz"
_VOWELS: Final = "aeiou"


def new_canary() -> str:
    """Return a word of 14 letters that is in no dictionary."""
    return "".join(secrets.choice(_CONSONANTS) + secrets.choice(_VOWELS) for _ in range(7))


def _base64_at(shift: int) -> Callable[[str], bytes]:
    """Return the part of a longer base64 text that holds the word, where it begins `shift` bytes into a group."""

    def form(word: str) -> bytes:
        encoded = base64.b64encode(bytes(shift) + word.encode())
        whole = (shift + len(word)) * 8 // 6
        return encoded[(shift * 8 + 5) // 6 : whole]

    return form


FORMS: Final[dict[str, Callable[[str], bytes]]] = {
    "plain": str.encode,
    "upper case": lambda word: word.upper().encode(),
    "capitalised": lambda word: word.capitalize().encode(),
    "UTF-16 LE": lambda word: word.encode("utf-16-le"),
    "UTF-16 BE": lambda word: word.encode("utf-16-be"),
    "UTF-32 LE": lambda word: word.encode("utf-32-le"),
    "base64, first byte": _base64_at(0),
    "base64, second byte": _base64_at(1),
    "base64, third byte": _base64_at(2),
    "hexadecimal": lambda word: word.encode().hex().encode(),
    "hexadecimal, upper case": lambda word: word.encode().hex().upper().encode(),
    "escaped, \\x": lambda word: "".join(f"\\x{ord(letter):02x}" for letter in word).encode(),
    "escaped, \\u": lambda word: "".join(f"\\u{ord(letter):04x}" for letter in word).encode(),
    "percent": lambda word: "".join(f"%{ord(letter):02X}" for letter in word).encode(),
    "backwards": lambda word: word[::-1].encode(),
    "SHA-256, hexadecimal": lambda word: hashlib.sha256(word.encode()).hexdigest().encode(),
    "SHA-256": lambda word: hashlib.sha256(word.encode()).digest(),
    "MD5, hexadecimal": lambda word: hashlib.md5(word.encode(), usedforsecurity=False).hexdigest().encode(),
}


@dataclass(frozen=True, slots=True)
class Hit:
    """A word that lies somewhere in the clear."""

    word: str
    form: str
    place: str


class Search:
    """Looks for these words in all forms."""

    def __init__(self, words: list[str]) -> None:
        self._needles = [(form(word), word, name) for word in words for name, form in FORMS.items()]

    def bytes(self, content: bytes, place: str) -> Iterator[Hit]:
        """Search bytes; the disk reserve is nothing but zeros, 64 MiB of them."""
        if not content.strip(b"\0"):
            return
        for needle, word, form in self._needles:
            if needle in content:
                yield Hit(word, form, place)

    def file(self, path: Path) -> Iterator[Hit]:
        """Search a file, and, in a database, every value: a long one is cut into pages in the file."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # a lock or a journal of a living process
            return
        yield from self.bytes(content, str(path))
        if content.startswith(b"SQLite format 3\0"):
            yield from self._database(path)

    def folder(self, folder: Path) -> Iterator[Hit]:
        """Search the names and contents of all files below a folder."""
        for path in sorted(folder.rglob("*")):
            yield from self.bytes(str(path.relative_to(folder)).encode(), f"name of {path}")
            if path.is_file() and not path.is_symlink():
                yield from self.file(path)

    def _database(self, path: Path) -> Iterator[Hit]:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            db.text_factory = bytes
            tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (table,) in tables:
                for row in db.execute(f'SELECT * FROM "{table.decode()}"'):  # noqa: S608 - names from the schema
                    values = b"\0".join(value if isinstance(value, bytes) else str(value).encode() for value in row)
                    yield from self.bytes(values, f"{path}, table {table.decode()}")
