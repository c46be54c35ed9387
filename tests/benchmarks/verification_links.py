"""How often the evidence of a statement is the sentence that it was written from (Kazi et al.).

    python tests/benchmarks/verification_links.py [tune|report]

`tune` is the part that the rules were made on; only `report` is reported.  Planted errors: `clinic eval notes`.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from clinic.domain import DraftStatement, Segment, Transcript
from clinic.verification import verify_statement
from clinic.verification.notes import claims_nothing
from clinic.verification.passages import hear

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("CLINIC_TEST_DATA", ROOT.parent / "shared" / "data"))
KAZI_TUNED = 12


def rows(name: str) -> list[dict[str, Any]]:
    """Read one JSON-lines file of the test material."""
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def links(part: str) -> dict[str, Any]:
    """Kazi et al.: the one sentence of the interview that each note sentence was written from."""
    sessions = rows("kazi-evidence/dev/sessions.jsonl")
    counts: Counter[str] = Counter()
    for session in sessions[:KAZI_TUNED] if part == "tune" else sessions[2 * KAZI_TUNED :]:
        segments = (Segment(id=str(s["i"]), speaker=str(s["speaker"]), text=s["text"]) for s in session["sentences"])
        heard = hear(Transcript(segments=tuple(segments)))
        for note in (n for notes in session["notes"].values() for n in notes if not claims_nothing(n["note_text"])):
            statement = verify_statement(DraftStatement(section="", text=note["note_text"]), heard, statement_id="n1")
            found = [e.segment for e in statement.evidence]
            source = str(note["source_sentence"])
            counts.update(
                statements=1, first=found[:1] == [source], any=source in found, evidence=len(found),
                flagged=bool(statement.reasons),
            )  # fmt: skip
    rates = {
        key: round(counts[key] / max(1, counts["statements"]), 3) for key in ("first", "any", "evidence", "flagged")
    }
    return {"statements": counts["statements"], **rates}


def main(part: str) -> int:
    """Measure one part and print it as JSON."""
    if not DATA.is_dir():
        sys.stderr.write(f"skipped: test material is not at {DATA} (set CLINIC_TEST_DATA)\n")
        return 0
    sys.stdout.write(json.dumps({"part": part, "kazi-evidence": links(part)}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "report"))
