"""Trains the tiny model of `tests/data/tiny-llama`, which finds passkeys within L = 256 tokens.

`python scripts/train_tiny_model.py OUT` writes a checkpoint as Hugging Face has them, with its tokenizer, the
loss log and an evaluation. Interrupted, it goes on from OUT/state when it is started again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch
import transformers

from tiny_model.evaluation import evaluate
from tiny_model.network import TRAIN_LENGTH, new_model
from tiny_model.novels import PACKAGE_FILE, NovelsError, read_novels
from tiny_model.texts import TrainingTexts
from tiny_model.training import LoggedStep, Schedule, train
from tiny_model.vocabulary import read_tokenizer, train_tokenizer, write_tokenizer

HELD_OUT = 3
"""Persuasion is not trained on."""


def _tell(line: LoggedStep) -> None:
    print(
        f"step {line.step:5d}  loss {line.loss:.3f}  keys {line.keys:.3f}  natural {line.natural:.3f}  "
        f"{line.seconds:.0f} s",
        flush=True,
    )


def main() -> int:
    """Train, from nothing or from where it stopped."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the checkpoint")
    parser.add_argument("--novels", type=Path, default=PACKAGE_FILE, help="Rdata.rdb of r-cran-janeaustenr")
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument(
        "--last-steps",
        type=int,
        default=300,
        help="more of them, slower, with many keys at the prompts' ends",
    )
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true", help="multiply in bfloat16, in 0.6 of the time")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        novels = read_novels(arguments.novels)
    except NovelsError as error:
        print(f"train_tiny_model: {error}", file=sys.stderr)
        return 3
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    learned = [novel for number, novel in enumerate(novels) if number != HELD_OUT]
    if not (out / "tokenizer.model").exists():
        write_tokenizer(
            out, train_tokenizer([line for novel in learned for line in novel.splitlines()]), TRAIN_LENGTH
        )
    tokenizer = read_tokenizer(out)
    texts = TrainingTexts(tokenizer, learned, TRAIN_LENGTH, arguments.seed)
    model = new_model(arguments.seed)
    schedule = Schedule(
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        bfloat16=arguments.bfloat16,
    )
    state = out / "state"
    first, second = state / "first", state / "second"
    if not second.exists():
        train(model, texts, schedule, state=first, log=out / "loss.jsonl", on_step=_tell)
        model.to(torch.float16).to(
            torch.float32
        )  # rounded as it would be stored, from which the rest goes on
    edges = TrainingTexts(tokenizer, learned, TRAIN_LENGTH, arguments.seed + 1, edges=0.4)
    last = replace(schedule, steps=arguments.last_steps, learning_rate=5e-4, warm_up=20, end_share=0.02)
    train(model, edges, last, state=second, log=out / "loss-last.jsonl", on_step=_tell)
    model.to(torch.float16).save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    # the same tokenizer in the form that transformers reads without sentencepiece
    fast = transformers.LlamaTokenizer.from_pretrained(out, local_files_only=True)
    fast.backend_tokenizer.save(str(out / "tokenizer.json"))
    found = json.dumps(evaluate(out), indent=1)
    (out / "evaluation.json").write_text(found + "\n", encoding="utf-8")
    shutil.rmtree(state)
    return 0


if __name__ == "__main__":
    sys.exit(main())
