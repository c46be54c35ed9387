"""Measure an adapter as the box runs it: llama.cpp on the packaged weights, our prompts, our parser.

`evaluate.py EXAMPLES BASE.gguf ADAPTER.gguf [--template FILE] [--visits N] [--sections N]`: `EXAMPLES` is the folder
that `prepare.py` wrote; only its validation half is read.  For the Python of `.venv`.  Two numbers come out:

* sections: single sections of MTS-Dialog, asked as the examples ask;
* notes: whole visits of ACI-BENCH through a note template, against everything in the clinician's note.

ROUGE F-measures times 100 (Lin 2004, the package `rouge-score` with stemming), and how many of the statements the
verifier lets through without a mark: a note that resembles the clinician's by inventing is no better.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile  # noqa: TID251 - a folder for a socket; no text is written
import time
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rouge_score.rouge_scorer import RougeScorer

from clinic.domain import (
    Action,
    Completion,
    DraftStatement,
    ModelIdentity,
    PromptPart,
    PromptStyle,
    SectionText,
    Segment,
    Transcript,
)
from clinic.generation import llama_child
from clinic.generation.parsing import parse
from clinic.generation.prompts import build_prompt
from clinic.generation.template import Template, load_template
from clinic.verification import verify_statement
from clinic.verification.passages import hear

_CONTEXT = 8192
_SECTION_TOKENS = 128
_STOP = ("\n\n", "\nDoctor:", "\nPatient:", "\nConsultation:", "\nClinical note")
_LINE = re.compile(r"(\w+): (.*)")
_IDENTITY = ModelIdentity(id="x", sha256="", profile="x", style=PromptStyle.COMPLETION, context_tokens=_CONTEXT)


class Model:
    """llama.cpp with weights and an adapter, in this process."""

    def __init__(self, base: Path, adapter: Path, threads: int, folder: Path) -> None:
        """Load; `folder` takes the socket that nobody uses."""
        import xllamacpp

        args = argparse.Namespace(model=base, adapter=adapter, name="x", context=_CONTEXT, threads=threads)
        self._server = xllamacpp.Server(llama_child.parameters(args, folder / "x.sock"))

    def answer(self, part: PromptPart) -> SectionText:
        """Answer one part as the client asks it: greedy, up to its stops."""
        body = {"prompt": part.text, "max_tokens": part.max_tokens, "temperature": 0, "seed": 1, "stop": [*part.stop]}
        choice = self._server.handle_completions(body | {"n_predict": part.max_tokens})["choices"][0]
        return SectionText(section=part.section, text=choice["text"], finish_reason=choice["finish_reason"])


def rouge(pairs: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Return the mean F-measures of (what a person wrote, what the model wrote), times 100."""
    scorer = RougeScorer(["rouge1", "rouge2", "rougeLsum"], use_stemmer=True)
    scores = [scorer.score(wanted, got) for wanted, got in pairs]
    return {name: round(100 * sum(s[name].fmeasure for s in scores) / len(scores), 1) for name in scores[0]}


def sections(model: Model, rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Ask each row its first question: (what a person wrote, what the model wrote)."""
    pairs = []
    for row in rows:
        question, wanted = row["asks"][0]
        part = PromptPart(section="x", text=row["ways"][0] + question, max_tokens=_SECTION_TOKENS, stop=_STOP)
        pairs.append((wanted, model.answer(part).text.strip()))
    return pairs


def note(model: Model, template: Template, transcript: Transcript) -> tuple[DraftStatement, ...]:
    """Draft a whole note through the template."""
    prompt = build_prompt(template, transcript, _IDENTITY, Action.DRAFT_NOTE)
    answers = tuple(model.answer(part) for part in prompt.parts)
    return parse(Completion(sections=answers, tokens_in=0, tokens_out=0, attempts=1), template, transcript)


def transcript(way: str) -> Transcript:
    """Return the dialogue of an example as a transcript."""
    lines = [m.groups() for line in way.splitlines()[1:] if (m := _LINE.fullmatch(line))]
    spoken = [(None if who == "Speaker" else who.lower(), text) for who, text in lines]
    return Transcript(segments=tuple(Segment(id=f"s{n}", speaker=w, text=t) for n, (w, t) in enumerate(spoken, 1)))


def unmarked(statements: Sequence[DraftStatement], said: Transcript) -> int:
    """Count the statements in which the verifier finds nothing to warn of."""
    heard = hear(said)
    return sum(not verify_statement(s, heard, statement_id=f"n{n}").reasons for n, s in enumerate(statements))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="measure the note-writing adapter")
    parser.add_argument("examples", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--template", type=Path, help="a template file; otherwise the SOAP note of the program")
    parser.add_argument("--sections", type=int, default=100, help="how many single sections (0: none)")
    parser.add_argument("--visits", type=int, default=20, help="how many whole visits (0: none)")
    parser.add_argument("--way", type=int, default=0, help="0: speakers told; 1: not told")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--show", action="store_true", help="print the notes: public data, no patients")
    args = parser.parse_args()
    lines = (args.examples / "valid.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    short = [row for row in rows if row["id"].startswith("mts/")][: args.sections]
    visits = [row for row in rows if row["id"].startswith("aci/")][: args.visits]
    template = load_template("soap")
    if args.template is not None:
        template = Template(**tomllib.loads(args.template.read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory() as folder:
        model = Model(args.base, args.adapter, args.threads, Path(folder))
        if short:
            print(f"sections: {len(short)}, {rouge(sections(model, short))}", flush=True)
        pairs, counts, started = [], [], time.monotonic()
        for row in visits:
            said = transcript(row["ways"][args.way])
            drafts = note(model, template, said)
            text = "\n".join(draft.text for draft in drafts)
            pairs.append(("\n".join(answer for _, answer in row["asks"]), text))
            counts.append((len(drafts), unmarked(drafts, said), len(text.split())))
            if args.show:
                print(row["id"], *(f"{draft.section}: {draft.text}" for draft in drafts), sep="\n", flush=True)
        if visits:
            made, good, words = (sum(column) for column in zip(*counts, strict=True))
            seconds = (time.monotonic() - started) / len(visits)
            print(f"notes: {len(visits)}, {rouge(pairs)}, {seconds:.0f} s each")
            print(f"{made} statements, {good} unmarked, {words} words")


if __name__ == "__main__":
    main()
