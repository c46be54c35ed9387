r"""From public consultations with notes to what the adapter is trained on.

`prepare.py DATA TARGET` reads the sets below `DATA` (`aci-bench/dev`, `mts-dialog/dev`, `primock57/dev`; each of them
CC BY 4.0, see README.md) and writes `train.jsonl` and `valid.jsonl` below `TARGET`.  For the Python of `.venv`.

A line is a consultation in the words of our own prompts, with every question about it::

    {"id": "aci/D2N001",
     "ways": ["Consultation:\nDoctor: ...", ...],
     "asks": [["\n\nClinical note, section Allergies:\n", "Penicillin."], ...]}

* `ways` are the same consultation as a box hears it: speakers told or not, tidy or as a recogniser writes.
* A header in capitals asks for the terse style of MTS-Dialog, a header in words for the full style of ACI-BENCH,
  `Brief ...` for the notes of PriMock57.
* What nobody spoke of is answered with `Not discussed.`; what the verifier finds in a full note but not in what was
  said is left out of it, so that the model is not taught to invent.
"""

from __future__ import annotations

import argparse
import ast
import json
import random  # noqa: TID251 - an order that is to be repeated, no secret
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clinic.domain import DraftStatement, Segment, Transcript
from clinic.generation.prompts import section_question, shown_dialogue
from clinic.verification import verify_statement
from clinic.verification.notes import split_sentences
from clinic.verification.passages import hear

Turn = tuple[str | None, str]
"""Who spoke (None: not told), and what."""

NOTHING = "Not discussed."
SEED = 11
_LEAST_KEPT = 0.5

FULL = {
    "CHIEF COMPLAINT": "Chief complaint",
    "CC": "Chief complaint",
    "HISTORY OF PRESENT ILLNESS": "History of present illness",
    "HPI": "History of present illness",
    "REVIEW OF SYSTEMS": "Review of systems",
    "PAST HISTORY": "Past history",
    "MEDICAL HISTORY": "Past history",
    "PAST MEDICAL HISTORY": "Past history",
    "SURGICAL HISTORY": "Surgical history",
    "PAST SURGICAL HISTORY": "Surgical history",
    "SOCIAL HISTORY": "Social history",
    "FAMILY HISTORY": "Family history",
    "MEDICATIONS": "Medications",
    "CURRENT MEDICATIONS": "Medications",
    "ALLERGIES": "Allergies",
    "VITALS": "Vitals",
    "VITALS REVIEWED": "Vitals",
    "PHYSICAL EXAM": "Physical exam",
    "PHYSICAL EXAMINATION": "Physical exam",
    "EXAM": "Physical exam",
    "RESULTS": "Results",
    "ASSESSMENT": "Assessment",
    "IMPRESSION": "Assessment",
    "PLAN": "Plan",
    "ASSESSMENT AND PLAN": "Assessment and plan",
    "INSTRUCTIONS": "Instructions",
}
"""The headings of ACI-BENCH's notes, and the header that asks for them."""

