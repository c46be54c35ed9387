"""One encounter through its page: consent, capture, processing, review, signature."""

from __future__ import annotations

import hashlib
import io
import re
import wave

import pytest

from clinic.domain import (
    Consent,
    EncounterKind,
    EncounterState,
    Omission,
    Reason,
    Role,
    Stage,
    StatementStatus,
    Transcript,
)
from clinic.records.encounters import Encounter
from clinic.records.patients import Patient
from clinic.speech.text import text_to_transcript
from clinic.web.encounters import typed_text
from tests.functional.web_world import CANARY, NOTE, ORIGIN, TRANSCRIPT, Browser, World, spoken


@pytest.fixture
def browser(world: World) -> Browser:
    """A clinician's browser."""
    return world.browser(Role.CLINICIAN)


def tone(seconds: float) -> bytes:
    """Return a WAV of silence."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(int(seconds * 16_000) * 2))
    return buffer.getvalue()


def state_of(world: World, encounter: Encounter) -> EncounterState:
    """Return the encounter's present state."""
    with world.records.read() as tx:
        return tx.encounters.get(encounter.id).state


def code(response: object) -> str:
    """Return the error code of a JSON answer."""
    return str(response.get_json()["error"]["code"])  # type: ignore[attr-defined]


# --- consent --------------------------------------------------------------------------------------------


def test_encounter_begins_with_consent(world: World, browser: Browser, patient: Patient) -> None:
    """A new encounter shows the question of consent and nothing to record with."""
    opened = browser.post(f"/patients/{patient.id}/encounters", kind="consultation", template="soap", language="en")
    assert opened.status_code == 303
    page = browser.get(opened.location)
    assert 'data-testid="consent-given"' in page.text
    assert "record-start" not in page.text
    browser.post(f"{opened.location}/consent", consent="given")
    assert 'data-testid="record-start"' in browser.get(opened.location).text
    assert "consent.recorded" in world.events()
    assert "encounter.viewed" in world.events()


@pytest.mark.parametrize("consent", [Consent.NOT_RECORDED, Consent.REFUSED, Consent.WITHDRAWN])
def test_nothing_is_possible_without_consent(
    world: World, browser: Browser, patient: Patient, consent: Consent
) -> None:
    """Without consent no recording, no text, no retry, no clip; the server refuses what the page hides."""
    path = f"/encounters/{world.encounter(patient, consent=consent).id}"
    assert code(browser.send(f"{path}/recording", {"mime": "audio/webm"})) == "consent_missing"
    assert "consent_missing" in browser.post(f"{path}/text", text="Cough for two weeks.").text
    assert "consent_missing" in browser.post(f"{path}/retry").text
    assert code(browser.get(f"{path}/audio?start=0&end=1", json=True)) == "consent_missing"
    assert "record-start" not in browser.get(path).text
    assert world.services.jobs.queued == []


def test_withdrawn_consent_hides_the_draft(world: World, browser: Browser, patient: Patient) -> None:
    """As soon as consent is withdrawn, neither transcript nor draft is shown or can be changed."""
    path = f"/encounters/{world.drafted(patient).id}"
    assert "Doxycycline 100 mg" in browser.get(path).text
    browser.post(f"{path}/consent", consent="withdrawn")
    page = browser.get(path).text
    assert "withdrew consent" in page
    assert "Doxycycline" not in page
    assert "penicillin" not in page
    assert "consent_missing" in browser.post(f"{path}/note/sign", version=1, attestation="yes").text


def test_withdrawn_consent_stops_the_recording(world: World, browser: Browser, patient: Patient) -> None:
    """A chunk that comes after consent is withdrawn is refused and not stored, and nothing can be completed."""
    path = f"/encounters/{world.encounter(patient).id}"
    recording = browser.send(f"{path}/recording", {"mime": "audio/webm"}).get_json()["id"]
    assert browser.put(f"/recordings/{recording}/chunks/0", b"before").status_code == 200
    browser.post(f"{path}/consent", consent="withdrawn")
    response = browser.put(f"/recordings/{recording}/chunks/1", b"after")
    assert (response.status_code, code(response)) == (409, "consent_missing")
    assert code(browser.send(f"{path}/recording/complete", {"chunks": 1})) == "consent_missing"
    with world.records.read() as tx:
        assert list(tx.recordings.chunks(recording)) == [b"before"]


