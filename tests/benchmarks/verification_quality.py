"""How well verification tells faithful statements from wrong ones, on notes and transcripts that nobody here wrote.

    python tests/benchmarks/verification_quality.py [tune|report]

Rules kept here:

* `tune` is the part that the rules were made on; only `report` is reported.
* Human notes hold things that nobody said (examination templates), so untouched statements are not all free of errors.
* An error is planted only in a statement that was supported before, by script, from a fixed seed; it counts as
  detected when the statement is flagged, for whatever reason.
* `detected` counts natural denials (`denies`, `no ...`, `has a ...`) as `negation`, and any other verb turned round
  (`is` to `is not`) as `verb`.
"""

from __future__ import annotations

import json
import os
import random  # noqa: TID251 (a fixed seed, so that the same errors are planted every time)
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clinic.domain import DraftStatement, Segment, Transcript
from clinic.verification import read_note, verify_statement
from clinic.verification.notes import claims_nothing, split_sentences
from clinic.verification.passages import Heard, hear
from clinic.verification.vocabulary import drug_names

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("CLINIC_TEST_DATA", ROOT.parent / "shared" / "data"))
MTS_TUNED, KAZI_TUNED = 600, 12
_LINE = re.compile(r"\s*([A-Za-z_0-9]+):\s*(.*)")
_ACI_LINE = re.compile(r"\[(\w+)\] (.*)")


@dataclass(frozen=True)
class Visit:
    """One transcript with the statements that a person wrote about it."""

    transcript: Transcript
    statements: list[DraftStatement]


def rows(name: str) -> list[dict[str, Any]]:
    """Read one JSON-lines file of the test material."""
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def aci(part: str) -> Iterator[Visit]:
    """ACI-BENCH: whole visits and whole notes."""
    for row in rows(f"aci-bench/dev/{'valid' if part == 'tune' else 'train'}.jsonl"):
        segments = [
            Segment(id=f"s{i}", speaker=who, text=text)
            for i, (who, text) in enumerate(_ACI_LINE.findall(row["dialogue"]))
        ]
        yield Visit(Transcript(segments=tuple(segments)), list(read_note(row["note"]).drafts))


def mts(part: str) -> Iterator[Visit]:
    """MTS-Dialog: short dialogues and one section each."""
    train = rows("mts-dialog/dev/train.jsonl")
    for row in train[:MTS_TUNED] if part == "tune" else train[MTS_TUNED:] + rows("mts-dialog/dev/valid.jsonl"):
        lines = [match.groups() for line in row["dialogue"].splitlines() if (match := _LINE.match(line))]
        segments = tuple(Segment(id=f"s{i}", speaker=who, text=text) for i, (who, text) in enumerate(lines))
        texts = [s for line in row["section_text"].splitlines() for s in split_sentences(line)]
        yield Visit(
            Transcript(segments=segments), [DraftStatement(section=row["section_header"], text=t) for t in texts]
        )


# --- planted errors

_DRUGS = tuple(
    """lisinopril metformin amlodipine metoprolol atorvastatin omeprazole gabapentin sertraline losartan warfarin
    prednisone amoxicillin ibuprofen furosemide albuterol levothyroxine tramadol citalopram""".split()  # noqa: SIM905
)
_KNOWN = {name for key, others in drug_names().items() for name in (key, *others)}
_DENIALS = (
    (r"\bdenies\b", "reports"), (r"\bdenied\b", "reported"), (r"\breports\b", "denies"), (r"^No\b ", "Positive for "),
    (r"\bhas no\b", "has"), (r"\bhas had no\b", "has had"), (r"\bdoes not have\b", "has"),
    (r"\bhas not had\b", "has had"), (r"\bno\b ", ""), (r"\bhas a\b", "does not have a"),
    (r"\bcomplains of\b", "denies"), (r"^(?:Positive|Significant) for", "Negative for"),
)  # fmt: skip
_VERBS = ((r"\bis\b(?! not)", "is not"), (r"\bhas been\b", "has not been"), (r"\bhad\b", "did not have"))


def _replaced(text: str, match: re.Match[str], new: str) -> str:
    return text[: match.start()] + new + text[match.end() :]


