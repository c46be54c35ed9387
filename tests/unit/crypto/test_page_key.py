"""The key under which a page keeps what is not acknowledged yet."""

from __future__ import annotations

from clinic.crypto.page_key import page_key

OPENSSL = "f8385b47cc2f667901ae9a78f2fe7eb15f25f6d3f6212ab55b2e556a3f91c70f"
"""`openssl kdf -keylen 32 -kdfopt digest:SHA256` with the key 00..1f and the info that FORMAT.md, section 4a, gives."""


def test_it_is_as_the_format_says() -> None:
    """The same bytes as another program computes."""
    assert page_key(bytes(range(32)), "recording-1").hex() == OPENSSL


def test_each_recording_and_each_patient_has_another() -> None:
    """Neither opens what belongs to another."""
    keys = {page_key(dek, name) for dek in (bytes(32), b"\x01" * 32) for name in ("a", "b")}
    assert len(keys) == 4