_SPOKEN_OF = {
    "Allergies": r"allerg|react",
    "Surgical history": r"surg|operat|appendi|hysterect|replac|bypass|section|stent",
    "Family history": r"mother|father|family|brother|sister|parent|aunt|uncle|mom|dad",
    "Social history": r"smok|drink|alcohol|tobacco|cigar|wine|beer|work|job|live|married|wife|husband|retire|travel|"
    r"exercis|drug",
    "Medications": r"medic|\bmg\b|milligram|pill|tablet|taking|inhaler|insulin|drug|dose|vitamin|lotion|cream",
    "Vitals": r"blood pressure|temperature|pulse|heart rate|vital|oxygen|saturat|weigh|\bbp\b",
    "Physical exam": r"exam|lung|heart|tender|swell|murmur|look at|listen|press|feel|hurt",
    "Results": r"result|x-?ray|x ray|\blabs?\b|\bmri\b|echo|scan|blood work|a1c|hemoglobin|test|imag|ekg|ecg|"
    r"ultrasound",
    "MEDICATIONS": r"medic|\bmg\b|milligram|pill|tablet|taking|take|inhaler|insulin|drug|dose|vitamin|aspirin|tylenol",
    "ALLERGY": r"allerg|react|rash|hives",
    "PASTSURGICAL": r"surg|operat|appendi|ectomy|replac|bypass|section|stent|procedure|remov|tonsil|hernia",
    "FAM/SOCHX": r"mother|father|famil|brother|sister|parent|mom|dad|smok|drink|alcohol|tobacco|cigar|work|job|live|"
    r"married|wife|husband|retire|school|kid|child|son|daughter|drug",
    "EXAM": r"exam|lung|heart|tender|swell|murmur|look|listen|feel|pressure|temperature|skin|eye|ear|throat|\bvital",
    "LABS": r"lab|blood|result|test|hemoglobin|glucose|potassium|creatinine|urine",
    "IMAGING": r"x-?ray|x ray|\bmri\b|scan|ultrasound|imag|echo|\bct\b|cat",
    "PLAN": r"plan|follow|prescri|will|going to|recommend|need|should|refer|start|stop|let's|we'll|i'll|try|want",
}
"""A header may be answered with `Not discussed.` only where none of this was said."""


@dataclass
class Visit:
    """One consultation: how it can be shown, and every header with what a person wrote under it."""

    id: str
    ways: list[list[Turn]]
    asks: list[tuple[str, str]]
    full: bool = field(default=True)
    """Whether its notes are cleaned of what was not said."""


# --- the sets


def aci(folder: Path, split: str) -> Iterator[Visit]:
    """Yield ACI-BENCH: whole visits, every section of the note."""
    heard: dict[str, list[Turn]] = {}
    for variant in sorted(folder.glob(f"asr_variants/{split}_*.jsonl")):
        heard |= {row["id"]: _bracketed(row["dialogue"]) for row in _rows(variant) if "human" not in variant.name}
    notes = {
        json.dumps(row["note"]): row["id"]
        for variant in folder.glob(f"asr_variants/{split}_*.jsonl")
        for row in _rows(variant)
    }
    for row in _rows(folder / f"{split}.jsonl"):
        raw = _bracketed(row["dialogue"])
        told = [(who, tidy(text)) for who, text in raw]
        asr = heard.get(notes.get(json.dumps(row["note"]), ""))
        ways = [told, untold(told), raw, untold([(w, tidy(t)) for w, t in asr]) if asr else untold(told)]
        yield Visit(f"aci/{row['id']}", ways, list(full_sections(row["note"])))


def mts(folder: Path, split: str) -> Iterator[Visit]:
    """Yield MTS-Dialog: a short dialogue and one section."""
    for row in _rows(folder / f"{split}.jsonl"):
        told: list[Turn] = [m.groups() for line in row["dialogue"].splitlines() if (m := _COLON.match(line))]  # type: ignore[misc]
        target = " ".join(row["section_text"].split())
        yield Visit(f"mts/{row['id']}", [told, untold(told)], [(row["section_header"], target)], full=False)


def primock(folder: Path) -> Iterator[Visit]:
    """Yield PriMock57: consultations by video, brief notes; what recognisers heard as a further way."""
    heard = {row["id"]: row["asr"] for row in _rows(folder / "asr_hypotheses_day1-3.jsonl")}
    for row in _rows(folder / "day1-3.jsonl"):
        told: list[Turn] = [(t["speaker"], text) for t in row["turns"] if (text := _MARKS.sub("", t["text"]).strip())]
        asr = heard[row["id"]]
        asr = asr if isinstance(asr, dict) else ast.literal_eval(asr)
        texts = [text for name, text in sorted(asr.items()) if "large-v3" in name or "turbo" in name]
        ways = [told, untold(told), *([(None, s) for s in split_sentences(t)] for t in texts[:1])]
        yield Visit(f"primock/{row['id']}", ways, list(brief_sections(row["note"])))


