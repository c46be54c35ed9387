"""Answers that were given to requests with an idempotency key: the same request gets the same answer, for a day.

Rules kept here:

* An answer is kept in the transaction of what it answers: after a crash both are there, or neither.
* A key is a UUID, so it cannot be a patient's name; it belongs to one token, and no other sees it.
* The digest of the request is keyed by the token's secret, which is not stored, and sealed with the answer: a plain
  digest of few words could be guessed, also for a patient whose record is destroyed.
* Answers hold ids, states and times.  The words of a patient are not in them: they would outlive a shredded record.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter
from sqlalchemy import delete, select

from clinic.records.models import ApiAnswerRow
from clinic.records.sealed import STAFF, Place
from clinic.records.work import UnitOfWork

KEPT: Final = timedelta(hours=24)


class StoredAnswer(BaseModel):
    """One answer, and the keyed digest of the request (operation, address, body) that got it.  `body` is JSON text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_sha256: str
    status: int
    body: str


_ANSWER: Final = TypeAdapter(StoredAnswer)


class Answers:
    """The kept answers, within one transaction."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    def find(self, token_id: str, key: str) -> StoredAnswer | None:
        """Return what this key was answered, if that is not longer ago than `KEPT`."""
        row = self._work.session.get(ApiAnswerRow, (token_id, key))
        if row is None or self._work.now() - row.created_at >= KEPT:
            return None
        return self._work.vault.open_json(ApiAnswerRow.answer, row.answer, _place(token_id, key), _ANSWER)

    def keep(self, token_id: str, key: str, answer: StoredAnswer) -> None:
        """Keep an answer, and let go of all that are too old."""
        now = self._work.now()
        self._work.session.execute(delete(ApiAnswerRow).where(ApiAnswerRow.created_at <= now - KEPT))
        sealed = self._work.vault.seal_json(ApiAnswerRow.answer, answer.model_dump(mode="json"), _place(token_id, key))
        self._work.add(ApiAnswerRow(token_id=token_id, key=key, answer=sealed, created_at=now))

    def forget(self, token_id: str, key: str) -> None:
        """Let go of an answer that turned out to be wrong."""
        self._work.session.execute(
            delete(ApiAnswerRow).where(ApiAnswerRow.token_id == token_id, ApiAnswerRow.key == key)
        )

    def check_all(self, token_id: str) -> None:
        """Open every answer kept for a token.

        Raises:
            DecryptionError: one of them does not open.
        """
        for row in self._work.session.scalars(select(ApiAnswerRow).where(ApiAnswerRow.token_id == token_id)):
            self._work.vault.open_json(ApiAnswerRow.answer, row.answer, _place(token_id, row.key), _ANSWER)


def _place(token_id: str, key: str) -> Place:
    return Place(STAFF, f"{token_id}/{key}")
