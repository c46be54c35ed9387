"""Decoding of a recording that still runs: the same sound as the whole gives, in the same confinement."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from clinic.errors import AudioError
from clinic.speech.decode import Samples, decode
from clinic.speech.live_decode import LiveDecoder
from tests.unit.speech.sound import FORMATS, encoded, pieces

RATE = 16_000
DEADLINE_S = 20.0
STREAMS = [name for name in FORMATS if name not in {"m4a", "flac", "wav", "mp3"}]
"""What browsers' recorders write."""


@pytest.fixture
def decoder() -> Iterator[LiveDecoder]:
    """A decoder, ended whatever happens."""
    with closing(LiveDecoder(max_duration_s=60)) as one:
        yield one


def child_of(decoder: LiveDecoder) -> int:
    """Return the id of the decoder's child."""
    assert decoder._child is not None
    return decoder._child.pid


def waited(decoder: LiveDecoder, samples: int) -> Samples:
    """Take what comes until there are so many samples."""
    found = decoder.take()
    deadline = time.monotonic() + DEADLINE_S
    while len(found) < samples and time.monotonic() < deadline:
        time.sleep(0.02)
        found = np.concatenate([found, decoder.take()])
    return found


@pytest.mark.parametrize("name", STREAMS)
def test_what_comes_in_is_there_at_once(decoder: LiveDecoder, name: str) -> None:
    """While chunks come in their sound is given, a second behind at most, and the same as the whole gives."""
    chunks = list(pieces(encoded(name, 8.0), 2000))
    found = decoder.take()
    whole = decode(chunks, max_duration_s=60).samples
    for number, chunk in enumerate(chunks, start=1):
        decoder.feed(chunk)
        there = int(len(whole) * number / len(chunks)) - 3 * RATE
        found = np.concatenate([found, waited(decoder, there - len(found))])
        assert len(found) >= there
    assert np.array_equal(found, whole[: len(found)])


def test_a_recording_that_went_on_is_one(decoder: LiveDecoder) -> None:
    """A second stream after a first one that broke off: as when the whole is decoded, nothing is lost between."""
    first, second = encoded("webm-opus", 6.0), encoded("webm-opus", 3.0)
    broken = first[: int(0.7 * len(first))]
    decoder.feed(broken)
    decoder.feed(second)
    whole = decode([broken, second], max_duration_s=60).samples
    assert len(whole) / RATE == pytest.approx(0.7 * 6 + 3, abs=0.5)
    found = waited(decoder, len(whole) - RATE)
    time.sleep(0.2)
    assert len(found) + len(decoder.take()) == pytest.approx(len(whole), abs=0.2 * RATE)


def again(decoder: LiveDecoder, sound: bytes) -> None:
    """Feed until it is refused."""
    for _ in range(50):
        decoder.feed(sound)
        time.sleep(0.02)


@pytest.mark.parametrize(
    "sound", [b"not sound at all " * 4000, b"\x1a\x45\xdf\xa3" * 40_000], ids=["no-sound", "hostile"]
)
def test_what_is_no_sound_ends_in_an_error(decoder: LiveDecoder, sound: bytes) -> None:
    """Nothing is decoded; a child that ended is noticed at the next chunk."""
    decoder.feed(sound)
    with pytest.raises(AudioError) as caught:
        again(decoder, sound[2:])
    assert caught.value.code == "audio_unreadable"
    assert len(decoder.take()) == 0


def test_a_child_that_hangs_holds_nobody(decoder: LiveDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes nothing is ended after some seconds."""
    monkeypatch.setattr("clinic.speech.live_decode._TAKES_S", 0.5)
    decoder.feed(encoded("webm-opus", 1.0))
    pid = child_of(decoder)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(AudioError):
        decoder.feed(bytes(1 << 20))
    assert not Path(f"/proc/{pid}").exists()


def test_the_child_is_confined(decoder: LiveDecoder) -> None:
    """No new file descriptors, nothing written to files, no new processes, bounded memory and processor time."""
    decoder.feed(encoded("webm-opus", 2.0))
    assert len(waited(decoder, RATE)) >= RATE
    pid = child_of(decoder)
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE):
        assert resource.prlimit(pid, limit) == (0, 0)
    assert resource.prlimit(pid, resource.RLIMIT_CPU)[0] == 33
    assert resource.prlimit(pid, resource.RLIMIT_AS)[0] < 4 << 30
