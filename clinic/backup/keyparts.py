"""The keys of a backup on the medium: written as one folder that is there whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyrage

from clinic.audit.checkpoint import NoteSigner
from clinic.backup.manifest import DEKS, KEYS, Deks, keys_folder
from clinic.backup.medium import erase, make_folder, publish, write_small


def write_keys(
    folder: Path, deks: Deks, keys_file: bytes, *, signer: NoteSigner, recipients: Sequence[pyrage.x25519.Recipient]
) -> None:
    """Write a generation of keys into a backup.

    Raises:
        StorageError: the medium refused; the generation before is as it was.
    """
    final = folder / keys_folder(deks.generation)
    partial = final.with_name(f".{final.name}.new")
    if partial.exists():
        erase(partial)
    make_folder(partial)
    write_small(partial / DEKS, pyrage.encrypt(deks.pack(signer), list(recipients)))
    write_small(partial / KEYS, keys_file)
    publish(partial, final)
