"""Fine-tunes a checkpoint under a context plan, on long natural text and passkey prompts.

`python scripts/finetune.py CHECKPOINT --method M --target-length N --text FILE --out DIR` writes a checkpoint
that `ropewalk convert DIR OUT.gguf --method M --train-length L --target-length N` takes: only weights have
changed, the config still says what the model was before. Interrupted, it goes on from DIR/state when it is
started again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from finetuning.long_texts import LongTexts, ShortTextError
from finetuning.planned_model import apply_plan
from ropewalk_plan import ContextPlan, PlanError, RopeSpec, make_plan, rope_spec_from_checkpoint
from tiny_model.training import LoggedStep, Schedule, train

NOTE = "finetuning.json"
"""What a fine-tuned checkpoint was made with, beside its weights."""


@dataclass(frozen=True)
class Wanted:
    """What to do.

    Attributes:
        checkpoint: a folder as Hugging Face has them.
        method: as `ropewalk bake` spells it.
        target_length: L', and the length of the sequences.
        train_length: L; the checkpoint's own where None.
        options: the method's.
        text: natural text.
        out: folder of the new checkpoint.
        steps: batches.
        batch_size: sequences in a batch.
        learning_rate: after a warm-up of 20 steps, unchanged to the end.
        seed: of the batches.
        bfloat16: whether to multiply in bfloat16.
    """

    checkpoint: Path
    method: str
    target_length: int
    train_length: int | None
    options: Mapping[str, str]
    text: Path
    out: Path
    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    bfloat16: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Fine-tune as the command line says; returns the exit code."""
    try:
        wanted, threads = _parse(arguments)
        torch.set_num_threads(threads)
        transformers.utils.logging.disable_progress_bar()
        finetune(wanted)
    except (PlanError, ShortTextError, OSError, ValueError) as error:
        print(f"finetune: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("finetune: interrupted; the same command goes on from its last checkpoint.", file=sys.stderr)
        return 130
    return 0


def finetune(wanted: Wanted) -> None:
    """Fine-tune and save.

    Raises:
        PlanError: a method that cannot be applied.
        ShortTextError: not enough text.
        OSError: a file that cannot be read.
    """
    spec = rope_spec_from_checkpoint(wanted.checkpoint)
    plan = make_plan(spec, wanted.method, wanted.target_length, wanted.train_length, wanted.options)
    tokenizer = transformers.AutoTokenizer.from_pretrained(wanted.checkpoint, local_files_only=True)
    texts = LongTexts(tokenizer, wanted.text.read_text(encoding="utf-8"), wanted.target_length, wanted.seed)
    model = load_model(wanted.checkpoint)
    apply_plan(model, plan, spec)
    wanted.out.mkdir(parents=True, exist_ok=True)
    schedule = Schedule(
        steps=wanted.steps,
        batch_size=wanted.batch_size,
        learning_rate=wanted.learning_rate,
        warm_up=20,
        end_share=1.0,
        bfloat16=wanted.bfloat16,
    )
    state = wanted.out / "state"
    train(model, texts, schedule, state=state, save_every=50, log=wanted.out / "loss.jsonl", on_step=_tell)
    apply_plan(model, None, spec)
    save_checkpoint(model, wanted.checkpoint, wanted.out, _note(wanted, plan, spec))
    shutil.rmtree(state)


def load_model(folder: Path) -> transformers.PreTrainedModel:
    """A checkpoint's model in float32, for training."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )


def save_checkpoint(
    model: transformers.PreTrainedModel, source: Path, out: Path, note: Mapping[str, object]
) -> None:
    """Weights in the source's type, everything else as the source has it, and a note of what was done."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    dtype = config.get("dtype") or config.get("torch_dtype") or "float32"
    model.to(getattr(torch, dtype)).save_pretrained(out)
    for file in source.iterdir():
        if file.name == "config.json" or (
            file.name.startswith(("tokenizer", "special_tokens")) and file.is_file()
        ):
            shutil.copyfile(file, out / file.name)
    (out / NOTE).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")


def _note(wanted: Wanted, plan: ContextPlan, spec: RopeSpec) -> dict[str, object]:
    return {
        "method": plan.method,
        "options": plan.options,
        "train_length": plan.train_length,
        "target_length": plan.target_length,
        "rotary_base": spec.base,
        "text": wanted.text.name,
        "steps": wanted.steps,
        "batch_size": wanted.batch_size,
        "learning_rate": wanted.learning_rate,
        "seed": wanted.seed,
    }


def _parse(arguments: Sequence[str] | None) -> tuple[Wanted, int]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--method", required=True, help="as `ropewalk bake` spells it")
    parser.add_argument("--target-length", type=int, required=True, metavar="TOKENS")
    parser.add_argument("--train-length", type=int, metavar="TOKENS", help="default: the checkpoint's")
    parser.add_argument("--method-option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--text", type=Path, required=True, metavar="FILE", help="natural text, UTF-8")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true", help="multiply in bfloat16, in 0.6 of the time")
    read = parser.parse_args(arguments)
    options: dict[str, str] = {}
    for assignment in read.method_option:
        name, equals, value = assignment.partition("=")
        if not equals or not name or name in options:
            parser.error(f"--method-option {assignment}: write NAME=VALUE, each name once")
        options[name] = value
    wanted = Wanted(
        checkpoint=read.checkpoint,
        method=read.method,
        target_length=read.target_length,
        train_length=read.train_length,
        options=options,
        text=read.text,
        out=read.out,
        steps=read.steps,
        batch_size=read.batch_size,
        learning_rate=read.learning_rate,
        seed=read.seed,
        bfloat16=read.bfloat16,
    )
    return wanted, read.threads


def _tell(line: LoggedStep) -> None:
    print(
        f"step {line.step:5d}  loss {line.loss:.3f}  keys {line.keys:.3f}  natural {line.natural:.3f}  "
        f"{line.seconds:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
