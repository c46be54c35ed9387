"""Train the note-writing LoRA for Gemma 3 270M, on a CPU or on a GPU.

`train.py EXAMPLES BASE TARGET [--start ADAPTER]`: `EXAMPLES` is the folder that `prepare.py` wrote, `BASE` what
`checkpoint.py` wrote, `TARGET` gets a PEFT adapter.  For an environment of its own, `requirements.txt` here.

Rules kept here:

* All questions about one consultation go through the model at once: the consultation is computed once, each question
  with its answer is a branch that sees the consultation and itself and no other question, at the position where it
  would stand alone.  The numbers are those of one question at a time (`--check` shows it), for a fifth of the work.
* Only answers are learnt.
* Everything is drawn from the seed; on one machine the same command gives the same adapter.
"""

from __future__ import annotations

import argparse
import json
import math
import random  # noqa: TID251 - an order that is to be repeated, no secret
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer
from transformers import Gemma3ForCausalLM

EOS = 1
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_COMMON_PIECES = 32_768
_LONGEST = 4_096
_PACK_TOKENS = 1_024
_PREFIX = -1
_STATE = "unfinished.pt"
_SAVED_EVERY = 10


@dataclass(frozen=True)
class Settings:
    """What a training is made of; written beside the adapter."""

    epochs: int = 2
    rank: int = 32
    learning_rate: float = 3e-4
    packs_a_step: int = 3
    warm_up_steps: int = 15
    seed: int = 11


@dataclass(frozen=True)
class Tree:
    """One consultation with its questions, as tokens.

    `branch` is -1 for the consultation and counts the questions from 0; `position` is where a token would stand if its
    question were asked alone; `learnt` says which tokens are answers.
    """

    tokens: list[int]
    branch: list[int]
    position: list[int]
    learnt: list[bool]


# --- examples


def tree(tokenizer: Tokenizer, shown: str, asks: Sequence[tuple[str, str]]) -> Tree:
    """Return the tokens of `shown` and every (question, answer)."""
    prompts = [tokenizer.encode(shown + question).ids for question, _ in asks]
    answers = [[i for i in tokenizer.encode(text).ids if i != _bos(tokenizer)] + [EOS] for _, text in asks]
    shared = min(len(p) for p in prompts) - 1
    while any(p[:shared] != prompts[0][:shared] for p in prompts):
        shared -= 1
    made = Tree(prompts[0][:shared], [_PREFIX] * shared, list(range(shared)), [False] * shared)
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        rest = prompt[shared:] + answer
        made.tokens.extend(rest)
        made.branch.extend([number] * len(rest))
        made.position.extend(range(shared, shared + len(rest)))
        made.learnt.extend([False] * (len(rest) - len(answer)) + [True] * len(answer))
    return made


def _bos(tokenizer: Tokenizer) -> int:
    return int(tokenizer.token_to_id("<bos>"))


def epoch_trees(tokenizer: Tokenizer, rows: list[dict[str, Any]], epoch: int, choose: random.Random) -> list[Tree]:
    """Return every consultation once, in one of its ways: another one in every epoch."""
    trees = []
    for number, row in enumerate(rows):
        if row["asks"]:
            way = row["ways"][(number + epoch) % len(row["ways"])]
            made = tree(tokenizer, way, row["asks"])
            if len(made.tokens) <= _LONGEST:
                trees.append(made)
    choose.shuffle(trees)
    return trees


def packs(trees: list[Tree]) -> Iterator[list[Tree]]:
    """Yield groups of about `_PACK_TOKENS` tokens; a longer consultation is a group of its own."""
    group: list[Tree] = []
    for one in trees:
        if group and sum(len(t.tokens) for t in group) + len(one.tokens) > _PACK_TOKENS:
            yield group
            group = []
        group.append(one)
    if group:
        yield group


# --- the model


def masks(group: list[Tree], window: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Return what each token sees, as (1, 1, T, T) booleans, for layers that see all and for those with a window."""
    number = torch.tensor([n for n, t in enumerate(group) for _ in t.tokens], device=device)
    branch = torch.tensor([b for t in group for b in t.branch], device=device)
    position = torch.tensor([p for t in group for p in t.position], device=device)
    order = torch.arange(len(number), device=device)
    sees = (number[:, None] == number) & (order[:, None] >= order)
    sees &= (branch == _PREFIX) | (branch[:, None] == branch)
    near = position[:, None] - position < window
    return {"full_attention": sees[None, None], "sliding_attention": (sees & near)[None, None]}


class Scorer:
    """Answers' loss under a model whose output is computed for the pieces that can occur only."""

    def __init__(self, model: Any, pieces: torch.Tensor) -> None:
        """Keep `pieces`, the token ids that answers are made of, sorted."""
        self.model = model
        inner = model.base_model.model if isinstance(model, PeftModel) else model
        self.body = inner.model
        self.head = inner.lm_head.weight.detach()[pieces].float()
        self.place = torch.full((inner.config.vocab_size,), -1, device=pieces.device)
        self.place[pieces] = torch.arange(len(pieces), device=pieces.device)
        self.window = inner.config.sliding_window

    def __call__(self, group: list[Tree]) -> tuple[torch.Tensor, int]:
        """Return the summed loss in nats, and of how many tokens."""
        device = self.head.device
        tokens = torch.tensor([i for t in group for i in t.tokens], device=device)
        position = torch.tensor([p for t in group for p in t.position], device=device)
        learnt = torch.tensor([x for t in group for x in t.learnt], device=device).nonzero()[:, 0]
        with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
            hidden = self.body(
                input_ids=tokens[None], position_ids=position[None], attention_mask=masks(group, self.window, device)
            ).last_hidden_state[0, learnt - 1]
        scores = hidden.float() @ self.head.T
        loss = torch.nn.functional.cross_entropy(scores, self.place[tokens[learnt]], reduction="sum")
        return loss, len(learnt)


def with_adapter(base: Path, start: Path | None, rank: int, device: torch.device) -> Any:
    """Return the base model with a LoRA on every linear layer: a new one, or `start` to go on from."""
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)  # it has no plan for masks of this shape
    model = Gemma3ForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="sdpa").to(device)
    if start is not None:
        return PeftModel.from_pretrained(model, start, is_trainable=True).float()
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=LINEAR, task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def known_pieces(tokenizer: Tokenizer, rows: list[dict[str, Any]], device: torch.device) -> torch.Tensor:
    """Return the ids that answers are made of, and the commonest of the vocabulary to tell them from."""
    used = {i for row in rows for _, text in row["asks"] for i in tokenizer.encode(text).ids}
    return torch.tensor(sorted(used | set(range(_COMMON_PIECES)) | {EOS}), device=device)


