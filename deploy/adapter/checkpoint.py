"""The packaged Gemma 3 270M and our adapter, from GGUF to what vLLM reads.

`checkpoint.py BASE.gguf ADAPTER.gguf TARGET` writes `TARGET/base` and `TARGET/adapter`; for the Python of `.venv-vllm`.

The weights come out as bfloat16, rounded from the 4 bits they were stored in: not the published ones, but the very
numbers that the embedded engine computes with.  Every tensor has a place, or the program stops.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import save_file

_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
_LAYERS = 18
_CONFIG = {
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 640,
    "intermediate_size": 2048,
    "max_position_embeddings": 32768,
    "num_attention_heads": 4,
    "num_hidden_layers": _LAYERS,
    "num_key_value_heads": 1,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "layer_types": ["sliding_attention" if (n + 1) % 6 else "full_attention" for n in range(_LAYERS)],
    "tie_word_embeddings": True,
    "vocab_size": 262144,
    "dtype": "bfloat16",
    "use_cache": True,
}


def write_base(source: Path, target: Path) -> None:
    """Write weights, configuration and tokenizer of the base model."""
    target.mkdir(parents=True, exist_ok=True)
    reader = GGUFReader(source)
    tensors = {}
    for tensor in reader.tensors:
        name = _TOP.get(tensor.name) or _layer_name(tensor.name)
        values = _values(tensor)
        tensors[name] = (values - 1 if "norm" in name else values).to(torch.bfloat16).contiguous()
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    _write_json(target / "config.json", _CONFIG)
    _write_json(target / "generation_config.json", {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0})
    _write_json(target / "tokenizer.json", _tokenizer(reader))
    _write_json(
        target / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "model_max_length": 32768,
        },
    )


def write_adapter(source: Path, target: Path) -> None:
    """Write the adapter as PEFT does."""
    target.mkdir(parents=True, exist_ok=True)
    reader = GGUFReader(source)
    tensors, ranks = {}, set()
    for tensor in reader.tensors:
        stem, _, half = tensor.name.rpartition(".lora_")
        name = _layer_name(stem).removesuffix(".weight")
        values = _values(tensor)
        tensors[f"base_model.model.{name}.lora_{half.upper()}.weight"] = values.to(torch.bfloat16).contiguous()
        ranks.add(values.shape[0 if half == "a" else 1])
    (rank,) = ranks
    save_file(tensors, target / "adapter_model.safetensors", metadata={"format": "pt"})
    _write_json(
        target / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": "gemma-3-270m",
            "r": int(rank),
            "lora_alpha": float(_field(reader, "adapter.lora.alpha")),
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": sorted({name.split(".")[-3] for name in tensors}),
        },
    )


def _layer_name(name: str) -> str:
    block, number, part = name.removesuffix(".weight").split(".")
    if block != "blk" or part not in _NAMES:
        raise SystemExit(f"tensor {name} has no place in the model")
    return f"model.layers.{number}.{_NAMES[part]}.weight"


def _values(tensor: Any) -> Any:
    return torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))


def _field(reader: Any, name: str) -> Any:
    return reader.fields[name].contents()


def _tokenizer(reader: Any) -> dict[str, Any]:
    """Return the tokenizer as the `tokenizers` library writes it; a text begins with `<bos>`, or nothing works."""
    pieces: list[str] = _field(reader, "tokenizer.ggml.tokens")
    kinds: list[int] = _field(reader, "tokenizer.ggml.token_type")
    scores: list[float] = _field(reader, "tokenizer.ggml.scores")
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    added = [
        {
            "id": number,
            "content": piece,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kinds[number] == _CONTROL,
        }
        for piece, number in vocabulary.items()
        if kinds[number] in {_CONTROL, _USER_DEFINED}
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [
                {"SpecialToken": {"id": "<bos>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [vocabulary["<bos>"]], "tokens": ["<bos>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": _merges(vocabulary, kinds, scores),
        },
    }


def _merges(vocabulary: dict[str, int], kinds: list[int], scores: list[float]) -> list[list[str]]:
    """Return every way to join two pieces to a third, the best piece first: what SentencePiece does by score."""
    found = []
    for piece, number in vocabulary.items():
        if kinds[number] != _NORMAL:
            continue
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocabulary and right in vocabulary:
                found.append((-scores[number], vocabulary[left], vocabulary[right], [left, right]))
    return [pair for *_, pair in sorted(found)]


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    base, adapter, folder = (Path(argument) for argument in sys.argv[1:])
    write_base(base, folder / "base")
    write_adapter(adapter, folder / "adapter")
