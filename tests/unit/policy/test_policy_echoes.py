"""Echoes: our instructions are found in an answer in every form that is promised; what was said is none."""

from __future__ import annotations

import base64
import codecs
import json
from collections.abc import Callable

import pytest

from clinic.domain import Completion, SectionText
from clinic.errors import GenerationError
from clinic.policy import echoes, obligations
from clinic.policy.echoes import repeats_instructions
from clinic.policy.obligations import Obligations
from tests.unit.generation.generation_world import chat_profile, prompt_for, visit

PROMPT = prompt_for(chat_profile())
SYSTEM = PROMPT.parts[0].messages[0].content
PIECE = SYSTEM[:160]
CODE = PROMPT.parts[0].messages[1].content.split()[2]
PLAIN = Obligations.parse(("label:draft", "max_tokens:9", "evidence:required", "output:plain"))
FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper case": str.upper,
    "spaced": " ".join,
    "hyphens": "-".join,
    "zero width": "\u200b".join,
    "backwards": lambda text: text[::-1],
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "Base64": lambda text: base64.b64encode(text.encode()).decode(),
    "hexadecimal": lambda text: text.encode().hex(),
}


def answer(*texts: str) -> Completion:
    """Return a chat answer with these statements."""
    statements = [{"section": "plan", "text": text, "segments": ["s1"]} for text in texts]
    section = SectionText(section="note", text=json.dumps({"statements": statements}), finish_reason="stop")
    return Completion(sections=(section,), tokens_in=1, tokens_out=1, attempts=1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("leak", [PIECE, CODE], ids=["instructions", "code"])
def test_instructions_are_found_in_every_form(form: str, leak: str) -> None:
    """An answer with a piece of the instructions, or the code of the delimiters, is refused."""
    with pytest.raises(GenerationError, match="repeats the instructions") as caught:
        PLAIN.check_answer(answer("Cough.", f"Note: {FORMS[form](leak)} ok"), PROMPT)
    assert caught.value.code == "output_forbidden"


CUT = {
    "instructions, five words a statement": [" ".join(PIECE.split()[at : at + 5]) for at in range(0, 25, 5)],
    "code in halves": [f"Plan {CODE[:16]} and", f"then {CODE[16:]} well."],
    "half a code": [f"Plan {CODE[3:15]}."],
}


@pytest.mark.parametrize("cut", CUT)
def test_what_is_cut_into_statements_is_found(cut: str) -> None:
    """Instructions that are spread over statements, and a piece of a code, are an echo all the same."""
    assert repeats_instructions(answer(*CUT[cut]), PROMPT)


def test_without_reading_on_cut_instructions_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: each statement alone is too short to be told from anybody's words."""
    monkeypatch.setattr(echoes, "_columns", lambda _: ())
    assert not repeats_instructions(answer(*CUT["instructions, five words a statement"]), PROMPT)


def test_what_was_said_is_no_echo() -> None:
    """A note that quotes the consultation is kept, also where the consultation quoted our instructions."""
    said = visit(("Patient", PIECE))
    assert not repeats_instructions(answer("Very sore throat for four days.", "Ibuprofen 400 mg."), PROMPT)
    assert not repeats_instructions(answer(PIECE), prompt_for(chat_profile(), said))
    assert repeats_instructions(answer(PIECE), PROMPT)


@pytest.mark.parametrize("escaped", [r"https:\/\/x.example", r"\u003cscript>", r"ja\u0076ascript:x", r"``\u0060"])
def test_links_and_markup_are_found_behind_json_escapes(escaped: str) -> None:
    """What JSON escapes is looked at as it will be shown."""
    done = answer("x")
    text = done.sections[0].text.replace('"x"', f'"{escaped}"')
    section = done.sections[0].model_copy(update={"text": text})
    with pytest.raises(GenerationError, match="link or markup"):
        PLAIN.check_answer(done.model_copy(update={"sections": (section,)}), PROMPT)


def test_without_the_check_instructions_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the same answer passes where nobody looks for echoes."""
    monkeypatch.setattr(obligations, "repeats_instructions", lambda *_: False)
    PLAIN.check_answer(answer(PIECE), PROMPT)
