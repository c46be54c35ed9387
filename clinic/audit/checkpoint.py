"""Checkpoints: a signed line that says how long the log is and what it holds, small enough to print.

Rules kept here:

* The format is C2SP's: `signed-note` (Ed25519, type 0x01) around a `tlog-checkpoint` of origin, size and RFC 6962 root.
* A note is believed only after the signature of the one expected key (name and key id) holds; others are ignored.
* Reading is strict: one form only, so no changed byte goes unnoticed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from clinic.audit.tree import HASH_BYTES
from clinic.errors import AuditError, InputError

_ED25519: Final = b"\x01"
_DASH: Final = "\N{EM DASH} "
_KEY_ID_BYTES: Final = 4
_MAX_SIGNATURES: Final = 100
_MAX_NOTE_CHARS: Final = 1_000_000
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}", re.ASCII)


def _malformed(what: str) -> AuditError:
    return AuditError(what, code="checkpoint_malformed", hint="take the file as it was handed out, byte for byte")


def _refused(what: str) -> AuditError:
    return AuditError(what, code="checkpoint_signature", hint="is it this clinic's checkpoint, and this clinic's key?")


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with the name that its signatures carry."""

    name: str
    public: bytes

    def __post_init__(self) -> None:
        """Refuse names that a signature line cannot carry."""
        if not self.name.isprintable() or not self.name or "+" in self.name or any(c.isspace() for c in self.name):
            raise _malformed("a key name is not empty and holds neither spaces nor `+`")

    @property
    def key_id(self) -> bytes:
        """The four bytes that name this key in a signature line."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:_KEY_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{_encode(_ED25519 + self.public)}"

    @classmethod
    def parse(cls, vkey: str) -> VerifierKey:
        """Read `name+keyid+base64(type and key)`."""
        name, _, rest = vkey.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        material = _decode(encoded)
        if material[:1] != _ED25519 or len(material) != 1 + HASH_BYTES or not _KEY_ID.fullmatch(key_id):
            raise _malformed("not an Ed25519 verifier key")
        key = cls(name=name, public=material[1:])
        if key.key_id.hex() != key_id:
            raise _malformed("the verifier key does not match its own key id")
        return key


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """A private key with the name that its signatures carry; the repr does not show the key."""

    name: str
    seed: bytes = field(repr=False)

    @property
    def key(self) -> VerifierKey:
        """What others need to verify."""
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        return VerifierKey(name=self.name, public=public)

    def sign(self, text: str) -> str:
        """Return the signed note over a text (which ends in a newline)."""
        if not text.endswith("\n") or _has_control(text):
            raise _malformed("the text of a note ends in a newline and holds no other control characters")
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(text.encode())
        return f"{text}\n{_DASH}{self.name} {_encode(self.key.key_id + signature)}\n"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log: `root` is the RFC 6962 root over its first `size` entries."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the note text that is signed."""
        return f"{self.origin}\n{self.size}\n{_encode(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a note text; extension lines are not accepted, for nobody could audit them."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not lines[0] or not _SIZE.fullmatch(lines[1]):  # noqa: PLR2004 - three lines
            raise _malformed("a checkpoint has three lines: origin, size, root")
        root = _decode(lines[2])
        if len(root) != HASH_BYTES:
            raise _malformed("the root of a checkpoint has 32 bytes")
        return cls(origin=lines[0], size=int(lines[1]), root=root)


def open_note(note: str, *, key: VerifierKey) -> str:
    """Return the text of a note that `key` signed; AuditError otherwise."""
    head, blank, tail = note.rpartition("\n\n")
    if len(note) > _MAX_NOTE_CHARS or _has_control(note) or not blank or not tail.endswith("\n"):
        raise _malformed("not a signed note")
    text = head + "\n"
    signatures = [_signature_line(line) for line in tail.removesuffix("\n").split("\n")[: _MAX_SIGNATURES + 1]]
    if len(signatures) > _MAX_SIGNATURES:
        raise _malformed("too many signatures")
    for name, signature in signatures:
        if name == key.name and signature[:_KEY_ID_BYTES] == key.key_id:
            _check(text, signature[_KEY_ID_BYTES:], key)
            return text
    raise _refused("the checkpoint is not signed by this key")


def open_checkpoint(note: str, *, vkey: str) -> Checkpoint:
    """Return the checkpoint in a note that the owner of `vkey` signed for its own log; AuditError otherwise."""
    key = VerifierKey.parse(vkey)
    checkpoint = Checkpoint.parse(open_note(note, key=key))
    if checkpoint.origin != key.name:
        raise _refused("the checkpoint is about another log")
    return checkpoint


def open_given(note: str, *, vkey: str) -> Checkpoint:
    """Return the checkpoint that somebody typed or named; one that is none is that person's mistake, not the log's.

    Raises:
        InputError: `checkpoint_malformed`.
        AuditError: `checkpoint_signature`.
    """
    try:
        return open_checkpoint(note, vkey=vkey)
    except AuditError as error:
        if error.code != "checkpoint_malformed":
            raise
        raise InputError(str(error), code=error.code, hint=error.hint) from None


def _check(text: str, signature: bytes, key: VerifierKey) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, text.encode())
    except (InvalidSignature, ValueError):
        raise _refused("the signature of the checkpoint does not hold") from None


def _signature_line(line: str) -> tuple[str, bytes]:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    signature = _decode(encoded)
    if not line.startswith(_DASH) or not name or not space or len(signature) <= _KEY_ID_BYTES:
        raise _malformed("not a signature line")
    return name, signature


def _has_control(text: str) -> bool:
    return any(char < " " and char != "\n" for char in text)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _malformed("not base64") from None
    # Base64 leaves bits unused at the end: without this, two spellings of the same bytes would both be read.
    if _encode(data) != text:
        raise _malformed("not base64 in its only form")
    return data
