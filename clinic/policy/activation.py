"""Which policy set decides: activated, signed, recorded, and taken up by every process at its next decision.

Rules kept here:

* A set is activated whole or not at all: it passes the load gate and its golden cases, its files are copied into the
  data folder under their own digest, the copy is signed, and only the audit entry `policyset.activated`, committed,
  switches.  A crash anywhere before leaves the old set in force.
* The audit log is the only truth about which set is active.  Each decision asks it whether there is a newer entry, and
  looks whether the files are still those that were read: no restart, and a decision that has begun keeps its set.
* A file that was changed, a signature that does not hold, an entry that does not fit: nothing is decided
  (`PolicyError`, which means no) until a set is activated again.  There is no falling back to an older set in silence.
* The version counts activations, so that going back to an older set is a new version, too.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clinic.audit.checkpoint import NoteSigner, open_note
from clinic.audit.entry import Entry
from clinic.audit.events import PolicySetActivated, from_canonical
from clinic.audit.log import AuditLog
from clinic.crypto.durable import exclusive, replace_private
from clinic.domain import Actor
from clinic.errors import AuditError, PolicyError, StorageError
from clinic.policy import golden
from clinic.policy.load import SCHEMA_FILE, PolicySet, policy_files

NOTHING_BEFORE: Final = "0" * 64
_HEAD: Final = "clinic policy activation v1"
_NOTE: Final = "ACTIVATION"
_EVENT: Final = PolicySetActivated.name
_Mark = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Activation:
    """One activation, as the audit log has it."""

    seq: int
    at: str
    actor: str
    event: PolicySetActivated


def policy_signer(seed: bytes) -> NoteSigner:
    """Return the key that signs activations, named after itself."""
    prefix = "clinic.local/policy"
    fingerprint = hashlib.sha256(NoteSigner(name=prefix, seed=seed).key.public).hexdigest()
    return NoteSigner(name=f"{prefix}/{fingerprint[:16]}", seed=seed)


class PolicyStore:
    """The policy sets of one data folder.

    Args:
        folder: where activated sets lie (`Config.policies_dir`).
        audit: the clinic's audit log.
        signer: signs and checks activations.
    """

    def __init__(self, folder: Path, audit: AuditLog, signer: NoteSigner) -> None:
        self._folder = folder
        self._audit = audit
        self._signer = signer
        self._lock = threading.Lock()
        self._active: Activation | None = None
        self._seen = 0  # the log was looked through up to this entry
        self._set: PolicySet | None = None
        self._marks: tuple[_Mark | None, ...] = ()

    # --- what decides now -----------------------------------------------------------------------------

    def current(self) -> PolicySet:
        """Return the set that decides now.

        Raises:
            PolicyError: `policy_inactive` if none ever was, `policy_set_damaged` if it is not as it was signed.
        """
        with self._lock:
            self._take_up()
            if self._active is None:
                raise PolicyError(
                    "no policy set was activated", code="policy_inactive", hint="run `clinic policy activate`"
                )
            marks = self._look(self._active)
            if self._set is None or marks != self._marks:
                self._set = None
                self._set = self.load(self._active)
                self._marks = marks
            return self._set

    def _take_up(self) -> None:
        """Look at the entries that came since the last look: as quick in the millionth decision as in the first."""
        size = self._audit.size()
        if size < self._seen:  # another log lies here now
            self._active, self._set, self._seen = None, None, 0
        newer = self._audit.latest(_EVENT, after=self._seen)
        if newer is not None:
            self._active, self._set = _activation(newer), None
        self._seen = size

    def active(self) -> Activation | None:
        """Return the activation that is in force, if there was any."""
        newest = self._audit.latest(_EVENT)
        return None if newest is None else _activation(newest)

    def history(self) -> tuple[Activation, ...]:
        """Return all activations, oldest first."""
        return tuple(_activation(entry) for entry in self._audit.named(_EVENT))

    def folder_of(self, activation: Activation) -> Path:
        """Return where the files of an activated set lie."""
        return self._folder / activation.event.files

    def load(self, activation: Activation) -> PolicySet:
        """Read an activated set, after its signature and its files were checked.

        Raises:
            PolicyError: `policy_set_damaged`.
        """
        event, folder = activation.event, self.folder_of(activation)
        try:
            note = self._note_path(event.version).read_text(encoding="utf-8")
            signed = open_note(note, key=self._signer.key)
            names = _names(folder, event.profile)
            intact = _files_digest({name: (folder / name).read_bytes() for name in names}) == event.files
            loaded = PolicySet.load(folder, event.profile)
        except (OSError, UnicodeDecodeError, AuditError, PolicyError) as error:
            raise _damaged(activation) from error
        if signed != _note_text(event) or not intact or loaded.sha256 != event.policy_set:
            raise _damaged(activation)
        return loaded

    def find(self, sha256: str) -> PolicySet | None:
        """Return the activated set with this hash; None if it is not there any more, or not as it was signed."""
        for past in reversed(self.history()):
            if past.event.policy_set == sha256:
                try:
                    return self.load(past)
                except PolicyError:
                    return None
        return None

    # --- changing it ----------------------------------------------------------------------------------

    def ensure(self, source: Path, profile: str, *, actor: Actor) -> None:
        """Activate `source` if nothing ever was: the first start."""
        if self._audit.latest(_EVENT) is None:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with exclusive(self._folder):
                if self._audit.latest(_EVENT) is None:
                    self._activate(source, profile, actor, "first_start")

    def activate(self, source: Path, profile: str, *, actor: Actor) -> Activation:
        """Let the set in `source` decide from now on.

        Raises:
            PolicyError: `policy_invalid`, `policy_untested`, `policy_profile_unknown`; the old set stays in force.
            StorageError: the copy cannot be written; the old set stays in force.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with exclusive(self._folder):
            return self._activate(source, profile, actor, "activate")

    def rollback(self, version: int | None = None, *, actor: Actor) -> Activation:
        """Let an earlier set decide again: that of `version`, or else the last one that was another than today's.

        Raises:
            PolicyError: `policy_version_unknown`, or what `activate` raises.
        """
        with exclusive(self._folder):
            history = self.history()
            wanted = [
                past
                for past in history
                if (past.event.version == version if version else past.event.files != history[-1].event.files)
            ]
            if not wanted:
                raise PolicyError(
                    "there is no such earlier policy set",
                    code="policy_version_unknown",
                    hint="see `clinic policy list`",
                )
            self.load(wanted[-1])
            return self._activate(self.folder_of(wanted[-1]), wanted[-1].event.profile, actor, "rollback")

    def _activate(self, source: Path, profile: str, actor: Actor, cause: str) -> Activation:
        loaded = require_tested(source, profile)
        files = _read_all(source, profile)
        before = self.active()
        event = PolicySetActivated(
            policy_set=loaded.sha256,
            policies=len(loaded.policies),
            version=before.event.version + 1 if before else 1,
            profile=profile,
            previous=before.event.policy_set if before else NOTHING_BEFORE,
            files=_files_digest(files),
            cause=cause,
        )
        with _storage_errors(self._folder):
            self._copy(event.files, files)
            replace_private(self._note_path(event.version), self._signer.sign(_note_text(event)).encode())
        if PolicySet.load(self._folder / event.files, profile).sha256 != loaded.sha256:
            raise PolicyError("the copy of the policies is not what was checked", hint="check the disk, then try again")
        entry = self._audit.append(event, actor=actor)
        self._audit.confirm(entry)
        return _activation(entry)

    def _copy(self, digest: str, files: dict[str, bytes]) -> None:
        target = self._folder / digest
        if target.exists():
            if _files_digest({n: (target / n).read_bytes() for n in files if (target / n).is_file()}) == digest:
                return
            target.rename(self._folder / f"{digest}.damaged-{os.getpid()}")
        building = self._folder / f".{digest}.building"
        shutil.rmtree(building, ignore_errors=True)
        for name, data in files.items():
            path = building / name
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_read_only(path, data)
        for folder in sorted({path.parent for path in building.rglob("*")}):
            _sync(folder)
        building.rename(target)
        _sync(self._folder)

    def _note_path(self, version: int) -> Path:
        return self._folder / f"{_NOTE}-{version:06}"

    def _look(self, activation: Activation) -> tuple[_Mark | None, ...]:
        """Return what a cheap look says of the files: anybody who changed one changed this, too."""
        folder = self.folder_of(activation)
        names = [SCHEMA_FILE, *policy_files_or_none(folder, activation.event.profile)]
        return tuple(_mark(path) for path in (self._note_path(activation.event.version), *(folder / n for n in names)))


