"""How a voice sounds, in 256 numbers: the GE2E speaker encoder that the Resemblyzer package ships, in NumPy.

Rules kept here:

* No unpickling and none of the package's code: the file is known byte for byte by its SHA-256, so where each matrix
  lies in it is known, too (`_TENSORS`).
* The sound is prepared exactly as for the reference implementation (librosa's mel spectrogram, power, 40 bands), and
  the network gives its numbers; known answers hold that in `tests/unit/speech/test_voice.py`.
* An embedding is of 1.6 s of sound, has length 1 and no negative component; the cosine of two says how alike they are.

Sources: Wan et al., "Generalized end-to-end loss for speaker verification", 2018; Resemblyzer 0.1.4 (Apache-2.0).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clinic.errors import ConfigError
from clinic.speech.decode_child import RATE
from clinic.weights import VOICE_ENCODER, assemble

Floats: TypeAlias = NDArray[np.float32]

HOP: Final = 160
"""Samples from one frame of the spectrogram to the next (10 ms)."""
FRAMES: Final = 160
"""Frames of one embedding (1.6 s): the length that the network was trained on."""
SIZE: Final = 256
"""Numbers in an embedding, and units in each layer."""

_WINDOW: Final = 400
_BANDS: Final = 40
_LAYERS: Final = 3
_BATCH: Final = 64
_TARGET_DB: Final = -30.0
_FLOAT: Final = np.dtype("<f4")

# name: (first byte, shape).  Layer by layer: input weights, recurrent weights, their two biases; then the projection.
_TENSORS: Final[dict[str, tuple[int, tuple[int, ...]]]] = {
    "ih0": (269883, (4 * SIZE, _BANDS)),
    "hh0": (433723, (4 * SIZE, SIZE)),
    "ih1": (1482299, (4 * SIZE, SIZE)),
    "hh1": (2530875, (4 * SIZE, SIZE)),
    "ih2": (3579451, (4 * SIZE, SIZE)),
    "hh2": (4628027, (4 * SIZE, SIZE)),
    "bih0": (5676603, (4 * SIZE,)),
    "bhh0": (5680699, (4 * SIZE,)),
    "bih1": (5684795, (4 * SIZE,)),
    "bhh1": (5688891, (4 * SIZE,)),
    "bih2": (5692987, (4 * SIZE,)),
    "bhh2": (5697083, (4 * SIZE,)),
    "projection": (7731, (SIZE, SIZE)),
    "bias": (6699, (SIZE,)),
}


class VoiceEncoder:
    """The loaded network."""

    def __init__(self, path: Path) -> None:
        try:
            raw = path.read_bytes()
            tensor = {name: _tensor(raw, *place) for name, place in _TENSORS.items()}
        except (OSError, ValueError):
            raise ConfigError(
                f"the speaker model `{path}` cannot be read",
                code="weights_damaged",
                hint="run `clinic doctor`",
            ) from None
        # For each layer one matrix, for its input and its own last output together, and the sum of its two biases.
        self._layers = [
            (
                np.ascontiguousarray(np.hstack([tensor[f"ih{n}"], tensor[f"hh{n}"]]).T),
                tensor[f"bih{n}"] + tensor[f"bhh{n}"],
            )
            for n in range(_LAYERS)
        ]
        self._projection, self._bias = np.ascontiguousarray(tensor["projection"].T), tensor["bias"]

    def embed(self, spectrogram: Floats, starts: NDArray[np.intp]) -> Floats:
        """Return one embedding (a row) for the `FRAMES` frames from each of `starts` on.

        Args:
            spectrogram: frames x bands, as `spectrogram` gives it.
            starts: first frames; IndexError where fewer than `FRAMES` follow.
        """
        found = np.empty((len(starts), SIZE), np.float32)
        for at in range(0, len(starts), _BATCH):
            batch = starts[at : at + _BATCH]
            frames = spectrogram[batch[None, :] + np.arange(FRAMES)[:, None]]  # frame by frame: frames x batch x bands
            found[at : at + len(batch)] = self._embed(frames)
        return found

    def _embed(self, frames: Floats) -> Floats:
        for weights, bias in self._layers:
            frames = _lstm(frames, weights, bias)
        raw = np.maximum(frames[-1] @ self._projection + self._bias, 0)
        norm: Floats = np.linalg.norm(raw, axis=1, keepdims=True)
        return np.asarray(raw / np.maximum(norm, np.finfo(np.float32).tiny), np.float32)


def load_voice_encoder(models_dir: Path) -> VoiceEncoder:
    """Load the encoder from its package, checked.

    Raises:
        ConfigError: `weights_missing` or `weights_damaged`.
    """
    folder = assemble(VOICE_ENCODER, models_dir)
    return VoiceEncoder(folder / VOICE_ENCODER.files[0].name)


def spectrogram(audio: Floats, first: int, count: int) -> Floats:
    """Return `count` frames of the mel spectrogram (frames x bands, power) of 16 kHz sound, from frame `first` on.

    Frame n stands around sample `HOP * n`; what lies outside the recording is silence.
    """
    begin, end = first * HOP - _WINDOW // 2, (first + count - 1) * HOP + _WINDOW // 2
    inside = audio[max(0, begin) : max(0, end)]
    before = min(max(0, -begin), end - begin)
    padded = np.pad(inside, (before, end - begin - before - len(inside)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * _hann(), axis=1)) ** 2
    return np.asarray(power.astype(np.float32) @ _mel_filters().T, np.float32)


def gain(power: float) -> float:
    """Return by what a spectrogram is to be multiplied, so that quiet sound is as loud as what the network knows.

    `power` is the mean square of the samples in which somebody speaks.  Never less than 1, as in the reference.
    """
    return max(1.0, 10 ** (_TARGET_DB / 10) / power) if power > 0 else 1.0


def _lstm(frames: Floats, weights: Floats, bias: Floats) -> Floats:
    """Run one layer over frames x batch x inputs; the gates are in PyTorch's order: input, forget, cell, output."""
    length, batch, width = frames.shape
    both = np.zeros((batch, width + SIZE), np.float32)
    cell = np.zeros((batch, SIZE), np.float32)
    out = np.empty((length, batch, SIZE), np.float32)
    for n in range(length):
        both[:, :width] = frames[n]
        gates = both @ weights + bias
        cell *= _sigmoid(gates[:, SIZE : 2 * SIZE])
        cell += _sigmoid(gates[:, :SIZE]) * np.tanh(gates[:, 2 * SIZE : 3 * SIZE])
        out[n] = both[:, width:] = _sigmoid(gates[:, 3 * SIZE :]) * np.tanh(cell)
    return out


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x), np.float32)


