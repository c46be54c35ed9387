"""What an audit entry says of a patient: sealed under the patient's own key, beside the plain part.

Rules kept here:

* The schema is closed, as that of the events: `PatientLink` and `DecisionFacts`, and no free text in either.
* The same detail always has the same bytes, and only those bytes are read back.
* A sealed part belongs to one entry of one log: log, number, event, patient and key go into its associated data.
* The log verifies without it.  When the patient's key is destroyed, what it says is gone, and the log still verifies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from clinic.audit.events import MAX_COUNT, MAX_SET, is_id
from clinic.crypto.aead import frame, key_id_bytes
from clinic.domain import canonical_json
from clinic.errors import AuditError

Fact = bool | int | str | tuple[str, ...]

_VERSION: Final = b"\x01"
_PURPOSE: Final = b"clinic.audit-detail"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_MAX_FACTS: Final = 128


class Detail:
    """What is sealed.  Only its subclasses are details."""

    __slots__ = ()
    kind: ClassVar[str]

    def values(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        raise NotImplementedError

    def to_canonical(self) -> bytes:
        """Return the one form in which this detail is sealed."""
        return canonical_json({"kind": self.kind, **self.values()})


@dataclass(frozen=True, slots=True)
class PatientLink(Detail):
    """Whom the entry is about: the way back from the pseudonym, for as long as the patient's key exists."""

    kind: ClassVar[str] = "patient.link"
    patient_id: str

    def __post_init__(self) -> None:
        """Refuse anything but an identifier."""
        if not is_id(self.patient_id):
            raise _invalid("the patient's id is not an identifier")

    def values(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {"patient_id": self.patient_id}


@dataclass(frozen=True, slots=True)
class DecisionFacts(Detail):
    """The facts on which a decision of the policy rested, so that it can be decided again.

    `facts` are pairs in the order of their names; a value is a truth value, a count, an identifier, or a set of
    identifiers (a sorted tuple).  `of` makes one from a mapping.
    """

    kind: ClassVar[str] = "decision.facts"
    facts: tuple[tuple[str, Fact], ...]

    def __post_init__(self) -> None:
        """Refuse names, values and orders that no writer uses."""
        names = [name for name, _ in self.facts]
        if len(names) > _MAX_FACTS or names != sorted(set(names)):
            raise _invalid("the facts are too many, out of order, or named twice")
        for name, value in self.facts:
            if not _NAME.fullmatch(name) or not _is_fact(value):
                raise _invalid(f"fact number {names.index(name) + 1} does not hold what it must")

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> DecisionFacts:
        """Take facts by name; lists and sets of identifiers become sorted tuples."""
        return cls(facts=tuple(sorted((name, _frozen(value)) for name, value in facts.items())))

    def as_dict(self) -> dict[str, Fact]:
        """Return the facts by name."""
        return dict(self.facts)

    def values(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {"facts": self.as_dict()}


def detail_from_canonical(data: bytes) -> Detail:
    """Read a detail back; anything but the exact bytes that `to_canonical` writes is refused.

    Raises:
        AuditError: `detail_invalid`, without what it holds.
    """
    try:
        values: Any = json.loads(data)
        parsed = _PARSERS[values.pop("kind")](values)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        parsed = None
    except AuditError:
        parsed = None
    if parsed is None or parsed.to_canonical() != data:
        raise _invalid("the sealed part of an audit entry holds an unknown shape")
    return parsed


def associated_data(*, origin: str, seq: int, event: str, patient_id: str, key_id: int) -> bytes:
    """Return what binds a sealed part to its entry (`FORMAT.md`, section 3)."""
    if not patient_id:
        raise ValueError("a sealed part belongs to a patient")
    return frame(
        _VERSION,
        _PURPOSE,
        origin.encode(),
        seq.to_bytes(8, "big"),
        event.encode(),
        patient_id.encode(),
        key_id_bytes(key_id),
    )


def _link(values: dict[str, Any]) -> Detail:
    return PatientLink(**values)


def _decision(values: dict[str, Any]) -> Detail:
    return DecisionFacts.of(values["facts"])


_PARSERS: Final = {PatientLink.kind: _link, DecisionFacts.kind: _decision}


def _frozen(value: Any) -> Any:
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(sorted(set(value)))
    return value


def _is_fact(value: object) -> bool:
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return 0 <= value <= MAX_COUNT
    if isinstance(value, tuple):
        whole = len(value) <= MAX_SET and all(is_id(item) for item in value)
        return whole and list(value) == sorted(set(value))
    return is_id(value)


def _invalid(message: str) -> AuditError:
    hint = "the sealed part of an audit entry holds identifiers, counts and truth values only"
    return AuditError(message, code="detail_invalid", hint=hint)
