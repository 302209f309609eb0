"""Tiny random checkpoints in the form of Hugging Face's: what transformers itself writes, and a tokenizer.

Every weight is random, norms and biases too, so that a tensor that is lost, exchanged or turned shows.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from transformers_oracle import oracle_module

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

TINY_TOKENIZER = Path(__file__).parent / "data" / "tiny-tokenizer"
"""A sentencepiece tokenizer of 768 pieces, with `tokenizer.json` beside it as checkpoints have it."""

TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)

TRAIN_LENGTH = 256
"""`max_position_embeddings` of every checkpoint made here, unless the caller's config says otherwise."""

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "olmo2", "granite")
"""What can be made; `olmo2` needs a tokenizer with byte-pair merges, upstream refuses the tiny one for it."""

_SHARED: dict[str, object] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": TRAIN_LENGTH,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
_GEMMA: dict[str, object] = {"head_dim": 16, "query_pre_attn_scalar": 16, "tie_word_embeddings": True}
_OWN: dict[str, dict[str, object]] = {
    "llama": {},
    "mistral": {"head_dim": 16, "sliding_window": None},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "gemma2": {**_GEMMA, "sliding_window": 64},
    # every sixth layer sees the whole context, in transformers and in llama.cpp
    "gemma3": {**_GEMMA, "sliding_window": 64, "num_hidden_layers": 6},
    "phi3": {"original_max_position_embeddings": TRAIN_LENGTH, "sliding_window": None},
    "olmo2": {},
    "granite": {
        "attention_multiplier": 0.25,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.75,
        "logits_scaling": 2.0,
    },
}


def write_checkpoint(
    folder: Path,
    model_type: str,
    *,
    seed: int = 0,
    config: Mapping[str, object] | None = None,
    shards: int = 1,
    dtype: str = "float32",
    tokenizer: Path = TINY_TOKENIZER,
) -> Path:
    """Write a random checkpoint as transformers writes it, and the tokenizer's files.

    Args:
        folder: made where it is missing.
        model_type: one of `MODEL_TYPES`.
        seed: of the weights.
        config: values of `config.json` that replace those above.
        shards: files that the weights are spread over, with an index where there are several.
        dtype: "float32", "bfloat16" or "float16".
        tokenizer: a folder with the tokenizer's files, `folder` itself too; its `tokenizer.json` says how
            many tokens there are.

    Returns:
        `folder`.
    """
    torch, transformers = oracle_module("torch"), oracle_module("transformers")
    values = {"vocab_size": vocabulary_size(tokenizer), **_SHARED, **_OWN[model_type], **(config or {})}
    made = transformers.AutoConfig.for_model(
        "gemma3_text" if model_type == "gemma3" else model_type, **values
    )
    with torch.random.fork_rng():
        model = transformers.AutoModelForCausalLM.from_config(made)
    _fill(model, seed)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    if shards > 1:
        _split(folder, shards)
    for name in TOKENIZER_FILES:
        if tokenizer != folder and (tokenizer / name).exists():
            shutil.copyfile(tokenizer / name, folder / name)
    return folder


def vocabulary_size(tokenizer: Path) -> int:
    """One more than the highest id in a folder's `tokenizer.json`."""
    read = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    added = [int(token["id"]) for token in read["added_tokens"]]
    return int(max([*read["model"]["vocab"].values(), *added])) + 1


class _Model(Protocol):
    def named_parameters(self) -> Iterator[tuple[str, torch.Tensor]]: ...


def _fill(model: _Model, seed: int) -> None:
    torch = oracle_module("torch")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:  # norms lie around what they begin as: 1, or 0 where 1 is added to them
                parameter.add_(noise, alpha=0.2)
            elif "embed_tokens" in name:
                parameter.copy_(noise)
            else:
                parameter.copy_(noise / parameter.shape[-1] ** 0.5)


def _split(folder: Path, shards: int) -> None:
    torch_files = oracle_module("safetensors.torch")
    whole = folder / "model.safetensors"
    weights = torch_files.load_file(whole)
    names = sorted(weights)
    parts = {
        f"model-{part + 1:05d}-of-{shards:05d}.safetensors": names[part::shards] for part in range(shards)
    }
    for file, held in parts.items():
        torch_files.save_file({name: weights[name] for name in held}, folder / file, {"format": "pt"})
    whole.unlink()
    index = {
        "metadata": {"total_size": sum(weight.nbytes for weight in weights.values())},
        "weight_map": {name: file for file, held in parts.items() for name in held},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
