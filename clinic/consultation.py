"""The flow: from a recording, or a text, to a signed note.

The only caller of speech, policy, generation, verification and records together.  Code and list are numbered alike;
whatever stops a step stops all later ones.

(0) Somebody is authenticated, a patient chosen, consent recorded.               `web`, `cli`
(1) Audio arrives in chunks; each is acknowledged when it is durable.             `records.recordings`
(2) Transcribe: decode in a confined child, VAD first; no speech, no transcript.  `Consultation.transcribe`
    Of a consultation the voices are told apart; what prevents that is shown, and costs no transcript.
(3) Decide: a pure function of policy set and request.                            `Consultation.generate`
(4) Release: the decision is committed to the audit log; only then may a prompt leave.
(5) A denial stops here, recorded, with reasons that a clinician understands.
(6) Generate; answer and audit entry are committed together, before anyone sees the text.
(7) Verify every statement against the transcript.                                `Consultation.store`
(8) Seal and store the draft with its audit event, in one transaction.
(9) The clinician resolves flags, edits, signs; corrections are addenda.          `web`

Every step may be repeated: it first looks for its own result.  So a job that was killed anywhere is simply run again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from clinic.audit.events import (
    GenerationCompleted,
    GenerationFailed,
    GenerationInterrupted,
    SpeakersAssigned,
    SpeakersFailed,
    TranscriptionCompleted,
    TranscriptionFailed,
)
from clinic.domain import (
    NO_MODEL,
    Action,
    Actor,
    Completion,
    DraftStatement,
    EncounterId,
    EncounterKind,
    EncounterState,
    Note,
    Prompt,
    Stage,
    Transcript,
)
from clinic.errors import (
    AudioError,
    ClinicError,
    GenerationError,
    PolicyDeniedError,
    RecordError,
    TranscriptionError,
)
from clinic.facts import Case
from clinic.failures import DENIED_PREFIX
from clinic.generation.generator import Generator
from clinic.generation.prompts import Template, build_prompt, load_template, parse
from clinic.policy.detectors.identifiers import redact_transcript
from clinic.policy.gate import ReleasedPrompt
from clinic.policy.load import PolicySet
from clinic.records.generations import StoredGeneration
from clinic.records.records import Records, Transaction
from clinic.releasing import Releasing, obligations_of, require_consent
from clinic.speech.attribution import name_speakers
from clinic.speech.decode import decode
from clinic.speech.transcriber import Transcriber, speech_ms
from clinic.speech.voice import VoiceEncoder
from clinic.verification import verify
from clinic.weights import VOICE_ENCODER

_ACTIONS = {
    EncounterKind.CONSULTATION: Action.DRAFT_NOTE,
    EncounterKind.DICTATION: Action.SUMMARISE_DICTATION,
}

_LOOK_EVERY_S: Final = 1.0

Progress = Callable[[Stage, float], None]
"""Called with a stage and how much of it is done, 0 to 1."""


class Consultation:
    """The flow over one data folder.

    Args:
        records: the unlocked records.
        policy_set: gives the active policy set, asked once per decision; with `services.PolicySource` that is the set
            that was activated last, by whichever process.  Where it raises, the answer is no.
        transcriber: gives the recogniser; called when audio is there (loading it takes seconds).
        speakers: gives what tells voices apart; None: nobody is named.
        generator: gives the model client; its identity is asked before anything is decided.
        max_audio_s: longest recording that is decoded, seconds.
        progress: told about stages and their progress.
    """

    def __init__(
        self,
        records: Records,
        *,
        policy_set: Callable[[], PolicySet],
        transcriber: Callable[[], Transcriber],
        speakers: Callable[[], VoiceEncoder] | None = None,
        generator: Callable[[], Generator],
        max_audio_s: int,
        progress: Progress | None = None,
    ) -> None:
        self._records = records
        self._releasing = Releasing(records, policy_set)
        self._transcriber = transcriber
        self._speakers = speakers
        self._generator = generator
        self._max_audio_s = max_audio_s
        self._progress = progress or (lambda _stage, _done: None)
        self._looked = 0.0

    # --- step 2 -------------------------------------------------------------------------------------

    def transcribe(self, encounter_id: EncounterId, *, actor: Actor) -> None:
        """Turn the encounter's recording into its transcript; does nothing if there is a transcript already.

        Raises:
            AudioError: the recording cannot be used.
            TranscriptionError: `no_speech`, or the recogniser failed.
            PolicyDeniedError: `consent_missing`, at the beginning or, withdrawn meanwhile, before anything is stored.
        """
        with self._records.read() as tx:
            if tx.transcripts.current(encounter_id) is not None:
                return
        self._enter(encounter_id, Stage.TRANSCRIBE)
        try:
            with self._records.read() as tx:
                require_consent(tx, encounter_id)
            self._keep(encounter_id, self._listen(encounter_id), actor)
        except (AudioError, TranscriptionError, PolicyDeniedError) as error:
            with self._records.write() as tx:
                patient_id = tx.encounters.get(encounter_id).patient_id
                event = TranscriptionFailed(encounter=encounter_id, code=error.code)
                tx.append(event, actor=actor, patient_id=patient_id)
            raise

    def _keep(self, encounter_id: EncounterId, transcript: Transcript, actor: Actor) -> None:
        with self._records.write() as tx:
            require_consent(tx, encounter_id)  # transcribing took minutes: the answer of now counts
            digest = tx.transcripts.store(encounter_id, transcript)
            event = TranscriptionCompleted(
                encounter=encounter_id,
                transcript_sha256=digest,
                model=transcript.model or "unknown",
                model_sha256=transcript.model_sha256 or "0" * 64,
                segments=len(transcript.segments),
                speech_ms=speech_ms(transcript),
            )
            patient_id = tx.encounters.get(encounter_id).patient_id
            tx.append(event, actor=actor, patient_id=patient_id)
            if (told := _speakers_event(encounter_id, transcript, digest)) is not None:
                tx.append(told, actor=actor, patient_id=patient_id)

    def _listen(self, encounter_id: EncounterId) -> Transcript:
        with self._records.read() as tx:
            recording = tx.recordings.for_encounter(encounter_id)
            if recording is None or not recording.complete:
                raise AudioError(
                    "the recording is not complete",
                    code="audio_incomplete",
                    hint="finish or upload the recording first",
                )
            audio = decode(tx.recordings.chunks(recording.id), max_duration_s=self._max_audio_s)
            encounter = tx.encounters.get(encounter_id)
        transcript = self._transcriber().transcribe(
            audio.samples,
            language=encounter.language,
            progress=lambda done: self._report(encounter_id, Stage.TRANSCRIBE, done),
        )
        if self._speakers is not None and encounter.kind is EncounterKind.CONSULTATION:  # who dictates is alone
            transcript = name_speakers(transcript, audio.samples, self._speakers)
        return transcript.model_copy(update={"truncated": audio.truncated})

    # --- steps 3 to 6 ---------------------------------------------------------------------------------

    def generate(self, encounter_id: EncounterId, *, actor: Actor) -> None:
        """Decide, record, release, generate; does nothing if a completed answer is stored already.

        Raises:
            PolicyDeniedError: a policy said no; the denial is recorded.
            GenerationError: no usable answer; the failure is recorded and the step may be tried again.
        """
        with self._records.read() as tx:
            if tx.generations.completed_for(encounter_id) is not None:
                return
        self._close_interrupted(encounter_id, actor)
        self._enter(encounter_id, Stage.DECIDE)
        generator = self._generator()
        released = self._release(self._case(encounter_id), generator, actor)
        self._enter(encounter_id, Stage.GENERATE)
        self._complete(encounter_id, released, generator, actor)

    def _close_interrupted(self, encounter_id: EncounterId, actor: Actor) -> None:
        """An authorised generation without an end is the mark of a crash: say so in the log before trying again."""
        with self._records.write() as tx:
            for generation in tx.generations.dangling(encounter_id):
                if generation.model == NO_MODEL.id:
                    continue  # a question or a document: the next one of its kind closes it
                tx.generations.interrupt(generation.id)
                event = GenerationInterrupted(generation=generation.id, authorized_seq=generation.audit_seq)
                tx.append(event, actor=actor, patient_id=tx.encounters.get(encounter_id).patient_id)

    def _case(self, encounter_id: EncounterId) -> Case:
        with self._records.read() as tx:
            encounter = tx.encounters.get(encounter_id)
            transcript = tx.transcripts.current(encounter_id)
            if transcript is None:
                raise RecordError("this encounter has no transcript yet", hint="record, upload or type something first")
            return Case(
                encounter=encounter,
                patient=tx.patients.data(encounter.patient_id),
                pseudonym=self._records.audit.pseudonym(encounter.patient_id),
                transcript=transcript,
                transcript_sha256=tx.transcripts.current_sha256(encounter_id),
            )

    def _release(self, case: Case, generator: Generator, actor: Actor) -> ReleasedPrompt:
        model, verified = generator.identity, generator.confirm()
        template = load_template(case.encounter.template)
        action = _ACTIONS[case.encounter.kind]

        def prompt(*, redact: bool) -> Prompt:
            said = redact_transcript(case.transcript, case.identifiers) if redact else case.transcript
            return build_prompt(template, said, model, action)

        return self._releasing.release(case, prompt, template, actor, model_verified=verified)

    def _complete(
        self, encounter_id: EncounterId, released: ReleasedPrompt, generator: Generator, actor: Actor
    ) -> None:
        # (6) generate
        generation, seq = released.generation, released.authorized.seq
        try:
            completion = generator.generate(
                released, progress=lambda done, total: self._report(encounter_id, Stage.GENERATE, done / max(total, 1))
            )
            obligations_of(released.authorized).check_answer(completion, released.prompt)
            with self._records.read() as tx:
                require_consent(tx, encounter_id)  # writing took a while: the answer of now counts
        except (GenerationError, PolicyDeniedError) as error:
            with self._records.write(closing=True) as tx:
                tx.generations.fail(generation, error.code)
                failed = GenerationFailed(generation=generation, authorized_seq=seq, code=error.code)
                tx.append(failed, actor=actor, patient_id=tx.encounters.get(encounter_id).patient_id)
            raise
        with self._records.write(closing=True) as tx:
            require_consent(tx, encounter_id)
            tx.generations.complete(generation, completion)
            event = GenerationCompleted(
                generation=generation,
                authorized_seq=seq,
                output_sha256=completion.sha256,
                tokens_in=completion.tokens_in,
                tokens_out=completion.tokens_out,
                attempts=completion.attempts,
            )
            tx.append(event, actor=actor, patient_id=tx.encounters.get(encounter_id).patient_id)

    # --- steps 7 and 8 --------------------------------------------------------------------------------

    def store(self, encounter_id: EncounterId, *, actor: Actor) -> None:
        """Verify the completed answer and store it as the draft note; does nothing if there is a note already.

        Raises:
            GenerationError: the answer holds no statement; it is set aside, so that the next attempt asks again.
        """
        with self._records.read() as tx:
            drafted = tx.notes.get(encounter_id) is not None
            generation = tx.generations.completed_for(encounter_id)
        if drafted:
            self._repair_state(encounter_id)
            return
        if generation is None or generation.completion is None:
            raise RecordError("this encounter has no completed generation", hint="generate first")
        self._enter(encounter_id, Stage.VERIFY)
        case = self._case(encounter_id)
        # (7) verify
        template = load_template(case.encounter.template)
        try:
            drafts = _statements(generation.completion, template, case.transcript)
            note = verify(drafts, case.transcript, template=template.id, model=generation.model)
            obligations_of(self._records.audit.entry(generation.audit_seq)).check_note(note)
        except GenerationError as error:
            self._reject(generation, error.code, actor)
            raise
        self._progress(Stage.VERIFY, 1.0)
        # (8) seal and store; the repository appends `note.drafted` in the same transaction
        self._enter(encounter_id, Stage.STORE)
        with self._records.write() as tx:
            require_consent(tx, encounter_id)
            tx.notes.store_draft(encounter_id, note, generation_id=generation.id, actor=actor)
            tx.encounters.mark(encounter_id, state=EncounterState.DRAFTED)
        self._progress(Stage.STORE, 1.0)

    def _reject(self, generation: StoredGeneration, code: str, actor: Actor) -> None:
        """Set an unusable answer aside, so that trying again asks the model again."""
        with self._records.write() as tx:
            tx.generations.reject(generation.id, code)
            event = GenerationFailed(generation=generation.id, authorized_seq=generation.audit_seq, code=code)
            tx.append(event, actor=actor, patient_id=tx.encounters.get(generation.encounter_id).patient_id)

    def _repair_state(self, encounter_id: EncounterId) -> None:
        """A job that was queued again beside a stored draft says `drafted`, instead of waiting for ever."""
        with self._records.write() as tx:
            if _is_unfinished(tx, encounter_id):
                tx.encounters.mark(encounter_id, state=EncounterState.DRAFTED)

    def is_unfinished(self, encounter_id: EncounterId) -> bool:
        """Whether the encounter is queued or running: otherwise a job has nothing to do with it."""
        with self._records.read() as tx:
            return _is_unfinished(tx, encounter_id)

    def stop(self, encounter_id: EncounterId, *, state: EncounterState, error_code: str) -> None:
        """Leave the encounter in a visible end state with the code of what stopped it."""
        with self._records.write() as tx:
            tx.encounters.mark(encounter_id, state=state, error_code=error_code)

    def run(self, encounter_id: EncounterId, *, actor: Actor) -> Note:
        """All steps in this process, for the command line; errors are recorded and raised."""
        try:
            self.transcribe(encounter_id, actor=actor)
            self.generate(encounter_id, actor=actor)
            self.store(encounter_id, actor=actor)
        except (Exception, KeyboardInterrupt) as error:
            state, code = end_of(error)
            with suppress(ClinicError):  # what went wrong first is what must be told
                self.stop(encounter_id, state=state, error_code=code)
            raise
        with self._records.read() as tx:
            stored = tx.notes.get(encounter_id)
        assert stored is not None  # noqa: S101 - step 8 has just stored it
        return stored.note

    def _report(self, encounter_id: EncounterId, stage: Stage, done: float) -> None:
        """Say how far a long step is; end it if consent was withdrawn, or the patient's record destroyed, meanwhile."""
        now = time.monotonic()
        if now - self._looked >= _LOOK_EVERY_S:
            self._looked = now
            with self._records.read() as tx:
                tx.encounters.require_living(encounter_id)
                require_consent(tx, encounter_id)
        self._progress(stage, done)

    def _enter(self, encounter_id: EncounterId, stage: Stage) -> None:
        with self._records.write() as tx:
            tx.encounters.mark(encounter_id, state=EncounterState.RUNNING, stage=stage)
        self._progress(stage, 0.0)


