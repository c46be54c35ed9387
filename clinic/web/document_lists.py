"""Documents in lists: on the encounter's page and on the patient's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from clinic.documents.template import DocumentTemplate, document_ids, load_document_template, title_of
from clinic.domain import EncounterId
from clinic.records.documents import ListedDocument


@dataclass(frozen=True, slots=True)
class DocumentView:
    """A document with its title."""

    document: ListedDocument
    title: str


def kinds() -> tuple[DocumentTemplate, ...]:
    """Return the kinds of documents that a clinician can choose."""
    return tuple(load_document_template(template_id) for template_id in document_ids())


def listing(documents: Iterable[ListedDocument]) -> tuple[DocumentView, ...]:
    """Return documents as they are listed: what was discarded is left out."""
    return tuple(DocumentView(d, title_of(d.template)) for d in documents if d.state != "discarded")


def by_encounter(views: Iterable[DocumentView]) -> dict[EncounterId, list[DocumentView]]:
    """Return listed documents by the encounter whose note they were made from."""
    grouped: dict[EncounterId, list[DocumentView]] = {}
    for view in views:
        grouped.setdefault(view.document.encounter_id, []).append(view)
    return grouped
