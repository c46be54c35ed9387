"""`clinic.speech.decode`: any recorder's file becomes samples, any other file a plain error."""

from __future__ import annotations

import io
import os
import signal
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clinic.errors import AudioError
from clinic.speech.decode import decode, wav_clip
from tests.unit.speech.sound import FORMATS, encoded, long_silence, pieces


def error_code(data: bytes, *, max_duration_s: int = 60) -> str:
    """Return the code with which decoding fails."""
    with pytest.raises(AudioError) as caught:
        decode([data], max_duration_s=max_duration_s)
    return caught.value.code


def children() -> list[int]:
    """Return the ids of this process's children."""
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


@pytest.mark.parametrize("name", FORMATS)
def test_format_is_decoded(name: str) -> None:
    """Each recorder's format, in chunks as an upload brings it, becomes 16 kHz mono sound of the same length."""
    decoded = decode(pieces(encoded(name, 3.0)), max_duration_s=60)
    assert decoded.samples.dtype == np.float32
    assert decoded.duration_s == pytest.approx(3.0, abs=0.1)
    assert not decoded.truncated
    assert 0.2 < float(np.abs(decoded.samples).max()) <= 1.0


# MP3 says only roughly how long it is: a missing twentieth is not noticed.
CUTS = [(name, part) for name in FORMATS if name != "m4a" for part in (0.3, 0.6, 0.95) if (name, part) != ("mp3", 0.95)]


@pytest.mark.parametrize(("name", "part"), CUTS)
def test_file_that_ends_early_gives_what_is_there_and_says_so(name: str, part: float) -> None:
    """A cut file is decoded up to the cut and reported as truncated."""
    data = encoded(name, 10.0)
    decoded = decode([data[: int(part * len(data))]], max_duration_s=60)
    assert decoded.truncated
    assert 10 * part - 1.5 < decoded.duration_s < 10 * part + 0.5


def test_cut_m4a_is_unreadable() -> None:
    """An M4A file has its index at the end: a cut one cannot be decoded at all, and is refused."""
    data = encoded("m4a", 5.0)
    assert error_code(data[: len(data) // 2]) == "audio_unreadable"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", "audio_empty", id="0 bytes"),
        pytest.param(b"The patient has a cough.\n" * 200, "audio_unreadable", id="text named wav"),
        pytest.param(b"\x00" * 50_000, "audio_unreadable", id="zeros"),
        pytest.param(b"RIFF\xff\xff\xff\xffWAVE", "audio_unreadable", id="only a WAV header"),
        pytest.param(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "audio_unreadable", id="playlist"),
        pytest.param(b"ffconcat version 1.0\nfile '/etc/passwd'\n", "audio_unreadable", id="concat script"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(2000), "audio_unreadable", id="image"),
    ],
)
def test_what_is_no_audio_is_refused(data: bytes, code: str) -> None:
    """Empty files and files that are no audio fail with their own code."""
    assert error_code(data) == code


@pytest.mark.parametrize("name", FORMATS)
def test_moment_of_sound_is_too_short(name: str) -> None:
    """A tenth of a second is no recording."""
    assert error_code(encoded(name, 0.1)) == "audio_too_short"


def test_header_without_sound_is_too_short() -> None:
    """A well-formed file of 0 seconds is too short, not unreadable."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
    assert error_code(out.getvalue()) == "audio_too_short"


def test_recording_up_to_the_limit_is_taken_and_a_longer_one_refused() -> None:
    """The limit is on decoded sound: exactly the limit passes, more does not."""
    data = encoded("flac", 5.0)
    assert decode([data], max_duration_s=5).duration_s == 5.0
    assert error_code(data, max_duration_s=4) == "audio_too_long"


def test_hours_of_silence_stop_at_the_limit() -> None:
    """Three hours in five megabytes are refused without decoding or holding more than the limit allows."""
    data = long_silence(3)
    assert len(data) < 5_000_000
    before = time.monotonic()
    assert error_code(data, max_duration_s=60) == "audio_too_long"
    assert time.monotonic() - before < 20


def test_too_many_bytes_are_refused_while_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless upload ends at the size limit."""
    monkeypatch.setattr("clinic.speech.decode.MAX_BYTES", 4 << 20)
    block = bytes(1 << 20)

    def endless() -> Iterator[bytes]:
        for _ in range(6):
            yield block
        pytest.fail("the limit did not hold")

    with pytest.raises(AudioError) as caught:
        decode(endless(), max_duration_s=60)
    assert caught.value.code == "audio_too_long"


