"""The data folder: made once, opened at every start.

Rules kept here:

* A data folder is created whole or not at all: it is built under a temporary name and renamed.
* Nothing in it is readable by anybody but its owner.
* A passphrase, a recovery share and the CA's private key are never written in the clear.  The one exception says so in
  its name: `INSECURE-development.key`, for development and demonstration.
"""

from __future__ import annotations

import os
import shutil
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from clinic.audit.database_file import forget_cached
from clinic.audit.events import (
    AuditEvent,
    AuditOpened,
    AuthorityRenewed,
    CredentialRenewed,
    KeySealed,
    KeyUnlocked,
    SharesRenewed,
    SlotRemoved,
)
from clinic.audit.guard import Guard, Limits
from clinic.audit.kept import Rhythm
from clinic.audit.latch import Latch
from clinic.audit.sink import SecondSink
from clinic.audit.witness import require_current, verify_witnessed
from clinic.config import Config, KeySource
from clinic.crypto.durable import create_private, exclusive, replace_private
from clinic.crypto.envelope import FieldContext, open_sealed, seal
from clinic.crypto.holding import keep, share
from clinic.crypto.keys import (
    KeyBytes,
    Keyring,
    Passphrase,
    Purpose,
    RecoveryKey,
    SlotInfo,
    SlotKind,
    UnlockSecret,
    create_keyring,
    remove_slot,
    renew_recovery_key,
    set_credential,
    set_passphrase,
    slots,
    unlock,
)
from clinic.crypto.local_ca import (
    Authority,
    create_authority,
    fingerprint,
    issue_server_certificate,
    lan_addresses,
    write_server_files,
)
from clinic.crypto.sources import create_insecure_key_file, load_credential, read_insecure_key_file
from clinic.domain import OPERATOR
from clinic.errors import AuditLatchedError, ConfigError, SealedError, StorageError
from clinic.jobs.store import create_store
from clinic.records.engine import open_engine, read_transaction
from clinic.records.invitations import SETUP
from clinic.records.migrate import check_current, upgrade
from clinic.records.records import Records
from clinic.records.uses import LOCAL_CA, Usage, usage
from clinic.rotation import Progress, Rotation, finish, is_unfinished, rotate

_CA_CONTEXT = FieldContext(table="tls", column="ca_private_key", row_id="ca", patient_id="-", row_version=1)
_CA_KEY = "ca.key.sealed"
_FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class NewHome:
    """What `create` made.  Recovery shares and code exist only here: show them once, then forget them.

    `setup_code`: the one-time code by which the first administrator is made in the browser, if it was asked for.
    """

    config: Config
    shares: tuple[str, str, str]
    setup_code: str | None = None


@dataclass(frozen=True, slots=True)
class HomeOptions:
    """What an administrator may choose at `clinic init`."""

    passphrase: str | None = None
    credential: bytes | None = None
    insecure_key_file: bool = False
    hostnames: tuple[str, ...] = ()
    port: int = 8443
    models: Path | None = None
    setup_code: bool = False


def create(home: Path, options: HomeOptions) -> NewHome:
    """Create the data folder `home`.

    Raises:
        ConfigError: `home_exists` if there is one already; nothing is changed then.
    """
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise ConfigError(
            f"`{home}` exists already and is not empty",
            code="home_exists",
            hint="choose another folder with --home; an existing data folder is never overwritten",
        )
    home.parent.mkdir(parents=True, exist_ok=True)
    building = home.with_name(f".{home.name}.{os.getpid()}.building")
    building.mkdir(mode=0o700)
    try:
        shares, code = _fill(building, options)
        if home.exists():
            home.rmdir()
        building.rename(home)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return NewHome(config=Config.load(home), shares=shares, setup_code=code)


def unlock_home(config: Config, *, passphrase: str | None = None) -> Keyring:
    """Unlock the keyring from the configured source, or with the passphrase given.

    Raises:
        SealedError: `key_missing` if the source holds none, `key_wrong` if it does not fit.
        ConfigError: `keys_in_use` while another command rotates the keys.
    """
    return _unlocked(config, _secret(config, passphrase))