def test_chunk_after_the_job_started_is_refused(world: World, browser: Browser, patient: Patient) -> None:
    """An encounter that went on with text takes no more of a recording that was begun."""
    path = f"/encounters/{world.encounter(patient).id}"
    recording = browser.send(f"{path}/recording", {"mime": "audio/webm"}).get_json()["id"]
    browser.post(f"{path}/text", text="Cough for two weeks.")
    response = browser.put(f"/recordings/{recording}/chunks/0", b"late")
    assert (response.status_code, code(response)) == (409, "step_unavailable")


def test_consent_of_a_signed_encounter_stays(world: World, browser: Browser, patient: Patient) -> None:
    """The consent of a signed note is part of the record."""
    encounter = world.drafted(patient)
    sign(browser, encounter)
    assert "note_locked" in browser.post(f"/encounters/{encounter.id}/consent", consent="withdrawn").text


# --- capture --------------------------------------------------------------------------------------------


def test_recording_in_chunks(world: World, browser: Browser, patient: Patient) -> None:
    """Chunks are acknowledged with their digest, may be repeated, and start the job when all are there."""
    encounter = world.encounter(patient)
    path = f"/encounters/{encounter.id}/recording"
    recording = browser.send(path, {"mime": "audio/webm;codecs=opus"}).get_json()
    chunks = [b"first", b"second", b"third"]
    for number, data in enumerate(chunks):
        for _ in range(2):
            ack = browser.put(f"/recordings/{recording['id']}/chunks/{number}", data).get_json()
            assert ack == {"index": number, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    assert browser.send(f"{path}/complete", {"chunks": 3}).status_code == 202
    assert world.services.jobs.queued == [encounter.id]
    assert state_of(world, encounter) is EncounterState.QUEUED
    with world.records.read() as tx:
        assert b"".join(tx.recordings.chunks(recording["id"])) == b"firstsecondthird"


def test_missing_chunk_is_named(world: World, browser: Browser, patient: Patient) -> None:
    """A recording with a hole does not start a job; the answer names the hole."""
    path = f"/encounters/{world.encounter(patient).id}/recording"
    recording = browser.send(path, {"mime": "audio/webm"}).get_json()
    browser.put(f"/recordings/{recording['id']}/chunks/0", b"a")
    browser.put(f"/recordings/{recording['id']}/chunks/2", b"c")
    response = browser.send(f"{path}/complete", {"chunks": 3})
    assert (response.status_code, code(response)) == (409, "audio_incomplete")
    assert "1" in response.get_json()["error"]["message"]
    assert world.services.jobs.queued == []


def test_other_bytes_under_the_same_number_are_refused(world: World, browser: Browser, patient: Patient) -> None:
    """What is acknowledged is never overwritten."""
    path = f"/encounters/{world.encounter(patient).id}/recording"
    recording = browser.send(path, {"mime": "audio/webm"}).get_json()
    browser.put(f"/recordings/{recording['id']}/chunks/0", b"a")
    response = browser.put(f"/recordings/{recording['id']}/chunks/0", b"b")
    assert (response.status_code, code(response)) == (409, "record_conflict")


def test_upload_goes_on_where_it_stopped(world: World, browser: Browser, patient: Patient) -> None:
    """Asked to resume, the box says what it has; a new recording starts from nothing."""
    encounter = world.encounter(patient)
    path = f"/encounters/{encounter.id}/recording"
    first = browser.send(path, {"mime": "audio/wav"}).get_json()
    browser.put(f"/recordings/{first['id']}/chunks/0", b"a")
    resumed = browser.send(path, {"mime": "audio/wav", "resume": True}).get_json()
    assert resumed == {"id": first["id"], "received": [0], "complete": False, "key": first["key"]}
    assert "A recording was begun" in browser.get(f"/encounters/{encounter.id}").text
    fresh = browser.send(path, {"mime": "audio/wav"}).get_json()
    assert fresh["id"] != first["id"]
    assert fresh["received"] == []


def test_empty_chunk_and_strange_type_are_refused(world: World, browser: Browser, patient: Patient) -> None:
    """An empty chunk or something that is no media type is refused."""
    path = f"/encounters/{world.encounter(patient).id}/recording"
    assert browser.send(path, {"mime": "<script>"}).status_code == 422
    assert browser.send(path, {}).status_code == 422
    recording = browser.send(path, {"mime": "audio/webm"}).get_json()
    assert browser.put(f"/recordings/{recording['id']}/chunks/0", b"").status_code == 422


def test_text_is_taken_as_transcript(world: World, browser: Browser, patient: Patient) -> None:
    """Typed text becomes the transcript and starts the job; the audit log knows its digest only."""
    encounter = world.encounter(patient, kind=EncounterKind.DICTATION)
    response = browser.post(f"/encounters/{encounter.id}/text", text="Cough for two weeks. No fever.")
    assert response.status_code == 303
    assert world.services.jobs.queued == [encounter.id]
    with world.records.read() as tx:
        transcript = tx.transcripts.current(encounter.id)
    assert transcript is not None
    assert [segment.text for segment in transcript.segments] == ["Cough for two weeks.", "No fever."]
    assert "text.submitted" in world.events()


def test_encounter_takes_one_submission(world: World, browser: Browser, patient: Patient) -> None:
    """Once the job has started, nothing more comes in."""
    encounter = world.encounter(patient, kind=EncounterKind.DICTATION)
    browser.post(f"/encounters/{encounter.id}/text", text="Cough.")
    assert "step_unavailable" in browser.post(f"/encounters/{encounter.id}/text", text="Again.").text
    response = browser.send(f"/encounters/{encounter.id}/recording", {"mime": "audio/webm"})
    assert (response.status_code, code(response)) == (409, "step_unavailable")


# --- processing -----------------------------------------------------------------------------------------


def test_job_that_cannot_start_can_be_tried_again(world: World, browser: Browser, patient: Patient) -> None:
    """Without a worker the text is kept, the page says so, and trying again works."""
    encounter = world.encounter(patient, kind=EncounterKind.DICTATION)
    world.services.jobs.broken = True
    response = browser.post(f"/encounters/{encounter.id}/text", text="Cough for two weeks.")
    assert response.status_code == 503
    page = browser.get(f"/encounters/{encounter.id}").text
    assert "worker_unavailable" in page
    assert 'data-testid="retry"' in page
    world.services.jobs.broken = False
    assert browser.post(f"/encounters/{encounter.id}/retry").status_code == 303
    assert world.services.jobs.queued == [encounter.id]


def test_stages_are_shown_as_they_pass(world: World, browser: Browser, patient: Patient) -> None:
    """The page asks for the status and learns which stage is done, current and waiting."""
    encounter = world.encounter(patient)
    with world.records.write() as tx:
        tx.encounters.mark(encounter.id, state=EncounterState.RUNNING, stage=Stage.GENERATE)
    status = browser.get(f"/encounters/{encounter.id}/status", json=True).get_json()
    assert status["working"] is True
    assert (status["state"], status["label"]) == ("running", "In progress")
    assert [(stage["name"], stage["status"]) for stage in status["stages"]] == [
        ("transcribe", "done"),
        ("decide", "done"),
        ("generate", "current"),
        ("verify", "waiting"),
        ("store", "waiting"),
    ]
    assert set(status["stages"][0]) == {"name", "status"}
    page = browser.get(f"/encounters/{encounter.id}").text
    for stage in Stage:
        assert f'data-testid="stage-{stage.value}"' in page


def test_refusal_is_explained(world: World, browser: Browser, patient: Patient) -> None:
    """A denial shows the policy's own sentences."""
    encounter = world.encounter(patient)
    world.services.reasons = (Reason(code="too-short", message="the recording holds fewer than ten words"),)
    with world.records.write() as tx:
        tx.encounters.mark(encounter.id, state=EncounterState.DENIED, stage=Stage.DECIDE, error_code="denied:too-short")
    page = browser.get(f"/encounters/{encounter.id}").text
    assert "The policy does not allow a draft" in page
    assert "fewer than ten words" in page


def test_failure_shows_code_words_and_a_way_on(world: World, browser: Browser, patient: Patient) -> None:
    """A failure shows message, hint, code and "try again"; a recording without speech can be replaced."""
    encounter = world.encounter(patient)
    with world.records.write() as tx:
        tx.encounters.mark(encounter.id, state=EncounterState.FAILED, stage=Stage.TRANSCRIBE, error_code="no_speech")
    page = browser.get(f"/encounters/{encounter.id}").text
    for part in ("No speech was heard", "no_speech", 'data-testid="retry"', 'data-testid="record-start"'):
        assert part in page
    assert browser.send(f"/encounters/{encounter.id}/recording", {"mime": "audio/webm"}).status_code == 201


def refuse(world: World, encounter: Encounter) -> None:
    """Leave the encounter as the policy leaves it."""
    with world.records.write() as tx:
        tx.encounters.mark(encounter.id, state=EncounterState.DENIED, stage=Stage.DECIDE, error_code="denied:too-short")


def test_refused_text_can_be_changed(world: World, browser: Browser, patient: Patient) -> None:
    """The text that was refused stands in the form; another one replaces it for the next attempt."""
    encounter = world.encounter(patient, kind=EncounterKind.DICTATION)
    path = f"/encounters/{encounter.id}"
    browser.post(f"{path}/text", text="Doctor: Cough. No fever.\n\nSeen at home.")
    refuse(world, encounter)
    page = browser.get(path).text
    assert "Doctor: Cough. No fever.\n\nSeen at home.</textarea>" in page
    assert "record-start" not in page
    assert code(browser.send(f"{path}/recording", {"mime": "audio/webm"})) == "step_unavailable"
    assert browser.post(f"{path}/text", text="Cough for two weeks, with sputum.").status_code == 303
    assert world.services.jobs.queued == [encounter.id, encounter.id]
    with world.records.read() as tx:
        transcript = tx.transcripts.current(encounter.id)
    assert transcript is not None
    assert transcript.text == "Cough for two weeks, with sputum."
    assert "step_unavailable" in browser.post(f"{path}/text", text="While the job waits.").text


def test_typed_text_comes_back_as_it_was_taken() -> None:
    """Sent unchanged, the text in the form is the same transcript."""
    taken = text_to_transcript(
        "Seen today.\nDoctor: Any pain? Where?\nPatient: My knee.\n\nKnee swollen. Advice given."
    )
    assert text_to_transcript(typed_text(taken)) == taken


def test_refused_recording_is_not_replaced_by_typing(world: World, browser: Browser, patient: Patient) -> None:
    """What was heard stays: the way on is a new encounter; without a transcript yet, the forms are there again."""
    heard, unheard = world.encounter(patient), world.encounter(patient)
    with world.records.write() as tx:
        tx.transcripts.store(heard.id, TRANSCRIPT)
    refuse(world, heard)
    refuse(world, unheard)
    page = browser.get(f"/encounters/{heard.id}").text
    assert "New encounter" in page
    assert "record-start" not in page
    assert "text-input" not in page
    assert "step_unavailable" in browser.post(f"/encounters/{heard.id}/text", text="Something else.").text
    assert "record-start" in browser.get(f"/encounters/{unheard.id}").text
    assert browser.send(f"/encounters/{unheard.id}/recording", {"mime": "audio/webm"}).status_code == 201


@pytest.mark.parametrize("failure", ["no_speech", "audio_unreadable", "audio_too_short"])
def test_unusable_recording_leads_to_the_forms(world: World, browser: Browser, patient: Patient, failure: str) -> None:
    """Recording, uploading and typing stand before the list of stages, and none of them is a dead end."""
    encounter = world.encounter(patient, kind=EncounterKind.DICTATION)
    with world.records.write() as tx:
        tx.encounters.mark(encounter.id, state=EncounterState.FAILED, stage=Stage.TRANSCRIBE, error_code=failure)
    page = browser.get(f"/encounters/{encounter.id}").text
    for form in ("record-start", "upload-submit", "text-input"):
        assert page.index(f'data-testid="{form}"') < page.index('id="processing"')
    assert browser.post(f"/encounters/{encounter.id}/text", text="Typed instead.").status_code == 303


def test_retry_needs_something_that_stopped(world: World, browser: Browser, patient: Patient) -> None:
    """A running or drafted encounter is not started a second time."""
    assert "step_unavailable" in browser.post(f"/encounters/{world.drafted(patient).id}/retry").text


# --- review ---------------------------------------------------------------------------------------------


def sign(browser: Browser, encounter: Encounter) -> None:
    """Decide on the flag and sign."""
    path = f"/encounters/{encounter.id}/note"
    assert browser.post(f"{path}/statements/n2/confirm", version=1).status_code == 303
    assert browser.post(f"{path}/sign", version=2, attestation="yes").status_code == 303


def test_review_shows_note_beside_transcript(world: World, browser: Browser, patient: Patient) -> None:
    """Each statement carries status, reasons and evidence; each segment and word its seconds."""
    page = browser.get(f"/encounters/{world.drafted(patient).id}").text
    assert page.count('data-testid="statement"') == 3
    assert page.count('data-testid="segment"') == 5
    assert "The patient said there was no fever" in page
    assert 'data-testid="omission"' in page
    assert "Draft, not signed." in page
    assert "Gemma 3 270M" in page
    assert re.search(r'data-evidence="\[\{&#34;segment&#34;:&#34;s1&#34;,&#34;start&#34;:1\.0', page)
    assert 'class="word unsure"' in page


@pytest.mark.parametrize("action", ["confirm", "edit", "remove"])
def test_decisions_on_a_flag(world: World, browser: Browser, patient: Patient, action: str) -> None:
    """Confirming, editing and removing close the flag and make a new version."""
    encounter = world.drafted(patient)
    path = f"/encounters/{encounter.id}/note/statements/n2/{action}"
    assert browser.post(path, version=1, text="No fever; wakes up sweating.").status_code == 303
    with world.records.read() as tx:
        stored = tx.notes.get(encounter.id)
    assert stored is not None
    assert stored.version == 2
    assert stored.note.open_flags == ()
    standing = {"confirm": StatementStatus.CONFIRMED, "edit": StatementStatus.EDITED, "remove": StatementStatus.REMOVED}
    assert next(s.status for s in stored.note.statements if s.id == "n2") is standing[action]


def test_what_is_put_back_is_not_confirmed(world: World, browser: Browser, patient: Patient) -> None:
    """The button on a removed statement brings it back flagged, and "confirm" is no way around it."""
    encounter = world.drafted(patient)
    path = f"/encounters/{encounter.id}/note/statements/n2"
    browser.post(f"{path}/remove", version=1)
    page = browser.get(f"/encounters/{encounter.id}").text
    assert f'action="{path}/restore"' in page
    assert f'action="{path}/confirm"' not in page
    assert browser.post(f"{path}/confirm", version=2).status_code == 409
    assert browser.post(f"{path}/restore", version=2).status_code == 303
    with world.records.read() as tx:
        stored = tx.notes.get(encounter.id)
    assert stored is not None
    assert stored.note.open_flags == ("n2",)
    assert "The patient said there was no fever" in browser.get(f"/encounters/{encounter.id}").text


def test_edit_against_the_transcript_blocks_the_signature(world: World, browser: Browser, patient: Patient) -> None:
    """A clinician's own words are flagged like any other where the transcript says otherwise."""
    encounter = world.drafted(patient)
    path = f"/encounters/{encounter.id}/note"
    browser.post(f"{path}/statements/n2/remove", version=1)
    browser.post(f"{path}/statements/n3/edit", version=2, text="Doxycycline 400 mg twice daily for 7 days.")
    assert "flags_open" in browser.post(f"{path}/sign", version=3, attestation="yes").text
    browser.post(f"{path}/statements/n3/confirm", version=3)
    assert browser.post(f"{path}/sign", version=4, attestation="yes").status_code == 303


def test_omissions_are_offered_where_they_belong(world: World, browser: Browser, patient: Patient) -> None:
    """In the order of the conversation, with their time where there is sound, and the section that fits the kind."""
    encounter = world.encounter(patient)
    kinds = {"safety_net": "s5", "allergy": "s4", "symptom": "s3", "measurement": "s2", "finding": "s1"}
    missing = tuple(Omission(segment=segment, kind=kind, text=kind) for kind, segment in kinds.items())
    with world.records.write() as tx:
        tx.recordings.start(encounter.id, mime="audio/wav", actor=world.actor())
        tx.transcripts.store(encounter.id, TRANSCRIPT)
        note = NOTE.model_copy(update={"omissions": missing})
        tx.notes.store_draft(encounter.id, note, generation_id=None, actor=world.actor())
        tx.encounters.mark(encounter.id, state=EncounterState.DRAFTED)
    page = browser.get(f"/encounters/{encounter.id}").text
    listed = page.split('data-testid="omission"')[1:]
    offered = [re.search(r'<option value="(\w+)" selected', part) for part in listed]
    sections = [found and found.group(1) for found in offered]
    assert sections == ["objective", "objective", "subjective", "allergies", "plan"]
    assert [re.findall(r"Hear \d:\d\d", part)[0] for part in listed] == [
        "Hear 0:00",
        "Hear 0:06",
        "Hear 0:09",
        "Hear 0:14",
        "Hear 0:20",
    ]
    number = re.search(r'name="omission" value="(\d)"', listed[1])
    assert number is not None
    path = f"/encounters/{encounter.id}/note/omissions"
    assert browser.post(path, version=1, omission=number.group(1), section="objective").status_code == 303
    with world.records.read() as tx:
        stored = tx.notes.get(encounter.id)
    assert stored is not None
    assert "measurement" not in {omission.kind for omission in stored.note.omissions}


def test_script_gets_a_piece_of_the_page(world: World, browser: Browser, patient: Patient) -> None:
    """With the fragment header the answer is the note alone, at its new version."""
    encounter = world.drafted(patient)
    response = browser.client.post(
        f"/encounters/{encounter.id}/note/statements/n2/confirm",
        data={"version": "1", "csrf_token": browser.token},
        headers={"X-Fragment": "note"},
        base_url=ORIGIN,
    )
    assert response.status_code == 200
    assert "<html" not in response.text
    assert 'name="version" value="2"' in response.text
    assert "1 not in the note" in response.text


def test_moved_version_is_a_conflict(world: World, browser: Browser, patient: Patient) -> None:
    """A decision on a version that somebody has moved on from is refused; nothing is overwritten."""
    encounter = world.drafted(patient)
    path = f"/encounters/{encounter.id}/note/statements/n2"
    browser.post(f"{path}/remove", version=1)
    response = browser.client.post(
        f"{path}/edit",
        data={"version": "1", "text": "Other words.", "csrf_token": browser.token},
        headers={"X-Fragment": "note"},
        base_url=ORIGIN,
    )
    assert (response.status_code, code(response)) == (409, "record_conflict")


def test_page_without_scripts_shows_both_versions(world: World, browser: Browser, patient: Patient) -> None:
    """Without scripts, too, what was typed is not lost: both stand on a page, one is chosen, the look is recorded."""
    encounter = world.drafted(patient)
    path = f"/encounters/{encounter.id}/note/statements/n1/edit"
    browser.post(path, version=1, text="Cough, two weeks.")
    before = world.events().count("encounter.viewed")
    both = browser.post(path, version=1, text="Cough & sputum for two weeks.")
    assert both.status_code == 409
    assert "Cough, two weeks.</blockquote>" in both.text
    assert "Cough &amp; sputum for two weeks.</textarea>" in both.text
    assert world.events().count("encounter.viewed") == before + 1
    version = re.search(r'name="version" value="(\d+)"', both.text)
    assert version is not None
    assert browser.post(path, version=version.group(1), text="Cough & sputum for two weeks.").status_code == 303
    with world.records.read() as tx:
        stored = tx.notes.get(encounter.id)
    assert stored is not None
    assert stored.note.statements[0].text == "Cough & sputum for two weeks."


def test_adding_a_sentence_and_an_omission(world: World, browser: Browser, patient: Patient) -> None:
    """The clinician adds a sentence, and takes something that was said into the note."""
    encounter = world.drafted(patient)
    path = f"/encounters/{encounter.id}/note"
    assert browser.post(f"{path}/statements", version=1, section="plan", text="Review in one week.").status_code == 303
    assert browser.post(f"{path}/omissions", version=2, omission=0, section="subjective").status_code == 303
    page = browser.get(f"/encounters/{encounter.id}").text
    assert "Review in one week." in page
    assert page.count('data-testid="statement"') == 5
    assert 'data-testid="omission"' not in page


def test_open_flag_blocks_the_signature(world: World, browser: Browser, patient: Patient) -> None:
    """With an open flag the page names it, and the server refuses to sign."""
    encounter = world.drafted(patient)
    page = browser.get(f"/encounters/{encounter.id}").text
    assert 'href="#statement-n2"' in page
    assert "flags_open" in browser.post(f"/encounters/{encounter.id}/note/sign", version=1, attestation="yes").text
    assert state_of(world, encounter) is EncounterState.DRAFTED


def test_empty_note_cannot_be_signed(world: World, browser: Browser, patient: Patient) -> None:
    """With every statement removed the page says why there is no signature, and the server refuses it."""
    encounter = world.drafted(patient)
    path = f"/encounters/{encounter.id}/note"
    for version, statement in enumerate(("n1", "n2", "n3"), start=1):
        browser.post(f"{path}/statements/{statement}/remove", version=version)
    page = browser.get(f"/encounters/{encounter.id}").text
    assert "The note holds no statement." in page
    assert re.search(r'data-testid="sign-submit" disabled', page)
    response = browser.post(f"{path}/sign", version=4, attestation="yes")
    assert response.status_code == 409
    assert "note_empty" in response.text
    assert state_of(world, encounter) is EncounterState.DRAFTED


def test_another_clinician_may_only_read(world: World, browser: Browser, patient: Patient) -> None:
    """The page shows a colleague the note without a form, the view is recorded, and every change is refused."""
    encounter = world.drafted(patient)
    path = f"/encounters/{encounter.id}"
    own = browser.get(path).text
    colleague = world.colleague()
    seen = world.events().count("encounter.viewed")
    page = colleague.get(path).text
    assert world.events().count("encounter.viewed") == seen + 1
    assert "Doxycycline 100 mg" in page
    assert 'data-testid="note-read-only"' in page
    assert "Test clinician, may edit and sign" in page
    for control in ("-confirm", "-edit", "-remove", "-add"):
        assert f'data-testid="statement{control}"' in own
        assert f'data-testid="statement{control}"' not in page
    assert "sign-submit" in own
    assert f"{path}/note/" not in page
    version = {"version": 1, "text": "Mine.", "section": "plan", "omission": 0, "attestation": "yes"}
    for action in ("statements/n2/confirm", "statements/n2/edit", "statements/n2/remove", "statements", "omissions"):
        response = colleague.post(f"{path}/note/{action}", **version)
        assert response.status_code == 403, action
        assert "not_allowed" in response.text
    browser.post(f"{path}/note/statements/n2/confirm", version=1)
    assert colleague.post(f"{path}/note/sign", version=2, attestation="yes").status_code == 403
    assert state_of(world, encounter) is EncounterState.DRAFTED
    assert browser.post(f"{path}/note/sign", version=2, attestation="yes").status_code == 303


def test_draft_as_a_piece_is_a_recorded_view(world: World, browser: Browser, patient: Patient) -> None:
    """Whoever is given the draft alone has seen the encounter; where nothing is shown, nothing is recorded."""
    path = f"/encounters/{world.drafted(patient).id}/note/draft"
    before = world.events().count("encounter.viewed")
    assert "Doxycycline 100 mg" in browser.get(path).text
    assert world.events().count("encounter.viewed") == before + 1
    assert browser.get(f"/encounters/{world.encounter(patient).id}/note/draft").status_code == 409
    assert world.events().count("encounter.viewed") == before + 1


def test_signature_needs_the_attestation(world: World, browser: Browser, patient: Patient) -> None:
    """Without the tick there is no signature."""
    encounter = world.drafted(patient)
    browser.post(f"/encounters/{encounter.id}/note/statements/n2/confirm", version=1)
    assert browser.post(f"/encounters/{encounter.id}/note/sign", version=2).status_code == 422
    assert state_of(world, encounter) is EncounterState.DRAFTED


def test_signed_note_is_locked_and_amended(world: World, browser: Browser, patient: Patient) -> None:
    """After signing nothing can be edited; an addendum can be added and is shown with its author."""
    encounter = world.drafted(patient)
    path = f"/encounters/{encounter.id}"
    sign(browser, encounter)
    page = browser.get(path).text
    assert 'data-testid="note-locked"' in page
    assert "Signed by Test clinician" in page
    assert "statement-edit" not in page
    assert "note_locked" in browser.post(f"{path}/note/statements/n1/remove", version=2).text
    assert browser.post(f"{path}/note/addenda", text="Culture was negative.").status_code == 303
    page = browser.get(path).text
    assert "Culture was negative." in page
    assert [name for name in world.events() if name.startswith("note.")] == [
        "note.drafted",
        "note.edited",
        "note.signed",
        "note.amended",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(" \n ", "An addendum needs words", id="blank"),
        pytest.param("Culture  was negative.", "This addendum is in the note already.", id="again"),
    ],
)
def test_useless_addendum_is_explained_beside_its_field(
    world: World, browser: Browser, patient: Patient, text: str, sentence: str
) -> None:
    """A blank addendum, or the same one again, changes nothing and is explained on the page of the note."""
    encounter = world.drafted(patient)
    path = f"/encounters/{encounter.id}"
    sign(browser, encounter)
    browser.post(f"{path}/note/addenda", text="Culture was negative.")
    response = browser.post(f"{path}/note/addenda", text=text)
    assert response.status_code == 422
    assert sentence in response.text
    assert 'data-testid="note-locked"' in response.text
    assert world.events().count("note.amended") == 1


