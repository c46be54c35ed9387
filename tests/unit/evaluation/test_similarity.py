"""`clinic.evaluation.similarity`: the network in NumPy, its file and its baseline, with a tiny model made here."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from clinic.domain import DraftStatement, Segment, Transcript
from clinic.errors import ConfigError
from clinic.evaluation.material import Visit
from clinic.evaluation.measure import measure
from clinic.evaluation.similarity import MiniLm, safetensors
from clinic.weights import WeightFile, read

WIDTH, WIDE, LAYERS = 8, 16, 2


def tensors() -> dict[str, NDArray[np.float32]]:
    """Return random weights in the shapes of the real model, made small."""
    made = np.random.default_rng(5)

    def of(*shape: int) -> NDArray[np.float32]:
        return made.normal(0, 0.5, shape).astype(np.float32)

    found = {f"embeddings.{kind}_embeddings.weight": of(30, WIDTH) for kind in ("word", "position", "token_type")}
    norms = ["embeddings.LayerNorm"]
    for n in range(LAYERS):
        layer = f"encoder.layer.{n}."
        names = [f"attention.self.{part}" for part in ("query", "key", "value")] + ["attention.output.dense"]
        found |= {f"{layer}{name}.weight": of(WIDTH, WIDTH) for name in names}
        found |= {f"{layer}intermediate.dense.weight": of(WIDE, WIDTH), f"{layer}output.dense.weight": of(WIDTH, WIDE)}
        found |= {f"{layer}{name}.bias": of(WIDTH) for name in [*names, "output.dense"]}
        found[f"{layer}intermediate.dense.bias"] = of(WIDE)
        norms += [f"{layer}attention.output.LayerNorm", f"{layer}output.LayerNorm"]
    found |= {f"{name}.{part}": of(WIDTH) for name in norms for part in ("weight", "bias")}
    return found


def words(text: str) -> list[int]:
    """Return one id for each word: its length."""
    return [1, *(len(word) for word in text.split()), 2]


MODEL = MiniLm(tensors(), words, layers=LAYERS, heads=2)


def test_embeddings_have_length_one_and_do_not_depend_on_their_batch() -> None:
    """The same text gives the same row alone and among others; another order of words gives another row."""
    texts = ["no chest pain", "a cough", "pain chest no", "since two weeks or so", "no chest pain"]
    rows = MODEL.embed(texts)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.allclose(rows[1], MODEL.embed(["a cough"])[0], atol=1e-5)
    assert np.allclose(rows[0], rows[4], atol=1e-6)
    assert not np.allclose(rows[0], rows[2], atol=1e-3)


def test_the_file_is_read_by_its_header() -> None:
    """Tensors come out as they went in; other types are passed over."""
    one, header = np.arange(6, dtype="<f4").reshape(2, 3), {}
    header["a"] = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    header["ids"] = {"dtype": "I64", "shape": [1], "data_offsets": [24, 32]}
    head = json.dumps({"__metadata__": {}, **header}).encode()
    found = safetensors(struct.pack("<Q", len(head)) + head + one.tobytes() + bytes(8))
    assert set(found) == {"a"}
    assert np.array_equal(found["a"], one)


@pytest.mark.parametrize(
    ("package", "path", "code"),
    [("no-such-package", "x", "weights_missing"), ("numpy", "numpy/__init__.py", "weights_damaged")],
)
def test_weights_are_checked(package: str, path: str, code: str) -> None:
    """A package that is not there, and a file that is another one, are refused."""
    with pytest.raises(ConfigError) as refused:
        read(WeightFile(name="model", sha256="0" * 64, parts=((package, path),)))
    assert refused.value.code == code


def test_the_baseline_flags_as_many_as_verification() -> None:
    """A model that finds everything alike catches nothing; one that knows the planted words apart catches them."""
    segments = (Segment(id="s1", text="Left knee pain for 3 weeks."),)
    noted = ("Left knee pain for 3 weeks.", "The moon is made of cheese.")
    visit = Visit("one", Transcript(segments=segments), tuple(DraftStatement(section="", text=t) for t in noted))

    def alike(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.ones((len(texts), 1), np.float32)

    def apart(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array(
            [[1.0, 0.0] if text in {s.text for s in segments} else [0.5, 0.0] for text in texts], np.float32
        )

    assert measure([visit]).row("side")["embedding_similarity"] is None
    assert measure([visit], embed=alike).row("side")["embedding_similarity"] == 0.0
    assert measure([visit], embed=apart).row("side")["embedding_similarity"] == 1.0
