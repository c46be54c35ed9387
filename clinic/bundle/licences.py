"""The licences that somebody must accept before a model is used.

Rules kept here:

* Every model has one, or it does not go in: those in packages by the list in `clinic.weights`, folders by a file.
* What is shown is what is accepted: plain text, named by its SHA-256.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

from clinic.bundle.manifest import Licence
from clinic.bundle.wheels import Wheel
from clinic.errors import InputError
from clinic.weights import GEMMA_3_270M, VOICE_ENCODER, WHISPER_BASE, WeightSet

PACKAGED: Final = (GEMMA_3_270M, WHISPER_BASE, VOICE_ENCODER)
_FILE: Final = re.compile(r"(LICEN[CS]E|TERMS|COPYING)([._-][A-Za-z0-9._-]*)?", re.IGNORECASE)
_HIDDEN: Final = frozenset({"script", "style", "head", "svg", "nav", "devsite-header", "noscript"})
_BREAKS: Final = frozenset(
    {"p", "div", "br", "li", "h1", "h2", "h3", "h4", "h5", "tr", "section", "article", "ul", "ol"}
)


@dataclass(frozen=True, slots=True)
class Text:
    """A licence and its words."""

    licence: Licence
    words: bytes


def packaged(wheels: Sequence[Wheel], known: Sequence[WeightSet] = PACKAGED) -> tuple[Text, ...]:
    """Return the licence of every model that comes in these wheels.

    Raises:
        InputError: `licence_missing`.
    """
    by_name = {wheel.name: wheel for wheel in wheels}
    return tuple(_packaged(weights, by_name) for weights in known if _parts(weights) & set(by_name))


def of_folder(name: str, folder: Path) -> Text:
    """Return the licence of a model folder that an administrator gives.

    Raises:
        InputError: `licence_missing`.
    """
    found = sorted(path for path in folder.iterdir() if path.is_file() and _FILE.fullmatch(path.name))
    if not found:
        raise InputError(
            f"the model `{name}` has no licence file",
            code="licence_missing",
            hint=f"put the licence it came with into `{folder}`, as LICENSE or TERMS",
        )
    words = "\n\n".join(_plain(path.read_text("utf-8", errors="replace"), path.name) for path in found)
    licence = Licence(id=name, name=f"Licence of {name}", path=f"licences/{name}.txt", covers=(name,))
    return Text(licence, words.encode())


def _parts(weights: WeightSet) -> set[str]:
    return {name for file in weights.files for name, _ in file.parts}


def _packaged(weights: WeightSet, wheels: dict[str, Wheel]) -> Text:
    distribution, inside = weights.licence_text
    data = wheels[distribution].read(inside) if distribution in wheels else None
    if data is None:
        raise InputError(
            f"the licence of the model `{weights.name}` is not in its packages",
            code="licence_missing",
            hint=f"it is expected in `{distribution}`, as `{inside}`",
        )
    words = _plain(data.decode("utf-8", errors="replace"), inside)
    return Text(
        Licence(
            id=weights.name,
            name=weights.licence,
            path=f"licences/{weights.name}.txt",
            covers=tuple(sorted(_parts(weights) | {distribution})),
        ),
        words.encode(),
    )


def _plain(text: str, name: str) -> str:
    """Return a licence as it is read on a console."""
    if not name.endswith((".html", ".htm")):
        return text.strip() + "\n"
    reader = _Reader()
    article = re.search(r"<article\b.*?</article>", text, re.DOTALL)  # without the page's navigation
    reader.feed(text if article is None else article[0])
    reader.close()
    lines = [" ".join(line.split()) for line in "".join(reader.pieces).splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


class _Reader(HTMLParser):
    """Keeps the words of a page, and where its paragraphs end."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self._hidden += tag in _HIDDEN
        if tag in _BREAKS:
            self.pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in _HIDDEN and self._hidden > 0
        if tag in _BREAKS:
            self.pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.pieces.append(data)
