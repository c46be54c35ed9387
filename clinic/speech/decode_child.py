"""The confined child that decodes untrusted audio: bytes in on stdin, 16 kHz mono float32 samples out on stdout.

Rules kept here:

* Confined before the first byte of audio is looked at: no new file descriptor of any kind (so no file, no socket, no
  pipe), nothing written but to stdout, no core dump, no new privileges, bounded memory and processor time, and an
  empty network namespace where the kernel allows one.
* Only the containers and codecs that recorders produce are parsed; playlists and everything that could name another
  file or address are refused by name.
* No word about the audio leaves except the samples and the exit status (`Status`); nothing is logged.
* A recording that still runs is decoded as it comes in (`stream`), under the same confinement.
* Nothing of the project is imported: this file runs by its path with an empty environment.
"""

from __future__ import annotations

import ctypes
import io
import resource
import sys
import wave
from collections.abc import Iterator
from contextlib import suppress
from enum import IntEnum
from importlib import import_module
from pathlib import Path
from typing import Any

RATE = 16_000
_BLOCK = 1 << 16
_SMALL = 1 << 12  # how much of a recording that still runs is asked for at a time
_MEMORY_FOR_DECODING = 512 << 20  # beyond what the interpreter, the libraries and the input take themselves
_OGG_PAGE, _OGG_HEADER, _OGG_END = 65_307, 27, 4  # the largest page, its fixed part, the flag of the last one
# What FFmpeg only logs when a file ends early, though it goes on as if nothing were wrong.
_ENDS_EARLY = ("File ended prematurely", "filesize and duration do not match")
_MISSING_S = 0.25  # encoders pad and trim their ends; more than this is gone
_MAX_FRAME_S = 60  # no codec packs more sound into one frame; a header that claims so is hostile

FORMATS = "matroska,webm,ogg,mp3,mov,mp4,m4a,3gp,3g2,mj2,wav,w64,flac,aac"
CODECS = (
    "opus,libopus,vorbis,libvorbis,mp3,mp3float,aac,alac,flac,"
    "pcm_s16le,pcm_s24le,pcm_s32le,pcm_u8,pcm_f32le,pcm_f64le,pcm_mulaw,pcm_alaw,pcm_s16be"
)

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38


class Status(IntEnum):
    """How the child ended.  Anything else (a signal, Python's own 1) means that it crashed: treat as unreadable."""

    WHOLE = 0
    UNREADABLE = 10
    NO_SAMPLES = 11
    TOO_LONG = 12
    TRUNCATED = 13


def detach_from_network() -> bool:
    """Enter an empty network namespace; False where the kernel forbids it.  Must run before any thread exists."""
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.unshare(_CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0)


def confine(*, cpu_s: int) -> None:
    """Give up everything that decoding does not need.  Cannot be undone; runs before the input is read."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CPU, cpu_s),
        # The three standard streams are open already: no number is left for a file, a socket or a pipe.
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def limit_memory(more: int) -> None:
    """Allow `more` bytes of address space beyond `used_memory`."""
    resource.setrlimit(resource.RLIMIT_AS, (more, more))


def used_memory() -> int:
    """Return the address space in use, in bytes (needs a file descriptor: ask before `confine`)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def frames(container: Any, damage: list[str]) -> Iterator[Any]:
    """Yield decoded frames of the first audio stream; a packet that does not decode is noted and skipped."""
    import av

    stream = container.streams.audio[0]
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.FFmpegError, ValueError):
            damage.append("container")
            return
        if packet.is_corrupt:
            damage.append("packet")
        try:
            yield from packet.decode()
        except (av.FFmpegError, ValueError):
            damage.append("packet")


class _Resampler:
    """Turns frames of any rate and layout into 16 kHz mono float32; starts anew where the stream changes midway."""

    def __init__(self) -> None:
        self._layout: tuple[Any, ...] | None = None
        self._inner: Any = None

    def feed(self, frame: Any | None) -> Iterator[bytes]:
        import av

        layout = frame and (frame.format.name, frame.layout.name, frame.sample_rate)
        if frame is not None and layout != self._layout:
            yield from self.feed(None)
            self._inner, self._layout = av.AudioResampler(format="flt", layout="mono", rate=RATE), layout
        if frame is not None:
            if not 0 < frame.samples <= _MAX_FRAME_S * frame.sample_rate:
                return
            frame.pts = None  # times are counted in samples: gaps in time stamps never shift the evidence
        if self._inner is not None:
            for out in self._inner.resample(frame):
                yield bytes(out.planes[0])[: 4 * out.samples]
        if frame is None:
            self._inner = None


def samples(container: Any, damage: list[str]) -> Iterator[bytes]:
    """Yield the sound as raw float32 blocks."""
    import av

    resampler = _Resampler()
    for frame in frames(container, damage):
        try:
            yield from resampler.feed(frame)
        except (av.FFmpegError, ValueError):
            damage.append("frame")
    with suppress(av.FFmpegError, ValueError):
        yield from resampler.feed(None)


