"""Properties that hold for any text: total, deterministic, within the transcript, fast."""

from __future__ import annotations

import time

from hypothesis import example, given, settings
from hypothesis import strategies as st

from clinic.domain import DraftStatement, Segment, Transcript, Word
from clinic.verification import verify
from clinic.verification.notes import read_note, split_sentences
from clinic.verification.words import fold, tokenize
from tests.unit.verification.test_verification_checks import VISIT
from tests.unit.verification.verification_cases import note

CLINICAL = st.lists(
    st.sampled_from(
        """no denies not fever ? . , cough left right knee 140 / 90 one forty over ninety mg five hundred aspirin every
        six hours a day January 1 2008 - b.i.d. 3/7 any yes if quit : half and point twice lisinopril""".split()  # noqa: SIM905
    ),
    max_size=25,
).map(" ".join)
TEXT = st.one_of(st.text(max_size=80), CLINICAL)
SEGMENTS = st.lists(TEXT, max_size=6)


def heard(texts: list[str]) -> Transcript:
    """Return timed segments with words, whatever the texts hold."""
    return Transcript(
        segments=tuple(
            Segment(
                id=f"s{i}", text=text, start=float(i), end=i + 1.0, speaker=("doctor", None, "patient")[i % 3],
                words=tuple(Word(text=w, start=i + 0.1, end=i + 0.2, probability=1) for w in text.split()),
            )
            for i, text in enumerate(texts)
        )
    )  # fmt: skip


@given(TEXT, st.text(max_size=10), SEGMENTS)
@settings(max_examples=400, deadline=None)
@example("İ", "", ["İ"])
@example("ﬁve ½ mg", "Allergies", ["²"])
@example("1/1/1 1//2 0/0", "", ["every 0 hours"])
def test_verification_is_total_and_deterministic(text: str, section: str, texts: list[str]) -> None:
    """Any text gives a note, twice the same one; evidence and omissions lie within the transcript."""
    said = heard(texts)
    drafts = [DraftStatement(section=section, text=text, cited=("s0", "x"))]
    first = verify(drafts, said, template="t", model="m")
    assert first == verify(drafts, said, template="t", model="m")
    segments = {s.id: s for s in said.segments}
    for evidence in first.statements[0].evidence:
        segment = segments[evidence.segment]
        assert segment.start is not None
        assert segment.end is not None
        assert evidence.start is not None
        assert evidence.end is not None
        assert segment.start <= evidence.start <= evidence.end <= segment.end
    assert all(o.text in segments[o.segment].text for o in first.omissions)


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_tokens_point_into_the_text(text: str) -> None:
    """Folding keeps every character in its place, and tokens never overlap."""
    assert len(fold(text)) == len(text)
    ends = [0, *(t.end for t in tokenize(text))]
    assert all(token.start >= end for token, end in zip(tokenize(text), ends, strict=False))


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_splitting_loses_no_word(text: str) -> None:
    """Cutting a line into sentences keeps its words."""
    line = text.replace("\n", " ").replace("\r", " ").strip("-*•‣● ")
    if any(c.isalpha() for c in line) and not line[:1].isdigit():
        kept = "".join(split_sentences(line))
        assert [c for c in kept if c.isalpha()] == [c for c in line if c.isalpha()]


def test_a_plain_note_never_starts_a_json_reader() -> None:
    """A note that merely contains braces is text."""
    assert read_note("Plan: give {drug}.").drafts[0].text == "give {drug}."


def test_a_page_is_verified_in_a_blink() -> None:
    """Twenty statements against a hundred segments take well under 200 ms of processor time."""
    segments = tuple(
        Segment(id=f"s{n}", text=s.text, speaker=s.speaker) for n, s in enumerate(VISIT.segments * 7) if n < 100
    )
    said = Transcript(segments=segments)
    texts = ("Sore throat and cough for 5 days.", "Denies fever.", "Lisinopril 20 mg daily.", "Right ear pain.") * 5
    note(said, *texts)  # the word lists are read once
    before = time.process_time()
    note(said, *texts)
    assert time.process_time() - before < 0.2
