"""The checkpoints that whole conversions are tried with: each architecture, and real tokenizers, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rebuilt_tokenizers import real_tokens, write_tokenizer
from tiny_checkpoints import TINY_TOKENIZER, write_checkpoint

_NARROW: Mapping[str, object] = {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
"""For real tokenizers, whose tens of thousands of rows are most of such a checkpoint."""


@dataclass(frozen=True)
class CheckpointCase:
    """A checkpoint, and what to convert it to.

    Attributes:
        model_type: transformers' name of the architecture.
        tokenizer: a name of `rebuilt_tokenizers.NAMES`; "" is the tiny sentencepiece one.
        dtype: of its weights.
        outtype: of the converted file, as upstream's converter names it.
        shards: files that its weights are spread over.
    """

    model_type: str
    tokenizer: str = ""
    dtype: str = "bfloat16"
    outtype: str = "auto"
    shards: int = 1

    def write(self, folder: Path, seed: int) -> Path:
        """Write the checkpoint into a folder, and give that back."""
        config: dict[str, object] = {}
        tokenizer = TINY_TOKENIZER
        if self.tokenizer:
            tokenizer = write_tokenizer(folder, self.tokenizer)
            config = {**_NARROW, "vocab_size": len(real_tokens(self.tokenizer))}
        return write_checkpoint(
            folder,
            self.model_type,
            seed=seed,
            config=config,
            shards=self.shards,
            dtype=self.dtype,
            tokenizer=tokenizer,
        )


CASES: Mapping[str, CheckpointCase] = {
    "llama": CheckpointCase("llama", dtype="float32", outtype="f32"),
    "mistral": CheckpointCase("mistral", shards=3),
    "qwen2": CheckpointCase("qwen2", "qwen2"),
    "qwen3": CheckpointCase("qwen3", "qwen2"),
    "gemma2": CheckpointCase("gemma2", dtype="float32", outtype="f16"),
    "gemma3": CheckpointCase("gemma3", dtype="float32", outtype="bf16"),
    "phi3": CheckpointCase("phi3", dtype="float16"),
    "olmo2": CheckpointCase("olmo2", "mpt", outtype="f16"),
    "granite": CheckpointCase("granite", "starcoder"),
    "with llama-bpe": CheckpointCase("llama", "llama-bpe"),
    "with gpt-2": CheckpointCase("olmo2", "gpt-2"),
    "with falcon": CheckpointCase("olmo2", "falcon"),
    "with deepseek-llm": CheckpointCase("olmo2", "deepseek-llm"),
    "with deepseek-coder": CheckpointCase("olmo2", "deepseek-coder"),
}
"""Each of `MODEL_TYPES` by its name, with a tokenizer that upstream takes for it; then other tokenizers."""
