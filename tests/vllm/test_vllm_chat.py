"""The real vLLM with a small Gemma 4 that knows its script by heart: schemas, media, crashes, bad requests."""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from clinic.audit.events import GenerationAuthorized, GenerationFailed, from_canonical
from clinic.domain import OPERATOR, Consent, EncounterId, EncounterKind, Message, PromptPart, Stage
from clinic.errors import GenerationError
from clinic.generation.client import is_healthy
from clinic.generation.prompts import load_template, parse
from clinic.generation.schemas import note_schema, read_note
from clinic.headless import draft_from_transcript
from clinic.records.patients import PatientData
from clinic.services import build_consultation, model_client
from tests.unit.generation.generation_world import MARKER, prompt_for, release, visit, wait_for
from tests.vllm.checkpoints.media import pink_png, tone_wav
from tests.vllm.script import PICTURE, SOUND, STATEMENTS, note_json
from tests.vllm.vllm_world import READY_S, VllmClinic

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]


def ask(clinic: VllmClinic, *parts: dict[str, Any]) -> Any:
    """Send one chat message of these parts, with nothing of ours in between; return status and text."""
    body = {
        "model": clinic.profile.served_name,
        "messages": [{"role": "user", "content": list(parts)}],
        "temperature": 0,
        "max_tokens": 16,
    }
    with clinic.raw() as raw:
        reply = raw.post("/v1/chat/completions", json=body)
    text = reply.json()["choices"][0]["message"]["content"] if reply.status_code == 200 else ""
    return reply.status_code, text


def data_url(kind: str, data: bytes) -> str:
    """Return data as an address that carries it."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def test_a_note_is_bound_to_its_schema(chat_clinic: VllmClinic) -> None:
    """Our client, the real template, grammar and parser: the learnt note arrives word for word, without white space."""
    prompt = prompt_for(chat_clinic.profile)
    completion = chat_clinic.client().generate(release(prompt))
    assert completion.attempts == 1
    assert completion.sections[0].text == note_json()
    drafts = parse(completion, load_template("soap"), visit())
    assert [(draft.section, draft.text, list(draft.cited)) for draft in drafts] == list(STATEMENTS)


def test_the_whole_flow_drafts_a_note(chat_clinic: VllmClinic) -> None:
    """From a transcript to a verified draft: decided and recorded first, every statement with the segment it cites."""
    outcome = draft_from_transcript(
        chat_clinic.config,
        chat_clinic.records,
        visit(),
        template="soap",
        consent=Consent.GIVEN,
        progress=lambda _stage, _done: None,
        heard=lambda _transcript: None,
    )
    assert [statement.text for statement in outcome.note.statements] == [text for _, text, _ in STATEMENTS]
    assert outcome.decision["outcome"] == "redact"  # the strict policies look for identifiers, and found none
    assert outcome.audit.ok


@pytest.mark.parametrize("seed", range(6))
def test_what_was_never_learnt_is_valid_or_refused(chat_clinic: VllmClinic, seed: int) -> None:
    """Another conversation gives nonsense of the right shape, or one clear error; never half a note."""
    schema = note_schema(sections=["plan", "objective"], segments=["s1", "s2"])
    schema["properties"]["statements"]["maxItems"] = 2
    schema["properties"]["statements"]["items"]["properties"]["text"]["maxLength"] = 40
    message = Message(role="user", content=f"Write the note number {seed}. [s1] Doctor: rest. [s2] Patient: yes.")
    part = PromptPart(section="note", messages=(message,), json_schema=schema, max_tokens=300)
    prompt = prompt_for(chat_clinic.profile).model_copy(update={"parts": (part,)})
    try:
        completion = chat_clinic.client().generate(release(prompt))
    except GenerationError as error:
        assert error.code in {"output_invalid", "output_truncated"}  # noqa: PT017 - one of two good ends
        return
    text = completion.sections[0].text
    assert read_note(text, schema) is not None
    assert json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False) == text


def test_a_schema_that_cannot_be_enforced_is_refused(chat_clinic: VllmClinic) -> None:
    """The grammar's gaps are loud: one clear error, without a word of the prompt in it."""
    schema = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    message = Message(role="user", content=f"List {MARKER}.")
    part = PromptPart(section="note", messages=(message,), json_schema=schema, max_tokens=20)
    prompt = prompt_for(chat_clinic.profile).model_copy(update={"parts": (part,)})
    with pytest.raises(GenerationError) as caught:
        chat_clinic.client().generate(release(prompt))
    assert caught.value.code == "model_refused"
    assert MARKER not in f"{caught.value} {caught.value.hint}"
    assert caught.value.__cause__ is None