def hold_keys(config: Config, keyring: Keyring) -> Keyring:
    """Note that this process has the keys (`clinic.crypto.holding`), which it got from its parent."""
    keep(share(config.run_dir), keyring)
    return keyring


def can_unlock_unattended(config: Config) -> bool:
    """Whether the key can be had without a person."""
    return config.key_source is not KeySource.PASSPHRASE


def open_records(config: Config, keyring: Keyring) -> Records:
    """Open the database of an unlocked data folder, refusing one whose schema is not this program's."""
    records = _opened(config, keyring)
    with suppress(StorageError, AuditLatchedError):  # a shred that a crash cut off; if not now, then at the next start
        records.finish_shredding()
    return records


def guard_of(config: Config) -> Guard:
    """Return the guard of the audit log, as this process sees the data folder."""
    limits = Limits(
        clock_s=config.audit.clock_limit_s,
        lock_s=config.audit.lock_limit_s,
        reserve=config.audit.reserve_mb << 20,
    )
    return Guard(config.home, limits=limits)


def sink_of(config: Config) -> SecondSink | None:
    """Return the second copy of the audit log, if one is configured."""
    path = config.audit.second_sink
    return None if path is None else SecondSink(path, required=config.audit.second_sink_mode == "required")


def settle_log(config: Config, keyring: Keyring) -> Latch | None:
    """Look after the audit log at a start, and return the latch that stays.

    Makes the disk reserve, clears a latch if the whole log verifies, brings the second copy up to date.  The database
    is closed again, so that the caller may fork.
    """
    forget_cached(config.database)
    with closing(open_records(config, keyring)) as records:
        records.guard.reserve.ensure()
        with suppress(AuditLatchedError):
            if records.guard.current() is not None:
                records.audit.clear(actor=OPERATOR, verify=lambda: verify_witnessed(config.home, records.audit))
            records.guard.require_open()
            records.audit.settle_sink()
            records.audit.keep_checkpoint()
        return records.guard.current()


def record_unlock(config: Config, keyring: Keyring, *, source: KeySource | None = None) -> None:
    """Note in the audit log that the data folder was unlocked, and how: `source`, or else the configured one.

    The database is closed again, so that the caller may fork.

    Raises:
        AuditError: `audit_rolled_back`, `audit_forked` where a witness saw a longer log, or another; not unlocked then.
    """
    _record(config, keyring, KeyUnlocked(slot_kind=(source or config.key_source).value), current=True)


def record_sealing(config: Config, keyring: Keyring) -> None:
    """Note in the audit log that the running clinic gives its key up."""
    _record(config, keyring, KeySealed())


def keep_checkpoint(config: Config, keyring: Keyring) -> int | None:
    """Keep a checkpoint over the whole audit log, as at the end of everything; return its size, or None if it was kept.

    Raises:
        AuditError: the log is damaged, or cannot be written.
    """
    with closing(_opened(config, keyring)) as records:
        return records.audit.keep_checkpoint()


def key_usage(config: Config) -> Usage:
    """Return how often each key has sealed something; needs no key.

    Raises:
        ConfigError: `schema_missing` if there is no database; looking makes none.
    """
    if not config.database.exists():
        raise ConfigError(
            "the database is not there", code="schema_missing", hint="restore the data folder from your backup"
        )
    engine = open_engine(config.database)
    try:
        check_current(engine, config.migrations_dir)
        with read_transaction(engine) as connection:
            return usage(connection)
    finally:
        engine.dispose()


def renew_certificate(config: Config, keyring: Keyring) -> None:
    """Issue a new server certificate from the sealed CA key: new names, new addresses, or near its end."""
    sealed = (config.tls_dir / _CA_KEY).read_bytes()
    key = open_sealed(keyring.derive(Purpose.LOCAL_CA), sealed, _CA_CONTEXT)
    authority = Authority((config.tls_dir / "ca.crt").read_bytes(), key)
    _issue(config, authority)