# --- training


def train(examples: Path, base: Path, target: Path, settings: Settings, *, start: Path | None = None) -> None:
    """Train, saving on the way; what was interrupted goes on where it last saved, given the same command."""
    torch.manual_seed(settings.seed)
    choose = random.Random(settings.seed)  # noqa: S311
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    rows = read(examples / "train.jsonl")
    kept = torch.load(target / _STATE, map_location=device) if (target / _STATE).exists() else None
    if kept is not None and kept["settings"] != vars(settings):
        raise SystemExit(f"{target} holds an unfinished training with other settings: remove it, or give those")
    model = with_adapter(base, start if kept is None else target, settings.rank, device)
    score = Scorer(model, known_pieces(tokenizer, rows, device))
    plan = [list(packs(epoch_trees(tokenizer, rows, epoch, choose))) for epoch in range(settings.epochs)]
    steps = [
        epoch[i : i + settings.packs_a_step] for epoch in plan for i in range(0, len(epoch), settings.packs_a_step)
    ]
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.0)
    done = 0
    if kept is not None:
        done = kept["step"]
        optimizer.load_state_dict(kept["optimizer"])
    started, seen = time.monotonic(), 0
    for number, step in enumerate(steps[done:], start=done + 1):
        answers = sum(sum(t.learnt) for group in step for t in group)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate(number, len(steps), settings.warm_up_steps)
        total = 0.0
        for group in step:
            loss, _ = score(group)
            (loss / answers).backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen += sum(len(t.tokens) for group in step for t in group)
        speed = seen / (time.monotonic() - started)
        print(f"step {number} of {len(steps)}: loss {total / answers:.3f}, {speed:.0f} tokens/s", flush=True)
        if number == len(steps):
            save(model, target, settings)
            (target / _STATE).unlink(missing_ok=True)
        elif number % _SAVED_EVERY == 0:
            save(model, target, settings)
            state = {"step": number, "optimizer": optimizer.state_dict(), "settings": vars(settings)}
            torch.save(state, target / _STATE)


def rate(step: int, of: int, warm_up: int) -> float:
    """Return the share of the learning rate at a step: up over `warm_up` steps, then half a cosine down to 5 %."""
    return min(1.0, step / warm_up) * max(0.05, 0.5 * (1 + math.cos(math.pi * step / of)))


def save(model: Any, target: Path, settings: Settings) -> None:
    """Write the adapter in bfloat16 (half the size) and what it was made with."""
    state = {n: p.detach().to(torch.bfloat16).cpu() for n, p in model.named_parameters() if p.requires_grad}
    model.save_pretrained(target, state_dict=state)
    (target / "settings.json").write_text(json.dumps(vars(settings), indent=1), encoding="utf-8")


def check(examples: Path, base: Path, start: Path | None) -> None:
    """Compare a tree's loss with that of its questions asked one at a time."""
    device = torch.device("cpu")
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    rows = [r for r in read(examples / "train.jsonl") if len(r["asks"]) > 2][:2]  # noqa: PLR2004
    score = Scorer(with_adapter(base, start, 32, device), known_pieces(tokenizer, rows, device))
    together = [tree(tokenizer, r["ways"][0], r["asks"]) for r in rows]
    alone = [tree(tokenizer, r["ways"][0], [ask]) for r in rows for ask in r["asks"]]
    with torch.no_grad():
        one, count = score(together)
        many = sum(float(score([t])[0]) for t in alone)
    print(f"{count} tokens of answers: {float(one):.3f} together, {many:.3f} one at a time")
    if abs(float(one) - many) > 1e-3 * many:
        raise SystemExit("the two differ")


def read(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def main() -> None:
    """Train, or compare."""
    parser = argparse.ArgumentParser(description="LoRA for Gemma 3 270M, one section of a note at a time")
    parser.add_argument("examples", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--start", type=Path, help="an adapter to go on from")
    parser.add_argument("--epochs", type=int, default=Settings.epochs)
    parser.add_argument("--learning-rate", type=float, default=Settings.learning_rate)
    parser.add_argument("--check", action="store_true", help="compare with one question at a time, train nothing")
    args = parser.parse_args()
    if args.check:
        check(args.examples, args.base, args.start)
        return
    settings = Settings(epochs=args.epochs, learning_rate=args.learning_rate)
    train(args.examples, args.base, args.target, settings, start=args.start)


if __name__ == "__main__":
    main()
