"""`keys.json`: created once, opened by any of its slots, changed only by who can open it."""

import json
import stat
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from clinic.crypto import keyfile, slots
from clinic.crypto.keyfile import KeyFile, parse
from clinic.crypto.keyring import MAX_VERSIONS
from clinic.crypto.keys import (
    KeyBytes,
    Keyring,
    Passphrase,
    Purpose,
    RecoveryKey,
    SlotKind,
    UnlockSecret,
    add_kek,
    add_slot,
    create_keyring,
    remove_slot,
    renew_recovery_key,
    replace_slot,
    set_credential,
    unlock,
)
from clinic.crypto.keys import slots as list_slots
from clinic.errors import ClinicError, ConfigError, InputError, SealedError

PASSPHRASE = Passphrase("correct horse battery staple")
FILE_KEY = KeyBytes.generate("insecure-key-file")
CREDENTIAL = KeyBytes.generate("credential")
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def same(one: Keyring, other: Keyring) -> bool:
    """Compare the keys themselves."""
    return one.handover() == other.handover()


def code_of(action: Callable[[], object]) -> str:
    """Return the code of the error that an action raises."""
    with pytest.raises(ClinicError) as caught:
        action()
    return caught.value.code


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a key file that does not exist yet."""
    return tmp_path / "keys.json"


@pytest.fixture
def keyring(path: Path) -> Keyring:
    """Create a key file opened by `FILE_KEY`."""
    return create_keyring(path, secrets=[FILE_KEY], clock=lambda: NOON)[0]


def tamper(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the JSON of a key file."""
    data = json.loads(path.read_bytes())
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def test_every_secret_opens_the_same_keyring(path: Path) -> None:
    """Passphrase, credential, key file and recovery key all give the same keys."""
    keyring, recovery = create_keyring(path, secrets=[PASSPHRASE, CREDENTIAL, FILE_KEY])
    for secret in (PASSPHRASE, CREDENTIAL, FILE_KEY, recovery, RecoveryKey.from_shares(*recovery.split()[1:])):
        assert same(unlock(path, secret), keyring)


def test_wrong_secrets_get_one_answer(path: Path) -> None:
    """A wrong passphrase, wrong bytes, another kind's bytes and a strange recovery key: `key_wrong`, same words."""
    create_keyring(path, secrets=[PASSPHRASE, FILE_KEY])
    wrong: list[UnlockSecret] = [
        Passphrase("correct horse battery stable"),
        Passphrase(""),
        Passphrase("\ud800 lone surrogate"),
        KeyBytes.generate("insecure-key-file"),
        KeyBytes(FILE_KEY.material, "credential"),
        RecoveryKey.generate(),
    ]
    messages = set()
    for secret in wrong:
        with pytest.raises(SealedError) as caught:
            unlock(path, secret)
        assert caught.value.code == "key_wrong"
        messages.add(str(caught.value))
    assert len(messages) == 1


def test_a_passphrase_is_the_same_on_every_keyboard(path: Path) -> None:
    """Composed and decomposed letters are one passphrase."""
    keyring, _ = create_keyring(path, secrets=[Passphrase("caf\u00e9 au lait et pain")])
    assert same(unlock(path, Passphrase("cafe\u0301 au lait et pain")), keyring)


