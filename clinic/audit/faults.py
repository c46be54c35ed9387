"""Faults of the store, told as the one error that means: not recorded, so do not do it.

Rules kept here:

* With a guard and a reason a fault latches, too; what SQLite names itself takes precedence over that reason.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from clinic.audit.guard import Guard
from clinic.audit.latch import Reason
from clinic.errors import AuditError, StorageError


@contextmanager
def reported(what: str, guard: Guard | None = None, reason: Reason | None = None) -> Iterator[None]:
    """Turn every fault of the store into an AuditError: the audit log cannot be `what` (written, read)."""
    try:
        yield
    except StorageError as error:
        _refuse_if_latched(error, guard, reason if reason is Reason.READ_BACK_FAILED else None)
        raise AuditError(f"the audit log cannot be {what}: {error}", hint=error.hint) from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        _refuse_if_latched(error, guard, reason)
        hint = "check that the disk is not full and that the data folder can be written, then try again"
        raise AuditError(f"the audit log cannot be {what}", hint=hint) from error


def _refuse_if_latched(error: Exception, guard: Guard | None, reason: Reason | None) -> None:
    if guard is None or reason is None:
        return
    latch = guard.note_fault(error, otherwise=reason)
    if latch is not None:
        raise latch.refusal() from error
