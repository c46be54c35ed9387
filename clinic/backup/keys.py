"""What opens and vouches for this clinic's backups, derived from its root key.

Rules kept here:

* Whoever can unlock `keys.json` opens every backup of the clinic, on any machine; nothing else has to be kept.
* Encrypting to somebody proves nothing about the writer, so what is written is signed as well, by a key of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyrage

from clinic.audit.checkpoint import NoteSigner
from clinic.audit.log import pseudonym_of
from clinic.crypto.keys import Keyring, Purpose
from clinic.errors import InputError

_CHARSET: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATORS: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_PREFIX: Final = "age-secret-key-"
_CHECKSUM: Final = 6


@dataclass(frozen=True, slots=True)
class BackupKeys:
    """The clinic's backup identity and signature; the repr shows neither."""

    identity: pyrage.x25519.Identity = field(repr=False)
    signer: NoteSigner

    @classmethod
    def of(cls, keyring: Keyring) -> BackupKeys:
        """Derive them: always the same for the same clinic, whatever its passphrase."""
        identity = pyrage.x25519.Identity.from_str(identity_text(keyring.derive(Purpose.BACKUP_IDENTITY)))
        seed = keyring.derive(Purpose.BACKUP_SIGNING)
        prefix = "clinic.local/backup"
        fingerprint = hashlib.sha256(NoteSigner(name=prefix, seed=seed).key.public).hexdigest()
        return cls(identity=identity, signer=NoteSigner(name=f"{prefix}/{fingerprint[:16]}", seed=seed))

    def recipients(self, further: Sequence[str] = ()) -> list[pyrage.x25519.Recipient]:
        """Return to whom a backup is encrypted: the clinic itself, and whoever else the configuration names.

        Raises:
            InputError: `recipient_invalid`.
        """
        try:
            others = [pyrage.x25519.Recipient.from_str(text.strip()) for text in dict.fromkeys(further)]
        except pyrage.RecipientError:
            raise InputError(
                "`backup.recipients` holds something that is no age recipient",
                code="recipient_invalid",
                hint="an age recipient starts with `age1`; its holder makes one with `age-keygen`",
            ) from None
        return [self.identity.to_public(), *others]


def pseudonyms(keyring: Keyring) -> Callable[[str], str]:
    """Return the function that gives the name under which the audit log knows a patient."""
    key = keyring.derive(Purpose.AUDIT_PSEUDONYM)
    return lambda patient_id: pseudonym_of(key, patient_id)


def identity_text(secret: bytes) -> str:
    """Return a 32-byte X25519 secret as age writes it: Bech32 (BIP 173), upper case."""
    number = int.from_bytes(secret, "big") << 4  # 256 bits and 4 of padding: 52 groups of 5
    data = [(number >> shift) & 31 for shift in range(255, -1, -5)]
    expanded = [ord(c) >> 5 for c in _PREFIX] + [0] + [ord(c) & 31 for c in _PREFIX]
    check = _polymod([*expanded, *data, *[0] * _CHECKSUM]) ^ 1
    data += [(check >> 5 * (_CHECKSUM - 1 - i)) & 31 for i in range(_CHECKSUM)]
    return f"{_PREFIX}1{''.join(_CHARSET[value] for value in data)}".upper()


def _polymod(values: Iterable[int]) -> int:
    check = 1
    for value in values:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATORS):
            check ^= generator if top >> bit & 1 else 0
    return check
