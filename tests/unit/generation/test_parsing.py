"""Answers become statements: sentences, without loops, doubles and unfinished ends."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinic.domain import Completion, SectionText
from clinic.errors import GenerationError
from clinic.generation.parsing import cut_loop, parse, sentences
from clinic.generation.template import load_template
from tests.unit.generation.generation_world import visit


def texts(*answers: tuple[str, str, str]) -> list[tuple[str, str]]:
    """Parse (section, text, finish reason) answers into (section, statement) pairs."""
    sections = tuple(SectionText(section=s, text=t, finish_reason=r) for s, t, r in answers)
    completion = Completion(sections=sections, tokens_in=1, tokens_out=1, attempts=1)
    return [(d.section, d.text) for d in parse(completion, load_template("soap"), visit())]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Sore throat. No cough.", ["Sore throat.", "No cough."], id="plain"),
        pytest.param("1.  Ibuprofen 400 mg. 2.  Paracetamol.", ["Ibuprofen 400 mg.", "Paracetamol."], id="numbered"),
        pytest.param("Temp 38.4 degrees. See Dr. Xu.", ["Temp 38.4 degrees.", "See Dr. Xu."], id="full stops inside"),
        pytest.param("One. Two. Two. Three.", ["One.", "Two."], id="stops where it repeats"),
        pytest.param("Sore throat. He has been", ["Sore throat."], id="unfinished end dropped"),
        pytest.param("", [], id="empty"),
        pytest.param(" \n . 1. - ", [], id="nothing said"),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    """Text is split into its finished, unrepeated sentences."""
    assert list(sentences(text)) == expected


def test_a_loop_is_cut() -> None:
    """Words that stand three times in a row are cut from their first place on."""
    assert cut_loop("Pain in the leg and that can be that can be that can be that") == "Pain in the leg and"
    assert cut_loop("No, no cough.") == "No, no cough."


def test_an_answer_that_ended_by_itself_is_finished() -> None:
    """A short answer without a full stop counts where the model stopped, and not where it was cut."""
    assert texts(("allergies", "Penicillin", "stop")) == [("allergies", "Penicillin.")]
    assert texts(("allergies", "Penicillin", "length")) == []


def test_statements_follow_the_order_of_the_note_without_doubles() -> None:
    """Statements come in section order; the same one twice in a section is one."""
    found = texts(("plan", "Rest.", "stop"), ("subjective", "Pain.", "stop"), ("subjective", "PAIN.", "stop"))
    assert found == [("subjective", "Pain."), ("plan", "Rest.")]


def test_a_chat_answer_keeps_its_citations() -> None:
    """Statements of a chat answer carry the segments that the model named, once each."""
    answer = {"statements": [{"section": "plan", "text": "Rest  at home.", "segments": ["s2", "s2", "s1"]}]}
    completion = Completion(
        sections=(SectionText(section="note", text=json.dumps(answer), finish_reason="stop"),),
        tokens_in=1,
        tokens_out=1,
        attempts=1,
    )
    (draft,) = parse(completion, load_template("soap"), visit())
    assert (draft.section, draft.text, draft.cited) == ("plan", "Rest at home.", ("s2", "s1"))


@pytest.mark.parametrize("text", ["", "{", '{"statements":[{"section":"secret","text":"x","segments":[]}]}', "[]"])
def test_a_stored_answer_that_is_no_note_is_refused(text: str) -> None:
    """What does not fit the schema is no note, and its words are not in the error."""
    with pytest.raises(GenerationError) as caught:
        texts(("note", text, "stop"))
    assert caught.value.code == "output_invalid"
    assert "secret" not in repr(caught.value)


@given(st.text(max_size=400))
def test_any_text_parses(text: str) -> None:
    """Whatever a model writes becomes bounded, distinct statements, and nothing breaks."""
    found = texts(("plan", text, "length"))
    assert len(set(found)) == len(found)
    assert all(0 < len(statement) <= 400 for _, statement in found)
