"""What a monitoring system may know of a running box: counts, gauges and durations, as Prometheus reads them.

Rules kept here:

* Names, labels and their values are constants of this file: no id, no name, no word of anybody has a place to go.
* Counters and histograms begin with the first scrape of a process; they are read off the audit log as it grows.
* What cannot be found out is left out, never guessed; one that fails does not hide the next.
"""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from clinic.audit.entry import Entry
from clinic.audit.events import (
    AuditEvent,
    BackupCreated,
    BackupDrilled,
    BackupFailed,
    GenerationAuthorized,
    GenerationCompleted,
    GenerationDenied,
    GenerationFailed,
    GenerationInterrupted,
    NoteDrafted,
    RecordingCompleted,
    TranscriptionCompleted,
    TranscriptionFailed,
    WitnessAdded,
    from_canonical,
)
from clinic.audit.log import AuditLog
from clinic.backup.history import history
from clinic.config import Config
from clinic.crypto.durable import read_private
from clinic.crypto.local_ca import expires_in
from clinic.domain import Clock, utc_now
from clinic.errors import ClinicError
from clinic.generation.launcher import is_answering
from clinic.records.records import Records

BOUNDS_S: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Upper bounds of the histograms, seconds: from one sentence to an hour's recording on a slow box."""

_ENDS: Final[dict[type[AuditEvent], tuple[str, str]]] = {
    TranscriptionCompleted: ("transcription", "completed"),
    TranscriptionFailed: ("transcription", "failed"),
    GenerationCompleted: ("generation", "completed"),
    GenerationFailed: ("generation", "failed"),
    GenerationDenied: ("generation", "denied"),
    GenerationInterrupted: ("generation", "interrupted"),
    BackupCreated: ("backup", "completed"),
    BackupFailed: ("backup", "failed"),
    BackupDrilled: ("drill", "completed"),
}
_STAGES: Final = ("transcribe", "generate", "verify")
_BEGINS: Final[tuple[type[AuditEvent], ...]] = (RecordingCompleted, GenerationAuthorized, NoteDrafted)
_WANTED: Final = tuple(event.name for event in (*_ENDS.keys(), *_BEGINS))
_MOST_OPEN: Final = 1000
_LONGEST_FILE: Final = 4096
_MEMORY: Final = Path("/proc/meminfo")

LEAST_TOKEN: Final = 32
"""Characters of the token: 128 bits in hexadecimal digits."""

Value = tuple[str, dict[str, str], float]
"""What is added to the family's name, labels, value."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name, what it is, its kind (`gauge`, `counter`, `histogram`), its values."""

    name: str
    help: str
    kind: str
    values: tuple[Value, ...]

    def lines(self) -> Iterator[str]:
        """Yield the lines of the text format, version 0.0.4."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        for suffix, labels, value in self.values:
            shown = ",".join(f'{name}="{text}"' for name, text in labels.items())
            yield f"{self.name}{suffix}{'{' + shown + '}' if shown else ''} {value!r}"


def exposition(families: Iterable[Family]) -> str:
    """Return the text that Prometheus scrapes."""
    return "".join(f"{line}\n" for family in families for line in family.lines())


@dataclass(slots=True)
class Histogram:
    """How many took at most so many seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        place = next((i for i, bound in enumerate(BOUNDS_S) if seconds <= bound), len(BOUNDS_S))
        self.counts[place] += 1
        self.total_s += seconds

    def values(self, labels: dict[str, str]) -> Iterator[Value]:
        """Yield the cumulated counts, their sum and number."""
        below = 0
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self.counts, strict=True):
            below += count
            yield "_bucket", labels | {"le": bound}, float(below)
        yield "_sum", labels, self.total_s
        yield "_count", labels, float(below)


