"""Measuring: what verification finds of what was planted, with baselines from the same run.

Rules kept here:

* An error is planted only in a statement that nothing was held against; it is caught when it is flagged, whatever for.
* A baseline flags as many of the untouched statements as verification does, so that their catches can be compared.
* A deleted sentence counts when it alone carried something clinical; it is found when a new omission appears.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinic.domain import DraftStatement, Statement
from clinic.evaluation.material import Visit
from clinic.evaluation.planting import PLANTS, Chooser
from clinic.verification import verify_statement
from clinic.verification.case import Elsewhere
from clinic.verification.checks import CHECKS, Check
from clinic.verification.notes import claims_nothing
from clinic.verification.omissions import omissions
from clinic.verification.passages import hear, read
from clinic.verification.vocabulary import weight

_INSERTED_EVERY = 4
_DELETED_EVERY = 4
_LEAST_WORDS = 4
_Z = 1.959964


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of Wilson for `hits` of `total`."""
    if total == 0:
        return 0.0, 1.0
    share, z2 = hits / total, _Z * _Z
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total)) / (1 + z2 / total)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass
class Tally:
    """What was counted."""

    visits: int = 0
    statements: int = 0
    flagged: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    planted: Counter[str] = field(default_factory=Counter)
    caught: Counter[str] = field(default_factory=Counter)
    untouched_overlap: list[float] = field(default_factory=list)
    planted_overlap: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    untouched_likeness: list[float] = field(default_factory=list)
    planted_likeness: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu_s: float = 0.0

    def row(self, kind: str) -> dict[str, Any]:
        """Return one kind of error: planted, caught, missed, rate with interval, and the baseline's rate."""
        total, hits = self.planted[kind], self.caught[kind]
        return {
            "planted": total,
            "caught": hits,
            "missed": total - hits,
            "rate": round(hits / total, 4) if total else None,
            "interval": [round(x, 4) for x in wilson(hits, total)],
            "lexical_overlap": self._below(self.planted_overlap[kind], self.untouched_overlap),
            "embedding_similarity": self._below(self.planted_likeness[kind], self.untouched_likeness),
        }

    def _below(self, planted: list[float], untouched: list[float]) -> float | None:
        """The share of `planted` under the score under which as many untouched statements lie as verification flags."""
        if not planted or not untouched:
            return None
        threshold = sorted(untouched)[min(self.flagged, len(untouched) - 1)]
        return round(sum(score < threshold for score in planted) / len(planted), 4)

    def result(self) -> dict[str, Any]:
        """Return everything, in the shape of `clinic eval notes --json`."""
        return {
            "visits": self.visits,
            "statements": self.statements,
            "false_flags": {
                "flagged": self.flagged,
                "rate": round(self.flagged / self.statements, 4) if self.statements else None,
                "interval": [round(x, 4) for x in wilson(self.flagged, self.statements)],
                "reasons": dict(self.reasons.most_common()),
            },
            "kinds": {kind: self.row(kind) for kind in KINDS},
            "cpu_s_per_visit": round(self.cpu_s / self.visits, 4) if self.visits else None,
        }


KINDS = (*PLANTS, "inserted", "deleted")
"""Every kind of planted error, in the order in which they are shown."""


Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to rows of length 1."""


def measure(
    visits: Sequence[Visit], *, seed: int = 7, checks: Iterable[Check] = CHECKS, embed: Embed | None = None
) -> Tally:
    """Verify every statement as it is, then with each kind of error planted; `embed` gives a second baseline."""
    tally, enabled = Tally(), tuple(checks)
    for number, visit in enumerate(visits):
        strangers = _strangers(visits, number)
        _Measured(visit, strangers, seed, enabled, tally, embed).run()
    return tally


def _strangers(visits: Sequence[Visit], number: int) -> list[str]:
    """Sentences from the next other patients' notes; what stands in several is a template."""
    everywhere = Counter(text for v in visits for text in {d.text.lower() for d in v.statements})
    others = [visits[(number + step) % len(visits)] for step in range(1, min(8, len(visits)))]
    texts = [d.text for v in others for d in v.statements if len(d.text.split()) >= _LEAST_WORDS]
    return [text for text in texts if everywhere[text.lower()] == 1]


