"""Which seconds of a recording that still runs are heard next."""

from __future__ import annotations

import numpy as np
import pytest

from clinic.speech.decode import Samples, decode
from clinic.speech.stretches import LONGEST_S, SHORTEST_S, next_stretch
from tests.conftest import SAMPLE

RATE = 16_000


@pytest.fixture(scope="module")
def speech() -> Samples:
    """The sample consultation."""
    return decode([SAMPLE.read_bytes()], max_duration_s=600).samples


def test_too_little_waits(speech: Samples) -> None:
    """The recogniser is not asked for every word."""
    assert next_stretch(speech[: int((SHORTEST_S - 0.1) * RATE)]) is None


def test_silence_is_done_with_unheard() -> None:
    """Where nobody speaks, nothing is to be heard; the last moment waits, a word may begin in it."""
    stretch = next_stretch(np.zeros(10 * RATE, dtype=np.float32))
    assert stretch is not None
    assert not stretch.spoken
    assert 9 * RATE < stretch.samples < 10 * RATE


def test_every_sample_is_in_one_stretch_and_none_is_too_long(speech: Samples) -> None:
    """Cut after cut, as sound comes in two seconds at a time, up to the last moments; cuts lie in pauses."""
    at, cuts, there = 0, [], 2 * RATE
    while there <= len(speech):
        stretch = next_stretch(speech[at:there])
        if stretch is None:
            there += 2 * RATE
            continue
        assert 0 < stretch.samples <= LONGEST_S * RATE
        at += stretch.samples
        cuts.append(at)
    assert len(speech) - at < 16 * RATE
    loud = [float(np.abs(speech[cut - 800 : cut + 800]).max()) for cut in cuts]
    assert sorted(loud)[len(loud) // 2] < 0.1


def test_who_never_pauses_is_cut_off(speech: Samples) -> None:
    """Speech without a pause is heard all the same."""
    voiced = speech[RATE : 3 * RATE]
    endless = np.tile(voiced, 8)
    stretch = next_stretch(endless)
    assert stretch is not None
    assert stretch.spoken
