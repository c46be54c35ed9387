"""The clinic's keys on disk: create, unlock, and change what unlocks them.

Rules kept here:

* `keys.json` is written whole or not at all, readable by its owner only; an existing one is never overwritten.
* Changing anything needs a secret that opens the keyring, and leaves at least one that does.
* Slots wrap a file key, the file key seals the keyring: a new passphrase or a new KEK touches no other slot.

Example:
    keyring, recovery = create_keyring(home / "keys.json", secrets=[Passphrase(typed)])
    ...
    keyring = unlock(home / "keys.json", Passphrase(typed))
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from clinic.crypto.aead import VERSION, frame, new_key, open_blob, seal_blob
from clinic.crypto.durable import create_private, exclusive, read_private, replace_private
from clinic.crypto.keyfile import MAX_FILE_BYTES, MAX_SLOTS, KeyFile, Slot, damaged, parse, render
from clinic.crypto.keyring import MAX_VERSIONS, Keyring, Purpose
from clinic.crypto.recovery import RecoveryKey
from clinic.crypto.secret import KeyBytes, Passphrase, SlotKind, UnlockSecret
from clinic.crypto.slots import unwrap_file_key, wrap_file_key
from clinic.domain import Clock, new_id, utc_now
from clinic.errors import DecryptionError, InputError

__all__ = [
    "KeyBytes",
    "Keyring",
    "Passphrase",
    "Purpose",
    "RecoveryKey",
    "SlotInfo",
    "SlotKind",
    "UnlockSecret",
    "add_kek",
    "add_slot",
    "create_keyring",
    "drop_old_keks",
    "remove_slot",
    "renew_recovery_key",
    "replace_slot",
    "set_credential",
    "set_passphrase",
    "slots",
    "unlock",
]

_SHORTEST_ID = 8


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """What may be shown of a slot."""

    id: str
    kind: SlotKind
    created_at: datetime


def create_keyring(
    path: Path, *, secrets: Sequence[UnlockSecret], clock: Clock = utc_now
) -> tuple[Keyring, RecoveryKey]:
    """Write a new `keys.json`; return the unlocked keys and the recovery key, which is stored nowhere else.

    Raises:
        ConfigError: `keys_exist`, `home_missing`.
        InputError: `weak_passphrase`, `slots_full`.
    """
    if not secrets:
        raise ValueError("a keyring needs at least one secret beside the recovery key")
    keyring, recovery = Keyring.generate(), RecoveryKey.generate()
    file_id, file_key = new_id(), new_key()
    _require_room(len(secrets))
    new = tuple(wrap_file_key(file_key, secret, file_id=file_id, at=clock()) for secret in (*secrets, recovery))
    file = KeyFile(id=file_id, slots=new, keyring=_seal_keyring(keyring, file_id, file_key))
    with exclusive(path.parent):
        create_private(path, render(file))
    return keyring, recovery


def unlock(path: Path, secret: UnlockSecret) -> Keyring:
    """Return the clinic's keys.

    Raises:
        SealedError: `key_missing`, `key_wrong`, `key_file_exposed`, `key_file_unreadable`, `key_file_damaged`.
    """
    file = _read(path)
    file_key, _ = unwrap_file_key(file, secret)
    return _open_keyring(file, file_key)


def slots(path: Path) -> tuple[SlotInfo, ...]:
    """List the slots; needs no secret and proves nothing about them."""
    return tuple(_info(slot) for slot in _read(path).slots)


def add_slot(path: Path, secret: UnlockSecret, *, new: UnlockSecret, clock: Clock = utc_now) -> SlotInfo:
    """Let `new` open the keyring too."""
    with exclusive(path.parent):
        file = _read(path)
        file_key, _ = unwrap_file_key(file, secret)
        _require_room(len(file.slots))
        slot = wrap_file_key(file_key, new, file_id=file.id, at=clock())
        _write(path, file, (*file.slots, slot))
    return _info(slot)


def replace_slot(path: Path, secret: UnlockSecret, *, new: UnlockSecret, clock: Clock = utc_now) -> SlotInfo:
    """Let `new` open the keyring in place of `secret`, in one step: change the passphrase."""
    with exclusive(path.parent):
        file = _read(path)
        file_key, old = unwrap_file_key(file, secret)
        slot = wrap_file_key(file_key, new, file_id=file.id, at=clock())
        _write(path, file, tuple(slot if each.id == old.id else each for each in file.slots))
    return _info(slot)


def set_passphrase(path: Path, secret: UnlockSecret, *, new: Passphrase, clock: Clock = utc_now) -> SlotInfo:
    """Make `new` the only passphrase; every other kind of slot stays, so the recovery key goes on to work."""
    return _make_only(path, secret, new, clock=clock)


def set_credential(path: Path, secret: UnlockSecret, *, new: KeyBytes, clock: Clock = utc_now) -> SlotInfo:
    """Make `new` the only credential; every other kind of slot stays."""
    if new.kind != "credential":
        raise ValueError("this key is no credential")
    return _make_only(path, secret, new, clock=clock)


def remove_slot(path: Path, secret: UnlockSecret, *, slot_id: str, needed: Collection[SlotKind] = ()) -> SlotInfo:
    """Take a slot away, and return what it was.

    `secret` must open another one, so that somebody can still unlock.  `slot_id` may be the beginning of an id.  Of a
    kind that is `needed`, the last one stays.

    Raises:
        InputError: `slot_unknown`, `slot_in_use`, `slot_needed`.
    """
    with exclusive(path.parent):
        file = _read(path)
        _, opened = unwrap_file_key(file, secret)
        gone = _meant(file, slot_id)
        rest = tuple(slot for slot in file.slots if slot.id != gone.id)
        if opened.id == gone.id:
            raise InputError(
                "this slot is the one that was just used to unlock",
                code="slot_in_use",
                hint="unlock with another secret to remove it, so that nobody is locked out",
            )
        if gone.kind in needed and all(slot.kind != gone.kind for slot in rest):
            raise InputError(
                f"this is the last slot of the kind `{gone.kind}`, which is still needed",
                code="slot_needed",
                hint="change `key_source` in clinic.toml first; for the recovery slot: --without-recovery",
            )
        _write(path, file, rest)
    return _info(gone)


def renew_recovery_key(path: Path, secret: UnlockSecret, *, clock: Clock = utc_now) -> RecoveryKey:
    """Return a new recovery key; the printed one opens nothing from now on."""
    recovery = RecoveryKey.generate()
    _make_only(path, secret, recovery, clock=clock)
    return recovery


def add_kek(path: Path, secret: UnlockSecret) -> Keyring:
    """Add a fresh KEK for everything wrapped from now on; `Keyring.rewrap_dek` moves what there is.

    Raises:
        InputError: `versions_full`.
    """
    with exclusive(path.parent):
        file = _read(path)
        file_key, _ = unwrap_file_key(file, secret)
        keyring = _open_keyring(file, file_key)
        if len(keyring.versions) >= MAX_VERSIONS:
            raise InputError(
                f"the keyring holds {MAX_VERSIONS} key versions already",
                code="versions_full",
                hint="rotation is needed every year or after an incident, not every day",
            )
        return _replace_keyring(path, file, keyring.with_new_kek(), file_key)


def drop_old_keks(path: Path, secret: UnlockSecret) -> Keyring:
    """Destroy every KEK but the active one.  The caller has made sure that nothing is wrapped under them any more."""
    with exclusive(path.parent):
        file = _read(path)
        file_key, _ = unwrap_file_key(file, secret)
        return _replace_keyring(path, file, _open_keyring(file, file_key).without_old_keks(), file_key)


def _make_only(path: Path, secret: UnlockSecret, new: UnlockSecret, *, clock: Clock) -> SlotInfo:
    """Put `new` in place of every slot of its kind."""
    with exclusive(path.parent):
        file = _read(path)
        file_key, _ = unwrap_file_key(file, secret)
        others = tuple(slot for slot in file.slots if slot.kind != new.kind)
        _require_room(len(others))
        slot = wrap_file_key(file_key, new, file_id=file.id, at=clock())
        _write(path, file, (*others, slot))
    return _info(slot)


def _replace_keyring(path: Path, file: KeyFile, keyring: Keyring, file_key: bytes) -> Keyring:
    sealed = _seal_keyring(keyring, file.id, file_key)
    replace_private(path, render(file.model_copy(update={"keyring": sealed})))
    return keyring


def _meant(file: KeyFile, beginning: str) -> Slot:
    """Return the one slot whose id begins like this; what was typed is not repeated, for it may be a secret."""
    found = [slot for slot in file.slots if slot.id.startswith(beginning)]
    if len(found) != 1 or len(beginning) < _SHORTEST_ID:
        raise InputError(
            "there is no such slot, or more than one begins like this",
            code="slot_unknown",
            hint="list the slots with `clinic keys status`; eight digits of one are enough",
        )
    return found[0]


def _read(path: Path) -> KeyFile:
    return parse(read_private(path, max_bytes=MAX_FILE_BYTES))


def _write(path: Path, file: KeyFile, new: tuple[Slot, ...]) -> None:
    replace_private(path, render(file.model_copy(update={"slots": new})))


def _info(slot: Slot) -> SlotInfo:
    return SlotInfo(id=slot.id, kind=slot.kind, created_at=datetime.fromisoformat(slot.created_at))


def _require_room(taken: int) -> None:
    if taken >= MAX_SLOTS:
        raise InputError(
            f"`keys.json` holds {MAX_SLOTS} slots at most", code="slots_full", hint="remove one that is not used"
        )


def _keyring_context(file_id: str) -> bytes:
    return frame(b"clinic.keyring", VERSION.to_bytes(1, "big"), file_id.encode())


def _seal_keyring(keyring: Keyring, file_id: str, file_key: bytes) -> str:
    return seal_blob(file_key, keyring.pack(), aad=_keyring_context(file_id), key_id=0).hex()


def _open_keyring(file: KeyFile, file_key: bytes) -> Keyring:
    try:
        sealed, aad = bytes.fromhex(file.keyring), _keyring_context(file.id)
        return Keyring.unpack(open_blob(file_key, sealed, aad=aad, key_id=0, what="the keyring"))
    except (DecryptionError, ValueError):
        raise damaged("key `keyring` does not open") from None
