"""Checkpoints: the C2SP formats, to the byte."""

from __future__ import annotations

import base64

import pytest

from clinic.audit.checkpoint import Checkpoint, NoteSigner, VerifierKey, open_checkpoint, open_note
from clinic.audit.tree import EMPTY_ROOT
from clinic.errors import AuditError
from tests.unit.audit.audit_store import OTHER_SEED, SEED

# The example of Go's sumdb/note (golang.org/x/mod/sumdb/note, note_test.go): key, text and signature.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
GO_NOTE = f"{GO_TEXT}\n\N{EM DASH} PeterNeumann {GO_SIGNATURE}\n"
SIGNER = NoteSigner(name="clinic.local/audit/test", seed=SEED)
VKEY = str(SIGNER.key)
NOTE = SIGNER.sign(Checkpoint(origin=SIGNER.name, size=3, root=b"r" * 32).text())


def test_the_key_of_the_reference_is_read_and_written() -> None:
    """Go's verifier key goes in and comes out, key id included."""
    assert str(VerifierKey.parse(GO_VKEY)) == GO_VKEY
    assert str(NoteSigner(name="PeterNeumann", seed=GO_SEED).key) == GO_VKEY


def test_the_note_of_the_reference_is_made_and_opened() -> None:
    """Signing Go's text with Go's key gives Go's note, byte for byte."""
    assert NoteSigner(name="PeterNeumann", seed=GO_SEED).sign(GO_TEXT) == GO_NOTE
    assert open_note(GO_NOTE, key=VerifierKey.parse(GO_VKEY)) == GO_TEXT


def test_a_text_may_hold_empty_lines() -> None:
    """The last empty line separates text and signatures (signed-note, section Format)."""
    text = "one\n\ntwo\n"
    assert open_note(SIGNER.sign(text), key=SIGNER.key) == text


def test_a_checkpoint_reads_back() -> None:
    """Origin, size and root survive."""
    assert open_checkpoint(NOTE, vkey=VKEY) == Checkpoint(origin=SIGNER.name, size=3, root=b"r" * 32)
    empty = SIGNER.sign(Checkpoint(origin=SIGNER.name, size=0, root=EMPTY_ROOT).text())
    assert open_checkpoint(empty, vkey=VKEY).size == 0


def test_other_signatures_are_ignored() -> None:
    """A witness may sign below or above; only the known key counts."""
    other = NoteSigner(name="witness.example", seed=OTHER_SEED)
    text = NOTE.partition("\n\n")[0] + "\n"
    ours, theirs = SIGNER.sign(text).rpartition("\n\n")[2], other.sign(text).rpartition("\n\n")[2]
    for lines in (ours + theirs, theirs + ours):
        assert open_checkpoint(f"{text}\n{lines}", vkey=VKEY).size == 3
    with pytest.raises(AuditError) as caught:
        open_checkpoint(f"{text}\n{theirs}", vkey=VKEY)
    assert caught.value.code == "checkpoint_signature"


def test_every_changed_byte_is_noticed() -> None:
    """No byte of a signed checkpoint can be flipped to any of its neighbours without an error."""
    data = NOTE.encode()
    missed = []
    for place in range(len(data)):
        for flip in (0x01, 0x02, 0x20, 0x80):
            mutant = bytearray(data)
            mutant[place] ^= flip
            try:
                open_checkpoint(mutant.decode("utf-8", "replace"), vkey=VKEY)
                missed.append((place, flip))
            except AuditError:
                pass
    assert missed == []


def test_without_the_signature_check_changes_would_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: it is the signature that notices a changed root."""
    changed = NOTE.replace(base64.b64encode(b"r" * 32).decode(), base64.b64encode(b"q" * 32).decode())
    with pytest.raises(AuditError):
        open_checkpoint(changed, vkey=VKEY)
    monkeypatch.setattr("clinic.audit.checkpoint._check", lambda *_: None)
    assert open_checkpoint(changed, vkey=VKEY).root == b"q" * 32


@pytest.mark.parametrize(
    "note",
    [
        pytest.param("", id="empty"),
        pytest.param(NOTE.rstrip("\n"), id="no newline at the end"),
        pytest.param(NOTE.replace("\n", "\r\n"), id="Windows line ends"),
        pytest.param(NOTE + "\n", id="one newline more"),
        pytest.param(NOTE.partition("\n\n")[0] + "\n", id="no signature"),
        pytest.param(NOTE.replace("\N{EM DASH}", "--"), id="two hyphens"),
        pytest.param(NOTE * 2, id="twice"),
        pytest.param(NOTE + NOTE.rpartition("\n\n")[2] * 100, id="too many signatures"),
        pytest.param("x" * 1_000_001 + NOTE, id="too long"),
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    """Only the exact form is read."""
    with pytest.raises(AuditError) as caught:
        open_checkpoint(note, vkey=VKEY)
    assert caught.value.code in {"checkpoint_malformed", "checkpoint_signature"}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("o\n03\n" + base64.b64encode(b"r" * 32).decode() + "\n", id="leading zero"),
        pytest.param("o\n-3\n" + base64.b64encode(b"r" * 32).decode() + "\n", id="sign"),
        pytest.param("o\n3\n" + base64.b64encode(b"r" * 31).decode() + "\n", id="short root"),
        pytest.param("o\n3\n" + base64.b64encode(b"r" * 32).decode() + "\nextension\n", id="extension line"),
        pytest.param("\n3\n" + base64.b64encode(b"r" * 32).decode() + "\n", id="no origin"),
        pytest.param("o\n3\n", id="no root"),
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    """A signed text that is no checkpoint is malformed."""
    with pytest.raises(AuditError) as caught:
        open_checkpoint(SIGNER.sign(text), vkey=VKEY)
    assert caught.value.code == "checkpoint_malformed"


def test_a_checkpoint_of_another_log_is_refused() -> None:
    """The key signs for its own log only."""
    with pytest.raises(AuditError, match="another log"):
        open_checkpoint(SIGNER.sign(Checkpoint(origin="other", size=3, root=b"r" * 32).text()), vkey=VKEY)


def test_no_part_of_a_key_is_a_key() -> None:
    """Manglings of a verifier key are refused (the cases of Go's TestNewVerifier)."""
    pieces = {GO_VKEY[i:j] for i in range(len(GO_VKEY)) for j in range(i + 1, len(GO_VKEY) + 1)} - {GO_VKEY}
    bumped = {GO_VKEY[:i] + chr(ord(GO_VKEY[i]) + 1) + GO_VKEY[i + 1 :] for i in range(len(GO_VKEY))}
    wrong = {
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    }
    for key in pieces | bumped | wrong:
        with pytest.raises(AuditError):
            VerifierKey.parse(key)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\nb"])
def test_names_that_no_signature_line_can_carry_are_refused(name: str) -> None:
    """A key name is not empty and holds neither spaces nor plus signs."""
    with pytest.raises(AuditError):
        VerifierKey(name=name, public=b"k" * 32)


@pytest.mark.parametrize("text", ["no newline", "tab\t\n", "return\r\n"])
def test_texts_that_no_note_can_carry_are_not_signed(text: str) -> None:
    """The signer refuses what no verifier would read."""
    with pytest.raises(AuditError):
        SIGNER.sign(text)


def test_the_seed_is_in_no_repr() -> None:
    """A signer in a traceback does not give its key away."""
    assert repr(SEED)[2:10] not in repr(SIGNER)