def decode(data: io.BytesIO, out: Any, *, limit: int, start: int, stop: int) -> Status:
    """Decode `data`; write samples `start` to `stop` to `out`; give up beyond `limit` samples."""
    import av
    import av.logging

    options = {"format_whitelist": FORMATS, "codec_whitelist": CODECS, "protocol_whitelist": ""}
    damage: list[str] = []
    seen, declared = 0, 0.0
    try:
        with av.logging.Capture() as log, av.open(data, options=options, metadata_errors="replace") as container:
            if not _known_codec(container):
                return Status.UNREADABLE
            declared = _declared_s(container)
            for block in samples(container, damage):
                first, seen = seen, seen + len(block) // 4
                if seen > limit:
                    return Status.TOO_LONG
                out.write(block[4 * max(0, start - first) : 4 * max(0, stop - first)])
                if seen >= stop:
                    return Status.WHOLE
            damage += [message for _, _, message in log if message.startswith(_ENDS_EARLY)]
    except (av.FFmpegError, ValueError, IndexError, MemoryError):
        if not seen:
            return Status.UNREADABLE
        damage.append("container")
    if not seen:
        return Status.UNREADABLE if damage else Status.NO_SAMPLES
    broken = damage or declared - seen / RATE > _MISSING_S or _ogg_without_end(data.getbuffer())
    return Status.TRUNCATED if broken else Status.WHOLE


class _Arriving(io.RawIOBase):
    """What comes in, as far as it is there; the library may not go back in it."""

    def __init__(self, source: io.FileIO) -> None:
        self._source = source

    def read(self, size: int = -1) -> bytes:
        return self._source.read(size) or b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


def stream(source: io.FileIO, out: Any, *, limit: int) -> Status:
    """Decode what comes in, and write the samples of each part at once; give up beyond `limit` samples."""
    import av

    options = {"format_whitelist": FORMATS, "codec_whitelist": CODECS, "protocol_whitelist": ""}
    seen = 0
    try:
        with av.open(_Arriving(source), options=options, metadata_errors="replace", buffer_size=_SMALL) as container:
            if not _known_codec(container):
                return Status.UNREADABLE
            for block in samples(container, []):
                seen += len(block) // 4
                if seen > limit:
                    return Status.TOO_LONG
                out.write(block)
                out.flush()
    except (av.FFmpegError, ValueError, IndexError, MemoryError):
        return Status.TRUNCATED if seen else Status.UNREADABLE
    return Status.WHOLE if seen else Status.NO_SAMPLES


def _known_codec(container: Any) -> bool:
    codec = container.streams.audio[0].codec_context if container.streams.audio else None
    return codec is not None and codec.name in CODECS.split(",")


def _declared_s(container: Any) -> float:
    # MP3 and raw AAC give only an estimate, recorders' WebM nothing at all: no claim then, none broken.
    if container.duration is None or container.format.name in {"mp3", "aac"}:
        return 0.0
    return float(container.duration) / 1_000_000


def _ogg_without_end(data: memoryview) -> bool:
    # The last page of an Ogg stream carries the flag "end of stream"; the library does not say when it is missing.
    if bytes(data[:4]) != b"OggS":
        return False
    tail = bytes(data[-_OGG_PAGE:])
    page = tail[tail.rfind(b"OggS") :]
    whole = len(page) > _OGG_HEADER and len(page) >= _OGG_HEADER + page[26] + sum(page[27 : 27 + page[26]])
    return not (whole and page[5] & _OGG_END)


def rehearse() -> None:
    """Decode a moment of silence, so that everything which libraries import late is loaded before `confine`."""
    for name in ("audio", "video", "subtitles", "data", "attachments"):
        with suppress(ImportError):  # PyAV moves these between versions
            import_module(f"av.{name}.stream")
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(3200))
    data.seek(0)
    decode(data, io.BytesIO(), limit=RATE, start=0, stop=RATE)


def main(arguments: list[str]) -> int:
    """Run as `python decode_child.py LIMIT START STOP CPU_S` (the first three in samples).

    With `stream` in the place of START and STOP, samples are written as the recording comes in.
    """
    limit, cpu_s = int(arguments[0]), int(arguments[-1])
    detach_from_network()
    import av
    import av.logging

    # Kept in memory by `Capture` for `_ENDS_EARLY`, never printed.
    av.logging.set_level(av.logging.WARNING)
    rehearse()
    used = used_memory()
    confine(cpu_s=cpu_s)
    if arguments[1] == "stream":
        limit_memory(used + _MEMORY_FOR_DECODING)
        return stream(io.FileIO(0, closefd=False), sys.stdout.buffer, limit=limit)
    start, stop = int(arguments[1]), int(arguments[2])
    data = io.BytesIO()
    while block := sys.stdin.buffer.read(_BLOCK):
        data.write(block)
    limit_memory(used + 2 * data.tell() + _MEMORY_FOR_DECODING)
    data.seek(0)
    status = decode(data, sys.stdout.buffer, limit=limit, start=start, stop=stop)
    sys.stdout.buffer.flush()
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
