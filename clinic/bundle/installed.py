"""What this program was installed from, and its entry in the audit log.

Rules kept here:

* `installed.json` lies beside the program only if it came from a bundle; the installer writes it last.
* Each licence and each installed version stands in the log once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from clinic.audit.events import AuditEvent, LicenceAccepted, ProgramInstalled
from clinic.bundle.manifest import Digest, Line, Name, Program, Target
from clinic.domain import OPERATOR
from clinic.errors import ConfigError
from clinic.records.records import Records

PROGRAM: Final = Path(__file__).resolve().parents[2]
"""The folder of this program: a checkout, or a version that was installed."""
_FILE: Final = "installed.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Accepted(_Part):
    """A licence that somebody accepted on this box."""

    id: Name
    name: Line
    sha256: Digest
    how: Literal["typed", "option"]
    at: str


class Installed(_Part):
    """What the installer wrote."""

    bundle: Digest
    vkey: Annotated[str, StringConstraints(pattern=r"^clinic\.local/bundle/[0-9a-f]{16}\+")]
    program: Program
    target: Target
    requirements: Name
    licences: tuple[Accepted, ...]

    @property
    def signer(self) -> str:
        """The short name of the builder's key."""
        return self.vkey.partition("+")[0].rpartition("/")[2]

    def events(self) -> tuple[AuditEvent, ...]:
        """Return what the log should hold."""
        program = ProgramInstalled(version=self.program.version, bundle=self.bundle, signer=self.signer)
        return (*(LicenceAccepted(licence=a.id, sha256=a.sha256, how=a.how) for a in self.licences), program)


def installed(program: Path = PROGRAM) -> Installed:
    """Return what the program in this folder was installed from.

    Raises:
        ConfigError: `not_from_bundle`.
    """
    try:
        return Installed.model_validate_json((program / _FILE).read_bytes())
    except (OSError, ValidationError):
        raise ConfigError(
            "this program was not installed from a bundle",
            code="not_from_bundle",
            hint="run /opt/clinic/current/.venv/bin/clinic; a checkout has nothing to record",
        ) from None


def unrecorded(records: Records, found: Installed) -> tuple[AuditEvent, ...]:
    """Return what the log does not hold yet of this installation.

    A version that was left and came back (a roll-back) is new again: the last one recorded is the one in force.
    """
    last, accepted = "", set()
    for entry in records.audit.entries():
        if entry.event == LicenceAccepted.name:
            accepted.add(json.loads(entry.body)["sha256"])
        elif entry.event == ProgramInstalled.name:
            last = json.loads(entry.body)["bundle"]
    return tuple(
        event
        for event in found.events()
        if (event.sha256 not in accepted if isinstance(event, LicenceAccepted) else found.bundle != last)
    )


def record(records: Records, found: Installed) -> int:
    """Append to the audit log what it does not hold yet; return the number of new entries."""
    with records.write() as tx:
        new = unrecorded(records, found)
        for event in new:
            tx.append(event, actor=OPERATOR)
    return len(new)
