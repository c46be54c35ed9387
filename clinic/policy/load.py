"""Policy sets: read from a directory, checked, and known by their hash.

Rules kept here:

* A set is loaded whole or not at all: schema, syntax, strict validation, ids, messages and obligations are all checked.
* An empty set is refused.  So are templates (`?principal`): every policy must be readable as it stands.
* Every policy has a unique `@id` and a `@message`; a permit may carry an `@obligation`, a forbid may not.
* A set is the files of the folder and the one file of its profile (`profiles/strict.cedar`).
* The hash covers the schema and every policy file by name, line endings and trailing white space set aside.
* Before a set is handed out it is asked a question without facts.  Any answer but a refusal means that the engine did
  not apply the schema, and then a policy that errs would be skipped in silence.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cedarpy

from clinic.errors import PolicyError
from clinic.policy.decision import REASONS
from clinic.policy.obligations import split_annotation

SCHEMA_FILE = "schema.cedarschema"
PROFILES_FOLDER = "profiles"
DEFAULT_PROFILE = "strict"
_ID = re.compile(r"[a-z][a-z0-9-]{0,62}")
GLASS = "break_glass"
"""The fact that broken glass gives the policies."""
_ANNOTATIONS = frozenset({"id", "message", "obligation"})


@dataclass(frozen=True, slots=True)
class PolicyInfo:
    """What is known about one policy without evaluating it."""

    id: str
    effect: str
    message: str
    obligations: tuple[str, ...]
    file: str
    names_glass: bool = False
    """Whether it asks if the glass is broken: a forbid that does is one that breaking it may lift."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What Cedar said, word for word: `decision` is Allow, Deny or NoDecision."""

    decision: str
    policies: tuple[str, ...]
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PolicySet:
    """A checked policy set.  Made by `load` or `from_sources`.

    Attributes:
        sha256: the hash that names this set in decisions and in the audit log.
        policies: id -> what is known about it.
        profile: which of the shipped profiles it is.
    """

    sha256: str
    policies: Mapping[str, PolicyInfo]
    profile: str
    _handle: Any = field(repr=False)
    _schema: Any = field(repr=False)
    _seal: str = field(repr=False)

    @classmethod
    def load(cls, directory: Path, profile: str = DEFAULT_PROFILE) -> PolicySet:
        """Read `schema.cedarschema`, every `*.cedar` file of `directory`, and its profile.

        Raises:
            PolicyError: `policy_invalid`, naming the file and the problem.
        """
        schema = _read(directory / SCHEMA_FILE)
        sources = [(name, _read(directory / name)) for name in policy_files(directory, profile)]
        return cls.from_sources(schema, sources, profile=profile)

    @classmethod
    def from_sources(
        cls, schema: str, sources: Sequence[tuple[str, str]], *, profile: str = DEFAULT_PROFILE
    ) -> PolicySet:
        """Check a set that is given as text: the schema, and (file name, text) of each policy file.

        Raises:
            PolicyError: `policy_invalid`, naming the file and the problem.
        """
        parsed_schema = _parse_schema(schema)
        policies: dict[str, PolicyInfo] = {}
        for name, text in sources:
            for info in _inspect(name, text, parsed_schema):
                if info.id in policies:
                    raise _invalid(name, f"@id `{info.id}` is already used in `{policies[info.id].file}`")
                policies[info.id] = info
        if not any(info.effect == "permit" for info in policies.values()):
            raise _invalid("*.cedar", "there is no policy that permits anything")
        handle = _parse(" and ".join(name for name, _ in sources), "\n".join(text for _, text in sources))
        sha256 = _digest([(SCHEMA_FILE, schema), *sorted(sources)])
        seal = _seal(handle, parsed_schema, sha256)
        loaded = cls(sha256, MappingProxyType(policies), profile, handle, parsed_schema, seal)
        loaded._probe()
        return loaded

    @property
    def messages(self) -> dict[str, str]:
        """What the clinician reads, by reason code: every policy's message and the engine's own reasons."""
        return REASONS | {name: info.message for name, info in self.policies.items()}

    def can_lift(self, policies: Sequence[str]) -> bool:
        """Whether broken glass may lift all these forbids; the decision itself is Cedar's, when it is broken."""
        found = [self.policies.get(name) for name in policies]
        return bool(found) and all(info is not None and info.effect == "forbid" and info.names_glass for info in found)

    @property
    def text(self) -> str:
        """All policies as Cedar text, as the engine holds them."""
        return str(self._handle)

    @property
    def is_intact(self) -> bool:
        """Whether policies and schema are still those that were loaded under this hash."""
        return _seal(self._handle, self._schema, self.sha256) == self._seal

    def evaluate(self, question: Mapping[str, Any], entities: Sequence[dict[str, Any]]) -> Answer:
        """Ask Cedar, always with the schema applied.  What cannot even be asked is an answer with an error."""
        try:
            result = cedarpy.is_authorized(dict(question), self._handle, list(entities), schema=self._schema)
        except (TypeError, ValueError, KeyError) as exc:
            return Answer("NoDecision", (), (type(exc).__name__,))
        diagnostics = result.diagnostics
        names = diagnostics.id_annotations_by_reason
        # A reason without an id cannot happen in a checked set; the empty id is unknown to everybody and so denies.
        policies = {names.get(reason, "") for reason in diagnostics.reasons}
        return Answer(result.decision.value, tuple(sorted(policies)), tuple(diagnostics.errors))

    def _probe(self) -> None:
        nobody = {"type": "User", "id": "probe"}
        question = {
            "principal": nobody,
            "action": {"type": "Action", "id": "draft_note"},
            "resource": {"type": "Encounter", "id": "probe"},
            "context": {},
        }
        answer = self.evaluate(question, [])
        if answer.decision != "NoDecision" or not answer.errors:
            raise _invalid(SCHEMA_FILE, "a question without facts was answered: the schema does not demand them")


