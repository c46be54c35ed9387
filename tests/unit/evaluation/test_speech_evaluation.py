"""`clinic eval speech`: what is counted, that it can tell good from bad, and that a bad manifest is refused."""

from __future__ import annotations

import json
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from clinic.cli import main
from clinic.errors import ConfigError, InputError
from clinic.evaluation import nonspeech, wording
from clinic.evaluation.hearing import Clip, Samples, generated, measure
from clinic.evaluation.recordings import read_manifest
from clinic.evaluation.wording import compare, words
from clinic.speech.decode import decode
from clinic.speech.whisper import voice_activity
from tests.conftest import SAMPLE


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Oh, I see.", "I see"),
        ("I\u2019m tired", "I am tired"),
        ("140/90", "one forty over ninety"),
        ("135 pounds", "135 lbs."),
        ("500mg of it", "five hundred milligrams of it"),
        ("50 mcg", "fifty micrograms"),
        ("5'7\"", "five feet seven"),
        ("38.4\u00b0C", "thirty eight point four degrees"),
        ("Dr. Smith, um, okay", "doctor smith OK"),
        ("anaemia and diarrhoea", "anemia and diarrhea"),
    ],
)
def test_the_same_thing_written_otherwise_is_no_error(one: str, other: str) -> None:
    """Spellings, units, fillers and apostrophes cost nothing."""
    assert words(one) == words(other) != []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("15 mg", "50 mg"),
        ("5 mg", "5 mcg"),
        ("140/90", "140/80"),
        ("no fever", "fever"),
        ("room one oh two", "room one two"),
    ],
)
def test_a_different_thing_stays_an_error(one: str, other: str) -> None:
    """Negative control: normalising hides no other number, unit or negation."""
    assert words(one) != words(other)


SAID = "He takes co-amoxiclav and lisinopril for hypertension, and warfarin."


def test_drugs_are_counted_whole() -> None:
    """A name of two words needs both; another drug heard instead and one that nobody named are told apart."""
    whole = compare(SAID, SAID)
    assert (whole.drugs_said, whole.drugs_missed, whole.drugs_added, whole.substituted) == (3, 0, 0, 0)
    wrong = compare(SAID, "He takes core moxie clav and losartan for hypertension, and warfarin and aspirin.")
    assert (wrong.drugs_missed, wrong.drugs_as_another, wrong.drugs_added) == (2, 1, 1)
    assert set(wrong.missed) == {"co amoxiclav", "lisinopril"}
    half = compare(SAID, SAID.replace("co-amoxiclav", "co-something"))
    assert (half.drugs_missed, half.drugs_added) == (1, 0)


def test_medical_words_are_counted_apart() -> None:
    """An error in an ordinary word is none in a medical one, and the other way round."""
    assert compare("the kind man had a fever", "the fine man had a fever").medical_wrong == 0
    assert compare("the kind man had a fever", "the kind man had a river").medical_wrong == 1


def tone(seconds: int) -> Samples:
    """Some sound."""
    return np.full(seconds * 16_000, 0.1, np.float32)


CLIPS = [
    Clip("one", "talk", SAID, lambda: tone(2)),
    Clip("two", "talk", "he has no fever", lambda: tone(1)),
    Clip("none", "noise", "", lambda: tone(36)),
    Clip("unknown", "talk", None, lambda: tone(3)),
]


