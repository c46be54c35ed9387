"""Alembic's environment: runs inside the transaction that `clinic.records.migrate` has begun, and nowhere else.

Rules kept here:

* Revisions never import `clinic`: they must mean the same in ten years, whatever the program has become.
* No logging is set up and no URL is read: the connection is handed over.
"""

from __future__ import annotations

from alembic import context

_connection = context.config.attributes.get("connection")
if _connection is None:
    raise SystemExit("migrations run through `clinic init` and `clinic migrate` only")

context.configure(connection=_connection, target_metadata=None)
with context.begin_transaction():
    context.run_migrations()
