"""`clinic doctor`: look at everything that has to be right, and say what to do where it is not.

Every check is independent: one that fails does not hide the next.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from clinic import __version__
from clinic.audit.latch import WORDS
from clinic.audit.log import AuditLog
from clinic.audit.witness import verify_witnessed, witnessed
from clinic.backup.history import History, history
from clinic.backup.locate import at_hand
from clinic.backup.schedule import health
from clinic.box import Finding, clock, egress, gpu, listeners, model_socket, owners, swap, weights
from clinic.bundle.installed import installed, unrecorded
from clinic.config import Config, KeySource
from clinic.crypto.keys import Keyring
from clinic.crypto.local_ca import expires_in, fingerprint
from clinic.domain import utc_now
from clinic.errors import ClinicError, ConfigError, PolicyError
from clinic.generation.launcher import is_answering
from clinic.generation.profiles import load_profile
from clinic.home import guard_of, key_usage, open_records, sink_of
from clinic.metrics import LEAST_TOKEN, token_of, witness_age
from clinic.policy.activation import PolicyStore, policy_signer, require_tested
from clinic.policy.golden import run as run_golden
from clinic.records.engine import integrity_problems, open_engine
from clinic.records.records import Records
from clinic.records.uses import LIMIT
from clinic.weights import VOICE_ENCODER, WHISPER_BASE, assemble

__all__ = ["Finding", "examine", "glance", "guarded"]

_LEAST_FREE_BYTES: Final = 2 << 30
_NAMED: Final = 5
_TWO_DAYS_H: Final = 48
_RENEW_BEFORE: Final = timedelta(days=30)
_WITNESS_EVERY: Final = timedelta(days=30)


def examine(config: Config, keyring: Keyring | None) -> tuple[Finding, ...]:
    """Run all checks; those that need the key say so when it is not there."""
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("data folder", lambda: owners(config)),
        ("disk", lambda: _disk(config)),
        ("clock", lambda: _clock(config, keyring)),
        ("swap", lambda: swap(config)),
        ("no way out", lambda: egress(config)),
        ("open ports", lambda: listeners(config)),
        ("key", lambda: _key(config, keyring)),
        ("certificate", lambda: _certificate(config)),
        ("policies", lambda: _policies(config)),
        ("policy set in force", lambda: _in_force(config, keyring)),
        ("speech model", lambda: _speech(config)),
        ("speaker model", lambda: _speakers(config)),
        ("generation profile", lambda: _profile(config)),
        ("writing model", lambda: weights(config)),
        ("GPU", lambda: gpu(config)),
        ("model server", lambda: _model_server(config)),
        ("model socket", lambda: model_socket(config)),
        ("program", lambda: _program(config, keyring)),
        ("database", lambda: _database(config)),
        ("key use", lambda: _key_use(config)),
        ("audit log", lambda: _audit(config, keyring)),
        ("witness", lambda: _witness(config, keyring)),
        ("kept checkpoints", lambda: _kept(config, keyring)),
        ("audit latch", lambda: _latch(config)),
        ("disk reserve", lambda: _reserve(config)),
        ("second copy of the log", lambda: _second_copy(config, keyring)),
        ("records against the log", lambda: _sweep(config, keyring)),
        ("backup", lambda: _backup(config, keyring)),
        ("backup drill", lambda: _drill(config, keyring)),
        ("shredded patients in backups", lambda: _outstanding(config, keyring)),
        ("old data folders", lambda: _aside(config)),
        ("metrics", lambda: _metrics(config)),
    ]
    return tuple(guarded(name, check) for name, check in checks)


def glance(config: Config, records: Records) -> tuple[Finding, ...]:
    """Run the checks that take no time, over records that are open: for the administrator's page."""
    known = history(records.audit)
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("key", lambda: _key_source(config)),
        ("audit latch", lambda: _latch(config)),
        ("witness", lambda: _witness_in(config, records.audit)),
        ("kept checkpoints", lambda: _kept_in(config, records.audit)),
        ("disk", lambda: _disk(config)),
        ("disk reserve", lambda: _reserve(config)),
        ("clock", lambda: clock(records.audit.entry(records.audit.size()))),
        ("GPU", lambda: gpu(config)),
        ("model server", lambda: _model_server(config, running=True)),
        ("certificate", lambda: _certificate(config)),
        ("backup", lambda: _backup_in(config, known)),
        ("backup drill", lambda: _drill_in(config, known)),
        ("shredded patients in backups", lambda: _outstanding_in(known)),
        ("old data folders", lambda: _aside(config)),
        ("data folder", lambda: owners(config)),
        ("key use", lambda: _key_use(config)),
    ]
    return tuple(guarded(name, check) for name, check in checks)


