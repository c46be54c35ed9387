"""One picture and one sound, made from nothing; the same bytes in both environments."""

from __future__ import annotations

import math
import struct
import zlib

SAMPLE_RATE = 16000


def pink_png(width: int = 64, height: int = 48) -> bytes:
    """Return a PNG of one colour."""
    row = b"\0" + bytes((200, 30, 90)) * width
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * height)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def tone(seconds: float = 2.0) -> list[int]:
    """Return a tone as 16-bit samples at 16 kHz."""
    return [round(8000 * math.sin(0.1 * n)) for n in range(int(seconds * SAMPLE_RATE))]


def tone_wav(seconds: float = 2.0) -> bytes:
    """Return the tone as a WAV file."""
    samples = tone(seconds)
    data = struct.pack(f"<{len(samples)}h", *samples)
    form = struct.pack("<HHIIHH", 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", len(head) + len(data)) + head + data