def test_copied_note_says_whose_it_is(world: World, browser: Browser, patient: Patient) -> None:
    """The text that is copied names patient, date and signature; copied from a draft, that it is one."""
    encounter = world.drafted(patient)
    path = f"/encounters/{encounter.id}"
    draft = re.search(r'data-copied="([^"]+)"', browser.get(path).text)
    assert draft is not None
    assert draft.group(1).startswith(f"DRAFT, not signed. {CANARY}, born 5 Mar 1961. Consultation, ")
    sign(browser, encounter)
    article = browser.get(path).text.split('data-testid="paper"')[1].split("</article>")[0]
    for part in (CANARY, "born 5 Mar 1961", "Consultation, <time", "Signed by Test clinician"):
        assert part in article


@pytest.mark.parametrize("page", ["/encounters/{0}", "/patients/{1}"])
def test_trail_ends_with_a_place(world: World, browser: Browser, patient: Patient, page: str) -> None:
    """The trail of links has separators between its parts only."""
    trail = browser.get(page.format(world.encounter(patient).id, patient.id)).text.split('class="trail"')[1]
    assert trail.split("</nav>")[0].endswith("</a>")


def test_section_that_the_template_lacks_is_shown(world: World, browser: Browser, patient: Patient) -> None:
    """No statement is hidden because its section is unknown."""
    encounter = world.encounter(patient)
    strange = NOTE.statements[0].model_copy(update={"section": "no_such_section", "text": "Strange but shown."})
    note = NOTE.model_copy(update={"statements": (strange,)})
    with world.records.write() as tx:
        tx.transcripts.store(encounter.id, TRANSCRIPT)
        tx.notes.store_draft(encounter.id, note, generation_id=None, actor=world.actor())
        tx.encounters.mark(encounter.id, state=EncounterState.DRAFTED)
    assert "Strange but shown." in browser.get(f"/encounters/{encounter.id}").text


