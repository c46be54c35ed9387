"""Having a document drafted: decide, record, put together, store.

Rules kept here:

* The policy is asked for every document, with the model `none`, and its answer is committed before a sentence is taken.
* The permission is used once and within ten seconds, like that of a prompt, though no model is asked.
* What the decision obliges to (length, plainness, evidence) is held against the text before it is stored.
* Answer, document and their entries are one transaction: there is no half of them.
"""

from __future__ import annotations

from collections.abc import Callable

from clinic.audit.events import GenerationCompleted, GenerationFailed, GenerationInterrupted
from clinic.documents.assembly import assemble, document_of
from clinic.documents.source import Source, source_of
from clinic.documents.template import DocumentTemplate
from clinic.domain import NO_MODEL, Action, Actor, Document, EncounterId, Prompt, PromptField
from clinic.errors import ClinicError, GenerationError, PolicyDeniedError, RecordError
from clinic.facts import Case
from clinic.policy.gate import ReleasedPrompt
from clinic.policy.load import PolicySet
from clinic.records.documents import StoredDocument
from clinic.records.notes import StoredNote
from clinic.records.records import Records
from clinic.releasing import Releasing, obligations_of, require_consent

_FIELDS = {
    Action.LETTER: (PromptField.NOTE, PromptField.PATIENT_NAME, PromptField.DATE_OF_BIRTH, PromptField.SEX),
    Action.PATIENT_INSTRUCTIONS: (PromptField.NOTE,),
}
"""What of the record a document shows; the policy allows each action its own."""


class Drafting:
    """Drafts documents over one data folder.  `policy_set` gives the active set; where it raises, the answer is no."""

    def __init__(self, records: Records, policy_set: Callable[[], PolicySet]) -> None:
        self._records = records
        self._releasing = Releasing(records, policy_set)

    def draft(
        self, encounter_id: EncounterId, template: DocumentTemplate, *, actor: Actor, recipient: str = ""
    ) -> StoredDocument:
        """Draft a document from the signed note of an encounter.

        Raises:
            PolicyDeniedError: a policy said no; the denial is recorded.
            GenerationError: `output_empty` if the note holds nothing for it, `output_forbidden`.
            RecordError: `record_unknown`, `step_unavailable` if there is no note.
        """
        self._close_interrupted(encounter_id, actor)
        case, stored = self._case(encounter_id)
        released = self._release(case, template, actor)
        generation, seq = released.generation, released.authorized.seq
        try:
            released.claim()  # used once, within its time, and still what was recorded
            source = source_of(stored)
            completion = assemble(template, source)
            obligations = obligations_of(released.authorized)
            obligations.check_answer(completion, released.prompt)
            document = document_of(template, source, recipient=recipient)
            obligations.check_note(document.text)
            self._require_something(document)
            with self._records.write(closing=True) as tx:
                require_consent(tx, encounter_id)
                tx.generations.complete(generation, completion)
                event = GenerationCompleted(
                    generation=generation,
                    authorized_seq=seq,
                    output_sha256=completion.sha256,
                    tokens_in=0,
                    tokens_out=0,
                    attempts=0,
                )
                tx.append(event, actor=actor, patient_id=case.encounter.patient_id)
                return tx.documents.store_draft(document, generation_id=generation, actor=actor)
        except (GenerationError, RecordError, PolicyDeniedError) as error:
            self._fail(case, released, error, actor)
            raise

    def _release(self, case: Case, template: DocumentTemplate, actor: Actor) -> ReleasedPrompt:
        def nothing(*, redact: bool) -> Prompt:
            del redact  # it holds no text of the record, and goes to nobody
            return Prompt(
                action=template.action,
                template=template.id,
                template_sha256=template.sha256,
                model=NO_MODEL,
                parts=(),
                fields=_FIELDS[template.action],
            )

        return self._releasing.release(case, nothing, template, actor, model_verified=True)

    def _case(self, encounter_id: EncounterId) -> tuple[Case, StoredNote]:
        with self._records.read() as tx:
            encounter = tx.encounters.get(encounter_id)
            stored = tx.notes.get(encounter_id)
            if stored is None or tx.transcripts.current(encounter_id) is None:
                raise RecordError(
                    "this encounter has no note", code="step_unavailable", hint="read and sign its note first"
                )
            case = Case(
                encounter=encounter,
                patient=tx.patients.data(encounter.patient_id),
                pseudonym=self._records.audit.pseudonym(encounter.patient_id),
                # What there is to work from is the note; the transcript is named, for the log, by its digest.
                transcript=_read(stored).transcript,
                transcript_sha256=tx.transcripts.current_sha256(encounter_id),
            )
        return case, stored

    def _close_interrupted(self, encounter_id: EncounterId, actor: Actor) -> None:
        """A permission without an end is the mark of a crash: say so before the next one."""
        with self._records.read() as tx:
            if not tx.generations.dangling(encounter_id):
                return
        with self._records.write() as tx:
            for generation in tx.generations.dangling(encounter_id):
                if generation.model != NO_MODEL.id:
                    continue  # the worker's: it closes its own
                tx.generations.interrupt(generation.id)
                event = GenerationInterrupted(generation=generation.id, authorized_seq=generation.audit_seq)
                tx.append(event, actor=actor, patient_id=tx.encounters.get(encounter_id).patient_id)

    def _fail(self, case: Case, released: ReleasedPrompt, error: ClinicError, actor: Actor) -> None:
        with self._records.write(closing=True) as tx:
            if released.generation not in {g.id for g in tx.generations.dangling(case.encounter.id)}:
                return
            tx.generations.fail(released.generation, error.code)
            event = GenerationFailed(
                generation=released.generation, authorized_seq=released.authorized.seq, code=error.code
            )
            tx.append(event, actor=actor, patient_id=case.encounter.patient_id)

    @staticmethod
    def _require_something(document: Document) -> None:
        if not document.text.statements:
            raise GenerationError(
                "the note holds no sentence for this document",
                code="output_empty",
                hint="choose another kind of document, or write it by hand",
            )


def _read(stored: StoredNote) -> Source:
    """Read a note for the policy; of one that is not signed the policy says no, so its sentences are not needed."""
    return source_of(stored) if stored.signed else Source((), "0" * 64)