def renew_authority(config: Config, keyring: Keyring) -> str:
    """Put a new local CA in place of the one there, issue its server certificate, and return its fingerprint.

    The old key is overwritten: nobody can issue with it from here.  Interrupted, run it again (`authority_incomplete`).

    Raises:
        AuditError: the log takes no entry; nothing is changed then.
    """
    authority = create_authority(names=config.web.hostnames)
    shown = fingerprint(authority.certificate_pem)
    with closing(_opened(config, keyring)) as records, records.write() as tx:
        tx.append(AuthorityRenewed(certificate=shown.replace(":", "").lower()), actor=OPERATOR)
        tx.key_uses.count(LOCAL_CA)
    sealed = seal(keyring.derive(Purpose.LOCAL_CA), authority.key_pem, _CA_CONTEXT, key_id=keyring.key_id)
    with exclusive(config.tls_dir):
        replace_private(config.tls_dir / _CA_KEY, sealed)
    _issue(config, authority)
    return shown


def recover(config: Config, recovery: RecoveryKey, new_passphrase: str) -> None:
    """Set a new passphrase with two shares; the old one opens nothing any more, the shares still do."""
    keyring = _unlocked(config, recovery)
    set_passphrase(config.keys_file, recovery, new=Passphrase(new_passphrase))
    _record(config, keyring, KeyUnlocked(slot_kind=recovery.kind))


def renew_shares(config: Config, *, passphrase: str | None = None) -> tuple[str, str, str]:
    """Return three new recovery shares; those of before open nothing from now on."""
    secret = _secret(config, passphrase)
    keyring = _unlocked(config, secret)
    recovery = renew_recovery_key(config.keys_file, secret)
    _record(config, keyring, SharesRenewed())
    return recovery.split()


def renew_credential(config: Config, credential: bytes, *, passphrase: str | None = None) -> None:
    """Let the clinic be opened by this credential (64 hexadecimal digits) in place of every one of before.

    Raises:
        SealedError: `key_malformed`, or the data folder cannot be unlocked.
    """
    new = KeyBytes.from_text(credential, "credential")
    secret = _secret(config, passphrase)
    keyring = _unlocked(config, secret)
    set_credential(config.keys_file, secret, new=new)
    _record(config, keyring, CredentialRenewed())


def take_slot_away(
    config: Config,
    slot_id: str,
    *,
    passphrase: str | None = None,
    recovery: RecoveryKey | None = None,
    without_recovery: bool = False,
) -> SlotInfo:
    """Let one slot open nothing any more, and return what it was; `slot_id` may be the beginning of its id.

    Unlocked with `recovery`, or else as `unlock_home`.  What was used for that stays, and so do the last slot that the
    configured source needs and, unless `without_recovery`, the last recovery slot.

    Raises:
        InputError: `slot_unknown`, `slot_in_use`, `slot_needed`.
        SealedError: the data folder cannot be unlocked.
        AuditError: the log takes no entry; the slot stays then.
    """
    secret = _secret(config, passphrase) if recovery is None else recovery
    keyring = _unlocked(config, secret)
    needed = [SlotKind(config.key_source.value)] + ([] if without_recovery else [SlotKind.RECOVERY])
    with closing(_opened(config, keyring)) as records:
        records.guard.require_open()
        gone = remove_slot(config.keys_file, secret, slot_id=slot_id, needed=needed)
        event = SlotRemoved(slot=gone.id, slot_kind=gone.kind.value, left=len(slots(config.keys_file)))
        records.audit.append(event, actor=OPERATOR)
    return gone


def _unlocked(config: Config, secret: UnlockSecret, *, tries: int = 1) -> Keyring:
    """Unlock, and finish a rotation that was interrupted; where others have the keys, it waits for the next time."""
    lock = share(config.run_dir)
    try:
        keyring = unlock(config.keys_file, secret)
    except BaseException:
        os.close(lock)
        raise
    keep(lock, keyring)
    if not is_unfinished(keyring) or tries == 0:
        return keyring
    del keyring  # and with it the lock, so that the rotation can be finished
    finish(config, secret)
    return _unlocked(config, secret, tries=0)


def rotate_keys(config: Config, *, passphrase: str | None = None, progress: Progress) -> Rotation:
    """Replace the key-encryption key; see `clinic.rotation`."""
    return rotate(config, _secret(config, passphrase), progress=progress)


