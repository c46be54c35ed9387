"""Sounds and audio files made in memory for the tests of `clinic.speech`."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

RATE = 16_000


@dataclass(frozen=True, slots=True)
class Format:
    """A container with a codec, as recorders write it."""

    container: str
    codec: str
    rate: int = 48_000
    options: tuple[tuple[str, str], ...] = ()


FORMATS = {
    "webm-opus": Format("webm", "libopus", options=(("live", "1"),)),  # as MediaRecorder does: no duration, no cues
    "ogg-opus": Format("ogg", "libopus"),
    "mp3": Format("mp3", "libmp3lame"),
    "m4a": Format("ipod", "aac"),  # its index lies at the end: cannot be read without seeking
    "mp4-fragmented": Format("mp4", "aac", options=(("movflags", "frag_keyframe+empty_moov"),)),  # Safari's recorder
    "wav": Format("wav", "pcm_s16le", rate=44_100),
    "flac": Format("flac", "flac", rate=RATE),
}


def tone(seconds: float, *, rate: int = RATE, hertz: float = 220.0) -> NDArray[np.float32]:
    """A tone whose loudness swells and fades, so that positions can be told apart."""
    t = np.arange(int(seconds * rate)) / rate
    return np.asarray(0.4 * np.sin(2 * np.pi * hertz * t) * (0.6 + 0.4 * np.sin(2 * np.pi * 0.5 * t)), dtype=np.float32)


def encode(sound: NDArray[np.float32], form: Format) -> bytes:
    """Encode mono samples at `form.rate` into one file in memory."""
    out = io.BytesIO()
    with av.open(out, "w", format=form.container, options=dict(form.options)) as container:
        stream: Any = container.add_stream(form.codec, rate=form.rate, layout="mono")
        frame = av.AudioFrame.from_ndarray((sound * 32767).astype(np.int16)[None, :], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = form.rate, 0, Fraction(1, form.rate)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return out.getvalue()


def encoded(name: str, seconds: float) -> bytes:
    """A tone of that length in the named format."""
    form = FORMATS[name]
    return encode(tone(seconds, rate=form.rate), form)


def long_silence(hours: float) -> bytes:
    """Hours of silence as WebM/Opus: one minute is encoded, its packets are muxed again and again."""
    out = io.BytesIO()
    with av.open(out, "w", format="webm", options={"live": "1"}) as container:
        stream: Any = container.add_stream("libopus", rate=48_000, layout="mono", options={"frame_duration": "60"})
        minute = av.AudioFrame.from_ndarray(np.zeros((1, 48_000 * 60), np.int16), format="s16", layout="mono")
        minute.sample_rate, minute.pts, minute.time_base = 48_000, 0, Fraction(1, 48_000)
        packets = [bytes(p) for p in stream.encode(minute)]
        for number in range(int(hours * 60) * len(packets)):
            packet: Any = av.Packet(packets[number % len(packets)])
            packet.stream, packet.time_base = stream, Fraction(1, 48_000)
            packet.pts = packet.dts = number * 2880
            container.mux(packet)
    return out.getvalue()


def pieces(data: bytes, size: int = 40_000) -> Iterable[bytes]:
    """Cut a file into chunks as an upload would."""
    for at in range(0, len(data), size):
        yield data[at : at + size]
