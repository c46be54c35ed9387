"""`clinic transcribe`."""

from __future__ import annotations

from pathlib import Path

import click

from clinic.cli.common import err, home_option, home_path, json_option, load_config, out, print_json
from clinic.cli.options import audio_argument, chunks, read_audio
from clinic.cli.report import first_heard
from clinic.config import Config
from clinic.headless import TRANSCRIPT_FIELDS
from clinic.services import recogniser
from clinic.speech.attribution import name_speakers
from clinic.speech.decode import decode
from clinic.speech.subtitles import to_srt, to_vtt
from clinic.speech.voice import load_voice_encoder


@click.command()
@audio_argument
@click.option("--language", help="Language of the recording, such as `en`.  Default: detected.")
@click.option("--srt", "form", flag_value="srt", help="Print SubRip subtitles.")
@click.option("--vtt", "form", flag_value="vtt", help="Print WebVTT subtitles.")
@click.option("--speakers/--no-speakers", default=None, help="Tell voices apart.  Default: as configured, else yes.")
@home_option
@json_option
def transcribe(audio: Path, *, language: str | None, form: str | None, speakers: bool | None, as_json: bool) -> None:
    """Transcribe AUDIO and print it, with who speaks where several do; nothing is stored."""
    config = config_or_default()
    decoded = decode(chunks(read_audio(audio)), max_duration_s=config.speech.max_duration_s)
    transcript = recogniser(config).transcribe(decoded.samples, language=language or config.speech.language)
    if config.speech.speakers if speakers is None else speakers:
        transcript = name_speakers(transcript, decoded.samples, lambda: load_voice_encoder(config.models_dir))
    if transcript.speakers_error is not None:
        code = transcript.speakers_error
        err.print(f"who speaks could not be told apart ({code}); `clinic doctor` looks for the cause", markup=False)
    if form == "srt":
        click.echo(to_srt(transcript), nl=False)
    elif form == "vtt":
        click.echo(to_vtt(transcript), nl=False)
    elif as_json:
        print_json(transcript.model_dump(mode="json", include=TRANSCRIPT_FIELDS))
    else:
        for segment in transcript.segments:
            who = f"{segment.speaker}: " if segment.speaker else ""
            out.print(f"[{segment.start or 0:7.1f}s] {who}{segment.text}{first_heard(segment)}", markup=False)


def config_or_default() -> Config:
    """Return the configuration of the data folder, or that of none: transcribing needs no data folder."""
    home = home_path()
    if (home / "clinic.toml").exists():
        return load_config()
    # Without a data folder the weights go to the user's cache, so that a later `clinic init` finds its place empty.
    return Config(home=home, models=Path.home() / ".cache" / "clinic" / "models")
