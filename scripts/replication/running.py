"""One experiment: a fine-tuning where it asks for one, then passkey and perplexity, all in torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import finetune
from finetuning.long_texts import LongTexts
from finetuning.planned_model import apply_plan
from replication.experiments import Contender, Experiment
from replication.findings import Findings
from ropewalk_plan import ContextPlan, RopeSpec, make_plan
from ropewalk_plan.disturbance import table_figure
from ropewalk_plan.plan_disturbance import plan_disturbances
from tiny_model.training import Schedule, train
from torch_evaluation.passkey import ask, begins_with_digit, questions
from torch_evaluation.perplexity import perplexities

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
WINDOWS = 12
BATCH_TOKENS = 4096
LEARNING_RATE = 5e-4


@dataclass(frozen=True)
class Bench:
    """What all experiments share.

    Attributes:
        checkpoint: the tiny model's folder.
        spec: its rotation.
        tokenizer: its tokenizer.
        learned: natural text to learn from.
        held_out: tokens of a text that it never learned from.
        work: a folder for the fine-tuned weights.
        seed: of everything drawn.
        bfloat16: whether fine-tuning multiplies in bfloat16.
    """

    checkpoint: Path
    spec: RopeSpec
    tokenizer: PreTrainedTokenizerBase
    learned: str
    held_out: Sequence[int]
    work: Path
    seed: int
    bfloat16: bool

    def plan(self, contender: Contender, target: int) -> ContextPlan:
        """A contender's plan for a length."""
        return make_plan(self.spec, contender.method, target, options=contender.options)

    def disturbance(self, plan: ContextPlan) -> float:
        """DPRoPE's, in the unit of its Table 3."""
        return round(table_figure(plan_disturbances(plan, self.spec)), 4)


def run(bench: Bench, experiment: Experiment, on_line: Callable[[str], None]) -> Findings:
    """Carry one experiment out."""
    plan = bench.plan(experiment.contender, experiment.target)
    model = finetune.load_model(bench.checkpoint)
    apply_plan(model, plan, bench.spec)
    if experiment.steps:
        _finetune(bench, experiment, model, on_line)
    model.eval()
    perplexity = perplexities(
        model,
        bench.held_out,
        bench.tokenizer.bos_token_id,
        experiment.perplexity_lengths,
        WINDOWS,
        static=len(plan.schedule) < 2,
    )
    return {
        "label": experiment.contender.label,
        "method": plan.method,
        "options": dict(experiment.contender.options),
        "target_length": experiment.target,
        "steps": experiment.steps,
        "disturbance": bench.disturbance(plan),
        "passkey": passkey(bench, model, experiment.passkey_lengths, experiment.trials),
        "perplexity": [asdict(found) for found in perplexity],
    }


def passkey(
    bench: Bench, model: PreTrainedModel, lengths: Sequence[int], trials: int
) -> list[dict[str, int | float | list[int]]]:
    """Hits at each length: all, and by depth."""
    asked = questions(bench.tokenizer, lengths, DEPTHS, trials, bench.seed)
    digits = begins_with_digit(bench.tokenizer, model.config.vocab_size)
    outcomes = ask(model, asked, digits)
    hits = Counter((outcome.length, outcome.depth) for outcome in outcomes if outcome.hit)
    longest = {outcome.length: outcome.prompt_tokens for outcome in outcomes}
    return [
        {
            "length": length,
            "prompt_tokens": longest[length],
            "hits": sum(hits[length, depth] for depth in DEPTHS),
            "trials": len(DEPTHS) * trials,
            "by_depth": [hits[length, depth] for depth in DEPTHS],
        }
        for length in lengths
    ]


def _finetune(
    bench: Bench, experiment: Experiment, model: PreTrainedModel, on_line: Callable[[str], None]
) -> None:
    """Train, going on from fewer steps of the same where there are any."""
    texts = LongTexts(bench.tokenizer, bench.learned, experiment.target, bench.seed)
    folder = bench.work / f"{experiment.contender.label.replace(' ', '-')}-{experiment.target}"
    folder.mkdir(parents=True, exist_ok=True)
    schedule = Schedule(
        steps=experiment.steps,
        batch_size=max(1, BATCH_TOKENS // experiment.target),
        learning_rate=LEARNING_RATE,
        warm_up=20,
        end_share=1.0,
        bfloat16=bench.bfloat16,
    )
    train(
        model,
        texts,
        schedule,
        state=folder / "state",
        save_every=50,
        log=folder / "loss.jsonl",
        on_step=lambda line: on_line(f"  step {line.step}, loss {line.loss}, keys {line.keys}"),
    )


def within_train_length(bench: Bench, contenders: Sequence[Contender], target: int) -> dict[str, float]:
    """The largest difference to the plain model's logits on L tokens of natural text, by label."""
    length = bench.spec.train_length
    tokens = torch.tensor([[bench.tokenizer.bos_token_id, *bench.held_out[: length - 1]]])
    model = finetune.load_model(bench.checkpoint).eval()
    found = {}
    with torch.no_grad():
        plain = model(tokens, use_cache=False).logits
        for contender in contenders:
            apply_plan(model, bench.plan(contender, target), bench.spec)
            found[contender.label] = float((model(tokens, use_cache=False).logits - plain).abs().max())
    return found