def test_clip_is_played_and_recorded(world: World, browser: Browser, patient: Patient) -> None:
    """The seconds of a statement come as WAV, and playing them is in the audit log."""
    encounter = world.encounter(patient)
    with world.records.write() as tx:
        recording = tx.recordings.start(encounter.id, mime="audio/wav", actor=world.actor())
        tx.recordings.append(recording.id, 0, tone(3))
        tx.recordings.complete(recording.id, chunks=1, actor=world.actor())
    response = browser.get(f"/encounters/{encounter.id}/audio?start=0.5&end=1.5")
    assert response.mimetype == "audio/wav"
    with wave.open(io.BytesIO(response.data)) as heard:
        assert 0.9 <= heard.getnframes() / heard.getframerate() <= 1.2
    assert "audio.played" in world.events()
    for query in ("start=1&end=1", "start=0&end=500", "start=-1&end=2", "start=x&end=2", "start=nan&end=2", ""):
        assert browser.get(f"/encounters/{encounter.id}/audio?{query}").status_code == 422


def test_words_of_the_patient_are_escaped(browser: Browser) -> None:
    """Markup in a name or a text is text on the page."""
    evil = '<img src=x onerror="alert(1)">'
    browser.post("/patients", name=evil)
    page = browser.get("/patients").text
    assert evil not in page
    assert "&lt;img" in page
    assert CANARY not in page