def test_a_guess_costs_the_same_without_a_passphrase_slot(
    path: Path, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether there is a passphrase at all cannot be told from the time: Argon2id runs either way."""
    assert keyring.key_id == 1
    costs = []
    real = slots._derive

    def counting(secret: UnlockSecret, kdf: keyfile.Argon2idKdf | keyfile.HkdfKdf) -> bytes:
        costs.append(kdf.name)
        return real(secret, kdf)

    monkeypatch.setattr(slots, "_derive", counting)
    started = time.perf_counter()
    assert code_of(lambda: unlock(path, PASSPHRASE)) == "key_wrong"
    assert time.perf_counter() - started > 0.02
    assert costs == ["argon2id"]


def test_no_file_is_key_missing(path: Path) -> None:
    """Without `keys.json` the answer is that there is none."""
    assert code_of(lambda: unlock(path, FILE_KEY)) == "key_missing"
    assert code_of(lambda: list_slots(path)) == "key_missing"
    assert code_of(lambda: add_slot(path, FILE_KEY, new=CREDENTIAL)) == "key_missing"


def test_no_folder_is_home_missing(tmp_path: Path) -> None:
    """A keyring is not created where there is no data folder."""
    assert code_of(lambda: create_keyring(tmp_path / "no" / "keys.json", secrets=[FILE_KEY])) == "home_missing"


def test_an_existing_file_is_never_overwritten(path: Path, keyring: Keyring) -> None:
    """Creating twice keeps the first keyring, on which every record depends."""
    before = path.read_bytes()
    with pytest.raises(ConfigError) as caught:
        create_keyring(path, secrets=[FILE_KEY])
    assert caught.value.code == "keys_exist"
    assert path.read_bytes() == before
    assert same(unlock(path, FILE_KEY), keyring)
    assert [each.name for each in path.parent.iterdir()] == ["keys.json"]


def test_a_keyring_needs_a_secret(path: Path) -> None:
    """The recovery key alone is no way to start every day."""
    with pytest.raises(ValueError, match="at least one secret"):
        create_keyring(path, secrets=[])


@pytest.mark.parametrize(
    "text", ["", "short", "elevenchars", "aaaaaaaaaaaaaaaa", "abababababab", "x" * 1025 + "abcdef"]
)
def test_a_weak_passphrase_is_refused_when_it_is_chosen(path: Path, text: str) -> None:
    """Too short, too uniform or endless: refused before anything is written."""
    with pytest.raises(InputError) as caught:
        create_keyring(path, secrets=[Passphrase(text)])
    assert caught.value.code == "weak_passphrase"
    assert not text or text not in str(caught.value) + caught.value.hint
    assert not path.exists()


def test_the_file_is_private_and_holds_no_key(path: Path) -> None:
    """Mode 0600; no key, root, passphrase or recovery key in the clear."""
    keyring, recovery = create_keyring(path, secrets=[PASSPHRASE, FILE_KEY])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text(encoding="utf-8")
    packed = keyring.pack()
    for secret in (PASSPHRASE.text, recovery.material.hex(), FILE_KEY.material.hex()):
        assert secret not in text
    for start in range(len(packed) - 8):
        assert packed[start : start + 8].hex() not in text


def test_slots_are_listed_without_a_secret(path: Path, keyring: Keyring) -> None:
    """Kind and date of each slot can be shown while sealed."""
    assert keyring.versions == (1,)
    assert [(slot.kind, slot.created_at) for slot in list_slots(path)] == [
        (SlotKind.INSECURE_KEY_FILE, NOON),
        (SlotKind.RECOVERY, NOON),
    ]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o610, 0o777])
def test_a_file_open_to_others_is_refused(path: Path, keyring: Keyring, mode: int) -> None:
    """Readable, writable or executable by anybody else: refused, naming the mode and the remedy."""
    path.chmod(mode)
    with pytest.raises(SealedError) as caught:
        unlock(path, FILE_KEY)
    assert caught.value.code == "key_file_exposed"
    assert f"{mode:04o}" in str(caught.value)
    assert "chmod 600" in caught.value.hint
    path.chmod(0o600)  # negative control: the mode was all that was wrong
    assert same(unlock(path, FILE_KEY), keyring)


def test_a_passphrase_is_changed_in_one_step(path: Path) -> None:
    """After the change the new one opens, the old one does not, and nothing else moved."""
    keyring, recovery = create_keyring(path, secrets=[PASSPHRASE])
    new = Passphrase("another long passphrase")
    changed = replace_slot(path, PASSPHRASE, new=new)
    assert same(unlock(path, new), keyring)
    assert same(unlock(path, recovery), keyring)
    assert code_of(lambda: unlock(path, PASSPHRASE)) == "key_wrong"
    assert [slot.kind for slot in list_slots(path)] == ["passphrase", "recovery"]
    assert list_slots(path)[0].id == changed.id


def test_a_forgotten_passphrase_is_replaced_with_the_recovery_key(path: Path) -> None:
    """The recovery key can add a passphrase and take the forgotten one away."""
    keyring, recovery = create_keyring(path, secrets=[PASSPHRASE])
    new = Passphrase("another long passphrase")
    add_slot(path, recovery, new=new)
    remove_slot(path, new, slot_id=list_slots(path)[0].id)
    assert same(unlock(path, new), keyring)
    assert code_of(lambda: unlock(path, PASSPHRASE)) == "key_wrong"


def test_changes_need_a_secret_that_opens(path: Path, keyring: Keyring) -> None:
    """Nobody changes slots or keys without opening the keyring first."""
    before = path.read_bytes()
    stranger = KeyBytes.generate("insecure-key-file")
    for change in (
        lambda: add_slot(path, stranger, new=CREDENTIAL),
        lambda: replace_slot(path, stranger, new=CREDENTIAL),
        lambda: remove_slot(path, stranger, slot_id=list_slots(path)[0].id),
        lambda: renew_recovery_key(path, stranger),
        lambda: add_kek(path, stranger),
    ):
        assert code_of(change) == "key_wrong"
    assert path.read_bytes() == before
    assert same(unlock(path, FILE_KEY), keyring)


def test_the_slot_in_use_and_unknown_slots_stay(path: Path, keyring: Keyring) -> None:
    """Nobody locks themselves out, and a mistyped slot id changes nothing."""
    own = list_slots(path)[0].id
    assert code_of(lambda: remove_slot(path, FILE_KEY, slot_id=own)) == "slot_in_use"
    assert code_of(lambda: remove_slot(path, FILE_KEY, slot_id="0" * 32)) == "slot_unknown"
    assert len(list_slots(path)) == 2
    assert same(unlock(path, FILE_KEY), keyring)


def test_a_new_recovery_key_ends_the_old_one(path: Path) -> None:
    """After renewal only the new sheet opens."""
    keyring, old = create_keyring(path, secrets=[FILE_KEY])
    new = renew_recovery_key(path, FILE_KEY)
    assert same(unlock(path, new), keyring)
    assert code_of(lambda: unlock(path, old)) == "key_wrong"
    assert len(list_slots(path)) == 2


def test_slots_have_an_upper_bound(path: Path) -> None:
    """Eight slots at most, the recovery key's included."""
    assert code_of(lambda: create_keyring(path, secrets=[FILE_KEY] * 8)) == "slots_full"
    create_keyring(path, secrets=[FILE_KEY] * 7)
    assert code_of(lambda: add_slot(path, FILE_KEY, new=CREDENTIAL)) == "slots_full"


def test_renewing_the_recovery_key_needs_room(path: Path) -> None:
    """A full file without a recovery slot has no room for one."""
    create_keyring(path, secrets=[FILE_KEY] * 7)
    remove_slot(path, FILE_KEY, slot_id=list_slots(path)[-1].id)
    add_slot(path, FILE_KEY, new=CREDENTIAL)
    assert code_of(lambda: renew_recovery_key(path, FILE_KEY)) == "slots_full"


def test_rotation_is_stored_and_keeps_every_slot(path: Path) -> None:
    """After rotation each secret gives the new KEK, the old data keys and the same derived keys."""
    keyring, recovery = create_keyring(path, secrets=[FILE_KEY])
    dek, wrapped = keyring.new_dek("p1")
    rotated = add_kek(path, recovery)
    for secret in (FILE_KEY, recovery):
        again = unlock(path, secret)
        assert same(again, rotated)
        assert again.key_id == 2
        assert again.unwrap_dek("p1", wrapped) == dek
        assert again.derive(Purpose.AUDIT_SIGNING) == keyring.derive(Purpose.AUDIT_SIGNING)


def test_rotation_has_an_upper_bound_and_the_file_stays_readable_at_it(path: Path, keyring: Keyring) -> None:
    """The largest keyring can be written and read; one more version is refused."""
    for _ in range(MAX_VERSIONS - 1):
        keyring = add_kek(path, FILE_KEY)
    assert len(keyring.versions) == MAX_VERSIONS
    assert same(unlock(path, FILE_KEY), keyring)
    assert code_of(lambda: add_kek(path, FILE_KEY)) == "versions_full"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"memory_kib": 8}, id="memory 8 KiB"),
        pytest.param({"memory_kib": 65535}, id="memory just too small"),
        pytest.param({"memory_kib": 100 * 1024 * 1024}, id="memory 100 GiB"),
        pytest.param({"iterations": 1}, id="one pass"),
        pytest.param({"iterations": 10**9}, id="endless"),
        pytest.param({"lanes": 0}, id="no lane"),
        pytest.param({"lanes": 2**24}, id="many lanes"),
        pytest.param({"memory_kib": "65536"}, id="text for a number"),
        pytest.param({"memory_kib": 65536.0}, id="fraction for a number"),
        pytest.param({"salt": "00"}, id="short salt"),
        pytest.param({"name": "pbkdf2"}, id="unknown kdf"),
        pytest.param({"pepper": 1}, id="unknown parameter"),
    ],
)
def test_parameters_out_of_bounds_are_refused_before_any_work(
    path: Path, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tampered file neither weakens the passphrase nor exhausts the machine: nothing is derived from it at all."""
    create_keyring(path, secrets=[PASSPHRASE])
    tamper(path, lambda data: data["slots"][0]["kdf"].update(change))

    def forbidden(*_args: object) -> bytes:
        raise AssertionError("work was done on a tampered file")

    monkeypatch.setattr(slots, "_derive", forbidden)
    tracemalloc.start()
    assert code_of(lambda: unlock(path, PASSPHRASE)) == "key_file_damaged"
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


def test_parameters_inside_the_bounds_are_authenticated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changing what a slot says of itself makes it useless, even where the derived key stays the same."""
    recovery = create_keyring(path, secrets=[FILE_KEY])[1]
    original = path.read_bytes()
    changes: list[Callable[[dict[str, Any]], object]] = [
        lambda data: data["slots"][1].update(created_at="2001-01-01T00:00:00Z"),
        lambda data: data["slots"][1].update(id="0" * 32),
        lambda data: data["slots"][1]["kdf"].update(salt="0" * 64),
        lambda data: data.update(id="0" * 32),
    ]
    for change in changes:
        path.write_bytes(original)
        tamper(path, change)
        assert code_of(lambda: unlock(path, recovery)) == "key_wrong"
    # Negative control: without the associated data a changed date would pass.
    path.unlink()
    monkeypatch.setattr(slots, "_slot_context", lambda _slot, _file_id: b"")
    unbound = create_keyring(path, secrets=[FILE_KEY])[1]
    tamper(path, changes[0])
    unlock(path, unbound)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        pytest.param(lambda data: data.update(version=3), "version", id="later version"),
        pytest.param(lambda data: data.update(extra=1), "extra", id="unknown key"),
        pytest.param(lambda data: data.pop("keyring"), "keyring", id="key missing"),
        pytest.param(lambda data: data.update(keyring="zz"), "keyring", id="not hex"),
        pytest.param(lambda data: data.update(keyring="0"), "keyring", id="half a byte"),
        pytest.param(lambda data: data.update(slots=[]), "slots", id="no slots"),
        pytest.param(lambda data: data.update(slots=data["slots"] * 5), "slots", id="too many slots"),
        pytest.param(lambda data: data["slots"][0].update(wrapped="00"), "slots.0.wrapped", id="short blob"),
        pytest.param(lambda data: data["slots"][0].update(kind="magic"), "slots.0.kind", id="unknown kind"),
        pytest.param(lambda data: data["slots"][1].update(kind="passphrase"), "slots.1", id="kind without its kdf"),
        pytest.param(lambda data: data["slots"][0].update(created_at="2026-02-30T00:00:00Z"), "slots.0", id="no day"),
    ],
)
def test_a_damaged_file_is_named_by_place(
    path: Path, keyring: Keyring, change: Callable[[dict[str, Any]], object], where: str
) -> None:
    """Anything that this program did not write is refused, and the message says where, not what."""
    assert keyring.key_id == 1
    tamper(path, change)
    with pytest.raises(SealedError) as caught:
        unlock(path, FILE_KEY)
    assert caught.value.code == "key_file_damaged"
    assert str(caught.value) == f"`keys.json` is damaged: key `{where}` is not valid"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"text"'])