def _tensor(raw: bytes, first: int, shape: tuple[int, ...]) -> Floats:
    return np.frombuffer(raw, _FLOAT, count=int(np.prod(shape)), offset=first).reshape(shape).astype(np.float32)


@cache
def _hann() -> Floats:
    return np.hanning(_WINDOW + 1)[:-1].astype(np.float32)


@cache
def _mel_filters() -> Floats:
    """Return the triangular filters (bands x bins) of librosa's default: Slaney's scale, each of area 1."""
    edges = _from_mel(np.linspace(0.0, _to_mel(RATE / 2), _BANDS + 2))
    bins = np.linspace(0, RATE / 2, _WINDOW // 2 + 1)
    slopes = edges[:, None] - bins[None, :]
    widths = np.diff(edges)
    rising, falling = -slopes[:-2] / widths[:-1, None], slopes[2:] / widths[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(triangles * (2 / (edges[2:] - edges[:-2]))[:, None], np.float32)


# Slaney's scale: linear below 1 kHz (200/3 Hz a step), then 27 steps to each factor of 6.4.
_LINEAR_HZ: Final = 200 / 3
_BREAK_HZ: Final = 1000.0
_LOG_STEP: Final = np.log(6.4) / 27


def _to_mel(hertz: float) -> float:
    if hertz < _BREAK_HZ:
        return hertz / _LINEAR_HZ
    return float(_BREAK_HZ / _LINEAR_HZ + np.log(hertz / _BREAK_HZ) / _LOG_STEP)


def _from_mel(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    break_mel = _BREAK_HZ / _LINEAR_HZ
    return np.where(mels < break_mel, _LINEAR_HZ * mels, _BREAK_HZ * np.exp(_LOG_STEP * (mels - break_mel)))
