"""What a program asks first: is my token good, what does this clinic offer."""

from __future__ import annotations

from typing import Final

from clinic.api.calls import Call
from clinic.api.models import SectionInfo, ServiceInfo, TemplateInfo, TokenInfo
from clinic.api.operations import Answer, Operation
from clinic.generation.template import load_template, template_ids
from clinic.records.recordings import MAX_CHUNK, MAX_CHUNKS
from clinic.speech.text import MAX_CHARACTERS

_FORMATS: Final = ("audio/webm", "audio/ogg", "audio/mpeg", "audio/mp4", "audio/wav", "audio/flac")


def token(call: Call) -> Answer:
    """Say who asks."""
    with call.reading() as tx:
        user = tx.users.get(call.token.user_id)
    return Answer(
        200,
        TokenInfo(
            id=call.token.id,
            program=call.token.name,
            clinician=user.display_name if user else "",
            scopes=tuple(sorted(call.token.scopes)),
            expires_at=call.token.expires_at,
        ),
    )


def service(call: Call) -> Answer:
    """Say what there is to choose from, and the limits."""
    templates = (load_template(template_id) for template_id in template_ids())
    return Answer(
        200,
        ServiceInfo(
            templates=tuple(
                TemplateInfo(
                    id=template.id,
                    title=template.title,
                    sections=tuple(SectionInfo(id=section.id, title=section.title) for section in template.sections),
                )
                for template in templates
            ),
            audio_formats=_FORMATS,
            max_chunk_bytes=MAX_CHUNK,
            max_chunks=MAX_CHUNKS,
            max_text_characters=MAX_CHARACTERS,
            model=call.services.model_label,
        ),
    )


OPERATIONS: Final = (
    Operation(
        name="token",
        method="GET",
        path="/token",
        scope=None,
        view=token,
        summary="The token that asks: name, scopes, expiry",
        status=200,
        answers=TokenInfo,
    ),
    Operation(
        name="service",
        method="GET",
        path="/service",
        scope=None,
        view=service,
        summary="Kinds of note, audio formats, limits",
        status=200,
        answers=ServiceInfo,
    ),
)
