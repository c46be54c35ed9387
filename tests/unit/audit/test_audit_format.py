"""FORMAT.md and the code say the same: DDL, layout and vectors (computed apart from the program)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

import clinic.audit
from clinic.audit import tables
from clinic.audit.entry import RawEntry, entry_bytes, entry_hash
from clinic.audit.events import AuditOpened
from clinic.audit.export_file import line_of, raw_of
from clinic.audit.log import AuditLog
from clinic.audit.tree import CompactTree
from clinic.audit.verify import Problem, Start, verify_log
from clinic.domain import OPERATOR
from tests.unit.audit.audit_store import PSEUDONYM_KEY, SEED, Store
from tests.unit.audit.export_parts import SCRIPT

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
    vectors, checkpoint, _ = _blocks()[-3:]
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


def test_the_vector_of_version_2_runs_through_every_reader() -> None:
    """Bytes and hash are the documented ones for the log's verification, the export's and the auditor's script."""
    found = dict(re.findall(r"^(entry|hash) +((?:\S+\s+)+?)(?=hash|\Z)", _blocks()[-1], re.MULTILINE))
    raw = RawEntry(
        seq=2,
        at=b"2026-01-02T03:04:06.678Z",
        actor=b"operator",
        role=b"clinician",
        event=b"patient.viewed",
        body=b'{"patient":"' + b"ab" * 16 + b'"}',
        prev_hash=bytes.fromhex("70cb813423add053656e2f8f430ac710b2f34bd90dbf665434d13720a10b6e1c"),
        hash=bytes.fromhex(found["hash"].strip()),
        sealed=bytes(range(33)),
    )
    assert entry_bytes(raw).hex() == "".join(found["entry"].split())
    before = CompactTree(1, (raw.prev_hash,))
    assert verify_log([raw], start=Start(seq=2, prev_hash=raw.prev_hash, peaks=before.peaks)).ok
    assert raw_of(line_of(raw)) == raw
    assert SCRIPT["read_entry"](line_of(raw), 2, raw.prev_hash) == raw.hash


@pytest.mark.parametrize(("length", "holds"), [(32, False), (33, True), (65536, True), (65537, False)])
def test_the_length_of_a_sealed_part_is_bounded_in_every_reader(length: int, holds: bool) -> None:  # noqa: FBT001
    """Rightly hashed or not: a sealed part that is no blob makes the entry malformed."""
    texts = (b"2026-01-02T03:04:06.678Z", b"operator", b"clinician", b"key.sealed", b"{}")
    raw = RawEntry(1, *texts, bytes(32), b"", bytes(length))
    raw = raw._replace(hash=entry_hash(raw))
    assert verify_log([raw]).ok is holds
    refused = None
    try:
        SCRIPT["read_entry"](line_of(raw), 1, bytes(32))
    except SCRIPT["Refused"] as error:
        refused = error.args[0]
    assert refused == (None if holds else "malformed")
