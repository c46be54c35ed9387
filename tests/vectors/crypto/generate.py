"""Write the vectors of clinic/crypto/FORMAT.md, from that page alone: nothing of `clinic` is imported here.

Run `python tests/vectors/crypto/generate.py` to write the files anew; a test compares them with what this gives.
All "random" bytes come from SHA-256 of a label, so every run gives the same files.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import unicodedata
from pathlib import Path
from typing import Any

from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from shamir_mnemonic import shamir

HERE = Path(__file__).parent
PASSPHRASE = "corre\u0301ct horse \ufb01ve staple"  # decomposed accent, ligature: NFKC changes both
PLACE: dict[str, str | int] = {
    "table": "patients",
    "column": "name",
    "row": "row-1",
    "patient": "patient-1",
    "row_version": 7,
}
Vectors = dict[str, str]


def fixed(label: str, length: int = 32) -> bytes:
    """Return bytes that stand for random ones."""
    return hashlib.sha256(label.encode()).digest()[:length]


def frame(*fields: bytes) -> bytes:
    """Section 1."""
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def blob(key: bytes, plaintext: bytes, aad: bytes, *, key_id: int, nonce: str) -> bytes:
    """Section 2."""
    random = fixed(nonce, 12)
    return b"\x01" + key_id.to_bytes(4, "big") + random + AESGCM(key).encrypt(random, plaintext, aad)


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block of output."""
    extracted = hmac.digest(salt or bytes(32), secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def sealed_field(plaintext: bytes, **changes: Any) -> bytes:
    """Section 3."""
    place = PLACE | changes
    key_id = int(place.pop("key_id", 1))
    texts = [str(place[name]).encode() for name in ("table", "column", "row", "patient")]
    aad = frame(b"\x01", *texts, key_id.to_bytes(4, "big"), int(place["row_version"]).to_bytes(8, "big"))
    return blob(fixed("dek"), plaintext, aad, key_id=key_id, nonce="field nonce")


def packed_keyring(active: int = 2, versions: tuple[int, ...] = (1, 2)) -> bytes:
    """Section 5, last part."""
    keks = b"".join(version.to_bytes(4, "big") + fixed(f"kek {version}") for version in versions)
    return active.to_bytes(4, "big") + fixed("root") + len(versions).to_bytes(4, "big") + keks


def wrapped_dek(patient: str = "patient-1", version: int = 2, dek: bytes = fixed("dek")) -> bytes:
    """Section 4."""
    aad = frame(b"clinic.dek", b"\x01", patient.encode(), version.to_bytes(4, "big"))
    return blob(fixed(f"kek {version}"), dek, aad, key_id=version, nonce="dek nonce")


def canonical(value: Any) -> bytes:
    """Section 5: sorted keys, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def wrapping_key(kind: str, kdf: dict[str, Any]) -> bytes:
    """Section 5."""
    salt = bytes.fromhex(kdf["salt"])
    if kdf["name"] == "hkdf-sha256":
        return hkdf(fixed(f"secret {kind}"), salt, frame(b"clinic.slot-key", b"\x01", kind.encode()))
    passphrase = unicodedata.normalize("NFKC", PASSPHRASE).encode()
    cost = {"time_cost": kdf["iterations"], "memory_cost": kdf["memory_kib"], "parallelism": kdf["lanes"]}
    return hash_secret_raw(passphrase, salt, hash_len=32, type=Type.ID, version=19, **cost)


def slot(kind: str) -> dict[str, Any]:
    """Section 5."""
    kdf: dict[str, Any] = {"name": "hkdf-sha256", "salt": fixed(f"salt {kind}").hex()}
    if kind == "passphrase":
        kdf |= {"name": "argon2id", "memory_kib": 65536, "iterations": 3, "lanes": 4}
    described = {"id": fixed(f"slot {kind}", 16).hex(), "kind": kind, "created_at": "2026-11-23T12:00:00Z", "kdf": kdf}
    aad = frame(b"clinic.slot", b"\x01", fixed("file", 16).hex().encode(), canonical(described))
    wrapped = blob(wrapping_key(kind, kdf), fixed("file key"), aad, key_id=0, nonce=f"slot nonce {kind}")
    return described | {"wrapped": wrapped.hex()}


def key_file(slots: list[dict[str, Any]], keyring: bytes | None = None) -> dict[str, Any]:
    """Section 5."""
    file_id = fixed("file", 16).hex()
    aad = frame(b"clinic.keyring", b"\x01", file_id.encode())
    packed = packed_keyring() if keyring is None else keyring
    sealed = blob(fixed("file key"), packed, aad, key_id=0, nonce="keyring nonce")
    return {"format": "clinic-keys", "version": 2, "id": file_id, "slots": slots, "keyring": sealed.hex()}


def times_a(value: int) -> int:
    """Multiply by a in GF(32)."""
    return (value << 1) ^ (0b100101 if value & 16 else 0)


def shares(key: bytes, label: str = "share") -> list[str]:
    """Section 7, by SLIP-39's reference implementation, with bytes that stand for random ones."""
    drawn = (fixed(f"{label} {number}", 32) for number in range(9))
    original, shamir.RANDOM_BYTES = shamir.RANDOM_BYTES, lambda length: next(drawn)[:length]
    try:
        ((first, second, third),) = shamir.generate_mnemonics(1, [(2, 3)], key)
    finally:
        shamir.RANDOM_BYTES = original
    return [first, second, third]


def vector(expect: str, kind: str, comment: str, body: bytes, **headers: str | int) -> str:
    """Section 10."""
    lines = [f"expect: {expect}", f"kind: {kind}", f"comment: {comment}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    hexadecimal = body.hex()
    return "\n".join([*lines, "", *(hexadecimal[at : at + 64] for at in range(0, len(hexadecimal), 64))]) + "\n"


def field_vectors() -> Vectors:
    """Sealed fields: good ones, and one fault each."""
    plaintext = "Zoë Ångström, 1950-02-29?".encode()
    good = sealed_field(plaintext)

    def field(expect: str, comment: str, body: bytes, **changes: str | int) -> str:
        out = {"plaintext": plaintext.hex()} if expect == "success" else {}
        return vector(expect, "field", comment, body, key=fixed("dek").hex(), **(PLACE | changes | out))

    bad = "sealed_data_damaged"
    files = {
        "field_success": field("success", "a plain case", good),
        "field_key_id_max": field("success", "the largest key id", sealed_field(plaintext, key_id=2**32 - 1)),
        "field_utf8_place": field("success", "ids beyond ASCII", sealed_field(plaintext, row="r-é"), row="r-é"),
        "field_no_patient": field("success", "data of no patient", sealed_field(plaintext, patient=""), patient=""),
        "field_row_version_max": field(
            "success", "largest row version", sealed_field(plaintext, row_version=2**64 - 1), row_version=2**64 - 1
        ),
        "field_empty": vector(
            "success", "field", "an empty plaintext", sealed_field(b""), key=fixed("dek").hex(), **PLACE, plaintext=""
        ),
        "field_other_key": vector(bad, "field", "another key", good, key=fixed("other").hex(), **PLACE),
        "field_nothing": field(bad, "no bytes at all", b""),
        "field_too_short": field(bad, "one byte less than the shortest blob", sealed_field(b"")[:-1]),
        "field_truncated": field(bad, "last byte missing", good[:-1]),
        "field_extended": field(bad, "one byte too many", good + b"\0"),
        "field_version_0": field(bad, "version 0", b"\0" + good[1:]),
        "field_version_2": field(bad, "version 2", b"\2" + good[1:]),
        "field_key_id_changed": field(bad, "key id changed in the header", good[:4] + b"\2" + good[5:]),
        "field_frame_moved": field(bad, "table and column joined differently", good, table="patientsn", column="ame"),
        "field_other_version": field(bad, "an older row version's value", good, row_version=8),
    }
    for name in ("table", "column", "row", "patient"):
        files[f"field_other_{name}"] = field(bad, f"moved to another {name}", good, **{name: "elsewhere"})
    return files


def keyring_vectors() -> Vectors:
    """Wrapped data keys, and the handover of the keyring that wraps them."""
    handover = b"clinic-handover/1\n" + packed_keyring()

    def dek(expect: str, comment: str, body: bytes, patient: str = "patient-1") -> str:
        out = {"plaintext": fixed("dek").hex()} if expect == "success" else {}
        return vector(expect, "dek", comment, body, key=handover.hex(), patient=patient, **out)

    def given(comment: str, body: bytes) -> str:
        return vector("handover_broken", "handover", comment, body)

    bad = "sealed_data_damaged"
    start = b"clinic-handover/1\n"
    return {
        "dek_success": dek("success", "under the active version", wrapped_dek()),
        "dek_old_version": dek("success", "under an older version", wrapped_dek(version=1)),
        "dek_other_patient": dek(bad, "another patient's", wrapped_dek(), patient="patient-2"),
        "dek_unknown_version": dek(bad, "under a version that is not held", wrapped_dek(version=3)),
        "dek_short": dek(bad, "31 bytes inside", wrapped_dek(dek=fixed("dek", 31))),
        "dek_truncated": dek(bad, "last byte missing", wrapped_dek()[:-1]),
        "handover_success": vector("success", "handover", "whole", handover, plaintext=packed_keyring().hex()),
        "handover_empty": given("nothing came", b""),
        "handover_label": given("another label", b"clinic-handover/2\n" + packed_keyring()),
        "handover_truncated": given("last byte missing", handover[:-1]),
        "handover_extended": given("one byte too many", handover + b"\0"),
        "handover_no_versions": given("no version", start + packed_keyring(versions=())),
        "handover_active_unknown": given("active version not held", start + packed_keyring(active=3)),
        "handover_order": given("versions descending", start + packed_keyring(versions=(2, 1))),
        "handover_twice": given("a version twice", start + packed_keyring(versions=(2, 2))),
    }


def key_file_vectors() -> Vectors:
    """`keys.json`: each kind of secret, and one fault each."""
    passphrase = f"passphrase {json.dumps(PASSPHRASE)}"
    slots = {kind: slot(kind) for kind in ("passphrase", "credential", "insecure-key-file", "recovery")}
    good = key_file(list(slots.values()))

    def keys(expect: str, comment: str, file: dict[str, Any], secret: str) -> str:
        out = {"plaintext": packed_keyring().hex()} if expect == "success" else {}
        return vector(expect, "keys", comment, json.dumps(file, indent=2).encode(), secret=secret, **out)

    credential = f"credential {fixed('secret credential').hex()}"
    recovery = "recovery " + " / ".join(shares(fixed("secret recovery"))[:2])
    files = {
        "keys_passphrase": keys("success", "passphrase (NFKC applies)", good, passphrase),
        "keys_credential": keys("success", "credential", good, credential),
        "keys_insecure": keys(
            "success", "key file", good, f"insecure-key-file {fixed('secret insecure-key-file').hex()}"
        ),
        "keys_recovery": keys("success", "recovery key", good, recovery),
        "keys_wrong_passphrase": keys("key_wrong", "wrong", good, f"passphrase {json.dumps('not this one at all')}"),
        "keys_wrong_credential": keys("key_wrong", "wrong", good, f"credential {fixed('secret recovery').hex()}"),
        "keys_no_such_slot": keys("key_wrong", "no slot", key_file([slots["recovery"]]), credential),
        "keys_kind_changed": keys(
            "key_wrong", "a slot relabelled", key_file([slots["recovery"] | {"kind": "credential"}]), credential
        ),
        "keys_date_changed": keys(
            "key_wrong",
            "a date changed",
            key_file([slots["recovery"] | {"created_at": "2020-01-01T00:00:00Z"}]),
            recovery,
        ),
        "keys_other_file": keys("key_wrong", "slots of another file", good | {"id": "0" * 32}, recovery),
        "keys_keyring_damaged": keys(
            "key_file_damaged", "the slot opens, the keyring does not", good | {"keyring": "00" * 145}, recovery
        ),
        "keys_keyring_malformed": keys(
            "key_file_damaged", "a keyring of wrong length", key_file(list(slots.values()), b"short"), recovery
        ),
        "keys_slot_key_id": keys(
            "key_wrong",
            "key id 1 in a slot's blob",
            key_file([slots["recovery"] | {"wrapped": "0100000001" + slots["recovery"]["wrapped"][10:]}]),
            recovery,
        ),
        "keys_keyring_key_id": keys(
            "key_file_damaged",
            "key id 1 in the keyring's blob",
            good | {"keyring": "0100000001" + good["keyring"][10:]},
            recovery,
        ),
        "keys_version_1": keys("key_file_damaged", "an earlier version", good | {"version": 1}, recovery),
        "keys_version_3": keys("key_file_damaged", "a later version", good | {"version": 3}, recovery),
        "keys_other_format": keys("key_file_damaged", "another format", good | {"format": "x"}, recovery),
        "keys_extra_key": keys("key_file_damaged", "an unknown key", good | {"x": 1}, recovery),
        "keys_no_slots": keys("key_file_damaged", "no slot", good | {"slots": []}, recovery),
        "keys_same_slot_twice": keys("key_file_damaged", "a slot twice", key_file([slots["recovery"]] * 2), recovery),
        "keys_kdf_swapped": keys(
            "key_file_damaged",
            "passphrase without Argon2id",
            key_file([slots["passphrase"] | {"kdf": slots["recovery"]["kdf"]}]),
            passphrase,
        ),
    }
    for name, value in {
        "memory_kib": 8,
        "memory_kib_huge": 100 * 1024 * 1024,
        "iterations": 1,
        "iterations_huge": 10**6,
        "lanes": 0,
        "lanes_huge": 2**24 - 1,
    }.items():
        changed = slots["passphrase"]["kdf"] | {name.removesuffix("_huge"): value}
        tampered = key_file([slots["passphrase"] | {"kdf": changed}])
        files[f"keys_bounds_{name}"] = keys("key_file_damaged", f"{name} out of bounds", tampered, passphrase)
    inside = slots["passphrase"]["kdf"] | {"lanes": 2}
    tampered = key_file([slots["passphrase"] | {"kdf": inside}])
    files["keys_cost_changed"] = keys("key_wrong", "lanes changed, within bounds", tampered, passphrase)
    return files


def recovery_vectors() -> Vectors:
    """Two shares as typed."""
    key = fixed("secret recovery")
    first, second, third = shares(key)
    words = first.split()
    stranger = shares(fixed("another key"), label="other")[1]

    def typed(expect: str, comment: str, *what: str) -> str:
        out = {"plaintext": key.hex()} if expect == "success" else {}
        return vector(expect, "recovery", comment, "\n\n".join(what).encode(), **out)

    bad, differ = "recovery_share_typo", "recovery_shares_differ"
    numbered = "\n".join(f"{place}. {word.upper()}" for place, word in enumerate(words, start=1))
    return {
        "recovery_success": typed("success", "as printed", first, second),
        "recovery_other_pair": typed("success", "the third and the first sheet", third, first),
        "recovery_numbered": typed("success", "upper case, numbered, one word a line", numbered, third),
        "recovery_short_words": typed("success", "four letters of each word", " ".join(w[:4] for w in words), second),
        "recovery_unknown_word": typed(bad, "a word that is not in the list", " ".join([*words[:-1], "zebra"]), second),
        "recovery_other_word": typed(bad, "another word of the list", " ".join(["zero", *words[1:]]), second),
        "recovery_words_swapped": typed(bad, "two words swapped", " ".join([words[1], words[0], *words[2:]]), second),
        "recovery_short": typed(bad, "a word missing", " ".join(words[:-1]), second),
        "recovery_empty": typed(bad, "nothing typed", "", ""),
        "recovery_same_share": typed("recovery_share_twice", "one sheet twice", first, first),
        "recovery_other_set": typed(differ, "shares of two sets", first, stranger),
    }


def derived_vectors() -> Vectors:
    """Section 6: the key of each purpose, and buckets of the blind index."""
    handover = b"clinic-handover/1\n" + packed_keyring()
    purposes = ("audit-pseudonym", "audit-signing", "blind-index", "session", "local-ca", "staff")
    files = {}
    for purpose in (*purposes, "backup-identity", "backup-signing", "policy-signing"):
        key = hkdf(fixed("root"), b"", frame(b"clinic.derive", b"\x01", purpose.encode())).hex()
        files[f"derived_{purpose.replace('-', '_')}"] = vector(
            "success", "derived", "one purpose", handover, purpose=purpose, plaintext=key
        )
    files["derived_truncated"] = vector(
        "handover_broken", "derived", "last byte missing", handover[:-1], purpose="staff"
    )
    return files | {
        "index_success": index("as it is stored", "mrn00471", "mrn00471"),
        "index_spelt": index("blanks, hyphen, capitals", " MRN-004 71 ", "mrn00471"),
        "index_full_width": index("full-width letters", "\uff2d\uff32\uff2e00471", "mrn00471"),
        "index_arabic_digits": index("another script's digits", "\u0664\u0667\u0661", "471"),
        "index_sharp_s": index("case folding changes the length", "Stra\u00dfe", "strasse"),
        "index_sixteen_bits": index("the index of user names", "ada", "ada", "login_failures.subject", 16),
        "index_other_scope": index("another scope, another bucket", "mrn00471", "mrn00471", "patients.other"),
    }


def index(comment: str, typed: str, normal: str, scope: str = "patients.record_number", bits: int = 8) -> str:
    """Return the vector of one bucket."""
    key = fixed("blind index")
    framed = len(scope).to_bytes(2, "big") + scope.encode() + normal.encode()
    bucket = int.from_bytes(hmac.digest(key, framed, "sha256")[:8], "big") >> (64 - bits)
    out: dict[str, str | int] = {"scope": scope, "bits": bits, "plaintext": bucket.to_bytes(8, "big").hex()}
    return vector("success", "index", comment, typed.encode(), key=key.hex(), **out)


def vectors() -> Vectors:
    """Return every vector: name to file content."""
    return field_vectors() | keyring_vectors() | key_file_vectors() | recovery_vectors() | derived_vectors()


if __name__ == "__main__":
    for name, content in vectors().items():
        (HERE / f"{name}.txt").write_text(content, encoding="utf-8")