def _opened(config: Config, keyring: Keyring) -> Records:
    engine = open_engine(config.database)
    try:
        check_current(engine, config.migrations_dir)
    except BaseException:
        engine.dispose()
        raise
    rhythm = Rhythm(entries=config.audit.checkpoint_entries, minutes=config.audit.checkpoint_minutes)
    return Records(engine, keyring=keyring, guard=guard_of(config), sink=sink_of(config), rhythm=rhythm)


def _record(config: Config, keyring: Keyring, event: AuditEvent, *, current: bool = False) -> None:
    with closing(_opened(config, keyring)) as records:
        if current:
            require_current(config.home, records.audit)
        records.audit.append(event, actor=OPERATOR)
        with suppress(StorageError):
            records.finish_shredding()


def _secret(config: Config, passphrase: str | None) -> UnlockSecret:
    if passphrase is not None:
        return Passphrase(passphrase)
    if config.key_source is KeySource.INSECURE_KEY_FILE:
        return read_insecure_key_file(config.insecure_key_file)
    if config.key_source is KeySource.CREDENTIAL:
        return load_credential()
    raise SealedError(
        "the clinic is sealed: its key is unlocked with a passphrase",
        code="sealed",
        hint="run the command at a terminal, where it asks; or unlock a running clinic with `clinic keys unlock`",
    )


def _fill(folder: Path, options: HomeOptions) -> tuple[tuple[str, str, str], str | None]:
    for name in ("tls", "run", "logs"):
        (folder / name).mkdir(mode=0o700)
    source, secret = _key_source(folder, options)
    (folder / "clinic.toml").write_text(_toml(source, options), encoding="utf-8")
    config = Config.load(folder)
    keyring, recovery = create_keyring(config.keys_file, secrets=(secret,))
    _create_authority(config, keyring)
    engine = open_engine(config.database)
    upgrade(engine, config.migrations_dir)
    with Records(engine, keyring=keyring).write() as tx:
        tx.append(AuditOpened(format_version=_FORMAT_VERSION), actor=OPERATOR)
        tx.key_uses.count(LOCAL_CA)  # sealed above, before there was a database to count in
        code = tx.invitations.make(SETUP, OPERATOR) if options.setup_code else None
    engine.dispose()
    create_store(config)
    return recovery.split(), code


def _key_source(folder: Path, options: HomeOptions) -> tuple[KeySource, UnlockSecret]:
    if options.passphrase is not None:
        return KeySource.PASSPHRASE, Passphrase(options.passphrase)
    if options.credential is not None:
        return KeySource.CREDENTIAL, KeyBytes.from_text(options.credential, "credential")
    if options.insecure_key_file:
        return KeySource.INSECURE_KEY_FILE, create_insecure_key_file(folder / "INSECURE-development.key")
    raise ConfigError(
        "no way to unlock the new data folder was chosen",
        code="key_source_missing",
        hint="give a passphrase at the terminal, --credential, or --insecure-key-file for development",
    )


def _toml(source: KeySource, options: HomeOptions) -> str:
    lines = [
        "# Every setting, with its meaning: docs/configuration.md.  Unknown keys are refused.",
        f'key_source = "{source.value}"',
    ]
    if options.models is not None:
        lines.append(f"models = {_quoted(str(options.models.resolve()))}")
    lines += ["", "[web]", f"port = {options.port}"]
    if options.hostnames:
        lines.append("hostnames = [" + ", ".join(_quoted(name) for name in options.hostnames) + "]")
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    if any(ord(c) < 32 or c in '"\\' for c in text):  # noqa: PLR2004 - control characters
        raise ConfigError(f"`{text!r}` cannot stand in the configuration", hint="leave out quotes and backslashes")
    return f'"{text}"'


def _create_authority(config: Config, keyring: Keyring) -> None:
    authority = create_authority(names=config.web.hostnames)
    sealed = seal(keyring.derive(Purpose.LOCAL_CA), authority.key_pem, _CA_CONTEXT, key_id=keyring.key_id)
    with exclusive(config.tls_dir):
        create_private(config.tls_dir / _CA_KEY, sealed)
    _issue(config, authority)


def _issue(config: Config, authority: Authority) -> None:
    server = issue_server_certificate(authority, names=config.web.hostnames, ips=lan_addresses())
    write_server_files(config.tls_dir, server, authority)
