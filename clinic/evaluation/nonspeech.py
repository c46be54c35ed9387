"""Sounds in which nobody speaks, made from a seed: what a recogniser must answer with nothing.

Rules kept here:

* The same number gives the same sound; the kinds take turns, each louder or softer than the last time.
* Nothing here was tuned to what a recogniser does with it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from clinic.speech.decode_child import RATE

CLIP_S = 20
"""Length of a clip, seconds."""

Samples = NDArray[np.float32]
_Noise = np.random.Generator
_TIME = np.arange(CLIP_S * RATE) / RATE


def clip(number: int) -> Samples:
    """Return clip `number` (from 0) as 16 kHz mono in [-1, 1]."""
    make = _KINDS[number % len(_KINDS)]
    loud = 0.4 / (1 + number // len(_KINDS))
    return np.asarray(np.clip(make(np.random.default_rng(number), loud), -1, 1), dtype=np.float32)


def kind(number: int) -> str:
    """Return what clip `number` is, in one word."""
    return _KINDS[number % len(_KINDS)].__name__.strip("_")


def _silence(_: _Noise, __: float) -> NDArray[np.float64]:
    return np.zeros(_TIME.size)


def _hiss(noise: _Noise, loud: float) -> NDArray[np.float64]:
    """White noise, as of an open microphone."""
    return loud * 0.1 * noise.standard_normal(_TIME.size)


def _tap(noise: _Noise, loud: float) -> NDArray[np.float64]:
    """Running water: noise without its low tones, swelling a little."""
    return loud * 0.5 * _band(noise, 800, 6000) * (1 + 0.2 * np.sin(2 * np.pi * 0.7 * _TIME))


def _breath(noise: _Noise, loud: float) -> NDArray[np.float64]:
    """Breathing: soft noise that comes and goes fifteen times a minute."""
    drawn = np.maximum(0, np.sin(2 * np.pi * 0.25 * _TIME))
    return np.asarray(loud * 0.5 * _band(noise, 300, 2500) * drawn * drawn)


def _cough(noise: _Noise, loud: float) -> NDArray[np.float64]:
    """Coughs: short bursts with a hard beginning."""
    beats = np.zeros(_TIME.size)
    for start in noise.uniform(0, CLIP_S - 1, 8):
        since = _TIME - start
        beats += np.where(since > 0, np.exp(-np.maximum(since, 0) / 0.08), 0)
    return loud * 2 * _band(noise, 200, 3000) * beats


def _clicks(noise: _Noise, loud: float) -> NDArray[np.float64]:
    """Keys of a keyboard."""
    sound = np.zeros(_TIME.size)
    sound[(noise.uniform(0, CLIP_S, 60) * RATE).astype(int)] = loud * 2
    return np.asarray(np.convolve(sound, np.exp(-np.arange(160) / 20) * np.cos(np.arange(160)), mode="same"))


def _hum(noise: _Noise, loud: float) -> NDArray[np.float64]:
    """Mains hum with its overtones and a fan."""
    tones = sum(np.sin(2 * np.pi * 50 * n * _TIME) / n for n in (1, 2, 3, 5))
    return loud * 0.3 * tones + loud * 0.2 * _band(noise, 50, 400)


def _music(noise: _Noise, loud: float) -> NDArray[np.float64]:
    """Chords, one a second."""
    sound = np.zeros(_TIME.size)
    for second in range(CLIP_S):
        part = slice(second * RATE, (second + 1) * RATE)
        fading = np.exp(-3 * (_TIME[part] - second))
        for step in (0, 4, 7):
            hertz = 220 * 2 ** ((step + noise.integers(0, 12)) / 12)
            sound[part] += np.sin(2 * np.pi * hertz * _TIME[part]) * fading
    return loud * 0.5 * sound


def _beeps(noise: _Noise, loud: float) -> NDArray[np.float64]:
    """A monitor: a beep somewhat more often than once a second."""
    rate = noise.uniform(1.0, 1.6)
    return loud * np.sin(2 * np.pi * 950 * _TIME) * ((_TIME * rate) % 1 < 0.12)  # noqa: PLR2004 - part of a beat


def _door(noise: _Noise, loud: float) -> NDArray[np.float64]:
    """Steps and a door: low thuds."""
    sound = np.zeros(_TIME.size)
    for start in np.arange(0.5, CLIP_S - 1, 0.6) + noise.uniform(-0.1, 0.1):
        since = np.maximum(_TIME - start, 0)
        sound += np.where(start < _TIME, np.exp(-since / 0.05) * np.sin(2 * np.pi * 90 * since), 0)
    return loud * sound


_KINDS: tuple[Callable[[_Noise, float], NDArray[np.float64]], ...] = (
    _silence, _hiss, _tap, _breath, _cough, _clicks, _hum, _music, _beeps, _door,
)  # fmt: skip


def _band(noise: _Noise, low: float, high: float) -> NDArray[np.float64]:
    """Noise of unit strength between two frequencies (Hz)."""
    spectrum = np.fft.rfft(noise.standard_normal(_TIME.size))
    hertz = np.fft.rfftfreq(_TIME.size, 1 / RATE)
    spectrum[(hertz < low) | (hertz > high)] = 0
    sound = np.fft.irfft(spectrum, _TIME.size)
    return np.asarray(sound / sound.std())
