"""Recovery codes: ten on paper, for the day on which the phone is lost.

Rules kept here:

* They are shown once, when they are made; new ones make those before them good for nothing.
* Stored is the SHA-256 of each, sealed under the staff key: with 49 bits of chance in a code, and the seal around it,
  a slow hash would add nothing.
* A code is good once: it is taken off the list in the transaction of what it was used for.
* How often one may be tried is the business of `records.factors`, as for the codes of the app.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Final

from pydantic import TypeAdapter

from clinic.audit.events import RecoveryMade, RecoveryUsed
from clinic.domain import Actor
from clinic.records.models import RecoveryCodesRow
from clinic.records.sealed import STAFF, Place
from clinic.records.work import UnitOfWork

CODES: Final = 10
LETTERS: Final = "23456789abcdefghjkmnpqrstuvwxyz"
"""No letter that is taken for a digit, or the other way round."""
_HALF: Final = 5
_FORM: Final = re.compile(f"[{LETTERS}]{{{2 * _HALF}}}")
_DIGESTS: Final = TypeAdapter(list[str])


class RecoveryCodes:
    """The recovery codes, within one transaction."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    def make(self, user_id: str, actor: Actor) -> tuple[str, ...]:
        """Make new codes for an account, in place of those it had, and return them: `k7mq2-x9rwp`."""
        codes = tuple("".join(secrets.choice(LETTERS) for _ in range(2 * _HALF)) for _ in range(CODES))
        row = self._work.session.get(RecoveryCodesRow, user_id)
        if row is None:
            row = RecoveryCodesRow(user_id=user_id, row_version=0)
        row.created_at = self._work.now()
        self._keep(row, [_digest(code) for code in codes])
        self._work.add(row)
        self._work.append(RecoveryMade(user_id=user_id, left=CODES), actor=actor)
        return tuple(f"{code[:_HALF]}-{code[_HALF:]}" for code in codes)

    def use(self, user_id: str, typed: str, actor: Actor) -> bool:
        """Use a code up; False if it is none of this account's, or was used."""
        row, digest = self._work.session.get(RecoveryCodesRow, user_id), _digest(plain(typed))
        if row is None:
            return False
        known = self._open(row)
        rest = [one for one in known if not hmac.compare_digest(one, digest)]
        if len(rest) == len(known):
            return False
        self._keep(row, rest)
        self._work.append(RecoveryUsed(user_id=user_id, left=len(rest)), actor=actor)
        return True

    def remove(self, user_id: str, actor: Actor) -> None:
        """Let no code of the account be good any more."""
        row = self._work.session.get(RecoveryCodesRow, user_id)
        if row is not None and row.left:
            self._keep(row, [])
            self._work.append(RecoveryMade(user_id=user_id, left=0), actor=actor)

    def check(self, user_id: str) -> None:
        """Open what is sealed, for the sweep.

        Raises:
            DecryptionError: it does not open where it stands.
            ValueError: the number in the clear is not that of the codes.
        """
        row = self._work.session.get(RecoveryCodesRow, user_id)
        if row is not None and len(self._open(row)) != row.left:
            raise ValueError("the number of recovery codes is not that of the sealed ones")

    def _keep(self, row: RecoveryCodesRow, digests: list[str]) -> None:
        row.row_version += 1
        row.left = len(digests)
        row.codes = self._work.vault.seal_json(RecoveryCodesRow.codes, digests, _place(row))

    def _open(self, row: RecoveryCodesRow) -> list[str]:
        return self._work.vault.open_json(RecoveryCodesRow.codes, row.codes, _place(row), _DIGESTS)


def plain(typed: str) -> str:
    """Return a code as it was made, however it was typed: in capitals, with blanks."""
    return "".join(typed.split()).replace("-", "").casefold()


def looks_like_one(typed: str) -> bool:
    """Whether what was typed has the form of a recovery code."""
    return _FORM.fullmatch(plain(typed)) is not None


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def _place(row: RecoveryCodesRow) -> Place:
    return Place(STAFF, row.user_id, row.row_version)
