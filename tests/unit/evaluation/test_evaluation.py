"""`clinic.evaluation` and `clinic eval notes`: planted errors are found, and not without the checks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from clinic.cli import main
from clinic.domain import DraftStatement, Segment, Transcript
from clinic.errors import InputError
from clinic.evaluation.material import Visit, read_visits
from clinic.evaluation.measure import KINDS, Tally, measure, wilson
from clinic.evaluation.planting import PLANTS, Chooser
from clinic.verification.checks import (
    CHECKS,
    Check,
    unsupported,
    wrong_dose,
    wrong_drugs,
    wrong_follow_up,
    wrong_negation,
    wrong_numbers,
    wrong_side,
    wrong_subject,
)

SAID = (
    ("doctor", "So you have had pain in your left knee for 3 weeks?"),
    ("patient", "Yes, the left knee hurts, for 3 weeks now."),
    ("doctor", "Any fever?"),
    ("patient", "No."),
    ("doctor", "Does anyone in the family have diabetes?"),
    ("patient", "My mother has diabetes."),
    ("doctor", "I will start you on amlodipine 5 mg once a day, and you take hydroxyzine 25 mg."),
    ("patient", "Okay. I have no rash."),
    ("doctor", "Please come back for follow-up in 2 weeks."),
    ("patient", "I was vomiting as well."),
)
NOTED = (
    "Left knee pain for 3 weeks.",
    "The patient denies fever.",
    "Her mother has diabetes.",
    "Amlodipine 5 mg once a day was started.",
    "Takes hydroxyzine 25 mg.",
    "Follow-up in 2 weeks.",
    "The patient is vomiting.",
)
STRANGER = (("patient", "My ears are ringing since the concert in Vienna."),)
STRANGER_NOTE = ("Tinnitus since an open-air concert in Vienna.", "Plays the drums in a band every weekend.")


def visit(name: str, said: tuple[tuple[str, str], ...], noted: tuple[str, ...]) -> Visit:
    """Return a visit."""
    segments = tuple(Segment(id=f"s{i}", speaker=who, text=text) for i, (who, text) in enumerate(said, start=1))
    return Visit(name, Transcript(segments=segments), tuple(DraftStatement(section="", text=t) for t in noted))


VISITS = [visit("one", SAID, NOTED), visit("two", STRANGER, STRANGER_NOTE)]
SEEDS = range(8)


def total(checks: tuple[Check, ...] = CHECKS) -> tuple[dict[str, int], dict[str, int]]:
    """Return what was planted and what was caught over some seeds, by kind."""
    tallies: list[Tally] = [measure(VISITS, seed=seed, checks=checks) for seed in SEEDS]
    planted = {kind: sum(t.planted[kind] for t in tallies) for kind in KINDS}
    return planted, {kind: sum(t.caught[kind] for t in tallies) for kind in KINDS}


def test_every_kind_is_planted_and_caught() -> None:
    """On a plain visit each kind of error can be planted, and all are caught."""
    planted, caught = total()
    assert min(planted.values()) > 0
    assert {kind: planted[kind] - caught[kind] for kind in KINDS if planted[kind] > caught[kind]} == {}


def test_without_checks_nothing_is_caught() -> None:
    """Verification switched off: every planted error but a deletion is missed."""
    _, caught = total(())
    assert sum(n for kind, n in caught.items() if kind != "deleted") == 0


@pytest.mark.parametrize(
    ("check", "kind"),
    [
        (wrong_numbers, "number"), (wrong_numbers, "dose"), (wrong_numbers, "unit"), (wrong_drugs, "drug_alike"),
        (wrong_drugs, "drug_other"), (wrong_negation, "negation"), (wrong_side, "side"), (wrong_subject, "subject"),
        (unsupported, "inserted"),
    ],
)  # fmt: skip
def test_a_check_removed_lowers_its_row(check: Check, kind: str) -> None:
    """Each check earns its place: without it, fewer errors of its kind are caught."""
    _, whole = total()
    _, less = total(tuple(c for c in CHECKS if c is not check))
    assert less[kind] < whole[kind]


def test_follow_up_is_caught_twice() -> None:
    """A follow-up that was moved is seen by the numbers and by its own check; without both it passes."""
    _, whole = total()
    _, less = total(tuple(c for c in CHECKS if c not in {wrong_follow_up, wrong_numbers, wrong_dose}))
    assert less["follow_up"] < whole["follow_up"]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("side", "Pain in the left knee.", "Pain in the right knee."),
        ("unit", "Takes 20 mg daily.", "Takes 20 mcg daily."),
        ("negation", "The patient denies fever.", "The patient reports fever."),
        ("subject", "Her mother has diabetes.", "the patient has diabetes."),
        ("verb", "The wound is clean.", "The wound is not clean."),
        ("number", "Takes 20 mg daily.", None),
        ("dose", "For 3 weeks.", None),
        ("drug_other", "Takes tea.", None),
        ("follow_up", "Pain for 2 weeks.", None),
    ],
)
def test_a_plant_changes_one_thing(kind: str, text: str, expected: str | None) -> None:
    """A plant changes what it names, and nothing where there is none of it."""
    assert PLANTS[kind](text, Chooser(1)) == expected


def test_the_same_seed_plants_the_same_errors() -> None:
    """Two runs agree in every count; another seed chooses otherwise."""
    first, second = measure(VISITS, seed=3).result(), measure(VISITS, seed=3).result()
    assert first["kinds"] == second["kinds"]
    chosen = {tuple(Chooser(seed).below(1000) for _ in range(3)) for seed in range(20)}
    assert len(chosen) == 20


def test_wilson_interval() -> None:
    """Known values: 8 of 10, none, all, and nothing to count."""
    assert [round(x, 3) for x in wilson(8, 10)] == [0.49, 0.943]
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == pytest.approx(1.0)
    assert wilson(0, 0) == (0.0, 1.0)


ROWS = (
    {"dialogue": "[doctor] any fever ?\n[patient] no .", "note": "HPI\n\nDenies fever."},
    {"dialogue": "Doctor: Any fever?\nPatient: No.", "section_header": "ROS", "section_text": "Denies fever."},
    {"turns": [{"speaker": "patient", "text": "<UNSURE>No</UNSURE> fever."}], "note": "No fever."},
    {"transcript": {"segments": [{"id": "a", "text": "No fever."}]}, "note": {"statements": [{"text": "No fever."}]}},
)


def material(folder: Path) -> Path:
    """Write one row in each of the forms that are read."""
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    return path


def test_rows_of_every_form_are_read(tmp_path: Path) -> None:
    """ACI-BENCH, MTS-Dialog, PriMock57 and our own form; first and last keep rows apart."""
    path = material(tmp_path)
    assert [len(v.statements) for v in read_visits(path)] == [1, 1, 1, 1]
    assert [v.name for v in read_visits(path, first=2, last=3)] == ["rows.jsonl:2", "rows.jsonl:3"]
    assert read_visits(path)[2].transcript.segments[0].text == "No fever."


def test_a_row_that_cannot_be_read_is_named_and_not_shown(tmp_path: Path) -> None:
    """The refusal names the line and repeats nothing of it."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"dialogue": "secret words"}', encoding="utf-8")
    with pytest.raises(InputError, match="line 1") as caught:
        read_visits(path)
    assert "secret" not in str(caught.value)


def test_the_command_prints_counts_only(tmp_path: Path) -> None:
    """`--json` gives one document with a row for every kind; the table names them; neither holds a patient's words."""
    path = str(material(tmp_path))
    result = CliRunner().invoke(main, ["eval", "notes", path, "--json"])
    assert result.exit_code == 0
    (found,) = json.loads(result.stdout)["results"]
    assert set(found["kinds"]) == set(KINDS)
    assert (found["visits"], found["statements"]) == (4, 4)
    shown = CliRunner().invoke(main, ["eval", "notes", path])
    assert shown.exit_code == 0
    assert "negation" in shown.stdout
    assert "fever" not in shown.stdout + result.stdout
