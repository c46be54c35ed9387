"""What replaces a passphrase or ends an old key: the new one works, the old one does not, the rest stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from clinic.crypto.aead import header
from clinic.crypto.keyfile import MAX_SLOTS
from clinic.crypto.keys import (
    KeyBytes,
    Passphrase,
    SlotKind,
    UnlockSecret,
    add_kek,
    add_slot,
    create_keyring,
    drop_old_keks,
    remove_slot,
    set_passphrase,
    slots,
    unlock,
)
from clinic.errors import DecryptionError, InputError, SealedError

OLD = Passphrase("correct horse battery staple")
SECOND = Passphrase("another horse battery staple")
NEW = Passphrase("quite another battery staple")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a key file that does not exist yet."""
    return tmp_path / "keys.json"


def test_a_new_passphrase_ends_all_old_ones(path: Path) -> None:
    """Set with the recovery key: no old passphrase opens, and the recovery key goes on to."""
    keyring, recovery = create_keyring(path, secrets=[OLD, SECOND])
    info = set_passphrase(path, recovery, new=NEW)
    assert info.kind is SlotKind.PASSPHRASE
    assert sorted(slot.kind for slot in slots(path)) == sorted([SlotKind.PASSPHRASE, SlotKind.RECOVERY])
    for secret in (NEW, recovery):
        assert unlock(path, secret).handover() == keyring.handover()
    for secret in (OLD, SECOND):
        with pytest.raises(SealedError):
            unlock(path, secret)


def test_setting_a_passphrase_needs_room_and_changes_nothing_without(path: Path) -> None:
    """All slots taken by other kinds: refused, and everything opens as before."""
    keys: list[UnlockSecret] = [
        KeyBytes.generate("insecure-key-file") for _ in range(MAX_SLOTS - 1)
    ]  # and the recovery key
    create_keyring(path, secrets=keys[:2])
    for key in keys[2:]:
        add_slot(path, keys[0], new=key)
    before = path.read_bytes()
    with pytest.raises(InputError):
        set_passphrase(path, keys[0], new=NEW)
    assert path.read_bytes() == before


def test_a_dropped_key_unwraps_no_more(path: Path) -> None:
    """After a rotation the old key unwraps until it is dropped; the new one goes on to, from the file as well."""
    keyring, _ = create_keyring(path, secrets=[OLD])
    dek, wrapped = keyring.new_dek("p1")
    assert keyring.wrapped_header == header(1) == wrapped[:5]
    rotated = add_kek(path, OLD)
    assert rotated.wrapped_header == header(2)
    assert rotated.unwrap_dek("p1", wrapped) == dek
    rewrapped = rotated.rewrap_dek("p1", wrapped)
    dropped = drop_old_keks(path, OLD)
    for ring in (dropped, unlock(path, OLD)):
        assert ring.versions == (2,)
        assert ring.unwrap_dek("p1", rewrapped) == dek
        with pytest.raises(DecryptionError):
            ring.unwrap_dek("p1", wrapped)


def test_the_last_slot_of_a_needed_kind_stays(path: Path) -> None:
    """One of two passphrases goes, the last one does not, unless nobody needs a passphrase; what is left opens."""
    keyring, recovery = create_keyring(path, secrets=[OLD, SECOND])
    first, second = (slot for slot in slots(path) if slot.kind is SlotKind.PASSPHRASE)
    assert remove_slot(path, recovery, slot_id=first.id, needed=[SlotKind.PASSPHRASE]) == first
    before = path.read_bytes()
    with pytest.raises(InputError) as refused:
        remove_slot(path, recovery, slot_id=second.id, needed=[SlotKind.PASSPHRASE])
    assert refused.value.code == "slot_needed"
    assert path.read_bytes() == before
    assert unlock(path, SECOND).handover() == keyring.handover()
    remove_slot(path, recovery, slot_id=second.id)  # the control: without the rule it is gone
    assert [slot.kind for slot in slots(path)] == [SlotKind.RECOVERY]


@pytest.mark.parametrize("beginning", [0, 7, 8, 31])
def test_a_slot_is_named_by_its_beginning(path: Path, beginning: int) -> None:
    """Eight digits are enough; fewer, and nothing at all, name none."""
    create_keyring(path, secrets=[OLD])
    slot = slots(path)[1]
    if beginning < 8:
        with pytest.raises(InputError) as refused:
            remove_slot(path, OLD, slot_id=slot.id[:beginning])
        assert refused.value.code == "slot_unknown"
    else:
        assert remove_slot(path, OLD, slot_id=slot.id[:beginning]) == slot
    assert len(slots(path)) == (2 if beginning < 8 else 1)
