"""Key bytes from outside: the systemd credential, and the development key file.

Rules kept here:

* A key that others on the machine could read is refused.
* The development key lies beside the data it protects; everything about it carries `insecure` in its name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from clinic.crypto.durable import create_private, exclusive, read_private
from clinic.crypto.secret import KeyBytes
from clinic.errors import SealedError

CREDENTIAL_NAME = "clinic-key"
_MAX_BYTES = 256


def load_credential(environ: Mapping[str, str] = os.environ) -> KeyBytes:
    """Return the key that systemd handed to this service (`LoadCredentialEncrypted=clinic-key`).

    Raises:
        SealedError: `key_missing`, `key_malformed`, `key_file_exposed`, `key_file_unreadable`.
    """
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise SealedError(
            "systemd handed over no credentials",
            code="key_missing",
            hint="start the service through its systemd unit, with LoadCredentialEncrypted=clinic-key",
        )
    # For a service with User=, systemd gives access through an ACL, whose mask shows as group permission bits.
    data = read_private(Path(directory) / CREDENTIAL_NAME, max_bytes=_MAX_BYTES, group_may_read=True)
    return KeyBytes.from_text(data, "credential")


def create_insecure_key_file(path: Path) -> KeyBytes:
    """Write a fresh development key, readable by its owner only; refuses to overwrite one.

    Raises:
        ConfigError: `keys_exist`, `home_missing`.
    """
    key = KeyBytes.generate("insecure-key-file")
    with exclusive(path.parent):
        create_private(path, key.to_text())
    return key


def read_insecure_key_file(path: Path) -> KeyBytes:
    """Return the development key.

    Raises:
        SealedError: `key_missing`, `key_malformed`, `key_file_exposed`, `key_file_unreadable`.
    """
    return KeyBytes.from_text(read_private(path, max_bytes=_MAX_BYTES), "insecure-key-file")
