"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from clinic.domain import Consent
from clinic.errors import AudioError
from clinic.generation.template import template_ids

_CHUNK = 1 << 18

consent_option = click.option(
    "--consent",
    type=click.Choice([c.value for c in Consent]),
    default=Consent.GIVEN.value,
    show_default=True,
    help="The patient's answer.  Running this command with `given` attests that you asked.",
)
audio_argument = click.argument("audio", type=click.Path(path_type=Path))
template_option = click.option(
    "--template", default="soap", show_default=True, help=f"The note's template: {', '.join(template_ids())}."
)


def chunks(data: bytes) -> Iterator[bytes]:
    """Cut bytes as a browser would send them."""
    for offset in range(0, len(data), _CHUNK):
        yield data[offset : offset + _CHUNK]


def read_audio(path: Path) -> bytes:
    """Read an audio file named on the command line.

    Raises:
        AudioError: `audio_missing` or `audio_empty`.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise AudioError(
            f"cannot read `{path}`: {exc.strerror}", code="audio_missing", hint="name an existing audio file"
        ) from None
    if not data:
        raise AudioError(f"`{path}` is empty", code="audio_empty", hint="record again")
    return data
