"""Notes and transcripts from outside."""

from __future__ import annotations

import json

import pytest

from clinic.errors import InputError
from clinic.verification import read_note, read_transcript
from clinic.verification.notes import split_sentences

SECRET = "Zebulon Quartermain"


def test_a_transcript_may_have_more_fields_than_it_needs() -> None:
    """Ids and texts are enough; times, words and unknown fields are welcome."""
    said = read_transcript(
        {
            "language": "en",
            "extra": 1,
            "segments": [
                {"id": 1, "text": "Hello."},
                {"id": "s2", "speaker": "P", "text": "My knee.", "start": 1, "end": 2.5, "mood": "low",
                 "words": [{"text": "My", "start": 1, "end": 1.2}]},
            ],
        }
    )  # fmt: skip
    assert [s.id for s in said.segments] == ["1", "s2"]
    assert said.segments[1].words[0].probability == 1.0
    assert said.language == "en"


@pytest.mark.parametrize(
    "data",
    [
        "not json",
        "[]",
        "{}",
        '{"segments": {}}',
        json.dumps({"segments": [SECRET]}),
        json.dumps({"segments": [{"id": "s1"}]}),
        json.dumps({"segments": [{"id": "", "text": SECRET}]}),
        json.dumps({"segments": [{"id": "s1", "text": SECRET, "start": "soon"}]}),
        json.dumps({"segments": [{"id": "s1", "text": SECRET, "words": [{"text": SECRET}]}]}),
        json.dumps({"segments": [{"id": "s1", "text": SECRET, "words": SECRET}]}),
        json.dumps({"segments": [{"id": "s1", "text": SECRET}, {"id": "s1", "text": SECRET}]}),
        json.dumps({"segments": [{"id": "s1", "text": SECRET, "speaker": [SECRET]}]}),
        json.dumps({"segments": [], "duration_s": SECRET}),
        b"\xff\xfe",
        "[" * 100_000,
    ],
)
def test_a_malformed_transcript_is_refused_without_its_text(data: str | bytes) -> None:
    """The error names the place, never what stands there, and has no cause that does."""
    with pytest.raises(InputError) as refused:
        read_transcript(data)
    assert refused.value.code == "transcript_invalid"
    assert SECRET not in f"{refused.value!r} {refused.value.hint} {refused.value.__cause__!r}"
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize(
    "data",
    [
        "",
        "  \n",
        "{",
        '{"statements": 3}',
        json.dumps({"statements": [SECRET]}),
        json.dumps({"statements": [{"id": "n1", "section": "plan"}]}),
        json.dumps({"statements": [{"id": [], "text": SECRET}]}),
        json.dumps({"statements": [{"id": "a", "text": SECRET}, {"id": "a", "text": SECRET}]}),
        json.dumps({"statements": [{"id": "a", "text": SECRET, "cited": SECRET}]}),
    ],
)
def test_a_malformed_note_is_refused_without_its_text(data: str) -> None:
    """The same holds for notes."""
    with pytest.raises(InputError) as refused:
        read_note(data)
    assert refused.value.code == "note_invalid"
    assert SECRET not in f"{refused.value!r} {refused.value.hint} {refused.value.__cause__!r}"


def test_a_json_note_keeps_its_ids() -> None:
    """Statements are named as the file names them."""
    read = read_note('{"statements": [{"id": "a7", "section": "plan", "text": "Rest."}, {"text": "Fluids."}]}')
    assert read.ids == ("a7", "n2")
    assert read.drafts[0].section == "plan"


def test_plain_text_is_cut_at_headings_and_sentences() -> None:
    """Headings name sections; bullets, numbers and abbreviations do not break sentences."""
    text = (
        "HPI: Seen by Dr. Brown. Takes 1.5 mg q.d. at night.\n\nPLAN\n1. Rest.\n- Fluids\n\n## Follow up\nIn 2 weeks."
    )
    read = read_note(text)
    assert [(d.section, d.text) for d in read.drafts] == [
        ("HPI", "Seen by Dr. Brown."),
        ("HPI", "Takes 1.5 mg q.d. at night."),
        ("PLAN", "Rest."),
        ("PLAN", "Fluids"),
        ("Follow up", "In 2 weeks."),
    ]
    assert read.ids == ("n1", "n2", "n3", "n4", "n5")


def test_sentences_hold_words() -> None:
    """Marks alone are no sentence."""
    assert split_sentences("... ?! - .") == []
