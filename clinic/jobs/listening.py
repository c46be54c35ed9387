"""Hearing recordings while they run, so that the page can show provisional text.  Beside the jobs, and behind them.

Rules kept here:

* Nobody's draft waits for it: it rests while a job waits or runs, and at least as long as its last stretch took; four
  times as long where that was more than half of what was heard, for then the box is busy with something else.  The
  stretch that is being heard when a job comes is given up between two segments.
* Only recordings that somebody reads along with are heard (`records.live_texts`), at most a few at once.
* Who falls behind skips, and says so; nothing is invented for what was skipped.
* What is heard is provisional: it goes into `live_texts` and nowhere else, and ends with the recording.
* Sound is kept in memory only, and only what was not heard yet; ids and counts are all that is logged.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol

import numpy as np

from clinic.domain import RecordingId
from clinic.errors import ClinicError
from clinic.records.live_texts import LiveLine, LiveText, Wanted
from clinic.records.records import Records
from clinic.speech.decode import Samples
from clinic.speech.decode_child import RATE
from clinic.speech.live_decode import LiveDecoder
from clinic.speech.stretches import LONGEST_S, next_stretch
from clinic.speech.transcriber import Overheard

MOST: Final = 4
"""How many recordings are heard at once; each has a decoding child of some 60 MB."""
BEHIND_S: Final = 120.0
"""Further behind than this, what lies between is skipped but for the last stretch."""
BUSY: Final = 0.5
"""Seconds that it takes to hear a second (0.15 on an idle core): more is a busy box."""
_BUSY_REST: Final = 4
_LOOK_S: Final = 1.0
_FEED: Final = 64
_FORGOTTEN: Final = timedelta(hours=24)
_log = logging.getLogger(__name__)


class Hearing(Protocol):
    """What hears some seconds in passing (`clinic.speech.sharing.SharedTranscriber`)."""

    def overhear(
        self, audio: Samples, *, language: str | None = None, unless: Callable[[], bool] = ...
    ) -> Overheard | None:
        """Hear some seconds; None where it is not the time for that."""


@dataclass
class _Heard:
    """One recording as far as it was heard; `sound` begins at the second `text.heard_until`.

    `skip`: so many samples are still to come that were heard before the worker was started anew.
    """

    decoder: LiveDecoder
    text: LiveText
    skip: int = 0
    fed: int = 0
    sound: Samples = field(default_factory=lambda: np.zeros(0, dtype=np.float32))


class Listening:
    """Hears what runs, stretch by stretch.

    Args:
        records: the unlocked records.
        hearing: the recogniser, shared with the jobs.
        may_hear: whether no job waits or runs.
        max_duration_s: longest recording that is decoded.
    """

    def __init__(
        self,
        records: Records,
        hearing: Hearing,
        *,
        may_hear: Callable[[], bool],
        max_duration_s: int,
    ) -> None:
        self._records = records
        self._hearing = hearing
        self._may_hear = may_hear
        self._max_duration_s = max_duration_s
        self._heard: dict[RecordingId, _Heard] = {}
        self._refused: set[RecordingId] = set()
        self._rest = _LOOK_S

    def run(self, stop: threading.Event) -> None:
        """Hear until `stop`; whatever goes wrong is tried again, and logged by its kind only."""
        while not stop.wait(self._rest):
            self._rest = _LOOK_S
            try:
                self.step()
            except ClinicError as error:
                _log.error("recordings could not be heard while they run: %s", error.code)
            except Exception as error:  # noqa: BLE001 - the worker must survive; values may hold what was said
                _log.error("recordings could not be heard while they run: %s", type(error).__name__)
        self.close()

    def step(self) -> int:
        """Look once at everything that runs, and hear one stretch of each; return how many stretches were heard."""
        wanted = self._wanted()
        for gone in self._heard.keys() - {each.recording_id for each in wanted}:
            self._heard.pop(gone).decoder.close()
        heard = 0
        for each in wanted:
            if not self._may_hear():
                break
            try:
                heard += self._hear(each)
            except ClinicError as error:  # hostile or damaged sound: the whole decides, once the recording has ended
                _log.warning("a recording is not heard while it runs: %s", error.code)
                self._refused.add(each.recording_id)
        return heard

    def close(self) -> None:
        """Forget all sound."""
        for each in self._heard.values():
            each.decoder.close()
        self._heard.clear()

    def _wanted(self) -> list[Wanted]:
        with self._records.read() as tx:
            wanted = tx.live_texts.wanted()
        if not wanted:
            self._refused.clear()
        return [each for each in wanted if each.recording_id not in self._refused][:MOST]

    def _hear(self, wanted: Wanted) -> int:
        heard = self._heard.get(wanted.recording_id) or self._begin(wanted)
        self._feed(wanted, heard)
        stretch = next_stretch(heard.sound)
        if stretch is None:
            return 0
        text = heard.text
        lines, language = text.lines, wanted.language or text.language
        if stretch.spoken:
            began = time.monotonic()
            sound = heard.sound[: stretch.samples]
            found = self._hearing.overhear(sound, language=language, unless=lambda: not self._may_hear())
            self._tire(time.monotonic() - began, stretch.samples / RATE)
            if found is None:  # a job has come: these seconds are heard when it is done
                return 0
            lines = (*lines, *_lines(found, text.heard_until))
            language = found.language if found.segments else language
        until = round(text.heard_until + stretch.samples / RATE, 3)
        self._keep(wanted.recording_id, heard, LiveText(lines, until, language), stretch.samples)
        return int(stretch.spoken)

    def _begin(self, wanted: Wanted) -> _Heard:
        with self._records.read() as tx:
            known = tx.live_texts.get(wanted.encounter_id) or LiveText()
        heard = _Heard(LiveDecoder(max_duration_s=self._max_duration_s), known, skip=round(known.heard_until * RATE))
        self._heard[wanted.recording_id] = heard
        return heard

    def _feed(self, wanted: Wanted, heard: _Heard) -> None:
        while heard.fed < wanted.chunks:
            until = min(wanted.chunks, heard.fed + _FEED)
            with self._records.read() as tx:
                pieces = [tx.recordings.chunk(wanted.recording_id, number) for number in range(heard.fed, until)]
            for piece in pieces:
                heard.decoder.feed(piece)
            heard.fed = until
            self._take(heard)
        self._take(heard)

    def _take(self, heard: _Heard) -> None:
        new = heard.decoder.take()
        known = min(heard.skip, len(new))
        heard.skip -= known
        heard.sound = np.concatenate([heard.sound, new[known:]])
        self._catch_up(heard)

    def _catch_up(self, heard: _Heard) -> None:
        behind = len(heard.sound) / RATE
        if behind <= BEHIND_S:
            return
        lines, start = heard.text.lines, heard.text.heard_until
        until = round(start + behind - LONGEST_S, 3)
        if lines and lines[-1].skipped:
            lines, start = lines[:-1], lines[-1].start
        heard.sound = heard.sound[-int(LONGEST_S * RATE) :]
        heard.text = LiveText((*lines, LiveLine(start, until, "", skipped=True)), until, heard.text.language)

    def _tire(self, took_s: float, heard_s: float) -> None:
        busy = took_s > BUSY * heard_s
        self._rest = max(self._rest, took_s * (_BUSY_REST if busy else 1))

    def _keep(self, recording_id: RecordingId, heard: _Heard, text: LiveText, samples: int) -> None:
        with self._records.write() as tx:
            kept = tx.live_texts.store(recording_id, text)
        if kept:
            heard.text, heard.sound = text, heard.sound[samples:]


def forget_old(records: Records) -> None:
    """Forget what was heard of recordings that were begun a day ago and never ended."""
    try:
        with records.read() as tx:
            old = tx.live_texts.any_older(_FORGOTTEN)
        if old:
            with records.write() as tx:
                tx.live_texts.drop_older(_FORGOTTEN)
    except ClinicError as error:  # a full disk, a latched log: the next look does it
        _log.error("old live texts could not be forgotten: %s", error.code)


def _lines(found: Overheard, offset: float) -> tuple[LiveLine, ...]:
    return tuple(
        LiveLine(round(offset + (s.start or 0.0), 2), round(offset + (s.end or 0.0), 2), s.text) for s in found.segments
    )