def guarded(name: str, check: Callable[[], Finding]) -> Finding:
    """Run one check; an error of its own is its finding."""
    try:
        return check()
    except ClinicError as error:
        return Finding(name, ok=False, detail=f"{error} ({error.code})", hint=error.hint)
    except OSError as error:
        return Finding(name, ok=False, detail=f"{error.strerror}", hint="see the data folder's owner and modes")


def _disk(config: Config) -> Finding:
    free = shutil.disk_usage(config.home).free
    detail = f"{free / 2**30:.1f} GiB free"
    if free < _LEAST_FREE_BYTES:
        return Finding("disk", ok=False, detail=detail, hint="make room: recordings are refused when the disk is full")
    return Finding("disk", ok=True, detail=detail)


def _key(config: Config, keyring: Keyring | None) -> Finding:
    if keyring is None:
        return Finding("key", ok=False, detail="sealed", hint="run it at a terminal and give the passphrase")
    return _key_source(config)


def _key_source(config: Config) -> Finding:
    if config.key_source is KeySource.INSECURE_KEY_FILE:
        hint = (
            "enter no patient here; for patients make a new folder: `clinic init` at a terminal asks for a passphrase"
        )
        detail = "DEVELOPMENT key file beside the data: not for patients"
        return Finding("key", ok=True, detail=detail, hint=hint, mind=True)
    return Finding("key", ok=True, detail=config.key_source.value)


def _key_use(config: Config) -> Finding:
    used = key_usage(config)
    versions = len(used.patients)
    detail = f"the busiest key has sealed {used.highest:,} values, of {LIMIT:,}; {versions} key version(s) in use"
    if used.highest > LIMIT // 2:
        return Finding("key use", ok=False, detail=detail, hint="`clinic keys status` names it; `clinic keys rotate`")
    if versions > 1:
        return Finding("key use", ok=False, detail=detail, hint="a rotation was interrupted: `clinic keys rotate`")
    return Finding("key use", ok=True, detail=detail)


def _certificate(config: Config) -> Finding:
    left = expires_in((config.tls_dir / "server.pem").read_bytes())
    detail = f"valid for {left.days} days; CA fingerprint {fingerprint((config.tls_dir / 'ca.crt').read_bytes())}"
    if left < _RENEW_BEFORE:
        return Finding("certificate", ok=False, detail=detail, hint="clinic certificate renew")
    return Finding("certificate", ok=True, detail=detail)


def _policies(config: Config) -> Finding:
    report = run_golden(config.policy.directory, config.policy.profile)
    detail = f"{len(report.results)} golden cases, set {report.policy_set[:16]}…"
    if not report.passed:
        return Finding("policies", ok=False, detail=detail, hint="clinic policy test names the case")
    return Finding("policies", ok=True, detail=detail)


def _in_force(config: Config, keyring: Keyring | None) -> Finding:
    """Run the cases of the active set: after an upgrade it may not know a fact of today, and then it denies all."""
    name = "policy set in force"
    if keyring is None:
        return Finding(name, ok=False, detail="not looked at: sealed", hint="give the passphrase")
    records = open_records(config, keyring)
    store = PolicyStore(config.policies_dir, records.audit, policy_signer(records.policy_seed))
    active = store.active()
    if active is None:
        return Finding(name, ok=True, detail="none yet: the first start activates the one that ships")
    detail = f"version {active.event.version}, {active.event.profile}, set {store.load(active).sha256[:16]}…"
    try:
        require_tested(store.folder_of(active), active.event.profile)
    except PolicyError:
        hint = "this program asks with facts that it does not know, or its cases fail: `clinic policy activate`"
        return Finding(name, ok=False, detail=f"{detail} does not pass its own cases", hint=hint)
    return Finding(name, ok=True, detail=detail)


