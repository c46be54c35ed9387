"""Rotating the key-encryption key: a new version, every patient's key re-wrapped, the old version destroyed.

Rules kept here:

* Nobody else has the keys meanwhile (`clinic.crypto.holding.alone`): no process is left that would go on wrapping under
  the old version.  So it is refused while a clinic runs unsealed; seal it first, then rotate, then unlock.
* Killed at any point, every patient's key opens: a version is destroyed only after a transaction has found nothing
  wrapped under it and that was committed.  What is unfinished is finished by the next rotation, or the next unlocking.
* The log says what is about to happen before it happens: `rotation.begun` before the new version exists,
  `rotation.finished` before the old one is destroyed.  After a crash one of them may stand there twice.

Order: begun (log), new version (`keys.json`), re-wrap in batches (each a transaction), nothing left and finished (log),
write-ahead log emptied, old versions destroyed (`keys.json`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from clinic.audit.events import RotationBegun, RotationFinished
from clinic.config import Config
from clinic.crypto.holding import alone
from clinic.crypto.keys import Keyring, UnlockSecret, add_kek, drop_old_keks, unlock
from clinic.domain import OPERATOR
from clinic.errors import ConfigError
from clinic.records.engine import open_engine
from clinic.records.migrate import check_current
from clinic.records.records import Records

BATCH: Final = 200

Progress = Callable[[int, int], None]
"""Told how many keys are re-wrapped, of how many."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """What was done.  `resumed`: an earlier rotation had not come to its end, and this was its end."""

    version: int
    rewrapped: int
    destroyed: tuple[int, ...]
    resumed: bool


def rotate(config: Config, secret: UnlockSecret, *, progress: Progress = lambda _done, _of: None) -> Rotation:
    """Replace the key-encryption key, or finish an earlier rotation.

    Raises:
        ConfigError: `keys_in_use` while any process has the keys.
        SealedError: the secret does not open them.
    """
    with alone(config.run_dir):
        keyring = unlock(config.keys_file, secret)
        resumed = is_unfinished(keyring)
        if not resumed:
            with _records(config, keyring).write() as tx:
                tx.append(RotationBegun(version=keyring.key_id + 1, keys=tx.patients.count_keys()), actor=OPERATOR)
            keyring = add_kek(config.keys_file, secret)
        return _finish(config, secret, keyring, progress=progress, resumed=resumed)


def finish(config: Config, secret: UnlockSecret) -> bool:
    """Finish an unfinished rotation if nobody else has the keys; otherwise leave it, all keys open as they are."""
    try:
        with alone(config.run_dir):
            keyring = unlock(config.keys_file, secret)
            if is_unfinished(keyring):
                _finish(config, secret, keyring, progress=lambda _done, _of: None, resumed=True)
    except ConfigError as error:
        if error.code != "keys_in_use":
            raise
        return False
    return True


def is_unfinished(keyring: Keyring) -> bool:
    """Whether old versions of the key-encryption key are still there."""
    return len(keyring.versions) > 1


def _finish(config: Config, secret: UnlockSecret, keyring: Keyring, *, progress: Progress, resumed: bool) -> Rotation:
    records = _records(config, keyring)
    rewrapped = _rewrap(records, progress)
    old = tuple(version for version in keyring.versions if version != keyring.key_id)
    with records.write() as tx:
        if tx.patients.to_rewrap():
            raise RuntimeError("a key was wrapped under an old version while the keys were held alone")
        event = RotationFinished(version=keyring.key_id, keys=tx.patients.count_keys(), destroyed=len(old))
        tx.append(event, actor=OPERATOR)
    records.truncate_journal()
    drop_old_keks(config.keys_file, secret)
    return Rotation(version=keyring.key_id, rewrapped=rewrapped, destroyed=old, resumed=resumed)


def _rewrap(records: Records, progress: Progress) -> int:
    with records.read() as tx:
        pending = tx.patients.to_rewrap()
    done = 0
    progress(done, pending)
    while True:
        with records.write() as tx:
            batch = tx.patients.rewrap(limit=BATCH)
        if not batch:
            return done
        done += batch
        progress(done, pending)


def _records(config: Config, keyring: Keyring) -> Records:
    engine = open_engine(config.database)
    check_current(engine, config.migrations_dir)
    return Records(engine, keyring=keyring)