def dictations(visits: list[Visit]) -> Iterator[Visit]:
    """Yield full notes read out as a dictation, to be put back under their headers."""
    choose = random.Random(SEED)  # noqa: S311
    for visit in visits:
        parts = [text.replace("\n", " ") for _, text in visit.asks]
        spoken = [(None, s) for part in parts for s in split_sentences(part)]
        plain = [(None, re.sub(r"[,.;:]", "", s).lower()) for _, s in spoken]
        commands = [(None, f"{s.rstrip('.')} full stop" if choose.random() < 0.3 else s) for _, s in spoken]  # noqa: PLR2004
        yield Visit(f"dictation/{visit.id[4:]}", [list(spoken), list(commands), list(plain)], visit.asks, full=False)


# --- dialogues

_COLON = re.compile(r"\s*([A-Za-z_0-9]+):\s*(.*)")
_BRACKET = re.compile(r"\[(doctor|patient|\w+)\]\s*(.*?)(?=\s*\[(?:doctor|patient|patient_guest)\]|\Z)", re.DOTALL)
_MARKS = re.compile(r"</?[A-Z_]+/?>")


def _bracketed(text: str) -> list[Turn]:
    return [(who, " ".join(said.split())) for who, said in _BRACKET.findall(text) if said.strip()]


def untold(turns: list[Turn]) -> list[Turn]:
    """Return the same without speakers, a sentence a line, as a recogniser gives it."""
    return [(None, sentence) for _, text in turns for sentence in split_sentences(text)]


def tidy(text: str) -> str:
    """Return a tokenised or unpunctuated text as a recogniser writes it: spaces, contractions, capitals."""
    text = re.sub(r"\s+([,.?!;:%])", r"\1", text)
    text = re.sub(r"\b(\w+) (n't)\b", r"\1\2", text)
    text = re.sub(r"\s+('(?:s|m|re|ve|ll|d))\b", r"\1", text)
    text = re.sub(r"\b(can|gon|wan) (not|na)\b", r"\1\2", text)
    text = re.sub(r"\bi\b", "I", text)
    return re.sub(r"(^|[.?!]\s+)([a-z])", lambda m: m[1] + m[2].upper(), text)


# --- notes

_HEADING = re.compile(r"^([A-Z][A-Z &/']+?):?$")
_BULLET = re.compile(r"^(?:[-*\u2022\u00b7]|\d{1,2}[.)])\s*")
_BRIEF = re.compile(
    r"^(?P<background>PMH|PMHx|PSH|DH|DHx|FH|FHx|SH|SHx|Allerg\w*|NKDA|DHx/allergies)\b|"
    r"^(?P<assessment>Imp|Impression|Dx|Diagnosis)\s*:|^(?P<plan>Plan|Mx|Management)\s*:?",
    re.IGNORECASE,
)


def full_sections(note: str) -> Iterator[tuple[str, str]]:
    """Yield (header, text) of a note of ACI-BENCH; parts that share a header are joined."""
    found: dict[str, list[str]] = {}
    header = ""
    for line in note.splitlines():
        heading = _HEADING.match(line.strip())
        if heading and heading[1].strip() in FULL:
            header = FULL[heading[1].strip()]
        elif header and line.strip():
            found.setdefault(header, []).append(line.strip())
    for name, lines in found.items():
        if text := "\n".join(_lines(lines)):
            yield name, text


def _lines(lines: list[str]) -> Iterator[str]:
    """Yield the lines without bullets; a heading alone goes in front of the line below it."""
    pending = ""
    for line in lines:
        text = " ".join(_BULLET.sub("", line).replace("\u2019", "'").split())
        if re.fullmatch(r"[A-Z][A-Za-z,/ ]{2,40}", text) and line[0].isalpha():
            pending = f"{text}: "
        elif text:
            yield pending + text
            pending = ""


def brief_sections(note: str) -> Iterator[tuple[str, str]]:
    """Yield (header, text) of a note of PriMock57."""
    found: dict[str, list[str]] = {}
    part = "history"
    for line in note.splitlines():
        text = " ".join(_BULLET.sub("", line.strip()).split())
        mark = _BRIEF.match(text)
        if mark:
            part = str(mark.lastgroup)
            if part != "background":
                text = text[mark.end() :].lstrip(" :")
        if text:
            found.setdefault(f"Brief {part}", []).append(text)
    for header, lines in found.items():
        yield header, "\n".join(lines)


