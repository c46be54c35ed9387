"""What the gate holds a prompt against before it leaves: a name is looked for where something was said."""

from __future__ import annotations

import pytest

from clinic.domain import Message, Prompt, PromptPart
from clinic.errors import PolicyError
from clinic.policy.detectors.identifiers import KnownIdentifiers
from clinic.policy.obligations import Obligations
from tests.unit.policy.policy_samples import make_prompt

OURS = "Write small statements, one segment a line. Keep what was said. You answer with JSON."
OBLIGED = Obligations.parse(("label:draft", "max_tokens:900", "evidence:required", "redact:identifiers"))


def chat(said: str, *, system: str = OURS) -> Prompt:
    """Return a chat prompt."""
    messages = (Message(role="system", content=system), Message(role="user", content=f"[s1] {said}"))
    return make_prompt().model_copy(update={"parts": (PromptPart(section="note", messages=messages, max_tokens=100),)})


@pytest.mark.parametrize("name", ["Amina Said", "Bea Small", "Chi You", "(command line)"])
def test_a_name_may_be_a_word_of_our_instructions(name: str) -> None:
    """A patient whose name is a word of the instructions gets a note like everybody else."""
    OBLIGED.check_prompt(chat("Cough for three days."), known=KnownIdentifiers(name=name))


@pytest.mark.parametrize(
    "prompt",
    [
        pytest.param(chat("Amina Said has a cough."), id="chat"),
        pytest.param(make_prompt(text="Amina Said has a cough."), id="completion"),
        pytest.param(chat("Cough.", system=f"{OURS} Telephone +44 20 7946 0958."), id="number among the instructions"),
    ],
)
def test_what_is_left_of_an_identifier_stops_the_prompt(prompt: Prompt) -> None:
    """The name in what was said, or a number anywhere: the prompt does not leave."""
    with pytest.raises(PolicyError, match="still holds identifiers") as caught:
        OBLIGED.check_prompt(prompt, known=KnownIdentifiers(name="Amina Said"))
    assert caught.value.code == "obligation_unmet"
    assert "Amina" not in str(caught.value)


def test_without_the_obligation_nothing_is_looked_for() -> None:
    """Negative control: it is this obligation, and no other, that stops those prompts."""
    free = Obligations.parse(("label:draft", "max_tokens:900", "evidence:required"))
    free.check_prompt(chat("Amina Said has a cough."), known=KnownIdentifiers(name="Amina Said"))
