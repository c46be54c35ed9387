"""FORMAT.md and the code say the same: DDL, layout and vectors (computed apart from the program)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import clinic.audit
from clinic.audit import tables
from clinic.audit.entry import entry_bytes
from clinic.audit.events import AuditOpened
from clinic.audit.log import AuditLog
from clinic.audit.verify import Problem
from clinic.domain import OPERATOR
from tests.unit.audit.audit_store import PSEUDONYM_KEY, SEED, Store

FORMAT = Path(clinic.audit.__file__).with_name("FORMAT.md").read_text(encoding="utf-8")
MIGRATION = Path(__file__).parents[3] / "migrations" / "versions" / "0001_records_and_audit_log.py"


def _blocks(language: str = "") -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", FORMAT, re.MULTILINE | re.DOTALL)
    return [content for name, content in blocks if name == language]


def test_the_ddl_is_the_documented_one() -> None:
    """The documented statements are those that are executed."""
    both = (tables.ENTRIES_DDL, tables.CHECKPOINTS_DDL)
    assert _blocks("sql") == ["".join(f"{statement};\n" for statement in ddl) for ddl in both]


def test_the_migration_holds_the_same_ddl() -> None:
    """The copy in the first migration does not drift; `sealed` came with a later one (tests/migrations compare all)."""
    migration = MIGRATION.read_text(encoding="utf-8")
    first = tables.CREATE_TABLE.replace(",\n  sealed BLOB", "")
    assert all(statement in migration for statement in (first, *tables.ENTRY_TRIGGERS))


def test_every_problem_is_documented() -> None:
    """A report never names a problem that the format does not explain."""
    assert all(f"`{problem.value}`" in FORMAT for problem in Problem)


def test_the_vectors_hold(store: Store) -> None:
    """Entry bytes, hash, public key and checkpoint are the documented ones."""
    vectors, checkpoint = _blocks()[-2:]
    log = AuditLog(
        store.begin,
        pseudonym_key=PSEUDONYM_KEY,
        signing_seed=SEED,
        clock=lambda: datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    )
    entry = log.append(AuditOpened(format_version=1), actor=OPERATOR)
    found = dict(re.findall(r"^(entry|hash|vkey) +((?:\S+\s+)+?)(?=hash|vkey|\Z)", vectors, re.MULTILINE))
    assert entry_bytes(entry.raw()).hex() == "".join(found["entry"].split())
    assert entry.hash.hex() == found["hash"].strip()
    assert log.vkey == found["vkey"].strip()
    assert log.checkpoint() == checkpoint
