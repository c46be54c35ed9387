"""Starting the clinic's own processes, and handing them the unlocked keyring.

Rules kept here:

* The keyring goes through an inherited pipe, never disk, arguments or environment.
* No child inherits `CLINIC_PASSPHRASE`.
* Every child is told who its parent is, so that it can end with it (`--parent`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import IO, Final

from clinic.crypto.keys import Keyring
from clinic.errors import SealedError

PASSPHRASE_VARIABLE: Final = "CLINIC_PASSPHRASE"  # noqa: S105 - the name of a variable, not a secret


def start(
    command: Sequence[str], *, log: IO[bytes] | None = None, pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start `clinic COMMAND --parent PID` in a session of its own, without the passphrase in its environment."""
    return subprocess.Popen(
        [sys.executable, "-m", "clinic", *command, "--parent", str(os.getpid())],
        pass_fds=pass_fds,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env={name: value for name, value in os.environ.items() if name != PASSPHRASE_VARIABLE},
        start_new_session=True,
    )


def start_with_key(
    command: Sequence[str], keyring: Keyring, *, log: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Start `clinic COMMAND --key-fd N` with the keyring readable once at descriptor N."""
    read_end, write_end = os.pipe()
    try:
        process = start([*command, "--key-fd", str(read_end)], log=log, pass_fds=(read_end,))
    finally:
        os.close(read_end)
    with os.fdopen(write_end, "wb") as pipe:
        pipe.write(keyring.handover())
    return process


def receive_key(descriptor: int) -> Keyring:
    """Read the keyring that `start_with_key` handed over, and close the descriptor.

    Raises:
        SealedError: `key_missing` if nothing was handed over.
    """
    try:
        with os.fdopen(descriptor, "rb") as pipe:
            data = pipe.read()
    except OSError:
        data = b""
    if not data:
        raise SealedError(
            "no key was handed over", code="key_missing", hint="this command is started by `clinic serve`"
        )
    return Keyring.from_handover(data)
