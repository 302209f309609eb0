"""What the stored tiny model can do: passkey by length, and perplexity of a novel that it never read."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import torch
import transformers

from ropewalk.evaluation.shipped_text import shipped_text
from ropewalk.evaluation.statistics import Accuracy
from tiny_model.network import TRAIN_LENGTH
from torch_evaluation.passkey import ask, begins_with_digit, questions
from torch_evaluation.perplexity import perplexities

LENGTHS = (TRAIN_LENGTH // 2, 3 * TRAIN_LENGTH // 4, TRAIN_LENGTH, 2 * TRAIN_LENGTH, 4 * TRAIN_LENGTH)
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
TRIALS = 20
WINDOWS = 16


def evaluate(folder: Path) -> dict[str, object]:
    """Hits and perplexities of a checkpoint as it is stored, with the hash of its weights.

    Args:
        folder: with the weights and the tokenizer.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
    ).eval()
    outcomes = ask(
        model,
        questions(tokenizer, LENGTHS, DEPTHS, TRIALS),
        begins_with_digit(tokenizer, model.config.vocab_size),
    )
    hits = Counter((outcome.length, outcome.depth) for outcome in outcomes if outcome.hit)
    text = tokenizer.encode(shipped_text(), add_special_tokens=False, verbose=False)
    found = perplexities(model, text, tokenizer.bos_token_id, LENGTHS, WINDOWS, static=True)
    return {
        "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "depths": DEPTHS,
        "passkey": [
            {
                "length": length,
                **Accuracy(sum(hits[length, depth] for depth in DEPTHS), len(DEPTHS) * TRIALS).as_json(),
                "by_depth": [hits[length, depth] for depth in DEPTHS],
            }
            for length in LENGTHS
        ],
        "perplexity": [asdict(one) for one in found],
    }
