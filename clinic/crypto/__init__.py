"""Sealing: keys, the envelope of every sealed field, unlock slots, the clinic's own certificate authority.

Rules kept here:

* Keys live in memory and in `keys.json`, there only wrapped; no key is ever in a message, a log or a `repr`.
* `aead`, `envelope`, `keyring`, `recovery` and `slots` do no I/O; files are touched by `durable` and its callers only.
* Whatever does not authenticate is refused with one answer that does not say why.
* The byte formats are written down in `FORMAT.md`, with vectors in `tests/vectors/crypto/`.
"""
