"""Turn the PEFT LoRA of Gemma 3 (safetensors) into the GGUF adapter that llama.cpp loads.

Rules kept here:

* Every tensor of the source is converted or the program stops: a name that llama.cpp does not know would be dropped
  silently, and half an adapter looks like a whole one.
* Each matrix must fit the base model's own tensor, whose GGUF is read for that.
* The same input gives the same bytes, so the digest in `deploy/profiles/embedded.toml` can be checked by anybody.

Run it in an environment of its own (`pip install gguf==0.19.0`; numpy comes with it)::

    python deploy/adapter/convert.py ADAPTER_DIR BASE.gguf deploy/adapter/gemma-3-270m-notes.gguf
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_KEY = re.compile(r"base_model\.model\.model\.layers\.(\d+)\.([a-z_.]+?)\.lora_([AB])\.weight")
_LONGEST_HEADER = 1 << 20


def read_safetensors(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield (name, matrix) in the order of the names; bfloat16, float16 and float32 are understood."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    if length > _LONGEST_HEADER:
        raise SystemExit("the header of the safetensors file is too long")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    for name in sorted(header):
        start, end = header[name]["data_offsets"]
        raw = data[8 + length + start : 8 + length + end]
        yield name, _as_float32(raw, header[name]["dtype"]).reshape(header[name]["shape"])


def _as_float32(raw: bytes, dtype: str) -> NDArray[np.float32]:
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(raw, dtype="<u2").astype("<u4") << 16).view("<f4")
    if dtype in {"F16", "F32"}:
        return np.frombuffer(raw, dtype="<f2" if dtype == "F16" else "<f4").astype(np.float32)
    raise SystemExit(f"type {dtype} is not understood")


def base_shapes(path: Path) -> dict[str, tuple[int, int]]:
    """Return (out, in) of every matrix of the base model."""
    reader = gguf.GGUFReader(path)
    return {t.name: (int(t.shape[1]), int(t.shape[0])) for t in reader.tensors if len(t.shape) == 2}  # noqa: PLR2004


def convert(source: Path, base: Path, target: Path) -> int:
    """Write `target` and return the number of tensors in it."""
    config = json.loads((source / "adapter_config.json").read_text(encoding="utf-8"))
    if config["peft_type"] != "LORA" or config["use_dora"] or config["use_rslora"] or config["bias"] != "none":
        raise SystemExit("only a plain LoRA without biases can be converted")
    shapes = base_shapes(base)
    writer = gguf.GGUFWriter(target, arch="gemma3")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(config["lora_alpha"]))
    writer.add_name("gemma-3-270m-notes")
    writer.add_license("gemma")
    count = 0
    for key, matrix in read_safetensors(source / "adapter_model.safetensors"):
        name, half = _target_name(key)
        _check_shape(name, half, matrix, shapes=shapes, rank=config["r"])
        writer.add_tensor(f"{name}.lora_{half}", _as_float16(matrix, key))
        count += 1
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return count


def _target_name(key: str) -> tuple[str, str]:
    match = _KEY.fullmatch(key)
    if match is None or match[2] not in _NAMES:
        raise SystemExit(f"tensor {key} has no place in the base model")
    return f"blk.{match[1]}.{_NAMES[match[2]]}.weight", match[3].lower()


def _check_shape(
    name: str, half: str, matrix: NDArray[np.float32], *, shapes: dict[str, tuple[int, int]], rank: int
) -> None:
    if name not in shapes:
        raise SystemExit(f"the base model has no tensor {name}")
    out_size, in_size = shapes[name]
    if matrix.shape != ((rank, in_size) if half == "a" else (out_size, rank)):
        raise SystemExit(f"tensor {name} does not fit the base model")


def _as_float16(matrix: NDArray[np.float32], key: str) -> NDArray[np.float16]:
    if not np.isfinite(matrix).all() or float(np.abs(matrix).max()) > float(np.finfo(np.float16).max):
        raise SystemExit(f"tensor {key} holds numbers that float16 cannot")
    return matrix.astype(np.float16)


def main() -> None:
    """Convert and print the digest for the profile."""
    parser = argparse.ArgumentParser(description="PEFT LoRA of Gemma 3 to a GGUF adapter")
    parser.add_argument("adapter", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    count = convert(args.adapter, args.base, args.target)
    print(f"{count} tensors, sha256 {hashlib.sha256(args.target.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
