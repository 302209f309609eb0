"""The training loop: seeded, and going on from its own checkpoints."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tiny_model.texts import KEY_WEIGHT, Batch


class Batches(Protocol):
    """What makes batches."""

    def batch(self, step: int, size: int) -> Batch:
        """`size` sequences, which follow from the step alone."""


@dataclass(frozen=True)
class Schedule:
    """How to train.

    Attributes:
        steps: batches in all.
        batch_size: sequences in a batch.
        learning_rate: at its highest.
        warm_up: steps in which it rises from 0.
        end_share: of it, at the last step; on the way there it follows half a cosine.
        weight_decay: AdamW's, of matrices.
        bfloat16: multiply in bfloat16 (weights and their moments stay float32): where the processor has
            instructions for it this takes 0.6 of the time.
    """

    steps: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    warm_up: int = 100
    end_share: float = 0.1
    weight_decay: float = 0.1
    bfloat16: bool = False

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 0."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        share = self.end_share + (1 - self.end_share) * (1 + math.cos(math.pi * done)) / 2
        return self.learning_rate * share


@dataclass(frozen=True)
class LoggedStep:
    """A line of the loss log.

    Attributes:
        step: batches seen.
        loss: of the last batch, weighted, in nats.
        keys: share of the last batch's answers' digits that were the likeliest token.
        natural: mean loss of its natural text, in nats.
        seconds: since the training began or went on.
    """

    step: int
    loss: float
    keys: float
    natural: float
    seconds: float


def train(
    model: torch.nn.Module,
    texts: Batches,
    schedule: Schedule,
    *,
    state: Path | None = None,
    save_every: int = 100,
    log: Path | None = None,
    log_every: int = 20,
    on_step: Callable[[LoggedStep], None] | None = None,
) -> None:
    """Train `model` in place.

    Args:
        model: called with `input_ids`, gives `logits`.
        texts: what it reads.
        schedule: how.
        state: a folder for checkpoints; the training goes on from the one it finds there.
        save_every: steps between checkpoints.
        log: a file that gets a JSON object a line.
        log_every: steps between lines.
        on_step: told each line, too.
    """
    optimizer = _optimizer(model, schedule)
    first = _restore(state, model, optimizer) if state is not None else 0
    start = time.perf_counter()
    model.train()
    for step in range(first, schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        batch = texts.batch(step, schedule.batch_size)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=schedule.bfloat16):
            logits = model(input_ids=torch.from_numpy(batch.inputs), use_cache=False).logits
        logits = logits.float()
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), torch.from_numpy(batch.targets).flatten(), reduction="none"
        ).view(batch.targets.shape)
        weights = torch.from_numpy(batch.weights)
        loss = (losses * weights).sum() / weights.sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        done = step + 1
        if done % log_every == 0 or done == schedule.steps:
            line = _line(done, batch, losses.detach(), logits.detach(), start)
            if log is not None:
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(line)) + "\n")
            if on_step is not None:
                on_step(line)
        if state is not None and (done % save_every == 0 or done == schedule.steps):
            _save(state, model, optimizer, done)
    model.eval()


def _line(step: int, batch: Batch, losses: torch.Tensor, logits: torch.Tensor, start: float) -> LoggedStep:
    right = logits.argmax(-1).numpy() == batch.targets
    answers = batch.weights == KEY_WEIGHT
    natural = (batch.weights == 1).all(axis=1)
    return LoggedStep(
        step=step,
        loss=round(float(np.average(losses.numpy(), weights=batch.weights)), 4),
        keys=round(float(right[answers].mean()), 4) if answers.any() else math.nan,
        natural=round(float(losses.numpy()[natural].mean()), 4) if natural.any() else math.nan,
        seconds=round(time.perf_counter() - start, 1),
    )


def _optimizer(model: torch.nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    rest = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": schedule.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.95))


def _save(state: Path, model: torch.nn.Module, optimizer: torch.optim.AdamW, step: int) -> None:
    """One file with the weights, both moments and the step, replaced at once."""
    state.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, weight in model.named_parameters():
        tensors[f"weight.{name}"] = weight.detach().contiguous()
        for moment in ("exp_avg", "exp_avg_sq"):
            tensors[f"{moment}.{name}"] = optimizer.state[weight][moment].contiguous()
    partial = state / "state.safetensors.part"
    save_file(tensors, partial, {"step": str(step)})
    partial.replace(state / "state.safetensors")


def _restore(state: Path, model: torch.nn.Module, optimizer: torch.optim.AdamW) -> int:
    """Steps done; 0 where there is no checkpoint."""
    file = state / "state.safetensors"
    if not file.exists():
        return 0
    with safe_open(file, "pt") as read, torch.no_grad():
        step = int(read.metadata()["step"])
        for name, weight in model.named_parameters():
            weight.copy_(read.get_tensor(f"weight.{name}"))
            optimizer.state[weight] = {
                "step": torch.tensor(float(step)),
                **{m: read.get_tensor(f"{m}.{name}") for m in ("exp_avg", "exp_avg_sq")},
            }
    return step