class Watch:
    """Follows the audit log from where it stands when this is made: how jobs end, and how long their stages take."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._next = audit.size() + 1
        self._lock = threading.Lock()
        self._ends = Counter[tuple[str, str]](dict.fromkeys(_ENDS.values(), 0))
        self._stages = {stage: Histogram() for stage in _STAGES}
        self._open: dict[tuple[str, str], datetime] = {}
        self._encounter: dict[str, str] = {}

    def families(self) -> tuple[Family, ...]:
        """Read what was added since, and return the counts.

        Raises:
            AuditError: the log cannot be read.
        """
        with self._lock:
            for entry in self._audit.named(*_WANTED, first=self._next):
                self._next = entry.seq + 1
                self._take(from_canonical(entry.event, entry.body), entry)
            ends = tuple(("", {"kind": kind, "end": end}, float(n)) for (kind, end), n in self._ends.items())
            times = tuple(v for stage, h in self._stages.items() for v in h.values({"stage": stage}))
        return (
            Family("clinic_jobs_total", "Steps of jobs since the first scrape, by kind and end.", "counter", ends),
            Family(
                "clinic_stage_seconds", "Seconds from the entry that begins a stage to its end.", "histogram", times
            ),
        )

    def _take(self, event: AuditEvent, entry: Entry) -> None:
        at = datetime.fromisoformat(entry.at)
        if (end := _ENDS.get(type(event))) is not None:
            self._ends[end] += 1
        match event:
            case RecordingCompleted():
                self._begin("transcribe", event.encounter, at)
            case TranscriptionCompleted() | TranscriptionFailed():
                self._end("transcribe", event.encounter, at)
            case GenerationAuthorized():
                self._begin("generate", event.generation, at)
                self._encounter[event.generation] = event.encounter
            case GenerationCompleted():
                self._end("generate", event.generation, at)
                if (encounter := self._encounter.pop(event.generation, None)) is not None:
                    self._begin("verify", encounter, at)
            case GenerationFailed() | GenerationInterrupted():
                self._end("generate", event.generation, at)
                self._encounter.pop(event.generation, None)
            case NoteDrafted():
                self._end("verify", event.encounter, at)
            case _:
                pass

    def _begin(self, stage: str, what: str, at: datetime) -> None:
        self._open[stage, what] = at
        while len(self._open) > _MOST_OPEN:  # what was begun and never ended is forgotten, the oldest first
            del self._open[next(iter(self._open))]
        while len(self._encounter) > _MOST_OPEN:
            del self._encounter[next(iter(self._encounter))]

    def _end(self, stage: str, what: str, at: datetime) -> None:
        begun = self._open.pop((stage, what), None)
        if begun is not None and at >= begun:  # a clock that was set back measures nothing
            self._stages[stage].observe((at - begun).total_seconds())


def gauges(config: Config, records: Records, queued: Callable[[], int], *, clock: Clock = utc_now) -> list[Family]:
    """Return how the box is now; what cannot be found out is not among them."""
    asked: list[tuple[str, str, Callable[[], float | None]]] = [
        ("clinic_jobs_queued", "Encounters that wait for their job.", queued),
        ("clinic_audit_entries", "Entries of the audit log.", records.audit.size),
        ("clinic_audit_latched", "1 while everything is stopped because of the log.", lambda: _latched(records)),
        ("clinic_audit_copy_behind", "1 while the second copy is behind.", lambda: records.audit.is_copy_behind),
        ("clinic_model_server_up", "1 if the model server answers.", lambda: is_answering(config.model_socket)),
        ("clinic_disk_free_bytes", "Free on the data folder's disk.", lambda: shutil.disk_usage(config.home).free),
        ("clinic_disk_size_bytes", "Size of that disk.", lambda: shutil.disk_usage(config.home).total),
        ("clinic_memory_available_bytes", "Memory that can be had without swapping.", memory_available),
        ("clinic_backup_age_seconds", "Since the last backup that went well.", lambda: _backup_age(records, clock)),
        ("clinic_backup_drill_age_seconds", "Since the last drill.", lambda: _drill_age(records, clock)),
        ("clinic_backup_failures", "Failures since that backup.", lambda: len(history(records.audit).failures)),
        ("clinic_witness_age_seconds", "Since a witness gave a checkpoint back.", lambda: _witness_age(records, clock)),
        ("clinic_certificate_expires_seconds", "Until the server certificate ends.", lambda: _certificate(config)),
    ]
    found = []
    for name, words, ask in asked:
        value = None
        with suppress(ClinicError, OSError, ValueError):
            value = ask()
        if value is not None:
            found.append(Family(name, words, "gauge", (("", {}, float(value)),)))
    return found


def token_of(config: Config) -> str | None:
    """Return the token that a scrape must show, or None if there is none, or none that may be used."""
    try:
        text = read_private(config.metrics_token_file, max_bytes=_LONGEST_FILE).decode("ascii").strip()
    except (ClinicError, OSError, UnicodeDecodeError):
        return None
    return text if len(text) >= LEAST_TOKEN else None


def memory_available(table: Path = _MEMORY) -> float | None:
    """Return the bytes of memory that the kernel says can be had, or None if it does not say."""
    for line in table.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024
    return None


def witness_age(audit: AuditLog, *, clock: Clock = utc_now) -> timedelta | None:
    """Return how long ago a witness gave a checkpoint back, or None if none ever did."""
    entry = audit.latest(WitnessAdded.name)
    return None if entry is None else clock() - datetime.fromisoformat(entry.at)


def _latched(records: Records) -> bool:
    return records.guard.current() is not None


def _backup_age(records: Records, clock: Clock) -> float | None:
    last = history(records.audit).last
    return None if last is None else (clock() - last.at).total_seconds()


def _drill_age(records: Records, clock: Clock) -> float | None:
    drill = history(records.audit).drill
    return None if drill is None else (clock() - drill.at).total_seconds()


def _witness_age(records: Records, clock: Clock) -> float | None:
    age = witness_age(records.audit, clock=clock)
    return None if age is None else age.total_seconds()


def _certificate(config: Config) -> float:
    return expires_in((config.tls_dir / "server.pem").read_bytes()).total_seconds()
