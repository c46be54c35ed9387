"""`clinic eval`: measure a part of the program on material with known answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.table import Table

from clinic.cli.common import json_option, out, print_json
from clinic.cli.evaluate_speakers import speakers
from clinic.cli.evaluate_speech import speech
from clinic.evaluation.material import read_visits
from clinic.evaluation.measure import Tally, measure, summary
from clinic.evaluation.similarity import load_minilm


@click.group("eval")
def evaluate() -> None:
    """Measure on material with known answers; offline, nothing is stored."""


evaluate.add_command(speech)
evaluate.add_command(speakers)


@evaluate.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--first", type=click.IntRange(1), default=1, show_default=True, help="The first row of each file.")
@click.option("--last", type=click.IntRange(1), help="The last row of each file.  Default: all.")
@click.option("--seed", type=int, default=7, show_default=True, help="Which errors are planted.")
@click.option("--embeddings", is_flag=True, help="A second baseline, by sentence embeddings (MiniLM, slow).")
@json_option
def notes(*, files: tuple[Path, ...], first: int, last: int | None, seed: int, embeddings: bool, as_json: bool) -> None:
    """Plant errors in notes by people and count what verification finds, for each of FILES (JSON lines)."""
    results: list[dict[str, Any]] = []
    embed = load_minilm().embed if embeddings else None
    for path in files:
        tally = measure(read_visits(path, first=first, last=last), seed=seed, embed=embed)
        results.append({"file": path.name, "first": first, "last": last, "seed": seed, **tally.result()})
        if not as_json:
            _show(path.name, tally)
    if as_json:
        print_json({"results": results})


def _show(name: str, tally: Tally) -> None:
    whole = tally.result()
    table = Table(
        "planted", "n", "caught", "missed", "%", "95 %", "overlap %", "embedding %", title=name, title_justify="left"
    )
    for row in summary(tally):
        table.add_row(*row)
    out.print(table)
    false = whole["false_flags"]
    low, high = (100 * x for x in false["interval"])
    out.print(
        f"untouched: {false['flagged']} of {whole['statements']} statements flagged ({low:.0f}-{high:.0f} %), "
        f"{whole['visits']} visits, {whole['cpu_s_per_visit']} s of processor time each"
    )
