"""The vectors of FORMAT.md, made by an implementation that shares no code with ours, through every reader."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

import pytest

from clinic.crypto.envelope import FieldContext, open_sealed
from clinic.crypto.keyring import Keyring, Purpose
from clinic.crypto.keys import KeyBytes, Passphrase, RecoveryKey, UnlockSecret, unlock
from clinic.errors import ClinicError
from clinic.records.blind_index import BlindIndex

FOLDER = Path(__file__).resolve().parents[2] / "vectors" / "crypto"
FILES = sorted(FOLDER.glob("*.txt"))
_COMMON = {"expect", "kind", "comment", "plaintext"}
_HEADERS = {
    "field": {"key", "table", "column", "row", "patient", "row_version"},
    "dek": {"key", "patient"},
    "keys": {"secret"},
    "recovery": set[str](),
    "handover": set[str](),
    "derived": {"purpose"},
    "index": {"key", "scope", "bits"},
}
_REFUSES_NOTHING = {"index"}


def read_vector(text: str) -> tuple[dict[str, str], bytes]:
    """Split a vector into headers and bytes; an unknown, missing or repeated header is fatal."""
    head, _, body = text.partition("\n\n")
    pairs = [line.split(": ", 1) if ": " in line else [line.removesuffix(":"), ""] for line in head.splitlines()]
    headers: dict[str, str] = dict(pairs)
    allowed = _COMMON | _HEADERS[headers["kind"]]
    if not allowed - {"plaintext"} <= set(headers) <= allowed or len(headers) != len(pairs):
        raise ValueError(f"headers: {sorted(headers)}")
    if ("plaintext" in headers) is not (headers["expect"] == "success"):
        raise ValueError("plaintext goes with success")
    return headers, bytes.fromhex(body)


def secret_of(text: str) -> UnlockSecret:
    """Read the `secret` header."""
    kind, value = text.split(" ", 1)
    if kind == "passphrase":
        return Passphrase(json.loads(value))
    if kind == "recovery":
        first, second = value.split(" / ")
        return RecoveryKey.from_shares(first, second)
    return KeyBytes(bytes.fromhex(value), cast("Literal['insecure-key-file', 'credential']", kind))


def read_field(headers: dict[str, str], body: bytes, _folder: Path) -> bytes:
    """Open a sealed field."""
    place = FieldContext(
        table=headers["table"],
        column=headers["column"],
        row_id=headers["row"],
        patient_id=headers["patient"],
        row_version=int(headers["row_version"]),
    )
    return open_sealed(bytes.fromhex(headers["key"]), body, place)


def read_dek(headers: dict[str, str], body: bytes, _folder: Path) -> bytes:
    """Unwrap a data key."""
    return Keyring.from_handover(bytes.fromhex(headers["key"])).unwrap_dek(headers["patient"], body)


def read_keys(headers: dict[str, str], body: bytes, folder: Path) -> bytes:
    """Unlock a key file."""
    path = folder / "keys.json"
    path.touch(mode=0o600)
    path.write_bytes(body)
    return unlock(path, secret_of(headers["secret"])).pack()


def read_recovery(_headers: dict[str, str], body: bytes, _folder: Path) -> bytes:
    """Read two typed shares."""
    first, second = body.decode().split("\n\n")
    return RecoveryKey.from_shares(first, second).material


def read_handover(_headers: dict[str, str], body: bytes, _folder: Path) -> bytes:
    """Take over keys."""
    return Keyring.from_handover(body).pack()


def read_derived(headers: dict[str, str], body: bytes, _folder: Path) -> bytes:
    """Derive the key of a purpose."""
    return Keyring.from_handover(body).derive(Purpose(headers["purpose"]))


def read_index(headers: dict[str, str], body: bytes, _folder: Path) -> bytes:
    """Find the bucket of a value."""
    index = BlindIndex(bytes.fromhex(headers["key"]), scope=headers["scope"], bits=int(headers["bits"]))
    return index.bucket(body.decode()).to_bytes(8, "big")


READERS: dict[str, Callable[[dict[str, str], bytes, Path], bytes]] = {
    "field": read_field,
    "dek": read_dek,
    "keys": read_keys,
    "recovery": read_recovery,
    "handover": read_handover,
    "derived": read_derived,
    "index": read_index,
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_vector(path: Path, tmp_path: Path) -> None:
    """Our reader gives what the vector expects: the plaintext, or the error's code."""
    headers, body = read_vector(path.read_text(encoding="utf-8"))
    outcome, plaintext = "success", None
    try:
        plaintext = READERS[headers["kind"]](headers, body, tmp_path).hex()
    except ClinicError as error:
        outcome = error.code
    assert (outcome, plaintext) == (headers["expect"], headers.get("plaintext"))


def test_the_vectors_are_what_the_generator_writes() -> None:
    """No vector was edited by hand, added or lost."""
    generated = runpy.run_path(str(FOLDER / "generate.py"))["vectors"]()
    assert {path.stem: path.read_text(encoding="utf-8") for path in FILES} == generated


def test_the_generator_does_not_use_our_code() -> None:
    """The second implementation is a second one."""
    source = (FOLDER / "generate.py").read_text(encoding="utf-8")
    assert "import clinic" not in source
    assert "from clinic" not in source


def test_every_kind_has_a_good_and_a_bad_vector() -> None:
    """Each reader is shown what to take and what to refuse."""
    seen = {(headers["kind"], headers["expect"] == "success") for headers, _ in map(read_vector, texts())}
    assert seen == {(kind, good) for kind in READERS for good in (True, False)} - {
        (kind, False) for kind in _REFUSES_NOTHING
    }


def test_every_purpose_has_its_vector() -> None:
    """No key is derived whose bytes are not written down."""
    seen = {headers["purpose"] for headers, _ in map(read_vector, texts()) if headers["kind"] == "derived"}
    assert seen == set(Purpose)


def texts() -> list[str]:
    """Return the content of every vector."""
    return [path.read_text(encoding="utf-8") for path in FILES]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: "surprise: 1\n" + text, id="unknown header"),
        pytest.param(lambda text: text.replace("patient: ", "patience: "), id="misspelt header"),
        pytest.param(lambda text: text.replace("row: row-1\n", ""), id="missing header"),
        pytest.param(lambda text: "table: notes\n" + text, id="repeated header"),
        pytest.param(lambda text: text.replace("expect: success", "expect: failure"), id="failure with plaintext"),
        pytest.param(lambda text: text + "x", id="not hex"),
    ],
)
def test_a_vector_that_is_not_understood_is_fatal(change: Callable[[str], str]) -> None:
    """A reader of vectors never guesses."""
    text = (FOLDER / "field_success.txt").read_text(encoding="utf-8")
    read_vector(text)
    with pytest.raises(ValueError, match=r"headers|plaintext|hex"):
        read_vector(change(text))
