"""What a sweep finds in a restored database because a patient was forgotten on purpose, told from what is wrong.

Rules kept here:

* Excused is only what does not open for want of the forgotten patient's key: their data, and what is theirs by the
  patient's id in its own row.  A row that is missing, changed in the clear or not in the log stays a finding.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from clinic.records.sweep import Finding

_THEIRS: Final = (
    "SELECT id FROM encounters WHERE patient_id = ?1 UNION ALL SELECT id FROM recordings WHERE patient_id = ?1 "
    "UNION ALL SELECT id FROM generations WHERE patient_id = ?1"
)
_OF_AN_ANSWER: Final = "generation_end"  # its digest is read from the sealed answer


def excuse(
    findings: Sequence[Finding], database: Path, patients: Sequence[str], pseudonym: Callable[[str], str]
) -> tuple[Finding, ...]:
    """Return the findings without those that forgetting these patients explains."""
    theirs = set(map(pseudonym, patients))
    if findings and patients:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            for patient in patients:
                theirs.update(row[0] for row in connection.execute(_THEIRS, (patient,)))
    return tuple(f for f in findings if f.id not in theirs or not _for_want_of_a_key(f))


def _for_want_of_a_key(finding: Finding) -> bool:
    return finding.problem == "unreadable" or finding.kind == _OF_AN_ANSWER
