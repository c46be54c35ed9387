"""Obligations hold of the thing itself, prompt, answer and note; each with its negative control."""

from __future__ import annotations

from datetime import date

import pytest

from clinic.domain import (
    Action,
    Completion,
    Evidence,
    Message,
    Note,
    Prompt,
    PromptField,
    PromptPart,
    Reason,
    SectionText,
    Segment,
    Statement,
    StatementStatus,
    Transcript,
)
from clinic.errors import GenerationError, PolicyError
from clinic.generation.prompts import build_prompt, load_template
from clinic.policy.detectors.identifiers import KnownIdentifiers, redact_transcript
from clinic.policy.obligations import Obligations, split_annotation
from tests.unit.policy.policy_samples import make_prompt

REQUIRED = ("label:draft", "max_tokens:24576", "evidence:required")
KNOWN = KnownIdentifiers(name="Zebediah Quillfeather", record_number="MRN-77120", date_of_birth=date(1958, 3, 14))
SAID = (
    "Good morning Zebediah Quillfeather, your number is MRN-77120.",
    "I was born on the 14th of March 1958, call me on 0412 555 019.",
    "The cough has lasted three days, without fever.",
)
CANARIES = ("Zebediah", "Quillfeather", "MRN-77120", "1958", "0412 555 019")


def obliged(*more: str) -> Obligations:
    """Return obligations: the required ones and some more."""
    return Obligations.parse((*REQUIRED, *more))


def answer(*texts: str) -> Completion:
    """Return an answer of the model."""
    sections = tuple(SectionText(section="plan", text=text, finish_reason="stop") for text in texts)
    return Completion(sections=sections, tokens_in=1, tokens_out=1, attempts=1)


def note(status: StatementStatus, *evidence: str) -> Note:
    """Return a note of one statement."""
    reasons = (Reason(code="unsupported", message="Nothing supports it."),) if status is StatementStatus.FLAGGED else ()
    statement = Statement(
        id="n1", section="plan", text="Rest.", evidence=tuple(Evidence(segment=s) for s in evidence), status=status,
        reasons=reasons,
    )  # fmt: skip
    return Note(template="soap", model="gemma", statements=(statement,))


def drafted(transcript: Transcript) -> Prompt:
    """Return the prompt that a draft of this transcript would send, every section of it."""
    model = make_prompt().model
    return build_prompt(load_template("soap"), transcript, model, Action.DRAFT_NOTE)


def text_of(prompt: Prompt) -> str:
    """Return everything that a prompt says."""
    return prompt.model_dump_json()


def test_minimisation_holds_on_the_prompt_that_leaves() -> None:
    """After redaction no known identifier is in any part of the prompt; the rest of what was said is."""
    spoken = Transcript(segments=tuple(Segment(id=f"s{n}", text=text) for n, text in enumerate(SAID)))
    prompt = drafted(redact_transcript(spoken, KNOWN))
    assert [canary for canary in CANARIES if canary in text_of(prompt)] == []
    assert "The cough has lasted three days" in text_of(prompt)
    obliged("redact:identifiers", "fields:transcript").check_prompt(prompt, known=KNOWN)


def test_an_unredacted_prompt_is_refused() -> None:
    """Negative control: without the redaction the canaries are there, and the gate's check says no."""
    prompt = drafted(Transcript(segments=tuple(Segment(id=f"s{n}", text=text) for n, text in enumerate(SAID))))
    assert [canary for canary in CANARIES if canary not in text_of(prompt)] == []
    obliged().check_prompt(prompt, known=KNOWN)
    with pytest.raises(PolicyError) as caught:
        obliged("redact:identifiers").check_prompt(prompt, known=KNOWN)
    assert caught.value.code == "obligation_unmet"
    assert [canary for canary in CANARIES if canary in str(caught.value)] == []


def test_an_identifier_in_a_chat_message_is_found_too() -> None:
    """Both styles of prompt are looked through."""
    part = PromptPart(section="note", messages=(Message(role="user", content=SAID[0]),), max_tokens=10)
    prompt = make_prompt().model_copy(update={"parts": (part,)})
    with pytest.raises(PolicyError):
        obliged("redact:identifiers").check_prompt(prompt, known=KNOWN)


