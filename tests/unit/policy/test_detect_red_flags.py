"""Red flags: words of danger are found, with how they were spoken of; nothing that is shown depends on a setting."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinic.domain import Segment, Transcript
from clinic.policy.detectors import red_flags
from clinic.policy.detectors.red_flags import KINDS, RedFlag, Said, find_red_flags, transcript_red_flags
from tests.unit.policy.held_out import items


def one(text: str, *, clinician: bool = False) -> list[tuple[str, str]]:
    """Return kind and standing of every flag in one segment."""
    return [(flag.kind, flag.standing) for flag in find_red_flags([Said("s1", text, clinician=clinician)])]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("self_harm", "Sometimes I think about killing myself."),
        ("self_harm", "I don\u2019t want to live any more."),
        ("self_harm", "I feel they'd be better off if I just ended it all. I took an overdose in May."),
        ("self_harm", "She has been cutting herself."),
        ("harm_to_others", "I could kill my husband, I have a knife."),
        ("abuse", "He hits me when he drinks."),
        ("abuse", "I'm scared to go home."),
        ("chest_pain", "I've got this crushing pain in my chest."),
        ("chest_pain", "It's like an elephant sitting on my chest."),
        ("breathing", "I can't catch my breath and her lips went blue."),
        ("stroke", "This morning his face was drooping and his speech was slurred."),
        ("anaphylaxis", "My throat is swelling up."),
        ("meningitis", "She has a stiff neck and a rash that doesn't fade."),
        ("headache", "It is the worst headache of my life."),
        ("bleeding", "He's been coughing up blood."),
        ("consciousness", "I passed out in the shower."),
        ("cauda_equina", "It's numb between my legs and I've lost control of my bladder."),
        ("sepsis", "She has a fever and she is confused."),
        ("pregnancy", "I'm thirty weeks pregnant and I am bleeding."),
        ("pregnancy", "The baby has not been moving since yesterday."),
        ("sight", "I suddenly lost the vision in one eye. I lost my sight."),
    ],
)
def test_what_is_stated_is_shown(kind: str, text: str) -> None:
    """Every kind is found in plain words, as stated, and shown."""
    flags = [flag for flag in find_red_flags([Said("s1", text)]) if flag.kind == kind]
    assert flags
    assert flags[0].standing == "stated"
    assert flags[0].shown


def test_every_kind_has_an_example() -> None:
    """No kind is without a case above."""
    marks = [mark for mark in test_what_is_stated_is_shown.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    assert {kind for kind, _ in marks[0].args[1]} == set(KINDS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No chest pain, never fainted.", [("chest_pain", "denied"), ("consciousness", "denied")]),
        ("He denies chest pain but he passed out.", [("chest_pain", "denied"), ("consciousness", "stated")]),
        ("Call an ambulance if you get chest pain.", [("chest_pain", "asked")]),
        ("I don't have thoughts of suicide.", [("self_harm", "denied")]),
        ("Did you faint? I mean, any chest pain? No.", [("chest_pain", "denied")]),
        ("Not only chest pain, I collapsed.", [("chest_pain", "stated"), ("consciousness", "stated")]),
    ],
)
def test_standing_within_a_sentence(text: str, expected: list[tuple[str, str]]) -> None:
    """Denials, conditions and their limits are told from what is stated."""
    assert one(text) == expected


@pytest.mark.parametrize(
    ("answer", "standing"),
    [
        ("Yes, most nights.", "stated"),
        ("No, never.", "denied"),
        ("Well, you know how it is.", "asked"),
        ("", "asked"),
    ],
)
def test_a_question_is_judged_by_its_answer(answer: str, standing: str) -> None:
    """What the next speaker answers decides; without an answer it stays a question, and self-harm is shown anyway."""
    said = [Said("s1", "Do you ever think of ending your life?", clinician=True), Said("s2", answer)]
    (flag,) = find_red_flags(said)
    assert (flag.kind, flag.standing, flag.segment, flag.shown) == ("self_harm", standing, "s1", True)


@pytest.mark.parametrize(
    "text",
    [
        "The pain kills me when I climb the stairs.",
        "My knee is killing me.",
        "His blood pressure is fine and his chest is clear.",
        "The headache comes after work and goes with paracetamol.",
        "We cut down the dose last week.",
        "My mother died of a heart attack.",
        "Try not to beat yourself up about it.",
        "",
    ],
)
def test_ordinary_speech_is_no_flag(text: str) -> None:
    """Figures of speech and ordinary findings show nothing."""
    assert not [flag for flag in find_red_flags([Said("s1", text)]) if flag.shown]


def test_flags_of_danger_are_shown_whatever_was_answered() -> None:
    """Self-harm, harm to others and abuse are shown even when denied; a denied chest pain is not."""
    for kind in KINDS:
        denied = RedFlag(kind, "s1", 0, 1, "denied")
        assert denied.shown is (kind in {"self_harm", "harm_to_others", "abuse"})


def test_nothing_turns_it_off() -> None:
    """Never suppressed: the detector takes segments and nothing else, and reads no configuration or policy."""
    assert list(inspect.signature(find_red_flags).parameters) == ["segments"]
    assert list(inspect.signature(transcript_red_flags).parameters) == ["transcript"]
    source = inspect.getsource(red_flags)
    assert "clinic.config" not in source
    assert "clinic.policy.load" not in source


def test_words_split_over_segments_are_found() -> None:
    """A pause in the middle of the words hides nothing; the flag points to where they begin."""
    parts = ("I just want to", "die, honestly.")
    (flag,) = transcript_red_flags(Transcript(segments=tuple(Segment(id=f"s{i}", text=t) for i, t in enumerate(parts))))
    assert (flag.kind, flag.segment, flag.start) == ("self_harm", "s0", 7)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet="abdeiklmnorstuwy' .?!\n", max_size=60), max_size=4))
def test_other_segments_take_no_flag_away(texts: list[str]) -> None:
    """Whatever else is said before and after, a stated wish to die is found and shown."""
    said = [Said(f"s{i}", text) for i, text in enumerate(texts)]
    middle = Said("here", "I want to kill myself.")
    for place in range(len(said) + 1):
        flags = find_red_flags([*said[:place], middle, *said[place:]])
        assert any(flag.segment == "here" and flag.kind == "self_harm" and flag.shown for flag in flags)


def test_how_often_consultations_show_one(test_data: Path) -> None:
    """On held-out consultations the panel is rare enough to be read: under one visit in eight shows one."""
    texts = [
        item["dialogue"]
        for folder in ("mts-dialog", "aci-bench")
        for name in ("train", "valid")
        for item in items(test_data / folder / "dev" / f"{name}.jsonl")
    ]
    shown = sum(any(flag.shown for flag in find_red_flags([Said("s1", text)])) for text in texts)
    assert len(texts) > 500
    assert 0 < shown / len(texts) < 1 / 8
