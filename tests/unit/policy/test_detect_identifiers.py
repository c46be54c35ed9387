"""Identifiers: who somebody is, found by shape and by what the record says, and taken out of what the model sees."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinic.domain import Segment, Transcript, Word
from clinic.policy.detectors.identifiers import KnownIdentifiers, find, find_direct, redact_transcript

ADA = KnownIdentifiers(name="Ada Byron", record_number="RV-123456", date_of_birth=date(1985, 12, 10))
STRUCTURED = {
    "MEDICAL_RECORD_NUMBER", "HEALTH_PLAN_BENEFICIARY_NUMBER", "SOCIAL_SECURITY_NUMBER", "PHONE_NUMBER",
    "EMAIL_ADDRESS", "ACCOUNT_NUMBER", "FAX_NUMBER", "IP_ADDRESS", "UNIQUE_IDENTIFIER",
}  # fmt: skip


def said(text: str, known: KnownIdentifiers = ADA) -> list[tuple[str, str]]:
    """Return kind and wording of everything found."""
    return [(span.kind, text[span.start : span.end]) for span in find(text, known=known)]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("Call me on 555-123-4567.", "phone_number", "555-123-4567"),
        ("It's (310) 555-1234 at home.", "phone_number", "(310) 555-1234"),
        ("My mobile is 07700 900123, okay?", "phone_number", "07700 900123"),
        ("Ring +46 8 928 571 38 please", "phone_number", "+46 8 928 571 38"),
        ("it is oh seven seven double oh nine oh oh one", "phone_number", "oh seven seven double oh nine oh oh one"),
        ("write to ada.b@clinic.example.org", "email_address", "ada.b@clinic.example.org"),
        ("it's ada dot byron at gmail dot com", "email_address", "ada dot byron at gmail dot com"),
        ("SSN 123-45-6789", "social_security_number", "123-45-6789"),
        ("NHS number 943 476 5919", "national_id", "943 476 5919"),
        ("9434765919 is what it says", "national_id", "9434765919"),
        ("MRN: ST-998877.", "medical_record_number", "ST-998877"),
        ("her medical record number is 5432-2109", "medical_record_number", "5432-2109"),
        ("record number four four seven one two", "medical_record_number", "four four seven one two"),
        ("insurance ID: HF-789012", "health_plan_beneficiary_number", "HF-789012"),
        ("card 4454 7945 1139 0933?", "account_number", "4454 7945 1139 0933"),
        ("IBAN GB56HXDO88167774656119", "account_number", "GB56HXDO88167774656119"),
        ("from 192.168.1.1 today", "ip_address", "192.168.1.1"),
        ("She lives at 123 Maple Street, Springfield", "street_address", "123 Maple Street, Springfield"),
        ("postcode SW1A 1AA", "street_address", "SW1A 1AA"),
        ("DOB 4/14/1960, male", "date_of_birth", "4/14/1960"),
        ("date of birth is january 13th , 1982", "date_of_birth", "january 13th , 1982"),
        ("born on the fifth of April nineteen eighty", "date_of_birth", "the fifth of April nineteen eighty"),
        ("Hi, my name is Jessica Smith and I cough", "name", "Jessica Smith"),
        ("followed by Dr. Kumar since May", "name", "Dr. Kumar"),
        ("a 52-year-old, John A., with asthma", "name", "John A."),
    ],
)  # fmt: skip
def test_identifier_is_found(text: str, kind: str, value: str) -> None:
    """Written and spoken identifiers are found with their kind and exact span."""
    assert (kind, value) in said(text)


@pytest.mark.parametrize(
    "text",
    [
        "Blood pressure 140/90, pulse 72, temperature 98.6, saturation 97 percent.",
        "Sodium 135, potassium 4.2, creatinine 1.02, platelets 250,000, troponin 0.04.",
        "Take 500 mg twice a day for 10 days, then 20 mg once.",
        "He has Parkinson's disease, Crohn's and a Framingham score of 12.",
        "Vitamin D 1000 IU, hepatitis B vaccine, type 2 diabetes, St. John's wort.",
        "The CHADS2 score is 3 and the eGFR is 45.",
        "We may see you in 3 to 4 weeks; will you grant me that?",
    ],
)
def test_clinical_facts_are_not_identifiers(text: str) -> None:
    """Values, doses, eponyms and scores are left alone."""
    assert said(text, KnownIdentifiers()) == []


@pytest.mark.parametrize(
    "text",
    [
        "Good morning Ada, how are you?",
        "is that mrs byron ?",
        "BYRON, Ada",
        "the patient Ada M. Byron",
        "it says RV123456 here",
        "r v 1 2 3 4 5 6",
        "born 10/12/1985",
        "12/10/85",
        "1985-12-10",
        "the 10th of December 1985",
        "Dec 10th, 1985",
    ],
)
def test_known_values_are_found_however_they_are_written(text: str) -> None:
    """What the record says about the patient is found in any usual form."""
    assert find_direct(text, known=ADA)


def test_known_values_are_found_only_because_they_are_known() -> None:
    """Negative control: without the record the same words mean nobody."""
    assert find_direct("Good morning Ada, 10/12/1985 it was") == ()


def test_name_that_is_an_ordinary_word_is_not_taken_everywhere() -> None:
    """For a patient called Will May, only the name goes, not every `will` and `may`."""
    will = KnownIdentifiers(name="Will May")
    text = "Will you sit? I think Will should have it; Will May will come in May."
    assert [text[s.start : s.end] for s in find_direct(text, known=will)] == ["Will", "Will May", "May"]


DIALOGUE = (
    "How are you? You said that it hurts. I said it may be the cough, and you may take two today. Do you sleep well? "
    "Yes, said my wife, and you know that. The pain is in my back and in one leg, so I do what I can."
)


@pytest.mark.parametrize("name", ["You", "Said", "May", "Do Yes", "Back Pain", "Said You May"])
def test_name_that_everybody_says_leaves_the_conversation_whole(name: str) -> None:
    """For a patient of that name, nothing of an everyday conversation goes; the name as a name still does."""
    known = KnownIdentifiers(name=name)
    assert find_direct(DIALOGUE, known=known) == ()
    text = f"Good morning Mr {name}, how are you?"
    (found,) = find_direct(text, known=known)
    assert text[found.start : found.end].endswith(name)


def test_without_the_list_of_ordinary_words_it_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: for a Mr You, five words of the same conversation would go."""
    monkeypatch.setattr("clinic.policy.detectors.identifiers.ORDINARY", frozenset())
    assert len(find_direct(DIALOGUE, known=KnownIdentifiers(name="You"))) == len(re.findall(r"(?i)\byou\b", DIALOGUE))


