"""`clinic eval speakers`: who speaks when, measured beside two simple guesses."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from clinic.cli.common import Bars, err, home_option, json_option, out, print_json
from clinic.cli.speech import config_or_default
from clinic.config import Config
from clinic.evaluation.conversations import System, Told, alternating, conversations, measure, one_speaker, read_rows
from clinic.evaluation.hearing import Samples
from clinic.evaluation.turns import Spoken
from clinic.speech.decode import decode
from clinic.speech.speakers import speech_of, tell_apart
from clinic.speech.voice import VoiceEncoder, load_voice_encoder


@click.command()
@click.option(
    "--manifest",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON lines: `id`, `file`, and `rttm` (its turns) or `speaker` (who alone speaks in it).",
)
@click.option("--seed", type=int, default=7, show_default=True, help="How conversations are made of single speakers.")
@home_option
@json_option
def speakers(*, manifest: Path, seed: int, as_json: bool) -> None:
    """Count the seconds given to the wrong speaker, beside two simple guesses in the same run.  Nothing is stored."""
    config = config_or_default()
    found = list(conversations(read_rows(manifest), lambda data: _samples(config, data), speech_of, seed=seed))
    with Bars("conversations", console=err) as bar:
        bar.report(0, len(found))
        told = measure(
            found,
            _systems(load_voice_encoder(config.models_dir)),
            done=lambda number: bar.report(number, len(found)),
        )
    if as_json:
        results = {name: one.result() for name, one in told.items()}
        print_json({"manifest": manifest.name, "seed": seed, "systems": results})
    else:
        _show(told)


def _samples(config: Config, data: bytes) -> Samples:
    return decode([data], max_duration_s=config.speech.max_duration_s).samples


def _systems(encoder: VoiceEncoder) -> dict[str, System]:
    def ours(samples: Samples) -> list[Spoken]:
        return [Spoken(turn.start, turn.end, str(turn.voice)) for turn in tell_apart(samples, encoder)]

    return {
        "clinic": ours,
        "one speaker": lambda samples: one_speaker(speech_of(samples)),
        "other after a pause": lambda samples: alternating(speech_of(samples)),
    }


_PARTS = (
    ("error rate", "der"),
    ("  of it given to another", "confused"),
    ("  of it missed", "missed"),
    ("  of it nobody spoke", "false"),
)


def _show(told: dict[str, Told]) -> None:
    results = {name: one.result() for name, one in told.items()}
    table = Table("", *results, title_justify="left")
    first = next(iter(results.values()))
    for kind, collars in first["kinds"].items():
        for collar in collars:
            table.add_row(f"{kind}, collar {collar.removeprefix('collar_')} s")
            for label, key in _PARTS:
                table.add_row(label, *(_percent(r["kinds"][kind][collar][key]) for r in results.values()))
    table.add_row("speakers counted right", *(f"{r['speakers_counted_right']}" for r in results.values()))
    table.add_row("real-time factor", *(str(r["real_time_factor"]) for r in results.values()))
    out.print(table)
    out.print(f"{first['conversations']} conversations")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