def said_only(text: str, header: str, turns: list[Turn]) -> str:
    """Return `text` without the sentences that the verifier finds no support for; empty where little is left."""
    heard = hear(_transcript(turns))
    kept, of, lines = 0, 0, []
    for line in text.split("\n"):
        sentences = list(split_sentences(line))
        good = [s for s in sentences if not _is_unsupported(s, header, heard)]
        kept, of = kept + len(good), of + len(sentences)
        lines.append(" ".join(good))
    return "\n".join(line for line in lines if line) if kept >= _LEAST_KEPT * of else ""


def _is_unsupported(sentence: str, header: str, heard: Any) -> bool:
    draft = DraftStatement(section=header, text=sentence)
    return bool(verify_statement(draft, heard, statement_id="n1").reasons)


def _transcript(turns: list[Turn]) -> Transcript:
    return Transcript(segments=tuple(Segment(id=f"s{i}", speaker=w, text=t) for i, (w, t) in enumerate(turns, 1)))


# --- questions about what nobody spoke of


def not_discussed(visit: Visit, choose: random.Random, headers: list[str], most: int) -> list[tuple[str, str]]:
    """Return up to `most` headers that nothing in the visit belongs to."""
    said = " ".join(text.lower() for _, text in visit.ways[0])
    asked = {header for header, _ in visit.asks}
    free = [h for h in headers if h not in asked and not re.search(_SPOKEN_OF[h], said)]
    return [(h, NOTHING) for h in choose.sample(free, min(most, len(free)))]


# --- lines


def shown(turns: list[Turn]) -> str:
    """Return a consultation as our own prompts show it."""
    return shown_dialogue(Segment(id="s1", speaker=who, text=text) for who, text in turns if text.strip())


def training_line(visit: Visit, choose: random.Random) -> dict[str, Any]:
    """Return what is written for one visit."""
    full = [h for h in _SPOKEN_OF if not h.isupper()]
    terse = [h for h in _SPOKEN_OF if h.isupper()]
    asks = visit.asks
    if visit.full:
        asks = [(h, text) for h, raw in asks if (text := said_only(raw, h, visit.ways[0]))]
        asks += not_discussed(visit, choose, full, 2)
    elif visit.id.startswith("mts/") and choose.random() < 0.3:  # noqa: PLR2004
        asks = asks + not_discussed(visit, choose, terse, 1)
    return line(visit, asks)


def line(visit: Visit, asks: list[tuple[str, str]]) -> dict[str, Any]:
    """Return a visit as it is written, each question in the words of our prompts."""
    questions = [(section_question(header), answer) for header, answer in asks]
    return {"id": visit.id, "ways": [shown(way) for way in visit.ways], "asks": questions}


def main() -> None:
    """Write `train.jsonl` and `valid.jsonl`."""
    parser = argparse.ArgumentParser(description="public consultations to training examples")
    parser.add_argument("data", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    args.target.mkdir(parents=True, exist_ok=True)
    visits = list(aci(args.data / "aci-bench" / "dev", "train"))
    train = [*mts(args.data / "mts-dialog" / "dev", "train"), *visits, *dictations(visits)]
    train += primock(args.data / "primock57" / "dev")
    choose = random.Random(SEED)  # noqa: S311
    _write(args.target / "train.jsonl", train, lambda visit: training_line(visit, choose))
    valid = [*mts(args.data / "mts-dialog" / "dev", "valid"), *aci(args.data / "aci-bench" / "dev", "valid")]
    _write(args.target / "valid.jsonl", valid, lambda visit: line(visit, visit.asks))


def _write(path: Path, visits: list[Visit], made: Callable[[Visit], dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as out:
        for visit in visits:
            out.write(json.dumps(made(visit), ensure_ascii=False) + "\n")
    print(f"{path.name}: {len(visits)} consultations")


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


if __name__ == "__main__":
    main()