def test_something_else_in_its_place_is_damage(path: Path, keyring: Keyring, data: bytes) -> None:
    """An emptied or foreign file is refused, without quoting it."""
    assert keyring.key_id == 1
    path.write_bytes(data)
    assert code_of(lambda: unlock(path, FILE_KEY)) == "key_file_damaged"


def test_a_slot_twice_is_damage(path: Path, keyring: Keyring) -> None:
    """Slot ids are unique, or removal would be ambiguous."""
    assert keyring.key_id == 1
    tamper(path, lambda data: data["slots"].append(data["slots"][0]))
    assert code_of(lambda: unlock(path, FILE_KEY)) == "key_file_damaged"


def test_every_changed_digit_of_the_sealed_parts_is_noticed(path: Path, keyring: Keyring) -> None:
    """No digit of wrapped file key or sealed keyring can change unnoticed."""
    assert keyring.key_id == 1
    file = parse(path.read_bytes())
    for at in range(len(file.keyring)):
        changed = file.model_copy(update={"keyring": flip_digit(file.keyring, at)})
        assert refuses(path, changed) == "key_file_damaged"
    slot = file.slots[0]
    for at in range(len(slot.wrapped)):
        other = slot.model_copy(update={"wrapped": flip_digit(slot.wrapped, at)})
        assert refuses(path, file.model_copy(update={"slots": (other, file.slots[1])})) == "key_wrong"