def test_a_field_that_is_not_allowed_is_refused() -> None:
    """What the prompt holds of the record is held against what the policy allows; one field too many is a no."""
    more = make_prompt().model_copy(update={"fields": (PromptField.TRANSCRIPT, PromptField.PATIENT_NAME)})
    obliged("fields:patient_name.transcript").check_prompt(more)
    with pytest.raises(PolicyError, match="patient_name"):
        obliged("fields:transcript").check_prompt(more)


def test_two_permits_allow_only_what_both_do() -> None:
    """Fields are intersected, limits the smallest; permits that have nothing in common are no permit."""
    both = obliged("fields:note.transcript", "fields:transcript", "max_chars:500", "max_chars:90")
    assert (both.fields, both.max_chars) == (("transcript",), 90)
    assert set(both.canonical()) >= {"fields:transcript", "max_chars:90"}
    with pytest.raises(PolicyError, match="nothing in common"):
        obliged("fields:note", "fields:transcript")


def test_tokens_are_counted_over_all_parts() -> None:
    """The limit is for all answers of the prompt together."""
    limited = Obligations.parse(("label:draft", "max_tokens:100", "evidence:required"))
    limited.check_prompt(make_prompt(max_tokens=100))
    with pytest.raises(PolicyError):
        limited.check_prompt(make_prompt(max_tokens=101))


@pytest.mark.parametrize(
    "text",
    [
        "See https://example.org/x",
        "see HTTP://EXAMPLE.ORG",
        "www.example.org",
        "mailto:a@b.c",
        "javascript:alert(1)",
        "ftp://host/file",
        "<script>alert(1)</script>",
        "<img src=x onerror=y>",
        "</div>",
        "<!-- hidden -->",
        "[click](x)",
        "![](x)",
        "```sh",
    ],
)
def test_an_answer_with_a_link_or_markup_is_not_kept(text: str) -> None:
    """A link, a tag or Markdown's forms; without the obligation (negative control) it would pass."""
    obliged().check_answer(answer("Rest.", text), make_prompt())
    with pytest.raises(GenerationError) as caught:
        obliged("output:plain").check_answer(answer("Rest.", text), make_prompt())
    assert caught.value.code == "output_forbidden"


@pytest.mark.parametrize(
    "text",
    ["BP < 140/90 and > 90/60", "SpO2 <92%, HR >100", "ratio 3:1", "- rest\n- fluids", "[SOB] on exertion", "a*b"],
)
def test_clinical_text_is_no_markup(text: str) -> None:
    """What clinicians write is kept."""
    obliged("output:plain", "max_chars:100").check_answer(answer(text), make_prompt())


def test_an_answer_that_is_too_long_is_not_kept_and_never_cut() -> None:
    """The limit is for the whole answer, to the character."""
    obliged("max_chars:10").check_answer(answer("12345", "67890"), make_prompt())
    with pytest.raises(GenerationError) as caught:
        obliged("max_chars:10").check_answer(answer("12345", "678901"), make_prompt())
    assert caught.value.code == "output_forbidden"


def test_a_statement_without_evidence_or_flag_is_not_kept() -> None:
    """Evidence, or a flag; a bare statement means no note."""
    obliged().check_note(note(StatementStatus.SUPPORTED, "s1"))
    obliged().check_note(note(StatementStatus.FLAGGED))
    with pytest.raises(GenerationError) as caught:
        obliged().check_note(note(StatementStatus.SUPPORTED))
    assert caught.value.code == "output_forbidden"


@pytest.mark.parametrize(
    "text",
    [
        "unknown:yes", "label", "label:final", "max_tokens:0", "max_tokens:007", "max_tokens:99999",
        "max_tokens:\u0661",
        "max_chars:200001", "fields:", "fields:everything", "fields:transcript.note", "fields:note.note", ":", "",
        "evidence:optional", "redact:everything", "flag:anything", "output:html",
    ],
)  # fmt: skip
def test_an_unknown_or_malformed_obligation_is_refused(text: str) -> None:
    """The registry is closed: nothing is guessed, neither when a policy is loaded nor when a decision is read."""
    with pytest.raises(PolicyError):
        split_annotation(f"label:draft; {text}")
    with pytest.raises(PolicyError):
        obliged(text)
