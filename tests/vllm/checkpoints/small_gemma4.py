"""A Gemma 4 of 1.3 million parameters, made from nothing: `small_gemma4.py TARGET`.

Run with the Python of `.venv-vllm`.  The architecture is the real one, with text, vision and audio, layers that share
their cache and heads of two sizes; weights are random (seeded), the tokenizer of 3,000 entries is trained here on the
source of Python's own `email` package.  No file of Gemma is in it.  It shows the machinery, and nothing about quality.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    Gemma4AudioConfig,
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4ImageProcessor,
    Gemma4Processor,
    Gemma4TextConfig,
    Gemma4VideoProcessor,
    Gemma4VisionConfig,
    GenerationConfig,
)

CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")

_RESERVED = 512
_FIRST_BYTE, _LAST_BYTE = 238, 494
_BASE = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "[multimodal]")
_TURNS = {
    46: "<|tool>",
    47: "<tool|>",
    48: "<|tool_call>",
    49: "<tool_call|>",
    50: "<|tool_response>",
    51: "<tool_response|>",
    52: '<|"|>',
    98: "<|think|>",
    100: "<|channel>",
    101: "<channel|>",
    105: "<|turn>",
    106: "<turn|>",
}
"""The ids of Gemma's own vocabulary."""
_MEDIA = {
    500: "<|image>",
    501: "<|audio>",
    502: "<|image|>",
    503: "<|audio|>",
    504: "<image|>",
    505: "<audio|>",
    506: "<|video|>",
}
_SPECIAL = _TURNS | _MEDIA
_NAMED = {
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
    "sot_token": "<|turn>",
    "eot_token": "<turn|>",
    "soc_token": "<|channel>",
    "eoc_token": "<channel|>",
    "think_token": "<|think|>",
    "escape_token": '<|"|>',
    "str_token": "<|tool_response>",
    "etr_token": "<tool_response|>",
    "stc_token": "<|tool_call>",
    "etc_token": "<tool_call|>",
    "std_token": "<|tool>",
    "etd_token": "<tool|>",
}


def tokenizer_data() -> dict[str, Any]:
    """Return the tokenizer as the `tokenizers` library writes it: byte-pair encoding, with Gemma's special ids."""
    trained = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    folder = Path(os.__file__).parent / "email"
    corpus = [path.read_text(encoding="utf-8", errors="ignore") for path in sorted(folder.glob("*.py"))]
    trained.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=3000, special_tokens=[], show_progress=False))
    data: dict[str, Any] = json.loads(trained.to_str())
    vocabulary = {_reserved(number): number for number in range(_RESERVED)}
    characters = ["\n", *(chr(code) for code in range(33, 127)), "▁"]
    learnt: dict[str, int] = data["model"]["vocab"]
    for piece in [*characters, *sorted(learnt, key=lambda piece: learnt[piece])]:
        vocabulary.setdefault(piece, len(vocabulary))
    data["model"]["vocab"] = vocabulary
    data["added_tokens"] = [
        {
            "id": number,
            "content": piece,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for piece, number in vocabulary.items()
        if number < _RESERVED and not piece.startswith("<0x")
    ]
    data["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ],
    }
    return data


def configuration(vocabulary: int) -> Gemma4Config:
    """Return the architecture; what looks arbitrary keeps apart what must not be mixed up."""
    size = (vocabulary + 63) // 64 * 64
    text = Gemma4TextConfig(
        vocab_size=size,
        vocab_size_per_layer_input=size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        num_kv_shared_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=32,
        global_head_dim=64,  # another size on purpose, as in the real one
        hidden_size_per_layer_input=8,
        use_double_wide_mlp=True,
        final_logit_softcapping=30.0,
        sliding_window=512,
        max_position_embeddings=131072,
        initializer_range=0.05,
        eos_token_id=1,
        dtype="bfloat16",
    )
    vision = Gemma4VisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        position_embedding_size=2560,
        use_clipped_linears=True,
        default_output_length=280,  # vLLM reads it, the class does not know it
        dtype="bfloat16",
    )
    audio = Gemma4AudioConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        subsampling_conv_channels=[128, 8],  # with another first number vLLM on a CPU writes outside its memory
        output_proj_dims=64,
        dtype="bfloat16",
    )
    return Gemma4Config(
        text_config=text,
        vision_config=vision,
        audio_config=audio,
        boi_token_id=500,
        boa_token_id=501,
        image_token_id=502,
        audio_token_id=503,
        eoi_token_id=504,
        eoa_token_index=505,
        video_token_id=506,
        eos_token_id=[1, 106],
        dtype="bfloat16",
    )


def write(target: Path) -> None:
    """Write the whole model folder."""
    target.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_data()
    (target / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
        "padding_side": "left",
        "model_max_length": 10**30,
        "extra_special_tokens": _NAMED,
    }
    (target / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    template = CHAT_TEMPLATE.read_text(encoding="utf-8")
    (target / "chat_template.jinja").write_text(template, encoding="utf-8")
    torch.manual_seed(0)
    model = Gemma4ForConditionalGeneration(configuration(len(tokenizer["model"]["vocab"]))).to(torch.bfloat16)
    model.generation_config = GenerationConfig(bos_token_id=2, pad_token_id=0, eos_token_id=[1, 106, 50])
    model.save_pretrained(target)
    processor = Gemma4Processor(
        feature_extractor=Gemma4AudioFeatureExtractor(),
        image_processor=Gemma4ImageProcessor(),
        tokenizer=AutoTokenizer.from_pretrained(target),
        video_processor=Gemma4VideoProcessor(),
        chat_template=template,
    )
    beside = target / "processor"
    processor.save_pretrained(beside)  # only its own file is wanted: the others would overwrite ours
    (beside / "processor_config.json").replace(target / "processor_config.json")
    for path in beside.iterdir():
        path.unlink()
    beside.rmdir()


def _reserved(number: int) -> str:
    if number in _SPECIAL:
        return _SPECIAL[number]
    if number < len(_BASE):
        return _BASE[number]
    if _FIRST_BYTE <= number < _LAST_BYTE:
        return f"<0x{number - _FIRST_BYTE:02X}>"
    return f"<unused{number - len(_BASE)}>"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
