"""`clinic.speech.voice`: the numbers of the reference implementation, from weights that are read and never run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clinic.errors import ConfigError
from clinic.speech import voice
from clinic.speech.voice import FRAMES, HOP, SIZE, Floats, VoiceEncoder, load_voice_encoder, spectrogram
from tests.conftest import MODELS

# What Resemblyzer 0.1.4 (PyTorch 2.14, librosa 0.11) gave for `known()`, once, in an environment of its own:
# of the spectrogram the sums of frames 0, 80 and 160, of the embedding the components above 0.17.
FRAME_SUMS = {0: 8.91639, 80: 18.92126, 160: 9.242324}
LARGEST = {
    9: 0.23201,
    11: 0.19144,
    49: 0.19108,
    79: 0.17897,
    87: 0.19571,
    127: 0.20553,
    146: 0.19959,
    164: 0.21054,
    175: 0.18726,
    203: 0.19541,
    226: 0.17616,
    243: 0.2018,
}
NOT_ZERO = 96
SUM = 8.178032


def known() -> Floats:
    """1.6 s of a rising tone with a second one that comes and goes: exact arithmetic, no file."""
    t = np.arange(FRAMES * HOP) / 16_000
    rising = 0.3 * np.sin(2 * np.pi * (180 * t + 60 * t * t))
    return (rising + 0.1 * np.sin(2 * np.pi * 1200 * t) * np.sin(2 * np.pi * 3 * t)).astype(np.float32)


@pytest.fixture(scope="module")
def encoder() -> VoiceEncoder:
    """The packaged encoder."""
    return load_voice_encoder(MODELS)


def test_spectrogram_is_the_reference_one() -> None:
    """Frames, bands, window and filters are those of librosa's default."""
    found = spectrogram(known(), 0, FRAMES + 1)
    assert found.shape == (FRAMES + 1, 40)
    for frame, total in FRAME_SUMS.items():
        assert float(found[frame].sum()) == pytest.approx(total, rel=1e-4)


@pytest.mark.models
def test_embedding_is_the_reference_one(encoder: VoiceEncoder) -> None:
    """The network gives the components that the reference implementation gave."""
    found = encoder.embed(spectrogram(known(), 0, FRAMES), np.array([0]))[0]
    assert found.shape == (SIZE,)
    assert float(np.linalg.norm(found)) == pytest.approx(1.0, abs=1e-5)
    assert int((found > 0).sum()) == NOT_ZERO
    assert float(found.sum()) == pytest.approx(SUM, abs=1e-4)
    assert {int(n): round(float(found[n]), 5) for n in np.flatnonzero(found > 0.17)} == pytest.approx(LARGEST, abs=2e-5)


@pytest.mark.models
def test_another_weight_is_another_embedding(encoder: VoiceEncoder) -> None:
    """Negative control: were one matrix read from a place four bytes further on, the known answer would not hold."""
    wrong = dict(voice._TENSORS) | {"hh1": (voice._TENSORS["hh1"][0] + 4, (4 * SIZE, SIZE))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(voice, "_TENSORS", wrong)
        other = load_voice_encoder(MODELS)
    frames, first = spectrogram(known(), 0, FRAMES), np.array([0])
    assert float(np.abs(other.embed(frames, first) - encoder.embed(frames, first)).max()) > 1e-3


def test_blocks_join_without_a_seam() -> None:
    """A spectrogram in parts is the whole one: the edges of a part are not taken for the edges of the recording."""
    sound = known()
    whole = spectrogram(sound, 0, FRAMES + 1)
    parts = [spectrogram(sound, first, 40) for first in (0, 40, 80, 120)]
    assert np.array_equal(whole[:FRAMES], np.concatenate(parts))


def test_outside_the_recording_is_silence() -> None:
    """Frames beyond the end, and a recording shorter than one window, give zeros and no error."""
    assert float(spectrogram(known(), 1000, 5).max()) == 0.0
    assert spectrogram(np.zeros(10, np.float32), 0, FRAMES).shape == (FRAMES, 40)


def test_quiet_sound_is_raised_and_loud_sound_left() -> None:
    """As in the reference: to -30 dBFS if it is quieter, never down; silence stays silence."""
    assert voice.gain(1e-5) == pytest.approx(100.0)
    assert voice.gain(0.5) == voice.gain(0.0) == 1.0


@pytest.mark.parametrize("content", [None, b"", b"short"], ids=["missing", "empty", "short"])
def test_bad_weights_are_refused(tmp_path: Path, content: bytes | None) -> None:
    """A file that cannot be the model is an error with a code, not an exception of a library."""
    path = tmp_path / "pretrained.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        VoiceEncoder(path)
    assert caught.value.code == "weights_damaged"
