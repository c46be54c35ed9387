"""The small Gemma 4, taught a script by heart: `scripted_gemma4.py SMALL SCRIPT.json TARGET`.

Run with the Python of `.venv-vllm`.  Greedy decoding then plays the script, so that the real server, with its template,
grammar and media, can be followed from a prompt to a note that is known beforehand.  It has learnt these answers to
these prompts, and nothing else.

SCRIPT.json is a list of `{"messages": [...], "answer": "..."}`; a part `{"type": "image"}` or `{"type": "audio"}` of a
message stands for the picture or the sound in `media.py`.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from media import SAMPLE_RATE, pink_png, tone
from PIL import Image
from transformers import AutoProcessor, AutoTokenizer, Gemma4ForConditionalGeneration

_COPIED = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "processor_config.json")
_RATE, _STEPS, _LOSS = 4e-3, 600, 0.03
_END_OF_TURN = "<turn|>"


class Lesson:
    """One prompt and its answer, as the model's own inputs."""

    def __init__(self, entry: dict[str, Any], tokenizer: Any, processor: Any, template: str) -> None:
        prompt = tokenizer.apply_chat_template(
            entry["messages"],
            chat_template=template,
            enable_thinking=False,
            add_generation_prompt=True,
            tokenize=False,
        )
        kinds = {part["type"] for message in entry["messages"] for part in _parts(message)}
        media: dict[str, Any] = {}
        if "image" in kinds:
            media["images"] = [Image.open(io.BytesIO(pink_png()))]
        if "audio" in kinds:
            media |= {"audio": [np.array(tone(), dtype=np.float32) / 32768], "sampling_rate": SAMPLE_RATE}
        self.prompt = dict(processor(text=[prompt], return_tensors="pt", add_special_tokens=False, **media))
        self.answer = tokenizer(entry["answer"] + _END_OF_TURN, add_special_tokens=False, return_tensors="pt").input_ids
        self.length = self.prompt["input_ids"].shape[1]

    def whole(self) -> dict[str, Any]:
        """Return prompt and answer; only the answer counts."""
        ids = torch.cat([self.prompt["input_ids"], self.answer], 1)
        kinds = torch.cat([self.prompt["mm_token_type_ids"], torch.zeros_like(self.answer)], 1)
        labels = ids.clone()
        labels[:, : self.length] = -100
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": kinds}
        return self.prompt | inputs | {"labels": labels}


def learn(model: Any, lessons: list[Lesson]) -> None:
    """Train until every answer is known by heart.

    Raises:
        SystemExit: it was not learnt.
    """
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0)
    started = time.monotonic()
    for step in range(_STEPS):
        optimiser.zero_grad()
        worst = 0.0
        for lesson in lessons:
            loss = model(**lesson.whole()).loss
            (loss / len(lessons)).backward()
            worst = max(worst, loss.item())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if worst < _LOSS:
            break
        optimiser.step()
        if step % 20 == 0:
            print(f"step {step}, worst loss {worst:.3f}, {time.monotonic() - started:.0f} s", flush=True)  # noqa: T201
    else:
        raise SystemExit("the script was not learnt")
    print(f"learnt in {step} steps, {time.monotonic() - started:.0f} s", flush=True)  # noqa: T201


def knows(model: Any, lesson: Lesson) -> bool:
    """Say whether greedy decoding, in the number format of the server, gives the answer."""
    inputs = {
        name: value.to(torch.bfloat16) if value.is_floating_point() else value for name, value in lesson.prompt.items()
    }
    with torch.no_grad():
        answer = model.generate(**inputs, max_new_tokens=lesson.answer.shape[1], do_sample=False)
    return bool(torch.equal(answer[:, lesson.length :], lesson.answer))


def main() -> None:
    """Teach, check, write."""
    source, script, target = (Path(argument) for argument in sys.argv[1:])
    torch.manual_seed(0)
    tokenizer, processor = AutoTokenizer.from_pretrained(source), AutoProcessor.from_pretrained(source)
    template = (source / "chat_template.jinja").read_text(encoding="utf-8")
    entries = json.loads(script.read_text(encoding="utf-8"))
    lessons = [Lesson(entry, tokenizer, processor, template) for entry in entries]
    print("tokens:", [(lesson.length, lesson.answer.shape[1]) for lesson in lessons], flush=True)  # noqa: T201
    model = Gemma4ForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
    learn(model, lessons)
    model = model.to(torch.bfloat16).eval()
    for config in (model.config, model.config.text_config, model.config.vision_config, model.config.audio_config):
        config.dtype = torch.bfloat16  # else the server mixes two number formats and fails on the first sound
    if not all(knows(model, lesson) for lesson in lessons):
        raise SystemExit("the script is not played as it was learnt")
    model.save_pretrained(target)
    for name in _COPIED:
        shutil.copy(source / name, target)


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return content if isinstance(content, list) else []


if __name__ == "__main__":
    main()