def test_killed_child_is_an_unreadable_recording() -> None:
    """A child that dies in the middle never takes this process with it."""
    data = encoded("wav", 20.0)

    def chunks() -> Iterator[bytes]:
        yield data[: len(data) // 2]
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        yield data[len(data) // 2 :]

    with pytest.raises(AudioError) as caught:
        decode(chunks(), max_duration_s=60)
    assert caught.value.code == "audio_unreadable"


def test_failing_source_leaves_no_child() -> None:
    """An error while the chunks are read reaches the caller as it is, and the child is gone."""
    before = set(children())

    def chunks() -> Iterator[bytes]:
        yield bytes(10)
        raise KeyError("sealed")

    with pytest.raises(KeyError):
        decode(chunks(), max_duration_s=60)
    assert set(children()) <= before


def test_clip_holds_exactly_the_seconds_asked_for() -> None:
    """A clip is a WAV file with the same samples that the transcript's times count."""
    data = encoded("webm-opus", 6.0)
    whole = decode([data], max_duration_s=60).samples
    with wave.open(io.BytesIO(wav_clip([data], 2.0, 3.5))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16_000, 1, 24_000)
        clip = np.frombuffer(file.readframes(24_000), "<i2") / 32767
    np.testing.assert_allclose(clip, whole[32_000:56_000], atol=1e-4)


def test_clip_is_cut_to_the_recording_and_refused_outside_it() -> None:
    """An end beyond the recording is cut; seconds that do not exist are an error."""
    data = encoded("flac", 3.0)
    with wave.open(io.BytesIO(wav_clip([data], 2.0, 99.0))) as file:
        assert file.getnframes() == 16_000
    for start, end in ((5.0, 6.0), (2.0, 2.0), (2.0, 1.0)):
        with pytest.raises(AudioError) as caught:
            wav_clip([data], start, end)
        assert caught.value.code == "audio_clip_outside"


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Return the file with some of its bytes changed, removed, doubled or swapped."""
    out = bytearray(data)
    for _ in range(int(rng.choice((1, 3, 10, 50)))):
        at, size = int(rng.integers(len(out))), int(rng.choice((1, 4, 64, 1000)))
        kind = int(rng.integers(4))
        if kind == 0:
            out[at : at + size] = rng.bytes(size)
        elif kind == 1 and len(out) > 2 * size:
            del out[at : at + size]
        elif kind == 2:
            out[at:at] = out[at : at + size]
        else:
            out[at] = int(rng.choice((0, 0xFF, 0x7F, 0x80)))
    return bytes(out)


def survive(count: int, seed: int) -> dict[str, int]:
    """Decode that many mutated files; count how each ended.  Anything but `AudioError` fails the test."""
    rng = np.random.default_rng(seed)
    files = [encoded(name, 1.0) for name in FORMATS]
    ends: dict[str, int] = {}
    for number in range(count):
        data = mutate(files[number % len(files)], rng)
        try:
            end = "truncated" if decode([data], max_duration_s=60).truncated else "decoded"
        except AudioError as exc:
            end = exc.code
        ends[end] = ends.get(end, 0) + 1
    return ends


def test_mutated_files_never_harm_this_process() -> None:
    """Damaged files are decoded as far as possible or refused with a code of ours."""
    assert sum(survive(40, seed=1).values()) == 40


@pytest.mark.campaign
def test_many_mutated_files_never_harm_this_process() -> None:
    """The same, 500 times."""
    assert sum(survive(500, seed=2).values()) == 500