def profiles(directory: Path) -> tuple[str, ...]:
    """Return the names of the profiles that a folder of policies has; one without any is all `strict`."""
    found = tuple(sorted(path.stem for path in (directory / PROFILES_FOLDER).glob("*.cedar")))
    return found or (DEFAULT_PROFILE,)


def policy_files(directory: Path, profile: str) -> tuple[str, ...]:
    """Return the names of the files that make up a set, in order, relative to its folder.

    Raises:
        PolicyError: `policy_profile_unknown`.
    """
    if profile not in profiles(directory):
        raise PolicyError(
            "there is no such policy profile",
            code="policy_profile_unknown",
            hint=f"choose one of: {', '.join(profiles(directory))}",
        )
    base = sorted(path.name for path in directory.glob("*.cedar"))
    own = f"{PROFILES_FOLDER}/{profile}.cedar"
    return (*base, own) if (directory / own).exists() else tuple(base)


def check(directory: Path, profile: str = DEFAULT_PROFILE) -> PolicySet:
    """Load the set and return it; the load gate by itself (`clinic policy check`).

    Raises:
        PolicyError: `policy_invalid`, naming the file and the problem.
    """
    return PolicySet.load(directory, profile)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise _invalid(path.name, f"there is no such file in `{path.parent}`") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise _invalid(path.name, f"cannot be read: {_one_line(exc)}") from exc


def _parse_schema(text: str) -> Any:
    try:
        return cedarpy.Schema.from_str(text)
    except ValueError as exc:
        raise _invalid(SCHEMA_FILE, _one_line(exc)) from exc


def _parse(name: str, text: str) -> Any:
    try:
        return cedarpy.PolicySet.from_str(text)
    except ValueError as exc:
        raise _invalid(name, _one_line(exc)) from exc


def _inspect(name: str, text: str, schema: Any) -> list[PolicyInfo]:
    tree = _parse(name, text).to_pst()
    if tree.templates:
        raise _invalid(name, "templates (`?principal`, `?resource`) are not allowed")
    infos = [_info(name, policy) for policy in tree.static_policies.values()]
    result = cedarpy.validate_policies(text, schema)
    if not result.validation_passed:
        problem = result.errors[0]
        policy = result.id_annotations_by_policy_id.get(problem.policy_id, problem.policy_id)
        raise _invalid(name, f"policy `{policy}`: {_one_line(problem.error)}")
    return infos


def _info(name: str, policy: Any) -> PolicyInfo:
    annotations: Mapping[str, str] = policy.annotations
    policy_id = annotations.get("id", "")
    if not _ID.fullmatch(policy_id):
        raise _invalid(name, f"{policy.effect} without a proper @id (small letters, digits, hyphens): `{policy_id}`")
    if not annotations.get("message", "").strip():
        raise _invalid(name, f"policy `{policy_id}`: there is no @message for the clinician")
    unknown = sorted(set(annotations) - _ANNOTATIONS)
    if unknown:
        raise _invalid(name, f"policy `{policy_id}`: unknown annotation `@{unknown[0]}`")
    glass = GLASS in repr(policy.clauses)
    obligations = _obligations(name, policy_id, policy)
    return PolicyInfo(policy_id, policy.effect, annotations["message"], obligations, name, glass)


def _obligations(name: str, policy_id: str, policy: Any) -> tuple[str, ...]:
    text = policy.annotations.get("obligation")
    if text is None:
        return ()
    if policy.effect != "permit":
        raise _invalid(name, f"policy `{policy_id}`: a forbid cannot oblige to anything")
    try:
        return split_annotation(text)
    except PolicyError as exc:
        raise PolicyError(f"`{name}`: policy `{policy_id}`: {exc}", hint=exc.hint) from exc


def _digest(sources: Sequence[tuple[str, str]]) -> str:
    digest = hashlib.sha256(b"clinic policy set v1\n")
    for name, text in sources:
        lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
        body = "\n".join(lines).strip("\n").encode()
        digest.update(f"{len(name.encode())}:{name}{len(body)}:".encode() + body)
    return digest.hexdigest()


def _seal(handle: Any, schema: Any, sha256: str) -> str:
    return hashlib.sha256(f"{sha256}\n{handle}\n{schema}".encode()).hexdigest()


def _one_line(problem: object) -> str:
    return " ".join(str(problem).split())[:300]


def _invalid(name: str, problem: str) -> PolicyError:
    return PolicyError(
        f"`{name}`: {problem}",
        hint="mend the file and run `clinic policy check`; until then the set that was active before stays active",
    )
