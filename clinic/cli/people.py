"""`clinic patient import`: patients from another system's FHIR file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from clinic.cli.common import home_option, json_option, open_here, out, print_json
from clinic.domain import OPERATOR
from clinic.errors import InputError
from clinic.interop.people import LARGEST_BYTES, Fate, add_patients, read_patients

_SAID = {
    Fate.ADDED: "added",
    Fate.KNOWN: "here already",
    Fate.DIFFERS: "here already, but name, date of birth or sex differ: look at both",
    Fate.UNCLEAR: "not added, somebody of that name is here and nothing tells them apart: look, add by hand",
}


@click.command("import")
@click.argument("source", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@home_option
@json_option
def import_patients(*, source: Path, as_json: bool) -> None:
    """Add the patients of a FHIR R4 file (a Bundle, or one Patient) that are not here yet.

    All of FILE is taken or nothing.  Nobody who is here already is changed, and nobody is added twice.
    """
    people = read_patients(_read(source))
    _, _, records = open_here()
    with records.write() as tx:
        done = add_patients(tx, people, actor=OPERATOR)
    if as_json:
        print_json([{"number": one.number, "id": one.id, "fate": one.fate.value} for one in done])
        return
    for one in done:
        if one.fate is not Fate.KNOWN:
            out.print(f"{one.number:>6}  {one.id}  {_SAID[one.fate]}", markup=False)
    counts = Counter(one.fate for one in done)
    out.print(", ".join(f"{counts[fate]} {fate.value}" for fate in Fate), markup=False)


def _read(source: Path) -> bytes:
    try:
        with source.open("rb") as file:
            return file.read(LARGEST_BYTES + 1)
    except OSError as exc:
        raise InputError("the file cannot be read", hint=f"{exc.strerror}: check the path") from exc
