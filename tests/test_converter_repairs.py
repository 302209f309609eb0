"""Configs that upstream's converter stumbles over, and converts once they are repaired."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rebuilt_tokenizers import write_tokenizer
from ropewalk_convert.converter import convert_checkpoint
from ropewalk_convert.converter_repairs import repaired
from ropewalk_plan import GgufHeader
from tiny_checkpoints import vocabulary_size, write_checkpoint
from transformers_oracle import oracle_module

LLAMA3: dict[str, Any] = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def config(folder: Path, **values: object) -> Path:
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def test_keys_that_transformers_drops_come_back(tmp_path: Path) -> None:
    config(tmp_path, rotary_pct=0.25, other=1)
    assert repaired({"hidden_size": 64}, tmp_path, lambda _: True) == {"hidden_size": 64, "rotary_pct": 0.25}
    assert repaired({"rotary_pct": 0.5}, tmp_path, lambda _: True) == {"rotary_pct": 0.5}


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_yarn_counts_from_the_length_that_transformers_takes(tmp_path: Path, key: str) -> None:
    config(tmp_path)
    yarn = {"type": "yarn", "factor": 4.0}
    made = repaired({key: yarn, "max_position_embeddings": 128}, tmp_path, lambda _: True)
    assert made[key] == {**yarn, "original_max_position_embeddings": 128}
    said = {**yarn, "original_max_position_embeddings": 64}
    assert repaired({key: said, "max_position_embeddings": 128}, tmp_path, lambda _: True)[key] == said


def test_llama_3s_scaling_is_left_out_only_where_no_tensor_takes_it(tmp_path: Path) -> None:
    config(tmp_path)
    names = ["WithFactors", "Without"]
    for name in names:
        hparams = {"architectures": [name], "text_config": {"rope_scaling": LLAMA3}}
        made = repaired(hparams, tmp_path, lambda name: name == "WithFactors")["text_config"]["rope_scaling"]
        assert ("rope_type" in made) == (name == "WithFactors")
        assert made["factor"] == 8.0


def test_a_granite_with_llama_3s_scaling_converts(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path / "tokenizer", "starcoder")
    folder = write_checkpoint(
        tmp_path / "granite", "granite", config={"rope_scaling": LLAMA3}, tokenizer=tokenizer
    )
    out = tmp_path / "granite.gguf"
    convert_checkpoint(folder, out, outtype="f32")
    header = GgufHeader.read(out)
    assert header.value("general.architecture") == "granite"
    assert not header.has_tensor("rope_freqs.weight")


def test_a_gpt_neox_converts_with_todays_transformers(tmp_path: Path) -> None:
    """Whose config no longer has the `rotary_pct` that upstream's converter asks for."""
    transformers = oracle_module("transformers")
    folder = write_tokenizer(tmp_path / "neox", "gpt-2")
    made = transformers.GPTNeoXConfig(
        vocab_size=vocabulary_size(folder),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=256,
    )
    transformers.GPTNeoXForCausalLM(made).save_pretrained(folder)
    values = json.loads((folder / "config.json").read_text())
    values.pop("rope_parameters")
    config(folder, **values, rotary_pct=0.25, rotary_emb_base=10000)
    out = tmp_path / "neox.gguf"
    convert_checkpoint(folder, out, outtype="f32")
    assert GgufHeader.read(out).value("gptneox.rope.dimension_count") == 4