def require_tested(source: Path, profile: str) -> PolicySet:
    """Return the set in `source` if it passes the load gate, its cases, and every policy has its cases.

    Raises:
        PolicyError: `policy_invalid`, `policy_untested`.
    """
    loaded = PolicySet.load(source, profile)
    report = golden.run_cases(loaded, golden.load_cases(source / golden.TESTS_FOLDER, profile))
    if report.passed:
        return loaded
    if not report.results:
        problem = "there are no golden cases"
    elif report.failures:
        failed = report.failures[0].case
        problem = f"{len(report.failures)} golden cases fail, the first one is `{failed.name}` in `{failed.file}`"
    else:
        problem = f"policy `{report.untested[0]}` has no case in which it fires, or none in which it stays silent"
    raise PolicyError(
        f"the policies are not tested: {problem}",
        code="policy_untested",
        hint="run `clinic policy test --policies DIR`; the set that was active before stays active",
    )


def policy_files_or_none(folder: Path, profile: str) -> tuple[str, ...]:
    """Return the files of a set; none where the folder has no such profile any more."""
    try:
        return policy_files(folder, profile)
    except PolicyError:
        return ()


def _names(folder: Path, profile: str) -> tuple[str, ...]:
    tests = tuple(f"{golden.TESTS_FOLDER}/{name}" for name in golden.case_files(folder / golden.TESTS_FOLDER, profile))
    return (SCHEMA_FILE, *policy_files(folder, profile), *tests)


