"""The three recovery sheets as text: what `clinic init` and `clinic keys new-shares` print, once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

_COLUMNS: Final = 3
_RULE: Final = "=" * 78

_EXPLANATION: Final = """\
RECOVERY SHEETS: shown once, stored nowhere.  Print this page or copy it by hand, cut it along the lines, and
give the three sheets to three people or places, away from the box.  ANY TWO of them open the clinic when the
passphrase (or the box's own key) is lost; one alone opens nothing and tells nothing.
 - Never photograph them, never keep two together, never put them into a computer except to recover.
 - To use them: `clinic keys recover` asks for two sheets and a new passphrase.
 - A sheet was lost or seen: `clinic keys new-shares` makes three new ones; these are void from then on.
"""


def sheets(shares: Sequence[str], *, home: str, made: datetime) -> str:
    """Return the text for a terminal or a printer."""
    pages = (_sheet(number, share, home=home, made=made) for number, share in enumerate(shares, start=1))
    return "\n".join([_EXPLANATION, *pages, _RULE])


def _sheet(number: int, share: str, *, home: str, made: datetime) -> str:
    words = share.split()
    heading = (
        f"CLINIC RECOVERY SHEET {number} of 3      made {made:%Y-%m-%d %H:%M} UTC      set `{words[0]} {words[1]}`"
    )
    note = "Two sheets of this set are needed.  To use: `clinic keys recover`.  Keep away from the box."
    return "\n".join([_RULE, heading, f"data folder: {home}", "", *_lines(words), "", note])


def _lines(words: Sequence[str]) -> Iterator[str]:
    """Yield the words numbered, in columns to be read from top to bottom."""
    height = -(-len(words) // _COLUMNS)
    for row in range(height):
        places = range(row, len(words), height)
        yield "".join(f"  {place + 1:>2}. {words[place]:<18}" for place in places).rstrip()