def _speech(config: Config) -> Finding:
    if config.speech.model != "embedded":
        found = os.path.isdir(config.speech.model)  # noqa: PTH112 - a plain string from the configuration
        return Finding("speech model", ok=found, detail=config.speech.model, hint="name a faster-whisper model folder")
    folder = assemble(WHISPER_BASE, config.models_dir)
    return Finding("speech model", ok=True, detail=f"Whisper base (embedded), checked, in {folder}")


def _speakers(config: Config) -> Finding:
    if not config.speech.speakers:
        return Finding("speaker model", ok=True, detail="switched off: `speech.speakers` is false")
    folder = assemble(VOICE_ENCODER, config.models_dir)
    return Finding("speaker model", ok=True, detail=f"Resemblyzer's encoder, checked, in {folder}")


def _profile(config: Config) -> Finding:
    profile = load_profile(config.generation.profile, config.profiles_dir)
    return Finding("generation profile", ok=True, detail=profile.label)


def _model_server(config: Config, *, running: bool = False) -> Finding:
    """`running`: the clinic runs, so its own model server has to answer, too."""
    if is_answering(config.model_socket):
        return Finding("model server", ok=True, detail=f"answers on {config.model_socket}")
    if running and config.generation.socket is None:
        hint = "drafts wait until it does: it is started again by itself; `logs/model.log` says why not"
        return Finding("model server", ok=False, detail="does not answer", hint=hint)
    if config.generation.socket is None:
        return Finding("model server", ok=True, detail="not running; `clinic serve` starts it")
    return Finding(
        "model server",
        ok=False,
        detail=f"nothing answers on {config.model_socket}",
        hint="systemctl status clinic-model",
    )


def _program(config: Config, keyring: Keyring | None) -> Finding:
    name = "program"
    try:
        found = installed()
    except ConfigError:
        return Finding(name, ok=True, detail=f"{__version__}, not installed from a bundle")
    detail = f"{found.program.version}, from bundle {found.bundle[:12]} built by {found.signer}"
    if keyring is None:
        return Finding(name, ok=True, detail=detail)
    if missing := len(unrecorded(open_records(config, keyring), found)):
        detail += f"; {missing} entries about it are not in the log"
        return Finding(name, ok=False, detail=detail, hint="`clinic bundle record`")
    return Finding(name, ok=True, detail=f"{detail}, recorded with {len(found.licences)} licences")


def _database(config: Config) -> Finding:
    if not config.database.exists():
        hint = "restore the data folder from your backup"
        return Finding("database", ok=False, detail=f"{config.database} is not there", hint=hint)
    engine = open_engine(config.database)
    try:
        problems = integrity_problems(engine)
    finally:
        engine.dispose()
    if problems:
        more = f" and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        return Finding(
            "database",
            ok=False,
            detail="; ".join(problems[:_NAMED]) + more,
            hint="stop the clinic service, keep the damaged file, restore the data folder from your backup",
        )
    return Finding("database", ok=True, detail="whole (SQLite's integrity check)")


def _audit(config: Config, keyring: Keyring | None) -> Finding:
    if keyring is None:
        return Finding("audit log", ok=False, detail="not looked at: sealed", hint="give the passphrase")
    audit = open_records(config, keyring).audit
    report = verify_witnessed(config.home, audit)
    if not report.ok:
        return Finding("audit log", ok=False, detail=report.message, hint="keep everything as it is; call the auditor")
    seen = len(witnessed(config.home, vkey=audit.vkey))
    detail = f"{report.entries} entries, verified; {seen or 'no'} checkpoint{'' if seen == 1 else 's'} of witnesses"
    return Finding("audit log", ok=True, detail=detail)


def _clock(config: Config, keyring: Keyring | None) -> Finding:
    if keyring is None:
        return clock(None)
    audit = open_records(config, keyring).audit
    return clock(audit.entry(audit.size()))


def _witness(config: Config, keyring: Keyring | None) -> Finding:
    name = "witness"
    if keyring is None:
        return Finding(name, ok=False, detail="not looked at: sealed", hint="give the passphrase")
    return _witness_in(config, open_records(config, keyring).audit)


