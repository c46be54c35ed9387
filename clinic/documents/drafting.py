"""Having a document drafted: decide, record, put together, store.

Rules kept here:

* The policy is asked for every document, with the model `none`, and its answer is committed before a sentence is taken.
* The permission is used once and within ten seconds, like that of a prompt, though no model is asked.
* What the decision obliges to (length, plainness, evidence) is held against the text before it is stored.
* Answer, document and their entries are one transaction: there is no half of them.
"""

from __future__ import annotations

from collections.abc import Callable

from clinic.documents import ending
from clinic.documents.assembly import assemble, document_of
from clinic.documents.source import Source, source_of
from clinic.documents.template import DocumentTemplate
from clinic.domain import NO_MODEL, Action, Actor, Document, EncounterId, Prompt, PromptField
from clinic.errors import GenerationError, PolicyDeniedError, RecordError
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
        ending.close_interrupted(self._records, encounter_id, actor)
        case, stored = self._case(encounter_id)
        released = self._release(case, template, actor)
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
                ending.complete(tx, case.encounter, released, completion, actor)
                return tx.documents.store_draft(document, generation_id=released.generation, actor=actor)
        except (GenerationError, RecordError, PolicyDeniedError) as error:
            ending.fail(self._records, case.encounter, released, error, actor)
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
