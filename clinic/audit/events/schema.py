"""What a field of an event may hold, and what all events share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar, Final

from clinic.domain import Action, Consent, EncounterKind, GlassReason, Role, canonical_json
from clinic.errors import AuditError

MAX_COUNT: Final = 2**53 - 1  # the largest integer that every JSON reader keeps exactly
MAX_SET: Final = 256

Check = Callable[[object], bool]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a field may hold: `check` tells of a value, `form` is how it is written in JSON (as a pattern)."""

    check: Check
    form: str


def _matches(pattern: str) -> Kind:
    expression = re.compile(pattern, re.ASCII)
    return Kind(lambda value: isinstance(value, str) and expression.fullmatch(value) is not None, f'"{pattern}"')


def _one_of(choices: type[StrEnum]) -> Kind:
    allowed = frozenset(choice.value for choice in choices)
    form = "|".join(re.escape(value) for value in sorted(allowed))
    return Kind(lambda value: isinstance(value, str) and str(value) in allowed, f'"(?:{form})"')


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


_ID: Final = _matches(r"[A-Za-z0-9_.:-]{1,128}")
is_id: Final = _ID.check


def _is_id_set(value: object) -> bool:
    return isinstance(value, tuple) and len(value) <= MAX_SET and all(is_id(item) for item in value)


Id = Annotated[str, _ID]
Code = Annotated[str, _matches(r"[a-z][a-z0-9_-]{0,63}")]
Digest = Annotated[str, _matches(r"[0-9a-f]{64}")]
Pseudonym = Annotated[str, _matches(r"[0-9a-f]{32}")]
Count = Annotated[int, Kind(_is_count, r"(?:0|[1-9][0-9]{0,14})")]  # larger ones are left to `from_canonical`
Ids = Annotated[tuple[str, ...], Kind(_is_id_set, rf"\[({_ID.form}(?:,{_ID.form}){{0,{MAX_SET - 1}}})?\]")]
"""A set of identifiers, kept as a sorted tuple without repetitions."""
RoleName = Annotated[str, _one_of(Role)]
ActionName = Annotated[str, _one_of(Action)]
ConsentName = Annotated[str, _one_of(Consent)]
KindName = Annotated[str, _one_of(EncounterKind)]
GlassReasonName = Annotated[str, _one_of(GlassReason)]


class AuditEvent:
    """What happened.  Only its subclasses are events."""

    __slots__ = ()
    name: ClassVar[str]

    def __post_init__(self) -> None:
        """Refuse any value that the field's type does not allow."""
        for field, kind in FIELDS[type(self)]:
            value = getattr(self, field)
            if not kind.check(value):
                raise AuditError(
                    f"audit event `{self.name}`: field `{field}` does not hold what it must",
                    code="event_invalid",
                    hint="audit events hold identifiers, codes, digests and counts only",
                )
            if isinstance(value, tuple):
                object.__setattr__(self, field, tuple(sorted(set(value))))

    def to_canonical(self) -> bytes:
        """Return the one form in which this event is hashed and stored."""
        return canonical_json({field: getattr(self, field) for field, _ in FIELDS[type(self)]})


FIELDS: Final[dict[type[AuditEvent], tuple[tuple[str, Kind], ...]]] = {}
"""The fields of each event, filled by `registry.py`: a class that is not there cannot even be instantiated."""