def _witness_in(config: Config, audit: AuditLog) -> Finding:
    name, age = "witness", witness_age(audit)
    hint = "take a checkpoint to another device and its own back: docs/auditing.md, `A witness`"
    if age is None:
        development = config.key_source is KeySource.INSECURE_KEY_FILE
        detail = "none ever gave a checkpoint back: an older copy of the whole folder would not be noticed"
        return Finding(name, ok=development, detail=detail, hint=hint, mind=development)
    detail = f"one gave a checkpoint back {age.days} days ago"
    return Finding(name, ok=age <= _WITNESS_EVERY, detail=detail, hint="" if age <= _WITNESS_EVERY else hint)


def _metrics(config: Config) -> Finding:
    name, path = "metrics", config.metrics_token_file
    if not path.exists():
        return Finding(name, ok=True, detail="off: there is no token")
    if token_of(config) is None:
        hint = f"at least {LEAST_TOKEN} characters, mode 0600: docs/operate.md"
        return Finding(name, ok=False, detail=f"{path} cannot be used, so there is no `/metrics`", hint=hint)
    return Finding(name, ok=True, detail="on, for whoever has the token")


def _kept(config: Config, keyring: Keyring | None) -> Finding:
    name = "kept checkpoints"
    if keyring is None:
        return Finding(name, ok=False, detail="not looked at: sealed", hint="give the passphrase")
    return _kept_in(config, open_records(config, keyring).audit)


def _kept_in(config: Config, audit: AuditLog) -> Finding:
    name = "kept checkpoints"
    kept = audit.kept_checkpoints()
    behind = audit.size() - (kept[-1].size if kept else 0)
    detail = f"{len(kept)} kept; {behind} entries came after the last"
    if behind > 2 * config.audit.checkpoint_entries:
        hint = "one is kept as the log is written to and by the worker: see the logs why not"
        return Finding(name, ok=False, detail=detail, hint=hint)
    return Finding(name, ok=True, detail=detail)


def _latch(config: Config) -> Finding:
    latch = guard_of(config).current()
    if latch is None:
        return Finding("audit latch", ok=True, detail="not set")
    what, then = WORDS[latch.reason]
    return Finding("audit latch", ok=False, detail=f"everything is stopped since {latch.at}: {what}", hint=then)


def _reserve(config: Config) -> Finding:
    size, reserve = config.audit.reserve_mb, guard_of(config).reserve
    if size == 0:
        return Finding("disk reserve", ok=True, detail="none (`audit.reserve_mb` is 0)")
    if reserve.is_reached:
        return Finding("disk reserve", ok=False, detail=f"less than {size} MiB are free", hint="make room on the disk")
    if not reserve.is_whole:
        return Finding("disk reserve", ok=True, detail=f"{size} MiB are free; the next start keeps as much back")
    return Finding("disk reserve", ok=True, detail=f"{size} MiB kept back, and more than that free")


def _second_copy(config: Config, keyring: Keyring | None) -> Finding:
    name, sink = "second copy of the log", sink_of(config)
    if sink is None:
        return Finding(name, ok=True, detail="none configured")
    if keyring is None:
        return Finding(name, ok=False, detail="not looked at: sealed", hint="give the passphrase")
    if sink.is_on_device_of(config.database):
        return Finding(
            name, ok=False, detail=f"{sink.path} is on the same device as the log", hint="it should be on another one"
        )
    report = open_records(config, keyring).audit.compare_sink()
    if report is None or not report.ok:
        detail = "" if report is None else report.message
        return Finding(name, ok=False, detail=detail, hint="put the device back; if it was there, call the auditor")
    return Finding(name, ok=True, detail=report.message)


def _sweep(config: Config, keyring: Keyring | None) -> Finding:
    name = "records against the log"
    if keyring is None:
        return Finding(name, ok=False, detail="not looked at: sealed", hint="give the passphrase")
    problems = open_records(config, keyring).sweep(deep=True)
    if problems:
        named = ", ".join(f"{found.kind} {found.id} {found.problem}" for found in problems[:_NAMED])
        more = f" and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        return Finding(
            name,
            ok=False,
            detail=f"{len(problems)} do not fit: {named}{more}",
            hint="a record was changed past the program, or is damaged: keep everything as it is; call the auditor",
        )
    return Finding(name, ok=True, detail="every row fits, every sealed value opens")


