"""Tiny checkpoints, converted by upstream's converter, given plans, and run by the library and transformers.

The weights of an architecture are the same under every config, so one conversion serves many scalings: what
upstream makes of a config without any is the file that has lost them all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from library_logits import Mode, loaded
from rebuilt_tokenizers import write_tokenizer
from ropewalk.backend import context_plan
from ropewalk_convert.gguf_copy import GgufCopy
from ropewalk_plan import (
    ContextPlan,
    GgufHeader,
    model_facts_from_gguf,
    plan_to_metadata,
    rope_spec_from_gguf,
)
from tiny_checkpoints import TINY_TOKENIZER, write_checkpoint
from transformers_oracle import oracle_module
from upstream_conversion import UpstreamRun, start_upstream

Config = Mapping[str, object]
Float32 = npt.NDArray[np.float32]

L = 64
TARGET = 192
SHORT = 50
TOKENS = [int(token) for token in np.random.default_rng(3).integers(3, 700, TARGET)]
"""Of ids that every tokenizer used here has."""

_OWN: Mapping[str, Config] = {
    "gemma2": {"sliding_window": 32},
    "gemma3": {"sliding_window": 32},
    "phi3": {"original_max_position_embeddings": L},
}


def write_checkpoints(folder: Path, model_types: Sequence[str]) -> None:
    """A checkpoint of each family, of L tokens and without a scaling, in a folder of its name."""
    byte_pairs = write_tokenizer(folder / "byte-pairs", "gpt-2")
    for name in model_types:
        tokenizer = byte_pairs if name == "olmo2" else TINY_TOKENIZER
        config = {"max_position_embeddings": L, **_OWN.get(name, {})}
        write_checkpoint(folder / name, name, config=config, tokenizer=tokenizer)
        if name.startswith("gemma"):
            _quiet_feed_forward(folder / name / "model.safetensors")


def _quiet_feed_forward(path: Path) -> None:
    """Let little of the feed-forward through: llama.cpp looks its GELU up in a table of F16 numbers.

    Without this that costs up to 5e-3 in the logits, with a plan and without. Gemma embeds by what it
    decodes with, so that an eighth of it makes logits of a few units, as the others have.
    """
    weights = {
        name: values * 0.05 - 0.95 if "post_feedforward_layernorm" in name else values
        for name, values in load_file(path).items()
    }
    weights["model.embed_tokens.weight"] /= 8
    save_file(weights, path, {"format": "pt"})


def start_converting(folders: Sequence[Path], log: Path) -> UpstreamRun:
    """Start upstream's converter on each, to a file beside it, under a name that says no family."""
    return start_upstream(
        [
            [str(folder), "--outfile", f"{folder}.gguf", "--outtype", "f32", "--model-name", "tiny"]
            for folder in folders
        ],
        log,
    )


def with_config(whole: Path, folder: Path, changes: Config) -> Path:
    """The same weights under a config in which `changes` are made.

    The rotary base is written as configs had it before transformers 5, so that a scaling may come under the
    old key or the new one.
    """
    folder.mkdir(parents=True)
    for path in whole.iterdir():
        if path.name != "config.json":
            (folder / path.name).symlink_to(path)
    config = json.loads((whole / "config.json").read_text(encoding="utf-8"))
    bases = _bases(config.pop("rope_parameters"))
    (folder / "config.json").write_text(json.dumps({**config, **bases, **changes}), encoding="utf-8")
    return folder


def _bases(parameters: Mapping[str, Any]) -> Config:
    if "full_attention" in parameters:
        return {
            "rope_theta": parameters["full_attention"]["rope_theta"],
            "rope_local_base_freq": parameters["sliding_attention"]["rope_theta"],
        }
    return {"rope_theta": parameters["rope_theta"]}


def transformers_logits(folder: Path, tokens: list[int] = TOKENS) -> Float32:
    """Logits of every token of one pass by transformers in float32 on the CPU, [tokens, vocabulary]."""
    torch, transformers = oracle_module("torch"), oracle_module("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, local_files_only=True
    )
    with torch.no_grad():
        logits = model.eval()(torch.tensor([tokens]), use_cache=False).logits[0]
    return np.asarray(logits.numpy(), dtype=np.float32)


def write_with_plan(source: Path, target: Path, plan: ContextPlan | None) -> bool:
    """Copy a file with a plan, or as it is; whether stock llama.cpp runs what is in it."""
    if plan is None:
        target.symlink_to(source)
        return True
    header = GgufHeader.read(source)
    changes = plan_to_metadata(plan, rope_spec_from_gguf(header), model_facts_from_gguf(header))
    with target.open("wb") as file:
        for _ in GgufCopy(header, changes).write(file.write):
            pass
    return changes.native


def patched_logits(file: Path, tokens: list[int] = TOKENS) -> Float32:
    """Logits of every token of one prefill by the patched library, whose length is reserved first."""
    with loaded(file, n_ctx=len(tokens), mode=Mode()) as context:
        context_plan.reserve(context.context, len(tokens))
        return context.decode(tokens)


def reported_length(file: Path) -> int:
    """The context length that the library reports of a file."""
    with loaded(file, n_ctx=8) as context:
        return int(llama_cpp.llama_model_n_ctx_train(context.model))


def difference(one: Float32, other: Float32) -> float:
    """The largest between two logits."""
    return float(np.abs(one - other).max())
