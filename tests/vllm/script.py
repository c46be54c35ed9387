"""What the scripted Gemma 4 has learnt: the note of the sample visit, and one sentence about a picture and a sound."""

from __future__ import annotations

import json
from typing import Any

from clinic.domain import Action, Transcript
from clinic.generation.profiles import Profile
from clinic.generation.prompts import build_prompt, load_template
from tests.unit.generation.generation_world import visit

STATEMENTS = (
    ("subjective", "Very sore throat for four days.", ["s2"]),
    ("medications", "Takes ibuprofen 400 milligrams three times a day.", ["s6"]),
    ("allergies", "Allergic to penicillin.", ["s8"]),
    ("objective", "Temperature 38.4 degrees.", ["s9"]),
    ("plan", "Azithromycin 500 milligrams once a day for three days.", ["s10"]),
)
PICTURE = ("describe", "A plain pink square.")
SOUND = ("transcribe", "A steady tone.")


def note_json() -> str:
    """Return the learnt note as the model writes it."""
    statements = [{"section": section, "text": text, "segments": cited} for section, text, cited in STATEMENTS]
    return json.dumps({"statements": statements}, separators=(",", ":"))


def script(profile: Profile, transcript: Transcript | None = None) -> list[dict[str, Any]]:
    """Return prompts and answers to learn; the note's prompt is exactly the one that the clinic sends."""
    prompt = build_prompt(load_template("soap"), transcript or visit(), profile.identity, Action.DRAFT_NOTE)
    messages = [message.model_dump() for message in prompt.parts[0].messages]
    media = [
        {
            "messages": [{"role": "user", "content": [{"type": "text", "text": question}, {"type": kind}]}],
            "answer": answer,
        }
        for kind, (question, answer) in (("image", PICTURE), ("audio", SOUND))
    ]
    return [{"messages": messages, "answer": note_json()}, *media]
