"""`clinic consult` and `demo`: the whole flow without the web form."""

from __future__ import annotations

from pathlib import Path

import click

from clinic.cli.common import err, home_option, home_path, json_option, load_config, open_here, out, stage_progress
from clinic.cli.options import audio_argument, chunks, consent_option, read_audio, template_option
from clinic.cli.report import show, tell_red_flags
from clinic.cli.setup import bring_up_to_date
from clinic.config import KeySource
from clinic.domain import Consent
from clinic.headless import consult_audio
from clinic.home import HomeOptions, create


@click.command()
@audio_argument
@click.option(
    "--patient", "patient_id", help="Id of the patient (`clinic patient list`).  Default: a new, unnamed one."
)
@template_option
@click.option("--language", help="Language of the recording, such as `en`.  Default: detected.")
@consent_option
@home_option
@json_option
def consult(
    audio: Path, *, patient_id: str | None, template: str, language: str | None, consent: str, as_json: bool
) -> None:
    """Take the recording AUDIO through the whole flow: transcript, decision, draft note."""
    data = read_audio(audio)
    config, _, records = open_here()
    with stage_progress(enabled=not as_json) as progress:
        outcome = consult_audio(
            config,
            records,
            chunks(data),
            mime="application/octet-stream",
            patient_id=patient_id,
            template=template,
            language=language,
            consent=Consent(consent),
            progress=progress,
            heard=tell_red_flags,
        )
    show(outcome, as_json=as_json)


@click.command()
@click.option("--models", type=click.Path(file_okay=False, path_type=Path), help="Where assembled weights are kept.")
@home_option
@json_option
def demo(*, models: Path | None, as_json: bool) -> None:
    """Take the sample consultation through the whole flow on a demonstration data folder."""
    home = home_path()
    if not (home / "clinic.toml").exists():
        err.print(
            f"creating a demonstration data folder in {home} (development key file, not for patients)", markup=False
        )
        create(home, HomeOptions(insecure_key_file=True, models=models))
    elif (older := load_config()).key_source is KeySource.INSECURE_KEY_FILE:
        bring_up_to_date(
            older
        )  # a demonstration of an older program; a clinic's own folder is left to `clinic migrate`
    config, _, records = open_here()
    sample = Path(__file__).parent.parent / "demo" / "sample.flac"
    with stage_progress(enabled=not as_json) as progress:
        outcome = consult_audio(
            config,
            records,
            chunks(sample.read_bytes()),
            mime="audio/flac",
            patient_id=None,
            template="soap",
            language="en",
            consent=Consent.GIVEN,
            progress=progress,
            heard=tell_red_flags,
        )
    show(outcome, as_json=as_json)
    if not as_json:
        out.print(
            f"\nopen the web form:  clinic serve --home {home} --demo   (after `make demo`: make serve)", markup=False
        )
        out.print(f"look around:        export CLINIC_HOME={home}; clinic audit tail; clinic doctor", markup=False)