def test_good_and_bad_systems_are_told_apart() -> None:
    """A perfect listener has no error; a deaf one leaves all out; one that invents does so where nobody speaks."""
    sound = {len(clip.samples()): clip.reference or "" for clip in CLIPS}
    found = measure(
        CLIPS,
        {
            "perfect": lambda s: sound[len(s)],
            "deaf": lambda _: "",
            "inventive": lambda s: sound[len(s)] or "thank you for watching",
        },
    )
    results = {name: heard.result() for name, heard in found.items()}
    assert [results[name]["wer"] for name in ("perfect", "deaf", "inventive")] == [0.0, 1.0, 0.0]
    assert [results[name]["drug_error"] for name in ("perfect", "deaf", "inventive")] == [0.0, 1.0, 0.0]
    silence = [results[name]["without_speech"] for name in ("perfect", "deaf", "inventive")]
    assert [s["invented_words_per_hour"] for s in silence] == [0.0, 0.0, 400.0]
    assert (results["deaf"]["clips"], results["deaf"]["audio_s"], silence[0]["seconds"]) == (3, 6.0, 36.0)
    assert results["perfect"]["domains"]["talk"]["words"] == results["perfect"]["words"] > 0


def test_made_sounds_are_the_same_each_time_and_hold_no_speech() -> None:
    """Each kind is made from its number, differs from the others, and the detector hears nobody in it."""
    clips = generated(10)
    assert len({clip.domain for clip in clips}) == 10
    for number, clip in enumerate(clips):
        assert np.array_equal(clip.samples(), nonspeech.clip(number))
        assert voice_activity(clip.samples()) == ()
    assert not np.array_equal(nonspeech.clip(1), nonspeech.clip(11))


def row(**changes: object) -> str:
    """Return one row of a manifest."""
    return json.dumps({"id": "a", "file": "a.wav", "reference": "secret words"} | changes)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["{"], "row 1"),
        (["[]"], "row 1"),
        ([row(), '{"id": "b", "file": "a.wav"}'], "row 2 .*`reference`"),
        ([row(), row(id="b", file="b.wav")], "row 2 .*not there"),
        ([row(), row()], "row 2 .*earlier"),
        ([], "no such rows"),
    ],
)
def test_a_bad_manifest_is_refused_with_the_row(tmp_path: Path, lines: list[str], says: str) -> None:
    """The refusal names the row and what is wrong, and repeats nothing of it."""
    (tmp_path / "a.wav").touch()
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputError, match=says) as caught:
        read_manifest(manifest)
    assert caught.value.code == "material_invalid"
    assert "secret" not in str(caught.value)


def test_rows_are_chosen_and_files_found_beside_and_above(tmp_path: Path) -> None:
    """`first` and `last` count from 1; a file lies beside the manifest, or is named from the folder above."""
    folder = tmp_path / "dev"
    folder.mkdir()
    (folder / "a.wav").touch()
    manifest = folder / "m.jsonl"
    manifest.write_text(f"{row()}\n\n{row(id='b', file='dev/a.wav', reference=None, more=1)}\n", encoding="utf-8")
    assert [r.file for r in read_manifest(manifest)] == [folder / "a.wav"] * 2
    assert [r.id for r in read_manifest(manifest, first=2)] == ["b"]


def test_without_its_packages_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clinic's box need not have them: a plain error names the extra."""
    wording._normaliser.cache_clear()
    monkeypatch.setitem(sys.modules, "whisper_normalizer.english", None)
    with pytest.raises(ConfigError) as caught:
        words("one")
    assert caught.value.code == "evaluation_missing"


@pytest.mark.models
def test_the_command_measures_both_systems(tmp_path: Path) -> None:
    """One real recording and one sound without speech through the real model; only counts are printed."""
    sound = decode([SAMPLE.read_bytes()], max_duration_s=600).samples[:85_000]
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    manifest = tmp_path / "m.jsonl"
    said = "Good morning. What brings you in today? I have had a very sore throat for four days."
    manifest.write_text(row(reference=said), encoding="utf-8")
    arguments = ["eval", "speech", "--manifest", str(manifest), "--generated", "1", "--home", str(tmp_path / "none")]
    result = CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    systems = json.loads(result.stdout)["systems"]
    assert set(systems) == {"clinic", "plain"}
    assert all(found["wer"] < 0.2 and found["words"] > 15 for found in systems.values())
    assert systems["clinic"]["without_speech"]["invented_words"] == 0
    assert "throat" not in result.stdout
