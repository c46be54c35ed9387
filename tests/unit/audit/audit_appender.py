"""A process that appends: `python audit_appender.py DATABASE NAME COUNT` prints each `seq` once it is committed."""

from __future__ import annotations

import sys
from pathlib import Path

from clinic.audit.events import LoginSucceeded
from clinic.domain import OPERATOR
from tests.unit.audit.audit_store import Store, open_engine


def main(database: str, name: str, count: str) -> None:
    """Append `count` entries and acknowledge each on standard output."""
    path = Path(database)
    log = Store(path=path, engine=open_engine(path)).log()
    for number in range(int(count)):
        entry = log.append(LoginSucceeded(user_id=f"{name}-{number}"), actor=OPERATOR)
        log.confirm(entry)
        sys.stdout.write(f"{entry.seq}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
