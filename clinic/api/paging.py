"""Pages of a list by an opaque cursor.

Rules kept here:

* A cursor holds the id of the last thing shown and nothing else: no name, no query, no number that counts patients.
* One that names nothing on the list any more is refused, never read as "from the start".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from clinic.errors import InputError

T = TypeVar("T")

_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_PREFIX: Final = b"\x01"


def page(
    items: Sequence[T], identify: Callable[[T], str], *, cursor: str | None, limit: int
) -> tuple[Sequence[T], str | None]:
    """Return the part of a list that a cursor asks for, and the cursor for the next part.

    Raises:
        InputError: `cursor_invalid`.
    """
    start = 0
    if cursor is not None:
        last = _opened(cursor)
        places = [place for place, item in enumerate(items) if identify(item) == last]
        if not places:
            raise _invalid()
        start = places[0] + 1
    shown = items[start : start + limit]
    more = start + limit < len(items)
    return shown, _sealed(identify(shown[-1])) if more else None


def _sealed(last: str) -> str:
    return base64.urlsafe_b64encode(_PREFIX + bytes.fromhex(last)).decode().rstrip("=")


def _opened(cursor: str) -> str:
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except (binascii.Error, ValueError):
        raise _invalid() from None
    last = data[1:].hex()
    if data[:1] != _PREFIX or _ID.fullmatch(last) is None or _sealed(last) != cursor:
        raise _invalid()
    return last


def _invalid() -> InputError:
    return InputError("this cursor names nothing on this list", code="cursor_invalid", hint="begin without a cursor")