class _Measured:
    """One visit."""

    def __init__(  # noqa: PLR0917 (one call, above)
        self,
        visit: Visit,
        strangers: list[str],
        seed: int,
        checks: tuple[Check, ...],
        tally: Tally,
        embed: Embed | None = None,
    ) -> None:
        self.embed = embed
        self.visit, self.strangers, self.seed, self.checks, self.tally = visit, strangers, seed, checks, tally
        self.note = Elsewhere(visit.statements)
        started = time.process_time()
        self.heard = hear(visit.transcript)
        self.statements = [self._verified(draft, at) for at, draft in enumerate(visit.statements)]
        self.before = omissions(self.heard, self.statements)
        tally.cpu_s += time.process_time() - started
        self.texts: list[tuple[str | None, str]] = []  # what the embeddings are to compare, with its kind
        self.said = frozenset(key for p in self.heard.passages for key in p.keys)

    def run(self) -> None:
        tally = self.tally
        tally.visits += 1
        for at, (draft, statement) in enumerate(zip(self.visit.statements, self.statements, strict=True)):
            tally.statements += 1
            tally.flagged += bool(statement.reasons)
            tally.reasons.update({r.code for r in statement.reasons})
            tally.untouched_overlap.append(self._overlap(draft.text))
            self.texts.append((None, draft.text))
            if not statement.reasons:
                self._plant(draft, at)
            self._insert(draft, at)
            self._delete(at)
        self._compare()

    def _verified(self, draft: DraftStatement, at: int) -> Statement:
        """Verify a statement in the place of number `at` of its note."""
        rest = self.note.without(at)
        return verify_statement(draft, self.heard, statement_id="n1", rest=rest, checks=self.checks)

    def _plant(self, draft: DraftStatement, at: int) -> None:
        for kind, plant in PLANTS.items():
            text = plant(draft.text, Chooser(self.seed, self.visit.name, at, kind))
            if text and text.lower() != draft.text.lower():
                self._count(kind, draft.section, text, at)

    def _insert(self, draft: DraftStatement, at: int) -> None:
        choose = Chooser(self.seed, self.visit.name, at, "inserted")
        if self.strangers and choose.below(_INSERTED_EVERY) == 0:
            self._count("inserted", draft.section, choose.one_of(self.strangers), at)

    def _count(self, kind: str, section: str, text: str, at: int) -> None:
        self.tally.planted[kind] += 1
        self.tally.caught[kind] += bool(self._verified(DraftStatement(section=section, text=text), at).reasons)
        self.tally.planted_overlap[kind].append(self._overlap(text))
        self.texts.append((kind, text))

    def _delete(self, at: int) -> None:
        choose = Chooser(self.seed, self.visit.name, at, "deleted")
        if choose.below(_DELETED_EVERY) or not self._is_salient(at):
            return
        left = self.statements[:at] + self.statements[at + 1 :]
        self.tally.planted["deleted"] += 1
        self.tally.caught["deleted"] += bool(set(omissions(self.heard, left)) - set(self.before))

    def _is_salient(self, at: int) -> bool:
        """Whether a supported statement alone in its note names a symptom, condition or drug."""
        statement = self.statements[at]
        if statement.reasons or claims_nothing(statement.text):
            return False
        telling = {k for t in read(statement.text).terms if t.clinical or t.kind == "drug" for k in t.keys}
        if not telling & self.said:
            return False
        others = self.statements[:at] + self.statements[at + 1 :]
        rest = {k for s in others for t in read(s.text).terms for k in t.keys | t.parts}
        return bool(telling & self.said - rest)

    def _compare(self) -> None:
        """The other baseline: how alike each text and the segment most like it are; nothing without a model."""
        if self.embed is None:
            return
        said = self.embed([s.text for s in self.visit.transcript.segments])
        best = (self.embed([text for _, text in self.texts]) @ said.T).max(axis=1)
        for (kind, _), likeness in zip(self.texts, best, strict=True):
            scores = self.tally.untouched_likeness if kind is None else self.tally.planted_likeness[kind]
            scores.append(float(likeness))

    def _overlap(self, text: str) -> float:
        """The baseline: the share of a statement's telling words that were said anywhere."""
        telling = [t for t in read(text).terms if weight(t) or t.kind == "number"]
        return sum(bool(t.keys & self.said) for t in telling) / len(telling) if telling else 1.0


def summary(tally: Tally) -> list[tuple[str, ...]]:
    """Return the rows of the table: kind, planted, caught, missed, rate, interval, both baselines."""
    rows: list[tuple[str, ...]] = []
    for kind in KINDS:
        row = tally.row(kind)
        low, high = row["interval"]
        rows.append((
            kind, str(row["planted"]), str(row["caught"]), str(row["missed"]), _percent(row["rate"]),
            f"{100 * low:.0f}-{100 * high:.0f}", _percent(row["lexical_overlap"]),
            _percent(row["embedding_similarity"]),
        ))  # fmt: skip
    return rows


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
