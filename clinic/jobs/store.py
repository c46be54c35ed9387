"""The job store: how DBOS is set up here.

Rules kept here:

* Arguments and results are ids, enum values and error codes (P2), stored as JSON: a store that somebody tampered with
  cannot make us run code, as DBOS's default, pickle, could.
* The application version is ours, so that an upgrade never strands a running job.
* No line of DBOS's own log reaches a console: it advertises a cloud service there.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer
from sqlalchemy.exc import SQLAlchemyError

from clinic.config import Config
from clinic.errors import JobError

QUEUE: Final = "encounters"
WORKFLOW: Final = "draft_encounter"
UPKEEP_QUEUE: Final = "upkeep"
UPKEEP_WORKFLOW: Final = "upkeep"
_APPLICATION: Final = "clinic"
_APPLICATION_VERSION: Final = "clinic-jobs-1"


def database_url(path: Path) -> str:
    """Return the SQLAlchemy URL of a job store on SQLite."""
    return f"sqlite:///{path}"


def worker_config(config: Config) -> DBOSConfig:
    """Return the settings of the one worker process of this data folder."""
    _quiet()
    return DBOSConfig(
        name=_APPLICATION,
        system_database_url=database_url(config.jobs_database),
        application_version=_APPLICATION_VERSION,
        executor_id="worker",
        serializer=DBOSPortableJSONSerializer(),
        log_level="ERROR",
        console_log_level="ERROR",
        enable_otlp=False,
    )


def open_client(config: Config) -> DBOSClient:
    """Return a client that can enqueue and look up jobs, without running any."""
    _quiet()
    return DBOSClient(system_database_url=database_url(config.jobs_database), serializer=DBOSPortableJSONSerializer())


def create_store(config: Config) -> None:
    """Create the job store's tables (mode 0600), idempotent."""
    _quiet()
    DBOS.migrate(database_url(config.jobs_database))
    config.jobs_database.chmod(0o600)


@contextmanager
def job_store_errors() -> Iterator[None]:
    """Turn what the job store refuses (full, damaged, gone) into `JobError`, without its cause, which names rows."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error):
        raise JobError(
            "the job store cannot be read or written",
            code="worker_unavailable",
            hint="see `clinic doctor`; no recording, transcript or note is lost",
        ) from None


def _quiet() -> None:
    logging.getLogger("dbos").setLevel(logging.ERROR)
