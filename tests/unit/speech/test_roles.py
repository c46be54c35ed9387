"""`clinic.speech.roles`: the one who asks and advises is the clinician; a doubt names nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from clinic.evaluation.material import read_visits
from clinic.speech.roles import CLINICIAN, PATIENT, guess

DOCTOR = (
    "Good morning, how can I help you today? I'm sorry to hear that. How long have you had it? Any fever? "
    "Let me listen to your chest. I'll prescribe something and we'll see you again next week."
)
SICK = "I've had a cough for two weeks, doctor. I feel tired and my throat hurts. No, I don't smoke. Thank you."
WIFE = "He would not rest."


@pytest.mark.parametrize(
    ("said", "roles"),
    [
        pytest.param({0: DOCTOR, 1: SICK}, {0: CLINICIAN, 1: PATIENT}, id="clinician first"),
        pytest.param({0: SICK, 1: DOCTOR}, {1: CLINICIAN, 0: PATIENT}, id="patient first"),
        pytest.param({0: DOCTOR, 1: SICK, 2: WIFE}, {0: CLINICIAN, 1: PATIENT}, id="somebody else keeps a number"),
        pytest.param({0: DOCTOR, 1: DOCTOR}, {}, id="alike"),
        pytest.param({0: "Any fever?", 1: "No."}, {}, id="too short"),
        pytest.param({0: DOCTOR}, {}, id="alone"),
        pytest.param({}, {}, id="nobody"),
    ],
)
def test_roles_by_what_is_said(said: dict[int, str], roles: dict[int, str]) -> None:
    """Who is named what, or nobody anything."""
    assert guess(said, language="en") == roles


@pytest.mark.parametrize("language", ["fr", "sw", "ar"])
def test_other_languages_name_nobody(language: str) -> None:
    """The wording is English: elsewhere it says nothing."""
    assert guess({0: DOCTOR, 1: SICK}, language=language) == {}


@pytest.mark.parametrize(
    ("name", "least", "most_wrong"),
    [("aci-bench/dev/valid.jsonl", 0.9, 0.05), ("primock57/dev/day1-3.jsonl", 0.9, 0.05)],
    ids=["aci-bench", "primock57"],
)
def test_roles_in_consultations_by_others(test_data: Path, name: str, least: float, most_wrong: float) -> None:
    """In whole consultations that nobody here wrote the clinician is found nearly always."""
    right = wrong = count = 0
    for visit in read_visits(test_data / name):
        said: dict[int, str] = {0: "", 1: ""}
        for segment in visit.transcript.segments:
            said[0 if (segment.speaker or "").lower() == "doctor" else 1] += f" {segment.text}"
        found = guess(said, language="en")
        count += 1
        right += found.get(0) == CLINICIAN
        wrong += found.get(1) == CLINICIAN
    assert count >= 10
    assert (right / count >= least, wrong / count <= most_wrong) == (True, True), (right, wrong, count)
