"""The builder's key: sealed with a passphrase or not, never readable by others, never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from clinic.bundle.keys import create_key, load_key, needs_passphrase
from clinic.crypto.secret import Passphrase
from clinic.errors import ClinicError

PHRASE = Passphrase("four unrelated words here")


def refused(path: Path, passphrase: Passphrase | None = None) -> str:
    """Return the code with which a key is not loaded."""
    with pytest.raises(ClinicError) as caught:
        load_key(path, passphrase)
    return caught.value.code


def test_a_key_comes_back(tmp_path: Path) -> None:
    """With its passphrase, or without one, the same key signs again; the passphrase is asked for where there is one."""
    sealed, plain = tmp_path / "sealed", tmp_path / "plain"
    made = create_key(sealed, PHRASE), create_key(plain, None)
    assert (load_key(sealed, PHRASE), load_key(plain, None)) == made
    assert (needs_passphrase(sealed), needs_passphrase(plain)) == (True, False)
    assert made[0].seed.hex() not in sealed.read_text(encoding="utf-8")
    assert made[0].name.startswith("clinic.local/bundle/")


def test_what_is_refused(tmp_path: Path) -> None:
    """Wrong, missing or weak passphrases, files open to others, other files, and a second key in the same place."""
    sealed = tmp_path / "sealed"
    create_key(sealed, PHRASE)
    assert refused(sealed, Passphrase("not the right words")) == "key_wrong"
    assert refused(sealed) == "sealed"
    assert refused(tmp_path / "none") == "key_missing"
    (tmp_path / "other").write_text("{}", encoding="utf-8")
    (tmp_path / "other").chmod(0o600)
    assert refused(tmp_path / "other") == "key_malformed"
    sealed.chmod(0o644)
    assert refused(sealed, PHRASE) == "key_file_exposed"
    with pytest.raises(ClinicError) as caught:
        create_key(sealed, None)
    assert caught.value.code == "keys_exist"
    with pytest.raises(ClinicError) as caught:
        create_key(tmp_path / "weak", Passphrase("short"))
    assert caught.value.code == "weak_passphrase"
    assert not (tmp_path / "weak").exists()