def test_what_to_check_is_marked_in_the_transcript(world: World, browser: Browser, patient: Patient) -> None:
    """Drugs and numbers are marked; a name of the second hearing stands beside what was heard first."""
    page = browser.get(f"/encounters/{world.drafted(patient).id}").text
    assert re.search(r'class="word drug"[^>]*title="A drug: [^"]*">doxycycline<', page)
    assert re.search(r'class="word number"[^>]*>two<', page)
    assert "word-replaced" not in page
    encounter = world.drafted(patient)
    put = spoken(1, "We start candesartan today.", 0.5)
    first = tuple(
        w.model_copy(update={"heard_first": "<Candice> Arton"}) if n == 2 else w for n, w in enumerate(put.words)
    )
    with world.records.write() as tx:
        tx.transcripts.store(encounter.id, Transcript(segments=(put.model_copy(update={"words": first}),)))
    page = browser.get(f"/encounters/{encounter.id}").text
    assert re.search(r'class="word replaced drug"[^>]*>candesartan<', page)
    assert "(heard first: &lt;Candice&gt; Arton)" in page


def test_what_the_note_lacks_is_said_beside_the_signature(world: World, browser: Browser, patient: Patient) -> None:
    """Open omissions and empty sections stand above the button, and the badge does not call them nothing."""
    encounter = world.drafted(patient)
    with world.records.write() as tx:
        stored = tx.notes.get(encounter.id)
        assert stored is not None
        kept = stored.note.model_copy(
            update={
                "statements": stored.note.statements[:1],
                "omissions": (Omission(kind="measurement", text="130 over 85", segment="s1"),),
            }
        )
        tx.notes.save(encounter.id, kept, expected_version=stored.version, actor=world.actor())
    page = browser.get(f"/encounters/{encounter.id}").text
    beside = page.split('data-testid="sign-lacks"')[1].split("</p>")[0]
    assert "1 of what was said" in beside
    assert "Nothing stands under" in beside
    assert "Nothing left to check" not in page
