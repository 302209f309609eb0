"""Which files of a repository make a checkpoint: by names, as published repositories have them."""

from __future__ import annotations

import json

import pytest

from ropewalk_convert.errors import SourceError
from ropewalk_convert.hub_checkpoint import check_has_checkpoint, choose_weights, describing_files
from ropewalk_convert.hub_errors import HubError

SHARDS = [f"model-{i:05d}-of-00003.safetensors" for i in (1, 2, 3)]
INDEX = "model.safetensors.index.json"


def index_of(*files: str) -> bytes:
    return json.dumps({"weight_map": {f"layer.{i}": file for i, file in enumerate(files)}}).encode()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ["config.json", "pytorch_model.bin"],
            r"pickle form \(pytorch_model\.bin\).*run any code.*refs/pr/1",
        ),
        (["config.json", "model.pth", "modeling.py"], r"pickle form \(model\.pth\)"),
        (["model.Q4_K_M.gguf", "config.json"], r"ready GGUF files.*`ropewalk pull a/b`"),
        (["adapter_config.json", "adapter_model.safetensors"], r"only an adapter.*merge"),
        (["adapter_model.bin", "adapter_config.json", "training_args.bin"], "only an adapter"),
        (["params.json", "consolidated.safetensors", "tekken.json"], r"Mistral's own form"),
        (["config.json", "onnx/model.onnx", "unet/model.safetensors"], r"only unet/model\.safetensors"),
        (["config.json", "weights.safetensors"], r"no model\.safetensors .*only weights\.safetensors"),
        (["config.json", "optimizer.pt", "rng_state.pth", "README.md"], "no model weights"),
        ([], "no model weights"),
        (["model.safetensors", "tokenizer.json"], r"has no config\.json"),
    ],
)
def test_what_is_no_checkpoint_is_said_by_what_it_is_instead(names: list[str], words: str) -> None:
    with pytest.raises(HubError, match=words) as failure:
        check_has_checkpoint("a/b", names)
    assert isinstance(failure.value, SourceError)  # a bad input, by the command's exit codes


@pytest.mark.parametrize(
    ("names", "index", "weights"),
    [
        (["model.safetensors"], None, ["model.safetensors"]),
        (["model.safetensors", "model.fp16.safetensors"], None, ["model.safetensors"]),
        (["model.safetensors", "consolidated.safetensors"], None, ["model.safetensors"]),
        (["model.safetensors", *SHARDS], index_of(*SHARDS), SHARDS),
        ([*SHARDS, "consolidated.safetensors", "original/model.safetensors"], index_of(*SHARDS), SHARDS),
        (["part/a.safetensors", "b.safetensors"], index_of("part/a.safetensors"), ["part/a.safetensors"]),
        (SHARDS, None, SHARDS),
        ([*SHARDS, "adapter_model.safetensors", "model.fp16.safetensors"], None, SHARDS),
        (["model.bf16.safetensors", "flax_model.msgpack"], None, ["model.bf16.safetensors"]),
        (
            ["model.safetensors", "2_Dense/model.safetensors", "onnx/model.safetensors"],
            None,
            ["model.safetensors", "2_Dense/model.safetensors"],
        ),
    ],
)
def test_the_weights_are_what_the_index_names_else_the_standard_names(
    names: list[str], index: bytes | None, weights: list[str]
) -> None:
    names = ["config.json", *names, *([] if index is None else [INDEX])]
    check_has_checkpoint("a/b", names)
    assert list(choose_weights("a/b", names, index)) == weights


@pytest.mark.parametrize(
    ("names", "index", "words"),
    [
        (SHARDS[:2], index_of(*SHARDS), r"names model-00003-of-00003\.safetensors, which it has not"),
        (SHARDS, index_of(*SHARDS, "../../x.safetensors"), r"names \.\./\.\./x\.safetensors, which"),
        (SHARDS, index_of("pytorch_model.bin"), "no safetensors"),
        (SHARDS, index_of(), "no safetensors"),
        (SHARDS, b"<html>", "damaged"),
        (SHARDS, b"[]", "damaged"),
        (SHARDS, b'{"weight_map": {"a": 1}}', "damaged"),
        (SHARDS, b"\xff", "damaged"),
        (SHARDS[:2], None, "2 files such as"),
        ([*SHARDS, "model-00001-of-00002.safetensors"], None, "4 files such as"),
        (["model.fp16.safetensors", "model.int8.safetensors"], None, r"several forms .*model\.fp16"),
    ],
)
def test_weights_that_cannot_be_told_are_refused(names: list[str], index: bytes | None, words: str) -> None:
    with pytest.raises(HubError, match=words):
        choose_weights("a/b", ["config.json", *names], index)


READ = """
config.json generation_config.json model.safetensors.index.json hf_quant_config.json modules.json
tokenizer.json tokenizer.model tokenizer.jsonl tokenizer_config.json special_tokens_map.json added_tokens.json
vocab.json merges.txt vocab.txt qwen.tiktoken tiktoken.model tekken.json spiece.model sentencepiece.bpe.model
rwkv_vocab_v20230424.txt chat_template.jinja chat_template.json additional_chat_templates/tool_use.jinja
1_Pooling/config.json README.md LICENSE LICENSE.txt NOTICE
"""
NOT_READ = """
pytorch_model.bin model.pt modeling_x.py tokenization_x.py configuration_x.py LICENSE.py model.safetensors
consolidated.safetensors original/params.json original/tokenizer.model onnx/config.json training_args.bin
trainer_state.json .gitattributes images/a.png params.json mask_embedding.pt optimizer.pt
pytorch_model.bin.index.json tf_model.h5 flax_model.msgpack
"""


def test_only_what_conversion_reads_is_taken_besides_the_weights() -> None:
    assert describing_files([*READ.split(), *NOT_READ.split()]) == tuple(READ.split())
