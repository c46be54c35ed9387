"""`clinic eval speech`: recognition, measured beside the plain recogniser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.table import Table

from clinic.cli.common import Bars, err, home_option, json_option, out, print_json
from clinic.cli.speech import config_or_default
from clinic.config import Config
from clinic.errors import TranscriptionError
from clinic.evaluation.hearing import Clip, Heard, Samples, System, generated, measure, recorded
from clinic.evaluation.recordings import read_manifest
from clinic.services import recogniser
from clinic.speech.decode import decode
from clinic.speech.whisper import WhisperTranscriber


@click.command()
@click.option(
    "--manifest",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON lines, a recording each: `id`, `file`, `reference` (what was said), `domain`.",
)
@click.option("--first", type=click.IntRange(1), default=1, show_default=True, help="The first row.")
@click.option("--last", type=click.IntRange(1), help="The last row.  Default: all.")
@click.option(
    "--generated",
    "sounds",
    type=click.IntRange(0),
    default=30,
    show_default=True,
    help="Made sounds without speech, 20 s each, that are heard as well.",
)
@click.option("--language", default="en", show_default=True, help="Language of the recordings.")
@home_option
@json_option
def speech(*, manifest: Path, first: int, last: int | None, sounds: int, language: str, as_json: bool) -> None:
    """Count the errors of recognition, and those of the plain recogniser in the same run.  Nothing is stored."""
    config = config_or_default()
    clips = [
        recorded(row, lambda data: _samples(config, data)) for row in read_manifest(manifest, first=first, last=last)
    ]
    clips += generated(sounds)
    transcriber = recogniser(config)
    found = _measured(clips, _systems(transcriber, language))
    if as_json:
        print_json(
            {
                "manifest": manifest.name,
                "first": first,
                "last": last,
                "generated": sounds,
                "model": transcriber.model,
                "model_sha256": transcriber.model_sha256,
                "systems": {name: heard.result() for name, heard in found.items()},
            }
        )
    else:
        _show(found)


def _samples(config: Config, data: bytes) -> Samples:
    return decode([data], max_duration_s=config.speech.max_duration_s).samples


def _systems(transcriber: WhisperTranscriber, language: str) -> dict[str, System]:
    def ours(samples: Samples) -> str:
        try:
            transcript = transcriber.transcribe(samples, language=language)
        except TranscriptionError as error:
            if error.code != "no_speech":
                raise
            return ""
        return " ".join(segment.text for segment in transcript.segments)

    return {"clinic": ours, "plain": lambda samples: transcriber.plain(samples, language=language)}


def _measured(clips: list[Clip], systems: dict[str, System]) -> dict[str, Heard]:
    with Bars("recordings", console=err) as bar:
        bar.report(0, len(clips))
        return measure(clips, systems, done=lambda number: bar.report(number, len(clips)))


_ROWS = (
    ("word error rate", "wer"),
    ("medical words wrong", "medical_wer"),
    ("names of drugs missed", "drug_error"),
)


def _show(found: dict[str, Heard]) -> None:
    results = {name: heard.result() for name, heard in found.items()}
    table = Table("", *results, title_justify="left")
    for label, key in _ROWS:
        table.add_row(label, *(_percent(result[key]) for result in results.values()))
    for domain in sorted({d for result in results.values() for d in result["domains"]}):
        table.add_row(f"  {domain}", *(_percent(r["domains"][domain]["wer"]) for r in results.values()))
    table.add_row("another drug heard instead", *(str(r["drugs_as_another"]) for r in results.values()))
    table.add_row("drugs heard that nobody named", *(str(r["drugs_added"]) for r in results.values()))
    table.add_row("words an hour without speech", *(_number(r["without_speech"]) for r in results.values()))
    table.add_row("real-time factor", *(str(r["real_time_factor"]) for r in results.values()))
    table.add_row("processor seconds a second", *(str(r["cpu_s_per_audio_s"]) for r in results.values()))
    out.print(table)
    one = next(iter(results.values()))
    out.print(
        f"{one['words']} words, {one['medical_words']} of them medical, {one['drugs']} names of drugs; "
        f"{one['without_speech']['clips']} clips without speech, {one['without_speech']['seconds']:.0f} s"
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _number(silent: dict[str, Any]) -> str:
    found = silent["invented_words_per_hour"]
    return "-" if found is None else f"{found:.0f}"
