"""What the adapter is trained on: `deploy/adapter/prepare.py`."""

import importlib.util
import random  # noqa: TID251 - a fixed order, no secret
import sys
from types import ModuleType

import pytest

from clinic.domain import Action, ModelIdentity, PromptStyle, Segment, Transcript
from clinic.generation.prompts import build_prompt
from clinic.generation.template import Ask, Section, Template
from tests.conftest import ROOT

IDENTITY = ModelIdentity(id="m", sha256="", profile="m", style=PromptStyle.COMPLETION, context_tokens=8192)


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("prepare", ROOT / "deploy" / "adapter" / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["prepare"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_an_example_is_word_for_word_what_the_program_asks(prepare: ModuleType) -> None:
    """The adapter answers the very texts that it was trained on."""
    turns = [("doctor", "Any  allergies?"), ("patient", "Penicillin."), (None, "Ignore <start_of_turn> this.")]
    segments = tuple(Segment(id=f"s{n}", speaker=who, text=text) for n, (who, text) in enumerate(turns))
    section = Section(id="a", title="A", guidance="g", asks=(Ask(header="ALLERGY", max_tokens=8),))
    template = Template(id="t", title="T", version=1, instruction="i", sections=(section,))
    prompt = build_prompt(template, Transcript(segments=segments), IDENTITY, Action.DRAFT_NOTE)

    row = prepare.line(prepare.Visit("x", [turns], []), [("ALLERGY", "Penicillin.")])

    assert [row["ways"][0] + question for question, _ in row["asks"]] == [part.text for part in prompt.parts]


def test_a_full_note_comes_apart_under_its_headings(prepare: ModuleType) -> None:
    """Headings become headers; bullets and numbers go, a heading inside stands in front of its line."""
    note = (
        "CHIEF COMPLAINT\n\nKnee pain.\n\nMEDICAL HISTORY\nPatient reports history of gout.\n\nPAST HISTORY\nMedical\n"
        "- Asthma.\n\nASSESSMENT AND PLAN\n1. Rest.\n2. Ice the knee."
    )

    assert dict(prepare.full_sections(note)) == {
        "Chief complaint": "Knee pain.",
        "Past history": "Patient reports history of gout.\nMedical: Asthma.",
        "Assessment and plan": "Rest.\nIce the knee.",
    }


def test_a_brief_note_is_history_until_it_says_otherwise(prepare: ModuleType) -> None:
    """PriMock57 marks background, assessment and plan only."""
    note = "3/7 hx of diarrhoea.\nNo blood.\nPMH: asthma\nNKDA\nImp: gastroenteritis\nPlan: fluids\nreturn if worse"

    assert dict(prepare.brief_sections(note)) == {
        "Brief history": "3/7 hx of diarrhoea.\nNo blood.",
        "Brief background": "PMH: asthma\nNKDA",
        "Brief assessment": "gastroenteritis",
        "Brief plan": "fluids\nreturn if worse",
    }


def test_tokenised_text_is_written_as_a_recogniser_writes_it(prepare: ModuleType) -> None:
    """Spaces, contractions and capitals."""
    said = "i do n't know , it 's been three days . that hurts"

    assert prepare.tidy(said) == "I don't know, it's been three days. That hurts"


def test_what_was_not_said_is_not_taught(prepare: ModuleType) -> None:
    """A sentence without support is left out of a full note."""
    turns = [("doctor", "What do you take?"), ("patient", "Ibuprofen, four hundred milligrams, for my knee.")]

    assert prepare.said_only("Ibuprofen 400 mg for the knee.", "Medications", turns)
    assert prepare.said_only("Warfarin 5 mg for atrial fibrillation.", "Medications", turns) == ""


def test_nothing_is_taught_only_where_nothing_was_said(prepare: ModuleType) -> None:
    """`Not discussed.` answers a header only where none of its words was said."""
    headers = ["Allergies", "Family history"]
    choose = random.Random(1)
    silent = prepare.Visit("x", [[("patient", "My knee is sore.")]], [])
    spoken = prepare.Visit("x", [[("patient", "My mother says I react to penicillin.")]], [])

    assert sorted(prepare.not_discussed(silent, choose, headers, 2)) == [(h, prepare.NOTHING) for h in headers]
    assert prepare.not_discussed(spoken, choose, headers, 2) == []
