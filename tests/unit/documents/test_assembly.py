"""Documents: quoted word for word, nothing lost, and every change held against the signed note."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from clinic.documents import assembly
from clinic.documents.assembly import Origin, assemble, checked_again, document_of, edited, left_out, origin
from clinic.documents.source import source_of
from clinic.documents.template import document_ids, load_document_template
from clinic.domain import Document, Note, StatementStatus, Transcript
from clinic.errors import RecordError
from clinic.evaluation.material import read_visits
from clinic.evaluation.planting import PLANTS, Chooser
from clinic.verification import review, verify_statement
from tests.unit.documents.documents_world import SENTENCES, source, unsigned

LETTER = load_document_template("referral_letter")
SHEET = load_document_template("patient_instructions")


def by_section(document: Document) -> dict[str, list[str]]:
    """Return the kept sentences of each section."""
    found: dict[str, list[str]] = {}
    for statement in document.kept:
        found.setdefault(statement.section, []).append(statement.text)
    return found


@pytest.mark.parametrize("name", document_ids())
def test_every_sentence_is_one_of_the_note_and_cites_it(name: str) -> None:
    """Word for word, taken once, with the sentence of the note as evidence; nothing removed comes back."""
    note = source("The dose was doubled.")
    known = {sentence.id: sentence.text for sentence in note.sentences}
    document = document_of(load_document_template(name), note)
    texts = [statement.text for statement in document.text.statements]
    assert len(texts) == len(set(texts)) > 3
    for statement in document.text.statements:
        assert [known[evidence.segment] for evidence in statement.evidence] == [statement.text]
        assert origin(statement, note) is Origin.QUOTED
        assert statement.status is StatementStatus.SUPPORTED
    assert "Removed before the signature." not in texts
    answer = assemble(load_document_template(name), note)
    assert [line for section in answer.sections for line in section.text.split("\n")] == texts


@pytest.mark.parametrize("name", ["referral_letter", "discharge_summary"])
def test_a_letter_leaves_nothing_of_the_note_out(name: str) -> None:
    """Every sentence of note and addenda stands in it, whatever the section is called."""
    note = source("The dose was doubled.", sentences=(*SENTENCES, ("of_a_clinics_own", "Walks with a stick.")))
    document = document_of(load_document_template(name), note)
    assert left_out(document, note) == ()
    assert by_section(document)["further"] == ["Walks with a stick.", "The dose was doubled."]


def test_a_letter_has_the_allergy_at_the_top_and_the_reason_empty() -> None:
    """The allergy is found in whatever section it stands; the reason is left to the clinician."""
    document = document_of(LETTER, source(), recipient="Dr Chest")
    found = by_section(document)
    assert found["allergies"] == ["She is allergic to penicillin, which gave her a rash."]
    assert "request" not in found
    assert LETTER.required == ("request",)
    assert (document.recipient, document.title, document.for_patient) == ("Dr Chest", "Referral letter", False)


def test_instructions_hold_what_a_patient_needs_and_list_the_rest() -> None:
    """Drugs of the plan, warning signs and the other plans, apart; history and findings are offered, not taken."""
    note = source()
    document = document_of(SHEET, note)
    assert by_section(document) == {
        "found": ["Probable pneumonia."],
        "danger": ["Return if breathing gets worse."],
        "medicines": ["Takes lisinopril 10 mg once daily.", "Start doxycycline 100 mg twice daily for 7 days."],
        "allergies": ["She is allergic to penicillin, which gave her a rash."],
        "todo": ["Chest X-ray tomorrow."],
    }
    assert [s.id for s in left_out(document, note)] == ["n1", "n2", "n5"]


@pytest.mark.parametrize(
    ("text", "section"),
    [
        ("Please come back in one week if you are not better.", "todo"),
        ("Return in 2 to 3 days if the fever gets worse.", "todo"),
        ("Follow-up appointment next week.", "todo"),
        ("Come back for the blood test.", "todo"),
        ("Come back in one week, sooner if it gets worse.", "danger"),
        ("Come back if you cannot swallow.", "danger"),
        ("Return if the fever has not gone in two days.", "danger"),
        ("Call the emergency number at once if you faint after the visit in two days.", "danger"),
    ],
)
def test_a_next_visit_is_no_warning_sign(text: str, section: str) -> None:
    """Only what is urgent stands under *Come back at once if*; a time for the next visit is something to do."""
    document = document_of(SHEET, source(sentences=(*SENTENCES[:6], ("plan", text))))
    assert by_section(document).get(section) == [text]


def test_what_says_nothing_is_not_taken_over() -> None:
    """`Not discussed.` is no sentence of a letter, and is not offered either."""
    note = source(sentences=(*SENTENCES, ("allergies", "Not discussed.")))
    document = document_of(LETTER, note)
    assert "Not discussed." not in [s.text for s in document.text.statements]
    assert left_out(document, note) == ()


@pytest.mark.parametrize(
    ("statement", "text", "code"),
    [
        pytest.param("Start doxycycline", "Start doxycycline 200 mg twice daily for 7 days.", "number", id="dose"),
        pytest.param("Start doxycycline", "Start doxycycline 100 mg twice daily for 9 days.", "number", id="days"),
        pytest.param("Start doxycycline", "Start dicloxacillin 100 mg twice daily.", "drug", id="drug"),
        pytest.param("Crackles", "Crackles at the base of the right lung.", "laterality", id="side"),
        pytest.param("No chest pain", "Chest pain.", "negation", id="negation lost"),
        pytest.param("Probable", "Probable tuberculosis.", "unsupported", id="invented"),
    ],
)
def test_a_change_that_the_note_does_not_bear_is_flagged(statement: str, text: str, code: str) -> None:
    """A dose, number, drug, side, negation or diagnosis that the note does not have."""
    note = source()
    document = document_of(LETTER, note)
    target = next(s.id for s in document.text.statements if s.text.startswith(statement))
    changed = edited(document, note, partial(edit, target, text))
    found = next(s for s in changed.text.statements if s.id == target)
    assert found.status is StatementStatus.FLAGGED
    assert any(code in reason.code or code == "drug" for reason in found.reasons)
    assert origin(found, note) is Origin.OWN
    back = edited(changed, note, partial(edit, target, next(t for _, t in SENTENCES if t.startswith(statement))))
    again = next(s for s in back.text.statements if s.id == target)
    assert (again.status, origin(again, note)) == (StatementStatus.EDITED, Origin.QUOTED)


def edit(statement_id: str, text: str, note: Note, transcript: Transcript) -> Note:
    """Call `review.edit` with its arguments in another order."""
    return review.edit(note, statement_id, text, transcript)


def test_the_checks_are_what_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: without checks a changed dose passes."""
    monkeypatch.setattr(review, "verify_statement", partial(verify_statement, checks=()))
    note = source()
    document = document_of(LETTER, note)
    target = next(s.id for s in document.text.statements if s.text.startswith("Start"))
    changed = edited(document, note, partial(edit, target, "Start doxycycline 200 mg twice daily."))
    assert changed.text.open_flags == ()


