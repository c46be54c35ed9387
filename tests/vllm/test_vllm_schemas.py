"""Schema-bound answers to what the model never learnt: valid or cleanly refused, never a hang.

Off its script the small model writes what a real one never would: each answer is held in form by the grammar alone.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from clinic.domain import Message, PromptPart
from clinic.errors import GenerationError
from clinic.generation.schemas import note_schema, read_note
from tests.unit.generation.generation_world import VISIT, prompt_for, release
from tests.vllm.vllm_world import VllmClinic

SECTIONS = ("subjective", "medications", "allergies", "objective", "assessment", "plan")
AT_ONCE = 4


def one(clinic: VllmClinic, number: int) -> str:
    """Ask for a note of some sections and segments of the visit, another for each number; say how it ended."""
    sections, segments = SECTIONS[: 1 + number % 6], [f"s{n}" for n in range(1, 2 + number % 10)]
    schema = note_schema(sections=sections, segments=segments)
    schema["properties"]["statements"]["maxItems"] = 1 + number % 3
    statement = schema["properties"]["statements"]["items"]["properties"]
    statement["text"]["maxLength"] = 20 + number % 40
    statement["segments"]["maxItems"] = 2
    lines = "\n".join(f"[{name}] {who}: {text}" for name, (who, text) in zip(segments, VISIT, strict=False))
    message = Message(role="user", content=f"Note {number}.\n{lines}")
    part = PromptPart(section="note", messages=(message,), json_schema=schema, max_tokens=400)
    prompt = prompt_for(clinic.profile).model_copy(update={"parts": (part,)})
    try:
        completion = clinic.client(timeout_s=120).generate(release(prompt))
    except GenerationError as error:
        return error.code
    text = completion.sections[0].text
    return "valid" if read_note(text, schema) is not None else "broken"


def run(clinic: VllmClinic, count: int) -> Counter[str]:
    """Ask `count` times, some at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return Counter(pool.map(lambda number: one(clinic, number), range(count)))


def check(ends: Counter[str]) -> None:
    """Every end is a valid note or one of two clear errors: no hang, no note that is not one."""
    assert set(ends) <= {"valid", "output_invalid", "output_truncated"}, ends
    assert ends["valid"] > 0


@pytest.mark.vllm
@pytest.mark.timeout(900)
def test_forty_answers_are_valid_or_refused(chat_clinic: VllmClinic) -> None:
    """The short form: forty different schemas and conversations."""
    check(run(chat_clinic, 40))


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_five_hundred_answers_are_valid_or_refused(chat_clinic: VllmClinic) -> None:
    """The campaign: five hundred."""
    ends = run(chat_clinic, 500)
    print(f"\n500 schema-bound answers on vLLM: {dict(ends)}")  # noqa: T201 - the campaign's result
    check(ends)
