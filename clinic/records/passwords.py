"""Passwords: which are accepted, how they are hashed (Argon2id).

Rules kept here:

* At least 10 characters; length is what counts, so no rule asks for a digit or a sign.
* The password is normalised (NFKC) before it is hashed: the same keys on another keyboard give the same password.
* An account that does not exist costs the same work as one that does.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from clinic.errors import DecryptionError, InputError

MIN_LENGTH: Final = 10
MAX_LENGTH: Final = 256
_MIN_DISTINCT: Final = 5


def require_strong(password: str, *, username: str) -> None:
    """Raise `InputError` (`weak_password`) unless the password may be used for this account."""
    password = _normalise(password)
    if len(password) < MIN_LENGTH:
        raise _weak(f"the password has fewer than {MIN_LENGTH} characters")
    if len(password) > MAX_LENGTH:
        raise _weak(f"the password has more than {MAX_LENGTH} characters")
    if len(set(password)) < _MIN_DISTINCT:
        raise _weak("the password repeats too few characters")
    if username and username in password.casefold():
        raise _weak("the password contains the user name")


def hash_password(hasher: PasswordHasher, password: str) -> str:
    """Return the Argon2id hash with its parameters and salt."""
    return hasher.hash(_normalise(password))


def verify(hasher: PasswordHasher, stored: str | None, password: str) -> bool:
    """Whether `password` is the one that was hashed; with no stored hash it is refused after the same work."""
    candidate = _normalise(password[: 4 * MAX_LENGTH])
    try:
        hasher.verify(_decoy(hasher) if stored is None else stored, candidate)
    except VerifyMismatchError:
        return False
    except (VerificationError, InvalidHashError):
        raise DecryptionError("a stored password hash is damaged", hint="reset the password of this account") from None
    return stored is not None


@cache
def _decoy(hasher: PasswordHasher) -> str:
    return hasher.hash("nobody's password")


def _normalise(password: str) -> str:
    return unicodedata.normalize("NFKC", password)


def _weak(message: str) -> InputError:
    return InputError(message, code="weak_password", hint="take a sentence that only you would say")