def number(text: str, rng: random.Random) -> str | None:
    """Change one number."""
    found = list(re.finditer(r"(?<![\w.])\d+(?:\.\d+)?(?![\w]*\d)", text))
    if not found:
        return None
    match = rng.choice(found)
    value = match[0]
    if "." in value:
        return _replaced(text, match, f"{float(value) + rng.choice([1.0, 2.0, -1.0]):.1f}")
    whole = int(value)
    return _replaced(
        text, match, str(rng.choice([whole * 2 + 1, whole + 3, whole + 10, max(1, whole - 2) + (whole <= 3)]))
    )


def side(text: str, rng: random.Random) -> str | None:
    """Turn left into right."""
    found = list(re.finditer(r"\b(left|right)\b(?!-hand)", text, re.IGNORECASE))
    if not found:
        return None
    match = rng.choice(found)
    return _replaced(text, match, {"left": "right", "right": "left"}[match[0].lower()])


def drug(text: str, rng: random.Random) -> str | None:
    """Name another drug."""
    found = [m for m in re.finditer(r"\b[A-Za-z]{4,}\b", text) if m[0].lower() in _KNOWN]
    return _replaced(text, rng.choice(found), rng.choice(_DRUGS).capitalize()) if found else None


def turned(text: str, pairs: tuple[tuple[str, str], ...]) -> str | None:
    """Turn the first match of `pairs` round."""
    changed = (re.sub(old, new, text, count=1, flags=re.IGNORECASE) for old, new in pairs)
    return next((t for t in changed if t != text), None)


PLANTS: dict[str, Callable[[str, random.Random], str | None]] = {
    "number": number,
    "side": side,
    "drug": drug,
    "negation": lambda text, _: turned(text, _DENIALS),
    "verb": lambda text, _: turned(text, _VERBS),
}


# --- measuring


@dataclass
class Tally:
    """What was counted for one set."""

    statements: int = 0
    flagged: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    planted: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    seconds: float = 0.0

    def summary(self) -> dict[str, Any]:
        """Return rates, rounded."""
        return {
            "statements": self.statements,
            "flagged": round(self.flagged / max(1, self.statements), 3),
            "codes": {code: round(n / max(1, self.statements), 4) for code, n in self.codes.most_common()},
            "planted": {kind: n for kind, (n, _) in self.planted.items()},
            "detected": {kind: round(hit / n, 3) for kind, (n, hit) in self.planted.items() if n},
            "ms_per_statement": round(1000 * self.seconds / max(1, self.statements), 2),
        }


def flagged(draft: DraftStatement, heard: Heard) -> tuple[str, ...]:
    """Return the codes against one statement."""
    return tuple(r.code for r in verify_statement(draft, heard, statement_id="n1").reasons)


def measure(visits: list[Visit]) -> dict[str, Any]:
    """Verify every statement as it is, then with each kind of error planted."""
    rng = random.Random(7)
    strangers = [d.text for v in visits for d in v.statements if len(d.text.split()) >= 4]
    tally = Tally()
    for visit in (v for v in visits if v.transcript.segments):
        before = time.process_time()
        heard = hear(visit.transcript)
        tally.seconds += time.process_time() - before
        for draft in visit.statements:
            _one(draft, heard, strangers, rng, tally)
    return tally.summary()


def _one(draft: DraftStatement, heard: Heard, strangers: list[str], rng: random.Random, tally: Tally) -> None:
    before = time.process_time()
    codes = flagged(draft, heard)
    tally.seconds += time.process_time() - before
    tally.statements += 1
    tally.flagged += bool(codes)
    tally.codes.update(set(codes))
    planted = {kind: plant(draft.text, rng) for kind, plant in PLANTS.items() if not codes}
    planted["invented"] = rng.choice(strangers) if rng.random() < 0.25 else None
    for kind, text in planted.items():
        if text and text != draft.text:
            hit = bool(flagged(DraftStatement(section=draft.section, text=text), heard))
            tally.planted[kind][0] += 1
            tally.planted[kind][1] += hit


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
    report = {
        "part": part,
        "mts-dialog": measure(list(mts(part))),
        "aci-bench": measure(list(aci(part))),
        "kazi-evidence": links(part),
    }
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "report"))
