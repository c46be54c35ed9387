"""A new version takes over a data folder; what the installer runs before it switches.

Rules kept here:

* An older database is changed only after the version in force has made a backup of it, verified.
* Nobody else may have the keys meanwhile: a clinic that runs is left alone.
* Every step can be repeated: killed anywhere, the same command finishes the rest.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from clinic.bundle.installed import Installed, record
from clinic.config import Config
from clinic.crypto.holding import alone
from clinic.errors import BundleError, ConfigError
from clinic.handover import PASSPHRASE_VARIABLE
from clinic.home import open_records, unlock_home
from clinic.jobs.store import create_store
from clinic.records.engine import open_engine
from clinic.records.migrate import check_current, upgrade


@dataclass(frozen=True, slots=True)
class Settled:
    """What was done."""

    migrated: bool
    recorded: int


def needs_migration(config: Config) -> bool:
    """Tell whether the data folder is of an older version; needs no key.

    Raises:
        ConfigError: `schema_missing`, `schema_newer`.
    """
    if not config.database.exists():
        raise ConfigError(
            "the database is not there", code="schema_missing", hint="restore the data folder from your backup"
        )
    engine = open_engine(config.database)
    try:
        check_current(engine, config.migrations_dir)
    except ConfigError as error:
        if error.code != "schema_older":
            raise
        return True
    finally:
        engine.dispose()
    return False


def settle(
    config: Config, found: Installed, *, old: Path | None, backup_to: Path | None, passphrase: str | None
) -> Settled:
    """Back up and migrate if the database is older, then record what was installed.

    Args:
        config: the data folder.
        found: what this program was installed from.
        old: the `clinic` program of the version in force.
        backup_to: where the backup goes, if not to the configured place.
        passphrase: opens the data folder, where neither credential nor key file does.

    Raises:
        ConfigError: `schema_newer`, `schema_missing`; `keys_in_use` while the clinic runs.
        SealedError: the data folder cannot be unlocked.
        BundleError: `old_program_missing`, `data_backup_failed`; the database was not touched.
    """
    migrate = needs_migration(config)
    if migrate:
        if old is None:
            raise BundleError(
                "the data folder is of an older version, and no program is there that could back it up",
                code="old_program_missing",
                hint="make a backup with the program that wrote it, run `clinic migrate`, then install again",
            )
        with alone(config.run_dir):
            pass  # told before the backup, which takes a while
        unlock_home(config, passphrase=passphrase)  # a wrong passphrase is told before, too; let go at once
        _back_up(config, old, backup_to, passphrase)
        with alone(
            config.run_dir
        ):  # INVARIANT: no program that was started during the backup works on what is migrated
            engine = open_engine(config.database)
            upgrade(engine, config.migrations_dir)
            engine.dispose()
            create_store(config)
    keyring = unlock_home(config, passphrase=passphrase)
    records = open_records(config, keyring)
    try:
        return Settled(migrated=migrate, recorded=record(records, found))
    finally:
        records.close()


def _back_up(config: Config, old: Path, to: Path | None, passphrase: str | None) -> None:
    command = [str(old), "backup", "create", "--home", str(config.home), *(["--to", str(to)] if to else [])]
    environment = dict(os.environ) | ({PASSPHRASE_VARIABLE: passphrase} if passphrase is not None else {})
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise BundleError(
            f"the version in force could not make a backup (exit {done.returncode})",
            code="data_backup_failed",
            hint="its own words stand above; nothing was changed",
        )
