"""Decoding of a recording that still runs, in the same confined child, as its chunks come in.

Rules kept here:

* As in `decode`: this process never parses audio, and whatever the child does ends as an `AudioError`.
* A chunk that the child does not take within some seconds ends it: nobody waits for hostile sound.
* A chunk that begins a new stream (a recording that went on after the page was loaded anew) gets a child of its own;
  times go on where they were, as they do when the whole is decoded.
* Only the samples that were not taken yet are kept.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from clinic.errors import AudioError
from clinic.speech import decode_child
from clinic.speech.decode import Samples
from clinic.speech.decode_child import RATE

BEGINNINGS: Final = (b"\x1a\x45\xdf\xa3",)
"""How a stream of recorders that can be put together begins: EBML (WebM)."""
_TAKES_S: Final = 5.0
_READ: Final = 1 << 16
_SAMPLE: Final = 4  # bytes


class LiveDecoder:
    """One recording that still runs.

    Args:
        max_duration_s: longest recording that is decoded.
    """

    def __init__(self, *, max_duration_s: int) -> None:
        self._limit = max_duration_s * RATE
        self._cpu_s = 30 + max_duration_s // 20
        self._child: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._lock = threading.Lock()
        self._pcm = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Give the next chunk.

        Raises:
            AudioError: `audio_unreadable` if the child ended, or does not take it.
        """
        if self._child is None or chunk.startswith(BEGINNINGS):
            self._end()
            self._begin()
        self._send(chunk)

    def take(self) -> Samples:
        """Return the samples that have come since the last time."""
        with self._lock:
            whole = len(self._pcm) // _SAMPLE * _SAMPLE
            taken = bytes(self._pcm[:whole])
            del self._pcm[:whole]
        return np.frombuffer(taken, dtype=np.float32)

    def close(self) -> None:
        """End the child and forget the sound."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            _close(child)
        if self._reader is not None:
            self._reader.join(_TAKES_S)
        with self._lock:
            self._pcm.clear()

    def _begin(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-I", str(Path(decode_child.__file__)), str(self._limit), "stream", str(self._cpu_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            close_fds=True,
            cwd="/",
            env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"},
        )
        assert self._child.stdin is not None  # noqa: S101 - Popen was asked for a pipe
        os.set_blocking(self._child.stdin.fileno(), False)
        self._reader = threading.Thread(target=self._drain, args=(self._child,), daemon=True)
        self._reader.start()

    def _end(self) -> None:
        """Let the child before finish what it has."""
        child, self._child = self._child, None
        if child is None:
            return
        if child.stdin is not None:
            with suppress(OSError):
                child.stdin.close()
        if self._reader is not None:
            self._reader.join(_TAKES_S)
        child.kill()
        _close(child)

    def _send(self, chunk: bytes) -> None:
        child = self._child
        assert child is not None  # noqa: S101 - `feed` has begun one
        assert child.stdin is not None  # noqa: S101 - Popen was asked for a pipe
        rest, until = memoryview(chunk), time.monotonic() + _TAKES_S
        while rest:
            _, ready, _ = select.select([], [child.stdin], [], max(0.0, until - time.monotonic()))
            try:
                sent = os.write(child.stdin.fileno(), rest) if ready else 0
            except BlockingIOError:
                continue
            except BrokenPipeError:
                sent = 0
            if not sent:
                self.close()
                raise AudioError(
                    "the recording cannot be read as audio while it runs", code="audio_unreadable", hint="record on"
                )
            rest = rest[sent:]

    def _drain(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None  # noqa: S101 - Popen was asked for a pipe
        with suppress(OSError, ValueError):
            while block := child.stdout.read(_READ):
                with self._lock:
                    self._pcm += block


def _close(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    child.wait()