def _speakers_event(
    encounter_id: EncounterId, transcript: Transcript, digest: str
) -> SpeakersAssigned | SpeakersFailed | None:
    if transcript.speakers_error is not None:
        return SpeakersFailed(encounter=encounter_id, code=transcript.speakers_error)
    named = [segment.speaker for segment in transcript.segments if segment.speaker is not None]
    if not named:
        return None
    return SpeakersAssigned(
        encounter=encounter_id,
        transcript_sha256=digest,
        model=VOICE_ENCODER.name,
        model_sha256=VOICE_ENCODER.sha256,
        speakers=len(set(named)),
        segments=len(named),
    )


def end_of(error: BaseException) -> tuple[EncounterState, str]:
    """Return the state in which an error leaves its encounter, and the code that is stored: the same for every caller.

    A denial names the policies that fired (`failures.denying_policies` reads them back).
    """
    match error:
        case PolicyDeniedError(policies=policies) if policies:
            return EncounterState.DENIED, DENIED_PREFIX + ",".join(policies)
        case PolicyDeniedError(code=code):
            return EncounterState.DENIED, code
        case ClinicError(code=code):
            return EncounterState.FAILED, code
        case _:
            return EncounterState.FAILED, "unexpected"


def _statements(completion: Completion, template: Template, transcript: Transcript) -> tuple[DraftStatement, ...]:
    drafts = parse(completion, template, transcript)
    if not drafts:
        raise GenerationError(
            "the model wrote nothing", code="output_empty", hint="the transcript may hold nothing for this template"
        )
    return drafts


def _is_unfinished(tx: Transaction, encounter_id: EncounterId) -> bool:
    return tx.encounters.get(encounter_id).state in (EncounterState.QUEUED, EncounterState.RUNNING)