def test_redaction_replaces_text_and_words_and_keeps_times() -> None:
    """The segment keeps its id and times; the words that were the identifier become one placeholder."""
    words = tuple(
        Word(text=text, start=i, end=i + 1.0, probability=0.9)
        for i, text in enumerate(["Hello", " Ada", " Byron,", " any", " cough?"])
    )
    segment = Segment(id="s1", text="Hello Ada Byron, any cough?", start=0, end=5, confidence=0.9, words=words)
    redacted = redact_transcript(Transcript(segments=(segment,)), ADA).segments[0]
    assert redacted.text == "Hello [NAME], any cough?"
    assert [w.text for w in redacted.words] == ["Hello", "[NAME]", " any", " cough?"]
    assert (redacted.id, redacted.start, redacted.end, redacted.confidence) == ("s1", 0, 5, 0.9)


def test_identifier_split_over_two_segments_is_redacted_in_both() -> None:
    """A pause inside a number starts a new segment; both halves go."""
    parts = ("My record number is", "RV123", "456, and I cough.")
    segments = tuple(Segment(id=f"s{i}", text=text) for i, text in enumerate(parts))
    texts = [s.text for s in redact_transcript(Transcript(segments=segments), ADA).segments]
    assert texts[0] == parts[0]
    assert "123" not in texts[1]
    assert "456" not in texts[2]
    assert "and I cough" in texts[2]


def test_colleagues_places_and_clinical_dates_stay() -> None:
    """A note needs who referred, where and when; only the patient is taken out."""
    text = "Seen by Dr. Kumar at Mercy Hospital on March 3rd, 2024."
    assert redact_transcript(Transcript(segments=(Segment(id="s1", text=text),)), ADA).segments[0].text == text