def _read_all(source: Path, profile: str) -> dict[str, bytes]:
    try:
        return {name: (source / name).read_bytes() for name in _names(source, profile)}
    except OSError as error:
        raise PolicyError(
            f"the policies cannot be read: {(error.strerror or 'unknown reason').lower()}",
            hint="check the folder's files and modes",
        ) from error


def _files_digest(files: dict[str, bytes]) -> str:
    digest = hashlib.sha256(b"clinic policy files v1\n")
    for name, data in sorted(files.items()):
        digest.update(f"{len(name.encode())}:{name}{len(data)}:".encode() + data)
    return digest.hexdigest()


def _note_text(event: PolicySetActivated) -> str:
    lines = (
        _HEAD,
        f"set {event.policy_set}",
        f"files {event.files}",
        f"version {event.version}",
        f"profile {event.profile}",
        f"previous {event.previous}",
    )
    return "\n".join(lines) + "\n"


def _activation(entry: Entry) -> Activation:
    event = from_canonical(entry.event, entry.body)
    if not isinstance(event, PolicySetActivated):
        raise AuditError(f"audit entry `{entry.seq}` is no activation", code="audit_damaged")
    return Activation(entry.seq, entry.at, entry.actor, event)


def _damaged(activation: Activation) -> PolicyError:
    return PolicyError(
        f"the active policy set (version {activation.event.version}) is not as it was signed",
        code="policy_set_damaged",
        hint="nothing is decided until `clinic policy activate` puts a good set in its place; find out who changed it",
    )


def _mark(path: Path) -> _Mark | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _write_read_only(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write `{folder}`: {(error.strerror or 'unknown reason').lower()}",
            hint="free some space or make the folder writable, then try again; the old policy set stays active",
        ) from error
