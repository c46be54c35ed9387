"""Decoding of untrusted recordings, always in a confined child process.

Rules kept here:

* This process never parses audio: it passes bytes to `decode_child` and takes samples back, both through pipes.
* Whatever the child does (a crash, a signal, a hang) ends as an `AudioError`, never as a fault of this process.
* A recording that ends early is not refused: what is there is decoded, and `Decoded.truncated` says so.
* Times are counted in decoded samples, so a second of evidence is the same second in the transcript and in the clip.

Raises `AudioError` with the codes `audio_empty`, `audio_unreadable`, `audio_too_short`, `audio_too_long` and
`audio_clip_outside`.
"""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import wave
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from clinic.errors import AudioError
from clinic.speech import decode_child
from clinic.speech.decode_child import RATE, Status

Samples: TypeAlias = NDArray[np.float32]

MIN_DURATION_S = 0.3
MAX_BYTES = 1 << 30
_READ = 1 << 18
_CLIP_LIMIT_S = 24 * 3600  # clips come from recordings that were accepted once: the limit there is the real one
_FORMATS_HINT = "record again, or hand over WebM, Ogg, MP3, M4A, WAV or FLAC"


@dataclass(frozen=True, slots=True)
class Decoded:
    """A recording as 16 kHz mono samples in [-1, 1].  `truncated`: the file ends early or has damaged parts."""

    samples: Samples
    duration_s: float
    truncated: bool


def decode(chunks: Iterable[bytes], *, max_duration_s: int) -> Decoded:
    """Decode a whole recording.

    Raises:
        AudioError: `audio_empty`, `audio_unreadable`, `audio_too_short` or `audio_too_long`.
    """
    limit = max_duration_s * RATE
    pcm, status = _run_child(chunks, limit=limit, start=0, stop=limit + 1)
    if status is Status.TOO_LONG:
        raise AudioError(
            f"the recording is longer than {max_duration_s} seconds",
            code="audio_too_long",
            hint="split the recording, or raise `speech.max_duration_s`",
        )
    found = np.frombuffer(pcm, dtype=np.float32)
    if found.size < MIN_DURATION_S * RATE:
        raise AudioError(
            "the recording holds less than a third of a second of sound",
            code="audio_too_short",
            hint="check the microphone and record again",
        )
    return Decoded(samples=found, duration_s=found.size / RATE, truncated=status is Status.TRUNCATED)


def wav_clip(chunks: Iterable[bytes], start: float, end: float) -> bytes:
    """Return seconds `start` to `end` of a recording as a 16-bit WAV file (for playing the evidence).

    An `end` beyond the recording is cut to it.

    Raises:
        AudioError: `audio_clip_outside` if none of these seconds exists; `audio_empty`, `audio_unreadable`.
    """
    first, last = round(max(0.0, start) * RATE), round(end * RATE)
    pcm = bytearray()
    if last > first:
        pcm, _ = _run_child(chunks, limit=_CLIP_LIMIT_S * RATE, start=first, stop=last)
    if not pcm:
        raise AudioError("the recording has no such seconds", code="audio_clip_outside", hint="choose other seconds")
    found = np.frombuffer(pcm, dtype=np.float32)
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(found, -1, 1) * 32767).astype("<i2").tobytes())
    return out.getvalue()


def _run_child(chunks: Iterable[bytes], *, limit: int, start: int, stop: int) -> tuple[bytearray, Status]:
    cpu_s = 30 + min(stop, limit) // RATE // 20  # decoding runs at 100 times real time and more
    pcm = bytearray()
    with _child(limit, start, stop, cpu_s) as child:
        _send(chunks, child)
        while block := _stdout(child).read(_READ):
            pcm += block
            if len(pcm) > 4 * (min(stop, limit + RATE) - start):  # a child that does not keep to its limit
                raise _unreadable()
        code = child.wait()
    if code not in {Status.WHOLE, Status.TRUNCATED, Status.TOO_LONG, Status.NO_SAMPLES}:
        raise _unreadable()
    del pcm[len(pcm) // 4 * 4 :]
    return pcm, Status(code)


@contextmanager
def _child(limit: int, start: int, stop: int, cpu_s: int) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [str(number) for number in (limit, start, stop, cpu_s)]
    with subprocess.Popen(
        [sys.executable, "-I", str(Path(decode_child.__file__)), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        close_fds=True,
        cwd="/",
        env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"},
    ) as child:
        # Processor time is limited by the kernel; this one catches a child that sleeps.
        watchdog = threading.Timer(60 + 4 * cpu_s, child.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield child
        finally:
            watchdog.cancel()
            child.kill()  # nothing happens to one that has ended and was waited for
            with suppress(BrokenPipeError):
                _stdin(child).close()


def _send(chunks: Iterable[bytes], child: subprocess.Popen[bytes]) -> None:
    # The child answers only after it has read everything, so writing first cannot lock up.
    stdin = _stdin(child)
    size = 0
    try:
        for chunk in chunks:
            size += len(chunk)
            if size > MAX_BYTES:
                raise AudioError(
                    "the recording is larger than 1 GiB", code="audio_too_long", hint="hand it over compressed"
                )
            stdin.write(chunk)
        if not size:
            raise AudioError("the recording is empty", code="audio_empty", hint="check the microphone and record again")
        stdin.close()
    except BrokenPipeError:
        raise _unreadable() from None


def _stdin(child: subprocess.Popen[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", child.stdin)  # Popen was asked for pipes


def _stdout(child: subprocess.Popen[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", child.stdout)


def _unreadable() -> AudioError:
    return AudioError("the recording cannot be read as audio", code="audio_unreadable", hint=_FORMATS_HINT)