def _known(config: Config, keyring: Keyring) -> History:
    return history(open_records(config, keyring).audit)


def _backup(config: Config, keyring: Keyring | None) -> Finding:
    if keyring is None:
        return Finding("backup", ok=False, detail="not looked at: sealed", hint="give the passphrase")
    return _backup_in(config, _known(config, keyring))


def _backup_in(config: Config, known: History) -> Finding:
    hint = "`clinic backup create --to DIR`, with DIR on another disk; see docs/backup.md"
    if known.last is None and config.backup.destination is None and config.key_source is KeySource.INSECURE_KEY_FILE:
        detail = "none yet (a DEVELOPMENT data folder is not asked for one)"
        return Finding("backup", ok=True, detail=detail, hint=hint, mind=True)
    failed = f"; failed since then: {', '.join(sorted({f.code for f in known.failures}))}" if known.failures else ""
    if known.last is None:
        return Finding("backup", ok=False, detail=f"none was ever made{failed}", hint=hint)
    detail = f"last one {_age(known.last.at)} ago, to entry {known.last.entries}{failed}"
    if health(config, known, utc_now()).late or known.failures:
        return Finding(
            "backup", ok=False, detail=detail, hint="clinic backup create; the error's hint says what is wrong"
        )
    reachable = {folder.name for place in at_hand(config) for folder in place.backups()}
    same = [place for place in at_hand(config) if place.store.stat().st_dev == config.home.stat().st_dev]
    if same:
        detail += "; it lies on the same file system as the clinic: it does not outlive this disk"
    elif known.last.backup not in reachable:
        detail += "; its disk is not plugged in"
    return Finding("backup", ok=True, detail=detail)


def _drill(config: Config, keyring: Keyring | None) -> Finding:
    name = "backup drill"
    if keyring is None:
        return Finding(name, ok=False, detail="not looked at: sealed", hint="give the passphrase")
    return _drill_in(config, _known(config, keyring))


def _drill_in(config: Config, known: History) -> Finding:
    name = "backup drill"
    if known.last is None:
        hint = "make a backup first, then `clinic backup drill`"
        return Finding(name, ok=True, detail="no backup to try yet", hint=hint, mind=True)
    if known.drill is None:
        return Finding(name, ok=False, detail="never tried whether a backup would serve", hint="clinic backup drill")
    detail = f"last one {_age(known.drill.at)} ago, {known.drill.result}, {known.drill.seconds} s"
    if health(config, known, utc_now()).drill_late:
        return Finding(name, ok=False, detail=detail, hint="clinic backup drill; if it fails, make another backup")
    return Finding(name, ok=True, detail=detail)


def _outstanding(config: Config, keyring: Keyring | None) -> Finding:
    name = "shredded patients in backups"
    if keyring is None:
        return Finding(name, ok=False, detail="not looked at: sealed", hint="give the passphrase")
    return _outstanding_in(_known(config, keyring))


def _outstanding_in(known: History) -> Finding:
    name = "shredded patients in backups"
    found = known.outstanding()
    if not found:
        return Finding(name, ok=True, detail="no backup holds the key of a shredded patient")
    disks = ", ".join(sorted({item.destination[:8] for item in found}))
    return Finding(
        name,
        ok=False,
        detail=f"{len(found)} backups still hold keys of shredded patients, on destination {disks}",
        hint="plug the disk in: `clinic backup rekey --to DIR`; a disk that is no more: `clinic backup write-off`",
    )


def _aside(config: Config) -> Finding:
    """What a restore in place left holds every key that there was: a shred does not reach it."""
    name = "old data folders"
    found = sorted(path.name for path in config.home.parent.glob(f"{config.home.name}.before-restore-*"))
    if not found:
        return Finding(name, ok=True, detail="none")
    hint = "they hold keys, those of shredded patients too: delete them when the restored clinic is well"
    return Finding(name, ok=False, detail=f"kept beside this one: {', '.join(found)}", hint=hint)


def _age(moment: datetime) -> str:
    hours = int((utc_now() - moment).total_seconds() // 3600)
    return f"{hours} hours" if hours < _TWO_DAYS_H else f"{hours // 24} days"
