"""The key under which a page keeps sound that the box has not acknowledged yet.

Rules kept here:

* One key for each recording, derived from the patient's data key: nothing more is stored, and a destroyed record's
  chunks open in no browser either, for the box cannot give this key any more.
* It goes to the page of who records, and nowhere else; knowing it opens no field of the database.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from clinic.crypto.aead import KEY_BYTES, VERSION, frame


def page_key(dek: bytes, recording_id: str) -> bytes:
    """Return the 32-byte key of a recording's chunks in the page (FORMAT.md, section 4a)."""
    info = frame(b"clinic.page-key", VERSION.to_bytes(1, "big"), recording_id.encode())
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(dek)