def test_plain_words_of_the_same_thing_pass() -> None:
    """What says the same in other words needs no decision."""
    note = source()
    document = document_of(SHEET, note)
    target = next(s.id for s in document.text.statements if s.text.startswith("Start"))
    changed = edited(document, note, partial(edit, target, "Take doxycycline 100 mg two times a day for 7 days."))
    found = next(s for s in changed.text.statements if s.id == target)
    assert (found.status, found.reasons) == (StatementStatus.EDITED, ())


def test_a_drug_against_an_allergy_stays_flagged_though_it_is_quoted() -> None:
    """The one reason that counts for a quote: the note itself contradicts it."""
    note = source(sentences=(*SENTENCES, ("plan", "Start amoxicillin 500 mg three times daily.")))
    found = next(s for s in document_of(LETTER, note).text.statements if "amoxicillin" in s.text)
    assert (found.status, [r.code for r in found.reasons]) == (StatementStatus.FLAGGED, ["allergy_conflict"])


def test_an_addendum_makes_another_source() -> None:
    """What is new is offered; checking again keeps every decision and takes the new digest."""
    before, after = source(), source("She takes lisinopril 20 mg. Not 10 mg.")
    document = document_of(LETTER, before)
    document = edited(document, before, lambda text, _: review.remove(text, "n2"))
    document = edited(document, before, partial(edit, "n3", "Invented altogether."))
    document = edited(document, before, lambda text, _: review.confirm(text, "n3"))
    assert document.source_sha256 != after.sha256
    again = checked_again(document, after)
    assert again.source_sha256 == after.sha256
    assert [(s.id, s.text, s.status) for s in again.text.statements] == [
        (s.id, s.text, s.status) for s in document.text.statements
    ]
    assert {"a1.1", "a1.2"} <= {sentence.id for sentence in left_out(again, after)}


def test_an_unsigned_note_is_no_source() -> None:
    """Nothing is made from a draft."""
    with pytest.raises(RecordError) as caught:
        source_of(unsigned())
    assert caught.value.code == "note_unsigned"


@pytest.mark.parametrize("checked", [True, False], ids=["checks on", "checks off"])
def test_errors_planted_in_quotes_of_real_notes_are_flagged(
    test_data: Path, monkeypatch: pytest.MonkeyPatch, *, checked: bool
) -> None:
    """Numbers, drugs, negations and sides changed in letters from 20 notes: 4 of 5 are flagged, quotes nearly never.

    Negative control: with the checks off, none is.
    """
    if not checked:
        monkeypatch.setattr(review, "verify_statement", partial(verify_statement, checks=()))
    flagged = quotes = planted = caught = 0
    for visit in read_visits(test_data / "aci-bench" / "dev" / "valid.jsonl", last=20):
        note = source(sentences=tuple(("subjective", statement.text) for statement in visit.statements))
        document = document_of(LETTER, note)
        quotes += len(document.text.statements)
        flagged += len(document.text.open_flags)
        for statement in document.text.statements[::6]:
            for kind in ("number", "drug_other", "negation", "side"):
                wrong = PLANTS[kind](statement.text, Chooser(1, visit.name, statement.id, kind))
                if wrong is None or note.quoted(wrong) is not None:
                    continue
                planted += 1
                changed = edited(document, note, partial(edit, statement.id, wrong))
                caught += next(s for s in changed.text.statements if s.id == statement.id).status.value == "flagged"
    assert planted > 50
    assert (caught / planted > 0.8) if checked else (caught == 0), f"{caught} of {planted}"
    assert flagged / quotes < 0.02, f"{flagged} of {quotes}"


def test_the_module_asks_no_model() -> None:
    """Nothing that generates is within reach of what puts a document together."""
    assert "generator" not in Path(assembly.__file__ or "").read_text(encoding="utf-8")