def test_pictures_and_sounds_reach_the_model(chat_clinic: VllmClinic) -> None:
    """The server sees and hears where a profile lets it.  Our client has no such input yet: these are raw requests."""
    picture = {"type": "image_url", "image_url": {"url": data_url("image/png", pink_png())}}
    sound = {"type": "audio_url", "audio_url": {"url": data_url("audio/wav", tone_wav())}}
    assert ask(chat_clinic, {"type": "text", "text": PICTURE[0]}, picture) == (200, PICTURE[1])
    assert ask(chat_clinic, {"type": "text", "text": SOUND[0]}, sound) == (200, SOUND[1])
    assert ask(chat_clinic, {"type": "text", "text": PICTURE[0]}, picture, picture)[0] == 400  # more than let in


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("http://198.51.100.7/a.png", id="address"),
        pytest.param("https://example.invalid/a.png", id="name"),
        pytest.param("file:///etc/hostname", id="file"),
    ],
)
def test_nothing_is_fetched(chat_clinic: VllmClinic, address: str) -> None:
    """A picture by address is refused, and the server lives on."""
    status, _ = ask(chat_clinic, {"type": "image_url", "image_url": {"url": address}})
    assert status >= 400
    assert is_healthy(chat_clinic.server.socket)


def test_nothing_of_a_prompt_is_left_in_a_file(chat_clinic: VllmClinic) -> None:
    """A chat with a patient's word leaves no trace in any file that the server writes."""
    prompt = prompt_for(chat_clinic.profile, visit(("Patient", f"I take {MARKER}.")))
    assert MARKER in prompt.parts[0].messages[1].content
    part = prompt.parts[0].model_copy(update={"max_tokens": 200})
    try:
        chat_clinic.client().generate(release(prompt.model_copy(update={"parts": (part,)})))
    except GenerationError as error:
        assert error.code in {"output_invalid", "output_truncated"}  # noqa: PT017 - it has not learnt this one
    assert [path for path in chat_clinic.files() if MARKER.encode() in path.read_bytes()] == []


def test_a_killed_worker_fails_the_job_visibly_and_trying_again_finishes_it(chat_clinic: VllmClinic) -> None:
    """The worker dies in the middle: one plain error, recorded; the server comes back; the same job ends well."""
    clinic = chat_clinic
    clinic.said.clear()
    encounter = _encounter(clinic)
    victim = clinic.process("VLLM::Worker")
    everybody = clinic.server.processes()

    timer = threading.Timer(0.3, os.kill, (victim, signal.SIGKILL))

    def kill(stage: Stage, _done: float) -> None:
        if stage is Stage.GENERATE and timer.ident is None:
            os.kill(victim, signal.SIGSTOP)  # a quick machine would have answered before the timer
            timer.start()

    client = model_client(clinic.config)
    doomed = build_consultation(clinic.config, clinic.records, generator=lambda: client, progress=kill)
    with pytest.raises(GenerationError) as caught:
        doomed.run(encounter, actor=OPERATOR)
    assert caught.value.code in {"model_interrupted", "model_unavailable"}
    assert _events(clinic, encounter)[-1].code == caught.value.code
    assert wait_for(lambda: "the model server runs again" in clinic.said, READY_S)
    assert not any(Path(f"/proc/{pid}").exists() for pid in everybody)
    assert all(item.confined for item in clinic.server.evidence())
    again = build_consultation(clinic.config, clinic.records, generator=lambda: client)
    note = again.run(encounter, actor=OPERATOR)
    assert [statement.text for statement in note.statements] == [text for _, text, _ in STATEMENTS]
    assert clinic.records.audit.verify().ok


def _encounter(clinic: VllmClinic) -> EncounterId:
    with clinic.records.write() as tx:
        patient = tx.patients.create(PatientData(name="Crash Test"), actor=OPERATOR)
        encounter = tx.encounters.open(
            patient.id, kind=EncounterKind.CONSULTATION, template="soap", language="en", actor=OPERATOR
        )
        tx.encounters.record_consent(encounter.id, Consent.GIVEN, actor=OPERATOR)
        tx.transcripts.store(encounter.id, visit())
    return encounter.id


def _events(clinic: VllmClinic, encounter: EncounterId) -> list[GenerationFailed]:
    found = [from_canonical(entry.event, entry.body) for entry in clinic.records.audit.entries()]
    mine = {e.generation for e in found if isinstance(e, GenerationAuthorized) and e.encounter == encounter}
    return [event for event in found if isinstance(event, GenerationFailed) and event.generation in mine]
