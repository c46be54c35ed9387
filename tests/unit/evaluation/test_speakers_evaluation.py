"""`clinic eval speakers`: the error rate is the known one, the guesses are as bad as they must be, rows are refused."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from clinic.cli import main
from clinic.errors import InputError
from clinic.evaluation.conversations import Row, alternating, conversations, measure, one_speaker, read_rows
from clinic.evaluation.hearing import Samples
from clinic.evaluation.turns import Spoken, count_errors, read_rttm
from clinic.speech.guards import Span

SAID = (Spoken(0, 4, "a"), Spoken(5, 8, "b"), Spoken(7, 9, "a"))


@pytest.mark.parametrize(
    ("heard", "parts"),
    [
        pytest.param((Spoken(0, 4, "x"), Spoken(5, 8, "y"), Spoken(7, 9, "x")), (0, 0, 0), id="all right"),
        pytest.param((), (9, 0, 0), id="nothing"),
        pytest.param((Spoken(0, 9, "x"),), (1, 1, 2), id="one speaker"),
        pytest.param((Spoken(0, 4, "x"), Spoken(5, 8, "x"), Spoken(8, 9, "x")), (1, 0, 2), id="all one's"),
        pytest.param((Spoken(0, 4, "x"), Spoken(5, 8, "y"), Spoken(8, 9, "z")), (1, 0, 1), id="one too many"),
        pytest.param((Spoken(0, 4, "x"), Spoken(5, 8, "y"), Spoken(7, 10, "x")), (0, 1, 0), id="too long"),
    ],
)
def test_known_error_rates(heard: tuple[Spoken, ...], parts: tuple[float, float, float]) -> None:
    """Seconds missed, heard where nobody speaks, and given to the wrong one, counted by hand."""
    found = count_errors(SAID, heard, 12.0)
    assert (found.missed, found.false, found.confused) == pytest.approx(parts, abs=0.02)
    assert found.spoken == pytest.approx(9.0, abs=0.02)


def test_a_collar_forgives_the_edges_only() -> None:
    """A border that is wrong by less than the collar costs nothing, a wrong turn still does."""
    late = (Spoken(0.2, 4.2, "x"), Spoken(5.2, 8.2, "y"), Spoken(7.2, 9.2, "x"))
    assert count_errors(SAID, late, 12.0).result()["der"] > 0.1
    assert count_errors(SAID, late, 12.0, collar=0.25).result()["der"] == pytest.approx(0.0, abs=0.005)
    assert count_errors(SAID, (Spoken(0, 9, "x"),), 12.0, collar=0.25).result()["der"] > 0.3


def test_guesses_take_the_same_speech() -> None:
    """One speaker all the time, or another after each half second of pause."""
    speech = (Span(0, 1), Span(1.2, 2), Span(3, 4))
    assert [turn.speaker for turn in one_speaker(speech)] == ["one"] * 3
    assert [turn.speaker for turn in alternating(speech)] == ["0", "0", "1"]


def _whole(samples: Samples) -> tuple[Span, ...]:
    return (Span(0.0, len(samples) / 16_000),)


def test_made_conversations_are_known_and_repeatable(tmp_path: Path) -> None:
    """Two speakers give two conversations with turns that hold their sound; the same seed gives the same ones."""
    rows = []
    for name, hertz in (("low", 110), ("high", 440)):
        (tmp_path / name).write_bytes(str(hertz).encode())
        rows.append(Row(id=name, file=tmp_path / name, speaker=name))

    def decode(data: bytes) -> Samples:
        return np.sin(2 * np.pi * int(data) * np.arange(32_000) / 16_000).astype(np.float32)

    first = list(conversations(rows, decode, _whole, seed=7))
    again = list(conversations(rows, decode, _whole, seed=7))
    assert [c.id for c in first] == ["high-low", "low-high"]
    assert all(np.array_equal(a.samples, b.samples) and a.turns == b.turns for a, b in zip(first, again, strict=True))
    for turn in first[0].turns:
        part = first[0].samples[int(turn.start * 16_000) + 100 : int(turn.end * 16_000) - 100]
        crossings = float((np.diff(np.signbit(part)) != 0).mean()) * 8000
        assert crossings == pytest.approx(110 if turn.speaker == "low" else 440, rel=0.1)
    told = measure(first, {"truth": lambda _: first[0].turns, "one": lambda s: one_speaker(_whole(s))})
    assert told["one"].result()["kinds"]["made"]["collar_0.0"]["der"] > 0.2
    assert told["one"].counted_right == 0


def test_rttm_is_read_and_other_recordings_left_out(tmp_path: Path) -> None:
    """Only the turns of the recording that is asked for."""
    path = tmp_path / "a.rttm"
    lines = ("SPEAKER a 1 0.5 1.25 <NA> <NA> x <NA> <NA>", ";; a remark", "SPEAKER b 1 0 1 <NA> <NA> y <NA> <NA>")
    path.write_text("\n".join(lines), encoding="utf-8")
    assert read_rttm(path, "a") == (Spoken(0.5, 1.75, "x"),)


@pytest.mark.parametrize(
    "line",
    ["SPEAKER a", "SPEAKER a 1 x 1 <NA> <NA> y", "SPEAKER a 1 -1 1 <NA> <NA> y", "SPEAKER a 1 0 inf <NA> <NA> y", ""],
    ids=["short", "no number", "before the start", "without end", "no turn"],
)
def test_bad_rttm_is_refused(tmp_path: Path, line: str) -> None:
    """A line that cannot be used is refused, never skipped."""
    path = tmp_path / "a.rttm"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_rttm(path, "a")
    assert caught.value.code == "material_invalid"


@pytest.mark.parametrize(
    "row",
    [
        '{"id": "a", "file": "a.wav"}',
        '{"id": "a", "file": "a.wav", "rttm": "a.rttm", "speaker": "x"}',
        '{"id": "a", "file": "gone.wav", "speaker": "x"}',
        "not json",
        "",
    ],
    ids=["neither", "both", "no file", "no json", "empty"],
)
def test_bad_manifest_is_refused(tmp_path: Path, row: str) -> None:
    """Rows must say who speaks, one way, and name a file that is there."""
    (tmp_path / "a.wav").touch()
    path = tmp_path / "m.jsonl"
    path.write_text(row, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_rows(path)
    assert caught.value.code == "material_invalid"


@pytest.mark.models
def test_command_beats_both_guesses(test_data: Path, tmp_path: Path) -> None:
    """On a recording of two by others, ours gives less to the wrong speaker than either guess."""
    manifest = tmp_path / "m.jsonl"
    folder = test_data / "audio" / "dev" / "diarization"
    row = {"id": "sample", "file": str(folder / "sample.wav"), "rttm": str(folder / "sample.rttm")}
    manifest.write_text(json.dumps(row), encoding="utf-8")
    done = CliRunner().invoke(main, ["eval", "speakers", "--manifest", str(manifest), "--json"])
    assert done.exit_code == 0, done.output
    systems = json.loads(done.stdout)["systems"]
    rates = {name: one["kinds"]["recorded"]["collar_0.25"]["confused"] for name, one in systems.items()}
    assert rates["clinic"] < 0.2 < min(rates["one speaker"], rates["other after a pause"])


def test_command_refuses_sound_without_its_turns(tmp_path: Path) -> None:
    """The error names the row, and the exit code says that the input was wrong."""
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(32_000))
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"id": "a", "file": "a.wav"}', encoding="utf-8")
    done = CliRunner().invoke(main, ["eval", "speakers", "--manifest", str(manifest), "--json"])
    assert (done.exit_code, json.loads(done.stdout)["error"]["code"]) == (2, "material_invalid")