def flip_digit(text: str, at: int) -> str:
    """Change one hexadecimal digit."""
    return text[:at] + f"{int(text[at], 16) ^ 1:x}" + text[at + 1 :]


def refuses(path: Path, file: KeyFile) -> str:
    """Return the code with which `file` is refused."""
    path.write_bytes(keyfile.render(file))
    return code_of(lambda: unlock(path, FILE_KEY))


def test_secrets_do_not_show() -> None:
    """Passphrases and key bytes stay out of repr and str."""
    assert repr(PASSPHRASE) == str(PASSPHRASE) == "Passphrase(kind='passphrase')"
    assert repr(CREDENTIAL) == str(CREDENTIAL) == "KeyBytes(kind='credential')"


def test_key_bytes_have_one_length() -> None:
    """Anything but 32 bytes is the caller's mistake."""
    with pytest.raises(ValueError, match="32 bytes"):
        KeyBytes(b"short", "credential")


def test_a_new_credential_replaces_every_older_one(path: Path) -> None:
    """The new one opens, the old ones open nothing, every other slot stays; another kind of key is refused."""
    create_keyring(path, secrets=[FILE_KEY, CREDENTIAL])
    add_slot(path, FILE_KEY, new=KeyBytes.generate("credential"))
    new = KeyBytes.generate("credential")
    assert set_credential(path, CREDENTIAL, new=new).kind is SlotKind.CREDENTIAL
    assert [slot.kind for slot in list_slots(path)].count(SlotKind.CREDENTIAL) == 1
    assert unlock(path, new).pack() == unlock(path, FILE_KEY).pack()
    assert code_of(lambda: unlock(path, CREDENTIAL)) == "key_wrong"
    with pytest.raises(ValueError, match="no credential"):
        set_credential(path, FILE_KEY, new=FILE_KEY)