def test_untouched_segment_is_the_same() -> None:
    """A segment without identifiers comes out as it went in."""
    segment = Segment(id="s1", text="The knee hurts.")
    assert redact_transcript(Transcript(segments=(segment,)), ADA).segments[0] is segment


PIECES = st.sampled_from(
    ["Ada", "Byron", "ada byron", "RV-123456", "10 December 1985", "call 555-123-4567", "ada@x.org", "MRN 445566",
     "SSN 123-45-6789", "my name is Bob Stone", "DOB 1/2/1970", "12 High Street", "knee", "140/90", "may", ",", ".",
     "\n", "\u00e9", "\U0001f600", "1", "[NAME]"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(st.lists(PIECES, max_size=8).map(" ".join), max_size=5))
def test_redaction_leaves_nothing_of_the_record(texts: list[str]) -> None:
    """After redaction no known value and no contact of the patient is left, and redacting again changes nothing."""
    transcript = Transcript(segments=tuple(Segment(id=f"s{i}", text=text) for i, text in enumerate(texts)))
    redacted = redact_transcript(transcript, ADA)
    left = redacted.text
    for value in ("Ada", "Byron", "123456", "1985", "555-123-4567", "445566", "123-45-6789", "High Street", "@x.org"):
        assert value.casefold() not in left.casefold()
    assert redact_transcript(redacted, ADA) == redacted


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=200))
def test_spans_are_sorted_inside_the_text_and_apart(text: str) -> None:
    """For any text: spans in order, not empty, not overlapping, not outside."""
    end = 0
    for span in find(text, known=ADA):
        assert end <= span.start < span.end <= len(text)
        end = span.end


def test_known_identifiers_do_not_print() -> None:
    """What is known about a patient never shows in a log or traceback."""
    assert "Byron" not in repr(ADA)


# --- measured on the half that the shapes were not tuned on -----------------------------------------------


def queries(test_data: Path, *, labelled: bool) -> list[dict[str, Any]]:
    """Return every second query of ASQ-PHI with, or without, personal data."""
    lines = (test_data / "phi" / "dev" / "asq_phi.jsonl").read_text(encoding="utf-8").splitlines()
    return [item for item in map(json.loads, lines) if bool(item["phi"]) is labelled][1::2]


def test_recall_on_clinical_queries(test_data: Path) -> None:
    """Structured identifiers and names of queries nobody tuned on are found (bars: 98 % and 95 %)."""
    hits: dict[str, list[bool]] = {"structured": [], "names": []}
    for item in queries(test_data, labelled=True):
        covered = {i for span in find(item["text"]) for i in range(span.start, span.end)}
        for label in item["phi"]:
            wanted = {i for i in range(label["start"], label["end"]) if item["text"][i].isalnum()}
            group = "structured" if label["kind"] in STRUCTURED else "names" if label["kind"] == "NAME" else None
            if group:
                hits[group].append(wanted <= covered)
    assert sum(hits["structured"]) / len(hits["structured"]) >= 0.98
    assert sum(hits["names"]) / len(hits["names"]) >= 0.95


def test_over_redaction_on_hard_negatives(test_data: Path) -> None:
    """Clinical queries without personal data are mostly left alone (bar: 15 %), and never redacted."""
    texts = [item["text"] for item in queries(test_data, labelled=False)]
    assert sum(bool(find(text)) for text in texts) / len(texts) <= 0.15
    assert not any(find_direct(text) for text in texts)


def test_consultations_lose_nothing_clinical(test_data: Path) -> None:
    """On consultations nobody tuned on, redaction takes at most one number or contact in ten thousand words."""
    words = spans = 0
    for folder in ("mts-dialog/dev/train", "aci-bench/dev/train", "primock57/dev/day1-3"):
        for line in (test_data / f"{folder}.jsonl").read_text(encoding="utf-8").splitlines()[1::2]:
            text = json.loads(line)["dialogue"]
            words += len(text.split())
            spans += sum(span.kind not in ("date_of_birth", "name") for span in find_direct(text))
    assert words > 100_000
    assert spans / words <= 1 / 10_000
